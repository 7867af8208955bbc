//! Everything that git accepts is published unchanged: malformed commits, trees and
//! tags, replaced objects, alternates. The reference is `git clone`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::support::tree::git;
use crate::support::{Tree, World};

/// Writes a raw object, valid or not; returns its ID.
fn object(repository: &Path, kind: &str, raw: impl AsRef<[u8]>) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(raw.as_ref()).unwrap();
    let path = file.path().to_str().unwrap();
    let args = ["hash-object", "-t", kind, "-w", "--literally", path];
    git(repository, &args)
}

/// An entry of a raw tree.
fn entry(mode: &str, name: impl AsRef<[u8]>, id: &str) -> Vec<u8> {
    let digits = (0..id.len()).step_by(2);
    let id = digits.map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap());
    let mut raw = [mode.as_bytes(), b" ", name.as_ref(), b"\0"].concat();
    raw.extend(id);
    raw
}

/// The real objects that refs lead to: type, ID, size.
fn objects(repository: &Path) -> BTreeSet<String> {
    let real = |args: &[&str]| git(repository, &[&["--no-replace-objects"], args].concat());
    let listed = real(&["rev-list", "--all", "--objects"]);
    let ids = listed.lines().map(|line| line.split(' ').next().unwrap());
    ids.map(|id| format!("{id} {}", real(&["cat-file", "-t", id])))
        .collect()
}

fn refs(repository: &Path) -> String {
    let format = "--format=%(objectname) %(refname)";
    let all = ["for-each-ref", format, "refs/heads", "refs/tags"];
    git(repository, &all)
}

/// Publishes these branches, exports them, and compares with the repository.
#[track_caller]
fn assert_round_trip(world: &World, repository: &Path, branches: &[&str]) -> PathBuf {
    let mut args = vec!["publish", repository.to_str().unwrap(), "--name", "it"];
    for branch in branches {
        args.extend(["--branch", branch]);
    }
    world.run(&args);
    let copy = world.path().join("copy.git");
    let _ = fs::remove_dir_all(&copy);
    world.run(&["export", "it", copy.to_str().unwrap(), "--bare"]);
    assert_eq!(refs(&copy), refs(repository));
    assert_eq!(objects(&copy), objects(repository));
    assert!(world.run(&["fsck", "it"]).contains("sound"));
    copy
}

/// Contents after tree and parents of commits that git accepts.
const COMMITS: &[&[u8]] = &[
    b"author A <a@x\n> 1 +0000\ncommitter A <a@x\n> 1 +0000\n\nbroken lines\n",
    b"author A a@x 1 +0000\ncommitter A a@x 1 +0000\n\nno brackets\n",
    b"author A <a@x>\ncommitter A <a@x>\n\nno time\n",
    b"author A <a@x> 99999999999999999999999 +0000\ncommitter A <a@x> 1 +99999999\n\nhuge\n",
    b"author A <a@x> -7 -0000\ncommitter A <a@x> -7 zone\n\nnegative\n",
    b"committer A <a@x> 1 +0000\n\nno author\n",
    b"author A <a@x> 1 +0000\n\nno committer\n",
    b"\nno header at all\n",
    b"unknown header\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nunknown\n",
    b"author A <a@x> 1 +0000\nauthor B <b@x> 2 +0000\ncommitter A <a@x> 1 +0000\ncommitter B <b@x> 2 +0000\n\ntwice\n",
    b"author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nNUL \0 and CR \r\n",
    b"author \xff\xfe <\xe9@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nnot \xff UTF-8\n",
    b"author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nno final line feed",
    b"author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\n",
    b"author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n",
    b"author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\nencoding latin1\ngpgsig -----BEGIN\n \n abc\n -----END\ngpgsig-sha256 x\n\nsigned\n",
    b"author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\nmergetag object 1234\n type commit\n tag x\n\nmergetag\n",
    b"author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\ngpgsig x\ngpgsig y\n z\n\ntwo signatures\n",
];

