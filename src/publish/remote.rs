//! Plans the rewrite of a repository in a foreign format: every commit that leads to its
//! branches and tags.
//!
//! Its directories are implied by paths and identified by their content, so a directory
//! that several commits share is planned once. The same holds for a blob that is a file,
//! at any path. Content stays in place until it is read.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;

use super::PublishError;
use super::git::join;
use super::plan::{
    CommitPlan, ContentPlan, DirectoryNumber, EntryPlan, FileJob, FileSource, Plan,
    PlannedDirectory, TreePlan,
};
use crate::repo::{Node, Repository, Snapshot};
use walgit_format::chunk::{ByteRange, ChunkHash, PAYLOAD_OVERHEAD, WholeBlob};
use walgit_format::head::{AttachmentKind, MANIFEST_PART, Ref, check_ref_name};
use walgit_format::{CommitId, Content, Kind};
use walrus_encoding::cost;

/// Number of concurrent file fetches: each takes a separate request, and this many
/// saturate a link of 100 Mbit/s at 50 ms.
const AT_ONCE: usize = 32;
/// Bytes of a large file in memory at a time.
const PART: u64 = 8 << 20;

/// Source of content that is stored in another repository.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    /// Provides the store and the keys.
    snapshot: Snapshot,
    runtime: Handle,
    /// Cost of the repository in its present layout.
    pub(super) replaced: Replaced,
    /// Number of files and directories of the newest commit.
    pub(super) counts: (u64, u64),
}

/// Cost of a repository in its former layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Replaced {
    /// Number of rewritten commits.
    pub commits: u64,
    /// Number of its blobs.
    pub blobs: u64,
    /// Bytes that the network bills for them.
    pub bytes_billed: u64,
    /// Requests to read the newest commit completely: one per blob.
    pub requests: u64,
}

impl Remote {
    /// Fetches the content of these jobs concurrently; `None` for those stored elsewhere.
    pub(super) fn fetch(&self, jobs: &[FileJob]) -> Result<Vec<Option<Bytes>>, PublishError> {
        let one = |job: &FileJob| {
            let source = job.source.clone();
            let snapshot = self.snapshot.clone();
            async move {
                match source {
                    FileSource::Blob(whole) => {
                        let all = ByteRange::new(0, whole.size);
                        snapshot.read_whole(&whole, all, whole.size).await.map(Some)
                    }
                    _ => Ok(None),
                }
            }
        };
        let reads: Vec<_> = jobs.iter().map(one).collect();
        let fetched = futures_util::stream::iter(reads).buffered(AT_ONCE);
        let fetched = self.runtime.block_on(fetched.try_collect());
        Ok(fetched?)
    }

    /// Opens a large file for streaming.
    pub(super) fn reader(&self, whole: &WholeBlob) -> impl io::Read + use<> {
        RemoteFile {
            remote: self.clone(),
            whole: whole.clone(),
            at: 0,
            part: Bytes::new(),
        }
    }
}

struct RemoteFile {
    remote: Remote,
    whole: WholeBlob,
    at: u64,
    part: Bytes,
}

impl io::Read for RemoteFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.part.is_empty() && self.at < self.whole.size {
            let range = ByteRange::new(self.at, PART);
            let read = (self.remote.snapshot).read_whole(&self.whole, range, PART);
            let part = self.remote.runtime.block_on(read);
            self.part = part.map_err(io::Error::other)?;
            self.at += self.part.len() as u64;
        }
        let len = out.len().min(self.part.len());
        out[..len].copy_from_slice(&self.part.split_to(len));
        Ok(len)
    }
}

