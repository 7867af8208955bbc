//! Verifies that a rewritten head equals the original.

use std::collections::{HashMap, HashSet};

use super::super::PublishError;
use super::super::git::join;
use super::super::plan::{ContentPlan, DirectoryNumber, FilePlace, TreePlan};
use super::{File, Read, Stored, read};
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
pub async fn same(old: &Repository, new: &Repository) -> Result<(), PublishError> {
    let differs = |what: &str| Err(differs(what.as_bytes()));
    let (one, two) = (old.head(), new.head());
    let commit = |at: usize| {
        let (a, b) = (&one.commits[at], &two.commits[at]);
        (&a.id, &a.author, &a.committer, &a.message, &a.parents)
            == (&b.id, &b.author, &b.committer, &b.message, &b.parents)
            && (a.nodes, a.bytes) == (b.nodes, b.bytes)
    };
    if one.commits.len() != two.commits.len() || !(0..one.commits.len()).all(commit) {
        return differs("the list of commits");
    }
    if one.refs != two.refs || one.default_branch != two.default_branch {
        return differs("branches and tags");
    }
    for kind in [
        AttachmentKind::GitCommits,
        AttachmentKind::Manifests,
        AttachmentKind::Objects,
        AttachmentKind::Prior,
        AttachmentKind::Learned,
        AttachmentKind::Dictionaries,
    ] {
        if attached(old, kind) != attached(new, kind) {
            return differs("what is kept beside the trees");
        }
    }
    let (was, is) = (Archive::open(old).await?, Archive::open(new).await?);
    let segments = |archive: &Option<Archive>| -> Vec<_> {
        let segments = archive.iter().flat_map(|archive| archive.segments());
        let hashes = |chunks: &[ChunkRef]| chunks.iter().map(|it| it.hash).collect::<Vec<_>>();
        segments
            .map(|segment| segment.with_chunks(hashes(&segment.chunks)))
            .collect()
    };
    if segments(&was) != segments(&is) {
        return differs("the history");
    }
    trees(&read(old).await?, &read(new).await?)
}

fn attached(repository: &Repository, kind: AttachmentKind) -> Vec<ChunkHash> {
    let attached = repository.head().attachments.iter();
    let attached = attached.filter(|attached| attached.kind == kind);
    attached
        .flat_map(|it| it.chunks.iter().map(|chunk| chunk.hash))
        .collect()
}

fn trees(old: &Read, new: &Read) -> Result<(), PublishError> {
    let files = (old.by_place(), new.by_place());
    let root = |tree: &TreePlan| match tree {
        TreePlan::New(number) => *number,
        TreePlan::Known(_) => 0,
    };
    let roots = old.plan.commits.iter().zip(&new.plan.commits);
    let mut pending: Vec<(DirectoryNumber, DirectoryNumber)> =
        roots.map(|(a, b)| (root(&a.tree), root(&b.tree))).collect();
    let mut seen = HashSet::new();
    while let Some(pair) = pending.pop() {
        if !seen.insert(pair) {
            continue;
        }
        let one = &old.plan.directories[pair.0];
        let two = &new.plan.directories[pair.1];
        if one.git != two.git || one.entries.len() != two.entries.len() {
            return Err(differs(&one.path));
        }
        for (at, (a, b)) in one.entries.iter().zip(&two.entries).enumerate() {
            let alike = a.name == b.name && a.kind == b.kind && a.git == b.git && a.size == b.size;
            let content = match (&a.content, &b.content) {
                (ContentPlan::Tree(a), ContentPlan::Tree(b)) => {
                    pending.push((root(a), root(b)));
                    true
                }
                (ContentPlan::Inline(a), ContentPlan::Inline(b)) => a == b,
                (ContentPlan::Pending, ContentPlan::Pending) => {
                    let one = files.0.get(&(pair.0, at));
                    let two = files.1.get(&(pair.1, at));
                    one.zip(two)
                        .is_some_and(|(one, two)| one.hashes(a.size) == two.hashes(b.size))
                }
                _ => false,
            };
            if !alike || !content {
                return Err(differs(&join(&one.path, &a.name)));
            }
        }
    }
    Ok(())
}

fn differs(path: &[u8]) -> PublishError {
    PublishError::Differs(String::from_utf8_lossy(path).into_owned())
}

impl Read {
    fn by_place(&self) -> HashMap<FilePlace, &File> {
        let files = self.files.iter();
        files
            .map(|file| ((file.directory, file.entry), file))
            .collect()
    }
}

impl File {
    /// The hashes of its pieces. A file of one piece has the hash of that piece, in any
    /// tier.
    fn hashes(&self, size: u64) -> Vec<ChunkHash> {
        match &self.stored {
            _ if size == 0 => Vec::new(),
            Stored::Inline(bytes) => vec![ChunkHash::of(bytes)],
            Stored::Chunks(chunks, _) => chunks.iter().map(|chunk| chunk.hash).collect(),
        }
    }
}
