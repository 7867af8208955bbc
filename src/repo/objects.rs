//! Commits that are objects on the chain: their trees are objects too, and are
//! read whole when a commit is opened.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::access::{Access, Target};
use super::directory::ImpliedContent;
use super::head::CommitId;
use super::implied::{self, Leaf, Told};
use super::open::shelf;
use super::{Kind, Loader, MAX_DEPTH, RepoError, Repository};
use crate::chain::objects::{BlobContent, BlobObject, EntryObject};
use crate::chain::{Chain, ObjectId};
use crate::chunk::{BlobId, Proof, WholeBlob, check_git};

/// Most objects of one commit.
const MAX_OBJECTS: usize = 100_000;
/// Most places that trees may stand at: one tree in itself a few times over
/// would otherwise be as many as there are paths.
const MAX_PLACES: usize = 1 << 18;

/// What is known of a tree so far.
#[derive(Default)]
struct Walk {
    objects: HashMap<ObjectId, Arc<EntryObject>>,
    leaves: Vec<Leaf>,
    refused: Vec<(String, &'static str)>,
    places: usize,
}

impl Loader {
    /// Opens a commit object.
    pub(super) async fn open_commit(
        self: &Arc<Self>,
        access: &Access,
        id: ObjectId,
    ) -> Result<Repository, RepoError> {
        let chain = access.chain()?;
        let object = chain.object(id).await?.commit()?;
        let mut walk = Walk::default();
        walk.all(chain, object.tree).await?;
        let at = BlobId::from_bytes(*id.as_bytes());
        let tree = implied::imply(walk.leaves, walk.refused, at);
        let told = Told {
            author: object.author,
            seconds: object.seconds,
            message: object.message,
            parent: (object.parent).map(|parent| CommitId::Object(*parent.as_bytes())),
        };
        let shelf = shelf(access, None);
        let target = Target::Commit(id);
        let loader = self.clone();
        Ok(Repository::of_tree(
            loader, access, target, told, tree, shelf,
        ))
    }
}

impl Walk {
    /// Reads a tree, a level of directories at a time.
    async fn all(&mut self, chain: &Chain, root: ObjectId) -> Result<(), RepoError> {
        let mut level: Vec<(String, ObjectId)> = vec![(String::new(), root)];
        for _ in 0..MAX_DEPTH {
            if level.is_empty() {
                return Ok(());
            }
            self.places += level.len();
            let mut wanted: Vec<ObjectId> = level.iter().map(|(_, id)| *id).collect();
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|id| !self.objects.contains_key(id));
            let too_many = || {
                let what = format!("more than {MAX_OBJECTS} objects in one tree");
                RepoError::TooLarge(what)
            };
            if self.objects.len() + wanted.len() > MAX_OBJECTS || self.places > MAX_PLACES {
                return Err(too_many());
            }
            for object in chain.objects(&wanted).await? {
                let entry = object.entry()?;
                self.objects.insert(object.id, Arc::new(entry));
            }
            let mut below = Vec::new();
            for (path, id) in std::mem::take(&mut level) {
                match self.objects.get(&id).cloned().as_deref() {
                    Some(EntryObject::Tree(entries)) => self.enter(&path, entries, &mut below),
                    Some(EntryObject::Blob(_)) if path.is_empty() => {
                        self.refused.push((path, "the root is a file"));
                    }
                    Some(EntryObject::Blob(blob)) => self.file(path, blob),
                    None => {}
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
    ) {
        for (name, id) in entries {
            // Of a name with a slash a path could be made that leads elsewhere.
            if name.contains('/') {
                let shown = format!("{path}/{name}");
                self.refused.push((shown, "its name has a slash"));
                continue;
            }
            let at = match path.is_empty() {
                true => name.clone(),
                false => format!("{path}/{name}"),
            };
            below.push((at, *id));
        }
    }

    fn file(&mut self, path: String, blob: &BlobObject) {
        let content = match &blob.content {
            BlobContent::Inline(bytes) => match inline_is_right(bytes, &blob.hash) {
                true => ImpliedContent::Inline(Bytes::copy_from_slice(bytes)),
                false => {
                    self.refused.push((path, "its content has another hash"));
                    return;
                }
            },
            BlobContent::Walrus(id) => ImpliedContent::Whole(WholeBlob {
                blob: *id,
                size: blob.size,
                proof: proof(&blob.hash),
                sealed: false,
            }),
        };
        self.leaves.push(Leaf {
            path: path.into(),
            kind: Kind::File { executable: false },
            size: blob.size,
            content,
        });
    }
}

/// What proves content on Walrus: a SHA-256 where the object has one, else the
/// blob's own ID and, where it has one, the hash that git gives it.
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

/// Inline content came from the chain itself; where it has a hash that we can
/// compute, that has to be right all the same.
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