/// Plans to publish every commit of `from`.
pub(super) async fn plan(from: &Repository) -> Result<Plan, PublishError> {
    let mut planner = Planner::default();
    planner.line(from, from.clone()).await?;
    planner.refs(from).await?;
    let newest = from.snapshot(0)?;
    let mut plan = planner.plan;
    plan.default_branch = from.head().default_branch.to_vec();
    plan.attachments = match planner.manifests.is_empty() {
        true => vec![(AttachmentKind::Objects, vec![planner.objects.into_bytes()])],
        false => vec![(AttachmentKind::Manifests, planner.manifests)],
    };
    let manifests = plan.attachments[0].1.iter().map(|text| text.len() as u64);
    let (mut blobs, mut billed) = (planner.blobs.len() as u64, 0);
    if plan.attachments[0].0 == AttachmentKind::Manifests {
        blobs += plan.commits.len() as u64;
        billed += manifests.map(cost::encoded_size).sum::<u64>();
    }
    for whole in planner.blobs.keys() {
        let around = if whole.sealed { PAYLOAD_OVERHEAD } else { 0 };
        billed += cost::encoded_size(whole.size + around);
    }
    plan.remote = Some(Remote {
        snapshot: newest,
        runtime: Handle::current(),
        replaced: Replaced {
            commits: plan.commits.len() as u64,
            blobs,
            bytes_billed: billed,
            requests: planner.newest_blobs + 1,
        },
        counts: planner.counts,
    });
    Ok(plan)
}

#[derive(Default)]
struct Planner {
    plan: Plan,
    commits: HashMap<CommitId, usize>,
    directories: HashMap<ChunkHash, DirectoryNumber>,
    /// First location of each blob.
    blobs: HashMap<WholeBlob, (DirectoryNumber, usize)>,
    /// Blobs of the first planned commit.
    newest_blobs: u64,
    /// Number of its files and directories.
    counts: (u64, u64),
    /// Raw manifests, in parts.
    manifests: Vec<Vec<u8>>,
    /// Names of commit objects, one per line.
    objects: String,
}

impl Planner {
    /// Plans `tip` and all its ancestors that are not planned yet; returns the index of
    /// `tip`.
    async fn line(&mut self, from: &Repository, tip: Repository) -> Result<usize, PublishError> {
        let number = self.commit(&tip).await?;
        if number == 0 {
            self.newest_blobs = self.blobs.len() as u64;
            let directories = self.plan.directories.len() as u64;
            let nodes = tip.head().commits[0].nodes;
            self.counts = (nodes.saturating_sub(directories), directories);
        }
        let mut pending = tip.parents();
        while let Some(target) = pending.pop() {
            if !self.commits.contains_key(&target.id()) {
                let at = from.open_relative(&target).await?;
                self.commit(&at).await?;
                pending.extend(at.parents());
            }
        }
        Ok(number)
    }

    async fn commit(&mut self, at: &Repository) -> Result<usize, PublishError> {
        let snapshot = at.snapshot(0)?;
        let commit = snapshot.commit();
        for notice in at.notices() {
            let name: String = commit.id.to_string().chars().take(12).collect();
            self.plan.warnings.push(format!("commit {name}: {notice}"));
        }
        match at.manifest_text().await? {
            Some(text) => {
                // A part of full length is followed by another one.
                let parts = text.len() / MANIFEST_PART + 1;
                let cut = |part| {
                    let start = part * MANIFEST_PART;
                    text[start..text.len().min(start + MANIFEST_PART)].to_vec()
                };
                self.manifests.extend((0..parts).map(cut));
            }
            None => self.objects.push_str(&format!("{}\n", commit.id)),
        }
        let tree = self.tree(&snapshot).await?;
        let number = self.plan.commits.len();
        self.commits.insert(commit.id.clone(), number);
        self.plan.commits.push(CommitPlan {
            id: commit.id.clone(),
            tree: TreePlan::New(tree),
            author: commit.author.clone(),
            committer: commit.committer.clone(),
            message: commit.message.to_vec(),
            parents: commit.parents.clone(),
        });
        Ok(number)
    }

