//! Which key opens a blob: what is read before anybody knows whether it is
//! encrypted.

use std::sync::Arc;

use bytes::Bytes;

use super::access::Access;
use crate::chunk::{
    BLOCK, BlobId, Blocks, ByteRange, ChunkHash, PrivateError, PrivateHeader, PrivateKeys,
    SecretKey, is_private,
};
use crate::walrus::{BlobStore, PrivateHeaders, PrivateStore};

/// How a head is read: as it is, or with a key.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// Where its blobs are, in the clear.
    pub(super) store: Arc<dyn BlobStore>,
    keys: Option<Arc<PrivateKeys>>,
}

impl Door {
    /// To what everybody can read.
    pub(super) fn open(access: &Access) -> Self {
        Door {
            store: access.store.clone(),
            keys: None,
        }
    }

    /// To what one of the keys opens.
    pub(super) fn locked(access: &Access, key: &SecretKey, headers: &Arc<PrivateHeaders>) -> Self {
        let store = PrivateStore::new(access.store.clone(), key, headers.clone());
        Door {
            store: Arc::new(store),
            keys: Some(Arc::new(PrivateKeys::of(key))),
        }
    }

    /// Every one that there may be.
    pub(super) fn all(access: &Access, headers: &Arc<PrivateHeaders>) -> Vec<Self> {
        let locked = (access.keys.iter()).map(|key| Door::locked(access, key, headers));
        std::iter::once(Door::open(access)).chain(locked).collect()
    }

    /// The key of the repository; `None` where it is nobody's secret.
    pub(super) fn key(&self) -> Option<&SecretKey> {
        self.keys.as_ref().map(|keys| keys.own())
    }

    /// What the head with this hash is called in an address.
    pub(super) fn root(&self, head: &ChunkHash) -> ChunkHash {
        match &self.keys {
            Some(keys) => keys.root(head),
            None => *head,
        }
    }
}

/// The first bytes of a blob in the clear, and the door to the rest. Of an
/// encrypted one these are the whole blocks among them.
///
/// # Errors
/// [`PrivateError`], where it is encrypted and does not open.
pub(super) fn enter(
    access: &Access,
    headers: &Arc<PrivateHeaders>,
    blob: BlobId,
    bytes: Bytes,
) -> Result<(Door, Bytes), PrivateError> {
    if !is_private(&bytes) {
        return Ok((Door::open(access), bytes));
    }
    let header = PrivateHeader::decode(&bytes)?;
    if access.keys.is_empty() {
        return Err(PrivateError::NoKey);
    }
    let fits = |key: &&SecretKey| PrivateKeys::of(key).unlock(&header).is_ok();
    let key = access
        .keys
        .iter()
        .find(fits)
        .ok_or(PrivateError::WrongKey)?;
    let all = Blocks::holding(ByteRange::new(0, u64::from(header.blocks()) * BLOCK));
    let all = all.ok_or(PrivateError::Damaged)?.stored();
    let one = Blocks { first: 0, count: 1 }.stored().len();
    let here = all
        .end()
        .min(bytes.len() as u64)
        .saturating_sub(all.start());
    let end = (all.start() + here / one * one) as usize;
    let opened = PrivateKeys::of(key).unlock(&header)?;
    let plain = opened.open(0, &bytes[(all.start() as usize).min(end)..end])?;
    headers.keep(blob, header);
    Ok((Door::locked(access, key, headers), plain.into()))
}
