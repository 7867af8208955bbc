//! Checks a server's answer to a read.
//!
//! A server may ignore a range and send the whole blob: the standard allows it, and
//! plain file servers do it. The requested part is then cut out of the body, up to
//! [`MAX_WHOLE`]. Any other mismatch is rejected before the body is read.

use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION};
use reqwest::{Response, StatusCode};

use super::failed::{Failed, absent, protocol, refused};
use crate::net::{Endpoint, FailureKind, http};
use crate::{Extent, StoreError};
use walgit_format::chunk::{BlobId, ByteRange};

/// Largest end offset of a part that is cut out of a whole blob, in bytes.
pub(super) const MAX_WHOLE: u64 = 64 << 20;

/// Content of an answer's body.
pub(super) enum Body {
    /// The requested bytes.
    Asked(Response),
    /// The blob from its start, although a part was requested.
    FromStart(Response),
}

/// Classifies the body of an answer to a read of `extent`.
pub(super) async fn body(
    endpoint: &Endpoint,
    blob: BlobId,
    extent: Extent,
    response: Response,
) -> Result<Body, Failed> {
    let status = response.status();
    if status.is_success()
        && let Some(encoding) = header(&response, CONTENT_ENCODING)
        && encoding != "identity"
    {
        let encoding = http::words(encoding);
        let why = format!("it sends the blob encoded ({encoding}), which was not asked for");
        return Err(protocol(endpoint, &why));
    }
    match (status, extent) {
        (StatusCode::OK, Extent::Whole { .. }) => Ok(Body::Asked(response)),
        (StatusCode::OK, Extent::Part(range)) => {
            if http::announced(&response).is_some_and(|len| len < range.end()) {
                return Err(outside(blob, range));
            }
            if range.end() > MAX_WHOLE {
                let why = format!(
                    "it ignores range requests, and the range ends beyond the {} MiB of a blob \
                     that are read from such a server",
                    MAX_WHOLE >> 20
                );
                return Err(protocol(endpoint, &why));
            }
            Ok(Body::FromStart(response))
        }
        (StatusCode::PARTIAL_CONTENT, Extent::Part(range)) if answers(&response, range) => {
            Ok(Body::Asked(response))
        }
        (StatusCode::PARTIAL_CONTENT, _) => {
            let kind = header(&response, CONTENT_TYPE).unwrap_or_default();
            let why = match kind.starts_with("multipart/") {
                true => "it answers one range with several parts",
                false => "it answers another range than was asked for",
            };
            Err(protocol(endpoint, why))
        }
        (StatusCode::NOT_FOUND, _) => Err(absent(endpoint, blob)),
        (StatusCode::RANGE_NOT_SATISFIABLE, Extent::Part(range)) => Err(outside(blob, range)),
        (status, _) if status.is_success() => {
            let why = format!("it answers {status} where a blob was asked for");
            Err(protocol(endpoint, &why))
        }
        (status, _) if status.is_redirection() => {
            let there = header(&response, LOCATION).map(http::words);
            let there = there.unwrap_or_else(|| "nowhere".into());
            let why = format!(
                "it redirects ({status}) to {there}; redirects are not followed: is its URL right?"
            );
            Err(protocol(endpoint, &why))
        }
        _ => Err(refused(endpoint, response).await),
    }
}

fn outside(blob: BlobId, range: ByteRange) -> Failed {
    let error = StoreError::OutOfRange { blob, range };
    Failed::new(FailureKind::Refused, error)
}

/// Whether a 206 answer covers exactly this range.
fn answers(response: &Response, range: ByteRange) -> bool {
    let expected = format!("bytes {}-{}/", range.start(), range.end().saturating_sub(1));
    header(response, CONTENT_RANGE).is_some_and(|value| value.starts_with(&expected))
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}
