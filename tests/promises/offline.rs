//! Without a network, what is cached reads as always and the rest fails soon.

use std::fs;

use crate::support::tree::assert_same;
use crate::support::{Server, Tree, World, eventually};

fn sample() -> Tree {
    Tree::new()
        .file("a/text", "some text\n".repeat(20_000))
        .noise("b/noise", 500_000, 1)
        .noise("c/noise", 500_000, 2)
}

#[test]
fn what_was_read_before_reads_without_a_network_even_after_a_crash() {
    let mut server = Server::start();
    let world = World::on(&server);
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    server.stop();
    world.crash();
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
}

#[test]
fn what_was_not_read_fails_in_bounded_time_and_heals_without_a_remount() {
    let mut server = Server::start();
    let world =
        World::on(&server).config("[mount]\ndeadline_s = 2\n[net]\nbreaker_open_ms = 1000\n");
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let known = fs::read(dir.join("a/text")).unwrap();
    server.stop();
    assert!(fs::read(dir.join("c/noise")).is_err());
    assert_eq!(fs::read(dir.join("a/text")).unwrap(), known);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
    server.restart();
    eventually("it heals", || fs::read(dir.join("c/noise")).is_ok());
    assert_same(tree.path(), &dir);
}

#[test]
fn a_second_session_asks_the_network_for_nothing() {
    let server = Server::start();
    let world = World::on(&server);
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    world.crash();
    server.forget_requests();
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
    assert_eq!(server.requests(""), Vec::<String>::new());
}

#[test]
fn mount_and_list_are_one_request_and_a_first_read_is_one_more() {
    let server = Server::start();
    let publisher = World::on(&server);
    let tree = sample();
    let published = publisher.publish(tree.path(), "it");
    let reader = World::on(&server);
    server.forget_requests();
    let dir = reader.mount(published["address"].as_str().unwrap());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
    assert_eq!(fs::read_dir(dir.join("b")).unwrap().count(), 1);
    let requests = server.requests("");
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].contains("bytes=0-65535 206 65536"),
        "{requests:?}"
    );
    server.forget_requests();
    fs::read(dir.join("b/noise")).unwrap();
    assert_eq!(server.requests("GET").len(), 1);
}
