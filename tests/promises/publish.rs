//! Publishing loses nothing, stores nothing twice, and can be interrupted.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use walgit_format::chunk::BlobId;
use walgit_fs::publish::{NoProgress, PublishError, PublishOptions, Published, publish};
use walgit_fs::repo::Loader;
use walrus_client::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, LocalDir, PutOptions, PutReceipt, StoreError,
    StoreLayer,
};

use crate::support::tree::{assert_same, noise};
use crate::support::{Tree, World, block_on, loader};

fn diverse_tree() -> Tree {
    let deep = (0..150).map(|n| format!("d{n}/")).collect::<String>();
    Tree::new()
        .file("README.md", "# hello\n")
        .file("empty", "")
        .file(b"name-\xff\xfe-not-utf8".as_slice(), "bytes")
        .file("ünïcode file.txt", "text".repeat(500))
        .file(format!("{deep}bottom"), "deep down")
        .file("same/one", "shared content ".repeat(100))
        .file("same/two", "shared content ".repeat(100))
        .program("bin/run", "#!/bin/sh\necho hi\n")
        .link("bin/link", "../README.md")
        .link("dangling", "/no/such/place")
        .noise("noise", 300_000, 1)
}

#[test]
fn plain_folder_round_trips() {
    let world = World::new();
    let tree = diverse_tree()
        .folder("empty-folder")
        .file("sub/.git/config", "hidden");
    world.publish(tree.path(), "it");
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn published_git_repository_equals_its_checkout() {
    let world = World::new();
    let tree = diverse_tree()
        .commit("first")
        .file("untracked", "not published");
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    fs::remove_file(tree.path().join("untracked")).unwrap();
    assert_same(tree.path(), &dir);
    assert!(world.run(&["log", "it"]).contains("first"));
}

#[test]
fn bare_repository_can_be_published() {
    let world = World::new();
    let tree = diverse_tree().commit("first");
    let bare = world.path().join("bare.git");
    tree.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    world.publish(&bare, "it");
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn submodule_is_an_empty_directory() {
    let world = World::new();
    let tree = Tree::new().file("a", "a").commit("first");
    let id = tree.git(&["rev-parse", "HEAD"]);
    tree.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{id},vendor/lib"),
    ]);
    tree.git(&["commit", "-qm", "submodule"]);
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    assert_eq!(fs::read_dir(dir.join("vendor/lib")).unwrap().count(), 0);
    assert!(fs::metadata(dir.join("vendor/lib")).unwrap().is_dir());
}

#[test]
fn branches_and_tags_are_kept_by_name() {
    let world = World::new();
    let tree = Tree::new().file("a", "main").commit("first");
    tree.git(&["tag", "v1"]);
    tree.git(&["checkout", "-qb", "topic/x"]);
    let tree = tree.file("a", "topic").commit("second");
    tree.git(&["checkout", "-q", "main"]);
    let path = tree.path().to_str().unwrap();
    world.run(&[
        "publish", path, "--name", "it", "--branch", "main", "--branch", "topic/x",
    ]);
    let refs = world.run(&["refs", "it"]);
    assert!(refs.contains("topic/x") && refs.contains("v1") && refs.contains("default"));
    let output = world.fail(&["publish", path, "--name", "it", "--branch", "nope"]);
    assert!(output.contains("topic/x"), "{output}");
}

#[test]
fn republishing_unchanged_content_stores_nothing() {
    for tree in [
        diverse_tree().noise("large", 20 << 20, 7),
        diverse_tree().commit("first"),
    ] {
        let world = World::new();
        let first = world.publish(tree.path(), "it");
        let again = world.publish(tree.path(), "it");
        assert_eq!(again["unchanged"], true);
        assert_eq!(again["bytes_stored"], 0);
        assert_eq!(again["address"], first["address"]);
        assert_eq!(again["files"], first["files"]);
        // Under another name everything is encoded again: the blobs of a git repository
        // depend on nothing else; a folder gets a new commit, unless it is of the same
        // second.
        let elsewhere = world.publish(tree.path(), "other");
        match tree.path().join(".git").exists() {
            true => assert_eq!(elsewhere["bytes_stored"], 0),
            false => assert!(
                elsewhere["blobs_uploaded"].as_u64() <= Some(1),
                "{elsewhere}"
            ),
        }
    }
}

