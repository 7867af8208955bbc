//! A mount behaves like a checkout.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};

use crate::support::world::{alive, mount_table, signal};
use crate::support::{Tree, World, eventually};

fn sample() -> Tree {
    Tree::new()
        .file("README.md", "# sample\n")
        .file(
            "src/lib.rs",
            "pub fn answer() -> u32 {\n    42\n}\n".repeat(40),
        )
        .file("src/empty", "")
        .program("run", "#!/bin/sh\necho ran\n")
        .link("link", "src/lib.rs")
        .noise("noise", 3 << 20, 3)
        .commit("sample")
}

fn shell(dir: &std::path::Path, script: &str) -> String {
    let done = Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}: {output}");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

#[test]
fn types_modes_sizes_and_times_are_correct() {
    let world = World::new();
    let tree = sample();
    let committed: i64 = tree.git(&["log", "-1", "--format=%ct"]).parse().unwrap();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let readme = fs::metadata(dir.join("README.md")).unwrap();
    assert_eq!(
        (readme.len(), readme.permissions().mode() & 0o7777),
        (9, 0o644)
    );
    assert_eq!(readme.mtime(), committed);
    assert_eq!(readme.uid(), rustix::process::geteuid().as_raw());
    let run = fs::metadata(dir.join("run")).unwrap();
    assert_eq!(run.permissions().mode() & 0o7777, 0o755);
    let link = fs::symlink_metadata(dir.join("link")).unwrap();
    assert!(link.is_symlink() && link.len() == 10);
    assert_eq!(
        fs::read(dir.join("link")).unwrap(),
        fs::read(dir.join("src/lib.rs")).unwrap()
    );
    assert!(fs::metadata(dir.join("src")).unwrap().is_dir());
    let space = rustix::fs::statvfs(&dir).unwrap();
    assert_eq!((space.f_bfree, space.f_namemax), (0, 255));
    assert!(space.f_blocks * space.f_frsize >= 3 << 20);
    assert_eq!(shell(&dir, "./run"), "ran");
}

#[test]
fn common_tools_work() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let checkout = tree.path().to_str().unwrap();
    shell(&dir, &format!("diff -r --exclude=.git {checkout} ."));
    assert_eq!(shell(&dir, "grep -rl answer . | sort"), "./src/lib.rs");
    assert_eq!(shell(&dir, "find . -type f | wc -l"), "5");
    let sum =
        "tar --sort=name --owner=0 --group=0 --mtime=@0 --mode=0 --exclude=.git -cf - . | cksum";
    assert_eq!(shell(&dir, sum), shell(tree.path(), sum));
    let copy = world.path().join("copy");
    shell(&dir, &format!("cp -a . {}", copy.display()));
    shell(&copy, &format!("diff -r --exclude=.git {checkout} ."));
    shell(
        &dir,
        &format!("git diff --no-index --exit-code src {checkout}/src"),
    );
    shell(
        &dir,
        "cc -x c -c -o /dev/null - < /dev/null && wc -c < noise && cmp noise noise",
    );
}

#[test]
fn inode_numbers_are_equal_in_all_mounts_of_a_snapshot() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let (one, two) = (world.mount("it"), world.mount("it"));
    let numbers = |dir: &std::path::Path| shell(dir, "find . -printf '%p %i\\n' | sort");
    assert_eq!(numbers(&one), numbers(&two));
    assert_eq!(fs::metadata(&one).unwrap().ino(), 1);
    world.unmount(&one);
    assert_eq!(numbers(&world.mount("it")), numbers(&two));
}

#[test]
fn writes_are_refused() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let refused = |done: std::io::Result<()>| {
        assert_eq!(
            done.unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::ROFS.raw_os_error())
        );
    };
    refused(fs::write(dir.join("new"), "x"));
    refused(fs::write(dir.join("README.md"), "x"));
    refused(fs::remove_file(dir.join("README.md")));
    refused(fs::create_dir(dir.join("folder")));
    refused(fs::rename(dir.join("README.md"), dir.join("other")));
    refused(fs::set_permissions(
        dir.join("run"),
        fs::Permissions::from_mode(0o644),
    ));
    refused(xattr::set(dir.join("run"), "user.x", b"y"));
}

