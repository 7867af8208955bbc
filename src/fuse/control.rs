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
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::attributes::time_of;
use super::history::History;
use super::inode::Inode;
use super::trees::Trees;
use crate::repo::{Charge, NodeIndex, RepoError, Repository, Snapshot};
use walgit_format::text::{bytes_field, bytes_lines, line};
use walgit_format::{Commit, RefKind};

/// Name of the folder.
pub(super) const NAME: &[u8] = b".walgit";
/// Node number of the folder itself, for every mounted tree.
pub(super) const ROOT: usize = 1;
/// A younger status is not regenerated, so that a reader sees a consistent text.
const STATUS_AGE: Duration = Duration::from_millis(500);
/// Bytes of memory per name, without the name itself, and per folder that it may
/// create: a branch name of one kilobyte may create five hundred folders.
pub(super) const PER_NAME: u64 = 100;
const PER_FOLDER: u64 = 700;
/// Most bytes for the names of all refs.
const NAMES: u64 = 48 << 20;

/// Generates the content of `.walgit/status`.
pub trait StatusSource: Send + Sync {
    /// Returns a JSON text.
    fn status(&self) -> Vec<u8>;
}

/// A node of the folder.
#[derive(Clone, Debug)]
pub(super) enum ControlNode {
    /// A folder: names and their inodes.
    Folder(Arc<BTreeMap<Vec<u8>, Inode>>),
    /// The folder of commits, which may still grow.
    Commits(Arc<BTreeMap<Vec<u8>, Inode>>, Arc<History>),
    /// An immutable text; see [`text_node`].
    Text(Bytes),
    /// The status, which changes.
    Status,
}

/// The folder of one mount.
pub(super) struct Control {
    /// The nodes for the mounted tree. Nodes for earlier trees are gone; their
    /// numbers are never reused.
    nodes: RwLock<Arc<Nodes>>,
    source: Arc<dyn StatusSource>,
    status: Mutex<(Option<Instant>, SystemTime, Bytes)>,
}

/// Nodes by number.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    nodes: HashMap<usize, ControlNode>,
    next: usize,
    /// Memory charge for the names of refs.
    charge: Charge,
    /// Whether names were left out.
    short: bool,
    /// The folder of tags.
    tags: usize,
    /// The repository whose archive has tags that are not added yet.
    later: Option<Repository>,
    /// Time of creation.
    pub(super) at: SystemTime,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Creates the folder for a mount of the first of `trees`.
    pub(super) fn new(trees: &Arc<Trees>, source: Arc<dyn StatusSource>) -> Self {
        let nodes = Nodes::of(&trees.shown().snapshot, trees, ROOT + 1);
        Control {
            nodes: RwLock::new(Arc::new(nodes)),
            source,
            status: Mutex::new((None, SystemTime::UNIX_EPOCH, Bytes::new())),
        }
    }

    /// Rebuilds the nodes for the mounted tree.
    pub(super) fn renew(&self, trees: &Arc<Trees>) {
        let next = self.nodes().next;
        let fresh = Nodes::of(&trees.shown().snapshot, trees, next);
        let needed = fresh.slots();
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        trees.trim(needed);
    }

    /// Adds the tags of the archive if `folder` is the folder of tags and they are
    /// missing.
    ///
    /// # Errors
    /// Fails if the archive cannot be read.
    pub(super) async fn complete(
        &self,
        folder: usize,
        trees: &Arc<Trees>,
    ) -> Result<(), RepoError> {
        let nodes = self.nodes();
        let Some(repository) = nodes.later.as_ref().filter(|_| nodes.tags == folder) else {
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
        let mut shown = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        // Another task may have added them meanwhile, or the mount may have moved.
        if shown.tags != folder || shown.later.is_none() {
            return Ok(());
        }
        let mut complete = (**shown).clone();
        complete.later = None;
        for (name, commit, at) in dated {
            if let Some(target) = repository.archived_target(commit) {
                complete.enter_ref(trees, folder, &name, || {
                    let slot = trees.add_dated(&target, time_of(at));
                    Inode::Tree(slot, NodeIndex::ROOT)
                });
            }
        }
        *shown = Arc::new(complete);
        Ok(())
    }

    /// The nodes for the mounted tree.
    pub(super) fn nodes(&self) -> Arc<Nodes> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.clone()
    }

    /// The last generated status and its time; [`Control::look`] regenerates it.
    pub(super) fn status(&self) -> (SystemTime, Bytes) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        (status.1, status.2.clone())
    }

    /// Regenerates the status unless it is very young.
    pub(super) fn look(&self) -> (SystemTime, Bytes) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.0.is_none_or(|at| at.elapsed() > STATUS_AGE) {
            *status = (
                Some(Instant::now()),
                SystemTime::now(),
                walgit_format::text::json(&String::from_utf8_lossy(&self.source.status()))
                    .into_owned()
                    .into(),
            );
        }
        (status.1, status.2.clone())
    }
}

fn folder() -> ControlNode {
    ControlNode::Folder(Arc::default())
}

