//! Repositories that are objects on the Sui chain are mounted by object ID, in both
//! layouts.

use std::fs;

use serde_json::json;

use crate::support::manifests::{Commit, fixture, manifests, store, world_with_fixture};
use crate::support::sui_node::{SuiNode, full_id};
use crate::support::tree::assert_same;
use crate::support::{Tree, World, eventually};

/// A world that uses this node.
fn world_on(chain: &SuiNode, world: World) -> World {
    world.with("WALGIT_FS_SUI_RPC", &chain.url)
}

/// An object of a file with inline content.
fn inline(chain: &SuiNode, id: &str, content: &str) {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(content);
    let header = format!("blob {}\0{content}", content.len());
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, header.as_bytes());
    let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let fields = json!({
        "id": full_id(id), "hash": hash, "size": content.len().to_string(), "storage_type": 0,
        "walrus_blob_id": null, "inline_content": encoded, "ref_count": "1",
    });
    chain.set_object(id, "GitBlobObject", fields);
}

fn tree(chain: &SuiNode, id: &str, entries: &[(&str, u8, &str)]) {
    let entries: Vec<_> = (entries.iter())
        .map(|(name, kind, to)| {
            json!({"name": name, "entry_type": kind, "object_id": full_id(to), "hash": "00"})
        })
        .collect();
    chain.set_object(
        id,
        "GitTreeObject",
        json!({"id": full_id(id), "hash": "00", "entries": entries}),
    );
}

fn commit(chain: &SuiNode, id: &str, tree: &str, parent: Option<&str>, message: &str) {
    let fields = json!({
        "id": full_id(id), "hash": "00", "tree_id": full_id(tree), "parent_commit_id": parent.map(full_id),
        "author": full_id("0xa11ce"), "message": message, "timestamp": "1748080800000",
        "repository_id": full_id("0x1"),
    });
    chain.set_object(id, "GitCommitObject", fields);
}

fn repository(chain: &SuiNode, id: &str, head: &str) {
    let fields = json!({
        "id": full_id(id), "name": "hello", "description": "", "owner": full_id("0xa11ce"),
        "default_branch": "main", "head_commit_id": full_id(head),
        "branches": {"id": full_id("0xb"), "size": "2"}, "tags": {"id": full_id("0xc"), "size": "1"},
        "collaborators": [], "is_public": true, "created_at": "1", "updated_at": "2",
        "total_commits": "2", "total_size": "9",
    });
    chain.set_object(id, "Repository", fields);
}

/// A repository of commit objects: two branches, a tag, content of both tiers.
fn objects(chain: &SuiNode, world: &World) -> Tree {
    let big = crate::support::tree::noise(50_000, 8);
    let blob = store(&world.blobs(), &big);
    let fields = json!({
        "id": full_id("0x21"), "hash": blake3::hash(b"another hash").to_hex().to_string(),
        "size": "50000", "storage_type": 1, "walrus_blob_id": blob, "inline_content": null,
        "ref_count": "1",
    });
    // Its SHA-256 does not match: never to be shown.
    chain.set_object("0x21", "GitBlobObject", fields.clone());
    let sha256 = ring::digest::digest(&ring::digest::SHA256, &big);
    let sha256: String = sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let mut good = fields;
    good["hash"] = json!(sha256);
    chain.set_object("0x22", "GitBlobObject", good);
    inline(chain, "0x20", "hello\n");
    inline(chain, "0x23", "old\n");
    tree(
        chain,
        "0x31",
        &[("big.bin", 0, "0x22"), ("bad.bin", 0, "0x21")],
    );
    tree(chain, "0x30", &[("README", 0, "0x20"), ("deep", 1, "0x31")]);
    tree(chain, "0x32", &[("README", 0, "0x23")]);
    commit(chain, "0x40", "0x32", None, "first\n");
    commit(chain, "0x41", "0x30", Some("0x40"), "second\n");
    repository(chain, "0x1", "0x41");
    chain.set_table_entry("0xb", "main", "0x41");
    chain.set_table_entry("0xb", "feature/x", "0x40");
    chain.set_table_entry("0xc", "v1", "0x40");
    Tree::new()
        .file("README", "hello\n")
        .file("deep/big.bin", big)
}

#[test]
fn chain_repository_with_a_manifest_is_mounted() {
    let chain = SuiNode::start();
    let world = world_on(&chain, world_with_fixture());
    let [_, second] = manifests("plain");
    let fields = json!({
        "id": full_id("0x7"), "latest_commit_manifest_cid": second, "encrypted_dek_cid": null,
        "seal_policy_id": null, "default_branch": "main",
    });
    chain.set_object("0x7", "Repository", fields);
    let dir = world.mount("sui://0x7");
    assert_same(&fixture("expected/2"), &dir);
    assert_same(&fixture("expected/2"), &dir.join(".walgit/branches/main"));
    assert_same(&fixture("expected/2"), &world.mount("sui://0x7/main"));
    let other = world.mountpoint();
    let refused = world.fail(&["mount", "sui://0x7/dev", other.to_str().unwrap()]);
    assert!(
        refused.contains("dev") && refused.contains("main"),
        "{refused}"
    );
}

