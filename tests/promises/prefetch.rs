//! Prefetching reduces waiting, and its effect is measured correctly.

use std::fs;

use crate::support::file_opens::{open_in_order, program_files, shuffled};
use crate::support::{Server, Tree, World, eventually};

/// A tree of folders, and a program that opens one package after the other.
fn record_sessions(world: &World) -> (String, String) {
    let mut tree = String::new();
    let mut trace = String::new();
    for package in 0..30 {
        for file in 0..12 {
            tree += &format!("lib/p{package}/m{file}.py\t{}\n", 9000 + file * 1500);
        }
    }
    for (n, package) in [3, 17, 8, 25, 11, 1].into_iter().enumerate() {
        for file in 0..9 {
            let file = file * 5 % 12;
            let at = (n * 9 + file) as f64 * 0.01;
            let size = 9000 + file * 1500;
            trace += &format!("{at:.4}\t4711\tlib/p{package}/m{file}.py\t{size}\n");
        }
    }
    let write = |name: &str, text: String| {
        let path = world.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (write("tree.tsv", tree), write("trace.tsv", trace))
}

#[test]
fn learned_session_waits_least_and_new_session_waits_less() {
    let world = World::new();
    let (tree, trace) = record_sessions(&world);
    let report = world.json(&["debug", "replay", "--tree", &tree, &trace, &trace]);
    let sessions = report["sessions"].as_array().unwrap();
    let number = |session: usize, key: &str| sessions[session][key].as_f64().unwrap();
    let ratio = |session| number(session, "stall_with_s") / number(session, "stall_without_s");
    let waste = |session| number(session, "wasted_bytes") / number(session, "useful_bytes");
    assert!(ratio(0) < 0.5 && waste(0) < 3.0, "{report}");
    assert!(ratio(1) < 0.05 && waste(1) < 0.5, "{report}");
    assert_eq!(sessions[0]["trace"].as_str().unwrap(), trace);
}

#[test]
fn slower_link_increases_all_waits() {
    let world = World::new();
    let (tree, trace) = record_sessions(&world);
    let stall = |rtt: &str| {
        let args = ["debug", "replay", "--tree", &tree, "--rtt-ms", rtt, &trace];
        world.json(&args)["sessions"][0]["stall_without_s"]
            .as_f64()
            .unwrap()
    };
    assert!(stall("200") > 3.0 * stall("50"));
}

#[test]
fn invalid_trace_is_reported_with_its_line() {
    let world = World::new();
    let (tree, trace) = record_sessions(&world);
    let broken = world.path().join("broken.tsv");
    fs::write(&broken, "0.0\t1\ta\t10\n0.1\tone\tb\t10\n").unwrap();
    let broken = broken.to_str().unwrap();
    let output = world.fail(&["debug", "replay", "--tree", &tree, &trace, broken]);
    assert!(output.contains("broken.tsv:2: "), "{output}");
    for wrong in [
        &["--rtt-ms", "-1"][..],
        &["--mbit", "0"],
        &["--stored-ratio", "x"],
        &[],
    ] {
        let mut args = vec!["debug", "replay"];
        args.extend(wrong);
        if !wrong.is_empty() {
            args.push(&trace);
        }
        assert_eq!(world.try_run(&args).status.code(), Some(2), "{wrong:?}");
    }
}

/// A program that opens every tenth of its files.
fn program() -> (Tree, Vec<String>) {
    let (tree, names) = program_files();
    (
        tree,
        shuffled(names.into_iter().skip(3).step_by(10).collect()),
    )
}

#[test]
fn repeated_session_finds_its_files_prefetched() {
    let server = Server::with(&["--latency-ms", "60"]);
    let world = World::on(&server);
    let (tree, order) = program();
    world.publish(tree.path(), "it");
    let session = || {
        let dir = world.mount("it");
        open_in_order(&dir, &order);
        let status = world.json(&["status"]);
        world.unmount(&dir);
        world.run(&["cache", "clear", "--keep-learned"]);
        let mount = status["mounts"][0].clone();
        let waited = mount["stats"]["waited"].as_u64().unwrap();
        (waited, mount["prefetch"].clone())
    };
    let (first, _) = session();
    let (second, figures) = session();
    let waits = format!("{second} of 20 reads waited, {first} before: {figures}");
    assert!(second <= 4 && second <= first, "{waits}");
    let number = |key: &str| figures[key].as_f64().unwrap();
    assert!(number("hits") >= 15.0, "{figures}");
    assert!(
        number("unused_bytes") <= number("useful_bytes"),
        "{figures}"
    );
    assert!(number("saved_s") > 0.5, "{figures}");
    // The next commit inherits the profile.
    let tree = tree.file("p00/new", "new").commit("another commit");
    world.publish(tree.path(), "it");
    world.run(&["cache", "clear", "--keep-learned"]);
    let (third, figures) = session();
    assert!(third <= 4, "{third} reads waited: {figures}");
}

#[test]
fn disabled_prefetch_fetches_nothing() {
    let server = Server::start();
    let world = World::on(&server);
    let (tree, order) = program();
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    world.run(&["mount", "--prefetch", "off", "it", dir.to_str().unwrap()]);
    server.clear_requests();
    let name = &order[0];
    fs::read(dir.join(name)).unwrap();
    eventually("all reads are done", || !server.requests("GET").is_empty());
    assert!(world.json(&["status"])["mounts"][0]["prefetch"].is_null());
}

#[test]
fn learned_profile_survives_a_crash_or_is_lost_without_harm() {
    let server = Server::start();
    let world = World::on(&server);
    let (tree, order) = program();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    open_in_order(&dir, &order);
    world.crash();
    let dir = world.mountpoint();
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    open_in_order(&dir, &order);
}
