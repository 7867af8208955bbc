//! Reads the trees of a published repository into a plan.

use std::collections::HashMap;

use super::error::PublishError;
use super::plan::{
    CommitPlan, ContentPlan, DirectoryIndex, DirectoryPlan, EntryIndex, EntryPlan, Plan, TreePlan,
};
use crate::repo::{Node, Snapshot};
use walgit_format::chunk::ChunkHash;
use walgit_format::git::DirectoryIds;
use walgit_format::{Content, Directory, Entry, Kind};

/// Reads trees; a directory that several commits share is read once.
#[derive(Default)]
pub(super) struct TreeReader {
    pub(super) plan: Plan,
    pub(super) directories: HashMap<ChunkHash, DirectoryIndex>,
    /// Git IDs of the directories, by the hashes of their nodes.
    pub(super) ids: HashMap<ChunkHash, DirectoryIds>,
}

/// Called for each file of a [`TreeReader`].
pub(super) trait VisitFile {
    /// Receives a file of `directory` and the node to read it with.
    fn visit_file(
        &mut self,
        plan: &mut Plan,
        index: EntryIndex,
        entry: (&Entry, &Directory),
        node: Node,
    ) -> Result<(), PublishError>;
}

impl TreeReader {
    /// Adds the commit of a snapshot and its tree to the plan; returns its index.
    pub(super) async fn read_commit(
        &mut self,
        snapshot: &Snapshot,
        files: &mut impl VisitFile,
    ) -> Result<usize, PublishError> {
        let root = self.read_tree(snapshot, files).await?;
        let commit = CommitPlan::of(snapshot.commit(), root);
        self.plan.commits.push(commit);
        Ok(self.plan.commits.len() - 1)
    }

    /// Returns the index of the root.
    async fn read_tree(
        &mut self,
        snapshot: &Snapshot,
        files: &mut impl VisitFile,
    ) -> Result<DirectoryIndex, PublishError> {
        let mut pending: Vec<(DirectoryIndex, Node)> = Vec::new();
        let root = self.add_directory(snapshot.root(), Vec::new(), &mut pending);
        while let Some((index, node)) = pending.pop() {
            let directory = snapshot.directory(&node).await?;
            let hash = node.chunks()[0].hash;
            let mut children = Vec::new();
            for (number, entry) in directory.entries().iter().enumerate() {
                let child = snapshot.entry(&node, &directory, number);
                let ids = self.ids.get(&hash);
                let planned = EntryPlan {
                    name: entry.name.to_vec(),
                    kind: entry.kind,
                    git: ids.and_then(|ids| ids.entries.get(number).cloned()),
                    size: entry.size,
                    content: ContentPlan::Pending,
                };
                self.plan.directories[index].entries.push(planned);
                let at = (index, number);
                match &entry.content {
                    Content::Directory { .. } => {
                        let path = self.plan.path(at);
                        let child = self.add_directory(child, path, &mut children);
                        let content = ContentPlan::Tree(TreePlan::New(child));
                        self.plan.entry_mut(at).content = content;
                    }
                    Content::Inline(bytes) if !matches!(entry.kind, Kind::File { .. }) => {
                        let content = ContentPlan::Inline(bytes.to_vec());
                        self.plan.entry_mut(at).content = content;
                    }
                    _ => files.visit_file(&mut self.plan, at, (entry, &directory), child)?,
                }
            }
            let ids = self.ids.get(&hash);
            self.plan.directories[index].git =
                ids.map(|ids| (ids.tree.clone(), ids.raw_tree.clone()));
            // Visit the first subdirectory next, so that packs follow tree order.
            pending.extend(children.into_iter().rev());
        }
        Ok(root)
    }

    /// Returns the index of a directory. If it is new, its entries become `pending`.
    fn add_directory(
        &mut self,
        node: Node,
        path: Vec<u8>,
        pending: &mut Vec<(DirectoryIndex, Node)>,
    ) -> DirectoryIndex {
        let hash = node.chunks()[0].hash;
        if let Some(&known) = self.directories.get(&hash) {
            return known;
        }
        let index = self.plan.push(DirectoryPlan::new(path, Vec::new()));
        self.directories.insert(hash, index);
        pending.push((index, node));
        index
    }
}
