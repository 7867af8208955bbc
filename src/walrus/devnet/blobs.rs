//! Blobs: reading whole ones and ranges, storing.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::errors::ApiError;
use crate::chunk::{BlobId, ByteRange};
use crate::walrus::dir::object_id;
use crate::walrus::{BlobMeta, Extent, LocalDir, blob_id, cost};

/// Bytes read from the disk at once.
const SLICE: u64 = 256 << 10;
/// The epoch this network is in.
pub(super) const EPOCH: u32 = 1;
/// Epochs that can be bought ahead.
const MAX_EPOCHS: u32 = 53;
/// Bytes over the limit that are read before a body is refused.
const PATIENCE: u64 = 64 << 20;

/// Consistency checks a reader may ask for; a directory is always consistent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadOptions {
    strict_consistency_check: Option<bool>,
    skip_consistency_check: Option<bool>,
}

impl ReadOptions {
    fn check(&self) -> Result<(), ApiError> {
        match (self.strict_consistency_check, self.skip_consistency_check) {
            (Some(true), Some(true)) => Err(ApiError::bad(
                "strict_consistency_check and skip_consistency_check exclude each other",
            )),
            _ => Ok(()),
        }
    }
}

type Options = Result<Query<ReadOptions>, axum::extract::rejection::QueryRejection>;

fn checked(options: Options) -> Result<(), ApiError> {
    let Query(options) = options.map_err(|error| ApiError::bad(error.body_text()))?;
    options.check()
}

fn parse(id: &str) -> Result<BlobId, ApiError> {
    id.parse()
        .map_err(|_| ApiError::bad(format!("`{id}` is not a blob ID")))
}

fn length(store: &LocalDir, blob: BlobId) -> Result<u64, ApiError> {
    let len = store.stat(blob).map_err(ApiError::internal)?;
    len.ok_or_else(|| ApiError::blob_not_found(blob))
}

/// `GET`, `HEAD /v1/blobs/{blob_id}`.
pub(super) async fn read(
    State(server): State<Shared>,
    Path(id): Path<String>,
    options: Options,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    checked(options)?;
    whole(&server.store, parse(&id)?, &method, &headers)
}

/// `GET /v1/blobs/by-object-id/{object_id}`.
pub(super) async fn read_by_object(
    State(server): State<Shared>,
    Path(object): Path<String>,
    options: Options,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    checked(options)?;
    let blob = find_object(&server.store, &object)?;
    whole(&server.store, blob, &method, &headers)
}

fn whole(
    store: &LocalDir,
    blob: BlobId,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let all = ByteRange::new(0, length(store, blob)?);
    answer(store, blob, all, method, headers)
}

fn find_object(store: &LocalDir, object: &str) -> Result<BlobId, ApiError> {
    let digits = object.strip_prefix("0x").unwrap_or_default();
    if digits.is_empty() || digits.len() > 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ApiError::bad(format!("`{object}` is not an object ID")));
    }
    let object = format!("0x{:0>64}", digits.to_ascii_lowercase());
    let blobs = store.list().map_err(ApiError::internal)?;
    blobs
        .into_iter()
        .find(|&blob| object_id(blob) == object)
        .ok_or_else(|| ApiError::blob_not_found(object))
}

/// The part of `within` that a `Range` header asks for, or all of it; with the
/// headers the network sends.
pub(super) fn answer(
    store: &LocalDir,
    blob: BlobId,
    within: ByteRange,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let mut response = Response::builder()
        .header(ETAG, blob.to_string())
        .header(
            CACHE_CONTROL,
            "public, max-age=86400, stale-while-revalidate=3600",
        )
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_TYPE, "application/octet-stream");
    let part = match headers.get(RANGE) {
        None => within,
        Some(value) => {
            let part = closed_range(value.to_str().unwrap_or_default(), within.len())?;
            let last = part.end() - 1;
            response = response.status(StatusCode::PARTIAL_CONTENT).header(
                CONTENT_RANGE,
                format!("bytes {}-{last}/{}", part.start(), within.len()),
            );
            ByteRange::new(within.start() + part.start(), part.len())
        }
    };
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(read_slices(store.clone(), blob, part)),
    };
    response
        .header(CONTENT_LENGTH, part.len())
        .body(body)
        .map_err(ApiError::internal)
}

/// One closed range within `len` bytes; everything else is refused.
fn closed_range(header: &str, len: u64) -> Result<ByteRange, ApiError> {
    let ends = header
        .strip_prefix("bytes=")
        .and_then(|r| r.split_once('-'));
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match ends.and_then(|(a, b)| number(a).zip(number(b))) {
        Some((first, last)) if first <= last && last < len => {
            Ok(ByteRange::new(first, last - first + 1))
        }
        _ => Err(ApiError::range()),
    }
}

