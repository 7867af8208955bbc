//! What a walk over a tree will come to next, in the order in which it is
//! stored.

use std::ops::Range;

use super::{Content, Node, RepoError, Snapshot};
use crate::chunk::{ChunkRef, WholeBlob};

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

impl Snapshot {
    /// The content of the files whose numbers are in `numbers`. Reads the
    /// directories on the way, those of one level at once.
    ///
    /// # Errors
    /// What kept a directory from being read.
    pub async fn stretch(&self, numbers: Range<u64>) -> Result<Stretch, RepoError> {
        let mut stretch = Stretch::default();
        let mut level: Vec<Node> = vec![self.root()];
        while !level.is_empty() {
            let reads = level.iter().map(|node| self.directory(node));
            let directories = futures_util::future::try_join_all(reads).await?;
            let mut below = Vec::new();
            for (node, directory) in level.iter().zip(&directories) {
                if numbers.contains(&node.index.0) {
                    stretch.directories.extend(self.node_of(node));
                }
                for (at, entry) in directory.entries().iter().enumerate() {
                    let number = node.index.0 + entry.offset;
                    if number >= numbers.end || number + entry.nodes() <= numbers.start {
                        continue;
                    }
                    match entry.content {
                        Content::Directory { .. } => below.push(self.entry(node, directory, at)),
                        Content::Chunks { first, count } => {
                            let run = first as usize..(first + count) as usize;
                            stretch.chunks.extend_from_slice(&directory.chunks()[run]);
                        }
                        Content::Whole { index } => {
                            let whole = &directory.wholes()[index as usize];
                            stretch.wholes.push(whole.clone());
                        }
                        Content::List { .. } => {
                            stretch.listed.push(self.entry(node, directory, at));
                        }
                        Content::Inline(_) => {}
                    }
                }
            }
            level = below;
        }
        let place = |chunk: &ChunkRef| (chunk.at.blob, chunk.at.offset);
        stretch.chunks.sort_unstable_by_key(place);
        stretch.chunks.dedup_by_key(|chunk| place(chunk));
        Ok(stretch)
    }
}
