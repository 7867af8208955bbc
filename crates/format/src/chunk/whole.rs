//! Blobs that hold the content of one file, identified by hashes that WalGit does not
//! choose.
//!
//! The chunks of such a blob are unknown until it has been read. It is verified as a
//! whole and split into pieces with chunk hashes; a record lists the pieces. From then
//! on, the pieces are ordinary chunks.

use std::sync::Arc;

use ring::digest;

use super::reference::{Chunk, ChunkRef, Location};
use crate::id::{BlobId, ChunkHash};

/// Encoded size of a piece in a record: plain length and hash.
const RECORD_ENTRY_LEN: usize = 4 + 32;

/// How the content of a blob is verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// By its SHA-256.
    Sha256([u8; 32]),
    /// By recomputing the blob ID, and by the git SHA-1 of the content if known.
    BlobId {
        /// As computed by `git hash-object`.
        git_sha1: Option<[u8; 20]>,
    },
}

/// Why content does not match a [`WholeBlob`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// The length differs.
    #[error("the content has {found} bytes instead of {expected}")]
    Length {
        /// Actual length.
        found: u64,
        /// Expected length.
        expected: u64,
    },
    /// The SHA-256 differs.
    #[error("the SHA-256 of the content differs from the one in the repository")]
    Sha256,
    /// The blob ID differs.
    #[error("the content has another blob ID")]
    BlobId,
    /// The git hash differs.
    #[error("the git hash of the content differs from the one in the repository")]
    Git,
}

/// A blob that holds the content of one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WholeBlob {
    /// The blob.
    pub blob: BlobId,
    /// Length of the content in bytes.
    pub size: u64,
    /// How to verify the content.
    pub proof: Proof,
    /// Whether the blob is an encrypted payload of the content.
    pub sealed: bool,
}

impl WholeBlob {
    /// Whether the proof covers the content independently of its blob.
    pub fn is_hashed(&self) -> bool {
        matches!(self.proof, Proof::Sha256(_))
    }

    /// Returns a hash that identifies this content of this blob.
    pub fn name(&self) -> ChunkHash {
        let mut hasher = blake3::Hasher::new_derive_key("walgit-fs 2026 whole blob");
        hasher.update(self.blob.as_bytes());
        hasher.update(&self.size.to_le_bytes());
        hasher.update(&[u8::from(self.sealed)]);
        match &self.proof {
            Proof::Sha256(hash) => hasher.update(b"s").update(hash),
            Proof::BlobId { git_sha1 } => hasher
                .update(b"b")
                .update(git_sha1.as_ref().map_or(&[], |h| h)),
        };
        ChunkHash::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Verifies `content`. `blob_id` computes the ID of a blob if the proof requires it.
    ///
    /// # Errors
    /// [`NotProven`].
    pub fn check(
        &self,
        content: &[u8],
        blob_id: impl FnOnce(&[u8]) -> Option<BlobId>,
    ) -> Result<(), NotProven> {
        let found = content.len() as u64;
        let expected = self.size;
        if found != expected {
            return Err(NotProven::Length { found, expected });
        }
        match &self.proof {
            Proof::Sha256(expected) => {
                let found = digest::digest(&digest::SHA256, content);
                if found.as_ref() == expected {
                    Ok(())
                } else {
                    Err(NotProven::Sha256)
                }
            }
            Proof::BlobId { git_sha1 } => {
                if blob_id(content) == Some(self.blob) {
                    (git_sha1.as_ref()).map_or(Ok(()), |hash| check_git(content, hash))
                } else {
                    Err(NotProven::BlobId)
                }
            }
        }
    }

    /// Returns the reference of the piece with these plain bytes at `offset`.
    pub fn piece(&self, offset: u64, content: &[u8]) -> ChunkRef {
        let hash = ChunkHash::of(content);
        self.piece_called(offset, content.len() as u32, hash)
    }

    fn piece_called(&self, offset: u64, len: u32, hash: ChunkHash) -> ChunkRef {
        let blob = self.blob;
        Chunk::raw(hash, len, Location { blob, offset })
    }

    /// Encodes the record of its pieces.
    pub fn encode(pieces: &[ChunkRef]) -> Vec<u8> {
        let mut record = Vec::with_capacity(pieces.len() * RECORD_ENTRY_LEN);
        for piece in pieces {
            record.extend_from_slice(&piece.raw_len.to_le_bytes());
            record.extend_from_slice(piece.hash.as_bytes());
        }
        // The checksum protects against bit errors on disk.
        record.extend_from_slice(ChunkHash::of(&record).as_bytes());
        record
    }

    /// Decodes a record of pieces; `None` if the record is damaged or belongs to another
    /// blob.
    pub fn decode(&self, record: &[u8]) -> Option<Arc<[ChunkRef]>> {
        let (record, sum) = record.split_last_chunk::<32>()?;
        if ChunkHash::of(record).as_bytes() != sum {
            return None;
        }
        let mut pieces = Vec::with_capacity(record.len() / RECORD_ENTRY_LEN);
        let mut offset = 0;
        for entry in record.chunks_exact(RECORD_ENTRY_LEN) {
            let (len, hash) = entry.split_first_chunk::<4>()?;
            let len = u32::from_le_bytes(*len);
            let hash = ChunkHash::from_bytes(hash.try_into().ok()?);
            pieces.push(self.piece_called(offset, len, hash));
            offset += u64::from(len);
        }
        (offset == self.size).then(|| pieces.into())
    }
}

/// Verifies the git SHA-1 of content.
pub fn check_git(content: &[u8], sha1: &[u8; 20]) -> Result<(), NotProven> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("blob {}\0", content.len()).as_bytes());
    context.update(content);
    if context.finish().as_ref() == sha1 {
        Ok(())
    } else {
        Err(NotProven::Git)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(size: u64) -> WholeBlob {
        WholeBlob {
            blob: BlobId::from_bytes([1; 32]),
            size,
            proof: Proof::Sha256([2; 32]),
            sealed: false,
        }
    }

    #[test]
    fn records_of_pieces_survive_and_damaged_ones_do_not() {
        let whole = whole(7);
        let pieces = [whole.piece(0, b"abcd"), whole.piece(4, b"efg")];
        let record = WholeBlob::encode(&pieces);
        assert_eq!(whole.decode(&record).as_deref(), Some(&pieces[..]));
        for at in 0..record.len() {
            let mut bad = record.clone();
            bad[at] ^= 1;
            assert!(whole.decode(&bad).is_none());
        }
        assert!(whole.decode(&WholeBlob::encode(&pieces[..1])).is_none());
    }

    #[test]
    fn records_of_different_blobs_have_different_names() {
        let one = whole(7);
        let mut names = vec![one.name(), whole(8).name()];
        names.push(
            WholeBlob {
                sealed: true,
                ..one.clone()
            }
            .name(),
        );
        let proof = Proof::BlobId { git_sha1: None };
        names.push(WholeBlob { proof, ..one }.name());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 4);
    }
}
