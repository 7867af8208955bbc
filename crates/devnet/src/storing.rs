//! Writes of blobs: `PUT /v1/blobs`, and the answers of a publisher.

use axum::body::Body;
use axum::extract::State;
use axum::{Extension, Json};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::errors::ApiError;
use super::faults::PutFault;
use super::objects;
use super::params::{Params, StoreOptions};
use super::state::{Server, Shared, blocking};
use walgit_format::chunk::BlobId;
use walrus_client::BlobMeta;
use walrus_encoding::{blob_id, cost};

/// Bytes over the limit that are read before a body is refused.
const MAX_DISCARDED_BYTES: u64 = 64 << 20;

/// `PUT /v1/blobs`.
pub(super) async fn store(
    State(server): State<Shared>,
    Extension(fault): Extension<Option<PutFault>>,
    Params(options): Params<StoreOptions>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    options.check()?;
    let body = collect(body, server.config.max_body).await?;
    let (_, result) = store_body(&server, body, options, fault).await?;
    Ok(Json(result))
}

/// Reads a body of at most `limit` bytes. A large part of a longer one is read and
/// discarded first: a client that is still sending would see a broken connection instead
/// of the answer.
pub(super) async fn collect(body: Body, limit: u64) -> Result<Bytes, ApiError> {
    let mut parts = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut len = 0;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| ApiError::bad(error.to_string()))?;
        len += part.len() as u64;
        match len {
            len if len <= limit => bytes.extend_from_slice(&part),
            len if len <= limit + MAX_DISCARDED_BYTES => bytes.clear(),
            _ => break,
        }
    }
    if len > limit {
        return Err(ApiError::too_large());
    }
    Ok(bytes.freeze())
}

/// Stores a body; returns its ID and the answer of a publisher.
pub(super) async fn store_body(
    server: &Shared,
    body: Bytes,
    options: StoreOptions,
    fault: Option<PutFault>,
) -> Result<(BlobId, Value), ApiError> {
    let server = server.clone();
    let work = move || -> Result<(BlobId, Value), ApiError> {
        let blob = blob_id::blob_id(&body).map_err(ApiError::internal)?;
        if server.config.forbidden.contains(&blob) {
            return Err(ApiError::forbidden());
        }
        // The answer depends on the metadata, so no other request may change it
        // concurrently.
        let _lock = server.store.lock_exclusive().map_err(ApiError::internal)?;
        let answer = match fault {
            Some(PutFault::MarkedInvalid) => json!({"markedInvalid": {
                "blobId": blob,
                "event": event(blob),
            }}),
            Some(PutFault::Error) => failed(Some(blob), "certify"),
            Some(PutFault::ErrorEarly) => failed(None, "encode"),
            Some(PutFault::Uncertified) => {
                let mut answer = certify(&server, blob, &body, &options)?;
                answer["newlyCreated"]["blobObject"]["certifiedEpoch"] = Value::Null;
                answer
            }
            Some(PutFault::Operation(name)) => {
                let mut answer = certify(&server, blob, &body, &options)?;
                answer["newlyCreated"]["resourceOperation"] =
                    operation(name, body.len() as u64, options.epochs());
                answer
            }
            None => match already_certified(&server, blob, body.len() as u64, &options)? {
                Some(answer) => answer,
                None => certify(&server, blob, &body, &options)?,
            },
        };
        Ok((blob, answer))
    };
    blocking(work).await
}

fn epoch(server: &Server) -> Result<u32, ApiError> {
    server.store.present_epoch().map_err(ApiError::internal)
}

/// Returns the metadata of an existing blob.
fn existing_meta(server: &Server, blob: BlobId, size: u64) -> Result<Option<BlobMeta>, ApiError> {
    let present = server.store.stat(blob).map_err(ApiError::internal)? == Some(size);
    Ok(server.store.meta(blob).filter(|_| present))
}

