//! Concatenation of several blobs.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use futures_util::stream;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::errors::ApiError;
use super::params::{Params, ReadOptions};
use super::state::{Server, Shared};
use super::{objects, reading};
use walgit_format::chunk::{BlobId, ByteRange};

/// Parameters of `concat`: IDs of blobs or objects, as a list separated by commas in a query
/// and as an array in JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConcatParams<Ids> {
    ids: Ids,
    strict_consistency_check: Option<bool>,
    skip_consistency_check: Option<bool>,
}

impl<Ids> ConcatParams<Ids> {
    fn options(&self) -> ReadOptions {
        ReadOptions {
            strict_consistency_check: self.strict_consistency_check == Some(true),
            skip_consistency_check: self.skip_consistency_check == Some(true),
        }
    }
}

/// `GET /v1alpha/blobs/concat?ids=`.
pub(super) async fn by_query(
    State(server): State<Shared>,
    Params(params): Params<ConcatParams<String>>,
    request: Parts,
) -> Result<Response, ApiError> {
    let ids = params.ids.split(',').map(str::trim);
    let ids = ids.filter(|id| !id.is_empty()).map(str::to_owned).collect();
    answer(&server, ids, params.options(), &request)
}

/// `POST /v1alpha/blobs/concat`.
pub(super) async fn by_body(
    State(server): State<Shared>,
    request: Parts,
    params: Result<Json<ConcatParams<Vec<String>>>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(params) = params.map_err(|error| ApiError::bad(error.body_text()))?;
    let options = params.options();
    answer(&server, params.ids, options, &request)
}

fn answer(
    server: &Server,
    ids: Vec<String>,
    options: ReadOptions,
    request: &Parts,
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
    reading::headers(response.headers_mut(), &etag, request)?;
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
