//! Seals and opens the blocks of a blob.

use ring::aead::{Aad, LessSafeKey, Nonce, Tag};

use super::header::{
    BLOCK_LEN, FIELDS_LEN, PRIVATE_HEADER_LEN, PrivateError, PrivateHeader, SEALED_BLOCK_LEN,
};
use crate::chunk::secret::{IV_LEN, SecretKey, TAG_LEN};

/// A sealed blob with its key.
#[derive(Clone, Debug)]
pub struct PrivateBlob {
    pub(super) key: SecretKey,
    pub(super) header: PrivateHeader,
}

impl PrivateBlob {
    /// Returns the header, which the key has authenticated.
    pub fn header(&self) -> &PrivateHeader {
        &self.header
    }

    /// Opens whole blocks starting at number `first`. Returns no bytes before all tags
    /// are checked.
    ///
    /// # Errors
    /// [`PrivateError::Block`] with the first damaged block; [`PrivateError::Damaged`] if
    /// there are partial blocks, or more blocks than the blob has.
    pub fn open(&self, first: u32, stored: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let count = stored.len() / SEALED_BLOCK_LEN;
        let end = u64::from(first) + count as u64;
        if !stored.len().is_multiple_of(SEALED_BLOCK_LEN) || end > u64::from(self.header.blocks) {
            return Err(PrivateError::Damaged);
        }
        let cipher = self.key.cipher().ok_or(PrivateError::WrongKey)?;
        let mut plain = Vec::with_capacity(count * BLOCK_LEN as usize);
        for (number, block) in (first..).zip(stored.chunks_exact(SEALED_BLOCK_LEN)) {
            let failed = || PrivateError::Block(number);
            let (sealed, tag) = block.split_last_chunk::<TAG_LEN>().ok_or_else(failed)?;
            let start = plain.len();
            plain.extend_from_slice(sealed);
            self.open_block(&cipher, number, *tag, &mut plain[start..])
                .ok_or_else(failed)?;
        }
        Ok(plain)
    }

    /// Opens the whole blocks in a prefix of the stored blob, header included; returns no
    /// bytes if the prefix holds no whole block.
    pub fn open_start(&self, stored: &[u8]) -> Result<Vec<u8>, PrivateError> {
        let body = stored.get(PRIVATE_HEADER_LEN..).unwrap_or_default();
        let complete_blocks = (body.len() / SEALED_BLOCK_LEN).min(self.header.blocks as usize);
        self.open(0, &body[..complete_blocks * SEALED_BLOCK_LEN])
    }

    fn open_block(
        &self,
        cipher: &LessSafeKey,
        number: u32,
        tag: [u8; TAG_LEN],
        block: &mut [u8],
    ) -> Option<()> {
        let aad = Aad::from(self.additional(number));
        let opened = cipher.open_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce(number)),
            aad,
            Tag::from(tag),
            block,
            0..,
        );
        opened.ok().map(|_| ())
    }

    pub(super) fn seal(&self, number: u32, block: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        (self.key).seal(nonce(number), &self.additional(number), block)
    }

    fn additional(&self, number: u32) -> [u8; FIELDS_LEN + 4] {
        let mut bytes = [0; FIELDS_LEN + 4];
        bytes[..FIELDS_LEN].copy_from_slice(&self.header.fields());
        bytes[FIELDS_LEN..].copy_from_slice(&number.to_le_bytes());
        bytes
    }
}

/// Encodes a block number as a nonce of twelve bytes.
fn nonce(number: u32) -> [u8; IV_LEN] {
    let mut nonce = [0; IV_LEN];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}
