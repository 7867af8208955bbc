//! Exports restore the published git repository object for object and ref for ref.

mod synthetic;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::manifests::{address_of, manifests, world_with_fixture};
use crate::support::tree::{assert_same, git, noise};
use crate::support::world::signal;
use crate::support::{Server, Tree, World, eventually};

/// Writes a raw object; returns its ID.
pub(crate) fn object(repository: &Path, kind: &str, raw: impl AsRef<[u8]>) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), raw).unwrap();
    let path = file.path().to_str().unwrap();
    git(
        repository,
        &["hash-object", "-t", kind, "-w", "--literally", path],
    )
}

fn bytes_of(id: &str) -> Vec<u8> {
    let digits = (0..id.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap())
        .collect()
}

/// A repository with every kind of event that affects git's storage.
pub(crate) fn diverse_repository(sha256: bool) -> Tree {
    let tree = Tree::new();
    if sha256 {
        tree.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    }
    let large = noise(5 << 20, 1);
    let mut other = large.clone();
    other[1 << 20..(1 << 20) + 50_000].copy_from_slice(&noise(50_000, 2));
    let long = |n: u32| format!("line {n}\n").repeat(2000);
    let mut tree = tree
        .file("README.md", "# hello\n")
        .file("empty", "")
        .file("src/deep/er/code.rs", long(0))
        .file(b"name-\xff-not-utf8".as_slice(), "bytes")
        .file("large", &large)
        .program("run", "#!/bin/sh\n")
        .link("link", "src/deep")
        .commit("first");
    for n in 1..12 {
        let text = long(n) + &format!("{n}\n");
        tree = tree
            .file("src/deep/er/code.rs", text)
            .file("src/lib.rs", format!("pub mod m{n};\n"))
            .commit(&format!("change {n}"));
    }
    tree.git(&["tag", "v0"]);
    tree.git(&["tag", "-a", "v1", "-m", "a tag with words"]);
    tree.git(&["tag", "-a", "v1-again", "v1", "-m", "a tag of a tag"]);
    // A branch, and a merge.
    tree.git(&["checkout", "-qb", "topic/x", "HEAD~6"]);
    let tree = tree
        .file("large", &other)
        .file("from topic", "here\n")
        .commit("on the branch");
    tree.git(&["checkout", "-q", "main"]);
    tree.git(&["merge", "-q", "--no-ff", "topic/x", "-m", "merge"]);
    tree.git(&["mv", "README.md", "READ ME"]);
    let tree = tree.commit("renamed");
    // A submodule, and a mode of early versions of git.
    let tree = tree.folder("vendor/lib");
    let tip = tree.git(&["rev-parse", "HEAD"]);
    tree.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{tip},vendor/lib"),
    ]);
    tree.git(&["commit", "-qm", "submodule"]);
    let blob = object(tree.path(), "blob", "old\n");
    let old = [b"100664 old\0", &bytes_of(&blob)[..]].concat();
    let old = object(tree.path(), "tree", old);
    let commit = raw_commit(&tree, &old, "HEAD", "", "an old mode");
    tree.git(&["branch", "old-mode", &commit]);
    // An empty commit, and a signature.
    let nothing = object(tree.path(), "tree", "");
    let commit = raw_commit(&tree, &nothing, "HEAD", "", "everything is gone");
    tree.git(&["branch", "empty", &commit]);
    let whole = tree.git(&["rev-parse", "HEAD^{tree}"]);
    let signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQEzBAABCAAdFiEE\n =abcd\n \
                     -----END PGP SIGNATURE-----\n";
    let signed = raw_commit(&tree, &whole, "HEAD", signature, "signed");
    tree.git(&["merge", "-q", "--ff-only", &signed]);
    tree
}

fn raw_commit(tree: &Tree, of: &str, parent: &str, more: &str, message: &str) -> String {
    let parent = tree.git(&["rev-parse", parent]);
    let person = "Ada <ada@example.org> 1700000000 +0130";
    let raw = format!(
        "tree {of}\nparent {parent}\nauthor {person}\ncommitter {person}\n{more}\n{message}\n"
    );
    object(tree.path(), "commit", raw)
}

