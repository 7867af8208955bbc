//! Other users of the machine can neither see nor control a user's mounts. `mount.rs`
//! tests that they cannot enter a mount.

use std::fs::{self, Permissions};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::PROGRAM;
use crate::support::tree::assert_same;
use crate::support::{Tree, World};

const OTHER_UID: u32 = 65_534;

fn sample() -> Tree {
    Tree::new().noise("a", 300_000, 1).file("b", "text")
}

/// Everything below a directory.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn state_is_private_regardless_of_umask() {
    let world = World::new();
    let tree = sample();
    // A shell with a permissive umask, from the first command on.
    let mut publish = Command::new("sh");
    publish
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(PROGRAM);
    let args = ["publish", tree.path().to_str().unwrap(), "--name", "it"];
    let wanted = world.command(&args);
    publish.args(args).envs(
        wanted
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    assert!(publish.output().unwrap().status.success());
    let dir = world.mountpoint();
    let mut mount = Command::new("sh");
    mount
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(PROGRAM);
    let args = ["mount", "it", dir.to_str().unwrap()];
    mount.args(args).envs(
        world
            .command(&args)
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    assert!(mount.output().unwrap().status.success());
    assert_same(tree.path(), &dir);
    let mut kinds = [0; 3];
    for kept in ["cache", "data", "state"] {
        for path in below(&world.path().join(kept)) {
            let found = fs::symlink_metadata(&path).unwrap();
            let kind = found.file_type();
            kinds[usize::from(kind.is_dir()) + 2 * usize::from(kind.is_socket())] += 1;
            assert_eq!(
                found.mode() & 0o077,
                0,
                "{}: {:o}",
                path.display(),
                found.mode()
            );
        }
    }
    assert!(
        kinds.iter().all(|&count| count > 0),
        "files, folders, sockets: {kinds:?}"
    );
}

#[test]
fn unsafe_daemon_directory_is_refused() {
    let tree = sample();
    let open = World::new();
    open.publish(tree.path(), "it");
    let daemon = open.path().join("cache/walgit-fs/daemon");
    let remade = |mode| {
        let _ = fs::remove_dir_all(&daemon);
        fs::DirBuilder::new().mode(0o700).create(&daemon).unwrap();
        fs::set_permissions(&daemon, Permissions::from_mode(mode)).unwrap();
    };
    let dir = open.mountpoint();
    let refused = || {
        let output = open.fail(&["mount", "it", dir.to_str().unwrap()]);
        assert!(output.contains("cache/walgit-fs/daemon"), "{output}");
    };
    for mode in [0o755, 0o770, 0o701] {
        remade(mode);
        refused();
    }
    // A link leads to a directory of another user.
    fs::remove_dir(&daemon).unwrap();
    std::os::unix::fs::symlink(open.path(), &daemon).unwrap();
    refused();
    fs::remove_file(&daemon).unwrap();
    if rustix::process::geteuid().is_root() {
        remade(0o700);
        std::os::unix::fs::chown(&daemon, Some(OTHER_UID), None).unwrap();
        refused();
    }
    remade(0o700);
    open.run(&["mount", "it", dir.to_str().unwrap()]);
}

#[test]
fn daemon_rejects_connections_of_other_users() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can try as somebody else
    }
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    // A copy that other users can execute, in a world that is open to them.
    let program = world.path().join("program");
    fs::copy(PROGRAM, &program).unwrap();
    let cache = world.path().join("cache");
    for path in [&program, world.path(), &cache, &cache.join("walgit-fs")] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let sockets = cache.join("walgit-fs/daemon");
    // Not with walgit-fs itself, which would refuse a directory of another user.
    let ask = |uid: u32| {
        let script = "import socket, sys\n\
            s = socket.socket(socket.AF_UNIX)\n\
            s.connect(sys.argv[1])\n\
            s.sendall(b'GET /v1/status HTTP/1.0\\r\\n\\r\\n')\n\
            print(s.makefile().read())";
        let mut command = Command::new("python3");
        command
            .arg("-c")
            .arg(script)
            .arg(sockets.join("control.sock"));
        let done = command.uid(uid).gid(uid).output().unwrap();
        String::from_utf8_lossy(&done.stdout).contains("\"pid\"")
    };
    assert!(!ask(OTHER_UID), "the folder is private");
    fs::set_permissions(&sockets, Permissions::from_mode(0o777)).unwrap();
    for socket in ["control.sock", "attach.sock"] {
        fs::set_permissions(sockets.join(socket), Permissions::from_mode(0o777)).unwrap();
    }
    assert!(!ask(OTHER_UID), "the daemon checks the peer");
    let log = fs::read_to_string(world.path().join("state/walgit-fs/daemon.log")).unwrap();
    assert!(log.contains("rejected a peer"), "{log}");
    assert!(ask(0), "its owner is answered");
    assert_same(tree.path(), &dir);
    fs::set_permissions(&sockets, Permissions::from_mode(0o700)).unwrap();
}