    /// Plans new directories; returns the index of the root.
    async fn tree(&mut self, snapshot: &Snapshot) -> Result<DirectoryNumber, PublishError> {
        let mut pending: Vec<(Node, DirectoryNumber, Vec<u8>)> = Vec::new();
        let root = self.place(
            snapshot.commit().root.hash,
            snapshot.root(),
            Vec::new(),
            &mut pending,
        );
        while let Some((node, number, path)) = pending.pop() {
            let directory = snapshot.directory(&node).await?;
            let mut below = Vec::new();
            let mut entries = Vec::with_capacity(directory.entries().len());
            for (at, entry) in directory.entries().iter().enumerate() {
                let content = match &entry.content {
                    Content::Directory { index, .. } => {
                        let hash = directory.chunks()[*index as usize].hash;
                        let child = snapshot.entry(&node, &directory, at);
                        let path = join(&path, &entry.name);
                        let child = self.place(hash, child, path, &mut below);
                        ContentPlan::Tree(TreePlan::New(child))
                    }
                    Content::Inline(target) if entry.kind == Kind::Symlink => {
                        ContentPlan::Inline(target.to_vec())
                    }
                    Content::Inline(bytes) => {
                        self.job(FileSource::Bytes(bytes.clone()), number, at, entry.size);
                        ContentPlan::Pending
                    }
                    Content::Whole { index } => {
                        let whole = &directory.wholes()[*index as usize];
                        self.file(whole, number, at);
                        ContentPlan::Pending
                    }
                    Content::Chunks { .. } | Content::List { .. } | Content::Part { .. } => {
                        ContentPlan::Pending
                    }
                };
                entries.push(EntryPlan {
                    name: entry.name.to_vec(),
                    kind: entry.kind,
                    git: None,
                    size: entry.size,
                    content,
                });
            }
            self.plan.directories[number].entries = entries;
            // Visit the first subdirectory next, so that packs follow tree order.
            pending.extend(below.into_iter().rev());
        }
        Ok(root)
    }

    /// Returns the index of a directory. If it is new, its entries become `pending`.
    fn place(
        &mut self,
        hash: ChunkHash,
        node: Node,
        path: Vec<u8>,
        pending: &mut Vec<(Node, DirectoryNumber, Vec<u8>)>,
    ) -> DirectoryNumber {
        if let Some(&known) = self.directories.get(&hash) {
            return known;
        }
        let number = self.plan.directories.len();
        self.directories.insert(hash, number);
        self.plan.directories.push(PlannedDirectory {
            path: path.clone(),
            entries: Vec::new(),
            git: None,
            same_as: None,
        });
        pending.push((node, number, path));
        number
    }

    fn file(&mut self, whole: &WholeBlob, directory: DirectoryNumber, entry: usize) {
        match self.blobs.get(whole) {
            Some(&first) => self.plan.copies.push((first, (directory, entry))),
            None => {
                self.blobs.insert(whole.clone(), (directory, entry));
                let source = FileSource::Blob(whole.clone());
                self.job(source, directory, entry, whole.size);
            }
        }
    }

    fn job(&mut self, source: FileSource, directory: DirectoryNumber, entry: usize, size: u64) {
        self.plan.files.push(FileJob {
            source,
            directory,
            entry,
            size,
        });
    }

    /// Branches and tags, and the commits that only they lead to.
    async fn refs(&mut self, from: &Repository) -> Result<(), PublishError> {
        for (kind, name, id) in from.refs() {
            if let Err(why) = check_ref_name(&name) {
                self.plan.warnings.push(format!("a ref is left out: {why}"));
                continue;
            }
            let commit = match self.commits.get(&id) {
                Some(&known) => known,
                None => {
                    let named = |r: &&crate::repo::Relative| r.kind == kind && r.name == name;
                    let Some(relative) = from.relatives().iter().find(named) else {
                        continue;
                    };
                    let tip = from.open_relative(&relative.target).await?;
                    self.line(from, tip).await?
                }
            };
            self.plan.refs.push(Ref { kind, name, commit });
        }
        Ok(())
    }
}
