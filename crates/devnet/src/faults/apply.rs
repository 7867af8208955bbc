//! Application of faults to a response.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, RETRY_AFTER};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream;

use super::FaultPlan;
use crate::errors::ApiError;

/// Answer that replaces the operation, if a status is planned.
pub(crate) fn replacement(plan: &FaultPlan) -> Option<Response> {
    let mut response = ApiError::with_status(plan.status?).into_response();
    if let Some(seconds) = plan.retry_after {
        let seconds = HeaderValue::from(seconds);
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    Some(response)
}

/// Applies the planned faults to the body.
pub(crate) fn body(plan: &FaultPlan, mut response: Response) -> Response {
    let length = |response: &Response| -> Option<u64> {
        let value = response.headers().get(CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    };
    if let Some(draw) = plan.flip {
        // The first bit if the length of the body is unknown.
        let place = draw
            .checked_rem(length(&response).unwrap_or(1))
            .unwrap_or(0);
        response = response.map(|body| flip(body, place, 1 << (draw >> 32 & 7)));
    }
    if let Some(keep) = plan.truncate {
        if let Some(len) = length(&response) {
            let now = HeaderValue::from(len.min(keep));
            response.headers_mut().insert(CONTENT_LENGTH, now);
        }
        response = response.map(|body| shorten(body, keep, false));
    }
    if let Some(keep) = plan.cut {
        response = response.map(|body| shorten(body, keep, true));
    }
    response
}

fn flip(body: Body, place: u64, mask: u8) -> Body {
    let parts = body.into_data_stream();
    let changed = parts.scan(place, move |ahead, part| {
        let part = part.map(|bytes| {
            let at = *ahead;
            *ahead = ahead.wrapping_sub(bytes.len() as u64);
            if at >= bytes.len() as u64 {
                return bytes;
            }
            // No further byte is changed.
            *ahead = u64::MAX / 2;
            let mut changed = BytesMut::from(&bytes[..]);
            changed[at as usize] ^= mask;
            changed.freeze()
        });
        std::future::ready(Some(part))
    });
    Body::from_stream(changed)
}

/// Keeps the first `keep` bytes of a body; then it ends, or breaks.
fn shorten(body: Body, keep: u64, breaks: bool) -> Body {
    let state = (body.into_data_stream(), keep, false);
    let shortened = stream::unfold(state, move |(mut parts, left, broken)| async move {
        if broken || (left == 0 && !breaks) {
            return None;
        }
        if left == 0 {
            let broken = Err(axum::Error::new("connection cut by a fault"));
            return Some((broken, (parts, 0, true)));
        }
        let part: Result<Bytes, axum::Error> = parts.next().await?;
        let part = part.map(|mut bytes| {
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            bytes
        });
        let sent = part.as_ref().map_or(0, Bytes::len) as u64;
        Some((part, (parts, left.saturating_sub(sent), false)))
    });
    Body::from_stream(shortened)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn changed(plan: FaultPlan, parts: &'static [&'static [u8]]) -> (Vec<u8>, bool) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let parts = stream::iter(parts.iter().map(|part| Ok::<_, axum::Error>(*part)));
        let mut response = Response::new(Body::from_stream(parts));
        let len = HeaderValue::from(len);
        response.headers_mut().insert(CONTENT_LENGTH, len);
        let mut got = Vec::new();
        let mut parts = body(&plan, response).into_body().into_data_stream();
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => got.extend_from_slice(&part),
                Err(_) => return (got, true),
            }
        }
        (got, false)
    }

    #[tokio::test]
    async fn exactly_one_bit_is_flipped() {
        for draw in 0..200u64 {
            let plan = FaultPlan {
                flip: Some(draw << 32 | draw),
                ..FaultPlan::default()
            };
            let (got, _) = changed(plan, &[b"abc", b"", b"defgh", b"i"]).await;
            let bits: u32 = (got.iter().zip(b"abcdefghi"))
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            assert_eq!((got.len(), bits), (9, 1));
        }
    }

    #[tokio::test]
    async fn a_body_ends_early_or_breaks() {
        let truncated = FaultPlan {
            truncate: Some(4),
            ..FaultPlan::default()
        };
        assert_eq!(
            changed(truncated, &[b"abc", b"def"]).await,
            (b"abcd".to_vec(), false)
        );
        let cut = |keep| FaultPlan {
            cut: Some(keep),
            ..FaultPlan::default()
        };
        assert_eq!(
            changed(cut(4), &[b"abc", b"def"]).await,
            (b"abcd".to_vec(), true)
        );
        assert_eq!(changed(cut(0), &[b"abc"]).await, (Vec::new(), true));
        assert_eq!(changed(cut(99), &[b"abc"]).await, (b"abc".to_vec(), false));
    }
}
