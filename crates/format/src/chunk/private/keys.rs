//! The keys of a private repository.

use super::blob::PrivateBlob;
use super::header::{
    BLOCK_LEN, CHECK_LEN, PRIVATE_HEADER_LEN, PrivateError, PrivateHeader, SEALED_BLOCK_LEN,
};
use crate::chunk::secret::SecretKey;
use crate::id::ChunkHash;

/// All keys derived from the key of a private repository. Wiped on drop.
#[derive(Clone, Debug)]
pub struct PrivateKeys {
    /// The repository's own key, which seals nothing.
    repository_key: SecretKey,
    salts: SecretKey,
    blobs: SecretKey,
    checks: SecretKey,
    roots: SecretKey,
    at_rest: SecretKey,
}

impl PrivateKeys {
    /// Derives the keys from `repository_key`.
    pub fn of(repository_key: &SecretKey) -> Self {
        PrivateKeys {
            repository_key: repository_key.clone(),
            salts: repository_key.derive("walgit-fs 2026 private blob 1: salt"),
            blobs: repository_key.derive("walgit-fs 2026 private blob 1: key of a blob"),
            checks: repository_key.derive("walgit-fs 2026 private blob 1: key check"),
            roots: repository_key.derive("walgit-fs 2026 private blob 1: root of an address"),
            at_rest: repository_key.at_rest(),
        }
    }

    /// Returns the repository's own key.
    pub fn repository_key(&self) -> &SecretKey {
        &self.repository_key
    }

    /// Returns the key that encrypts the disk cache.
    pub fn at_rest(&self) -> &SecretKey {
        &self.at_rest
    }

    /// Returns the root of the head in an address. A guessed head cannot be confirmed by
    /// it.
    pub fn root(&self, head: &ChunkHash) -> ChunkHash {
        ChunkHash::from_bytes(self.roots.name(head.as_bytes()))
    }

    /// Seals plain bytes as a blob; deterministic.
    ///
    /// # Errors
    /// [`PrivateError::TooLong`].
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let too_long = || PrivateError::TooLong(plain.len() as u64);
        let blocks = plain.len().div_ceil(BLOCK_LEN as usize).max(1);
        let padded = blocks * BLOCK_LEN as usize;
        let header = PrivateHeader {
            blocks: u32::try_from(blocks).map_err(|_| too_long())?,
            salt: self.salt(plain, padded),
            check: [0; CHECK_LEN],
        };
        let header = PrivateHeader {
            check: self.check(&header),
            ..header
        };
        let blob = self.blob(&header);
        let mut sealed = Vec::with_capacity(PRIVATE_HEADER_LEN + blocks * SEALED_BLOCK_LEN);
        sealed.extend_from_slice(&header.encode());
        let mut pieces = plain.chunks(BLOCK_LEN as usize);
        for number in 0..header.blocks {
            let start = sealed.len();
            sealed.extend_from_slice(pieces.next().unwrap_or_default());
            sealed.resize(start + BLOCK_LEN as usize, 0);
            let tag = blob.seal(number, &mut sealed[start..]);
            sealed.extend_from_slice(&tag.ok_or_else(too_long)?);
        }
        Ok(sealed)
    }

    /// Opens a whole blob; the plain bytes include the zero padding.
    pub fn open(&self, stored: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let header = PrivateHeader::decode(stored)?;
        if stored.len() as u64 != header.stored_len() {
            return Err(PrivateError::Damaged);
        }
        self.unlock(&header)?.open(0, &stored[PRIVATE_HEADER_LEN..])
    }

    /// Returns the blob with the key of this header.
    ///
    /// # Errors
    /// [`PrivateError::WrongKey`] if the blob is sealed with another key.
    pub fn unlock(&self, header: &PrivateHeader) -> Result<PrivateBlob, PrivateError> {
        // Compares in constant time.
        let same = blake3::Hash::from_bytes(widened(self.check(header)))
            == blake3::Hash::from_bytes(widened(header.check));
        if !same {
            return Err(PrivateError::WrongKey);
        }
        Ok(self.blob(header))
    }

    fn salt(&self, plain: &[u8], padded: usize) -> [u8; 32] {
        const ZEROS: [u8; BLOCK_LEN as usize] = [0; BLOCK_LEN as usize];
        let mut hasher = self.salts.hasher();
        hasher.update(plain);
        hasher.update(&ZEROS[..padded - plain.len()]);
        *hasher.finalize().as_bytes()
    }

    fn check(&self, header: &PrivateHeader) -> [u8; CHECK_LEN] {
        let mut hasher = self.checks.hasher();
        hasher.update(&header.fields());
        let mut check = [0; CHECK_LEN];
        check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_LEN]);
        check
    }

    pub(super) fn blob(&self, header: &PrivateHeader) -> PrivateBlob {
        PrivateBlob {
            key: SecretKey::from_bytes(self.blobs.name(&header.salt)),
            header: *header,
        }
    }
}

fn widened(check: [u8; CHECK_LEN]) -> [u8; 32] {
    let mut wide = [0; 32];
    wide[..CHECK_LEN].copy_from_slice(&check);
    wide
}
