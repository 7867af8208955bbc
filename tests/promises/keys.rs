//! Keys of encrypted repositories are not lost by mistake or shown to others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{Tree, World};

fn world() -> World {
    World::new().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
}

/// A private file that contains a key of one repeated byte.
fn key(world: &World, byte: &str) -> PathBuf {
    let path = world.path().join(format!("key-{byte}"));
    fs::write(&path, byte.repeat(32)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn adding_a_key_does_not_overwrite_another() {
    let world = world();
    let [one, two] = ["01", "02"].map(|byte| key(&world, byte));
    world.run(&["key", "add", "mine", text(&one)]);
    assert!(
        world
            .run(&["key", "add", "mine", text(&one)])
            .contains("already")
    );
    let output = world.fail(&["key", "add", "mine", text(&two)]);
    assert!(output.contains("--replace"), "{output}");
    assert_eq!(world.run(&["key", "show", "mine"]).trim(), "01".repeat(32));
    // Replaced on request; the old key is kept.
    world.run(&["key", "add", "mine", text(&two), "--replace"]);
    assert_eq!(world.run(&["key", "show", "mine"]).trim(), "02".repeat(32));
    let aside = world.run(&["key", "show", "mine.replaced"]);
    assert_eq!(aside.trim(), "01".repeat(32));
    // The next one is kept in addition, without duplicates.
    let three = key(&world, "03");
    for file in [&three, &two, &three] {
        world.run(&["key", "add", "mine", text(file), "--replace"]);
    }
    let names: Vec<String> = (world
        .json(&["key", "list"])
        .as_object()
        .unwrap()
        .keys()
        .cloned())
    .collect();
    assert_eq!(
        names,
        [
            "mine",
            "mine.replaced",
            "mine.replaced-2",
            "mine.replaced-3"
        ]
    );
}

#[test]
fn removing_a_key_that_names_need_requires_force() {
    let world = world();
    let tree = Tree::new().file("a", "text");
    let path = text(tree.path()).to_owned();
    world.run(&["publish", &path, "--name", "diary", "--encrypt"]);
    let output = world.fail(&["key", "remove", "local.diary"]);
    assert!(
        output.contains("diary (local)") && output.contains("--force"),
        "{output}"
    );
    world.run(&["log", "diary"]);
    // A second copy makes it dispensable.
    let copy = world.path().join("copy");
    world.run(&["key", "show", "local.diary", "-o", text(&copy)]);
    world.run(&["key", "add", "copy", text(&copy)]);
    world.run(&["key", "remove", "local.diary"]);
    world.run(&["log", "diary"]);
    // The copy is now the last one, regardless of its name.
    let output = world.fail(&["key", "remove", "copy"]);
    assert!(output.contains("diary (local)"), "{output}");
    world.run(&["key", "remove", "copy", "--force"]);
    assert!(
        world
            .fail(&["key", "remove", "copy"])
            .contains("no key is called")
    );
    world.run(&["key", "add", "local.diary", text(&copy)]);
    world.run(&["key", "remove", "local.diary", "--force"]);
    world.fail(&["log", "diary"]);
}

#[test]
fn key_file_is_private_regardless_of_umask() {
    let world = world();
    world.run(&["key", "add", "mine", text(&key(&world, "01"))]);
    for (number, umask) in ["000", "077", "777"].iter().enumerate() {
        let file = world.path().join(format!("out-{number}"));
        let args = ["key", "show", "mine", "-o", text(&file)];
        let done = world.run_after(&format!("umask {umask}"), &args);
        assert!(done.status.success(), "{done:?}");
        assert_eq!(mode(&file), 0o600, "{umask}");
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), "01".repeat(32));
        // It already exists.
        let output = world.fail(&args);
        assert!(output.contains("--replace"), "{output}");
    }
    let [target, link] = ["target", "link"].map(|name| world.path().join(name));
    fs::write(&target, "mine").unwrap();
    symlink(&target, &link).unwrap();
    world.fail(&["key", "show", "mine", "-o", text(&link)]);
    world.run(&["key", "show", "mine", "-o", text(&link), "--replace"]);
    // The link is replaced, not its target.
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    assert_eq!(mode(&link), 0o600);
    // A dangling link is not followed, either.
    let dangling = world.path().join("dangling");
    symlink(world.path().join("made-by-whom"), &dangling).unwrap();
    world.fail(&["key", "show", "mine", "-o", text(&dangling)]);
    assert!(!world.path().join("made-by-whom").exists());
    let dir = world.path().join("data");
    let output = world.fail(&["key", "show", "mine", "-o", text(&dir), "--replace"]);
    assert!(
        output.contains("is a folder; give the name of a file in it"),
        "{output}"
    );
}

