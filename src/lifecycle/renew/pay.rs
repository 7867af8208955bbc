//! Payment for a blob.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::{Present, Renewal};
use walgit_format::chunk::BlobId;
use walrus_client::{BlobStore, Extent, PutOptions, Rejected, StoreError, StoredBlob};
use walrus_encoding::blob_id::blob_id;

/// Timeout of the command for one blob.
const PATIENCE: Duration = Duration::from_secs(120);
/// Maximum number of characters of its error output in messages.
const SAID: usize = 300;

/// A failed renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Blob ID.
    pub blob: BlobId,
    /// First epoch in which the blob may be gone.
    pub end: u32,
    /// The reason, and what the user can do.
    pub why: String,
}

/// Pays for blobs.
#[derive(Clone, Debug, Default)]
pub struct Payer {
    /// Path or name of the `walrus` command-line client: called as `COMMAND extend
    /// --blob-obj-id OBJECT --epochs-extended N --json`.
    pub command: Option<String>,
}

impl Payer {
    /// Pays for a blob by the first available method; returns its new state.
    pub(super) async fn pay(
        &self,
        store: &Arc<dyn BlobStore>,
        renewal: &Renewal,
        present: Present,
    ) -> Result<StoredBlob, Failed> {
        let failed = |why: String| Failed {
            blob: renewal.blob,
            end: renewal.end,
            why,
        };
        let told = |error: StoreError| failed(error.to_string());
        let paid = |end: u32, object_id: Option<String>| StoredBlob {
            blob: renewal.blob,
            len: renewal.len,
            end_epoch: Some(end),
            object_id,
        };
        // The blob may have been renewed meanwhile.
        if let Some(now) = store.lifetime(renewal.blob).await.map_err(told)?
            && now.end_epoch >= renewal.new_end
        {
            return Ok(paid(now.end_epoch, now.object_id));
        }
        let extended = store.extend(renewal.blob, renewal.new_end).await;
        if let Some(now) = extended.map_err(told)? {
            return Ok(paid(now.end_epoch, now.object_id));
        }
        if let Some(command) = &self.command {
            let Some(object) = &renewal.object_id else {
                let why = "the object that owns it is not known, so `walrus extend` cannot be \
                           called";
                return Err(failed(why.into()));
            };
            let epochs = renewal.new_end.saturating_sub(renewal.end);
            call(command, object, epochs).await.map_err(failed)?;
            return Ok(paid(renewal.new_end, Some(object.clone())));
        }
        let body = read(store, renewal).await.map_err(told)?;
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
                "the network has no publisher, and [renewal] no command; add one of them".into(),
            )),
            Err(error) => Err(told(error)),
        }
    }
}

/// Reads a whole blob and verifies its ID.
async fn read(store: &Arc<dyn BlobStore>, renewal: &Renewal) -> Result<Bytes, StoreError> {
    let mut found = Bytes::new();
    let whole = Extent::Whole {
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
    store.read(renewal.blob, whole, &mut accept).await?;
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
    let done = match tokio::time::timeout(PATIENCE, run).await {
        Ok(done) => done.map_err(|error| format!("`{command}` cannot be run: {error}"))?,
        Err(_) => return Err(format!("`{command} extend` took more than {PATIENCE:?}")),
    };
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said: String = said.trim().chars().take(SAID).collect();
    Err(format!(
        "`{command} extend` failed ({}): {said}",
        done.status
    ))
}
