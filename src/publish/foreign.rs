//! Plans the conversion of a repository in a foreign format: every commit that leads to its
//! branches and tags.
//!
//! Its directories are implied by paths and identified by their content, so a directory
//! that several commits share is planned once. The same holds for a blob that is a file,
//! at any path. Content stays in place until it is read.

use std::collections::HashMap;

use tokio::runtime::Handle;

use super::error::PublishError;
use super::foreign_source::{ForeignSource, FormerLayout};
use super::plan::{EntryIndex, FileJob, FileSource, Plan};
use super::tree_reader::{TreeReader, VisitFile};
use crate::repo::{Node, Repository};
use walgit_format::chunk::{PAYLOAD_OVERHEAD, WholeBlob};
use walgit_format::head::{AttachmentKind, MANIFEST_PART_BYTES, Ref, check_ref_name};
use walgit_format::{CommitId, Content, Directory, Entry};
use walrus_encoding::cost;

/// Plans to publish every commit of `from`.
pub(super) async fn plan(from: &Repository) -> Result<Plan, PublishError> {
    let mut planner = Planner::default();
    planner.ancestry(from, from.clone()).await?;
    planner.refs(from).await?;
    let mut plan = planner.trees.plan;
    plan.default_branch = from.head().default_branch.to_vec();
    let blobs = planner.files.blobs;
    let mut layout = FormerLayout {
        commits: plan.commits.len() as u64,
        blobs: blobs.len() as u64,
        bytes_billed: 0,
        requests: planner.newest_blobs + 1,
    };
    for blob in blobs.keys() {
        let overhead = if blob.sealed { PAYLOAD_OVERHEAD } else { 0 };
        layout.bytes_billed += cost::encoded_size(blob.size + overhead);
    }
    if planner.manifests.is_empty() {
        let objects = planner.objects.into_bytes();
        plan.attachments = vec![(AttachmentKind::Objects, vec![objects])];
    } else {
        let manifests = planner.manifests.iter();
        let billed = manifests.map(|text| cost::encoded_size(text.len() as u64));
        layout.bytes_billed += billed.sum::<u64>();
        layout.blobs += layout.commits;
        plan.attachments = vec![(AttachmentKind::Manifests, planner.manifests)];
    }
    plan.foreign = Some(ForeignSource {
        snapshot: from.snapshot(0)?,
        runtime: Handle::current(),
        layout,
        counts: planner.counts,
    });
    Ok(plan)
}

#[derive(Default)]
struct Planner {
    trees: TreeReader,
    files: FilePlanner,
    commits: HashMap<CommitId, usize>,
    /// Blobs of the first planned commit.
    newest_blobs: u64,
    /// Number of its files and directories.
    counts: (u64, u64),
    /// Raw manifests, in parts.
    manifests: Vec<Vec<u8>>,
    /// Names of commit objects, one per line.
    objects: String,
}

/// Plans files; blobs that are several files are read once.
#[derive(Default)]
struct FilePlanner {
    /// First location of each blob.
    blobs: HashMap<WholeBlob, EntryIndex>,
}

impl VisitFile for FilePlanner {
    fn visit_file(
        &mut self,
        plan: &mut Plan,
        index: EntryIndex,
        (entry, directory): (&Entry, &Directory),
        _: Node,
    ) -> Result<(), PublishError> {
        let (source, size) = match &entry.content {
            Content::Inline(bytes) => (FileSource::Bytes(bytes.clone()), entry.size),
            Content::Whole { index: number } => {
                let blob = &directory.wholes()[*number as usize];
                if let Some(&first) = self.blobs.get(blob) {
                    plan.copies.push((first, index));
                    return Ok(());
                }
                self.blobs.insert(blob.clone(), index);
                (FileSource::Blob(blob.clone()), blob.size)
            }
            _ => return Ok(()),
        };
        plan.files.push(FileJob {
            source,
            entry: index,
            size,
        });
        Ok(())
    }
}

impl Planner {
    /// Plans `tip` and all its ancestors that are not planned yet; returns the index of
    /// `tip`.
    async fn ancestry(
        &mut self,
        from: &Repository,
        tip: Repository,
    ) -> Result<usize, PublishError> {
        let number = self.commit(&tip).await?;
        if number == 0 {
            self.newest_blobs = self.files.blobs.len() as u64;
            let directories = self.trees.plan.directories.len() as u64;
            let nodes = tip.head().commits[0].nodes;
            self.counts = (nodes.saturating_sub(directories), directories);
        }
        let mut pending = tip.parents();
        while let Some(target) = pending.pop() {
            if !self.commits.contains_key(&target.id()) {
                let parent = from.open_sibling(&target).await?;
                self.commit(&parent).await?;
                pending.extend(parent.parents());
            }
        }
        Ok(number)
    }

    async fn commit(&mut self, repository: &Repository) -> Result<usize, PublishError> {
        let snapshot = repository.snapshot(0)?;
        let id = snapshot.commit().id.clone();
        for notice in repository.notices() {
            let name: String = id.to_string().chars().take(12).collect();
            let warning = format!("commit {name}: {notice}");
            self.trees.plan.warnings.push(warning);
        }
        match repository.manifest_text().await? {
            Some(text) => {
                // A part of full length is followed by another one.
                let parts = text.len() / MANIFEST_PART_BYTES + 1;
                let part = |number| {
                    let start = number * MANIFEST_PART_BYTES;
                    text[start..text.len().min(start + MANIFEST_PART_BYTES)].to_vec()
                };
                self.manifests.extend((0..parts).map(part));
            }
            None => self.objects.push_str(&format!("{id}\n")),
        }
        let number = (self.trees).read_commit(&snapshot, &mut self.files).await?;
        self.commits.insert(id, number);
        Ok(number)
    }

    /// Plans branches and tags, and the commits that only they lead to.
    async fn refs(&mut self, from: &Repository) -> Result<(), PublishError> {
        for (kind, name, id) in from.refs() {
            if let Err(why) = check_ref_name(&name) {
                let warning = format!("a ref is left out: {why}");
                self.trees.plan.warnings.push(warning);
                continue;
            }
            let commit = match self.commits.get(&id) {
                Some(&known) => known,
                None => {
                    let named = |it: &&crate::repo::SiblingRef| it.kind == kind && it.name == name;
                    let Some(relative) = from.sibling_refs().iter().find(named) else {
                        continue;
                    };
                    let tip = from.open_sibling(&relative.target).await?;
                    self.ancestry(from, tip).await?
                }
            };
            self.trees.plan.refs.push(Ref { kind, name, commit });
        }
        Ok(())
    }
}