/// Publishes these branches of a repository, the first as default.
#[track_caller]
pub(crate) fn publish(world: &World, tree: &Path, branches: &[&str], more: &[&str]) -> Value {
    let path = tree.to_str().unwrap();
    let mut args = vec!["publish", path, "--name", "it", "--force"];
    for branch in branches {
        args.extend(["--branch", branch]);
    }
    args.extend(more);
    world.json(&args)
}

/// Exports to a new directory; returns it and the report.
#[track_caller]
fn export(world: &World, name: &str, more: &[&str]) -> (PathBuf, Value) {
    let dir = world.path().join(name);
    let args = ["export", "it", dir.to_str().unwrap()];
    let report = world.json(&[&args[..], more].concat());
    (dir, report)
}

/// Type and length of every object that refs lead to, by ID.
fn objects(repository: &Path) -> BTreeSet<String> {
    let reachable = git(repository, &["rev-list", "--all", "--objects"]);
    let reachable: BTreeSet<&str> = (reachable.lines())
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let all = git(
        repository,
        &["cat-file", "--batch-all-objects", "--batch-check"],
    );
    let known = |line: &&str| reachable.contains(line.split(' ').next().unwrap());
    let found: BTreeSet<String> = all.lines().filter(known).map(Into::into).collect();
    assert_eq!(found.len(), reachable.len(), "every object exists");
    found
}

/// Refs and their targets, including `HEAD`.
fn refs(repository: &Path, which: &[&str]) -> String {
    let format = "--format=%(objectname) %(objecttype) %(refname) %(*objectname)";
    let named = git(repository, &[&["for-each-ref", format], which].concat());
    let head = git(repository, &["rev-parse", "HEAD"]);
    format!("{head} HEAD\n{named}")
}

/// Asserts that both repositories have equal objects and refs; returns the number of
/// objects.
#[track_caller]
fn assert_exported(origin: &Path, copy: &Path) -> usize {
    assert_eq!(refs(copy, &[]), refs(origin, &["refs/heads", "refs/tags"]));
    let (expected, found) = (objects(origin), objects(copy));
    let (missing, more): (Vec<_>, Vec<_>) = (
        expected.difference(&found).take(5).collect(),
        found.difference(&expected).take(5).collect(),
    );
    assert!(
        missing.is_empty() && more.is_empty(),
        "{missing:?} {more:?}"
    );
    let complaints = |repository| git(repository, &["fsck", "--full", "--strict", "--no-dangling"]);
    assert_eq!(complaints(copy), complaints(origin));
    expected.len()
}

pub(crate) const BRANCHES: [&str; 4] = ["main", "topic/x", "old-mode", "empty"];

#[test]
fn diverse_history_is_exported_object_for_object() {
    for sha256 in [false, true] {
        let world = World::new();
        let tree = diverse_repository(sha256);
        publish(&world, tree.path(), &BRANCHES, &[]);
        let (dir, report) = export(&world, "copy", &["--check"]);
        let count = assert_exported(tree.path(), &dir);
        let counted = ["commits", "trees", "contents", "tags"];
        let counted = counted.iter().map(|what| report[*what].as_u64().unwrap());
        assert_eq!(counted.sum::<u64>(), count as u64, "{report}");
        assert_eq!(report["tags"], 2);
        assert_eq!(report["checkout"], "done");
        assert_eq!(report["shallow"], false);
        assert_same(tree.path(), &dir);
        assert_eq!(git(&dir, &["status", "--porcelain"]), "");
        assert_eq!(git(&dir, &["symbolic-ref", "HEAD"]), "refs/heads/main");
        let signed = git(&dir, &["cat-file", "commit", "HEAD"]);
        assert!(signed.contains("gpgsig -----BEGIN"), "{signed}");
    }
}

#[test]
fn exported_repository_is_usable() {
    let world = World::new();
    let tree = diverse_repository(false);
    publish(&world, tree.path(), &BRANCHES, &[]);
    let (dir, report) = export(&world, "copy.git", &["--bare"]);
    assert_eq!(report["checkout"], "bare");
    assert_eq!(git(&dir, &["rev-parse", "--is-bare-repository"]), "true");
    git(world.path(), &["clone", "-q", "copy.git", "work"]);
    let work = world.path().join("work");
    fs::write(work.join("new"), "new").unwrap();
    git(&work, &["add", "new"]);
    git(&work, &["commit", "-qm", "more"]);
    git(&work, &["push", "-q", "origin", "main"]);
    git(&dir, &["repack", "-adfq"]);
    git(&dir, &["fsck", "--full", "--strict"]);
    // It can be published, and nothing of it is new.
    git(&dir, &["update-ref", "refs/heads/main", "main^"]);
    let again = publish(&world, &dir, &BRANCHES, &[]);
    assert_eq!(again["unchanged"], true, "{again}");
}