fn read_slices(
    store: LocalDir,
    blob: BlobId,
    range: ByteRange,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(range, move |rest| {
        let store = store.clone();
        async move {
            if rest.is_empty() {
                return Ok(None);
            }
            let slice = ByteRange::new(rest.start(), rest.len().min(SLICE));
            let read = move || store.read_blocking(blob, Extent::Part(slice));
            let bytes = tokio::task::spawn_blocking(read).await;
            let bytes = bytes
                .map_err(std::io::Error::other)?
                .map_err(std::io::Error::other)?;
            let rest = ByteRange::new(slice.end(), rest.len() - slice.len());
            Ok(Some((bytes, rest)))
        }
    })
}

/// `GET /v1/blobs/{blob_id}/byte-range?start=&length=`.
pub(super) async fn read_byte_range(
    State(server): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
) -> Result<Response, ApiError> {
    let blob = parse(&id)?;
    let query = query.unwrap_or_default();
    let number = |name: &str| {
        let pair = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pair
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next();
        value
            .and_then(|value| value.parse::<u64>().ok())
            .ok_or_else(|| ApiError::bad(format!("`{name}` must be a whole number")))
    };
    let (start, wanted) = (number("start")?, number("length")?);
    let len = length(&server.store, blob)?;
    let range = ByteRange::new(start, wanted);
    if range.is_empty() || range.len() != wanted || range.end() > len {
        return Err(ApiError::bad(format!(
            "{wanted} bytes from {start} are not within the blob's {len}"
        )));
    }
    answer(&server.store, blob, range, &method, &HeaderMap::new())
}

/// `GET /v1alpha/blobs/concat?ids=`.
pub(super) async fn concat(
    State(server): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let ids = pairs.find(|(key, _)| *key == "ids").map(|(_, ids)| ids);
    let ids = ids.ok_or_else(|| ApiError::bad("`ids` is missing"))?;
    let ids = percent_encoding::percent_decode_str(ids).decode_utf8_lossy();
    concat_blobs(&server.store, ids.split(',').map(str::to_owned).collect())
}

/// What `POST /v1alpha/blobs/concat` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConcatRequest {
    ids: Vec<String>,
    #[serde(default)]
    strict_consistency_check: Option<bool>,
    #[serde(default)]
    skip_consistency_check: Option<bool>,
}

/// `POST /v1alpha/blobs/concat`.
pub(super) async fn concat_post(
    State(server): State<Shared>,
    Json(request): Json<ConcatRequest>,
) -> Result<Response, ApiError> {
    let options = ReadOptions {
        strict_consistency_check: request.strict_consistency_check,
        skip_consistency_check: request.skip_consistency_check,
    };
    options.check()?;
    concat_blobs(&server.store, request.ids)
}

fn concat_blobs(store: &LocalDir, ids: Vec<String>) -> Result<Response, ApiError> {
    let mut parts = Vec::with_capacity(ids.len());
    for id in ids {
        let blob = match id.starts_with("0x") {
            true => find_object(store, &id)?,
            false => parse(&id)?,
        };
        parts.push((blob, ByteRange::new(0, length(store, blob)?)));
    }
    let store = store.clone();
    let bodies = stream::iter(parts)
        .flat_map(move |(blob, range)| Box::pin(read_slices(store.clone(), blob, range)));
    Ok(Body::from_stream(bodies).into_response())
}

/// How a blob is to be stored.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreOptions {
    epochs: Option<u32>,
    deletable: Option<bool>,
    permanent: Option<bool>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    #[allow(dead_code, reason = "accepted; a directory has no resources to reuse")]
    reuse_resources: bool,
    encoding_type: Option<String>,
    quilt_version: Option<String>,
    send_object_to: Option<String>,
    share: Option<bool>,
}

impl StoreOptions {
    pub(super) fn check(&self) -> Result<(), ApiError> {
        if self.deletable == Some(true) && self.permanent == Some(true) {
            return Err(ApiError::bad(
                "a blob cannot be both deletable and permanent",
            ));
        }
        if self.send_object_to.is_some() && self.share.is_some() {
            return Err(ApiError::bad("send_object_to and share exclude each other"));
        }
        if !(1..=MAX_EPOCHS).contains(&self.epochs.unwrap_or(1)) {
            let message = format!("epochs must be between 1 and {MAX_EPOCHS}");
            return Err(ApiError::bad(message));
        }
        if self
            .encoding_type
            .as_deref()
            .is_some_and(|kind| kind != "RS2")
        {
            return Err(ApiError::bad("the only encoding type is RS2"));
        }
        let version = self.quilt_version.as_deref().unwrap_or("v1");
        if !["v1", "V1", "1"].contains(&version) {
            return Err(ApiError::bad("the only quilt version is v1"));
        }
        Ok(())
    }
}

