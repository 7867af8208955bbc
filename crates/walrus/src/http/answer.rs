//! Checks a server's answer to a read.
//!
//! A server may ignore a range and send the whole blob: the standard allows it, and
//! plain file servers do it. The requested part is then cut out of the body, up to
//! [`MAX_UNRANGED_END`]. Any other mismatch is rejected before the body is read.

use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION};
use reqwest::{Response, StatusCode};

use super::failed_request::FailedRequest;
use crate::net::{Endpoint, FailureKind, http};
use crate::{ReadRange, StoreError};
use walgit_format::chunk::{BlobId, ByteRange};

/// Largest end offset of a part that is cut out of a whole blob, in bytes.
pub(super) const MAX_UNRANGED_END: u64 = 64 << 20;

/// Content of an answer's body.
pub(super) enum Body {
    /// The requested bytes.
    Requested(Response),
    /// The blob from its start, although this part was requested.
    FromStart(Response, ByteRange),
}

/// Classifies the body of an answer to a read of `read_range`.
pub(super) async fn body(
    endpoint: &Endpoint,
    blob: BlobId,
    read_range: ReadRange,
    response: Response,
) -> Result<Body, FailedRequest> {
    let status = response.status();
    if status.is_success()
        && let Some(encoding) = header(&response, CONTENT_ENCODING)
        && encoding != "identity"
    {
        let encoding = http::words(encoding);
        let why = format!("it sends the blob encoded ({encoding}), which was not requested");
        return Err(FailedRequest::protocol(endpoint, why));
    }
    match (status, read_range) {
        (StatusCode::OK, ReadRange::Whole { .. }) => Ok(Body::Requested(response)),
        (StatusCode::OK, ReadRange::Part(range)) => {
            if http::content_length(&response).is_some_and(|len| len < range.end()) {
                return Err(outside(blob, range));
            }
            if range.end() > MAX_UNRANGED_END {
                let why = format!(
                    "it ignores range requests, and the range ends beyond the {} MiB of a blob \
                     that are read from such a server",
                    MAX_UNRANGED_END >> 20
                );
                return Err(FailedRequest::protocol(endpoint, why));
            }
            Ok(Body::FromStart(response, range))
        }
        (StatusCode::PARTIAL_CONTENT, ReadRange::Part(range)) if answers(&response, range) => {
            Ok(Body::Requested(response))
        }
        (StatusCode::PARTIAL_CONTENT, _) => {
            let kind = header(&response, CONTENT_TYPE).unwrap_or_default();
            let why = if kind.starts_with("multipart/") {
                "it answers one range with several parts"
            } else {
                "it answers a different range"
            };
            Err(FailedRequest::protocol(endpoint, why))
        }
        (StatusCode::NOT_FOUND, _) => Err(FailedRequest::not_found(endpoint, blob)),
        (StatusCode::RANGE_NOT_SATISFIABLE, ReadRange::Part(range)) => Err(outside(blob, range)),
        (status, _) if status.is_success() => {
            let why = format!("it answers {status} to a request for a blob");
            Err(FailedRequest::protocol(endpoint, why))
        }
        (status, _) if status.is_redirection() => {
            let target = header(&response, LOCATION).map(http::words);
            let target = target.unwrap_or_else(|| "nowhere".into());
            let why = format!(
                "it redirects ({status}) to {target}; redirects are not followed: check its URL"
            );
            Err(FailedRequest::protocol(endpoint, why))
        }
        _ => Err(FailedRequest::unexpected(endpoint, response).await),
    }
}

fn outside(blob: BlobId, range: ByteRange) -> FailedRequest {
    let error = StoreError::OutOfRange { blob, range };
    FailedRequest::new(FailureKind::Refused, error)
}

/// Whether a 206 answer covers exactly this range.
fn answers(response: &Response, range: ByteRange) -> bool {
    let expected = format!("bytes {}-{}/", range.start(), range.end().saturating_sub(1));
    header(response, CONTENT_RANGE).is_some_and(|value| value.starts_with(&expected))
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}
