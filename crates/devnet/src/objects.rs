//! Sui objects that own blobs. Without a chain, their IDs are derived from the blob ID,
//! so that the directory determines them all.

use super::errors::ApiError;
use super::params::hex_id;
use walgit_format::chunk::BlobId;
use walrus_client::LocalDir;
use walrus_client::object_id;

/// ID of the object created for a blob after `earlier` others.
pub(super) fn object(blob: BlobId, earlier: u32) -> String {
    match earlier {
        0 => object_id(blob),
        n => derived(&format!("{} {n}", object_id(blob))),
    }
}

/// ID of the shared object that wraps an object.
pub(super) fn shared(object: &str) -> String {
    derived(&format!("shared {object}"))
}

/// ID of the storage resource of an object.
pub(super) fn storage(object: &str) -> String {
    derived(&format!("storage {object}"))
}

/// Transaction of an event, in the chain's format: 32 bytes in base58.
pub(super) fn transaction(blob: BlobId) -> String {
    let digest = blake3::hash(format!("certified {blob}").as_bytes());
    bs58::encode(digest.as_bytes()).into_string()
}

fn derived(from: &str) -> String {
    format!("0x{}", blake3::hash(from.as_bytes()).to_hex())
}

/// Finds the blob of an object or of a shared object; `None` if there is none.
pub(super) fn find(store: &LocalDir, text: &str) -> Result<Option<BlobId>, ApiError> {
    let wanted = hex_id(text).ok_or_else(|| ApiError::bad_id(text))?;
    let blobs = store.list().map_err(ApiError::internal)?;
    Ok(blobs.into_iter().find(|&blob| {
        let made = store.meta(blob).map_or(0, |meta| meta.earlier_objects);
        (0..=made).any(|earlier| {
            let stored_object = object(blob, earlier);
            stored_object == wanted || shared(&stored_object) == wanted
        })
    }))
}
