//! Concatenation of several blobs.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use futures_util::stream;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::errors::ApiError;
use super::params::{ConcatParams, Params, ReadOptions};
use super::{Server, Shared, objects, reading};
use walgit_format::chunk::{BlobId, ByteRange};

/// `GET /v1alpha/blobs/concat?ids=`.
pub(super) async fn by_query(
    State(server): State<Shared>,
    Params(asked): Params<ConcatParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let options = ReadOptions {
        strict_consistency_check: asked.strict_consistency_check,
        skip_consistency_check: asked.skip_consistency_check,
    };
    let ids = asked.ids.split(',').map(str::trim);
    let ids = ids.filter(|id| !id.is_empty()).map(str::to_owned).collect();
    answer(&server, ids, options, &method, &headers)
}

/// Body of `POST /v1alpha/blobs/concat`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    ids: Vec<String>,
    strict_consistency_check: Option<bool>,
    skip_consistency_check: Option<bool>,
}

/// `POST /v1alpha/blobs/concat`.
pub(super) async fn by_body(
    State(server): State<Shared>,
    method: Method,
    headers: HeaderMap,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(wanted) = wanted.map_err(|error| ApiError::bad(error.body_text()))?;
    let options = ReadOptions {
        strict_consistency_check: wanted.strict_consistency_check == Some(true),
        skip_consistency_check: wanted.skip_consistency_check == Some(true),
    };
    answer(&server, wanted.ids, options, &method, &headers)
}

fn answer(
    server: &Server,
    ids: Vec<String>,
    options: ReadOptions,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    if ids.is_empty() {
        return Err(ApiError::bad("at least one blob ID or object ID is needed"));
    }
    options.check()?;
    let etag = URL_SAFE_NO_PAD.encode(digest(&SHA256, ids.join(",").as_bytes()));
    let mut parts = Vec::with_capacity(ids.len());
    for id in ids {
        let blob = resolve(server, &id)?;
        parts.push((blob, ByteRange::new(0, server.readable(blob)?)));
    }
    let store = server.store.clone();
    let bodies = stream::iter(parts)
        .flat_map(move |(blob, range)| Box::pin(reading::slices(store.clone(), blob, range)));
    let mut response = Response::new(Body::from_stream(bodies));
    reading::headers(response.headers_mut(), &etag, method, headers)?;
    Ok(response)
}

/// Resolves a blob ID or an object ID.
fn resolve(server: &Server, id: &str) -> Result<BlobId, ApiError> {
    if let Ok(blob) = id.parse() {
        return Ok(blob);
    }
    let blob = objects::find(&server.store, id)?;
    blob.ok_or_else(|| ApiError::object_not_found(id))
}
