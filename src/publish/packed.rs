//! A plan whose content is packed, and the report about its publish.

use serde::Serialize;

use super::effort::Effort;
use super::foreign_source::FormerLayout;
use super::history::commits::{Archived, HistoryReport};
use super::pending_chunk::PendingChunk;
use super::plan::Plan;
use super::previous_publish::PreviousPublish;
use super::source::Skipped;
use walgit_format::chunk::{BlobId, ChunkHash};
use walgit_format::head::AttachmentKind;
use walrus_client::StoredBlob;

/// Result of a publish.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    /// The blob that starts with the head.
    pub blob: BlobId,
    /// The hash of the head, or its keyed hash if encrypted: the `root` of its address.
    pub root: ChunkHash,
    /// Whether everything, including the head, was stored already.
    pub unchanged: bool,
    /// Files and symlinks in the published trees.
    pub files: u64,
    /// Directories in the published trees.
    pub directories: u64,
    /// Bytes of content read.
    pub bytes_read: u64,
    /// Bytes uploaded.
    pub bytes_stored: u64,
    /// Bytes that the network bills for them.
    pub bytes_billed: u64,
    /// Number of uploaded blobs.
    pub blobs_uploaded: u64,
    /// Number of blobs of this head that the store had already.
    pub blobs_present: u64,
    /// All blobs of the publish, the head's last.
    pub blobs: Vec<StoredBlob>,
    /// Omitted content, with reasons.
    pub warnings: Vec<String>,
    /// Skipped entries of a plain folder.
    pub skipped: Vec<Skipped>,
    /// Archived git history.
    pub history: Option<HistoryReport>,
    /// Cost of its former layout, if it was converted from one.
    pub former: Option<FormerLayout>,
}

impl Published {
    /// The current epoch, derived from blobs that were just stored for `epochs` epochs.
    pub fn epoch(&self, epochs: u32) -> Option<u32> {
        let ends = self.blobs.iter().filter_map(|blob| blob.end_epoch);
        // Blobs that existed already may end later.
        let first = ends.min().filter(|_| self.blobs_uploaded > 0)?;
        first.checked_sub(epochs)
    }
}

/// A plan whose content is packed.
pub(super) struct PackedPlan {
    pub(super) plan: Plan,
    pub(super) previous: PreviousPublish,
    pub(super) attachments: Vec<(AttachmentKind, Vec<PendingChunk>)>,
    pub(super) bytes_read: u64,
    pub(super) archived: Option<Archived>,
    pub(super) effort: Effort,
}

impl PackedPlan {
    /// The report about a head at `blob`, without uploads.
    pub(super) fn report(&self, blob: BlobId, root: ChunkHash) -> Published {
        let (files, directories) = self.plan.counts(&self.previous);
        Published {
            blob,
            root,
            unchanged: false,
            files,
            directories,
            bytes_read: self.bytes_read,
            bytes_stored: 0,
            bytes_billed: 0,
            blobs_uploaded: 0,
            blobs_present: 0,
            blobs: Vec::new(),
            warnings: self.plan.all_warnings(),
            skipped: self.plan.skipped.clone(),
            history: self.archived.as_ref().map(|archived| archived.report),
            former: self.plan.former_layout(),
        }
    }

    /// The report if the previous head equals that of this plan.
    pub(super) fn unchanged(&self) -> Option<Published> {
        let previous = self.previous.head.as_ref();
        let previous = previous.filter(|_| self.plan.is_published(&self.previous))?;
        let (blob, root) = previous.blob().zip(previous.root())?;
        Some(Published {
            unchanged: true,
            blobs_present: previous.head().blobs.len() as u64 + 1,
            history: (self.plan.history.as_ref()).map(|history| HistoryReport {
                commits: history.commits.len() as u64,
                ..HistoryReport::default()
            }),
            ..self.report(blob, root)
        })
    }
}
