//! The `.walgit` folder: information about the mount, and every branch, tag and
//! commit.
//!
//! ```text
//! .walgit/status           JSON, generated on access
//! .walgit/commit           the mounted commit
//! .walgit/notices          omitted content and the reasons; only if there is any
//! .walgit/branches/NAME/   the tree of a branch; `a/b` is a folder in a folder
//! .walgit/tags/NAME/       the tree of a tag; tags of the archive are added on
//!                          first access
//! .walgit/commits/ID/      the tree of a commit
//! ```
//!
//! The folder can be looked up by name, but the root does not list it, so that tools
//! which walk a tree see only the tree. A file of the same name in the tree takes
//! precedence.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::attributes::time_of;
use super::history::{BYTES_PER_NAME, HistoryDir};
use super::inode::Inode;
use super::snapshot_table::SnapshotTable;
use crate::repo::{Charge, NodeIndex, RepoError, Repository, Snapshot};
use walgit_format::text::{bytes_field, bytes_lines, line};
use walgit_format::{Commit, RefKind};

/// Name of the folder.
pub(super) const NAME: &[u8] = b".walgit";
/// Node number of the folder itself, for every mounted tree.
pub(super) const ROOT: usize = 1;
/// A younger status is not regenerated, so that a reader sees a consistent text.
const MIN_STATUS_AGE: Duration = Duration::from_millis(500);
/// Bytes of memory per folder that a name may create: a branch name of one kilobyte may
/// create five hundred folders.
const BYTES_PER_FOLDER: u64 = 700;
/// Most bytes for the names of all refs.
const MAX_NAME_BYTES: u64 = 48 << 20;

/// Generates the content of `.walgit/status`.
pub trait StatusSource: Send + Sync {
    /// Returns a JSON text.
    fn status(&self) -> Vec<u8>;
}

type Entries = BTreeMap<Vec<u8>, Inode>;

/// A node of the folder.
#[derive(Clone, Debug)]
pub(super) enum ControlNode {
    /// A folder: names and their inodes. The folder of commits also has those of its
    /// history, which may still grow.
    Folder(Arc<Entries>, Option<Arc<HistoryDir>>),
    /// An immutable text; see [`text_node`].
    Text(Bytes),
    /// The status, which changes.
    Status,
}

/// The folder of one mount.
pub(super) struct ControlDir {
    /// The nodes for the mounted tree. Nodes for earlier trees are gone; their
    /// numbers are never reused.
    nodes: RwLock<Arc<ControlNodes>>,
    source: Arc<dyn StatusSource>,
    status: Mutex<(Option<Instant>, SystemTime, Bytes)>,
}

/// Nodes by number.
#[derive(Clone, Debug)]
pub(super) struct ControlNodes {
    nodes: HashMap<usize, ControlNode>,
    next: usize,
    /// Memory charge for the names of refs.
    charge: Charge,
    /// Whether names were left out.
    is_incomplete: bool,
    /// The folder of tags.
    tags: usize,
    /// The repository whose archive has tags that are not added yet.
    pending_tags: Option<Repository>,
    /// Time of creation.
    pub(super) created: SystemTime,
}

impl std::fmt::Debug for ControlDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlDir").finish_non_exhaustive()
    }
}

impl ControlDir {
    /// Creates the folder for a mount of the first of `snapshots`.
    pub(super) fn new(snapshots: &Arc<SnapshotTable>, source: Arc<dyn StatusSource>) -> Self {
        let nodes = ControlNodes::of(&snapshots.current().snapshot, snapshots, ROOT + 1);
        ControlDir {
            nodes: RwLock::new(Arc::new(nodes)),
            source,
            status: Mutex::new((None, SystemTime::UNIX_EPOCH, Bytes::new())),
        }
    }

    /// Rebuilds the nodes for the mounted tree.
    pub(super) fn rebuild(&self, snapshots: &Arc<SnapshotTable>) {
        let next = self.nodes().next;
        let nodes = ControlNodes::of(&snapshots.current().snapshot, snapshots, next);
        let needed = nodes.slots();
        *self.nodes.write() = Arc::new(nodes);
        snapshots.trim(needed);
    }