impl Nodes {
    /// Creates the nodes for a mount of `snapshot`; numbers from `next` on are free.
    fn of(snapshot: &Snapshot, trees: &Arc<Trees>, next: usize) -> Self {
        let mut nodes = Nodes {
            nodes: HashMap::from([(ROOT, folder())]),
            next,
            charge: snapshot.repository().access().account.nothing(),
            short: false,
            tags: ROOT,
            later: None,
            at: SystemTime::now(),
        };
        let text = text_node(describe(snapshot.commit()));
        nodes.enter(ROOT, b"commit", text);
        nodes.enter(ROOT, b"status", ControlNode::Status);
        let repository = snapshot.repository();
        if !repository.notices().is_empty() {
            let notices = repository.notices().iter().map(|notice| line(notice));
            let text = notices.flat_map(|notice| [notice, "\n".into()]).collect();
            nodes.enter(ROOT, b"notices", text_node(text));
        }
        let commits = nodes.commits(snapshot, trees);
        let branches = nodes.enter(ROOT, b"branches", folder());
        let tags = nodes.enter(ROOT, b"tags", folder());
        let head = repository.head();
        let own = (head.refs.iter()).map(|r| (r.kind, &r.name, commits[r.commit]));
        let mut refs: Vec<_> = own.collect();
        for relative in repository.relatives() {
            let slot = trees.add_later(&relative.target);
            let tree = Inode::Tree(slot, NodeIndex::ROOT);
            refs.push((relative.kind, &relative.name, tree));
        }
        for (kind, name, tree) in refs {
            let folder = match kind {
                RefKind::Branch => branches,
                RefKind::Tag => tags,
            };
            nodes.enter_ref(trees, folder, name, || tree);
        }
        nodes.tags = tags;
        nodes.later = repository.has_archive().then(|| repository.clone());
        nodes
    }

    /// Adds a branch or tag, unless the name exists.
    fn enter_ref(
        &mut self,
        trees: &Trees,
        mut at: usize,
        name: &[u8],
        tree: impl FnOnce() -> Inode,
    ) {
        let mut parts: Vec<&[u8]> = name.split(|&byte| byte == b'/').collect();
        // Neither the chain nor an archive validates names.
        if (parts.iter()).any(|part| walgit_format::directory::check_name(part).is_err()) {
            return;
        }
        let most = parts.len() as u64 * (PER_NAME + PER_FOLDER) + name.len() as u64;
        if !trees.has_room() || !self.charge.has_room(most, NAMES) {
            if !std::mem::replace(&mut self.short, true) {
                tracing::warn!(
                    "the memory of the mount does not hold all branches and tags: some are left out of .walgit"
                );
            }
            return;
        }
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            at = match self.find(at, part) {
                Some(Inode::Control(below)) => below,
                _ => self.enter(at, part, folder()),
            };
        }
        if self.find(at, last).is_none() {
            self.lead(at, last, tree());
        }
    }

    /// Adds the folder of commits, and the trees of the commits in the head.
    fn commits(&mut self, snapshot: &Snapshot, trees: &Arc<Trees>) -> Vec<Inode> {
        let repository = snapshot.repository();
        let history = History::before(repository, trees);
        let folder = ControlNode::Commits(Arc::default(), history);
        let commits = self.enter(ROOT, b"commits", folder);
        let mut inodes = Vec::new();
        for (number, commit) in repository.head().commits.iter().enumerate() {
            let name = match commit.id.is_none() {
                true => "snapshot".into(),
                false => commit.id.to_string(),
            };
            let Ok(tree) = repository.snapshot(number) else {
                break;
            };
            let inode = Inode::Tree(trees.add(&tree), NodeIndex::ROOT);
            self.lead(commits, name.as_bytes(), inode);
            inodes.push(inode);
        }
        inodes
    }

    fn enter(&mut self, folder: usize, name: &[u8], node: ControlNode) -> usize {
        let number = self.next;
        self.next += 1;
        self.charge.force(PER_FOLDER);
        self.nodes.insert(number, node);
        self.lead(folder, name, Inode::Control(number));
        number
    }

    fn lead(&mut self, folder: usize, name: &[u8], to: Inode) {
        if let Some(ControlNode::Folder(entries) | ControlNode::Commits(entries, _)) =
            self.nodes.get_mut(&folder)
        {
            self.charge.force(PER_NAME + name.len() as u64);
            // git forbids a branch `a` beside `a/b`; for a hostile head, the first
            // one wins.
            Arc::make_mut(entries).entry(name.to_vec()).or_insert(to);
        }
    }

    /// The slots of the trees in the folder, without commits that are found later.
    fn slots(&self) -> HashSet<usize> {
        let entries = self.nodes.values().flat_map(|node| match node {
            ControlNode::Folder(entries) | ControlNode::Commits(entries, _) => {
                Some(entries.values()).into_iter().flatten()
            }
            ControlNode::Text(_) | ControlNode::Status => None.into_iter().flatten(),
        });
        let slot = |inode: &Inode| match inode {
            Inode::Tree(slot, _) => Some(*slot),
            Inode::Control(_) => None,
        };
        entries.filter_map(slot).collect()
    }

    /// Returns a node by number.
    pub(super) fn node(&self, number: usize) -> Option<&ControlNode> {
        self.nodes.get(&number)
    }

    /// The inode of a name in a folder, if known by now.
    pub(super) fn find(&self, folder: usize, name: &[u8]) -> Option<Inode> {
        match self.node(folder)? {
            ControlNode::Folder(entries) | ControlNode::Commits(entries, _) => {
                entries.get(name).copied()
            }
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
        if !line.is_empty() {
            text.push_str("    ");
            text.push_str(line);
        }
        text.push('\n');
    }
    while text.ends_with("\n\n") {
        text.pop();
    }
    text
}
