//! Common parts of all HTTP clients.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use reqwest::header::CONTENT_LENGTH;
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Response, StatusCode};

use super::{FailureKind, Tls};
use crate::clock::unix_seconds;

/// Longest time a connection is kept for the next request: shorter than the time after
/// which routers and servers drop it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval of keep-alive probes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Time after which unacknowledged data means that the connection is dead.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(6);

/// A client that trusts the system's certificates and follows no redirects.
pub fn client() -> ClientBuilder {
    client_with(&Tls::system())
}

/// A client with this TLS configuration; it follows no redirects.
pub fn client_with(tls: &Tls) -> ClientBuilder {
    tls.apply(reqwest::Client::builder())
        .user_agent(concat!("walgit-fs/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .tcp_nodelay(true)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_keepalive(KEEP_ALIVE_INTERVAL)
}

/// Configures quick detection of dead connections. For requests without a body: an
/// upload may be unacknowledged for long on a slow link, or while the server is busy.
pub fn detect_dead_connections(builder: ClientBuilder) -> ClientBuilder {
    builder
        .tcp_user_timeout(UNACKNOWLEDGED_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(UNACKNOWLEDGED_TIMEOUT)
}

/// Kind of failure for a status other than the expected one.
pub fn refusal_kind(status: StatusCode) -> FailureKind {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FailureKind::Overloaded,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => FailureKind::Timeout,
        StatusCode::NOT_IMPLEMENTED => FailureKind::Refused,
        status if status.is_server_error() => FailureKind::Server,
        _ => FailureKind::Refused,
    }
}

/// Kind of failure for a missing or interrupted answer.
pub fn broken_kind(error: &reqwest::Error) -> FailureKind {
    if error.is_timeout() {
        FailureKind::Timeout
    } else if is_untrusted(error) {
        FailureKind::Untrusted
    } else {
        FailureKind::Connect
    }
}

/// Returns the announced length of an answer.
pub fn content_length(response: &Response) -> Option<u64> {
    let length = response.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Reads a body of at most `max` bytes; returns `None` for a longer one, without
/// reading it to its end.
pub async fn body(response: Response, max: u64) -> Result<Option<Bytes>, reqwest::Error> {
    body_with_progress(response, max, |_| {}).await
}

/// Like [`body`], and calls `arrived` with the length of each part.
pub async fn body_with_progress(
    mut response: Response,
    max: u64,
    mut arrived: impl FnMut(usize),
) -> Result<Option<Bytes>, reqwest::Error> {
    let announced = content_length(&response).unwrap_or(0);
    if announced > max {
        return Ok(None);
    }
    let mut bytes = BytesMut::with_capacity(announced as usize);
    while let Some(chunk) = response.chunk().await? {
        arrived(chunk.len());
        if (bytes.len() + chunk.len()) as u64 > max {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes.freeze()))
}

/// Reads `len` bytes of a body, starting at `skip`, and no further; `None` if the body
/// ends earlier. Buffers only these bytes. Calls `arrived` like [`body_with_progress`].
pub async fn part_of_body(
    mut response: Response,
    mut skip: u64,
    len: u64,
    mut arrived: impl FnMut(usize),
) -> Result<Option<Bytes>, reqwest::Error> {
    let mut bytes = BytesMut::with_capacity(len as usize);
    while (bytes.len() as u64) < len {
        let Some(mut chunk) = response.chunk().await? else {
            return Ok(None);
        };
        arrived(chunk.len());
        let skipped = skip.min(chunk.len() as u64);
        skip -= skipped;
        chunk.advance(skipped as usize);
        chunk.truncate((len as usize).saturating_sub(bytes.len()));
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes.freeze()))
}

/// Parses the pause in a `Retry-After` header: seconds, or a date.
pub fn retry_after(value: &str) -> Option<Duration> {
    let seconds = value.trim().parse().ok().map(Duration::from_secs);
    seconds.or_else(|| {
        let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
        let left = date.as_second().saturating_sub(unix_seconds() as i64);
        Some(Duration::from_secs(left.max(0) as u64))
    })
}

/// Shortens a server's message for use in an error message.
pub fn words(text: &str) -> String {
    walgit_format::text::field(text).into_owned()
}

/// Returns the innermost cause, such as `Connection refused` without its wrappers.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Whether we refused a connection because of an untrusted certificate.
pub fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // An I/O error forwards to the source of its inner error, and skips the inner
        // error.
        let io = error.downcast_ref::<std::io::Error>();
        cause = match io.and_then(|io| io.get_ref()) {
            Some(content) => Some(content),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_error_is_found_in_nested_errors() {
        use rustls::CertificateError::UnknownIssuer;
        let hidden = |error| std::io::Error::other(std::io::Error::other(error));
        let untrusted = hidden(rustls::Error::InvalidCertificate(UnknownIssuer));
        assert!(is_untrusted(&untrusted));
        assert!(!is_untrusted(&hidden(rustls::Error::DecryptError)));
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        let past = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(retry_after(past), Some(Duration::ZERO));
        let later = retry_after("Fri, 21 Oct 2095 07:28:00 GMT").unwrap();
        assert!(later > Duration::from_secs(1_000_000_000));
        assert_eq!(retry_after("soon"), None);
    }
}