    /// Adds the tags of the archive if `folder` is the folder of tags and they are
    /// missing.
    pub(super) async fn add_tags(
        &self,
        folder: usize,
        snapshots: &Arc<SnapshotTable>,
    ) -> Result<(), RepoError> {
        let nodes = self.nodes();
        let repository = nodes.pending_tags.as_ref();
        let Some(repository) = repository.filter(|_| nodes.tags == folder) else {
            return Ok(());
        };
        let Some(archive) = repository.archive().await? else {
            return Ok(());
        };
        let tags = archive.tags().await?;
        let mut dated = Vec::with_capacity(tags.len());
        for (name, commit) in tags {
            if let Some(at) = archive.committed(&commit).await? {
                dated.push((name, commit, at));
            }
        }
        let mut current = self.nodes.write();
        // Another task may have added them, or the mount may have moved.
        if current.tags != folder || current.pending_tags.is_none() {
            return Ok(());
        }
        let mut complete = (**current).clone();
        complete.pending_tags = None;
        for (name, commit, at) in dated {
            if let Some(target) = repository.archived_target(commit) {
                complete.insert_ref(snapshots, folder, &name, || {
                    let slot = snapshots.add_unopened(&target, Some(time_of(at)));
                    Inode::Tree(slot, NodeIndex::ROOT)
                });
            }
        }
        *current = Arc::new(complete);
        Ok(())
    }

    /// The nodes for the mounted tree.
    pub(super) fn nodes(&self) -> Arc<ControlNodes> {
        self.nodes.read().clone()
    }

    /// The last generated status and its time.
    pub(super) fn status(&self) -> (SystemTime, Bytes) {
        let status = self.status.lock();
        (status.1, status.2.clone())
    }

    /// Regenerates the status unless it is very young.
    pub(super) fn refresh_status(&self) -> (SystemTime, Bytes) {
        let mut status = self.status.lock();
        if status.0.is_none_or(|at| at.elapsed() > MIN_STATUS_AGE) {
            let text = self.source.status();
            let text = walgit_format::text::json(&String::from_utf8_lossy(&text)).into_owned();
            *status = (Some(Instant::now()), SystemTime::now(), text.into());
        }
        (status.1, status.2.clone())
    }
}

fn empty_folder() -> ControlNode {
    ControlNode::Folder(Arc::default(), None)
}

impl ControlNodes {
    /// Creates the nodes for a mount of `snapshot`; numbers from `next` on are free.
    fn of(snapshot: &Snapshot, snapshots: &Arc<SnapshotTable>, next: usize) -> Self {
        let repository = snapshot.repository();
        let mut nodes = ControlNodes {
            nodes: HashMap::from([(ROOT, empty_folder())]),
            next,
            charge: repository.access().account.nothing(),
            is_incomplete: false,
            tags: ROOT,
            pending_tags: repository.has_archive().then(|| repository.clone()),
            created: SystemTime::now(),
        };
        let text = text_node(describe(snapshot.commit()));
        nodes.insert(ROOT, b"commit", text);
        nodes.insert(ROOT, b"status", ControlNode::Status);
        if !repository.notices().is_empty() {
            let notices = repository.notices().iter().map(|notice| line(notice));
            let text = notices.flat_map(|notice| [notice, "\n".into()]).collect();
            nodes.insert(ROOT, b"notices", text_node(text));
        }
        let commits = nodes.insert_commits(repository, snapshots);
        let branches = nodes.insert(ROOT, b"branches", empty_folder());
        nodes.tags = nodes.insert(ROOT, b"tags", empty_folder());
        let head = repository.head();
        let published = (head.refs.iter()).map(|r| (r.kind, &r.name, commits[r.commit]));
        let mut refs: Vec<_> = published.collect();
        for relative in repository.sibling_refs() {
            let slot = snapshots.add_unopened(&relative.target, None);
            let tree = Inode::Tree(slot, NodeIndex::ROOT);
            refs.push((relative.kind, &relative.name, tree));
        }
        for (kind, name, tree) in refs {
            let folder = match kind {
                RefKind::Branch => branches,
                RefKind::Tag => nodes.tags,
            };
            nodes.insert_ref(snapshots, folder, name, || tree);
        }
        nodes
    }

