//! Payment for a blob.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::super::epoch::PresentEpoch;
use super::plan::PlannedRenewal;
use walgit_format::chunk::BlobId;
use walrus_client::{BlobStore, PutOptions, ReadRange, Rejected, StoreError, StoredBlob};
use walrus_encoding::blob_id::blob_id;

/// Timeout of the command for one blob.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of characters of its error output in messages.
const MAX_ERROR_CHARS: usize = 300;

/// A failed renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedRenewal {
    /// Blob ID.
    pub blob: BlobId,
    /// First epoch in which the blob may be gone.
    pub end: u32,
    /// The reason, and what the user can do.
    pub why: String,
}

/// Pays for a blob by the first available method; returns its new state. `command` is the
/// user's `walrus` client, called as `COMMAND extend --blob-obj-id OBJECT
/// --epochs-extended N --json`.
pub(super) async fn pay(
    store: &Arc<dyn BlobStore>,
    command: Option<&str>,
    renewal: &PlannedRenewal,
    present: PresentEpoch,
) -> Result<StoredBlob, FailedRenewal> {
    let failed = |why: String| FailedRenewal {
        blob: renewal.blob,
        end: renewal.end,
        why,
    };
    let store_failed = |error: StoreError| failed(error.to_string());
    let paid = |end: u32, object_id: Option<String>| StoredBlob {
        blob: renewal.blob,
        len: renewal.len,
        end_epoch: Some(end),
        object_id,
    };
    // Another process may have renewed the blob.
    if let Some(now) = store.lifetime(renewal.blob).await.map_err(store_failed)?
        && now.end_epoch >= renewal.new_end
    {
        return Ok(paid(now.end_epoch, now.object_id));
    }
    let extended = store.extend(renewal.blob, renewal.new_end).await;
    if let Some(now) = extended.map_err(store_failed)? {
        return Ok(paid(now.end_epoch, now.object_id));
    }
    if let Some(command) = command {
        let Some(object) = &renewal.object_id else {
            let why = "the Sui object of the blob is unknown, so `walrus extend` cannot be called";
            return Err(failed(why.into()));
        };
        let epochs = renewal.new_end.saturating_sub(renewal.end);
        call(command, object, epochs).await.map_err(failed)?;
        return Ok(paid(renewal.new_end, Some(object.clone())));
    }
    let body = read(store, renewal).await.map_err(store_failed)?;
    let options = PutOptions {
        epochs: renewal.new_end.saturating_sub(present.epoch).max(1),
        deletable: renewal.deletable,
    };
    match store.put(renewal.blob, body, &options).await {
        Ok(stored) => {
            let end = stored.end_epoch.unwrap_or(renewal.new_end);
            Ok(paid(end, stored.object_id))
        }
        Err(StoreError::NoEndpoint(_)) => Err(failed(
            "the network has no publisher, and [renewal] sets no command; add one of them".into(),
        )),
        Err(error) => Err(store_failed(error)),
    }
}

/// Reads a whole blob and verifies its ID.
async fn read(store: &Arc<dyn BlobStore>, renewal: &PlannedRenewal) -> Result<Bytes, StoreError> {
    let mut found = Bytes::new();
    let full_range = ReadRange::Whole {
        at_most: renewal.len,
    };
    let mut accept = |bytes: Bytes| {
        let id = blob_id(&bytes).map_err(Rejected::because)?;
        if id != renewal.blob {
            return Err(Rejected::because(format!("it is blob {id}")));
        }
        found = bytes;
        Ok(())
    };
    store.read(renewal.blob, full_range, &mut accept).await?;
    Ok(found)
}

/// Extends an object with the user's client.
async fn call(command: &str, object: &str, epochs: u32) -> Result<(), String> {
    let run = tokio::process::Command::new(command)
        .args(["extend", "--blob-obj-id", object, "--epochs-extended"])
        .arg(epochs.to_string())
        .arg("--json")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = match tokio::time::timeout(COMMAND_TIMEOUT, run).await {
        Ok(done) => done.map_err(|error| format!("`{command}` cannot be run: {error}"))?,
        Err(_) => {
            return Err(format!(
                "`{command} extend` took more than {COMMAND_TIMEOUT:?}"
            ));
        }
    };
    if done.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&done.stderr);
    let stderr: String = stderr.trim().chars().take(MAX_ERROR_CHARS).collect();
    Err(format!(
        "`{command} extend` failed ({}): {stderr}",
        done.status
    ))
}
