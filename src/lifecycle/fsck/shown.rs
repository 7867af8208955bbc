//! Verification that the trees of mounts are those that their commits name.
//!
//! A mount shows trees that are stored separately from the history, so both are compared,
//! entry by entry. A file with the same chunks was hashed with the history; any other
//! file is read and hashed. Without a history, the git IDs of each directory and its
//! entries are listed beside the trees: then the trees are hashed with these IDs, and the
//! files must match them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use gix::objs::Kind as ObjectKind;

use super::checker::Checker;
use super::fault::FaultKind;
use crate::lifecycle::export::{RebuiltHistory, hash_kind};
use crate::lifecycle::walk::{ItemPath, tree_names};
use crate::offload::offload;
use crate::repo::archive::{Archive, ContentLocation as Archived};
use crate::repo::{Node, RepoError, Repository, Snapshot};
use walgit_format::archive::{TreeTarget, parse_tree};
use walgit_format::chunk::{Budget, ChunkHash, ChunkRef, budget};
use walgit_format::git::{DirectoryIds, decode_ids};
use walgit_format::head::{AttachmentKind, CommitId, GitId};
use walgit_format::{Content, Directory, Kind};

/// Stored bytes of neighbouring chunks that are fetched with a chunk.
const REQUEST_BYTES: u64 = 1 << 20;
/// Memory per ID, in bytes.
const BYTES_PER_ID: u64 = (size_of::<GitId>() + 32) as u64;

/// Source of the expected object IDs.
pub(super) enum ExpectedTrees<'a> {
    /// The history that was built.
    Archived(&'a Archive, &'a RebuiltHistory),
    /// The git IDs of directories and their entries, by the hash of the directory's node.
    Listed(HashMap<ChunkHash, Vec<DirectoryIds>>),
}

/// An expected object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ExpectedObject {
    /// Number in the history.
    Number(u64),
    /// Git ID.
    Id(GitId),
}

/// Expected entries of a directory: kinds and objects by name.
type ExpectedEntries = BTreeMap<Bytes, (Option<Kind>, ExpectedObject)>;

/// A shown directory and its expected tree.
struct DirectoryPair {
    path: Arc<ItemPath>,
    node: Node,
    tree: ExpectedObject,
}

/// Reads the git IDs of the directories of a repository; `None` if they are not stored.
pub(super) async fn listed(
    repository: &Repository,
) -> Result<Option<ExpectedTrees<'static>>, RepoError> {
    let mut attached = repository.head().attachments.iter();
    if !attached.any(|it| it.kind == AttachmentKind::GitIds) {
        return Ok(None);
    }
    let mut memory = Budget::fixed(budget::HISTORY_BYTES);
    let mut ids: HashMap<ChunkHash, Vec<DirectoryIds>> = HashMap::new();
    for raw in repository.attachment(AttachmentKind::GitIds).await? {
        let hash = ChunkHash::of(&raw);
        let list = offload(raw.len(), move || decode_ids(&raw)).await?;
        let list = list.map_err(|why| RepoError::Malformed {
            what: "list of git IDs",
            hash,
            why,
        })?;
        for one in list {
            let entries = one.entries.len() as u64 * BYTES_PER_ID;
            let bytes = size_of::<DirectoryIds>() as u64 + entries + one.raw_tree.len() as u64;
            memory.charge(bytes).map_err(|_| {
                let limit_mib = budget::HISTORY_BYTES >> 20;
                RepoError::TooLarge(format!("more than {limit_mib} MiB of git IDs to verify"))
            })?;
            ids.entry(one.directory).or_default().push(one);
        }
    }
    Ok(Some(ExpectedTrees::Listed(ids)))
}

