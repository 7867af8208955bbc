//! Reads of blobs, whole or a range.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream};

use super::errors::ApiError;
use super::objects;
use super::params::{ByteRangeParams, Params, ReadOptions};
use super::state::{Server, Shared};
use walgit_format::chunk::{BlobId, ByteRange};
use walrus_client::{LocalDir, ReadRange};

/// Bytes per disk read.
const READ_LEN: u64 = 256 << 10;

impl Server {
    /// Returns the length of a readable blob.
    ///
    /// # Errors
    /// 451, 404 and 403, in the network's order of checks.
    pub(super) fn readable(&self, blob: BlobId) -> Result<u64, ApiError> {
        if self.config.forbidden.contains(&blob) {
            return Err(ApiError::forbidden());
        }
        let len = self.store.stat(blob).map_err(ApiError::internal)?;
        let len = len.ok_or_else(|| ApiError::blob_not_found(blob))?;
        match self.config.max_read {
            Some(limit) if len > limit => Err(ApiError::blob_too_large(limit)),
            _ => Ok(len),
        }
    }
}

/// Random draw that selects a wrong blob to return, if any.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrongBlob(pub(super) Option<u64>);

impl WrongBlob {
    /// Returns the blob to send; a wrong one only if it is at least as long, so that any
    /// range of the right one is valid.
    fn instead_of(self, server: &Server, blob: BlobId) -> Result<BlobId, ApiError> {
        let Some(draw) = self.0 else {
            return Ok(blob);
        };
        let len = server.readable(blob)?;
        let mut others = server.store.list().map_err(ApiError::internal)?;
        others.retain(|&other| {
            other != blob && server.readable(other).is_ok_and(|other| other >= len)
        });
        others.sort_unstable();
        let place = draw.checked_rem(others.len() as u64);
        Ok(place.map_or(blob, |place| others[place as usize]))
    }
}

pub(super) fn parse(id: &str) -> Result<BlobId, ApiError> {
    id.parse().map_err(|_| ApiError::bad_id(id))
}

/// `GET`, `HEAD /v1/blobs/{blob_id}`.
pub(super) async fn read(
    State(server): State<Shared>,
    Path(id): Path<String>,
    Params(options): Params<ReadOptions>,
    Extension(mistaken): Extension<WrongBlob>,
    request: Parts,
) -> Result<Response, ApiError> {
    options.check()?;
    let blob = mistaken.instead_of(&server, parse(&id)?)?;
    whole(&server, blob, &request)
}

/// `GET /v1/blobs/by-object-id/{object_id}`: an owned or a shared object.
pub(super) async fn read_by_object(
    State(server): State<Shared>,
    Path(object): Path<String>,
    Params(options): Params<ReadOptions>,
    request: Parts,
) -> Result<Response, ApiError> {
    options.check()?;
    let blob = objects::find(&server.store, &object)?;
    let blob = blob.ok_or_else(|| ApiError::blob_not_found(object))?;
    whole(&server, blob, &request)
}

/// Returns the blob, or the part that a `Range` header requests.
fn whole(server: &Server, blob: BlobId, request: &Parts) -> Result<Response, ApiError> {
    let len = server.readable(blob)?;
    let etag = blob.to_string();
    let Some(range) = request.headers.get(RANGE) else {
        let all = ByteRange::new(0, len);
        return answer(&server.store, blob, all, &etag, request);
    };
    let part = closed_range(range, len)?;
    let mut response = answer(&server.store, blob, part, &etag, request)?;
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = format!("bytes {}-{}/{len}", part.start(), part.end() - 1);
    let range = HeaderValue::try_from(range).map_err(ApiError::internal)?;
    response.headers_mut().insert(CONTENT_RANGE, range);
    Ok(response)
}

/// `GET /v1/blobs/{blob_id}/byte-range?start=&length=`: a 200, so that caches in front
/// of the network can store it.
pub(super) async fn read_byte_range(
    State(server): State<Shared>,
    Path(id): Path<String>,
    Params(params): Params<ByteRangeParams>,
    Extension(mistaken): Extension<WrongBlob>,
    request: Parts,
) -> Result<Response, ApiError> {
    let blob = mistaken.instead_of(&server, parse(&id)?)?;
    let len = server.readable(blob)?;
    let ByteRangeParams { start, length } = params;
    let range = ByteRange::new(start, length);
    if range.is_empty() || range.len() != length || range.end() > len {
        return Err(ApiError::byte_range(format!(
            "{length} bytes from {start} are not within the blob's {len}"
        )));
    }
    let etag = format!("{blob}-{start}-{length}");
    answer(&server.store, blob, range, &etag, &request)
}

/// Returns a range of a blob, with the network's headers.
fn answer(
    store: &LocalDir,
    blob: BlobId,
    part: ByteRange,
    etag: &str,
    request: &Parts,
) -> Result<Response, ApiError> {
    let body = match request.method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(slices(store.clone(), blob, part)),
    };
    let mut response = Response::new(body);
    headers(response.headers_mut(), etag, request)?;
    let len = HeaderValue::from(part.len());
    response.headers_mut().insert(CONTENT_LENGTH, len);
    Ok(response)
}

/// Adds the headers of every answer that contains bytes of a blob. As on the network,
/// the ETag is unquoted, and the content type is the one that the reader accepts.
pub(super) fn headers(
    headers: &mut HeaderMap,
    etag: &str,
    request: &Parts,
) -> Result<(), ApiError> {
    let fixed = HeaderValue::from_static;
    headers.insert(
        ETAG,
        HeaderValue::try_from(etag).map_err(ApiError::internal)?,
    );
    let cached = "public, max-age=86400, stale-while-revalidate=3600";
    headers.insert(CACHE_CONTROL, fixed(cached));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    let bytes = || fixed("application/octet-stream");
    headers.insert(CONTENT_TYPE, mirrored(request).unwrap_or_else(bytes));
    Ok(())
}

/// Content type that the reader accepts.
pub(super) fn mirrored(request: &Parts) -> Option<HeaderValue> {
    let headers = &request.headers;
    let accepted = (headers.get(ACCEPT)).filter(|kind| !kind.as_bytes().contains(&b'*'));
    let sent = (headers.get(CONTENT_TYPE)).filter(|_| request.method == Method::GET);
    accepted.or(sent).cloned()
}

/// Parses one closed range within `len` bytes; rejects any other.
pub(super) fn closed_range(header: &HeaderValue, len: u64) -> Result<ByteRange, ApiError> {
    let text = header.to_str().unwrap_or_default();
    let ends = text.strip_prefix("bytes=").and_then(|r| r.split_once('-'));
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match ends.and_then(|(a, b)| number(a).zip(number(b))) {
        Some((first, last)) if first <= last && last < len => {
            Ok(ByteRange::new(first, last - first + 1))
        }
        _ => Err(ApiError::range()),
    }
}

pub(super) fn slices(
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
            let slice = ByteRange::new(rest.start(), rest.len().min(READ_LEN));
            let read = move || store.read_blocking(blob, ReadRange::Part(slice));
            let bytes = tokio::task::spawn_blocking(read).await;
            let bytes = bytes
                .map_err(std::io::Error::other)?
                .map_err(std::io::Error::other)?;
            let rest = ByteRange::new(slice.end(), rest.len() - slice.len());
            Ok(Some((bytes, rest)))
        }
    })
}
