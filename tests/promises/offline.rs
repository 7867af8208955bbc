//! Without a network, cached content is readable and other reads fail fast.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::support::tree::assert_same;
use crate::support::world::{is_stopped, signal};
use crate::support::{Server, TcpProxy, Tree, World, eventually};

/// Short deadline of operations; a failing server is skipped for a moment instead of
/// half a minute.
fn fast_failure_config(deadline_s: u32) -> String {
    format!("[mount]\ndeadline_s = {deadline_s}\n[net]\nbreaker_open_ms = 500\n")
}

fn sample() -> Tree {
    Tree::new()
        .file("a/text", "some text\n".repeat(20_000))
        .noise("b/noise", 500_000, 1)
        .noise("c/noise", 500_000, 2)
}

/// Everything is readable again through the existing mount.
fn assert_recovers(dir: &Path) {
    let files = ["a/text", "b/noise", "c/noise"];
    eventually("reads recover", || {
        files.iter().all(|name| fs::read(dir.join(name)).is_ok())
    });
}

#[test]
fn cached_files_read_without_a_network_even_after_a_crash() {
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
fn uncached_files_fail_in_bounded_time_and_recover_without_remount() {
    let mut server = Server::start();
    let world = World::on(&server).config(&fast_failure_config(2));
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let known = fs::read(dir.join("a/text")).unwrap();
    server.stop();
    assert!(fs::read(dir.join("c/noise")).is_err());
    assert_eq!(fs::read(dir.join("a/text")).unwrap(), known);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
    server.restart();
    eventually("reads recover", || fs::read(dir.join("c/noise")).is_ok());
    assert_same(tree.path(), &dir);
}

#[test]
fn second_session_sends_no_requests() {
    let server = Server::start();
    let world = World::on(&server);
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    world.crash();
    server.clear_requests();
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
    assert_eq!(server.requests(""), Vec::<String>::new());
}

#[test]
fn mount_and_list_take_one_request_and_a_first_read_takes_another() {
    let server = Server::start();
    let publisher = World::on(&server);
    let tree = sample();
    let published = publisher.publish(tree.path(), "it");
    let reader = World::on(&server);
    server.clear_requests();
    let dir = reader.mount(published["address"].as_str().unwrap());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
    assert_eq!(fs::read_dir(dir.join("b")).unwrap().count(), 1);
    let requests = server.requests("");
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].contains("bytes=0-65535 206 65536"),
        "{requests:?}"
    );
    server.clear_requests();
    fs::read(dir.join("b/noise")).unwrap();
    server.assert_read_count(1);
}

#[test]
fn offline_session_lists_cached_directories_and_reports_missing_content() {
    let mut server = Server::start();
    let world = World::on(&server).config(&fast_failure_config(2));
    let tree = sample();
    world.publish(tree.path(), "it");
    // A publish caches everything it read.
    world.run(&["cache", "clear"]);
    let dir = world.mount("it");
    let known = fs::read(dir.join("b/noise")).unwrap();
    let list = |name: &str| fs::read_dir(dir.join(name)).map(|entries| entries.count());
    assert_eq!(list("a").unwrap(), 1);
    server.stop();
    world.crash();
    world.run(&["mount", "it", dir.to_str().unwrap()]);
    assert_eq!((list("").unwrap(), list("a").unwrap()), (3, 1));
    assert_eq!(fs::metadata(dir.join("c/noise")).unwrap().len(), 500_000);
    assert_eq!(fs::read(dir.join("b/noise")).unwrap(), known);
    // More readers than threads: none of them waits for another.
    std::thread::scope(|scope| {
        let read = || fs::read(dir.join("c/noise")).unwrap_err().raw_os_error();
        let readers: Vec<_> = (0..32).map(|_| scope.spawn(read)).collect();
        for reader in readers {
            let code = reader.join().unwrap();
            let expected = [Errno::IO, Errno::TIMEDOUT].map(|errno| Some(errno.raw_os_error()));
            assert!(expected.contains(&code), "{code:?}");
        }
    });
    // Operations that need no network continue.
    assert_eq!(fs::read(dir.join("b/noise")).unwrap(), known);
    server.restart();
    assert_recovers(&dir);
    assert_same(tree.path(), &dir);
}

#[test]
fn server_whose_address_changes_is_found_again() {
    let mut old = Server::start();
    let new = old.start_second();
    let tunnel = TcpProxy::in_front_of(old.address());
    let world = World::new()
        .reading(&[&tunnel.url])
        .writing(&old.url)
        .config(&fast_failure_config(5));
    let tree = sample();
    world.publish(tree.path(), "it");
    world.run(&["cache", "clear"]);
    let dir = world.mount("it");
    assert!(fs::read(dir.join("a/text")).is_ok());
    // The old one disappears silently, with its connections.
    tunnel.redirect_to(new.address());
    tunnel.close_connections();
    old.stop();
    eventually("it is found", || fs::read(dir.join("b/noise")).is_ok());
    assert_same(tree.path(), &dir);
}

#[test]
fn reads_recover_from_lost_connections_after_suspend() {
    let server = Server::start();
    let beside = server.start_second();
    let tunnel = TcpProxy::in_front_of(server.address());
    let world = World::new()
        .reading(&[&tunnel.url])
        .writing(&server.url)
        .config(&fast_failure_config(5));
    let tree = sample();
    world.publish(tree.path(), "it");
    world.run(&["cache", "clear"]);
    let dir = world.mount("it");
    let known = fs::read(dir.join("a/text")).unwrap();
    let daemon = world.daemon().unwrap();
    signal(daemon, Signal::STOP);
    // Another network, another address; open connections get no notice, as the stopped
    // server keeps its end.
    signal(server.pid(), Signal::STOP);
    tunnel.redirect_to(beside.address());
    for pid in [daemon, server.pid()] {
        eventually("it stands still", || is_stopped(pid));
    }
    signal(daemon, Signal::CONT);
    assert_eq!(fs::read(dir.join("a/text")).unwrap(), known);
    assert_recovers(&dir);
    assert_eq!(world.daemon(), Some(daemon), "the same daemon");
    assert_same(tree.path(), &dir);
    signal(server.pid(), Signal::CONT);
}

#[test]
fn unresolvable_gateway_is_skipped_and_reported_if_it_is_the_only_one() {
    let server = Server::start();
    let nowhere = "http://nowhere.invalid";
    let world = World::new()
        .reading(&[nowhere, &server.url])
        .writing(&server.url)
        .config(&fast_failure_config(5));
    let tree = sample();
    let published = world.publish(tree.path(), "it");
    world.run(&["cache", "clear"]);
    assert_same(tree.path(), &world.mount("it"));
    let alone = World::new()
        .reading(&[nowhere])
        .config(&fast_failure_config(2));
    let dir = alone.mountpoint();
    let address = published["address"].as_str().unwrap();
    let output = alone.fail(&["mount", address, dir.to_str().unwrap()]);
    assert!(output.contains("nowhere.invalid"), "{output}");
}