#[test]
fn chain_commits_are_mounted_with_branches_tags_and_history() {
    let chain = SuiNode::start();
    let world = world_on(&chain, World::new());
    let expected = objects(&chain, &world);
    let dir = world.mount("sui://0x1");
    let bad = dir.join("deep/bad.bin");
    assert_eq!(fs::read(bad).unwrap_err().raw_os_error(), Some(5));
    for name in ["README", "deep/big.bin"] {
        let found = fs::read(dir.join(name)).unwrap();
        assert_eq!(found, fs::read(expected.path().join(name)).unwrap());
    }
    let old = |path: &str| fs::read_to_string(dir.join(".walgit").join(path)).unwrap();
    assert_eq!(old("branches/feature/x/README"), "old\n");
    assert_eq!(old("tags/v1/README"), "old\n");
    assert_eq!(old(&format!("commits/{}/README", full_id("0x40"))), "old\n");
    assert_eq!(old("branches/main/README"), "hello\n");
    let commit = old("commit");
    assert!(
        commit.contains(&full_id("0x41")) && commit.contains("second"),
        "{commit}"
    );
    assert!(commit.contains("2025-05-24"), "{commit}");
    let branch = world.mount("sui://0x1/feature/x");
    assert_eq!(fs::read_to_string(branch.join("README")).unwrap(), "old\n");
    let log = world.json(&["log", "sui://0x1"]);
    assert_eq!(log[1]["commit"], full_id("0x40"));
    assert_eq!(
        world.json(&["refs", "sui://0x1"]).as_array().unwrap().len(),
        3
    );
}

#[test]
fn chain_repository_is_rewritten_with_all_branches() {
    let chain = SuiNode::start();
    let world = world_on(&chain, World::new());
    objects(&chain, &world);
    // Unreadable content prevents rewriting.
    let refused = world.fail(&["publish", "--from", "sui://0x1", "--name", "mine"]);
    assert!(refused.contains("SHA-256"), "{refused}");
    tree(&chain, "0x31", &[("big.bin", 0, "0x22")]);
    let done = world.json(&["publish", "--from", "sui://0x1", "--name", "mine"]);
    assert_eq!(done["former"]["commits"], 2);
    let (before, after) = (world.mount("sui://0x1"), world.mount("mine"));
    assert_same(&before, &after);
    for path in ["branches/feature/x", "branches/main", "tags/v1"] {
        let path = format!(".walgit/{path}");
        assert_same(&before.join(&path), &after.join(&path));
    }
    let log = |address: &str| world.json(&["log", address]);
    assert_eq!(log("sui://0x1"), log("mine"));
}

#[test]
fn tree_larger_than_a_page_is_read_completely() {
    let chain = SuiNode::start();
    let world = world_on(&chain, World::new());
    let names: Vec<_> = (0..120)
        .map(|n| (format!("{n:03}"), format!("0x5{n:03}")))
        .collect();
    for (name, id) in &names {
        inline(&chain, id, name);
    }
    let entries: Vec<_> = names.iter().map(|(name, id)| (&**name, 0, &**id)).collect();
    tree(&chain, "0x30", &entries);
    commit(&chain, "0x40", "0x30", None, "many\n");
    repository(&chain, "0x1", "0x40");
    for n in 0..120 {
        chain.set_table_entry("0xb", &format!("b{n:03}"), "0x40");
    }
    let dir = world.mount("sui://0x1/b119");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 120);
    assert_eq!(fs::read_to_string(dir.join("119")).unwrap(), "119");
    assert_eq!(
        fs::read_dir(dir.join(".walgit/branches")).unwrap().count(),
        120
    );
}

#[test]
fn invalid_chain_names_are_omitted_and_reported() {
    let chain = SuiNode::start();
    let world = world_on(&chain, World::new());
    inline(&chain, "0x20", "hello\n");
    let names = ["..", "a/b", ".git", "", "ok"];
    tree(&chain, "0x30", &names.map(|name| (name, 0, "0x20")));
    commit(&chain, "0x40", "0x30", None, "odd\n");
    repository(&chain, "0x1", "0x40");
    chain.set_table_entry("0xb", "../up", "0x40");
    let dir = world.mount("sui://0x1");
    let found: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(found, ["ok"]);
    let notices = fs::read_to_string(dir.join(".walgit/notices")).unwrap();
    assert_eq!(notices.lines().count(), 4, "{notices}");
    let branches = fs::read_dir(dir.join(".walgit/branches")).unwrap();
    let branches: Vec<_> = branches.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(branches, ["main"]);
}

