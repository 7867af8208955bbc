//! Pins: chunks that stay in the disk cache.
//!
//! A pin is a name and the pages that it wants. A page that several pins want stays
//! until the last of them is removed; a page that was lost is pinned again when it
//! returns. Each pin is a file in `pages.pins` beside the database, so that pins
//! survive any damage to the database.
//!
//! ```text
//! 8 bytes   "wgpin\0\0\x01"
//! u32       length of the name, little-endian
//! name      UTF-8
//! 36 bytes  a page: its hash, its stored length (u32); any number of them
//! 32 bytes  BLAKE3 of all before
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::lock::beside;
use super::{Cache, CacheError, vault};
use walgit_durable::{read_regular, remove_file, write_atomic};
use walgit_format::chunk::{ChunkHash, ChunkRef, SecretKey};

/// Percentage of the budget that pins may use; the rest is for unpinned reads.
const MAX_PERCENT: u64 = 80;
/// Size of a page in a pin file: hash and stored length.
const WANTED: usize = 36;
const MAGIC: [u8; 8] = *b"wgpin\0\0\x01";
const CHECKSUM: usize = blake3::OUT_LEN;

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
    /// Pins chunks, present or future, until `name` is unpinned. Replaces the
    /// previous set of the pin. The chunks are stored under the key `at_rest`.
    ///
    /// # Errors
    /// [`CacheError::PinsTooLarge`] if the budget does not allow it, or an error of
    /// the disk.
    pub fn pin(
        &self,
        name: &str,
        chunks: &[ChunkRef],
        at_rest: Option<&SecretKey>,
    ) -> Result<(), CacheError> {
        let mut wanted: Vec<(ChunkHash, u32)> = (chunks.iter())
            .map(|chunk| (vault::page_name(&chunk.hash, at_rest), chunk.stored_len))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.disk.pin(name, &wanted)
    }

    /// Removes the pin `name`; returns whether it existed.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn unpin(&self, name: &str) -> Result<bool, CacheError> {
        self.disk.unpin(name)
    }

    /// Lists all pins by name.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        // Reads of chunks need the policy: do not hold it while reading from disk.
        let pins = self.disk.pins.all()?;
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

/// Total stored bytes of pages.
fn bytes<'a>(wanted: impl IntoIterator<Item = &'a (ChunkHash, u32)>) -> u64 {
    wanted.into_iter().map(|(_, len)| u64::from(*len)).sum()
}

impl Disk {
    /// Registers the pages that pins want, before the marks are loaded.
    pub(super) fn load_pins(&self) -> Result<(), CacheError> {
        let pins = self.pins.all()?;
        let mut policy = self.policy();
        for (_, wanted) in pins {
            wanted.iter().for_each(|(hash, _)| policy.pin(*hash));
        }
        Ok(())
    }

    /// Removes all pins.
    pub(super) fn forget_pins(&self) -> Result<(), CacheError> {
        let pins = self.pins.all()?;
        self.pins.remove_all()?;
        let mut policy = self.policy();
        for (_, wanted) in pins {
            wanted.iter().for_each(|(hash, _)| policy.unpin(hash));
        }
        Ok(())
    }

    fn pin(&self, name: &str, wanted: &Wanted) -> Result<(), CacheError> {
        let others = self.pins.all()?.into_iter();
        let others = others.filter(|(other, _)| other != name);
        let needed = bytes(wanted) + others.map(|(_, wanted)| bytes(&wanted)).sum::<u64>();
        let budget = self.budget() / 100 * MAX_PERCENT;
        if needed > budget {
            return Err(CacheError::PinsTooLarge { needed, budget });
        }
        let before = self.pins.get(name)?.unwrap_or_default();
        self.pins.put(name, wanted)?;
        // In this order a page that both sets contain is always pinned.
        let mut policy = self.policy();
        wanted.iter().for_each(|(hash, _)| policy.pin(*hash));
        before.iter().for_each(|(hash, _)| policy.unpin(hash));
        Ok(())
    }

