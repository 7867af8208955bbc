//! Finds the content that a walk over a tree reads next, in storage order.

use std::ops::Range;

use super::error::RepoError;
use super::pending_fetch::PendingFetch;
use super::snapshot::{Node, Snapshot};
use crate::cache::PrefetchGoal;
use crate::offload::CooperativeYield;
use walgit_format::Content;
use walgit_format::chunk::{ChunkRef, WholeBlob};

/// Content of consecutive files.
#[derive(Clone, Debug, Default)]
pub struct ScanRange {
    /// Chunks sorted by blob and offset, without duplicates.
    pub chunks: Vec<ChunkRef>,
    /// Files stored as one blob, in walk order.
    pub wholes: Vec<WholeBlob>,
    /// Files with a separate chunk list.
    pub listed: Vec<Node>,
    /// The nodes of the directories themselves, if stored as chunks.
    pub directories: Vec<ChunkRef>,
}

/// Stored bytes of directories per request.
const DIRECTORY_REQUEST_BYTES: u64 = 256 << 10;

/// Most bytes of memory for the directories of one level and the references to
/// content.
const MAX_SCAN_MEMORY: u64 = 128 << 20;

fn sort_by_location(chunks: &mut Vec<ChunkRef>) {
    let location = |chunk: &ChunkRef| (chunk.location.blob, chunk.location.offset);
    chunks.sort_unstable_by_key(location);
    chunks.dedup_by_key(|chunk| location(chunk));
}

impl Snapshot {
    /// The content of the files with numbers in `numbers`. Prefetches the directories
    /// of each level together.
    ///
    /// # Errors
    /// [`RepoError::TooLarge`] if the directories take too much memory, or an error
    /// reading one.
    pub async fn scan(&self, numbers: Range<u64>) -> Result<ScanRange, RepoError> {
        let mut range = ScanRange::default();
        let mut level: Vec<Node> = vec![self.root()];
        let mut pace = CooperativeYield::default();
        while !level.is_empty() {
            let _coming = self.begin_directories(&level);
            let mut below = Vec::new();
            let mut held = 0;
            // Sequentially: together they could take any amount of memory.
            for node in &level {
                let directory = &self.directory(node).await?;
                pace.steps(1).await;
                let known = below.len();
                // Whether files have their content inline in the node of this
                // directory.
                let mut inline = false;
                if numbers.contains(&node.index.0) {
                    range.directories.extend(self.node_of(node));
                }
                let before = numbers.start.saturating_sub(node.index.0);
                let first = directory.holding(before).unwrap_or(0);
                for (at, entry) in directory.entries().iter().enumerate().skip(first) {
                    let number = node.index.0 + entry.offset;
                    if number >= numbers.end {
                        break;
                    }
                    if number + entry.nodes() <= numbers.start {
                        continue;
                    }
                    match entry.content {
                        Content::Directory { .. } => below.push(self.entry(node, directory, at)),
                        Content::Chunks { .. } | Content::Part { .. } => {
                            let chunks = directory.chunks_of(&entry.content);
                            range.chunks.extend_from_slice(chunks);
                        }
                        Content::Whole { index } => {
                            let whole = &directory.wholes()[index as usize];
                            range.wholes.push(whole.clone());
                        }
                        Content::List { .. } => {
                            range.listed.push(self.entry(node, directory, at));
                        }
                        Content::Inline(_) => inline = true,
                    }
                }
                if inline && !numbers.contains(&node.index.0) {
                    range.directories.extend(self.node_of(node));
                }
                if below.len() > known {
                    held += directory.weight();
                }
                let refs = range.chunks.len() * size_of::<ChunkRef>();
                if held + refs as u64 > MAX_SCAN_MEMORY {
                    let max_size = MAX_SCAN_MEMORY >> 20;
                    let what = format!("directories that take more than {max_size} MiB at once");
                    return Err(RepoError::TooLarge(what));
                }
            }
            level = below;
        }
        sort_by_location(&mut range.chunks);
        Ok(range)
    }

    /// Starts to prefetch the nodes of directories together: nodes of one level are
    /// stored near each other, but not in the table of one parent.
    fn begin_directories(&self, level: &[Node]) -> Vec<PendingFetch> {
        let nodes = level.iter().filter_map(|node| self.node_of(node));
        self.begin_nodes(nodes.collect(), DIRECTORY_REQUEST_BYTES)
    }

    /// Starts to prefetch nodes that are not cached, in requests of up to `window`
    /// stored bytes for neighbours. Must be called within a runtime.
    pub fn begin_nodes(&self, mut nodes: Vec<ChunkRef>, window: u64) -> Vec<PendingFetch> {
        let loader = self.repository().loader();
        nodes.retain(|chunk| !loader.remembers(chunk) && !self.cache().contains(&chunk.hash));
        sort_by_location(&mut nodes);
        let fetches = (0..nodes.len())
            .filter_map(|at| self.begin_chunks(&nodes, at, window, PrefetchGoal::Read));
        fetches.collect()
    }
}
