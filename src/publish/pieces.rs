//! Stores pieces of content as chunks: deduplicated, as patches if that pays, on all
//! cores.

use std::collections::HashSet;

use bytes::Bytes;
use rayon::prelude::*;

use super::PublishError;
use super::compress::Manner;
use super::delta::{Base, Recent};
use super::known::Known;
use super::packs::Packs;
use super::placed::{Placed, chunk_len};
use super::sketch::Sketch;
use walgit_format::chunk::{Bases, ChunkHash, Codec, Patcher, Sealed};

/// A piece of a file: the content of one chunk.
pub(super) struct Piece<'a> {
    raw: Bytes,
    hash: ChunkHash,
    manner: Manner<'a>,
    /// Sketch for finding similar content; `None` for a piece that is stored already or
    /// cannot be a patch.
    sketch: Option<Sketch>,
    /// The earlier version.
    before: Option<Base>,
}

impl<'a> Piece<'a> {
    /// Hashes a piece of a file with these compression parameters, and sketches it.
    pub(super) fn new(raw: Bytes, manner: Manner<'a>, packs: &Packs, known: &Known) -> Self {
        let hash = ChunkHash::of(&raw);
        let new = packs.find(&hash, known).is_none() && manner.may_be_a_patch(raw.len());
        Piece {
            sketch: new.then(|| Sketch::of(&raw)),
            raw,
            hash,
            manner,
            before: None,
        }
    }

    /// Whether an earlier version is useful as a base.
    pub(super) fn wants_a_base(&self) -> bool {
        self.sketch.is_some()
    }

    /// Sets the earlier version.
    pub(super) fn set_before(&mut self, before: Base) {
        self.before = Some(before);
    }
}

/// Stores pieces in order, and retains recent ones as possible bases.
pub(super) struct Storing<'a> {
    pub(super) packs: &'a mut Packs,
    pub(super) known: &'a Known,
    recent: Recent,
}

/// Storage form of a piece.
enum Way {
    /// Resolved when placed: it is stored already, or will be by then.
    Found,
    Alone(Sealed, Bases<Placed>),
    Patch(Sealed, Base),
}

impl<'a> Storing<'a> {
    /// Starts without possible bases.
    pub(super) fn new(packs: &'a mut Packs, known: &'a Known) -> Self {
        Storing {
            packs,
            known,
            recent: Recent::default(),
        }
    }

    /// Stores new pieces; returns the locations of all.
    pub(super) fn store(&mut self, pieces: Vec<Piece<'_>>) -> Result<Vec<Placed>, PublishError> {
        let plans = self.choose(&pieces);
        let ways: Vec<Way> = (pieces.par_iter().zip(&plans))
            .map_init(Patcher::new, |patcher, (piece, plan)| match plan {
                None => Way::Found,
                Some(base) => seal(piece, base.as_ref(), patcher),
            })
            .collect();
        let mut placed = Vec::with_capacity(pieces.len());
        for (piece, way) in pieces.into_iter().zip(ways) {
            placed.push(self.place(piece, way)?);
        }
        Ok(placed)
    }

    /// Selects a base for each piece; `None` for pieces that are not encoded.
    fn choose(&mut self, pieces: &[Piece<'_>]) -> Vec<Option<Option<Base>>> {
        let mut met: HashSet<ChunkHash> = HashSet::new();
        let mut choose = |piece: &Piece<'_>| {
            let there = self.packs.find(&piece.hash, self.known).is_some();
            if there || !met.insert(piece.hash) {
                return None;
            }
            let Some(sketch) = &piece.sketch else {
                return Some(None);
            };
            let like = || self.recent.like(sketch).cloned();
            let base = piece.before.clone().or_else(like);
            if base.is_none() {
                // It will be stored whole, so it can be a base of later pieces.
                (self.recent).add(piece.hash, piece.raw.clone(), sketch.clone());
            }
            Some(base)
        };
        pieces.iter().map(&mut choose).collect()
    }

    fn place(&mut self, piece: Piece<'_>, way: Way) -> Result<Placed, PublishError> {
        let (sealed, bases) = match way {
            Way::Found => {
                let found = self.packs.find(&piece.hash, self.known);
                return found.ok_or(PublishError::Internal("a piece is not where it was found"));
            }
            Way::Alone(sealed, bases) => {
                if let (Some(sketch), Some(_)) = (piece.sketch, piece.before) {
                    (self.recent).add(piece.hash, piece.raw.clone(), sketch);
                }
                (sealed, bases)
            }
            Way::Patch(sealed, base) => {
                let found = || self.packs.find(&base.hash, self.known);
                let placed = base.placed.or_else(found);
                let whole = placed.filter(|base| base.codec != Codec::Patch);
                let no = PublishError::Internal("the base of a patch is not stored");
                (sealed, Bases::one(whole.ok_or(no)?))
            }
        };
        let len = chunk_len(piece.raw.len())?;
        self.packs.add(piece.hash, len, &sealed, bases)
    }
}

fn seal<'b>(piece: &Piece<'_>, base: Option<&'b Base>, patcher: &mut Patcher<'b>) -> Way {
    let alone = match base {
        Some(base) => match (piece.manner).seal_against(&piece.raw, &base.raw, patcher) {
            Ok(patch) => return Way::Patch(patch, base.clone()),
            Err(alone) => alone,
        },
        None => piece.manner.seal(&piece.raw),
    };
    Way::Alone(alone.0, alone.1)
}