    fn unpin(&self, name: &str) -> Result<bool, CacheError> {
        let Some(wanted) = self.pins.get(name)? else {
            return Ok(false);
        };
        self.pins.remove(name)?;
        let mut policy = self.policy();
        wanted.iter().for_each(|(hash, _)| policy.unpin(hash));
        Ok(true)
    }
}

/// The directory of pins.
#[derive(Debug)]
pub(super) struct PinDir(PathBuf);

impl PinDir {
    /// Returns the pin directory of the database in `dir`.
    pub(super) fn beside(dir: &Path) -> Self {
        PinDir(beside(dir, ".pins"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(blake3::hash(name.as_bytes()).to_hex().as_str())
    }

    /// Returns the pages of each pin, by name.
    fn all(&self) -> Result<Vec<(String, Wanted)>, CacheError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.0, &error)),
        };
        let mut pins = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| failed(&self.0, &error))?.path();
            // A pin file that is being written.
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match read(&path)? {
                Some(pin) => pins.push(pin),
                None => tracing::warn!("{} is not a pin; it is ignored", path.display()),
            }
        }
        pins.sort_unstable();
        Ok(pins)
    }

    /// Returns the pages of a pin; `None` if it does not exist.
    fn get(&self, name: &str) -> Result<Option<Wanted>, CacheError> {
        let pin = read(&self.file(name))?;
        Ok(pin.filter(|pin| pin.0 == name).map(|(_, wanted)| wanted))
    }

    fn put(&self, name: &str, wanted: &Wanted) -> Result<(), CacheError> {
        let path = self.file(name);
        write_atomic(&path, &encode(name, wanted)).map_err(|error| failed(&path, &error))
    }

    fn remove(&self, name: &str) -> Result<(), CacheError> {
        let path = self.file(name);
        let removed = remove_file(&path);
        removed.map(|_| ()).map_err(|error| failed(&path, &error))
    }

    /// Removes all pins, including invalid files.
    pub(super) fn remove_all(&self) -> Result<(), CacheError> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&self.0, &error)),
            _ => Ok(()),
        }
    }

    /// Imports a pin that was stored as a record of the database.
    pub(super) fn import(&self, name: &[u8], value: &[u8]) -> Result<(), CacheError> {
        self.put(&String::from_utf8_lossy(name), &pages(value))
    }
}

/// Reads a pin file; returns `None` if it is missing or invalid.
fn read(path: &Path) -> Result<Option<(String, Wanted)>, CacheError> {
    match read_regular(path, u64::MAX) {
        Ok(text) => Ok(decode(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

fn failed(path: &Path, error: &io::Error) -> CacheError {
    CacheError::Pins {
        path: path.into(),
        why: error.to_string(),
    }
}

fn encode(name: &str, wanted: &Wanted) -> Vec<u8> {
    let mut text = MAGIC.to_vec();
    text.extend_from_slice(&(name.len() as u32).to_le_bytes());
    text.extend_from_slice(name.as_bytes());
    for (hash, len) in wanted {
        text.extend_from_slice(hash.as_bytes());
        text.extend_from_slice(&len.to_le_bytes());
    }
    let checksum = blake3::hash(&text);
    text.extend_from_slice(checksum.as_bytes());
    text
}

fn decode(text: &[u8]) -> Option<(String, Wanted)> {
    let (text, checksum) = text.split_at_checked(text.len().checked_sub(CHECKSUM)?)?;
    if blake3::hash(text).as_bytes() != checksum {
        return None;
    }
    let rest = text.strip_prefix(&MAGIC)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((String::from_utf8(name.into()).ok()?, pages(rest)))
}

fn pages(value: &[u8]) -> Wanted {
    let one = |wanted: &[u8]| {
        let (hash, len) = wanted.split_first_chunk::<32>()?;
        let len = u32::from_le_bytes(len.try_into().ok()?);
        Some((ChunkHash::from_bytes(*hash), len))
    };
    value.chunks_exact(WANTED).filter_map(one).collect()
}