#[test]
fn small_change_stores_one_small_blob() {
    let world = World::new();
    for git in [false, true] {
        let mut tree = diverse_tree().noise("large", 3 << 20, 7);
        if git {
            tree = tree.commit("first");
        }
        world.publish(tree.path(), "it");
        tree = tree.file("same/one", "changed");
        if git {
            tree = tree.commit("second");
        }
        let changed = world.publish(tree.path(), "it");
        assert_eq!(changed["blobs_uploaded"], 1, "{changed}");
        // 64 KiB is the minimum length of a blob.
        assert_eq!(changed["bytes_stored"], 65_536, "{changed}");
        let dir = world.mount("it");
        assert_same(tree.path(), &dir);
        world.unmount(&dir);
    }
}

#[test]
fn large_files_span_packs_and_incompressible_files_get_their_own_blob() {
    let world = World::new();
    let text: String = (0..2_500_000u32)
        .map(|n| format!("line {}\n", n.wrapping_mul(2_654_435_761)))
        .collect();
    let tree = Tree::new()
        .file("text", &text)
        .noise("a-noise", 9 << 20, 1)
        .noise("larger-than-a-blob", 23 << 20, 2)
        .file("small", "small");
    let published = world.publish(tree.path(), "it");
    assert!(published["blobs_uploaded"].as_u64().unwrap() >= 4);
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    let tier = |name: &str| {
        let value = xattr::get(dir.join(name), "user.walgit.tier")
            .unwrap()
            .unwrap();
        String::from_utf8(value).unwrap()
    };
    assert_eq!(tier("a-noise"), "walrus");
    assert_eq!(tier("text"), "chunked");
    assert_eq!(tier("small"), "inline");
    // The plain blob is the file, so any HTTP client can read it.
    let id = xattr::get(dir.join("a-noise"), "user.walgit.blob")
        .unwrap()
        .unwrap();
    let blob = world.blobs().join(String::from_utf8(id).unwrap());
    assert_eq!(fs::read(blob).unwrap(), noise(9 << 20, 1));
}

#[test]
fn nodes_beyond_the_head_blob_are_stored_in_earlier_blobs() {
    let world = World::new().config("[networks.small]\ndir = \"/nonexistent\"\n");
    let dir = world.path().join("small");
    let world = world.config(&format!(
        "network = \"small\"\n[networks.small]\ndir = {dir:?}\nmax_body = 100000\n"
    ));
    let mut tree = Tree::new();
    for n in 0..3000 {
        let content = format!("{n} ").repeat(200);
        tree = tree.file(format!("d{}/f{n}", n % 50), content);
    }
    world.publish(tree.path(), "it");
    for blob in fs::read_dir(dir.join("blobs")).unwrap() {
        assert!(blob.unwrap().metadata().unwrap().len() <= 100_000);
    }
    assert_same(tree.path(), &world.mount("it"));
}

#[test]
fn unpublishable_input_is_reported_by_name() {
    let world = World::new();
    let nothing = world.fail(&["publish", "/no/such/folder"]);
    assert!(nothing.contains("/no/such/folder"));
    let unborn = Tree::new();
    unborn.git(&["init", "-q"]);
    let output = world.fail(&[
        OsStr::new("publish"),
        unborn.path().as_os_str(),
        "--name".as_ref(),
        "x".as_ref(),
    ]);
    assert!(output.contains("commit something first"), "{output}");
    let plain = Tree::new().file("a", "a");
    let output = world.fail(&[
        OsStr::new("publish"),
        plain.path().as_os_str(),
        "--name".as_ref(),
        "x".as_ref(),
        "--branch".as_ref(),
        "main".as_ref(),
    ]);
    assert!(output.contains("not a git repository"), "{output}");
    let pipe = Tree::new().file("a", "a");
    let status = std::process::Command::new("mkfifo")
        .arg(pipe.path().join("pipe"))
        .status();
    assert!(status.unwrap().success());
    let published = world.publish(pipe.path(), "x");
    assert!(published["warnings"][0].as_str().unwrap().contains("pipe"));
}