#[test]
fn repacked_export_is_smaller_and_equal() {
    let world = World::new();
    let text: String = (0..20_000).map(|line| format!("{}\n", line * 7)).collect();
    let mut tree = Tree::new().file("a", &text).commit("first");
    for n in 0..10 {
        tree = tree.file("a", format!("{n}\n{text}")).commit("more");
    }
    publish(&world, tree.path(), &[], &[]);
    let (plain, report) = export(&world, "copy", &[]);
    let (dir, repacked) = export(&world, "copy.git", &["--bare", "--repack"]);
    for dir in [plain, dir] {
        assert_exported(tree.path(), &dir);
    }
    let bytes = |report: &Value| report["pack_bytes"].as_u64().unwrap();
    assert!(bytes(&repacked) * 2 < bytes(&report), "{repacked} {report}");
    assert_eq!(repacked["bytes"], report["bytes"]);
}

#[test]
fn export_returns_the_newest_history_after_each_push() {
    let world = World::new();
    let mut tree = diverse_repository(false);
    publish(&world, tree.path(), &BRANCHES, &[]);
    for n in 0..3 {
        tree = tree
            .file("src/lib.rs", format!("pub mod again{n};\n"))
            .noise("more noise", 300_000, n)
            .commit(&format!("later {n}"));
        tree.git(&["tag", "-a", &format!("later-{n}"), "-m", "x"]);
        publish(&world, tree.path(), &BRANCHES, &[]);
        let (dir, _) = export(&world, &format!("copy-{n}"), &[]);
        assert_exported(tree.path(), &dir);
    }
    // Rewritten history is gone.
    tree.git(&["tag", "-d", "later-1", "later-2"]);
    tree.git(&["reset", "-q", "--hard", "HEAD~2"]);
    let tree = tree.file("instead", "of it").commit("instead");
    publish(&world, tree.path(), &BRANCHES, &[]);
    let (dir, _) = export(&world, "rewritten", &[]);
    assert_exported(tree.path(), &dir);
}

#[test]
fn unpublished_branches_are_not_exported() {
    let world = World::new();
    let tree = diverse_repository(false);
    publish(&world, tree.path(), &["topic/x"], &[]);
    let (dir, _) = export(&world, "copy", &[]);
    git(&dir, &["fsck", "--full", "--strict"]);
    let format = "--format=%(refname)";
    assert_eq!(git(&dir, &["for-each-ref", format]), "refs/heads/topic/x");
    assert_eq!(git(&dir, &["symbolic-ref", "HEAD"]), "refs/heads/topic/x");
    let of = |repository| git(repository, &["rev-list", "--objects", "topic/x"]);
    assert_eq!(of(&dir), of(tree.path()));
}

#[test]
fn shallow_clone_is_exported_with_equal_depth() {
    let world = World::new();
    let tree = diverse_repository(false);
    let from = format!("file://{}", tree.path().display());
    git(
        world.path(),
        &["clone", "-q", "--depth", "3", &from, "shallow"],
    );
    let shallow = world.path().join("shallow");
    publish(&world, &shallow, &["main"], &[]);
    let (dir, report) = export(&world, "copy", &[]);
    assert_eq!(report["shallow"], true);
    git(&dir, &["fsck", "--full", "--strict"]);
    let of = |repository| git(repository, &["rev-list", "--objects", "main"]);
    assert_eq!(of(&dir), of(&shallow));
    let ends = |repository: &Path| fs::read_to_string(repository.join(".git/shallow")).unwrap();
    assert_eq!(ends(&dir), ends(&shallow));
}

#[test]
fn export_of_limited_history_is_shallow() {
    let world = World::new();
    let tree = diverse_repository(false);
    publish(&world, tree.path(), &["main"], &["--history", "5"]);
    let (dir, report) = export(&world, "copy", &[]);
    assert_eq!(report["shallow"], true);
    git(&dir, &["fsck", "--full", "--strict"]);
    let last = |repository| {
        git(
            repository,
            &["rev-list", "--first-parent", "-n", "4", "main"],
        )
    };
    assert_eq!(last(&dir), last(tree.path()));
}

