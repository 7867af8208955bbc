//! Result of a collection.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use serde::Serialize;

use super::super::reachability::{ScanCounts, UnreadableHead};
use walgit_format::chunk::BlobId;
use walrus_encoding::cost::Bill;

/// Reason why an unneeded blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetainReason {
    /// A publish claims it.
    Claimed,
    /// An unreadable head may need it.
    Unknown,
    /// A retention rule keeps it.
    Rule,
    /// It was stored a short time ago.
    Young,
}

impl RetainReason {
    /// Describes the reason.
    pub fn describe(self) -> &'static str {
        match self {
            RetainReason::Claimed => "claimed by a publish",
            RetainReason::Unknown => "possibly needed by an unreadable head",
            RetainReason::Rule => "kept by a retention rule",
            RetainReason::Young => "within the grace period",
        }
    }
}

/// An unneeded blob and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnneededBlob {
    /// Blob ID.
    pub blob: BlobId,
    /// Length in bytes.
    pub len: u64,
    /// Whether a completed publish stored it; otherwise it is an orphan.
    pub published: bool,
    /// What happens, or happened, to it.
    #[serde(rename = "fate")]
    pub outcome: SweepOutcome,
    /// Until when a rule keeps it, in seconds since 1970; `None` if forever, or if no
    /// rule keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// What happens to an unneeded blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepOutcome {
    /// It is deleted.
    Deleted,
    /// It has expired or is gone already: it is forgotten.
    Expired,
    /// It cannot be deleted: it is no longer renewed.
    Forgotten,
    /// It is kept.
    Kept(RetainReason),
}

/// Result of a collection.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GcReport {
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Heads that were walked.
    pub heads: u64,
    /// Blobs that these heads need.
    pub live_blobs: u64,
    /// Heads that could not be read, with reasons.
    #[serde(rename = "refused")]
    pub unreadable: Vec<UnreadableHead>,
    /// Unneeded blobs.
    pub unneeded: Vec<UnneededBlob>,
    /// Bill of the deleted blobs.
    pub reclaimed: Bill,
    /// Savings per epoch.
    pub saved: f64,
    /// Currency of the savings: `USD`, `WAL`.
    pub currency: String,
    /// Blobs that an earlier, interrupted run was about to delete.
    pub resumed: u64,
    /// Mounts whose heads are in use.
    pub mounts: u64,
    /// How often names and leases were read.
    pub scans: ScanCounts,
    /// Mount points of this store without a lease: if there are any, only a dry run gets
    /// this far.
    #[serde(rename = "unexplained", skip_serializing_if = "Vec::is_empty")]
    pub mounts_without_lease: Vec<PathBuf>,
    /// Persistent identities of mounted repositories.
    #[serde(skip)]
    pub mounted: HashSet<String>,
}

impl GcReport {
    /// Returns the number and bytes of blobs per outcome.
    pub fn by_outcome(&self) -> BTreeMap<SweepOutcome, Bill> {
        let mut outcomes: BTreeMap<SweepOutcome, Bill> = BTreeMap::new();
        for one in &self.unneeded {
            outcomes.entry(one.outcome).or_default().add(one.len);
        }
        outcomes
    }
}