#[test]
fn malformed_commits_round_trip_byte_for_byte() {
    let world = World::new();
    let tree = Tree::new().file("a", "text\n").commit("first");
    let whole = tree.git(&["rev-parse", "HEAD^{tree}"]);
    let mut at = tree.git(&["rev-parse", "HEAD"]);
    let mut branches: Vec<String> = Vec::new();
    let mut ids = Vec::new();
    for (number, rest) in COMMITS.iter().enumerate() {
        let head = format!("tree {whole}\nparent {at}\n");
        at = object(tree.path(), "commit", [head.as_bytes(), rest].concat());
        ids.push(at.clone());
        // Each is a tip, and all are in one history.
        branches.push(format!("b{number}"));
        tree.git(&["update-ref", &format!("refs/heads/b{number}"), &at]);
    }
    tree.git(&["update-ref", "refs/heads/main", &at]);
    let cloned = world.path().join("cloned");
    git(
        world.path(),
        &[
            "clone",
            "-q",
            tree.path().to_str().unwrap(),
            cloned.to_str().unwrap(),
        ],
    );
    let mut all = vec!["main"];
    all.extend(branches.iter().map(String::as_str));
    let copy = assert_round_trip(&world, tree.path(), &all);
    for (id, rest) in ids.iter().zip(COMMITS) {
        let raw = git_bytes(&copy, &["cat-file", "commit", id]);
        assert!(raw.ends_with(rest), "{id}");
    }
    let log = world.json(&["log", "it", "--count", "100"]);
    let logged = log.as_array().unwrap();
    assert_eq!(logged.len(), COMMITS.len() + 1, "{log}");
    let dir = world.mount("it");
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"text\n");
    for id in &ids {
        let shown = dir.join(".walgit/commits").join(id).join("a");
        assert_eq!(fs::read(shown).unwrap(), b"text\n", "{id}");
    }
    for branch in &branches {
        let shown = dir.join(".walgit/branches").join(branch).join("a");
        assert_eq!(fs::read(shown).unwrap(), b"text\n", "{branch}");
    }
    world.unmount(&dir);
    // Nothing of it is new.
    assert_eq!(publish(&world, tree.path(), &all)["unchanged"], true);
}

fn git_bytes(repository: &Path, args: &[&str]) -> Vec<u8> {
    let done = std::process::Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(args)
        .output()
        .unwrap();
    assert!(done.status.success());
    done.stdout
}

fn publish(world: &World, repository: &Path, branches: &[&str]) -> serde_json::Value {
    let mut args = vec!["publish", repository.to_str().unwrap(), "--name", "it"];
    for branch in branches {
        args.extend(["--branch", branch]);
    }
    world.json(&args)
}

/// A commit of a raw tree, on a separate branch.
fn on_branch(tree: &Tree, branch: &str, raw: &[u8]) -> String {
    let whole = object(tree.path(), "tree", raw);
    let commit = tree.git(&["commit-tree", &whole, "-p", "HEAD", "-m", branch]);
    tree.git(&["update-ref", &format!("refs/heads/{branch}"), &commit]);
    commit
}