#[test]
fn encrypted_history_is_exported_with_its_key() {
    let world = World::new().with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    let tree = diverse_repository(false);
    let published = publish(&world, tree.path(), &BRANCHES, &["--encrypt"]);
    let (dir, _) = export(&world, "copy", &[]);
    assert_exported(tree.path(), &dir);
    let name = published["key"]["name"].as_str().unwrap();
    let key = world.path().join("key");
    fs::write(&key, world.run(&["key", "show", name])).unwrap();
    world.run(&["key", "remove", name, "--force"]);
    let elsewhere = world.path().join("other");
    let args = ["export", "it", elsewhere.to_str().unwrap()];
    let output = world.fail(&args);
    assert!(output.contains("--key"), "{output}");
    assert!(!elsewhere.exists());
    world.run(&[&args[..], &["--key", key.to_str().unwrap()]].concat());
    assert_exported(tree.path(), &elsewhere);
}

/// Files in the directory of a world that an export could have left.
fn leftovers(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.contains("export") || name.starts_with("copy"))
        .collect()
}

#[test]
fn export_does_not_overwrite_existing_files() {
    let world = World::new();
    let tree = Tree::new().file("a", "a").commit("first");
    publish(&world, tree.path(), &[], &[]);
    let full = world.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "mine").unwrap();
    let file = full.join("file");
    for there in [&full, &file] {
        let output = world.fail(&["export", "it", there.to_str().unwrap()]);
        assert!(
            output.contains("exists and is not an empty folder"),
            "{output}"
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    // An empty directory is acceptable, and so is a missing path.
    for dir in ["empty", "not/there/yet"] {
        let dir = world.path().join(dir);
        if dir.ends_with("empty") {
            fs::create_dir(&dir).unwrap();
        }
        world.run(&["export", "it", dir.to_str().unwrap()]);
        assert_exported(tree.path(), &dir);
    }
}

#[test]
fn export_without_history_names_the_remedy() {
    let world = world_with_fixture();
    let tree = Tree::new().file("a", "a").commit("first");
    publish(&world, tree.path(), &[], &["--history", "none"]);
    let dir = world.path().join("copy");
    let dir = dir.to_str().unwrap();
    let output = world.fail(&["export", "it", dir]);
    assert!(output.contains("--history all"), "{output}");
    world.publish(Tree::new().file("a", "a").path(), "folder");
    let [first, _] = manifests("plain");
    for address in ["folder", &address_of(&first)] {
        let output = world.fail(&["export", address, dir]);
        assert!(output.contains("not published from git"), "{output}");
    }
    assert_eq!(leftovers(&world), [""; 0]);
}

#[test]
fn failed_export_leaves_nothing() {
    let world = World::new();
    let tree = diverse_repository(false);
    publish(&world, tree.path(), &BRANCHES, &[]);
    // Corrupts the middle of the blobs.
    for blob in fs::read_dir(world.blobs()).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes[half..half + 4096].fill(0);
        fs::write(&path, bytes).unwrap();
    }
    let dir = world.path().join("copy");
    world.fail(&["export", "it", dir.to_str().unwrap()]);
    assert_eq!(leftovers(&world), [""; 0]);
}

#[test]
fn interrupted_export_leaves_nothing() {
    let server = Server::start();
    let world = World::on(&server);
    let tree = diverse_repository(false);
    let published = publish(&world, tree.path(), &BRANCHES, &[]);
    // The large file takes half a minute.
    server.set_faults("method=GET,bandwidth-mbit=2");
    let dir = world.path().join("copy");
    let address = published["address"].as_str().unwrap();
    let args = [OsStr::new("export"), address.as_ref(), dir.as_os_str()];
    for with in [Signal::INT, Signal::TERM] {
        world.run(&["cache", "clear"]);
        let mut stopped = world.command(&args);
        let running = stopped.stderr(Stdio::piped()).spawn().unwrap();
        eventually("the export has begun", || !leftovers(&world).is_empty());
        signal(running.id() as i32, with);
        let done = running.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        let output = String::from_utf8(done.stderr).unwrap();
        assert!(output.contains("nothing is left"), "{output}");
        assert_eq!(leftovers(&world), [""; 0]);
    }
}