/// Returns the answer if the existing blob is sufficient: it lives long enough, and is
/// permanent or its object belongs to the publisher.
fn already_certified(
    server: &Server,
    blob: BlobId,
    size: u64,
    options: &StoreOptions,
) -> Result<Option<Value>, ApiError> {
    let Some(existing) = existing_meta(server, blob, size)? else {
        return Ok(None);
    };
    let safe = !existing.deletable || (options.deletable() && existing.owner.is_none());
    if options.force
        || !safe
        || existing.end_epoch < epoch(server)?.saturating_add(options.epochs())
    {
        return Ok(None);
    }
    let mut answer = if existing.deletable {
        json!({"object": existing.object_id})
    } else {
        json!({"event": event(blob)})
    };
    answer["blobId"] = json!(blob);
    answer["endEpoch"] = json!(existing.end_epoch);
    Ok(Some(json!({"alreadyCertified": answer})))
}

/// Stores the blob, or extends an existing one, and returns its object.
fn certify(
    server: &Server,
    blob: BlobId,
    body: &[u8],
    options: &StoreOptions,
) -> Result<Value, ApiError> {
    let size = body.len() as u64;
    let epoch = epoch(server)?;
    let end_epoch = epoch.saturating_add(options.epochs());
    let existing = existing_meta(server, blob, size)?;
    let reused = existing.as_ref().filter(|existing| {
        options.reuse_resources
            && !options.force
            && existing.owner.is_none()
            && existing.deletable == options.deletable()
            && existing.end_epoch < end_epoch
    });
    let operation = match reused {
        Some(reused) => operation("reuseAndExtend", size, end_epoch - reused.end_epoch),
        None => operation("registerFromScratch", size, options.epochs()),
    };
    let earlier_objects = existing.as_ref().map_or(0, |existing| {
        let new = u32::from(reused.is_none());
        existing.earlier_objects.saturating_add(new)
    });
    let meta = BlobMeta {
        size,
        object_id: objects::object(blob, earlier_objects),
        registered_epoch: epoch,
        end_epoch,
        deletable: options.deletable(),
        owner: options.send_object_to.clone(),
        earlier_objects,
    };
    // The answer describes this object; other objects of the blob may live longer.
    let merged = meta.clone().merge_max(existing.as_ref());
    let written = match existing {
        Some(_) => server.store.write_meta(blob, &merged),
        None => server.store.write(blob, body, &merged),
    };
    (written.and_then(|()| server.store.flush_blocking())).map_err(ApiError::internal)?;
    let encoded = cost::encoded_size(size);
    let mut answer = json!({
        "blobObject": {
            "id": meta.object_id,
            "registeredEpoch": meta.registered_epoch,
            "blobId": blob,
            "size": size,
            "encodingType": "RS2",
            "certifiedEpoch": epoch,
            "storage": {
                "id": objects::storage(&meta.object_id),
                "startEpoch": epoch,
                "endEpoch": end_epoch,
                "storageSize": encoded,
            },
            "deletable": meta.deletable,
        },
        "resourceOperation": operation,
        "cost": encoded / 1000,
    });
    if options.share() {
        answer["sharedBlobObject"] = json!(objects::shared(&meta.object_id));
    }
    Ok(json!({"newlyCreated": answer}))
}

/// On-chain operation that obtained the storage.
fn operation(name: &str, size: u64, epochs: u32) -> Value {
    let mut about = json!({"encodedLength": cost::encoded_size(size)});
    match name {
        "registerFromScratch" => about["epochsAhead"] = json!(epochs),
        "reuseAndExtend" | "reuseAndExtendNonCertified" => about["epochsExtended"] = json!(epochs),
        _ => {}
    }
    json!({name: about})
}

fn failed(blob: Option<BlobId>, phase: &str) -> Value {
    json!({"error": {
        "blobId": blob,
        "failurePhase": phase,
        "errorMsg": "an injected fault",
    }})
}

fn event(blob: BlobId) -> Value {
    json!({"txDigest": objects::transaction(blob), "eventSeq": "0"})
}