    /// Adds a branch or tag, unless the name exists.
    fn insert_ref(
        &mut self,
        snapshots: &SnapshotTable,
        mut folder: usize,
        name: &[u8],
        tree: impl FnOnce() -> Inode,
    ) {
        let mut parts: Vec<&[u8]> = name.split(|&byte| byte == b'/').collect();
        // Neither the chain nor an archive validates names.
        if (parts.iter()).any(|part| walgit_format::directory::check_name(part).is_err()) {
            return;
        }
        let bytes = parts.len() as u64 * (BYTES_PER_NAME + BYTES_PER_FOLDER) + name.len() as u64;
        if !snapshots.has_capacity() || !self.charge.can_charge(bytes, MAX_NAME_BYTES) {
            if !std::mem::replace(&mut self.is_incomplete, true) {
                tracing::warn!(
                    ".walgit does not list all branches and tags: they exceed the memory limit of the mount"
                );
            }
            return;
        }
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            folder = match self.find(folder, part) {
                Some(Inode::Control(child)) => child,
                _ => self.insert(folder, part, empty_folder()),
            };
        }
        if self.find(folder, last).is_none() {
            self.link(folder, last, tree());
        }
    }

    /// Adds the folder of commits, and the trees of the commits in the head.
    fn insert_commits(
        &mut self,
        repository: &Repository,
        snapshots: &Arc<SnapshotTable>,
    ) -> Vec<Inode> {
        let history = HistoryDir::before(repository, snapshots);
        let folder = ControlNode::Folder(Arc::default(), Some(history));
        let commits = self.insert(ROOT, b"commits", folder);
        let mut inodes = Vec::new();
        for (number, commit) in repository.head().commits.iter().enumerate() {
            let name = if commit.id.is_none() {
                "snapshot".into()
            } else {
                commit.id.to_string()
            };
            let Ok(tree) = repository.snapshot(number) else {
                break;
            };
            let inode = Inode::Tree(snapshots.add(&tree), NodeIndex::ROOT);
            self.link(commits, name.as_bytes(), inode);
            inodes.push(inode);
        }
        inodes
    }

    /// Adds a node to a folder; returns its number.
    fn insert(&mut self, folder: usize, name: &[u8], node: ControlNode) -> usize {
        let number = self.next;
        self.next += 1;
        self.charge.force(BYTES_PER_FOLDER);
        self.nodes.insert(number, node);
        self.link(folder, name, Inode::Control(number));
        number
    }

    fn link(&mut self, folder: usize, name: &[u8], to: Inode) {
        if let Some(ControlNode::Folder(entries, _)) = self.nodes.get_mut(&folder) {
            self.charge.force(BYTES_PER_NAME + name.len() as u64);
            // git forbids both a branch `a` and a branch `a/b`; for a hostile head, the first
            // one wins.
            Arc::make_mut(entries).entry(name.to_vec()).or_insert(to);
        }
    }

    /// The slots of the trees in the folder, without commits that are found later.
    fn slots(&self) -> HashSet<usize> {
        let mut slots = HashSet::new();
        for node in self.nodes.values() {
            if let ControlNode::Folder(entries, _) = node {
                slots.extend(entries.values().filter_map(|inode| match inode {
                    Inode::Tree(slot, _) => Some(*slot),
                    Inode::Control(_) => None,
                }));
            }
        }
        slots
    }

    /// Returns a node by number.
    pub(super) fn node(&self, number: usize) -> Option<&ControlNode> {
        self.nodes.get(&number)
    }

    /// The inode of a name in a folder, if known by now.
    pub(super) fn find(&self, folder: usize, name: &[u8]) -> Option<Inode> {
        match self.node(folder)? {
            ControlNode::Folder(entries, _) => entries.get(name).copied(),
            ControlNode::Text(_) | ControlNode::Status => None,
        }
    }
}

/// A text for display on a terminal, completely escaped.
fn text_node(text: String) -> ControlNode {
    ControlNode::Text(walgit_format::text::lines(&text).into())
}

/// Formats a commit like `git log -1`.
fn describe(commit: &Commit) -> String {
    let mut text = String::new();
    if !commit.id.is_none() {
        text.push_str(&format!("commit {}\n", commit.id));
    }
    text.push_str(&format!(
        "Author: {}\nDate:   {}\n\n",
        bytes_field(&commit.author.person),
        commit.author.date()
    ));
    for line in bytes_lines(&commit.message).lines() {
        let indent = if line.is_empty() { "" } else { "    " };
        text.push_str(&format!("{indent}{line}\n"));
    }
    text.trim_end_matches('\n').to_owned() + "\n"
}
