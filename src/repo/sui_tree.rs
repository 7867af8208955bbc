//! Commits stored as objects on the chain. Their trees are objects too; opening a
//! commit reads the whole tree.

use std::collections::HashMap;
use std::sync::Arc;

use super::access::{Access, Target};
use super::derived_tree::MAX_DEPTH;
use super::derived_tree::{self, CommitMeta, TreeFile};
use super::error::RepoError;
use super::loader::Loader;
use super::open::decrypting_store;
use super::repository::Repository;
use crate::chain::{Chain, Reading};
use crate::offload::offload;
use walgit_format::Kind;
use walgit_format::chain::MoveObject;
use walgit_format::chain::ObjectId;
use walgit_format::chain::objects::{BlobContent, BlobObject, EntryObject};
use walgit_format::chunk::{BlobId, Proof, WholeBlob, check_git};
use walgit_format::directory::PlannedContent;
use walgit_format::head::CommitId;

/// Most objects per commit.
const MAX_OBJECTS: usize = 100_000;
/// Most paths of trees and files. Without a limit, a tree that contains another one
/// several times at each level would expand exponentially.
const MAX_TREE_PATHS: usize = 1 << 18;
/// Longest path in bytes: the kernel's `PATH_MAX`.
const MAX_PATH_LEN: usize = 4096;
/// Most bytes of all paths together.
const MAX_TOTAL_PATH_BYTES: usize = 64 << 20;

/// State of the tree traversal.
#[derive(Default)]
struct SuiTreeWalk {
    objects: HashMap<ObjectId, Arc<TreeObject>>,
    leaves: Vec<TreeFile>,
    refused: Vec<(String, &'static str)>,
    places: usize,
    path_bytes: usize,
}

/// An object of a tree, read once for all its paths.
struct TreeObject {
    entry: EntryObject,
    /// Whether inline content matches its hash.
    is_right: bool,
}

/// Names the exceeded limit.
type ExceededLimit = &'static str;

impl Loader {
    /// Opens a commit object.
    pub(super) async fn open_commit(
        self: &Arc<Self>,
        access: &Access,
        id: ObjectId,
    ) -> Result<Repository, RepoError> {
        // All objects of a tree are in memory until it is built.
        let _turn = access.account.build_permit().await;
        let chain = access.chain()?;
        let mut reading = chain.reading();
        let object = reading.object(id).await?.commit()?;
        let mut walk = SuiTreeWalk::default();
        walk.all(chain, &mut reading, object.tree).await?;
        let at = BlobId::from_bytes(*id.as_bytes());
        // Sorting a large tree takes long.
        let input = walk.path_bytes;
        let account = access.account.clone();
        let build = move || derived_tree::build(&account, walk.leaves, walk.refused, at);
        let tree = offload(input, build).await??;
        let meta = CommitMeta {
            author: object.author,
            seconds: object.seconds,
            message: object.message,
            parent: object.parent.map(CommitId::Object),
        };
        let decrypting_store = decrypting_store(access, None);
        let target = Target::Commit(id);
        let loader = self.clone();
        Repository::of_tree(loader, access, target, meta, tree, decrypting_store)
    }
}

impl SuiTreeWalk {
    /// Reads a tree, one level of directories at a time.
    async fn all(
        &mut self,
        chain: &Chain,
        reading: &mut Reading<'_>,
        root: ObjectId,
    ) -> Result<(), RepoError> {
        let mut level: Vec<(String, ObjectId)> = vec![(String::new(), root)];
        for _ in 0..MAX_DEPTH {
            if level.is_empty() {
                return Ok(());
            }
            let mut wanted: Vec<ObjectId> = level.iter().map(|(_, id)| *id).collect();
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|id| !self.objects.contains_key(id));
            if self.objects.len() + wanted.len() > MAX_OBJECTS {
                let what = format!("a tree of over {MAX_OBJECTS} objects");
                return Err(chain.too_much(what).into());
            }
            let known = &mut self.objects;
            let take = |object: MoveObject| {
                known.insert(object.id, Arc::new(TreeObject::of(object.entry()?)));
                Ok(())
            };
            reading.each(&wanted, take).await?;
            let mut below = Vec::new();
            for (path, id) in std::mem::take(&mut level) {
                let Some(known) = self.objects.get(&id).cloned() else {
                    continue;
                };
                match &known.entry {
                    EntryObject::Tree(entries) => {
                        let entered = self.enter(&path, entries, &mut below);
                        entered.map_err(|what| chain.too_much(what))?;
                    }
                    EntryObject::Blob(_) if path.is_empty() => {
                        self.refused.push((path, "the root is a file"));
                    }
                    EntryObject::Blob(blob) => self.file(path, blob, known.is_right),
                }
            }
            level = below;
        }
        Err(RepoError::TooDeep(MAX_DEPTH))
    }