#[test]
fn fresh_publish_stores_everything_if_earlier_blobs_are_lost() {
    let world = World::new();
    let tree = diverse_tree();
    world.publish(tree.path(), "it");
    for blob in fs::read_dir(world.blobs()).unwrap() {
        fs::remove_file(blob.unwrap().path()).unwrap();
    }
    world.run(&["cache", "clear"]);
    let args = ["publish", tree.path().to_str().unwrap(), "--name", "it"];
    let output = world.fail(&args);
    assert!(
        output.contains("no longer stored") && output.contains("--fresh"),
        "{output}"
    );
    world.run(&[&args[..], &["--fresh"]].concat());
    assert_same(tree.path(), &world.mount("it"));
}

/// A store that fails at the n-th upload.
#[derive(Debug)]
struct FailingStore {
    inner: LocalDir,
    left: AtomicUsize,
    uploads: AtomicUsize,
}

impl StoreLayer for FailingStore {
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&self.inner)
    }
}

impl BlobReader for FailingStore {}

#[async_trait]
impl BlobWriter for FailingStore {
    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<PutReceipt, StoreError> {
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_err() {
            return Err(StoreError::Unavailable {
                place: "the test".into(),
                why: "pulled the plug".into(),
            });
        }
        self.uploads.fetch_add(1, Ordering::SeqCst);
        self.inner.put(blob, body, options).await
    }
}

impl BlobLifetimes for FailingStore {}

fn publish_into(
    store: &Arc<FailingStore>,
    loader: &Arc<Loader>,
    source: &Path,
) -> Result<Published, PublishError> {
    let store: Arc<dyn BlobStore> = store.clone();
    let options = PublishOptions::default();
    block_on(publish(
        source,
        &options,
        store,
        loader.clone(),
        Arc::new(NoProgress),
    ))
}

#[test]
fn publish_interrupted_at_any_upload_resumes_without_duplicate_uploads() {
    let tree = Tree::new()
        .noise("a", 3_500_000, 1)
        .noise("b", 2_000_000, 2)
        .commit("first");
    let (loader, scratch) = loader();
    let store = |name: &str, left| {
        Arc::new(FailingStore {
            inner: LocalDir::open(&scratch.path().join(name), 1 << 20).unwrap(),
            left: AtomicUsize::new(left),
            uploads: AtomicUsize::new(0),
        })
    };
    let whole = store("whole", usize::MAX);
    let published = publish_into(&whole, &loader, tree.path()).unwrap();
    let total = whole.uploads.load(Ordering::SeqCst);
    assert!(total >= 5, "{total} blobs");
    for stop in 0..total {
        let store = store(&format!("stop-{stop}"), stop);
        let error = publish_into(&store, &loader, tree.path()).unwrap_err();
        assert!(error.to_string().contains("pulled the plug"), "{error}");
        assert!(
            !store.inner.blob_path(published.blob).exists(),
            "the head is uploaded last"
        );
        store.left.store(usize::MAX, Ordering::SeqCst);
        let resumed = publish_into(&store, &loader, tree.path()).unwrap();
        assert_eq!(
            resumed.blob, published.blob,
            "equal input gives equal bytes"
        );
        assert_eq!(
            store.uploads.load(Ordering::SeqCst),
            total,
            "nothing is uploaded twice"
        );
    }
}

#[test]
fn removed_current_directory_is_not_published_as_empty() {
    let world = World::new();
    let dir = world.path().join("removed");
    fs::create_dir(&dir).unwrap();
    let line = format!("cd '{0}' && rmdir '{0}'", dir.display());
    for path in [".", "./", "/proc/self/cwd"] {
        let done = world.run_after(&line, &["publish", path, "--name", "q"]);
        let output = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{output}");
        assert!(output.contains("was removed"), "{output}");
        fs::create_dir_all(&dir).unwrap();
    }
    let names = world.json(&["refs"]);
    assert!(names.as_array().unwrap().is_empty(), "{names}");
}