#[test]
fn partial_reads_are_correct() {
    let world = World::new();
    let text: Vec<u8> = (0..1_500_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let tree = Tree::new().file("numbers", &text);
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let mut file = fs::File::open(dir.join("numbers")).unwrap();
    let mut at = 7_919u64;
    for n in 0..300u64 {
        at = (at * 1_103_515_245 + 12_345 + n) % text.len() as u64;
        let mut part = vec![0; (at % 70_000) as usize];
        let got = file.read_at(&mut part, at).unwrap();
        let end = (at as usize + part.len()).min(text.len());
        assert_eq!(part[..got], text[at as usize..end], "{got} bytes from {at}");
    }
    file.seek(SeekFrom::End(-5)).unwrap();
    let mut end = Vec::new();
    file.read_to_end(&mut end).unwrap();
    assert_eq!(end, text[text.len() - 5..]);
    // Through the page cache, with `mmap`.
    let sum = "python3 -c \"import mmap; f=open('numbers','rb'); m=mmap.mmap(f.fileno(),0,access=mmap.ACCESS_READ); import sys; sys.stdout.write(str(sum(m[::4096])))\"";
    let version = Command::new("python3")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    assert!(version.is_ok(), "this test needs python3: it maps a file");
    assert_eq!(shell(&dir, sum), shell(tree.path(), sum));
}

#[test]
fn extended_attributes_report_hash_tier_blob_and_residency() {
    let world = World::new();
    let tree = sample();
    let id = tree.git(&["rev-parse", "HEAD"]);
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let get = |name: &str, key: &str| {
        let value = xattr::get(dir.join(name), format!("user.walgit.{key}")).unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    };
    assert_eq!(get("README.md", "commit"), Some(id));
    assert_eq!(get("README.md", "tier").as_deref(), Some("inline"));
    let content = fs::read(tree.path().join("src/lib.rs")).unwrap();
    let hash = blake3::hash(&content).to_hex().to_string();
    assert_eq!(get("src/lib.rs", "hash"), Some(hash));
    assert_eq!(get("src/lib.rs", "blob").unwrap().len(), 43);
    fs::read(dir.join("src/lib.rs")).unwrap();
    assert_eq!(get("src/lib.rs", "cached").as_deref(), Some("yes"));
    assert_eq!(get("README.md", "nonsense"), None);
}

#[test]
fn copies_do_not_inherit_extended_attributes() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let copy = world.path().join("copy");
    for name in ["", "README.md", "src", "src/lib.rs", ".walgit/commit"] {
        assert_eq!(xattr::list(dir.join(name)).unwrap().count(), 0, "{name}");
    }
    // Even a copy that preserves all attributes it can.
    shell(&dir, &format!("cp -a . '{}'", copy.display()));
    assert_eq!(
        fs::read(copy.join("README.md")).unwrap(),
        fs::read(dir.join("README.md")).unwrap()
    );
    for name in ["", "README.md", "src/lib.rs"] {
        let ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("user.walgit");
        let mut listed = xattr::list(copy.join(name)).unwrap();
        assert!(!listed.any(|name| ours(&name)), "{name}");
    }
}

#[test]
fn control_directory_shows_status_commit_branches_and_tags() {
    let world = World::new();
    let tree = sample();
    tree.git(&["tag", "-a", "v1", "-m", "tagged"]);
    tree.git(&["checkout", "-qb", "topic/deep"]);
    let tree = tree.file("README.md", "# topic\n").commit("on a branch");
    let id = tree.git(&["rev-parse", "main"]);
    let path = tree.path().to_str().unwrap();
    world.run(&[
        "publish",
        path,
        "--name",
        "it",
        "--branch",
        "main",
        "--branch",
        "topic/deep",
    ]);
    let dir = world.mount("it");
    assert!(!shell(&dir, "ls -a").contains(".walgit"), "hidden from ls");
    let control = dir.join(".walgit");
    assert!(
        fs::read_to_string(control.join("commit"))
            .unwrap()
            .contains(&id)
    );
    let topic = fs::read_to_string(control.join("branches/topic/deep/README.md")).unwrap();
    assert_eq!(topic, "# topic\n");
    let tagged = control.join("tags/v1");
    shell(
        &tagged,
        &format!("diff -r . '{}/commits/{id}'", control.display()),
    );
    assert_eq!(
        shell(&control, "ls"),
        "branches\ncommit\ncommits\nstatus\ntags"
    );
    // The status is generated for each read, and is complete JSON each time.
    let mut operations = 0;
    for _ in 0..3 {
        eventually("the status counts later operations", || {
            let text = fs::read_to_string(control.join("status")).unwrap();
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(status["mount"]["commit"], id);
            let before = operations;
            operations = status["mount"]["stats"]["operations"].as_u64().unwrap();
            operations > before
        });
    }
    // A branch can be mounted separately, and its folders entered.
    let other = world.mountpoint();
    let args = [
        OsStr::new("mount"),
        "it".as_ref(),
        other.as_os_str(),
        "--ref".as_ref(),
        "topic/deep".as_ref(),
    ];
    world.run(&args);
    assert_eq!(
        fs::read_to_string(other.join("README.md")).unwrap(),
        "# topic\n"
    );
}

