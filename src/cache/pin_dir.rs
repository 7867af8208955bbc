//! Pin files: each pin is a file in `pages.pins` beside the database, so that pins
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

use super::error::CacheError;
use super::lock::sibling_path;
use walgit_durable::{read_regular, remove_file, write_atomic};
use walgit_format::chunk::ChunkHash;

/// Size of a page in a pin file: hash and stored length.
const PAGE_LEN: usize = 36;
const MAGIC: [u8; 8] = *b"wgpin\0\0\x01";

/// Page names and stored lengths.
pub(super) type PinnedPages = Vec<(ChunkHash, u32)>;

/// The directory of pins.
#[derive(Debug)]
pub(super) struct PinDir(PathBuf);

impl PinDir {
    /// Returns the pin directory of the database in `dir`.
    pub(super) fn of(dir: &Path) -> Self {
        PinDir(sibling_path(dir, ".pins"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(blake3::hash(name.as_bytes()).to_hex().as_str())
    }

    /// Returns the pages of each pin, by name.
    pub(super) fn all(&self) -> Result<Vec<(String, PinnedPages)>, CacheError> {
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
                None => tracing::warn!("{} is not a pin; ignored", path.display()),
            }
        }
        pins.sort_unstable();
        Ok(pins)
    }

    /// Returns the pages of a pin; `None` if it does not exist.
    pub(super) fn get(&self, name: &str) -> Result<Option<PinnedPages>, CacheError> {
        let pin = read(&self.file(name))?;
        Ok(pin.filter(|pin| pin.0 == name).map(|(_, pages)| pages))
    }

    pub(super) fn put(&self, name: &str, pages: &PinnedPages) -> Result<(), CacheError> {
        let path = self.file(name);
        write_atomic(&path, &encode(name, pages)).map_err(|error| failed(&path, &error))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), CacheError> {
        let path = self.file(name);
        remove_file(&path)
            .map(drop)
            .map_err(|error| failed(&path, &error))
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
        self.put(&String::from_utf8_lossy(name), &decode_pages(value))
    }
}

/// Reads a pin file; returns `None` if it is missing or invalid.
fn read(path: &Path) -> Result<Option<(String, PinnedPages)>, CacheError> {
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

fn encode(name: &str, pages: &PinnedPages) -> Vec<u8> {
    let mut text = MAGIC.to_vec();
    text.extend_from_slice(&(name.len() as u32).to_le_bytes());
    text.extend_from_slice(name.as_bytes());
    for (hash, len) in pages {
        text.extend_from_slice(hash.as_bytes());
        text.extend_from_slice(&len.to_le_bytes());
    }
    let checksum = blake3::hash(&text);
    text.extend_from_slice(checksum.as_bytes());
    text
}

fn decode(text: &[u8]) -> Option<(String, PinnedPages)> {
    let (text, checksum) = text.split_at_checked(text.len().checked_sub(blake3::OUT_LEN)?)?;
    if blake3::hash(text).as_bytes() != checksum {
        return None;
    }
    let rest = text.strip_prefix(&MAGIC)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((String::from_utf8(name.into()).ok()?, decode_pages(rest)))
}

fn decode_pages(value: &[u8]) -> PinnedPages {
    let page = |page: &[u8]| {
        let (hash, len) = page.split_first_chunk::<32>()?;
        let len = u32::from_le_bytes(len.try_into().ok()?);
        Some((ChunkHash::from_bytes(*hash), len))
    };
    value.chunks_exact(PAGE_LEN).filter_map(page).collect()
}
