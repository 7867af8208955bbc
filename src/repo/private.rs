//! Which key opens a blob: what is read before anybody knows whether it is
//! encrypted.

use std::sync::Arc;

use bytes::Bytes;

use super::RepoError;
use super::access::Access;
use walgit_format::chunk::{
    BlobId, ChunkHash, PrivateBlob, PrivateError, PrivateHeader, PrivateKeys, SecretKey, is_private,
};
use walrus_client::{BlobStore, PrivateHeaders, PrivateStore};

/// How a head is read: as it is, or with a key.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// Where its blobs are, in the clear.
    pub(super) store: Arc<dyn BlobStore>,
    /// The same, where it opens what is encrypted.
    private: Option<Arc<PrivateStore>>,
}

impl Door {
    /// To what everybody can read.
    fn open(access: &Access) -> Self {
        Door {
            store: access.store.clone(),
            private: None,
        }
    }

    /// To what one of the keys opens.
    fn locked(access: &Access, key: &SecretKey, headers: &Arc<PrivateHeaders>) -> Self {
        let private = PrivateStore::new(access.store.clone(), key, headers.clone());
        let private = Arc::new(private);
        Door {
            store: private.clone(),
            private: Some(private),
        }
    }

    /// Every one that there may be. What everybody can read comes first, and
    /// costs no key.
    pub(super) fn all(
        access: &Access,
        headers: &Arc<PrivateHeaders>,
    ) -> impl Iterator<Item = Self> {
        let locked = (access.keys.iter()).map(|key| Door::locked(access, key, headers));
        std::iter::once(Door::open(access)).chain(locked)
    }

    /// The key of the repository; `None` where it is nobody's secret.
    pub(super) fn key(&self) -> Option<&SecretKey> {
        self.private.as_ref().map(|private| private.key())
    }

    /// What the head with this hash is called in an address.
    pub(super) fn root(&self, head: &ChunkHash) -> ChunkHash {
        (self.private.as_ref()).map_or(*head, |private| private.root(head))
    }
}

/// The first bytes of a blob in the clear, and the door to the rest. Of an
/// encrypted one these are the whole blocks among them.
///
/// # Errors
/// [`RepoError::Private`], where it is encrypted and does not open.
pub(super) fn enter(
    access: &Access,
    headers: &Arc<PrivateHeaders>,
    blob: BlobId,
    bytes: Bytes,
) -> Result<(Door, Bytes), RepoError> {
    if !is_private(&bytes) {
        return Ok((Door::open(access), bytes));
    }
    let opened = PrivateHeader::decode(&bytes).and_then(|header| {
        let (key, opened) = unlock(access, &header)?;
        let plain = opened.open_start(&bytes)?;
        headers.keep(blob, header);
        Ok((Door::locked(access, key, headers), plain.into()))
    });
    opened.map_err(|why| RepoError::Private {
        what: format!("walrus://{blob}"),
        why,
    })
}

/// The key that fits a blob.
fn unlock<'a>(
    access: &'a Access,
    header: &PrivateHeader,
) -> Result<(&'a SecretKey, PrivateBlob), PrivateError> {
    let no_key = match access.keys.is_empty() {
        true => PrivateError::NoKey,
        false => PrivateError::WrongKey,
    };
    let mut keys = access.keys.iter();
    keys.find_map(|key| Some((key, PrivateKeys::of(key).unlock(header).ok()?)))
        .ok_or(no_key)
}
