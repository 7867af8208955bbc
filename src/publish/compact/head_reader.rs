//! Reads the content of a published head into a plan.

use bytes::Bytes;

use crate::publish::error::PublishError;
use crate::publish::plan::{EntryIndex, Plan};
use crate::publish::previous_publish::git_ids;
use crate::publish::tree_reader::{TreeReader, VisitFile};
use crate::repo::{Node, Repository};
use walgit_format::chunk::ChunkRef;
use walgit_format::{Content, Directory, Entry};

/// The content of a head.
pub(super) struct HeadContent {
    pub(super) plan: Plan,
    /// In tree order.
    pub(super) files: Vec<StoredFile>,
}

/// A file whose content has to be stored again.
pub(super) struct StoredFile {
    /// The commit in whose tree it was found, and the node to read it with.
    pub(super) commit: usize,
    pub(super) node: Node,
    pub(super) entry: EntryIndex,
    pub(super) content: StoredContent,
}

pub(super) enum StoredContent {
    Inline(Bytes),
    Chunks(Vec<ChunkRef>),
}

impl StoredFile {
    pub(super) fn chunks(&self) -> &[ChunkRef] {
        match &self.content {
            StoredContent::Inline(_) => &[],
            StoredContent::Chunks(chunks) => chunks,
        }
    }
}

impl VisitFile for Vec<StoredFile> {
    fn visit_file(
        &mut self,
        plan: &mut Plan,
        index: EntryIndex,
        (entry, _): (&Entry, &Directory),
        node: Node,
    ) -> Result<(), PublishError> {
        let content = match &entry.content {
            Content::Inline(bytes) => StoredContent::Inline(bytes.clone()),
            // Read later.
            Content::Chunks { .. } | Content::List { .. } => StoredContent::Chunks(Vec::new()),
            _ => return Err(PublishError::ForeignFormat),
        };
        self.push(StoredFile {
            commit: plan.commits.len(),
            node,
            entry: index,
            content,
        });
        Ok(())
    }
}

/// Reads the trees of a head, and the references to the chunks of its files.
pub(super) async fn read(repository: &Repository) -> Result<HeadContent, PublishError> {
    let head = repository.head();
    let mut trees = TreeReader {
        ids: git_ids(repository).await?,
        ..TreeReader::default()
    };
    trees.plan.default_branch = head.default_branch.to_vec();
    trees.plan.refs = head.refs.clone();
    let mut files: Vec<StoredFile> = Vec::new();
    for commit in 0..head.commits.len() {
        let snapshot = repository.snapshot(commit)?;
        let first = files.len();
        trees.read_commit(&snapshot, &mut files).await?;
        for file in &mut files[first..] {
            if let StoredContent::Chunks(chunks) = &mut file.content {
                *chunks = snapshot.file_chunks(&file.node).await?;
            }
        }
    }
    let plan = trees.plan;
    Ok(HeadContent { plan, files })
}