#[test]
fn tree_that_contains_itself_is_refused_in_bounded_time() {
    let chain = SuiNode::start();
    let world = world_on(&chain, World::new());
    tree(&chain, "0x30", &[("a", 1, "0x30"), ("b", 1, "0x30")]);
    commit(&chain, "0x40", "0x30", None, "loop\n");
    repository(&chain, "0x1", "0x40");
    let dir = world.mountpoint();
    let refused = world.fail(&["mount", "sui://0x1", dir.to_str().unwrap()]);
    assert!(refused.contains("exceeds a limit"), "{refused}");
}

#[test]
fn missing_chain_objects_are_reported() {
    let chain = SuiNode::start();
    let world = world_on(&chain, World::new());
    chain.set_object("0x2", "Coin", json!({"id": full_id("0x2"), "balance": "1"}));
    let mount = |address: &str| {
        let dir = world.mountpoint();
        world.fail(&["mount", address, dir.to_str().unwrap()])
    };
    let refused = mount("sui://0x9");
    assert!(refused.contains("does not exist on the chain"), "{refused}");
    assert!(mount("sui://0x2").contains("not a WalGit repository"));
    let empty =
        json!({"id": full_id("0x3"), "latest_commit_manifest_cid": null, "default_branch": "main"});
    chain.set_object("0x3", "Repository", empty);
    assert!(mount("sui://0x3").contains("no commits"));
    let unconfigured = World::new();
    let dir = unconfigured.mountpoint();
    let refused = unconfigured.fail(&["mount", "sui://0x1", dir.to_str().unwrap()]);
    assert!(refused.contains("--sui-rpc"), "{refused}");
}

#[test]
fn following_mount_tracks_a_chain_branch_without_remount() {
    let chain = SuiNode::start();
    let world = world_on(&chain, World::new().config("[mount]\ndeadline_s = 5\n"));
    let blobs = world.blobs();
    let first = Commit::new(&blobs)
        .file("a", b"one")
        .file("same", b"same")
        .store();
    let second = Commit::new(&blobs)
        .file("a", b"two!")
        .file("same", b"same")
        .file("new/file", b"new")
        .parent(&first)
        .store();
    let point_at = |manifest: &str| {
        let fields = json!({"latest_commit_manifest_cid": manifest, "default_branch": "main"});
        chain.set_object("0x7", "Repository", fields);
    };
    point_at(&first);
    let dir = world.mountpoint();
    world.run(&["mount", "--follow=1", "sui://0x7", dir.to_str().unwrap()]);
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"one");
    let open = fs::File::open(dir.join("a")).unwrap();
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(dir.join(name)).unwrap().ino()
    };
    let before = [inode("a"), inode("same")];
    point_at(&second);
    eventually("the mount has moved", || {
        fs::read(dir.join("a")).unwrap() == b"two!"
    });
    assert_eq!(fs::read(dir.join("new/file")).unwrap(), b"new");
    assert_eq!(inode("same"), before[1], "unchanged files stay equal");
    assert_ne!(inode("a"), before[0]);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut &open, &mut text).unwrap();
    assert_eq!(text, "one", "open files keep their content");
    let shown = fs::read_to_string(dir.join(".walgit/commit")).unwrap();
    assert!(shown.contains(&second), "{shown}");
    assert_eq!(
        fs::read(dir.join(".walgit/commits").join(&first).join("a")).unwrap(),
        b"one"
    );
    let status = world.json(&["status"]);
    assert_eq!(status["mounts"][0]["follow"]["moves"], 1);
    assert_eq!(status["mounts"][0]["commit"], second);
    // An unreachable node leaves the mount unchanged.
    let requests = chain.requests();
    assert!(requests > 2);
    drop(chain);
    eventually("the failure is reported", || {
        world.json(&["status"])["mounts"][0]["follow"]["error"].is_string()
    });
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"two!");
}

#[test]
fn unresponsive_sui_node_is_reported_like_any_server() {
    let world = World::new()
        .config("[mount]\ndeadline_s = 2\n[net]\nfirst_pause_ms = 100\n")
        .with("WALGIT_FS_SUI_RPC", "http://127.0.0.1:1/");
    let dir = world.mountpoint();
    world.fail(&["mount", "sui://0x1", dir.to_str().unwrap()]);
    let failures = || world.json(&["failures", "--endpoint", "127.0.0.1:1"]);
    eventually("the failure is reported", || {
        failures()["total"].as_u64() > Some(1)
    });
    let report = failures();
    let group = &report["groups"][0];
    assert_eq!(group["kind"], "connect", "{report}");
    assert!(group["operations"]["object"].as_u64() > Some(0), "{report}");
    assert!(group["done"]["retried"].as_u64() > Some(0), "{report}");
    assert!(group["done"]["gave_up"].as_u64() > Some(0), "{report}");
}
