//! Layer over a store for a private repository: encrypts blobs on write and decrypts
//! them on read.
//!
//! Offsets above this layer are those of the plain bytes, so callers need not know about
//! encryption. A range is fetched as the whole blocks that contain it. The blocks are
//! decrypted where the bytes are verified ([`Verifier`]): a gateway that changed a block
//! is skipped like any other that returns bad bytes.
//!
//! Decrypting a block requires the header of its blob. The header comes along with any
//! range near the start; otherwise it is fetched once and cached ([`EncryptedHeaders`]).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use quick_cache::sync::Cache;

use crate::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, PutOptions, PutReceipt, ReadRange, Rejected,
    StoreError, StoreLayer, Verifier,
};
use walgit_format::chunk::{
    BLOCK_LEN, BlobId, Blocks, ByteRange, ChunkHash, PRIVATE_HEADER_LEN, PrivateBlob,
    PrivateHeader, PrivateKeys, SecretKey, private_capacity, private_len,
};

/// Blocks before the requested ones that are read along with them to get the header:
/// cheaper than a round trip.
const MAX_LEADING_BLOCKS: u32 = 4;
/// Most headers cached: with blobs of ten megabytes each, they cover 40 GB.
const MAX_HEADERS: usize = 4096;

/// Headers of known blobs, for all stores of a process. The key authenticates a header,
/// so the cache need not be trusted.
#[derive(Debug)]
pub struct EncryptedHeaders(Cache<BlobId, PrivateHeader>);

impl Default for EncryptedHeaders {
    fn default() -> Self {
        EncryptedHeaders(Cache::new(MAX_HEADERS))
    }
}

impl EncryptedHeaders {
    /// Caches the header of a blob.
    pub fn insert(&self, blob: BlobId, header: PrivateHeader) {
        self.0.insert(blob, header);
    }
}

/// Blobs of one private repository in `inner`.
#[derive(Debug)]
pub struct EncryptedStore {
    inner: Arc<dyn BlobStore>,
    keys: PrivateKeys,
    headers: Arc<EncryptedHeaders>,
}

impl EncryptedStore {
    /// Reads and writes blobs of the repository with this key.
    pub fn new(inner: Arc<dyn BlobStore>, key: &SecretKey, headers: Arc<EncryptedHeaders>) -> Self {
        EncryptedStore {
            inner,
            keys: PrivateKeys::of(key),
            headers,
        }
    }

    /// The key of the repository.
    pub fn key(&self) -> &SecretKey {
        self.keys.repository_key()
    }

    /// Returns the address form of the head with this hash.
    pub fn root(&self, head: &ChunkHash) -> ChunkHash {
        self.keys.root(head)
    }

    fn known(&self, blob: BlobId) -> Option<PrivateBlob> {
        self.keys.unlock(&self.headers.0.get(&blob)?).ok()
    }

    /// Derives the key of a blob from its first stored bytes.
    fn unlock(&self, blob: BlobId, first: &[u8]) -> Result<PrivateBlob, Rejected> {
        let header = PrivateHeader::decode(first).map_err(Rejected::because)?;
        let unlocked = self.keys.unlock(&header).map_err(Rejected::because)?;
        self.headers.insert(blob, header);
        Ok(unlocked)
    }

    async fn read_header(&self, blob: BlobId) -> Result<PrivateBlob, StoreError> {
        let mut unlocked = None;
        let mut take = |bytes: Bytes| {
            unlocked = Some(self.unlock(blob, &bytes)?);
            Ok(())
        };
        let first = ReadRange::Part(ByteRange::new(0, PRIVATE_HEADER_LEN as u64));
        self.inner.read(blob, first, &mut take).await?;
        unlocked.ok_or_else(|| StoreError::unavailable("the store", "it returned no bytes"))
    }