#[test]
fn key_written_to_a_readable_file_causes_a_warning() {
    let world = world();
    world.run(&["key", "add", "mine", text(&key(&world, "01"))]);
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        let path = world.path().join(format!("out-{mode:o}"));
        let file = fs::File::create(&path).unwrap();
        file.set_permissions(Permissions::from_mode(mode)).unwrap();
        let mut command = world.command(&["key", "show", "mine"]);
        let done = command
            .stdout(file)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let output = String::from_utf8(done.stderr).unwrap();
        assert_eq!(output.contains("-o FILE"), warned, "{output}");
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), "01".repeat(32));
    }
}

#[test]
fn secrets_are_read_from_private_files_and_pipes() {
    let world = world();
    let file = key(&world, "01");
    let tree = Tree::new().file("a", "text");
    let path = text(tree.path()).to_owned();
    for (mode, warned) in [(0o600, false), (0o640, true), (0o604, true)] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let add = ["key", "add", "mine", text(&file)];
        let publish = [
            "publish",
            &path,
            "--name",
            "it",
            "--encrypt",
            "--key",
            text(&file),
        ];
        for args in [&add[..], &publish[..]] {
            let done = world.try_run(args);
            let output = String::from_utf8(done.stderr).unwrap();
            assert!(done.status.success(), "{output}");
            assert_eq!(
                output.contains("others can read"),
                warned,
                "{args:?}: {output}"
            );
        }
    }
    for (what, why) in [
        ("/dev/zero", "neither"),
        (text(world.path()), "neither"),
        ("/nonexistent", "No such file"),
    ] {
        let output = world.fail(&["key", "add", "other", what]);
        assert!(output.contains(why), "{what}: {output}");
    }
    // A pipe without a writer does not block.
    let pipe = world.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    world.fail(&["key", "add", "other", text(&pipe)]);
    // A pipe with a writer works like a file.
    let line = format!("exec 9<<EOF\n{}\nEOF\ntrue", "02".repeat(32));
    let done = world.run_after(&line, &["key", "add", "other", "/dev/fd/9"]);
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn readable_key_file_is_warned_about_once_and_a_pipe_is_read_once() {
    let world = world();
    let tree = Tree::new().file("a", "text");
    let path = text(tree.path());
    let open = key(&world, "09");
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    let publish = [
        "publish",
        path,
        "--name",
        "it",
        "--encrypt",
        "--key",
        text(&open),
    ];
    for _ in 0..2 {
        let done = world.try_run(&publish);
        let output = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{output}");
        assert_eq!(output.matches("others can read").count(), 1, "{output}");
    }
    let line = format!("exec 9<<EOF\n{}\nEOF\ntrue", "02".repeat(32));
    let piped = [
        "publish",
        path,
        "--name",
        "piped",
        "--encrypt",
        "--key",
        "/dev/fd/9",
    ];
    let done = world.run_after(&line, &piped);
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn missing_target_directory_of_a_key_is_reported() {
    let world = world();
    world.run(&["key", "add", "mine", text(&key(&world, "09"))]);
    let missing = world.path().join("no/key");
    let output = world.fail(&["key", "show", "mine", "-o", text(&missing)]);
    let dir = missing.parent().unwrap();
    assert!(
        output.contains(text(&missing)) && output.contains("mkdir -p"),
        "{output}"
    );
    assert!(
        output.contains(&format!("no folder {}", text(dir))),
        "{output}"
    );
    let output = world.fail(&["key", "show", "mine", "-o", text(world.path())]);
    assert!(
        output.contains(text(world.path())) && output.contains("is a folder"),
        "{output}"
    );
}

#[test]
fn secret_files_are_private_regardless_of_umask() {
    for umask in ["000", "077"] {
        let world = World::new()
            .with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .config(
                "[networks.mine]\naggregators = [\"http://127.0.0.1:9\"]\n\
                 publishers = [\"http://127.0.0.1:9\"]\n[networks.mine.auth]\nmethod = \"api_key\"\n",
            );
        let tree = Tree::new().file("a", "text");
        let given = key(&world, "01");
        let dir = world.mountpoint();
        for args in [
            &["key", "add", "mine", text(&given)][..],
            &["--network", "mine", "login", "--api-key-file", text(&given)],
            &["publish", text(tree.path()), "--name", "it", "--encrypt"],
            &["mount", "it", text(&dir)],
        ] {
            let done = world.run_after(&format!("umask {umask}"), args);
            assert!(done.status.success(), "{args:?}: {done:?}");
        }
        let mut pending: Vec<PathBuf> = ["data", "state", "cache", "run"]
            .map(|kept| world.path().join(kept))
            .into();
        let mut secrets = 0;
        while let Some(path) = pending.pop() {
            let about = fs::symlink_metadata(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy();
            secrets += usize::from(name.ends_with(".key") || name == "sealing-key");
            // Standard directories of the user exist before.
            if path.parent() != Some(world.path()) {
                assert_eq!(mode(&path) & 0o077, 0, "{umask}: {}", path.display());
            }
            if about.is_dir() {
                pending.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        }
        // Two keys, a sign-in, and their two sealing keys.
        assert_eq!(secrets, 5, "{umask}");
        world.unmount(&dir);
    }
}
