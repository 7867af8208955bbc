//! What a walk over a tree will come to next, in the order in which it is
//! stored.

use std::ops::Range;

use super::{Coming, Node, RepoError, Snapshot};
use crate::offload::Pace;
use walgit_format::Content;
use walgit_format::chunk::{ChunkRef, WholeBlob};

/// Content of consecutive files.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// Chunks by blob and offset, each once.
    pub chunks: Vec<ChunkRef>,
    /// Files that are a blob each, in the order of the walk.
    pub wholes: Vec<WholeBlob>,
    /// Files whose chunks are in a list of their own.
    pub listed: Vec<Node>,
    /// The nodes of the directories themselves, where they are chunks.
    pub directories: Vec<ChunkRef>,
}

/// Stored bytes of directories that are asked for in one request.
const DIRECTORIES_AT_ONCE: u64 = 256 << 10;

/// Bytes of memory that directories of one level, and references to content, may
/// take while they are read ahead of.
const STRETCH_MEMORY: u64 = 128 << 20;

fn sort_by_place(chunks: &mut Vec<ChunkRef>) {
    let place = |chunk: &ChunkRef| (chunk.at.blob, chunk.at.offset);
    chunks.sort_unstable_by_key(place);
    chunks.dedup_by_key(|chunk| place(chunk));
}

impl Snapshot {
    /// The content of the files whose numbers are in `numbers`. Reads the
    /// directories on the way, those of one level at once.
    ///
    /// # Errors
    /// What kept a directory from being read.
    pub async fn stretch(&self, numbers: Range<u64>) -> Result<Stretch, RepoError> {
        let mut stretch = Stretch::default();
        let mut level: Vec<Node> = vec![self.root()];
        let mut pace = Pace::default();
        while !level.is_empty() {
            let _coming = self.begin_directories(&level);
            let mut below = Vec::new();
            let mut held = 0;
            // One after the other, as they come: all at once they could take any
            // amount of memory.
            for node in &level {
                let directory = &self.directory(node).await?;
                pace.steps(1).await;
                let known = below.len();
                // Content of files that lies in the directory itself.
                let mut inline = false;
                if numbers.contains(&node.index.0) {
                    stretch.directories.extend(self.node_of(node));
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
                        Content::Chunks { first, count } => {
                            let run = first as usize..(first + count) as usize;
                            stretch.chunks.extend_from_slice(&directory.chunks()[run]);
                        }
                        Content::Part { index, .. } => {
                            let chunk = directory.chunks()[index as usize].clone();
                            stretch.chunks.push(chunk);
                        }
                        Content::Whole { index } => {
                            let whole = &directory.wholes()[index as usize];
                            stretch.wholes.push(whole.clone());
                        }
                        Content::List { .. } => {
                            stretch.listed.push(self.entry(node, directory, at));
                        }
                        Content::Inline(_) => inline = true,
                    }
                }
                if inline && !numbers.contains(&node.index.0) {
                    stretch.directories.extend(self.node_of(node));
                }
                if below.len() > known {
                    held += directory.weight();
                }
                let refs = stretch.chunks.len() * size_of::<ChunkRef>();
                if held + refs as u64 > STRETCH_MEMORY {
                    let most = STRETCH_MEMORY >> 20;
                    let what = format!("directories that take more than {most} MiB at once");
                    return Err(RepoError::TooLarge(what));
                }
            }
            level = below;
        }
        sort_by_place(&mut stretch.chunks);
        Ok(stretch)
    }

    /// Begins to fetch the nodes of directories together: those of one level lie
    /// near each other, though not in the table of one parent.
    fn begin_directories(&self, level: &[Node]) -> Vec<Coming> {
        let nodes = level.iter().filter_map(|node| self.node_of(node));
        self.begin_nodes(nodes.collect(), DIRECTORIES_AT_ONCE)
    }

    /// Begins to fetch nodes that are not at hand, in requests of up to `window`
    /// stored bytes for those that lie near each other. Must be called within a
    /// runtime.
    pub fn begin_nodes(&self, mut nodes: Vec<ChunkRef>, window: u64) -> Vec<Coming> {
        let loader = self.repository().loader();
        nodes.retain(|chunk| !loader.remembers(chunk) && !self.holds(chunk));
        sort_by_place(&mut nodes);
        let begun = (0..nodes.len()).filter_map(|at| self.begin_chunks(&nodes, at, window));
        begun.collect()
    }
}
