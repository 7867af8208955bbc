//! Finds the key that decrypts a blob.

use std::sync::Arc;

use bytes::Bytes;

use super::access::Access;
use super::error::RepoError;
use walgit_format::chunk::{
    BlobId, ChunkHash, PrivateBlob, PrivateError, PrivateHeader, PrivateKeys, SecretKey, is_private,
};
use walrus_client::{BlobStore, EncryptedHeaders, EncryptedStore};

/// Read access to a head: in plaintext or with a key.
#[derive(Clone, Debug)]
pub(super) struct BlobAccess {
    /// Store of its blobs; returns plaintext.
    pub(super) store: Arc<dyn BlobStore>,
    /// The same store, if it decrypts.
    private: Option<Arc<EncryptedStore>>,
}

impl BlobAccess {
    /// Access to public blobs.
    fn open(access: &Access) -> Self {
        BlobAccess {
            store: access.store.clone(),
            private: None,
        }
    }

    /// Access with one of the keys.
    fn locked(access: &Access, key: &SecretKey, headers: &Arc<EncryptedHeaders>) -> Self {
        let private = EncryptedStore::new(access.store.clone(), key, headers.clone());
        let private = Arc::new(private);
        BlobAccess {
            store: private.clone(),
            private: Some(private),
        }
    }

    /// All candidates: public access first, because it needs no key, then one per
    /// key.
    pub(super) fn all(
        access: &Access,
        headers: &Arc<EncryptedHeaders>,
    ) -> impl Iterator<Item = Self> {
        let locked = (access.keys.iter()).map(|key| BlobAccess::locked(access, key, headers));
        std::iter::once(BlobAccess::open(access)).chain(locked)
    }

    /// The key of the repository; `None` if it is public.
    pub(super) fn key(&self) -> Option<&SecretKey> {
        self.private.as_ref().map(|private| private.key())
    }

    /// The `root` that an address contains for the head with this hash.
    pub(super) fn root(&self, head: &ChunkHash) -> ChunkHash {
        (self.private.as_ref()).map_or(*head, |private| private.root(head))
    }
}

/// The first bytes of a blob in plaintext, and the access to the rest. For an
/// encrypted blob, returns the complete blocks among these bytes.
///
/// # Errors
/// [`RepoError::Private`] if the blob is encrypted and cannot be decrypted.
pub(super) fn enter(
    access: &Access,
    headers: &Arc<EncryptedHeaders>,
    blob: BlobId,
    bytes: Bytes,
) -> Result<(BlobAccess, Bytes), RepoError> {
    if !is_private(&bytes) {
        return Ok((BlobAccess::open(access), bytes));
    }
    let opened = PrivateHeader::decode(&bytes).and_then(|header| {
        let (key, opened) = unlock(access, &header)?;
        let plain = opened.open_start(&bytes)?;
        headers.insert(blob, header);
        Ok((BlobAccess::locked(access, key, headers), plain.into()))
    });
    opened.map_err(|why| RepoError::Private {
        what: format!("walrus://{blob}"),
        why,
    })
}

/// Finds the key of a blob.
fn unlock<'a>(
    access: &'a Access,
    header: &PrivateHeader,
) -> Result<(&'a SecretKey, PrivateBlob), PrivateError> {
    let no_key = if access.keys.is_empty() {
        PrivateError::NoKey
    } else {
        PrivateError::WrongKey
    };
    let mut keys = access.keys.iter();
    keys.find_map(|key| Some((key, PrivateKeys::of(key).unlock(header).ok()?)))
        .ok_or(no_key)
}
