//! Options and progress of a publish.

use std::sync::Arc;

use super::effort::Effort;
use super::history::commits::HistoryDepth;
use crate::config::Tiers;
use crate::leases::PublishLease;
use walgit_format::chunk::{BlobId, ChunkHash, SecretKey};
use walrus_client::PutOptions;

/// Options of a publish.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Branches of a git repository, the default branch first; if empty, the current
    /// branch.
    pub branches: Vec<String>,
    /// Storage options of blobs.
    pub put: PutOptions,
    /// Compression effort.
    pub effort: Effort,
    /// Layout of files.
    pub tiers: Tiers,
    /// Depth of the git history to publish.
    pub history: HistoryDepth,
    /// Whether to skip unreadable files of a plain folder.
    pub skip_unreadable: bool,
    /// The previously published head, whose content is reused.
    pub previous: Option<(BlobId, Option<ChunkHash>)>,
    /// The learned profile to ship.
    pub profile: ShippedProfile,
    /// Encryption key; without one, the publish is public.
    pub key: Option<SecretKey>,
    /// Claims the blobs that are about to be created.
    pub lease: Option<Arc<PublishLease>>,
}

/// The learned profile of file opens that a repository ships.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ShippedProfile {
    /// The profile of the previous head.
    #[default]
    Inherit,
    /// No profile.
    Omit,
    /// This profile, of at most [`MAX_SHIPPED_BYTES`](walgit_format::head::MAX_SHIPPED_BYTES)
    /// bytes.
    Replace(Vec<u8>),
}

/// Callbacks for the progress of a publish.
pub trait Progress: Send + Sync {
    /// Total files and bytes to read.
    fn total(&self, _files: u64, _bytes: u64) {}
    /// Additional files and bytes that were read.
    fn read(&self, _files: u64, _bytes: u64) {}
    /// An upload of this many bytes starts.
    fn uploading(&self, _bytes: u64) {}
    /// Number of commits compared with their parents.
    fn compared(&self, _commits: u64) {}
    /// Number of objects of the history stored, and their total; 0 while they are still
    /// being counted.
    fn history(&self, _objects: u64, _total: u64) {}
}

/// A [`Progress`] that does nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {}