impl Checker<'_> {
    /// Verifies that the shown trees are those of their commits; `trees` lists them.
    pub(super) async fn shown(
        &mut self,
        objects: &ExpectedTrees<'_>,
        trees: &HashMap<GitId, GitId>,
    ) -> Result<(), RepoError> {
        let repository = self.repository;
        let mut seen: HashSet<(ChunkHash, ExpectedObject)> = HashSet::new();
        let names = tree_names(repository);
        for (at, name) in names.into_iter().enumerate() {
            let snapshot = repository.snapshot(at)?;
            let CommitId::Git(id) = &snapshot.commit().id else {
                continue;
            };
            let tree = match objects {
                ExpectedTrees::Archived(archive, _) => {
                    archive.root_of(&id.0).map(ExpectedObject::Number)
                }
                ExpectedTrees::Listed(_) => trees.get(id).cloned().map(ExpectedObject::Id),
            };
            // Missing trees are reported with the commits.
            let Some(tree) = tree else { continue };
            let mut pending = vec![DirectoryPair {
                path: Arc::new(ItemPath::Root(name)),
                node: snapshot.root(),
                tree,
            }];
            while let Some(pair) = pending.pop() {
                let hash = pair.node.chunks().first().map(|it| it.hash);
                let hash = hash.unwrap_or(ChunkHash::of(&[]));
                if seen.insert((hash, pair.tree.clone())) {
                    (self.pair(objects, &snapshot, hash, pair, &mut pending)).await?;
                }
            }
        }
        Ok(())
    }

    /// Checks a directory and the files in it.
    async fn pair(
        &mut self,
        objects: &ExpectedTrees<'_>,
        snapshot: &Snapshot,
        hash: ChunkHash,
        pair: DirectoryPair,
        pending: &mut Vec<DirectoryPair>,
    ) -> Result<(), RepoError> {
        let directory = match snapshot.directory(&pair.node).await {
            Ok(directory) => directory,
            // Reported by the walk.
            Err(why) => return FaultKind::from_error(&why).map(drop),
        };
        let mut expected = match objects.entries(&pair.tree, hash, &directory).await {
            Ok(Ok(expected)) => expected,
            Ok(Err(why)) => {
                self.faults.object(&pair.path, FaultKind::Altered, why);
                return Ok(());
            }
            Err(why) => {
                (self.faults).object(&pair.path, FaultKind::from_error(&why)?, why);
                return Ok(());
            }
        };
        for (at, entry) in directory.entries().iter().enumerate() {
            let path = Arc::new(ItemPath::Entry(
                pair.path.clone(),
                entry.name.clone(),
                entry.size,
            ));
            let node = snapshot.entry(&pair.node, &directory, at);
            let expected = expected.remove(&entry.name);
            let kind = entry.kind;
            let Some((_, object)) = expected.filter(|(expected, _)| *expected == Some(kind)) else {
                let why = "the tree that the commit names has no such entry";
                self.faults.object(path, FaultKind::Altered, why);
                continue;
            };
            match kind {
                Kind::Directory => pending.push(DirectoryPair {
                    path,
                    node,
                    tree: object,
                }),
                Kind::Submodule => {
                    let same = |id: &GitId| matches!(&entry.content, Content::Inline(found) if *found == id.0);
                    if !objects.id(&object).as_ref().is_some_and(same) {
                        let why =
                            "its commit differs from the one in the tree that the commit names";
                        self.faults.object(path, FaultKind::Altered, why);
                    }
                }
                Kind::File { .. } | Kind::Symlink => {
                    let shown = ShownFile {
                        snapshot,
                        directory: &directory,
                        node,
                        content: &entry.content,
                    };
                    match shown.altered(objects, &object).await {
                        Ok(None) => {}
                        Ok(Some(why)) => self.faults.object(path, FaultKind::Altered, why),
                        // Reported by the walk.
                        Err(why) => drop(FaultKind::from_error(&why)?),
                    }
                }
            }
        }
        if let Some((name, _)) = expected.pop_first() {
            let name = String::from_utf8_lossy(&name).into_owned();
            let why = format!("it lacks `{name}`, which the tree that the commit names has");
            self.faults.object(&pair.path, FaultKind::Altered, why);
        }
        Ok(())
    }
}

impl ExpectedTrees<'_> {
    /// Returns the git ID of an object.
    fn id(&self, object: &ExpectedObject) -> Option<GitId> {
        match (self, object) {
            (_, ExpectedObject::Id(id)) => Some(id.clone()),
            (ExpectedTrees::Archived(_, rebuilt), ExpectedObject::Number(number)) => {
                rebuilt.id(*number)
            }
            (ExpectedTrees::Listed(_), ExpectedObject::Number(_)) => None,
        }
    }

    /// Returns the entries of a tree, or the reason why a directory does not match it. Of
    /// two entries with the same name the last counts, as in a checkout by git.
    async fn entries(
        &self,
        tree: &ExpectedObject,
        hash: ChunkHash,
        directory: &Directory,
    ) -> Result<Result<ExpectedEntries, String>, RepoError> {
        match (self, tree) {
            (ExpectedTrees::Archived(archive, _), ExpectedObject::Number(number)) => {
                let stored = archive.tree(*number).await?.into_iter();
                let entries = stored.map(|entry| {
                    let object = match &entry.target {
                        TreeTarget::Number(number) => ExpectedObject::Number(*number),
                        TreeTarget::Id(id) => ExpectedObject::Id(GitId(id.to_vec())),
                    };
                    // Copied, so that it does not keep the group of the tree in memory.
                    let name = Bytes::copy_from_slice(&entry.name);
                    (name, (entry.kind(), object))
                });
                Ok(Ok(entries.collect()))
            }
            (ExpectedTrees::Listed(ids), ExpectedObject::Id(tree)) => {
                let known = ids.get(&hash).map_or(&[][..], |known| known);
                Ok(raw_tree(tree, known, directory).map(|raw| {
                    let entries = parse_tree(&raw, tree.0.len()).flatten();
                    let entries = entries.map(|entry| {
                        let object = ExpectedObject::Id(GitId(entry.id.to_vec()));
                        let name = Bytes::copy_from_slice(entry.name);
                        (name, (entry.kind(), object))
                    });
                    entries.collect()
                }))
            }
            _ => Ok(Err("its expected tree is unknown".into())),
        }
    }
}

