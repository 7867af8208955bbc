//! Learned profiles can be passed from one user to another.

use std::fs;

use crate::support::file_opens::{open_in_order, program_files, shuffled};
use crate::support::{Server, Tree, World};

/// A program that opens some of its files.
fn program() -> (Tree, Vec<String>) {
    let (tree, names) = program_files();
    let mut order = shuffled(names);
    order.truncate(20);
    (tree, order)
}

/// Mounts, runs the program, unmounts; returns the number of reads that waited.
fn session(world: &World, address: &str, order: &[String]) -> u64 {
    let dir = world.mount(address);
    open_in_order(&dir, order);
    let status = world.json(&["status"]);
    world.unmount(&dir);
    status["mounts"][0]["stats"]["waited"].as_u64().unwrap()
}

/// Ends the daemon, so that the cache is free.
fn stop(world: &World) {
    let pid = world.daemon().unwrap();
    crate::support::world::signal(pid, rustix::process::Signal::TERM);
    let gone = || !crate::support::world::alive(pid);
    crate::support::eventually("the daemon is gone", gone);
}

fn path(world: &World, name: &str) -> String {
    world.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn profile_can_be_exported_and_imported_with_and_without_a_daemon() {
    let server = Server::with(&["--latency-ms", "60"]);
    let (tree, order) = program();
    let ada = World::on(&server);
    let address = ada.publish(tree.path(), "it")["address"].clone();
    let address = address.as_str().unwrap();
    let file = path(&ada, "it.profile");
    let output = ada.fail(&["prefetch", "export", "it", "-o", &file]);
    assert!(
        output.contains("nothing has been learned about"),
        "{output}"
    );

    // From a mount, by its folder, and by name.
    let dir = ada.mount("it");
    open_in_order(&dir, &order);
    let live = ada.json(&["prefetch", "export", dir.to_str().unwrap(), "-o", &file]);
    assert!(live["transitions"].as_u64().unwrap() >= 100, "{live}");
    ada.unmount(&dir);
    let kept = ada.json(&["prefetch", "export", "it", "-o", &file]);
    assert_eq!(kept["transitions"], live["transitions"]);
    stop(&ada);
    let alone = path(&ada, "alone.profile");
    ada.run(&["prefetch", "export", "it", "-o", &alone]);
    assert_eq!(fs::read(&file).unwrap(), fs::read(&alone).unwrap());

    // To a user without a daemon, who then waits as little as Ada.
    let bob = World::on(&server);
    let imported = bob.json(&["prefetch", "import", &file, address]);
    assert_eq!(imported["transitions"], live["transitions"]);
    assert_eq!(imported["mounts"], 0);
    let waited = session(&bob, address, &order);
    assert!(waited <= 4, "{waited} of 20 reads waited");

    // To a user with an existing mount, where it applies immediately.
    let eve = World::on(&server);
    let dir = eve.mount(address);
    let imported = eve.json(&["prefetch", "import", &file, dir.to_str().unwrap()]);
    assert_eq!(imported["mounts"], 1);
    let known = eve.json(&["status"])["mounts"][0]["prefetch"]["transitions"].clone();
    assert_eq!(known, live["transitions"]);
    open_in_order(&dir, &order);
    let status = eve.json(&["status"]);
    let waited = status["mounts"][0]["stats"]["waited"].as_u64().unwrap();
    assert!(waited <= 5, "{waited} of 20 reads waited: {status}");
}

#[test]
fn import_merges_or_replaces_a_profile() {
    let server = Server::start();
    let (tree, order) = program();
    let world = World::on(&server);
    world.publish(tree.path(), "it");
    let transitions = |name: &str| {
        let file = path(&world, name);
        let exported = world.json(&["prefetch", "export", "it", "-o", &file]);
        (file, exported["transitions"].as_u64().unwrap())
    };
    session(&world, "it", &order[..10]);
    let (first, few) = transitions("first");
    session(&world, "it", &order[5..]);
    let (_, both) = transitions("both");
    assert!(both > few);
    let replaced = world.json(&["prefetch", "import", "--replace", &first, "it"]);
    assert_eq!(replaced["transitions"], few);
    assert_eq!(transitions("replaced").1, few);
    // Known opens gain weight and are not duplicated.
    let again = world.json(&["prefetch", "import", &first, "it"]);
    assert_eq!(again["transitions"], few);
}

#[test]
fn import_refuses_invalid_profiles_by_name() {
    let server = Server::start();
    let (tree, order) = program();
    let world = World::on(&server);
    world.publish(tree.path(), "it");
    session(&world, "it", &order[..5]);
    let good = path(&world, "good");
    let known = world.json(&["prefetch", "export", "it", "-o", &good]);
    let good = fs::read(&good).unwrap();
    let mut spoiled = good.clone();
    spoiled[good.len() / 2] ^= 1;
    let mut newer = good.clone();
    newer[7] = 9;
    let cases = [
        (b"#!/bin/sh\n".to_vec(), "not a prefetch profile"),
        (good[..good.len() / 2].to_vec(), "damaged"),
        (spoiled, "damaged"),
        (newer, "version 9"),
        (vec![0; 30 << 20], "at most 24 MiB"),
    ];
    let file = path(&world, "bad");
    for (bytes, why) in cases {
        fs::write(&file, bytes).unwrap();
        for args in [
            vec!["prefetch", "import", &*file, "it"],
            vec![
                "publish",
                tree.path().to_str().unwrap(),
                "--name",
                "it",
                "--profile",
                &file,
            ],
        ] {
            let output = world.fail(&args);
            assert!(output.contains(&file) && output.contains(why), "{output}");
        }
    }
    // Endless input is not read completely.
    let output = world.fail(&["prefetch", "import", "/dev/zero", "it"]);
    assert!(output.contains("at most 24 MiB"), "{output}");
    let file = path(&world, "still");
    let still = world.json(&["prefetch", "export", "it", "-o", &file]);
    assert_eq!(still["transitions"], known["transitions"]);
    let output = world.fail(&["prefetch", "export", "no such/thing", "-o", &file]);
    assert!(output.contains("no such/thing"), "{output}");
}

#[test]
fn new_user_starts_with_the_published_profile() {
    let server = Server::with(&["--latency-ms", "60"]);
    let (tree, order) = program();
    let ada = World::on(&server);
    let plain = ada.publish(tree.path(), "it")["address"].clone();
    for _ in 0..2 {
        session(&ada, "it", &order);
        ada.run(&["cache", "clear", "--keep-learned"]);
    }
    let source = tree.path().to_str().unwrap();
    let publish = |more: &[&str]| {
        let mut args = vec!["publish", source, "--name", "it"];
        args.extend(more);
        ada.json(&args)
    };
    let carried = publish(&["--with-learned"]);
    assert_eq!(carried["unchanged"], false);
    assert_eq!(carried["bytes_stored"], 65_536, "{carried}");
    let [plain, with] = [&plain, &carried["address"]].map(|it| it.as_str().unwrap());

    // A new user, with the profile of Ada and without.
    let waited = |address: &str| session(&World::on(&server), address, &order);
    let (first, second) = (waited(plain), waited(with));
    assert!(
        second * 2 <= first,
        "{second} reads waited, {first} without the profile"
    );

    // It is kept by later publishes, and removed on request.
    let again = publish(&[]);
    assert_eq!(again["unchanged"], true, "{again}");
    let gone = publish(&["--without-profile"]);
    assert_eq!(gone["unchanged"], false, "{gone}");
    assert_eq!(publish(&[])["unchanged"], true);
}

#[test]
fn status_reports_the_value_of_prefetching() {
    let server = Server::with(&["--latency-ms", "60"]);
    let (tree, order) = program();
    let world = World::on(&server);
    world.publish(tree.path(), "it");
    session(&world, "it", &order);
    world.run(&["cache", "clear", "--keep-learned"]);
    let dir = world.mount("it");
    open_in_order(&dir, &order);
    let figures = world.json(&["status"])["mounts"][0]["prefetch"].clone();
    let number = |key: &str| figures[key].as_f64().unwrap();
    let precision = number("hits") / number("files");
    assert!((number("precision") - precision).abs() < 1e-9, "{figures}");
    assert!((0.5..=1.0).contains(&number("precision")), "{figures}");
    assert!((0.5..=1.0).contains(&number("coverage")), "{figures}");
    assert!(number("useful_bytes") >= 10.0 * 40_000.0, "{figures}");
    assert!(
        number("unused_bytes") <= number("useful_bytes"),
        "{figures}"
    );
    assert!(number("saved_s") > 0.5, "{figures}");
    let text = world.run(&["status"]);
    for word in [
        "precision ",
        "coverage ",
        "were opened (",
        "not yet (",
        " s saved",
    ] {
        assert!(text.contains(word), "{text}");
    }
}