#[test]
fn export_runs_no_hooks_or_filters_of_the_repository() {
    let world = World::new();
    let ran = world.path().join("ran");
    let tree = Tree::new()
        .file(".gitattributes", "* filter=evil\n")
        .file(
            ".gitmodules",
            "[submodule \"x\"]\n\tpath = x\n\turl = -u./evil\n",
        )
        .file("a", "a")
        .commit("first");
    publish(&world, tree.path(), &[], &[]);
    // Not even if the user has a filter of that name.
    let config = format!("[filter \"evil\"]\n\tsmudge = touch '{}'\n", ran.display());
    let file = world.path().join("gitconfig");
    fs::write(&file, config).unwrap();
    let world = world.with("GIT_CONFIG_GLOBAL", file.to_str().unwrap());
    let (dir, report) = export(&world, "copy", &[]);
    assert_eq!(report["checkout"], "done");
    assert_same(tree.path(), &dir);
    assert!(!ran.exists());
}

/// With real histories if present: see `real_repositories`.
#[test]
fn real_histories_are_exported_object_for_object() {
    let Some(corpora) = std::env::var_os("WALGIT_FS_CORPORA").map(PathBuf::from) else {
        eprintln!("no corpora: WALGIT_FS_CORPORA is not set, so only made histories were tested");
        return;
    };
    let world = World::new();
    for bundle in fs::read_dir(&corpora).unwrap() {
        let bundle = bundle.unwrap().path();
        if bundle.extension().is_none_or(|e| e != "bundle") {
            continue;
        }
        let name = bundle.file_stem().unwrap().to_str().unwrap();
        let origin = world.path().join(name);
        let from = bundle.to_str().unwrap();
        git(world.path(), &["clone", "-q", "--mirror", from, name]);
        // A bundle may contain no branch.
        let head = git(&origin, &["rev-parse", "--abbrev-ref", "HEAD"]);
        let branches = git(
            &origin,
            &["for-each-ref", "--format=%(refname:short)", "refs/heads"],
        );
        let (mut branches, head): (Vec<&str>, &str) = (branches.lines().collect(), &head);
        branches.sort_by_key(|branch| *branch != head);
        publish(&world, &origin, &branches, &[]);
        let (dir, _) = export(&world, &format!("copy of {name}"), &["--bare"]);
        let count = assert_exported(&origin, &dir);
        eprintln!("{name}: {count} objects, all equal");
    }
}

#[test]
fn export_has_the_permissions_of_a_clone() {
    let world = World::new();
    let tree = Tree::new()
        .file("a/b", "x")
        .program("run", "#!/bin/sh\n")
        .commit("first");
    publish(&world, tree.path(), &[], &[]);
    for umask in ["022", "027", "077", "002"] {
        let copy = world.path().join(format!("copy-{umask}"));
        let clone = world.path().join(format!("clone-{umask}"));
        let line = format!(
            "umask {umask}; git clone -q {} {}",
            tree.path().display(),
            clone.display()
        );
        let done = world.run_after(&line, &["export", "it", copy.to_str().unwrap()]);
        assert!(done.status.success(), "{done:?}");
        let mode = |dir: &Path, name: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o7777
        };
        for name in [
            "",
            "a",
            "a/b",
            "run",
            ".git",
            ".git/HEAD",
            ".git/index",
            ".git/objects",
            ".git/refs",
        ] {
            assert_eq!(mode(&copy, name), mode(&clone, name), "{umask} {name}");
        }
        let packs = fs::read_dir(copy.join(".git/objects/pack")).unwrap();
        for pack in packs {
            let name = pack.unwrap().path();
            let bits = mode(Path::new("/"), name.to_str().unwrap())
                & u32::from_str_radix(umask, 8).unwrap();
            assert_eq!(bits, 0, "{name:?}");
        }
    }
    // An existing directory keeps its permissions.
    let there = world.path().join("there");
    fs::create_dir(&there).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&there, fs::Permissions::from_mode(0o750)).unwrap();
    world.run(&["export", "it", there.to_str().unwrap()]);
    assert_eq!(
        fs::metadata(&there).unwrap().permissions().mode() & 0o7777,
        0o750
    );
}