/// Reads a body of at most `limit` bytes. Of a longer one a good part is read
/// and thrown away first: a client that is still sending would see its
/// connection break instead of the answer.
async fn collect(body: Body, limit: u64) -> Result<Bytes, ApiError> {
    let mut parts = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut len = 0;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| ApiError::bad(error.to_string()))?;
        len += part.len() as u64;
        match len {
            len if len <= limit => bytes.extend_from_slice(&part),
            len if len <= limit + PATIENCE => bytes.clear(),
            _ => break,
        }
    }
    match len <= limit {
        true => Ok(bytes.freeze()),
        false => Err(ApiError::too_large(limit)),
    }
}

/// `PUT /v1/blobs`.
pub(super) async fn store(
    State(server): State<Shared>,
    options: Result<Query<StoreOptions>, axum::extract::rejection::QueryRejection>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let Query(options) = options.map_err(|error| ApiError::bad(error.body_text()))?;
    options.check()?;
    let limit = server.config.max_body;
    let body = collect(body, limit).await?;
    Ok(Json(keep(&server.store, body, &options, None).await?.1))
}

/// Stores a body; its ID, and what a publisher answers.
pub(super) async fn keep(
    store: &LocalDir,
    body: Bytes,
    options: &StoreOptions,
    quilt: Option<Value>,
) -> Result<(BlobId, Value), ApiError> {
    let store = store.clone();
    let end_epoch = EPOCH + options.epochs.unwrap_or(1);
    let (force, share) = (options.force, options.share == Some(true));
    let deletable = options.permanent != Some(true);
    let work = move || -> Result<(BlobId, Value), ApiError> {
        let blob = blob_id::blob_id(&body).map_err(ApiError::internal)?;
        let size = body.len() as u64;
        let present = store.stat(blob).map_err(ApiError::internal)? == Some(size);
        let known = store.meta(blob).filter(|_| present);
        if let Some(known) = known
            .as_ref()
            .filter(|k| !force && k.end_epoch >= end_epoch)
        {
            let object = (known.deletable).then(|| json!({"object": known.object_id}));
            let mut answer = object.unwrap_or_else(|| {
                let digest = bs58_like(blob);
                json!({"event": {"txDigest": digest, "eventSeq": "0"}})
            });
            answer["blobId"] = json!(blob);
            answer["endEpoch"] = json!(known.end_epoch);
            return Ok((blob, json!({"alreadyCertified": answer})));
        }
        let encoded = cost::encoded_size(size);
        let operation = match &known {
            Some(known) if !force => json!({"reuseAndExtend": {
                "encodedLength": encoded,
                "epochsExtended": end_epoch.saturating_sub(known.end_epoch),
            }}),
            _ => json!({"registerFromScratch": {
                "encodedLength": encoded,
                "epochsAhead": end_epoch - EPOCH,
            }}),
        };
        let meta = BlobMeta {
            size,
            object_id: object_id(blob),
            registered_epoch: EPOCH,
            end_epoch,
            deletable,
            quilt,
        };
        store
            .write(blob, &body, &meta)
            .map_err(ApiError::internal)?;
        let mut answer = json!({
            "blobObject": {
                "id": meta.object_id,
                "registeredEpoch": meta.registered_epoch,
                "blobId": blob,
                "size": size,
                "encodingType": "RS2",
                "certifiedEpoch": EPOCH,
                "storage": {
                    "id": format!("0x{}", blake3::hash(meta.object_id.as_bytes()).to_hex()),
                    "startEpoch": EPOCH,
                    "endEpoch": end_epoch,
                    "storageSize": encoded,
                },
                "deletable": deletable,
            },
            "resourceOperation": operation,
            "cost": encoded / 1000,
        });
        if share {
            let shared = blake3::hash(format!("shared {}", meta.object_id).as_bytes());
            answer["sharedBlobObject"] = json!(format!("0x{}", shared.to_hex()));
        }
        Ok((blob, json!({"newlyCreated": answer})))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(ApiError::internal)?
}

/// A text where the network has a transaction's digest.
fn bs58_like(blob: BlobId) -> String {
    blob.to_string().replace(['-', '_'], "x")
}
