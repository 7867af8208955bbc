//! The command line: help, exit codes, settings, JSON.

use std::fs;
use std::process::Stdio;

use crate::support::{Server, Tree, World};

#[test]
fn config_file_that_is_a_directory_is_reported_with_a_single_cause() {
    let world = World::new();
    let output = world.fail(&["refs", "--config", world.path().to_str().unwrap()]);
    assert!(output.contains(world.path().to_str().unwrap()), "{output}");
    assert!(output.contains("it is a folder"), "{output}");
    assert!(
        !output.contains("a directory instead of a file"),
        "{output}"
    );
}

#[test]
fn every_command_has_help_and_wrong_usage_exits_with_2() {
    let world = World::new();
    let commands = [
        "mount",
        "unmount",
        "publish",
        "refs",
        "log",
        "export",
        "status",
        "cache",
        "login",
        "logout",
        "whoami",
        "doctor",
        "devnet",
        "compact",
        "debug",
        "completions",
    ];
    let overview = world.run(&["--help"]);
    for command in commands {
        assert!(overview.contains(command), "{command}");
        assert!(world.run(&[command, "--help"]).len() > 200, "{command}");
    }
    for wrong in [
        &["mount"][..],
        &["nonsense"],
        &["publish"],
        &["mount", "http://x", "/tmp"],
    ] {
        let done = world.try_run(wrong);
        assert_eq!(done.status.code(), Some(2), "{wrong:?}");
    }
    assert!(
        world
            .run(&["--version"])
            .contains(env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn blob_id_equals_that_of_the_network() {
    let world = World::new();
    let vectors = include_str!("../../crates/encoding/testdata/blob_id_vectors.tsv");
    let row = vectors
        .lines()
        .find(|line| line.starts_with("65536\t"))
        .unwrap();
    let bytes: Vec<u8> = (0..65_536usize)
        .map(|i| ((i * 31 + 7) % 251) as u8)
        .collect();
    let tree = Tree::new().file("blob", bytes);
    let path = tree.path().join("blob");
    let printed = world.run(&["debug", "blob-id", path.to_str().unwrap()]);
    assert_eq!(printed.trim(), row.split('\t').nth(1).unwrap());
}

#[test]
fn settings_precedence_is_flag_environment_file_default() {
    let origin = |world: &World, args: &[&str]| {
        let mut all = vec!["doctor"];
        all.extend(args);
        all.push("--json");
        let done = world.try_run(&all);
        let doctor: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        let settings = doctor["settings"].as_array().unwrap().clone();
        let network = settings
            .iter()
            .find(|s| s["name"] == "network")
            .unwrap()
            .clone();
        let text = |key: &str| network[key].as_str().unwrap().to_owned();
        (text("value"), text("origin"))
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let world = World::new();
    assert_eq!(origin(&world, &[]), pair("local", "default"));
    let profiles = "network = \"one\"\n[networks.one]\n[networks.two]\n[networks.three]\n";
    let world = world.config(profiles);
    assert_eq!(origin(&world, &[]), pair("one", "file"));
    let world = world.with("WALGIT_FS_NETWORK", "two");
    assert_eq!(origin(&world, &[]), pair("two", "environment"));
    assert_eq!(
        origin(&world, &["--network", "three"]),
        pair("three", "flag")
    );
    let output = world.fail(&["refs", "--network", "nowhere"]);
    assert!(
        output.contains("testnet"),
        "names those there are: {output}"
    );
    let output = World::new().config("nonsense = 1\n").fail(&["refs"]);
    assert!(
        output.contains("config.toml") && output.contains("nonsense"),
        "{output}"
    );
}

#[test]
fn doctor_distinguishes_reachable_and_dead_endpoints() {
    let mut server = Server::start();
    let world = World::on(&server);
    assert!(world.run(&["doctor"]).contains("answers 200"));
    server.stop();
    let done = world.try_run(&["doctor"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stdout).contains("FAILED"));
}

#[test]
fn closed_output_pipe_ends_a_command_silently() {
    let world = World::new();
    let mut long = world.command(&["completions", "bash"]);
    let mut child = long
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&done.stderr).contains("panicked"));
}

#[test]
fn names_can_be_set_listed_and_removed() {
    let world = World::new();
    let tree = Tree::new().file("a", "a");
    let published = world.publish(tree.path(), "one");
    let address = published["address"].as_str().unwrap();
    world.run(&["refs", address, "--set", "two"]);
    assert_eq!(world.json(&["refs"]).as_array().unwrap().len(), 2);
    assert!(fs::read_to_string(world.mount("two").join("a")).is_ok());
    world.run(&["refs", "--remove", "one"]);
    assert!(world.fail(&["refs", "--remove", "one"]).contains("one"));
    // The ledger contains publishes, not names set by hand.
    let ledger = world.path().join("data/walgit-fs/ledger/local.jsonl");
    assert_eq!(fs::read_to_string(ledger).unwrap().lines().count(), 1);
}

#[test]
fn log_shows_newest_commits_first() {
    let world = World::new();
    let tree = Tree::new()
        .file("a", "1")
        .commit("first")
        .file("a", "2")
        .commit("second");
    world.publish(tree.path(), "it");
    let log = world.json(&["log", "it"]);
    let subjects: Vec<_> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["subject"].clone())
        .collect();
    assert_eq!(subjects, ["second", "first"]);
    let ids = tree.git(&["log", "--format=%H"]);
    assert_eq!(ids.lines().next().unwrap(), log[0]["commit"]);
}

#[test]
fn invalid_cache_budget_is_refused_with_its_source() {
    let tree = Tree::new().file("a", "a");
    let world = World::new();
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    let dir = dir.to_str().unwrap();
    for (size, says) in [
        ("10", "--cache-disk is 10 bytes"),
        ("0", "--cache-disk is 0 bytes"),
        ("15MiB", "--cache-disk is 15728640 bytes"),
        ("9000T", "--cache-disk is 9000000000000000 bytes"),
    ] {
        let output = world.fail(&["mount", "--cache-disk", size, "it", dir]);
        assert!(
            output.contains(says) && output.contains("16777216"),
            "{output}"
        );
    }
    for wrong in ["-1", "10X", "99999999999999999999", "1e9"] {
        let done = world.try_run(&["mount", &format!("--cache-disk={wrong}"), "it", dir]);
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        assert!(
            String::from_utf8_lossy(&done.stderr).contains("not a size"),
            "{done:?}"
        );
    }
    let world = world.with("WALGIT_FS_CACHE_DISK", "10");
    let output = world.fail(&["mount", "it", dir]);
    assert!(
        output.contains("WALGIT_FS_CACHE_DISK is 10 bytes"),
        "{output}"
    );
    let world = world
        .without("WALGIT_FS_CACHE_DISK")
        .config("[cache]\nmemory = \"1M\"\n");
    let output = world.fail(&["mount", "it", dir]);
    assert!(output.contains("[cache] memory in"), "{output}");
    assert!(output.contains("config.toml is 1000000 bytes"), "{output}");
    // Commands that do not use the cache work.
    world.run(&["refs"]);
    let world = world.config("[cache]\nmemory = \"8MiB\"\ndisk = \"20 MB\"\n");
    world.run(&["mount", "it", dir]);
    let stats = world.json(&["cache", "stats"]);
    assert_eq!(
        (&stats["disk_budget"], &stats["memory_budget"]),
        (&20_000_000.into(), &8_388_608.into())
    );
}

#[test]
fn irregular_or_oversized_config_file_is_refused_immediately() {
    let world = World::new();
    let pipe = world.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let large = world.path().join("large");
    fs::write(&large, vec![b'#'; (1 << 20) + 1]).unwrap();
    let socket = world.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let refused = [
        (pipe.to_str().unwrap(), "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (socket.to_str().unwrap(), "not a regular file"),
        (world.path().to_str().unwrap(), "folder"),
        (large.to_str().unwrap(), "larger than 1048576 bytes"),
    ];
    for (path, why) in refused {
        // A command that reads on is killed.
        let line = "set -- 30 \"$0\" \"$@\"; exec timeout \"$@\"";
        let done = world.run_after(line, &["--config", path, "refs"]);
        let output = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{path}: {output}");
        assert!(output.contains(path) && output.contains(why), "{output}");
    }
}
