//! The objects that own blobs on the chain. There is no chain here: their IDs
//! are derived from the blob's, so that a directory tells them all.

use super::errors::ApiError;
use super::params::hex_id;
use walgit_format::chunk::BlobId;
use walrus_client::LocalDir;
use walrus_client::object_id;

/// The object made for a blob after `earlier` others.
pub(super) fn object(blob: BlobId, earlier: u32) -> String {
    match earlier {
        0 => object_id(blob),
        n => derived(&format!("{} {n}", object_id(blob))),
    }
}

/// What shares an object with everybody.
pub(super) fn shared(object: &str) -> String {
    derived(&format!("shared {object}"))
}

/// The storage that belongs to an object.
pub(super) fn storage(object: &str) -> String {
    derived(&format!("storage {object}"))
}

/// An event's transaction, as the chain writes it: 32 bytes in base58.
pub(super) fn transaction(blob: BlobId) -> String {
    let digest = blake3::hash(format!("certified {blob}").as_bytes());
    bs58::encode(digest.as_bytes()).into_string()
}

fn derived(from: &str) -> String {
    format!("0x{}", blake3::hash(from.as_bytes()).to_hex())
}

/// The blob behind an object, its own or a shared one; `None` where there is
/// none.
///
/// # Errors
/// When `text` is no object ID.
pub(super) fn find(store: &LocalDir, text: &str) -> Result<Option<BlobId>, ApiError> {
    let wanted = hex_id(text).ok_or_else(|| ApiError::bad_id(text))?;
    let blobs = store.list().map_err(ApiError::internal)?;
    Ok(blobs.into_iter().find(|&blob| {
        let made = store.meta(blob).map_or(0, |meta| meta.earlier_objects);
        (0..=made).any(|earlier| {
            let own = object(blob, earlier);
            own == wanted || shared(&own) == wanted
        })
    }))
}
