//! Pins: chunks that stay in the disk cache.
//!
//! A pin is a name and the pages that it wants. A page that several pins want stays
//! until the last of them is removed; a page that was lost is pinned again when it
//! returns.

use serde::{Deserialize, Serialize};

use super::chunk_cache::Cache;
use super::disk::Disk;
use super::error::CacheError;
use super::pin_dir::PinnedPages;
use walgit_format::chunk::ChunkHash;

/// Percentage of the budget that pins may use; the rest is for unpinned reads.
const MAX_PINNED_PERCENT: u64 = 80;

/// A pin and its completeness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Name of the pin, chosen by the caller.
    pub name: String,
    /// Stored bytes of all pages that the pin wants.
    pub bytes: u64,
    /// Stored bytes of those pages that are on disk.
    pub held_bytes: u64,
}

impl Pin {
    /// Returns whether all pages are on disk.
    pub fn is_complete(&self) -> bool {
        self.held_bytes == self.bytes
    }
}

impl Cache {
    /// Removes the pin `name`; returns whether it existed.
    pub fn unpin(&self, name: &str) -> Result<bool, CacheError> {
        self.disk.unpin(name)
    }

    /// Lists all pins by name.
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        // Reads of chunks need the policy: do not hold it while reading from disk.
        let pins = self.disk.pins.all()?;
        let policy = self.disk.policy();
        let pins = pins.into_iter().map(|(name, pages)| Pin {
            name,
            bytes: stored_bytes(&pages),
            held_bytes: stored_bytes(pages.iter().filter(|(hash, _)| policy.contains(hash))),
        });
        Ok(pins.collect())
    }
}

fn stored_bytes<'a>(pages: impl IntoIterator<Item = &'a (ChunkHash, u32)>) -> u64 {
    pages.into_iter().map(|(_, len)| u64::from(*len)).sum()
}

impl Disk {
    /// Registers the pages that pins want, before the metadata is loaded.
    pub(super) fn load_pins(&self) -> Result<(), CacheError> {
        let pins = self.pins.all()?;
        let mut policy = self.policy();
        let pages = pins.iter().flat_map(|(_, pages)| pages);
        pages.for_each(|(hash, _)| policy.pin(*hash));
        Ok(())
    }

    /// Removes all pins.
    pub(super) fn remove_pins(&self) -> Result<(), CacheError> {
        let pins = self.pins.all()?;
        self.pins.remove_all()?;
        let mut policy = self.policy();
        let pages = pins.iter().flat_map(|(_, pages)| pages);
        pages.for_each(|(hash, _)| policy.unpin(hash));
        Ok(())
    }

    pub(super) fn pin(&self, name: &str, pages: &PinnedPages) -> Result<(), CacheError> {
        let others = self.pins.all()?.into_iter();
        let others = others.filter(|(other, _)| other != name);
        let others: u64 = others.map(|(_, pages)| stored_bytes(&pages)).sum();
        let needed = stored_bytes(pages) + others;
        let budget = self.budget() / 100 * MAX_PINNED_PERCENT;
        if needed > budget {
            return Err(CacheError::PinsTooLarge { needed, budget });
        }
        let before = self.pins.get(name)?.unwrap_or_default();
        self.pins.put(name, pages)?;
        // In this order a page that both sets contain is always pinned.
        let mut policy = self.policy();
        pages.iter().for_each(|(hash, _)| policy.pin(*hash));
        before.iter().for_each(|(hash, _)| policy.unpin(hash));
        Ok(())
    }

    fn unpin(&self, name: &str) -> Result<bool, CacheError> {
        let Some(pages) = self.pins.get(name)? else {
            return Ok(false);
        };
        self.pins.remove(name)?;
        let mut policy = self.policy();
        pages.iter().for_each(|(hash, _)| policy.unpin(hash));
        Ok(true)
    }
}
