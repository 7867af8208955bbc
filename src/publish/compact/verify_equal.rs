//! Verifies that a compacted head equals the original.

use std::collections::{HashMap, HashSet};

use super::head_reader::{HeadContent, StoredContent, StoredFile, read};
use crate::publish::error::PublishError;
use crate::publish::plan::{ContentPlan, DirectoryIndex, EntryIndex, TreePlan};
use crate::publish::previous_publish::attachment_chunks;
use crate::repo::Repository;
use crate::repo::archive::Archive;
use walgit_format::chunk::{ChunkHash, ChunkRef};
use walgit_format::head::AttachmentKind;

/// Compares everything in two heads except locations: commits, refs, directories with
/// names, modes, sizes and git IDs, the hashes of all content, histories and attachments.
/// Reads only nodes: equal hashes need no comparison of content.
///
/// # Errors
/// [`PublishError::Differs`] for the first difference, or the error of a failed read.
pub async fn verify_equal(old: &Repository, new: &Repository) -> Result<(), PublishError> {
    let differs = |what: &str| Err(PublishError::differs(what.as_bytes()));
    let (a, b) = (old.head(), new.head());
    let mut commits = a.commits.iter().zip(&b.commits);
    let same_commits = a.commits.len() == b.commits.len()
        && commits.all(|(a, b)| {
            (&a.id, &a.author, &a.committer, &a.message, &a.parents)
                == (&b.id, &b.author, &b.committer, &b.message, &b.parents)
                && (a.nodes, a.bytes) == (b.nodes, b.bytes)
        });
    if !same_commits {
        return differs("the list of commits");
    }
    if a.refs != b.refs || a.default_branch != b.default_branch {
        return differs("the list of branches and tags");
    }
    for kind in [
        AttachmentKind::GitCommits,
        AttachmentKind::Manifests,
        AttachmentKind::Objects,
        AttachmentKind::Prior,
        AttachmentKind::Learned,
        AttachmentKind::Dictionaries,
    ] {
        let a = attachment_chunks(old, kind).map(|chunk| chunk.hash);
        if !a.eq(attachment_chunks(new, kind).map(|chunk| chunk.hash)) {
            return differs("an attachment");
        }
    }
    let (old_archive, new_archive) = (old.load_archive().await?, new.load_archive().await?);
    let segments = |archive: &Option<Archive>| -> Vec<_> {
        let segments = archive.iter().flat_map(|archive| archive.segments());
        let hashes = |chunks: &[ChunkRef]| chunks.iter().map(|it| it.hash).collect::<Vec<_>>();
        segments
            .map(|segment| segment.with_chunks(hashes(&segment.chunks)))
            .collect()
    };
    if segments(&old_archive) != segments(&new_archive) {
        return differs("the history");
    }
    compare_trees(&read(old).await?, &read(new).await?)
}

fn compare_trees(old: &HeadContent, new: &HeadContent) -> Result<(), PublishError> {
    let (old_files, new_files) = (old.files_by_entry(), new.files_by_entry());
    let root = |tree: &TreePlan| match tree {
        TreePlan::New(index) => *index,
        TreePlan::Stored(_) => 0,
    };
    let roots = old.plan.commits.iter().zip(&new.plan.commits);
    let mut pending: Vec<(DirectoryIndex, DirectoryIndex)> =
        roots.map(|(a, b)| (root(&a.tree), root(&b.tree))).collect();
    let mut seen = HashSet::new();
    while let Some(pair) = pending.pop() {
        if !seen.insert(pair) {
            continue;
        }
        let a = &old.plan.directories[pair.0];
        let b = &new.plan.directories[pair.1];
        if a.git != b.git || a.entries.len() != b.entries.len() {
            return Err(PublishError::differs(&a.path));
        }
        for (number, (a, b)) in a.entries.iter().zip(&b.entries).enumerate() {
            let same_entry = (&a.name, a.kind, &a.git, a.size) == (&b.name, b.kind, &b.git, b.size);
            let same_content = match (&a.content, &b.content) {
                (ContentPlan::Tree(a), ContentPlan::Tree(b)) => {
                    pending.push((root(a), root(b)));
                    true
                }
                (ContentPlan::Inline(a), ContentPlan::Inline(b)) => a == b,
                (ContentPlan::Pending, ContentPlan::Pending) => {
                    let old_file = old_files.get(&(pair.0, number));
                    let files = old_file.zip(new_files.get(&(pair.1, number)));
                    files.is_some_and(|(old, new)| old.hashes(a.size) == new.hashes(b.size))
                }
                _ => false,
            };
            if !same_entry || !same_content {
                return Err(PublishError::differs(&old.plan.path((pair.0, number))));
            }
        }
    }
    Ok(())
}

impl HeadContent {
    fn files_by_entry(&self) -> HashMap<EntryIndex, &StoredFile> {
        self.files.iter().map(|file| (file.entry, file)).collect()
    }
}

impl StoredFile {
    /// The hashes of its chunks. A file of one chunk has the hash of that chunk, in any
    /// tier.
    fn hashes(&self, size: u64) -> Vec<ChunkHash> {
        match &self.content {
            _ if size == 0 => Vec::new(),
            StoredContent::Inline(bytes) => vec![ChunkHash::of(bytes)],
            StoredContent::Chunks(chunks) => chunks.iter().map(|chunk| chunk.hash).collect(),
        }
    }
}