#[test]
fn failed_mount_reports_the_cause_and_leaves_nothing() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let mount = |address: &str, dir: &std::path::Path| {
        world.fail(&[OsStr::new("mount"), address.as_ref(), dir.as_os_str()])
    };
    let dir = world.mountpoint();
    assert!(
        mount("nothing", &dir).contains("it"),
        "the error names existing repositories"
    );
    assert!(mount("it", &dir.join("missing")).contains("mkdir"));
    assert!(mount("it", tree.path()).contains("not empty"));
    let unknown = format!("walrus://{}", "A".repeat(43));
    assert!(mount(&unknown, &dir).contains("not stored"));
    let args = [
        OsStr::new("mount"),
        "it".as_ref(),
        dir.as_os_str(),
        "--ref".as_ref(),
        "nope".as_ref(),
    ];
    assert!(
        world.fail(&args).contains("main"),
        "the error names existing branches"
    );
    let mounted = mount_table();
    assert!(
        !mounted.contains(world.path().to_str().unwrap()),
        "nothing remains"
    );
    let dir = world.mount("it");
    assert!(mount("it", &dir).contains("mounted already"));
    let output = world.fail(&[OsStr::new("unmount"), tree.path().as_os_str()]);
    assert!(output.contains("not a walgit-fs mount"), "{output}");
}

#[test]
fn busy_mount_is_not_unmounted_and_its_user_is_named() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let mut user = Command::new("sleep")
        .arg("100")
        .current_dir(&dir)
        .spawn()
        .unwrap();
    let output = world.fail(&[OsStr::new("unmount"), dir.as_os_str()]);
    assert!(
        output.contains(&format!("sleep ({})", user.id())),
        "{output}"
    );
    user.kill().unwrap();
    user.wait().unwrap();
    world.unmount(&dir);
}

#[test]
fn plain_umount_ends_a_mount_and_its_daemon_entry() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    assert_eq!(
        world.json(&["status"])["mounts"].as_array().unwrap().len(),
        1
    );
    shell(world.path(), &format!("umount '{}'", dir.display()));
    eventually("the daemon has dropped the mount", || {
        world.json(&["status"])["mounts"] == serde_json::json!([])
    });
}

#[test]
fn terminated_daemon_leaves_nothing_mounted() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dirs = [world.mount("it"), world.mount("it")];
    let pid = world.daemon().unwrap();
    signal(pid, rustix::process::Signal::TERM);
    eventually("the daemon ends", || !alive(pid));
    for dir in dirs {
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    }
}

#[test]
fn daemon_exits_without_mounts() {
    let world = World::new().config("[daemon]\nidle_exit_s = 1\n");
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let pid = world.daemon().unwrap();
    world.unmount(&dir);
    eventually("the daemon ends", || !alive(pid));
}

#[test]
fn foreground_mount_serves_until_interrupted() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mountpoint();
    let args = [
        OsStr::new("mount"),
        "it".as_ref(),
        dir.as_os_str(),
        "--foreground".as_ref(),
    ];
    let mut served = world.command(&args).stderr(Stdio::null()).spawn().unwrap();
    eventually("the mount is ready", || dir.join("README.md").exists());
    signal(served.id() as i32, rustix::process::Signal::INT);
    assert!(served.wait().unwrap().success());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn other_users_cannot_enter_a_mount() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test must run as root: it tries to enter as another user"
    );
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut other = Command::new("ls");
    other.arg(&dir).stdout(Stdio::null()).stderr(Stdio::null());
    std::os::unix::process::CommandExt::uid(&mut other, 65_534);
    assert!(!other.status().unwrap().success(), "another user can enter");
}

#[test]
fn mount_options_are_ro_nosuid_nodev_without_allow_other() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "options");
    let dir = world.mount("options");
    let mounts = mount_table();
    let escaped = dir.to_str().unwrap().replace(' ', "\\040");
    let line = mounts.lines().find(|line| line.contains(&escaped)).unwrap();
    assert!(line.contains("fuse.walgit-fs"), "{line}");
    for option in ["ro", "nosuid", "nodev", "default_permissions"] {
        let options = line.split(' ').nth(3).unwrap();
        assert!(options.split(',').any(|o| o == option), "{option}: {line}");
    }
    assert!(!line.contains("allow_other"), "{line}");
}

#[test]
fn concurrent_readers_all_read_correctly() {
    let world = World::new();
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let expected = fs::read(tree.path().join("noise")).unwrap();
    std::thread::scope(|scope| {
        for n in 0..64 {
            let (dir, expected) = (&dir, &expected);
            scope.spawn(move || {
                let file = fs::File::open(dir.join("noise")).unwrap();
                let at = (n * 40_009) % (expected.len() - 100_000);
                let mut part = vec![0; 100_000];
                file.read_exact_at(&mut part, at as u64).unwrap();
                assert_eq!(part, expected[at..at + 100_000]);
            });
        }
    });
}
