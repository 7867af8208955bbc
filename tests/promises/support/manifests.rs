//! Repositories in the format of WalGit's own tools: a blob per file, a manifest per
//! commit.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use walgit_format::chunk::{SecretKey, seal_payload};
use walrus_encoding::blob_id::blob_id;

use super::{Server, World};

/// A repository in the project's test data, made by WalGit's own writer.
pub(crate) fn fixture(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/walgit")
        .join(part)
}

/// Manifests of the fixture, the oldest first: of `plain` or `encrypted`.
pub(crate) fn manifests(kind: &str) -> [String; 2] {
    let text = fs::read(fixture("manifests.json")).unwrap();
    let all: Value = serde_json::from_slice(&text).unwrap();
    [0, 1].map(|commit| all[kind][commit].as_str().unwrap().to_owned())
}

/// Stores bytes in a directory of blobs; returns their ID.
pub(crate) fn store(blobs: &Path, bytes: &[u8]) -> String {
    let id = blob_id(bytes).unwrap().to_string();
    fs::create_dir_all(blobs).unwrap();
    fs::write(blobs.join(&id), bytes).unwrap();
    id
}

/// The address of a manifest.
pub(crate) fn address_of(manifest: &str) -> String {
    format!("walrus://{manifest}")
}

/// A server with the blobs of the fixture.
pub(crate) fn server_with_fixture(args: &[&str]) -> Server {
    let server = Server::with(args);
    copy_fixture(&server.blobs());
    server
}

/// A world whose network `local` has the blobs of the fixture.
pub(crate) fn world_with_fixture() -> World {
    let world = World::new();
    copy_fixture(&world.blobs());
    world
}

fn copy_fixture(blobs: &Path) {
    fs::create_dir_all(blobs).unwrap();
    for blob in fs::read_dir(fixture("blobs")).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), blobs.join(blob.file_name())).unwrap();
    }
}

/// Builds a commit: `Commit::new(&blobs).file("a", b"text").store()`.
pub(crate) struct Commit {
    blobs: PathBuf,
    tree: Map<String, Value>,
    parent: Option<String>,
    key: Option<SecretKey>,
}

impl Commit {
    pub(crate) fn new(blobs: &Path) -> Self {
        Commit {
            blobs: blobs.into(),
            tree: Map::new(),
            parent: None,
            key: None,
        }
    }

    /// Encrypts everything added from now on.
    pub(crate) fn encrypted(mut self, key: &SecretKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    pub(crate) fn parent(mut self, parent: &str) -> Self {
        self.parent = Some(parent.into());
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        let cid = self.put(content);
        let hash = ring::digest::digest(&ring::digest::SHA256, content);
        let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let encrypted = self.key.is_some();
        let entry = json!({
            "cid": cid, "size": content.len(), "hash": hash, "encrypted": encrypted,
            "timestamp": "2025-05-24T10:00:00.000Z",
        });
        self.entry(path, entry)
    }

    /// Another path to the content at `path`.
    pub(crate) fn alias(self, path: &str, other: &str) -> Self {
        let entry = self.entry_at(path);
        self.entry(other, entry)
    }

    /// The entry at `path`.
    pub(crate) fn entry_at(&self, path: &str) -> Value {
        self.tree[path].clone()
    }

    /// Adds any entry, valid or not.
    pub(crate) fn entry(mut self, path: &str, entry: Value) -> Self {
        self.tree.insert(path.into(), entry);
        self
    }

    /// Stores the manifest; returns its ID.
    pub(crate) fn store(self) -> String {
        let manifest = json!({
            "timestamp": "2025-05-24T10:00:00.000Z", "author": "0xa11ce", "message": "made",
            "parent_commit_cid": self.parent, "tree": self.tree, "metadata": {},
        });
        self.put(manifest.to_string().as_bytes())
    }

    fn put(&self, content: &[u8]) -> String {
        match &self.key {
            None => store(&self.blobs, content),
            Some(key) => {
                // Unique per content: sufficient for a test.
                let digest = blake3::hash(content);
                let iv = digest.as_bytes()[..12].try_into().unwrap();
                store(&self.blobs, &seal_payload(key, iv, content).unwrap())
            }
        }
    }
}