#[test]
fn unusual_trees_round_trip_and_are_shown_as_git_checks_them_out() {
    let world = World::new();
    let tree = Tree::new().file("a", "text\n").commit("first");
    let one = object(tree.path(), "blob", "one\n");
    let two = object(tree.path(), "blob", "two\n");
    let inner = object(tree.path(), "tree", entry("100644", "f", &one));
    let tip = tree.git(&["rev-parse", "HEAD"]);
    let odd = [
        entry("100664", "z", &one),
        entry("0100755", "b", &two),
        entry("040000", "d", &inner),
        entry("40755", "e", &inner),
        entry("100600", "c", &one),
        entry("160000", "module", &tip),
        entry("120777", "link", &one),
    ]
    .concat();
    on_branch(&tree, "odd", &odd);
    let twice = [
        entry("100644", "x", &one),
        entry("100644", "x", &two),
        entry("100644", "y", &one),
        entry("40000", "y", &inner),
    ]
    .concat();
    on_branch(&tree, "twice", &twice);
    for branch in ["odd", "twice"] {
        let whole = tree.git(&["rev-parse", &format!("{branch}^{{tree}}")]);
        let parents = ["-p", branch, "-p", "main"];
        let args = [&["commit-tree", &whole, "-m", "on top"], &parents[..]].concat();
        let commit = tree.git(&args);
        tree.git(&["update-ref", "refs/heads/main", &commit]);
    }
    let branches = ["main", "odd", "twice"];
    assert_round_trip(&world, tree.path(), &branches);
    let dir = world.mount("it");
    let clone = world.path().join("clone");
    for branch in ["odd", "twice"] {
        let _ = fs::remove_dir_all(&clone);
        let from = tree.path().to_str().unwrap();
        git(
            world.path(),
            &["clone", "-q", "-b", branch, from, clone.to_str().unwrap()],
        );
        let id = tree.git(&["rev-parse", branch]);
        for shown in [format!("branches/{branch}"), format!("commits/{id}")] {
            crate::support::tree::assert_same(&clone, &dir.join(".walgit").join(shown));
        }
    }
    world.unmount(&dir);
    assert_eq!(publish(&world, tree.path(), &branches)["unchanged"], true);
}

#[test]
fn tree_that_git_cannot_check_out_is_refused_by_path_but_kept_in_history() {
    let world = World::new();
    let tree = Tree::new().file("a", "text\n").commit("first");
    let one = object(tree.path(), "blob", "one\n");
    let config = object(tree.path(), "tree", entry("100644", "config", &one));
    let inner = object(tree.path(), "tree", entry("40000", ".git", &config));
    let bad = on_branch(&tree, "bad", &entry("40000", "sub", &inner));
    let output = world.fail(&[
        "publish",
        tree.path().to_str().unwrap(),
        "--name",
        "it",
        "--branch",
        "bad",
    ]);
    assert!(
        output.contains(&bad) && output.contains("sub/.git"),
        "{output}"
    );
    let whole = tree.git(&["rev-parse", "main^{tree}"]);
    let top = tree.git(&["commit-tree", &whole, "-p", &bad, "-m", "without it"]);
    tree.git(&["update-ref", "refs/heads/main", &top]);
    tree.git(&["branch", "-qD", "bad"]);
    assert_round_trip(&world, tree.path(), &["main"]);
}