/// Encodes the tree with this ID in git format, from the git IDs of the entries of its
/// directory; or returns the reason why that is impossible.
fn raw_tree(tree: &GitId, known: &[DirectoryIds], directory: &Directory) -> Result<Bytes, String> {
    let mut other = None;
    // A tree with a different encoding of the modes is the same directory.
    let matching = known.iter().filter(|ids| ids.tree == *tree);
    for ids in matching.chain(known) {
        let rebuilt = || rebuilt(ids, directory).map(Bytes::from);
        let raws = [
            Some(ids.raw_tree.clone()).filter(|raw| !raw.is_empty()),
            rebuilt(),
        ];
        for raw in raws.into_iter().flatten() {
            let mut hasher = hasher(tree, ObjectKind::Tree, raw.len() as u64);
            hasher.update(&raw);
            match finish(hasher) {
                Some(found) if found == *tree => return Ok(raw),
                found => other = other.or(found),
            }
        }
    }
    Err(match other {
        Some(found) => {
            format!("it should be the tree {tree}, but the stored tree hashes to {found}")
        }
        None => format!("it should be the tree {tree}, but the IDs of its entries are not stored"),
    })
}

/// Encodes the tree of a directory whose entries have these git IDs.
fn rebuilt(ids: &DirectoryIds, directory: &Directory) -> Option<Vec<u8>> {
    if ids.entries.len() != directory.entries().len() {
        return None;
    }
    let mut entries: Vec<(Vec<u8>, &[u8], Kind, &GitId)> = (directory.entries().iter())
        .zip(&ids.entries)
        .map(|(entry, id)| {
            let kind = entry.kind;
            // Git sorts directories as if their names ended with a slash.
            let slash: &[u8] = if kind == Kind::Directory { b"/" } else { b"" };
            ([&entry.name, slash].concat(), &entry.name[..], kind, id)
        })
        .collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let mut raw = Vec::new();
    for (_, name, kind, id) in entries {
        raw.extend_from_slice(kind.git_mode());
        raw.push(b' ');
        raw.extend_from_slice(name);
        raw.push(0);
        raw.extend_from_slice(&id.0);
    }
    Some(raw)
}

/// A shown file or link.
struct ShownFile<'a> {
    snapshot: &'a Snapshot,
    directory: &'a Directory,
    node: Node,
    content: &'a Content,
}

impl ShownFile<'_> {
    /// Returns how the content differs from the expected content, if it does.
    async fn altered(
        &self,
        objects: &ExpectedTrees<'_>,
        object: &ExpectedObject,
    ) -> Result<Option<String>, RepoError> {
        let chunks: Vec<ChunkRef> = match self.content {
            Content::Chunks { first, count } => {
                self.directory.chunks()[*first as usize..(*first + *count) as usize].to_vec()
            }
            Content::List { .. } => self.snapshot.file_chunks(&self.node).await?,
            _ => Vec::new(),
        };
        if let (ExpectedTrees::Archived(archive, _), ExpectedObject::Number(number)) =
            (objects, object)
            && let Archived::Chunks { segment, run, .. } = archive.content(*number)?
        {
            let archived = &segment.chunks[run.first..run.first + run.count];
            let hashes = |chunks: &[ChunkRef]| chunks.iter().map(|it| it.hash).collect::<Vec<_>>();
            if !chunks.is_empty() && hashes(&chunks) == hashes(archived) {
                return Ok(None);
            }
        }
        let Some(id) = objects.id(object) else {
            return Ok(Some("its expected content is unknown".into()));
        };
        let inline: &[u8] = match self.content {
            Content::Inline(bytes) => bytes,
            _ => &[],
        };
        let chunked: u64 = chunks.iter().map(|it| u64::from(it.raw_len)).sum();
        let mut hasher = hasher(&id, ObjectKind::Blob, inline.len() as u64 + chunked);
        hasher.update(inline);
        let repository = self.snapshot.repository();
        let (cache, store) = (repository.loader().cache(), repository.store());
        for at in 0..chunks.len() {
            let raw = cache.get(store, &chunks, at, REQUEST_BYTES).await?;
            let hashed = move || {
                hasher.update(&raw);
                hasher
            };
            hasher = offload(chunks[at].raw_len as usize, hashed).await?;
        }
        let found = finish(hasher).unwrap_or_default();
        Ok((found != id).then(|| {
            format!("it should be the content {id}, but the stored content hashes to {found}")
        }))
    }
}

/// Hashes an object of `size` bytes with the hash function of `like`.
fn hasher(like: &GitId, kind: ObjectKind, size: u64) -> gix::hash::Hasher {
    let mut hasher = gix::hash::hasher(hash_kind(like));
    hasher.update(&gix::objs::encode::loose_header(kind, size));
    hasher
}

fn finish(hasher: gix::hash::Hasher) -> Option<GitId> {
    Some(GitId(hasher.try_finalize().ok()?.as_slice().to_vec()))
}
