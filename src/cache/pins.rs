//! What is to stay in the cache, and how much of it is here.
//!
//! A pin is a name and the pages that it wants, written down as a record of its
//! own: a page that several pins want stays until the last of them is gone, and
//! one that was lost stays when it comes back.

use rocksdb::{Direction, IteratorMode};
use serde::{Deserialize, Serialize};

use super::database::RECORDS;
use super::disk::{Disk, Space};
use super::{Cache, CacheError, vault};
use crate::chunk::{ChunkHash, ChunkRef, SecretKey};

/// Part of the budget that pins may take, in percent; the rest is for what is
/// read beside them.
const MAX_PERCENT: u64 = 80;
/// Hash and stored length of a page.
const WANTED: usize = 36;

/// A pin, and how complete it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What was pinned, as whoever pinned it calls it.
    pub name: String,
    /// Stored bytes that it wants.
    pub bytes: u64,
    /// Those of them that are here.
    pub held_bytes: u64,
}

impl Pin {
    /// Whether all of it is here.
    pub fn is_complete(&self) -> bool {
        self.held_bytes == self.bytes
    }
}

impl Cache {
    /// Keeps chunks, here or yet to come, until `name` is unpinned; they take
    /// the place of what it wanted before. They lie under the key `at_rest`.
    ///
    /// # Errors
    /// [`CacheError::PinsTooLarge`] where the budget does not allow it, and
    /// when the disk refuses.
    pub fn pin(
        &self,
        name: &str,
        chunks: &[ChunkRef],
        at_rest: Option<&SecretKey>,
    ) -> Result<(), CacheError> {
        let mut wanted: Vec<(ChunkHash, u32)> = (chunks.iter())
            .map(|chunk| (vault::page_name(&chunk.hash, at_rest), chunk.at.stored_len))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.disk.pin(name, &wanted)
    }

    /// Lets go of what `name` keeps; whether there was such a pin.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn unpin(&self, name: &str) -> Result<bool, CacheError> {
        self.disk.unpin(name)
    }

    /// All pins, by name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        // Readers need the policy: it is not held while the disk is read.
        let pins = self.disk.pins()?;
        let policy = self.disk.policy();
        let pins = pins.into_iter().map(|(name, wanted)| Pin {
            name,
            bytes: bytes(&wanted),
            held_bytes: bytes(wanted.iter().filter(|(hash, _)| policy.holds(hash))),
        });
        Ok(pins.collect())
    }
}

type Wanted = Vec<(ChunkHash, u32)>;

/// Stored bytes of some pages.
fn bytes<'a>(wanted: impl IntoIterator<Item = &'a (ChunkHash, u32)>) -> u64 {
    wanted.into_iter().map(|(_, len)| u64::from(*len)).sum()
}

impl Disk {
    /// Notes what pins want, before it is known what is here.
    pub(super) fn load_pins(&self) -> Result<(), CacheError> {
        let pins = self.pins()?;
        let mut policy = self.policy();
        for (_, wanted) in pins {
            wanted.iter().for_each(|(hash, _)| policy.pin(*hash));
        }
        Ok(())
    }

    /// Lets go of everything.
    pub(super) fn forget_pins(&self) -> Result<(), CacheError> {
        for (name, _) in self.pins()? {
            self.unpin(&name)?;
        }
        Ok(())
    }

    fn pin(&self, name: &str, wanted: &Wanted) -> Result<(), CacheError> {
        let others = self.pins()?.into_iter().filter(|(other, _)| other != name);
        let needed = bytes(wanted) + others.map(|(_, wanted)| bytes(&wanted)).sum::<u64>();
        let budget = self.budget() / 100 * MAX_PERCENT;
        if needed > budget {
            return Err(CacheError::PinsTooLarge { needed, budget });
        }
        let before = self.wanted(name)?.unwrap_or_default();
        let value: Vec<u8> = (wanted.iter())
            .flat_map(|(hash, len)| hash.as_bytes().iter().copied().chain(len.to_le_bytes()))
            .collect();
        self.db.put_cf(self.family(RECORDS)?, key(name), value)?;
        // In this order what both want is never without a pin.
        let mut policy = self.policy();
        wanted.iter().for_each(|(hash, _)| policy.pin(*hash));
        before.iter().for_each(|(hash, _)| policy.unpin(hash));
        Ok(())
    }

    fn unpin(&self, name: &str) -> Result<bool, CacheError> {
        let Some(wanted) = self.wanted(name)? else {
            return Ok(false);
        };
        self.db.delete_cf(self.family(RECORDS)?, key(name))?;
        let mut policy = self.policy();
        wanted.iter().for_each(|(hash, _)| policy.unpin(hash));
        Ok(true)
    }

    /// What a pin wants; `None` where there is no such pin.
    fn wanted(&self, name: &str) -> Result<Option<Wanted>, CacheError> {
        let value = self.db.get_cf(self.family(RECORDS)?, key(name))?;
        Ok(value.map(|value| decode(&value)))
    }

    fn pins(&self) -> Result<Vec<(String, Wanted)>, CacheError> {
        let first = key("");
        let from = IteratorMode::From(&first, Direction::Forward);
        let mut pins = Vec::new();
        for item in self.db.iterator_cf(self.family(RECORDS)?, from) {
            let (key, value) = item?;
            match key.strip_prefix(first.as_slice()) {
                Some(name) => pins.push((String::from_utf8_lossy(name).into(), decode(&value))),
                None => break,
            }
        }
        Ok(pins)
    }
}

fn key(name: &str) -> Vec<u8> {
    let mut key = vec![Space::Pins.prefix()];
    key.extend_from_slice(name.as_bytes());
    key
}

fn decode(value: &[u8]) -> Wanted {
    let one = |wanted: &[u8]| {
        let (hash, len) = wanted.split_first_chunk::<32>()?;
        let len = u32::from_le_bytes(len.try_into().ok()?);
        Some((ChunkHash::from_bytes(*hash), len))
    };
    value.chunks_exact(WANTED).filter_map(one).collect()
}
