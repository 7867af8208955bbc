//! What the tier of a file depends on.

use serde::Serialize;

use crate::config::Tiers;
use crate::publish::analyze::{Class, Format};
use crate::repo::Tier;
use walgit_format::directory::MAX_INLINE_BYTES;
use walrus_encoding::cost::{self, encoded_size};

/// Approximate maximum size of files that are stored inline, in bytes.
pub(crate) const USUAL_MAX_INLINE_BYTES: usize = 256;

/// Size of a chunk reference in a directory node, in bytes.
const CHUNK_REFERENCE_BYTES: u64 = 45;

/// Properties of a file that the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TierFacts {
    /// Size in bytes.
    pub size: u64,
    /// Class of its content.
    pub class: Class,
    /// Whether it compresses.
    pub shrinks: bool,
    /// Fraction of sessions that open it, 0..=1.
    pub access: f64,
    /// Round-trip time, in seconds.
    pub round_trip: f64,
    /// Bandwidth, in bytes per second.
    pub bandwidth: f64,
    /// Maximum blob size, in bytes.
    pub max_blob: u64,
    /// Total bytes published with it, if known.
    pub total: Option<u64>,
}

impl TierFacts {
    /// Facts that a publish knows about a file.
    pub fn published(
        size: u64,
        (class, shrinks): (Class, bool),
        (max_blob, total): (u64, Option<u64>),
        tiers: &Tiers,
    ) -> Self {
        TierFacts {
            size,
            class,
            shrinks,
            access: tiers.access,
            round_trip: tiers.round_trip_ms / 1e3,
            bandwidth: tiers.bandwidth,
            max_blob,
            total,
        }
    }

    /// Expected saving of compression, as a fraction of the bytes, 0..=1: zero if samples are
    /// incompressible.
    pub(super) fn saving(&self) -> f64 {
        match self.class {
            _ if !self.shrinks => 0.0,
            Class::Image | Class::Archive => 0.25,
            Class::Binary | Class::Unknown | Class::Structured(Format::Database) => 0.5,
            Class::Text | Class::Code(_) | Class::Structured(_) => 0.75,
        }
    }

    /// Expected stored bytes if compressed.
    pub fn stored(&self) -> u64 {
        let remaining = 1.0 - self.saving();
        (self.size as f64 * remaining).ceil() as u64
    }

    /// Bytes billed for the file in a tier. A separate blob is billed completely. Content
    /// in a pack is billed for its bytes and its share of the fixed cost of the pack;
    /// there is no such share if everything fits into the one blob that is needed anyway.
    pub fn billed(&self, tier: Tier) -> u64 {
        let within = match tier {
            Tier::Walrus => return encoded_size(self.size),
            Tier::Inline => self.stored(),
            Tier::Chunked => self.stored() + CHUNK_REFERENCE_BYTES,
        };
        let one_blob = self.total.is_some_and(|total| total <= self.max_blob);
        let shared = if one_blob {
            0.0
        } else {
            cost::METADATA_BYTES as f64 * within as f64 / self.max_blob.max(1) as f64
        };
        (within as f64 * cost::BILLED_PER_BYTE + shared).ceil() as u64
    }

    pub(super) fn is_possible(&self, tier: Tier) -> bool {
        match tier {
            Tier::Inline => self.size <= MAX_INLINE_BYTES as u64,
            Tier::Chunked => true,
            Tier::Walrus => (1..=self.max_blob).contains(&self.size),
        }
    }
}
