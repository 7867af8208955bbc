//! Dictionaries: shared content of the small files of a repository, known to publisher
//! and reader in advance.

use std::cell::RefCell;
use std::fmt;

use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::EncoderDictionary;
use zstd::zstd_safe::{CParameter, DParameter};

use super::codec::{Codec, EncodedChunk, MAX_WINDOW_LOG, pays};
use crate::id::ChunkHash;

/// Prepared dictionaries that a thread caches. A repository has a handful.
const MAX_PREPARED_DICTIONARIES: usize = 8;
/// Longest dictionary that a thread caches, in bytes: publishers make 112 KiB, and every
/// thread has its own cache.
const MAX_PREPARED_BYTES: usize = 256 << 10;

/// A compression dictionary, prepared for one level.
pub struct Dictionary {
    bytes: Vec<u8>,
    hash: ChunkHash,
    level: i32,
    prepared: EncoderDictionary<'static>,
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({}, level {})", self.hash, self.level)
    }
}

impl Dictionary {
    /// Prepares dictionary `bytes` for compression at `level`; `None` if they are not a
    /// dictionary, or memory is short.
    pub fn new(bytes: Vec<u8>, level: i32) -> Option<Self> {
        let prepared = EncoderDictionary::try_copy(&bytes, level).ok()?;
        Some(Dictionary {
            hash: ChunkHash::of(&bytes),
            bytes,
            level,
            prepared,
        })
    }

    /// Trains a dictionary of at most `size` bytes on `samples`; `None` if they have too
    /// little in common. The result is deterministic.
    pub fn train(samples: &[&[u8]], size: usize, level: i32) -> Option<Self> {
        let bytes = zstd::dict::from_samples(samples, size).ok()?;
        Dictionary::new(bytes, level)
    }

    /// Returns the bytes of the dictionary.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns its hash as a chunk.
    pub fn hash(&self) -> ChunkHash {
        self.hash
    }

    /// Returns its compression level.
    pub fn level(&self) -> i32 {
        self.level
    }

    /// Compresses `raw` with the dictionary, or stores it uncompressed if that saves too
    /// little.
    pub fn encode(&self, raw: &[u8]) -> EncodedChunk {
        let compress = || {
            let mut compressor = Compressor::with_prepared_dictionary(&self.prepared).ok()?;
            // The chunk reference already identifies the dictionary.
            compressor
                .set_parameter(CParameter::DictIdFlag(false))
                .ok()?;
            compressor.compress(raw).ok()
        };
        match compress() {
            Some(bytes) if pays(bytes.len(), raw.len()) => EncodedChunk {
                codec: Codec::Dictionary,
                bytes,
            },
            _ => EncodedChunk::raw(raw),
        }
    }
}

/// Decodes at most `limit` bytes with the dictionary whose hash is `hash`.
pub(super) fn decompress(
    hash: ChunkHash,
    dictionary: &[u8],
    stored: &[u8],
    limit: usize,
) -> std::io::Result<Vec<u8>> {
    thread_local! {
        /// Preparing a dictionary costs more than decoding a file with it. The most
        /// recently used one comes first.
        static PREPARED: RefCell<Vec<(ChunkHash, Decompressor<'static>)>> = const { RefCell::new(Vec::new()) };
    }
    let prepare = || {
        let mut decompressor = Decompressor::with_dictionary(dictionary)?;
        decompressor.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
        Ok::<_, std::io::Error>(decompressor)
    };
    if dictionary.len() > MAX_PREPARED_BYTES {
        return prepare()?.decompress(stored, limit);
    }
    PREPARED.with_borrow_mut(|ready| {
        match ready.iter().position(|(known, _)| *known == hash) {
            Some(0) => {}
            Some(at) => ready[..=at].rotate_right(1),
            None => {
                let decompressor = prepare()?;
                ready.truncate(MAX_PREPARED_DICTIONARIES - 1);
                ready.insert(0, (hash, decompressor));
            }
        }
        ready[0].1.decompress(stored, limit)
    })
}
