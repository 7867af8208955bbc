//! Moves files to better tiers.

use std::sync::Arc;

use super::super::PublishError;
use super::super::content::pieces;
use super::super::plan::{ContentPlan, Plan};
use super::super::tier::{self, Facts};
use super::copy::Copying;
use super::{File, Stored};
use crate::config::Tiers;
use crate::publish::analyze::Class;
use crate::repo::Tier;
use walgit_format::chunk::{Bases, ByteRange, ChunkHash, Codec, seal};
use walgit_prefetch::Profile;

/// zstd level for content that moves into a pack.
const LEVEL: i32 = 9;
/// Bytes around a read that may be fetched as well.
const NEIGHBOURS: u64 = 4 << 20;

/// Moves files whose score improves by more than a threshold.
#[derive(Clone, Debug)]
pub struct TierMover {
    /// Minimum improvement of the score, 0..=1.
    pub improvement: f64,
    /// Learned file opens, if there are any.
    pub profile: Option<Arc<Profile>>,
}

/// The tier that a file in tier `now` moves to: one whose score is better by more than
/// `improvement`, or any if the present tier is ruled out by cost.
pub fn move_for(facts: &Facts, now: Tier, improvement: f64, tiers: &Tiers) -> Option<Tier> {
    let verdict = tier::choose(facts, &tiers.weights);
    let score = |tier| verdict.scores.iter().find(|score| score.tier == tier);
    let (here, there) = (score(now)?, score(verdict.tier)?);
    let better = here.ruled_out.is_some() || there.sum - here.sum > improvement;
    (verdict.tier != now && better).then_some(verdict.tier)
}

impl TierMover {
    /// The tier that a file should move to, if any.
    pub(super) fn wants(
        &self,
        plan: &Plan,
        file: &File,
        limit: u64,
        total: u64,
        tiers: &Tiers,
    ) -> Option<Tier> {
        let directory = &plan.directories[file.directory];
        let entry = &directory.entries[file.entry];
        // An empty file does not move.
        if entry.size == 0 {
            return None;
        }
        let path = super::super::git::join(&directory.path, &entry.name);
        let chunks = file.chunks();
        let shrinks = chunks.is_empty() || chunks.iter().any(|it| it.codec != Codec::Raw);
        let facts = self.facts(&path, entry.size, shrinks, (limit, Some(total)), tiers);
        move_for(&facts, Tier::of(chunks), self.improvement, tiers)
    }

    /// Facts about the file at a path. `bounds` are the maximum blob size and the total
    /// bytes stored with it.
    pub fn facts(
        &self,
        path: &[u8],
        size: u64,
        shrinks: bool,
        bounds: (u64, Option<u64>),
        tiers: &Tiers,
    ) -> Facts {
        let published = Facts::published(size, (Class::of(path, &[]), shrinks), bounds, tiers);
        let measured = || {
            self.profile
                .as_ref()?
                .access(std::str::from_utf8(path).ok()?)
        };
        Facts {
            access: measured().unwrap_or(published.access),
            ..published
        }
    }
}

/// Stores a file in a different tier.
pub(super) fn store(
    file: &File,
    tier: Tier,
    copying: &mut Copying<'_>,
) -> Result<ContentPlan, PublishError> {
    let raw = match &file.stored {
        Stored::Inline(bytes) => bytes.clone(),
        Stored::Chunks(_, node) => {
            let snapshot = copying.repository.snapshot(file.commit)?;
            let all = ByteRange::new(0, node.size);
            let read = snapshot.read(node, all, NEIGHBOURS);
            tokio::runtime::Handle::current().block_on(read)?
        }
    };
    if tier == Tier::Inline {
        return Ok(ContentPlan::Inline(raw.to_vec()));
    }
    let pieces = pieces(&raw);
    if tier == Tier::Walrus {
        let cuts: Vec<(ChunkHash, u32)> = (pieces.iter())
            .map(|piece| (ChunkHash::of(piece), piece.len() as u32))
            .collect();
        copying.spend(raw.len() as u64)?;
        let placed = copying.packs.add_plain(raw.clone(), &cuts)?;
        let placed = placed.into_iter().map(|one| copying.note(one));
        return Ok(ContentPlan::Chunks(placed.collect()));
    }
    let mut chunks = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (hash, sealed) = (ChunkHash::of(&piece), seal(&piece, LEVEL));
        let len = piece.len() as u32;
        copying.spend(sealed.bytes.len() as u64)?;
        let placed = copying.packs.add(hash, len, &sealed, Bases::NONE)?;
        chunks.push(copying.note(placed));
    }
    Ok(ContentPlan::Chunks(chunks))
}
