//! The `.walgit` folder: what is mounted, and every branch, tag and commit.
//!
//! ```text
//! .walgit/status           JSON, anew at each look
//! .walgit/commit           the mounted commit
//! .walgit/branches/NAME/   the tree of a branch; `a/b` is a folder in a folder
//! .walgit/tags/NAME/       the tree of a tag
//! .walgit/commits/ID/      the tree of a commit
//! ```
//!
//! It is found by name but not listed in the root, so that tools which walk a
//! tree see the tree alone. A file of that name in the tree comes first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::inode::Inode;
use crate::repo::{Commit, NodeIndex, RefKind, Snapshot};

/// Name of the folder.
pub(super) const NAME: &[u8] = b".walgit";
/// Number of the folder itself among its nodes.
pub(super) const ROOT: usize = 1;
/// A status younger than this is shown as it is, so that one reader sees one
/// text.
const STATUS_AGE: Duration = Duration::from_millis(500);

/// Who knows what `.walgit/status` says.
pub trait StatusSource: Send + Sync {
    /// A JSON text.
    fn status(&self) -> Vec<u8>;
}

/// A node of the folder.
#[derive(Debug)]
pub(super) enum ControlNode {
    /// A folder: names, and what they lead to.
    Folder(BTreeMap<Vec<u8>, Inode>),
    /// A text that stays.
    Text(Bytes),
    /// The status, which does not.
    Status,
}

/// The folder of one mount.
pub(super) struct Control {
    nodes: Vec<ControlNode>,
    source: Arc<dyn StatusSource>,
    status: Mutex<(Option<Instant>, SystemTime, Bytes)>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// The folder for a mount of `snapshot`.
    pub(super) fn new(snapshot: &Snapshot, source: Arc<dyn StatusSource>) -> Self {
        let head = snapshot.repository().head();
        let mut control = Control {
            nodes: Vec::new(),
            source,
            status: Mutex::new((None, SystemTime::UNIX_EPOCH, Bytes::new())),
        };
        let folder = || ControlNode::Folder(BTreeMap::new());
        // Node 0 is never shown, so that no inode number is 0.
        control.nodes.push(folder());
        let root = control.add(folder());
        let text = ControlNode::Text(describe(snapshot.commit()).into());
        control.enter(root, b"commit", text);
        control.enter(root, b"status", ControlNode::Status);
        let branches = control.enter(root, b"branches", folder());
        let tags = control.enter(root, b"tags", folder());
        let commits = control.enter(root, b"commits", folder());
        for found in &head.refs {
            let mut at = match found.kind {
                RefKind::Branch => branches,
                RefKind::Tag => tags,
            };
            let mut parts: Vec<&[u8]> = found.name.split(|&byte| byte == b'/').collect();
            let last = parts.pop().unwrap_or_default();
            for part in parts {
                at = match control.find(at, part) {
                    Some(Inode::Control(below)) => below,
                    _ => control.enter(at, part, folder()),
                };
            }
            control.lead(at, last, Inode::Commit(found.commit, NodeIndex::ROOT));
        }
        for (number, commit) in head.commits.iter().enumerate() {
            let name = match commit.id.0.is_empty() {
                true => "snapshot".into(),
                false => commit.id.to_string(),
            };
            let tree = Inode::Commit(number, NodeIndex::ROOT);
            control.lead(commits, name.as_bytes(), tree);
        }
        control
    }

    fn add(&mut self, node: ControlNode) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn enter(&mut self, folder: usize, name: &[u8], node: ControlNode) -> usize {
        let number = self.add(node);
        self.lead(folder, name, Inode::Control(number));
        number
    }

    fn lead(&mut self, folder: usize, name: &[u8], to: Inode) {
        if let Some(ControlNode::Folder(entries)) = self.nodes.get_mut(folder) {
            // git forbids a branch `a` beside `a/b`; of a hostile head the
            // first one stays.
            entries.entry(name.to_vec()).or_insert(to);
        }
    }

    /// A node by its number.
    pub(super) fn node(&self, number: usize) -> Option<&ControlNode> {
        self.nodes.get(number).filter(|_| number >= ROOT)
    }

    /// What a name in a folder leads to.
    pub(super) fn find(&self, folder: usize, name: &[u8]) -> Option<Inode> {
        match self.node(folder)? {
            ControlNode::Folder(entries) => entries.get(name).copied(),
            ControlNode::Text(_) | ControlNode::Status => None,
        }
    }

    /// The status as last looked at, and when that was; made anew by
    /// [`Control::look`].
    pub(super) fn status(&self) -> (SystemTime, Bytes) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        (status.1, status.2.clone())
    }

    /// Makes the status anew unless it is very young.
    pub(super) fn look(&self) -> (SystemTime, Bytes) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.0.is_none_or(|at| at.elapsed() > STATUS_AGE) {
            *status = (
                Some(Instant::now()),
                SystemTime::now(),
                self.source.status().into(),
            );
        }
        (status.1, status.2.clone())
    }
}

/// A commit as `git log -1` shows it.
fn describe(commit: &Commit) -> Vec<u8> {
    let mut text = Vec::new();
    if !commit.id.0.is_empty() {
        text.extend_from_slice(format!("commit {}\n", commit.id).as_bytes());
    }
    text.extend_from_slice(b"Author: ");
    text.extend_from_slice(&commit.author.person);
    text.extend_from_slice(format!("\nDate:   {}\n\n", commit.author.date()).as_bytes());
    for line in commit.message.split(|&byte| byte == b'\n') {
        if !line.is_empty() {
            text.extend_from_slice(b"    ");
            text.extend_from_slice(line);
        }
        text.push(b'\n');
    }
    while text.ends_with(b"\n\n") {
        text.pop();
    }
    text
}
