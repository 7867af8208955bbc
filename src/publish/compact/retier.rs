//! Moves files to better tiers.

use std::sync::Arc;

use bytes::Bytes;

use super::copier::ChunkCopier;
use super::head_reader::{StoredContent, StoredFile};
use crate::config::Tiers;
use crate::publish::analyze::Class;
use crate::publish::chunking::split;
use crate::publish::error::PublishError;
use crate::publish::pending_chunk::PendingChunk;
use crate::publish::plan::{ContentPlan, Plan};
use crate::publish::tier::{self, TierFacts};
use crate::repo::Tier;
use walgit_format::chunk::{Bases, ByteRange, ChunkHash, Codec, encode_chunk};
use walgit_prefetch::Profile;

/// zstd level for content that moves into a pack.
const COMPRESSION_LEVEL: i32 = 9;
/// Bytes around a read that may be fetched as well.
const MAX_EXTRA_BYTES: u64 = 4 << 20;

/// Moves files to better tiers if their score improves by more than a threshold.
#[derive(Clone, Debug)]
pub struct Retiering {
    /// Minimum improvement of the score, 0..=1.
    pub improvement: f64,
    /// Learned file opens, if there are any.
    pub profile: Option<Arc<Profile>>,
}

/// The tier that a file in tier `now` moves to: one whose score is better by more than
/// `improvement`, or any if the present tier is ruled out by cost.
pub fn better_tier(facts: &TierFacts, now: Tier, improvement: f64, tiers: &Tiers) -> Option<Tier> {
    let decision = tier::choose(facts, &tiers.weights);
    let score = |tier| decision.scores.iter().find(|score| score.tier == tier);
    let (present, new) = (score(now)?, score(decision.tier)?);
    let better = present.ruled_out.is_some() || new.sum - present.sum > improvement;
    (decision.tier != now && better).then_some(decision.tier)
}

impl Retiering {
    /// The tier that a file should move to, if any.
    pub(super) fn new_tier(
        &self,
        plan: &Plan,
        file: &StoredFile,
        max_blob: u64,
        total: u64,
        tiers: &Tiers,
    ) -> Option<Tier> {
        let size = plan.entry(file.entry).size;
        // An empty file does not move.
        if size == 0 {
            return None;
        }
        let chunks = file.chunks();
        let compressible = chunks.is_empty() || chunks.iter().any(|it| it.codec != Codec::Raw);
        let bounds = (max_blob, Some(total));
        let facts = self.facts(&plan.path(file.entry), size, compressible, bounds, tiers);
        better_tier(&facts, Tier::of(chunks), self.improvement, tiers)
    }

    /// Facts about the file at a path. `bounds` are the maximum blob size and the total
    /// bytes stored with it.
    pub fn facts(
        &self,
        path: &[u8],
        size: u64,
        compressible: bool,
        bounds: (u64, Option<u64>),
        tiers: &Tiers,
    ) -> TierFacts {
        let class = (Class::of(path, &[]), compressible);
        let published = TierFacts::published(size, class, bounds, tiers);
        let measured = |profile: &Arc<Profile>| profile.access(std::str::from_utf8(path).ok()?);
        TierFacts {
            access: (self.profile.as_ref().and_then(measured)).unwrap_or(published.access),
            ..published
        }
    }
}

/// Stores a file in a different tier.
pub(super) fn store(
    file: &StoredFile,
    tier: Tier,
    copier: &mut ChunkCopier<'_>,
) -> Result<ContentPlan, PublishError> {
    let raw = match &file.content {
        StoredContent::Inline(bytes) => bytes.clone(),
        StoredContent::Chunks(_) => {
            let snapshot = copier.repository.snapshot(file.commit)?;
            let all = ByteRange::new(0, file.node.size);
            let read = snapshot.read(&file.node, all, MAX_EXTRA_BYTES);
            tokio::runtime::Handle::current().block_on(read)?
        }
    };
    if tier == Tier::Inline {
        return Ok(ContentPlan::Inline(raw.to_vec()));
    }
    let chunks = split(&raw);
    let hashes = chunks.iter().map(|chunk| ChunkHash::of(chunk));
    let hashes = hashes.zip(chunks.iter().map(|chunk| chunk.len() as u32));
    let stored: Vec<PendingChunk> = if tier == Tier::Walrus {
        copier.spend(raw.len() as u64)?;
        let hashes: Vec<_> = hashes.collect();
        copier.packs.add_plain(raw.clone(), &hashes)?
    } else {
        let mut store = |((hash, len), chunk): ((ChunkHash, u32), &Bytes)| {
            let sealed = encode_chunk(chunk, COMPRESSION_LEVEL);
            copier.spend(sealed.bytes.len() as u64)?;
            copier.packs.add(hash, len, &sealed, Bases::NONE)
        };
        let chunks = hashes.zip(&chunks);
        chunks.map(&mut store).collect::<Result<_, _>>()?
    };
    let recorded = stored.into_iter().map(|chunk| copier.record(chunk));
    Ok(ContentPlan::Chunks(recorded.collect()))
}