#[test]
fn tags_of_any_object_type_round_trip() {
    let world = World::new();
    let mut tree = Tree::new();
    for n in 0..3 {
        tree = tree.file("a", format!("{n}\n")).commit("more");
    }
    let tree = tree.file("a", "text\n").commit("last");
    let tip = tree.git(&["rev-parse", "HEAD"]);
    let loose = object(tree.path(), "blob", "in no commit\n");
    let apart = object(tree.path(), "tree", entry("100644", "apart", &loose));
    let tag = |kind: &str, id: &str, name: &str, rest: &str| {
        let raw = format!("object {id}\ntype {kind}\ntag {name}\n{rest}");
        let tag = object(tree.path(), "tag", raw);
        tree.git(&["update-ref", &format!("refs/tags/{name}"), &tag]);
        tag
    };
    let first = tag("commit", &tip, "no-tagger", "\nwords\n");
    tag("commit", &tip, "no-message", "tagger A <a@x> 1 +0000\n");
    tag(
        "commit",
        &tip,
        "broken-tagger",
        "tagger A <a@x\n> 1 +0000\n\nx\n",
    );
    tag("tag", &first, "of-a-tag", "tagger A <a@x> 1 +0000\n\nx\n");
    let of_tree = tag("tree", &apart, "of-a-tree", "tagger A <a@x> 1 +0000\n\nx\n");
    tag("blob", &loose, "of-a-blob", "tagger A <a@x> 1 +0000\n\nx\n");
    tag("tag", &of_tree, "of-a-tag-of-a-tree", "\nx\n");
    tree.git(&["update-ref", "refs/tags/plain-tree", &apart]);
    tree.git(&["update-ref", "refs/tags/plain-blob", &loose]);
    let parent = tree.git(&["rev-parse", "HEAD^{tree}"]);
    tree.git(&["update-ref", "refs/tags/tree-of-the-tip", &parent]);
    assert_round_trip(&world, tree.path(), &["main"]);
    // Again with more: targets of tags are neither lost nor stored again.
    let tree = tree.file("b", "more\n").commit("second");
    let report = publish(&world, tree.path(), &["main"]);
    assert_eq!(report["history"]["new_objects"], 2, "{report}");
    assert_round_trip(&world, tree.path(), &["main"]);
    assert_eq!(publish(&world, tree.path(), &["main"])["unchanged"], true);
    // Nor if the complete history is written again.
    let mut tree = tree;
    for n in 0..5 {
        tree = tree.file("b", format!("{n}\n")).commit("more");
    }
    assert_round_trip(&world, tree.path(), &["main"]);
    let refs = world.json(&["refs", "it"]);
    let names: Vec<_> = refs
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert!(names.iter().any(|name| *name == "of-a-tag"), "{refs}");
    let dir = world.mount("it");
    assert_eq!(
        fs::read(dir.join(".walgit/tags/of-a-tag/a")).unwrap(),
        b"text\n"
    );
}

#[test]
fn publish_ignores_git_replacement_objects() {
    let world = World::new();
    let mut tree = Tree::new();
    for n in 0..4 {
        tree = tree.file("a", format!("{n}\n")).commit(&format!("c{n}"));
    }
    // A commit, a tree and a content that are replaced; a parent that is grafted away.
    let other = tree.git(&["commit-tree", "HEAD~1^{tree}", "-m", "other"]);
    tree.git(&["replace", "HEAD~1", &other]);
    let (old, new) = (
        tree.git(&["rev-parse", "HEAD:a"]),
        object(tree.path(), "blob", "lie\n"),
    );
    tree.git(&["replace", &old, &new]);
    let cut = tree.git(&["--no-replace-objects", "rev-parse", "HEAD~2"]);
    fs::write(tree.path().join(".git/info/grafts"), format!("{cut}\n")).unwrap();
    let world = world.with("GIT_REPLACE_REF_BASE", "refs/replace/");
    let copy = world.path().join("copy");
    world.run(&["publish", tree.path().to_str().unwrap(), "--name", "it"]);
    world.run(&["export", "it", copy.to_str().unwrap()]);
    fs::remove_file(tree.path().join(".git/info/grafts")).unwrap();
    let real = |dir: &Path| {
        git(
            dir,
            &["--no-replace-objects", "rev-list", "--objects", "main"],
        )
    };
    assert_eq!(real(&copy), real(tree.path()));
    let dir = world.mount("it");
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"3\n");
    let log = world.json(&["log", "it"]);
    assert_eq!(log.as_array().unwrap().len(), 4, "{log}");
}

#[test]
fn publish_ignores_git_environment_variables() {
    let tree = Tree::new().file("a", "right\n").commit("right");
    let other = Tree::new().file("a", "wrong\n").commit("wrong");
    let git_dir = other.path().join(".git");
    let objects = git_dir.join("objects");
    let world = World::new()
        .with("GIT_DIR", git_dir.to_str().unwrap())
        .with("GIT_WORK_TREE", other.path().to_str().unwrap())
        .with("GIT_OBJECT_DIRECTORY", objects.to_str().unwrap())
        .with("GIT_COMMON_DIR", git_dir.to_str().unwrap())
        .with("GIT_SHALLOW_FILE", "/nonexistent")
        .with("GIT_NAMESPACE", "elsewhere");
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"right\n");
}

