//! Text of authors and servers is shown without controlling the terminal.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};
use walgit_format::text::is_unsafe;

use crate::support::manifests::Commit;
use crate::support::tree::git;
use crate::support::{Server, Tree, World, eventually};

/// Title, colour, C1, reversed order, invisible characters, separators, DEL.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2066}\u{200f}\u{61c}\u{200b}\u{feff}\
                    \u{2028}\u{7f}\r";

/// Asserts that output contains no terminal controls.
#[track_caller]
fn assert_safe(what: &str, shown: &[u8]) {
    let text = std::str::from_utf8(shown).unwrap_or_else(|_| panic!("{what}: {shown:?}"));
    let found = text.chars().find(|&c| is_unsafe(c) && c != '\n');
    assert_eq!(found, None, "{what}: {text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("FORGED")),
        "{what}: {text:?}"
    );
}

/// Runs a command; returns all its output.
#[track_caller]
fn checked_output(world: &World, args: &[&str]) -> String {
    let done = world.try_run(args);
    for (stream, bytes) in [("stdout", &done.stdout), ("stderr", &done.stderr)] {
        assert_safe(&format!("{args:?} {stream}"), bytes);
    }
    String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
}

/// A repository of a hostile author.
fn hostile_repository() -> Tree {
    let tree = Tree::new()
        .file(format!("a{EVIL}\nFORGED"), "a")
        .file(b"not-utf8-\xff\xfe", "b")
        .file("plain", "c")
        .commit("first");
    // Git strips some of it from names on its command line.
    let tree_id = tree.git(&["rev-parse", "HEAD^{tree}"]);
    let person = format!("Ada{EVIL} <ada@example.org> 1700000000 +0000");
    let commit = format!(
        "tree {tree_id}\nparent {}\nauthor {person}\ncommitter {person}\n\n\
         second{EVIL}\n\n\tbody{EVIL}\nFORGED in the body\n",
        tree.git(&["rev-parse", "HEAD"]),
    );
    let file = tree.path().join(".git/made");
    fs::write(&file, commit).unwrap();
    let id = tree.git(&[
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--literally",
        ".git/made",
    ]);
    tree.git(&["update-ref", "refs/heads/main", &id]);
    tree.git(&["branch", "reversed-\u{202e}hcnarb"]);
    tree.git(&["tag", "hidden-\u{200b}tag"]);
    tree
}

#[test]
fn author_text_is_escaped_in_all_output() {
    let world = World::new();
    let tree = hostile_repository();
    let path = tree.path().to_str().unwrap();
    checked_output(
        &world,
        &["publish", path, "--name", "it", "--branch", "main"],
    );
    let log = checked_output(&world, &["log", "it"]);
    assert!(log.contains("second") && log.contains(r"\u{202e}"), "{log}");
    assert_eq!(log.lines().count(), 2, "{log}");
    let refs = checked_output(&world, &["refs", "it"]);
    assert!(refs.contains(r"hidden-\u{200b}tag"), "{refs}");
    let dir = world.mount("it");
    for args in [
        &["refs"][..],
        &["status"],
        &["failures"],
        &["doctor"],
        &["fsck", "it"],
        &["fsck", "--all"],
        &["cost", path],
        &["debug", "analyze", path],
        &["log", "it", "--ref", &format!("none{EVIL}")],
        &["mount", &format!("it{EVIL}"), dir.to_str().unwrap()],
        &["cache", "verify"],
        &["gc", "--dry-run"],
    ] {
        checked_output(&world, args);
    }
    for name in ["commit", "status"] {
        let text = fs::read(dir.join(".walgit").join(name)).unwrap();
        // Text of the author has its own lines, which begin with a space.
        assert_safe(name, &text);
    }
    let commit = fs::read_to_string(dir.join(".walgit/commit")).unwrap();
    assert!(commit.contains("\n            body"), "{commit:?}");
    assert!(commit.contains("\n    FORGED in the body\n"), "{commit:?}");
    let out = world.path().join("out");
    checked_output(&world, &["export", "it", out.to_str().unwrap(), "--check"]);
    // Git receives it unescaped.
    assert!(git(&out, &["log", "-1", "--format=%s", "main"]).contains('\u{202e}'));
    // JSON contains all of it, and no terminal controls.
    let done = world.try_run(&["log", "it", "--json"]);
    assert_safe("log --json", &done.stdout);
    let log: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(log[0]["subject"], format!("second{EVIL}"));
    let done = world.try_run(&["refs", "it", "--json"]);
    assert_safe("refs --json", &done.stdout);
    let refs: Value = serde_json::from_slice(&done.stdout).unwrap();
    let named = |name: &str| refs.as_array().unwrap().iter().any(|r| r["name"] == name);
    assert!(named("hidden-\u{200b}tag"), "{refs}");
}

#[test]
fn each_mount_notice_is_one_line() {
    let world = World::new();
    let manifest = Commit::new(&world.blobs())
        .file("good", b"good")
        .alias("good", &format!("bad{EVIL}\nFORGED/../x"))
        .alias("good", &format!("{}/../x", "long".repeat(50_000)))
        .store();
    let dir = world.mountpoint();
    let address = format!("walrus://{manifest}");
    let output = checked_output(&world, &["mount", &address, dir.to_str().unwrap()]);
    assert!(output.contains("bad") && output.len() < 20_000, "{output}");
    let notices = fs::read(dir.join(".walgit/notices")).unwrap();
    assert_safe("notices", &notices);
    assert!(notices.len() < 20_000);
    assert_eq!(notices.iter().filter(|&&byte| byte == b'\n').count(), 2);
}