    async fn read_part(
        &self,
        blob: BlobId,
        range: ByteRange,
        verify: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        let outside = || StoreError::OutOfRange { blob, range };
        let blocks = Blocks::holding(range).ok_or_else(outside)?;
        let known = match self.known(blob) {
            None if blocks.first > MAX_LEADING_BLOCKS => Some(self.read_header(blob).await?),
            known => known,
        };
        if let Some(known) = &known
            && blocks.end() > u64::from(known.header().blocks())
        {
            return Err(outside());
        }
        // Without a header, the read starts at the beginning.
        let stored = match known {
            Some(_) => blocks.stored(),
            None => ByteRange::new(0, blocks.stored().end()),
        };
        let before = (blocks.stored().start() - stored.start()) as usize;
        let mut take = |bytes: Bytes| {
            if bytes.len() as u64 != stored.len() {
                return Err(Rejected::because("the length differs from the request"));
            }
            let opened = match &known {
                Some(known) => known.open(blocks.first, &bytes),
                None => self
                    .unlock(blob, &bytes)?
                    .open(blocks.first, &bytes[before..]),
            };
            let plain = Bytes::from(opened.map_err(Rejected::because)?);
            verify(plain.slice(blocks.within(range))).map_err(redacted)
        };
        let read = self
            .inner
            .read(blob, ReadRange::Part(stored), &mut take)
            .await;
        read.map_err(|error| match error {
            StoreError::OutOfRange { .. } => outside(),
            other => other,
        })
    }

    async fn read_whole(
        &self,
        blob: BlobId,
        at_most: u64,
        verify: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        let full_range = ReadRange::Whole {
            at_most: private_len(at_most).unwrap_or(u64::MAX),
        };
        let mut take = |bytes: Bytes| {
            let mut plain = self.keys.open(&bytes).map_err(Rejected::because)?;
            let max_len = usize::try_from(at_most).unwrap_or(usize::MAX);
            if plain.iter().skip(max_len).any(|&byte| byte != 0) {
                return Err(Rejected::because("the content is longer than requested"));
            }
            plain.truncate(max_len);
            verify(plain.into()).map_err(redacted)
        };
        self.inner.read(blob, full_range, &mut take).await
    }
}

/// A rejection without details of the content: it goes into the failure log, which is
/// stored in plaintext.
fn redacted(_: Rejected) -> Rejected {
    Rejected::because("the decrypted content fails verification")
}

impl StoreLayer for EncryptedStore {
    fn inner(&self) -> Option<&dyn BlobStore> {
        Some(&*self.inner)
    }
}

impl BlobLifetimes for EncryptedStore {}

#[async_trait]
impl BlobReader for EncryptedStore {
    async fn read(
        &self,
        blob: BlobId,
        read_range: ReadRange,
        verify: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        match read_range {
            ReadRange::Whole { at_most } => self.read_whole(blob, at_most, verify).await,
            ReadRange::Part(range) => self.read_part(blob, range, verify).await,
        }
    }

    fn at_rest(&self) -> Option<&SecretKey> {
        Some(self.keys.at_rest())
    }
}

#[async_trait]
impl BlobWriter for EncryptedStore {
    fn seal(&self, body: Bytes) -> Result<Bytes, StoreError> {
        let len = body.len() as u64;
        let sealed = self.keys.seal(&body);
        sealed.map(Bytes::from).map_err(|_| StoreError::TooLarge {
            len,
            limit: u64::from(u32::MAX) * BLOCK_LEN,
            place: "the encryption".into(),
        })
    }

    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<PutReceipt, StoreError> {
        // Whatever goes wrong above, no plaintext is stored.
        let header = PrivateHeader::decode(&body);
        match header.and_then(|header| self.keys.unlock(&header)) {
            Ok(_) => self.inner.put(blob, body, options).await,
            Err(_) => Err(StoreError::Plaintext { blob }),
        }
    }

    fn max_body(&self) -> u64 {
        private_capacity(self.inner.max_body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_any_number_of_blobs_take_bounded_memory() {
        let key = SecretKey::from_bytes([1; 32]);
        let sealed = PrivateKeys::of(&key).seal(b"x").unwrap();
        let header = PrivateHeader::decode(&sealed).unwrap();
        let headers = EncryptedHeaders::default();
        for n in 0..2 * MAX_HEADERS as u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            headers.insert(BlobId::from_bytes(id), header);
            assert!(headers.0.len() <= MAX_HEADERS);
            assert_eq!(headers.0.get(&BlobId::from_bytes(id)), Some(header));
        }
    }
}