#[test]
fn objects_of_alternates_are_published() {
    let world = World::new();
    let tree = Tree::new().file("a", "text\n").commit("first");
    let from = tree.path().to_str().unwrap();
    let borrower = world.path().join("borrower");
    git(
        world.path(),
        &["clone", "-q", "--shared", from, borrower.to_str().unwrap()],
    );
    fs::write(borrower.join("b"), "more\n").unwrap();
    git(&borrower, &["add", "-A"]);
    git(&borrower, &["commit", "-qm", "second"]);
    assert_round_trip(&world, &borrower, &["main"]);
}

#[test]
fn history_ends_at_the_shallow_boundary() {
    let world = World::new();
    let mut tree = Tree::new();
    for n in 0..4 {
        tree = tree.file("a", format!("{n}\n")).commit(&format!("c{n}"));
    }
    // Made shallow later: older objects exist, but one of them is missing.
    let end = tree.git(&["rev-parse", "HEAD~1"]);
    let gone = tree.git(&["rev-parse", "HEAD~3:a"]);
    fs::write(tree.path().join(".git/shallow"), format!("{end}\n")).unwrap();
    fs::remove_file(loose_object_path(tree.path(), &gone)).unwrap();
    world.publish(tree.path(), "it");
    let copy = world.path().join("copy");
    world.run(&["export", "it", copy.to_str().unwrap()]);
    let of = |dir: &Path| git(dir, &["rev-list", "--objects", "main"]);
    assert_eq!(of(&copy), of(tree.path()));
}

/// The file of a loose object.
fn loose_object_path(repository: &Path, id: &str) -> PathBuf {
    let (folder, name) = id.split_at(2);
    repository.join(".git/objects").join(folder).join(name)
}

#[test]
fn publish_reports_missing_and_corrupt_git_objects() {
    let world = World::new();
    let tree = Tree::new().file("a", "old\n").commit("first");
    let old = tree.git(&["rev-parse", "HEAD:a"]);
    let tree = tree.file("a", "new\n").file("c", "kept\n").commit("second");
    let new = tree.git(&["rev-parse", "HEAD:a"]);
    let path = tree.path().to_str().unwrap();
    // The bytes of another object under an ID: git may not detect it.
    for id in [&old, &new] {
        let file = loose_object_path(tree.path(), id);
        let good = fs::read(&file).unwrap();
        let other = tree.git(&["rev-parse", "HEAD:c"]);
        fs::remove_file(&file).unwrap();
        fs::copy(loose_object_path(tree.path(), &other), &file).unwrap();
        let output = world.fail(&["publish", path, "--name", "it"]);
        assert!(
            output.contains(id) && output.contains("damaged"),
            "{output}"
        );
        fs::remove_file(&file).unwrap();
        let output = world.fail(&["publish", path, "--name", "it"]);
        assert!(
            output.contains(id) && output.contains("missing"),
            "{output}"
        );
        fs::write(&file, good).unwrap();
    }
    assert_round_trip(&world, tree.path(), &["main"]);
}

#[test]
fn duplicate_branch_arguments_publish_once() {
    let world = World::new();
    let tree = Tree::new().file("a", "text\n").commit("first");
    for name in ["tags/main", "heads/Main", "heads/heads/main"] {
        tree.git(&["update-ref", &format!("refs/{name}"), "HEAD"]);
    }
    let spellings = [
        "main",
        "refs/heads/main",
        "main",
        "heads/main",
        "Main",
        "heads/main",
    ];
    publish(&world, tree.path(), &spellings);
    let refs = world.json(&["refs", "it"]);
    let names = refs.as_array().unwrap().iter();
    let names: Vec<_> = names
        .map(|it| (it["kind"].as_str().unwrap(), it["name"].as_str().unwrap()))
        .collect();
    let branches = [
        ("branch", "Main"),
        ("branch", "heads/main"),
        ("branch", "main"),
    ];
    assert_eq!(names, [&branches[..], &[("tag", "main")]].concat());
    let dir = world.mount("it");
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"text\n");
}