    fn enter(
        &mut self,
        path: &str,
        entries: &[(String, ObjectId)],
        below: &mut Vec<(String, ObjectId)>,
    ) -> Result<(), ExceededLimit> {
        for (name, id) in entries {
            self.places += 1;
            self.path_bytes += path.len() + 1 + name.len();
            if self.places > MAX_TREE_PATHS || self.path_bytes > MAX_TOTAL_PATH_BYTES {
                return Err("a tree that multiplies");
            }
            // A name with a slash could form a path into another directory.
            if name.contains('/') {
                let shown = format!("{path}/{name}");
                self.refused.push((shown, "the name has a slash"));
                continue;
            }
            let at = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            if at.len() > MAX_PATH_LEN {
                self.refused.push((at, "the path is too long"));
                continue;
            }
            below.push((at, *id));
        }
        Ok(())
    }

    fn file(&mut self, path: String, blob: &BlobObject, is_right: bool) {
        if !is_right {
            self.refused.push((path, "the content has another hash"));
            return;
        }
        let content = match &blob.content {
            BlobContent::Inline(bytes) => PlannedContent::Inline(bytes.clone()),
            BlobContent::Walrus(id) => PlannedContent::Whole(WholeBlob {
                blob: *id,
                size: blob.size,
                proof: proof(&blob.hash),
                sealed: false,
            }),
        };
        self.leaves.push(TreeFile {
            path: path.into(),
            kind: Kind::File { executable: false },
            size: blob.size,
            content,
        });
    }
}

impl TreeObject {
    fn of(entry: EntryObject) -> Self {
        let is_right = match &entry {
            EntryObject::Blob(BlobObject {
                hash,
                content: BlobContent::Inline(bytes),
                ..
            }) => inline_is_right(bytes, hash),
            _ => true,
        };
        TreeObject { entry, is_right }
    }
}

/// The hash that verifies content on Walrus: the SHA-256 of the object if it has one,
/// otherwise the blob ID and, if present, the git hash.
fn proof(hash: &str) -> Proof {
    if let Ok(sha256) = blake3::Hash::from_hex(hash.trim_start_matches("0x")) {
        return Proof::Sha256(*sha256.as_bytes());
    }
    Proof::BlobId {
        git_sha1: sha1(hash),
    }
}

fn sha1(hash: &str) -> Option<[u8; 20]> {
    let padded = format!("{hash}{}", "0".repeat(24));
    let known = hash.len() == 40;
    let hash = known.then(|| blake3::Hash::from_hex(padded).ok())??;
    hash.as_bytes()[..20].try_into().ok()
}

/// Verifies inline content against its hash, if the hash function is supported. The
/// content itself comes from the chain.
fn inline_is_right(content: &[u8], hash: &str) -> bool {
    let size = content.len() as u64;
    if let Some(sha1) = sha1(hash) {
        return check_git(content, &sha1).is_ok();
    }
    match proof(hash) {
        proof @ Proof::Sha256(_) => {
            let whole = WholeBlob {
                blob: BlobId::from_bytes([0; 32]),
                size,
                proof,
                sealed: false,
            };
            whole.check(content, |_| None).is_ok()
        }
        Proof::BlobId { .. } => true,
    }
}
