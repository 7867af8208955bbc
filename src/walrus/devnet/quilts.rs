//! Quilts: several files in one blob.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::{Multipart, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::blobs::{self, StoreOptions};
use super::errors::ApiError;
use super::{MAX_QUILT, Shared};
use crate::chunk::{BlobId, ByteRange};
use crate::walrus::LocalDir;

/// Most files a quilt holds (the network's limit).
const MAX_FILES: usize = 666;
/// Bytes of a patch ID after the quilt's own: a version and two numbers.
const PATCH_BYTES: usize = 5;

/// A member of a quilt.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Patch {
    identifier: String,
    start: u64,
    len: u64,
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    identifier: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// `PUT /v1/quilts`.
pub(super) async fn store(
    State(server): State<Shared>,
    options: Result<Query<StoreOptions>, axum::extract::rejection::QueryRejection>,
    mut form: Multipart,
) -> Result<Json<Value>, ApiError> {
    let Query(options) = options.map_err(|error| ApiError::bad(error.body_text()))?;
    options.check()?;
    let bad = |error: axum::extract::multipart::MultipartError| ApiError::bad(error.body_text());
    let mut body = BytesMut::new();
    let mut patches: Vec<Patch> = Vec::new();
    let mut tags: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    while let Some(mut field) = form.next_field().await.map_err(bad)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "_metadata" {
            let text = field.text().await.map_err(bad)?;
            let list: Vec<Metadata> = serde_json::from_str(&text)
                .map_err(|error| ApiError::bad(format!("_metadata: {error}")))?;
            tags.extend(list.into_iter().map(|one| (one.identifier, one.tags)));
            continue;
        }
        if name.is_empty() || patches.iter().any(|patch| patch.identifier == name) {
            let message = format!("the identifier `{name}` is empty or there twice");
            return Err(ApiError::bad(message));
        }
        if patches.len() == MAX_FILES {
            let message = format!("a quilt holds at most {MAX_FILES} files");
            return Err(ApiError::bad(message));
        }
        let start = body.len() as u64;
        while let Some(part) = field.chunk().await.map_err(bad)? {
            if (body.len() + part.len()) as u64 > MAX_QUILT {
                return Err(ApiError::too_large(MAX_QUILT));
            }
            body.extend_from_slice(&part);
        }
        patches.push(Patch {
            identifier: name,
            start,
            len: body.len() as u64 - start,
            tags: BTreeMap::new(),
        });
    }
    if patches.is_empty() {
        return Err(ApiError::bad("a quilt needs at least one file"));
    }
    for patch in &mut patches {
        patch.tags = tags.remove(&patch.identifier).unwrap_or_default();
    }
    if let Some(unknown) = tags.keys().next() {
        let message = format!("_metadata names `{unknown}`, which is not in the form");
        return Err(ApiError::bad(message));
    }
    let (quilt, result) =
        blobs::keep(&server.store, body.freeze(), &options, Some(json!(patches))).await?;
    let stored: Vec<Value> = (patches.iter().enumerate())
        .map(|(number, patch)| {
            json!({
                "identifier": patch.identifier,
                "quiltPatchId": patch_id(quilt, number),
                "range": [patch.start, patch.start + patch.len],
            })
        })
        .collect();
    Ok(Json(json!({
        "blobStoreResult": result,
        "storedQuiltBlobs": stored,
    })))
}

fn patch_id(quilt: BlobId, number: usize) -> String {
    let mut bytes = quilt.as_bytes().to_vec();
    bytes.push(1);
    bytes.extend_from_slice(&(number as u16).to_le_bytes());
    bytes.extend_from_slice(&(number as u16 + 1).to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn parse_patch_id(text: &str) -> Option<(BlobId, usize)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (quilt, rest) = bytes.split_first_chunk::<32>()?;
    let rest: &[u8; PATCH_BYTES] = rest.try_into().ok()?;
    let number = usize::from(u16::from_le_bytes([rest[1], rest[2]]));
    Some((BlobId::from_bytes(*quilt), number))
}

fn patches(store: &LocalDir, quilt: BlobId) -> Result<Vec<Patch>, ApiError> {
    let meta = store.meta(quilt).and_then(|meta| meta.quilt);
    let patches = meta.and_then(|patches| serde_json::from_value(patches).ok());
    patches.ok_or_else(|| ApiError::blob_not_found(quilt))
}

fn answer(
    store: &LocalDir,
    quilt: BlobId,
    patch: &Patch,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let range = ByteRange::new(patch.start, patch.len);
    let mut response = blobs::answer(store, quilt, range, method, headers)?;
    let identifier = HeaderValue::from_str(&patch.identifier).ok();
    if let Some(identifier) = identifier {
        let name = HeaderName::from_static("x-quilt-patch-identifier");
        response.headers_mut().insert(name, identifier);
    }
    Ok(response)
}

/// `GET /v1/blobs/by-quilt-id/{quilt_id}/{identifier}`.
pub(super) async fn read_by_identifier(
    State(server): State<Shared>,
    Path((quilt, identifier)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let quilt: BlobId = quilt
        .parse()
        .map_err(|_| ApiError::bad(format!("`{quilt}` is not a quilt ID")))?;
    let patches = patches(&server.store, quilt)?;
    let patch = patches.iter().find(|patch| patch.identifier == identifier);
    let patch = patch.ok_or_else(|| ApiError::blob_not_found(identifier))?;
    answer(&server.store, quilt, patch, &method, &headers)
}

/// `GET /v1/blobs/by-quilt-patch-id/{patch_id}`.
pub(super) async fn read_by_patch(
    State(server): State<Shared>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let parsed = parse_patch_id(&id);
    let (quilt, number) =
        parsed.ok_or_else(|| ApiError::bad(format!("`{id}` is not a quilt patch ID")))?;
    let patches = patches(&server.store, quilt)?;
    let patch = patches
        .get(number)
        .ok_or_else(|| ApiError::blob_not_found(id))?;
    answer(&server.store, quilt, patch, &method, &headers)
}

/// `GET /v1/quilts/{quilt_id}/patches`.
pub(super) async fn list(
    State(server): State<Shared>,
    Path(quilt): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let quilt: BlobId = quilt
        .parse()
        .map_err(|_| ApiError::bad(format!("`{quilt}` is not a quilt ID")))?;
    let patches = patches(&server.store, quilt)?;
    let items = patches.iter().enumerate().map(|(number, patch)| {
        json!({
            "identifier": patch.identifier,
            "patch_id": patch_id(quilt, number),
            "tags": patch.tags,
        })
    });
    Ok(Json(items.collect()))
}
