//! A segment of an archive under construction.

use gix::ObjectId;

use super::commits::History;
use crate::publish::compress::{Compression, Encoded};
use crate::publish::error::PublishError;
use crate::publish::options::Progress;
use crate::publish::packs::Packs;
use crate::publish::pending_chunk::{PendingChunk, chunk_len};
use crate::publish::plan::Plan;
use crate::publish::previous_publish::PreviousPublish;
use walgit_format::archive::{ChunkRun, CommitMark, Segment};
use walgit_format::chunk::ChunkHash;

/// A segment under construction, with its context.
pub(super) struct SegmentBuilder<'a> {
    pub(super) repo: gix::Repository,
    pub(super) plan: &'a Plan,
    pub(super) history: &'a History,
    pub(super) previous: &'a PreviousPublish,
    pub(super) compression: &'a Compression,
    pub(super) packs: &'a mut Packs,
    pub(super) progress: &'a dyn Progress,
    pub(super) segment: Segment<PendingChunk>,
    /// Number of objects placed, and their total.
    pub(super) done: u64,
    pub(super) objects: u64,
    /// Their stored bytes.
    pub(super) bytes: u64,
}

impl SegmentBuilder<'_> {
    /// Returns the location of a chunk; stores it if it is new. `encoded` is required for a
    /// new chunk.
    pub(super) fn store(
        &mut self,
        hash: ChunkHash,
        raw_len: usize,
        encoded: Option<Encoded>,
    ) -> Result<PendingChunk, PublishError> {
        if let Some(stored) = self.packs.find(&hash) {
            return Ok(stored);
        }
        let missing = PublishError::Internal("a chunk of the history was not encoded");
        let (sealed, bases) = encoded.ok_or(missing)?;
        self.bytes += sealed.bytes.len() as u64;
        self.packs.add(hash, chunk_len(raw_len)?, &sealed, bases)
    }

    /// Adds a chunk to the segment; returns its index.
    pub(super) fn push_chunk(
        &mut self,
        hash: ChunkHash,
        raw_len: usize,
        encoded: Encoded,
    ) -> Result<usize, PublishError> {
        let chunk = self.store(hash, raw_len, Some(encoded))?;
        self.segment.chunks.push(chunk);
        Ok(self.segment.chunks.len() - 1)
    }

    /// Adds a content that consists of these chunks.
    pub(super) fn push_file(&mut self, chunks: Vec<PendingChunk>) {
        self.segment.files.push(ChunkRun {
            first: self.segment.chunks.len(),
            count: chunks.len(),
        });
        self.segment.chunks.extend(chunks);
        self.report_done(1);
    }

    /// Adds a commit with the number of its tree.
    pub(super) fn push_commit(
        &mut self,
        id: ObjectId,
        tree: Option<u64>,
    ) -> Result<(), PublishError> {
        let missing = PublishError::Internal("the tree of a commit was not archived");
        self.segment.commits.push(CommitMark {
            name: CommitMark::name(id.as_slice()),
            tree: tree.ok_or(missing)?,
        });
        Ok(())
    }

    /// Reports that `more` objects are placed.
    pub(super) fn report_done(&mut self, more: u64) {
        self.done += more;
        self.progress.history(self.done, self.objects);
    }
}