/// A server that answers every request with an error text.
fn hostile_server(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || respond(stream.unwrap(), status));
        }
    });
    url
}

fn respond(mut stream: TcpStream, status: &str) {
    let words = format!("no{EVIL}\nFORGED: all is well {}", "x".repeat(10_000));
    let body = json!({
        "error": {"status": words, "code": 400, "message": words, "details": [words]},
        "error_description": words, "errors": [{"message": words}],
    });
    let body = body.to_string();
    let mut read = [0; 65536];
    while stream.read(&mut read).is_ok_and(|n| n > 0) {
        let answer = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             x-said: {}\r\n\r\n{body}",
            "No\u{9b}31m",
            body.len(),
            "\u{9b}31m\u{202e}",
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn server_text_is_escaped_in_all_output() {
    let honest = Server::start();
    let tree = Tree::new().file("a", "text").commit("first");
    let path = tree.path().to_str().unwrap();
    let address = World::on(&honest).publish(tree.path(), "it")["address"].clone();
    let address = address.as_str().unwrap();
    for status in ["400", "404", "403", "500", "200"] {
        let url = hostile_server(status);
        let world = World::new().reading(&[&url]).writing(&url).config(&format!(
            "network = \"mine\"\n[mount]\ndeadline_s = 3\n[networks.mine]\naggregators = [\"{url}\"]\n\
             publishers = [\"{url}\"]\nsui = \"{url}\"\nadmin = \"{url}\"\n"
        ));
        let object = format!("sui://0x{}", "1".repeat(64));
        let dir = world.mountpoint();
        for args in [
            &["publish", path, "--name", "it"][..],
            &["log", address],
            &["mount", address, dir.to_str().unwrap()],
            &["log", &object],
            &["refs", &object],
            &["fsck", address],
            &["export", address, "out"],
            &["failures"],
            &["failures", "--json"],
            &["status"],
            &["doctor"],
            &["debug", "epoch"],
            &["renew"],
        ] {
            checked_output(&world, args);
        }
        let log = world.path().join("state/walgit-fs/daemon.log");
        assert_safe("daemon.log", &fs::read(log).unwrap_or_default());
    }
}

#[test]
fn issuer_text_is_escaped() {
    for status in ["400", "401", "500", "200"] {
        let url = hostile_server(status);
        let world = World::new()
            .config(&format!(
                "network = \"mine\"\n[networks.mine]\naggregators = [\"{url}\"]\n\
                 publishers = [\"{url}\"]\n[networks.mine.auth]\nmethod = \"oauth\"\n\
                 issuer = \"{url}\"\ntoken_endpoint = \"{url}/token\"\n\
                 device_authorization_endpoint = \"{url}/device\"\n"
            ))
            .with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
        let output = checked_output(&world, &["login", "--device"]);
        assert!(
            output.contains("error: ") && output.len() < 2000,
            "{output}"
        );
    }
}

#[test]
fn author_text_cannot_forge_daemon_log_lines() {
    let world = World::new();
    let tree = hostile_repository();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    // Unreadable content is logged by its name.
    for blob in fs::read_dir(world.blobs()).unwrap() {
        let path = blob.unwrap().path();
        if path.is_file() {
            corrupt(&path);
        }
    }
    world.run(&["cache", "clear"]);
    for entry in fs::read_dir(&dir).unwrap() {
        let _ = fs::read(entry.unwrap().path());
    }
    let log = world.path().join("state/walgit-fs/daemon.log");
    eventually("the log tells of it", || fs::metadata(&log).is_ok());
    assert_safe("daemon.log", &fs::read(&log).unwrap());
}

fn corrupt(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes
        .iter_mut()
        .skip(middle)
        .take(64)
        .for_each(|byte| *byte ^= 1);
    fs::write(path, bytes).unwrap();
}

#[test]
fn ref_names_that_git_refuses_are_refused() {
    use walgit_format::head::check_ref_name;
    for bad in [
        "a\u{1b}[31m",
        "a\nb",
        "a\u{7f}",
        "a\tb",
        "a b",
        "a..b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a.lock",
        ".a",
        "a/",
        "/a",
        "a//b",
        "a@{b",
        "a.",
        "",
    ] {
        let error = check_ref_name(bad.as_bytes()).unwrap_err().to_string();
        assert_safe(bad, error.as_bytes());
        assert!(bad.is_empty() || error.contains("ref name"), "{error}");
    }
    // Git accepts these; output escapes them.
    for fine in ["main", "feature/x", "ü", "a\u{202e}b", "a\u{85}b", "@"] {
        check_ref_name(fine.as_bytes()).unwrap();
    }
    // A name written into a repository by hand is not published.
    let tree = Tree::new().file("a", "text").commit("first");
    let id = tree.git(&["rev-parse", "HEAD"]);
    let evil = tree.path().join(".git/refs/tags/e\u{1b}[31mvil");
    fs::write(evil, format!("{id}\n")).unwrap();
    tree.git(&["tag", "good"]);
    let world = World::new();
    checked_output(
        &world,
        &["publish", tree.path().to_str().unwrap(), "--name", "it"],
    );
    let refs = checked_output(&world, &["refs", "it"]);
    assert!(refs.contains("good") && !refs.contains("vil"), "{refs}");
}
