//! What every HTTP client of ours has in common.

use bytes::{Bytes, BytesMut};
use reqwest::header::CONTENT_LENGTH;
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Response};

/// Longest text of somebody else's that is shown, in characters.
const WORDS: usize = 200;

/// A client that is about to be built: it follows no redirects, and the whole
/// process uses one TLS implementation.
pub fn client() -> ClientBuilder {
    // Only the first call does anything.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("walgit-fs/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .tcp_nodelay(true)
}

/// The length that an answer announces.
pub fn announced(response: &Response) -> Option<u64> {
    let length = response.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Reads a body of at most `most` bytes; `None` for a longer one, which is not
/// read to its end.
///
/// # Errors
/// When the connection breaks.
pub async fn body(response: Response, most: u64) -> Result<Option<Bytes>, reqwest::Error> {
    body_watched(response, most, |_| {}).await
}

/// Like [`body`]; tells `arrived` of every part as it comes, by its length.
///
/// # Errors
/// When the connection breaks.
pub async fn body_watched(
    mut response: Response,
    most: u64,
    mut arrived: impl FnMut(usize),
) -> Result<Option<Bytes>, reqwest::Error> {
    let announced = announced(&response).unwrap_or(0);
    if announced > most {
        return Ok(None);
    }
    let mut bytes = BytesMut::with_capacity(announced as usize);
    while let Some(chunk) = response.chunk().await? {
        arrived(chunk.len());
        if (bytes.len() + chunk.len()) as u64 > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes.freeze()))
}

/// What somebody else's server said, fit to be shown in a message.
pub fn words(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(WORDS).collect()
}

/// The innermost cause: `Connection refused` rather than five layers above it.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
