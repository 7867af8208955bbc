//! One request to one endpoint, and what its answer means.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use super::HttpStore;
use crate::chunk::{BlobId, ByteRange};
use crate::net::{Ended, Endpoint, FailureKind, InFlight, cause, http};
use crate::walrus::{Accept, Extent, PutOptions, StoreError, Stored};

/// How much of an error's body is read for its message.
const MAX_ERROR_BODY: usize = 8 << 10;
/// Longest pause a server may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A failed exchange.
pub(super) struct Failed {
    pub(super) error: StoreError,
    pub(super) kind: FailureKind,
    /// The pause the server asked for.
    pub(super) pause: Option<Duration>,
    given_up: bool,
}

impl Failed {
    fn new(kind: FailureKind, error: StoreError) -> Self {
        Failed {
            error,
            kind,
            pause: None,
            given_up: false,
        }
    }

    /// Whether the same request may succeed later.
    pub(super) fn heals(&self) -> bool {
        match self.kind {
            FailureKind::Connect
            | FailureKind::Timeout
            | FailureKind::Overloaded
            | FailureKind::Server => true,
            FailureKind::Corrupt => !self.given_up,
            FailureKind::Refused | FailureKind::Protocol | FailureKind::NotFound => false,
        }
    }

    pub(super) fn give_up_if_corrupt(&mut self, now: bool) {
        self.given_up |= now;
    }
}

impl HttpStore {
    /// Reads from one aggregator.
    pub(super) async fn read_from(
        &self,
        endpoint: &Endpoint,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), Failed> {
        let url = endpoint.url();
        let mut request = self.reader.get(at(url, &format!("v1/blobs/{blob}"))?);
        let range = match extent {
            Extent::Whole { .. } => None,
            Extent::Part(range) => Some(range),
        };
        if let Some(range) = range {
            request = request.header(RANGE, header_of(range));
        }
        let (response, mut flight) = self.send(endpoint, request).await?;
        flight.answered();
        match response.status() {
            StatusCode::OK if range.is_none() => {}
            StatusCode::PARTIAL_CONTENT if range.is_some_and(|r| answers(&response, r)) => {}
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                return Err(protocol(url, "it answers another range than was asked for"));
            }
            StatusCode::NOT_FOUND => {
                let place = url.to_string();
                let error = StoreError::NotFound { blob, place };
                return Err(Failed::new(FailureKind::NotFound, error));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let range = range.unwrap_or(ByteRange::new(0, 0));
                let error = StoreError::OutOfRange { blob, range };
                return Err(Failed::new(FailureKind::Refused, error));
            }
            status => {
                flight.ended(Ended::of(status));
                return Err(refused(url, response).await);
            }
        }
        let corrupt = |why: String| {
            let place = url.to_string();
            Failed::new(
                FailureKind::Corrupt,
                StoreError::Corrupt { blob, place, why },
            )
        };
        let bytes = body_of(flight, url, response, extent.at_most()).await?;
        let bytes = bytes.ok_or_else(|| corrupt("it is longer than it may be".into()))?;
        self.received
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(range) = range
            && bytes.len() as u64 != range.len()
        {
            return Err(corrupt(format!(
                "{} bytes where {} were asked for",
                bytes.len(),
                range.len()
            )));
        }
        accept(bytes).map_err(|rejected| corrupt(rejected.0))
    }

    /// Asks one aggregator for a blob's length.
    pub(super) async fn len_at(&self, endpoint: &Endpoint, blob: BlobId) -> Result<u64, Failed> {
        let url = endpoint.url();
        let request = self.reader.head(at(url, &format!("v1/blobs/{blob}"))?);
        let (response, mut flight) = self.send(endpoint, request).await?;
        flight.answered();
        flight.ended(Ended::of(response.status()));
        match response.status() {
            StatusCode::OK => http::announced(&response)
                .ok_or_else(|| protocol(url, "it does not tell the length of a blob")),
            StatusCode::NOT_FOUND => {
                let place = url.to_string();
                let error = StoreError::NotFound { blob, place };
                Err(Failed::new(FailureKind::NotFound, error))
            }
            _ => Err(refused(url, response).await),
        }
    }

    /// Stores through one publisher.
    pub(super) async fn put_to(
        &self,
        endpoint: &Endpoint,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Stored, Failed> {
        let url = endpoint.url();
        let kept = match options.deletable {
            true => ("deletable", "true"),
            false => ("permanent", "true"),
        };
        let len = body.len() as u64;
        let mut request = self
            .writer
            .put(at(url, "v1/blobs")?)
            .query(&[("epochs", options.epochs.to_string().as_str()), kept])
            // The publisher encodes and certifies before it answers.
            .timeout(self.config.retry.deadline + Duration::from_secs(len / super::SLOWEST_UPLOAD))
            .body(body);
        let https = url.scheme() == "https";
        let authorization = self
            .config
            .credentials
            .authorization(url.host_str().unwrap_or_default(), https);
        match authorization {
            Ok(None) => {}
            Ok(Some(value)) => request = request.header(AUTHORIZATION, value),
            Err(error) => {
                let error = StoreError::BadEndpoint {
                    url: url.to_string(),
                    why: error.to_string(),
                };
                return Err(Failed::new(FailureKind::Refused, error));
            }
        }
        let (response, flight) = self.send(endpoint, request).await?;
        if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = self.config.max_body.min(len.saturating_sub(1));
            let place = url.to_string();
            let error = StoreError::TooLarge { len, limit, place };
            return Err(Failed::new(FailureKind::Refused, error));
        }
        if response.status() != StatusCode::OK {
            flight.ended(Ended::of(response.status()));
            return Err(refused(url, response).await);
        }
        self.sent.fetch_add(len, Ordering::Relaxed);
        let text = body_of(flight, url, response, 1 << 20).await?;
        let answer: PutAnswer = serde_json::from_slice(&text.unwrap_or_default())
            .map_err(|error| protocol(url, &format!("its answer is not the API's: {error}")))?;
        answer.stored(url, blob)
    }

    async fn send<'a>(
        &self,
        endpoint: &'a Endpoint,
        request: reqwest::RequestBuilder,
    ) -> Result<(Response, InFlight<'a>), Failed> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let flight = endpoint.sent();
        match request.send().await {
            Ok(response) => Ok((response, flight)),
            Err(error) => {
                flight.ended(Ended::Lost);
                Err(broken(endpoint.url(), &error))
            }
        }
    }
}

/// What a publisher answers with status 200.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum PutAnswer {
    #[serde(rename_all = "camelCase")]
    NewlyCreated { blob_object: BlobObject },
    #[serde(rename_all = "camelCase")]
    AlreadyCertified {
        blob_id: String,
        end_epoch: u32,
        object: Option<String>,
    },
    #[serde(rename_all = "camelCase")]
    MarkedInvalid { blob_id: String },
    #[serde(rename_all = "camelCase")]
    Error {
        failure_phase: String,
        error_msg: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlobObject {
    id: String,
    blob_id: String,
    storage: Storage,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    end_epoch: u32,
}

impl PutAnswer {
    fn stored(self, url: &Url, blob: BlobId) -> Result<Stored, Failed> {
        let (found, stored) = match self {
            PutAnswer::NewlyCreated { blob_object } => (
                blob_object.blob_id,
                Stored {
                    uploaded: true,
                    end_epoch: Some(blob_object.storage.end_epoch),
                    object_id: Some(blob_object.id),
                },
            ),
            PutAnswer::AlreadyCertified {
                blob_id,
                end_epoch,
                object,
            } => (
                blob_id,
                Stored {
                    uploaded: false,
                    end_epoch: Some(end_epoch),
                    object_id: object,
                },
            ),
            PutAnswer::MarkedInvalid { blob_id } => {
                let why = format!("the network has marked {blob_id} as invalid");
                return Err(refusal(url, 200, why));
            }
            PutAnswer::Error {
                failure_phase,
                error_msg,
            } => {
                let why = format!("{error_msg} (while {failure_phase})");
                let place = url.to_string();
                let error = StoreError::Unavailable { place, why };
                return Err(Failed::new(FailureKind::Server, error));
            }
        };
        if found != blob.to_string() {
            let error = StoreError::WrongId {
                expected: blob,
                found: found.chars().take(64).collect(),
                place: url.to_string(),
            };
            return Err(Failed::new(FailureKind::Protocol, error));
        }
        Ok(stored)
    }
}

async fn body_of(
    mut flight: InFlight<'_>,
    url: &Url,
    response: Response,
    most: u64,
) -> Result<Option<Bytes>, Failed> {
    let read = http::body_watched(response, most, |bytes| flight.arrived(bytes)).await;
    flight.ended(match read {
        Ok(_) => Ended::Answered,
        Err(_) => Ended::Lost,
    });
    read.map_err(|error| broken(url, &error))
}

fn at(url: &Url, path: &str) -> Result<Url, Failed> {
    url.join(path)
        .map_err(|error| protocol(url, &error.to_string()))
}

/// `bytes=a-b`, both ends included.
fn header_of(range: ByteRange) -> String {
    format!("bytes={}-{}", range.start(), range.end().saturating_sub(1))
}

/// Whether a 206 is about exactly this range.
fn answers(response: &Response, range: ByteRange) -> bool {
    let expected = format!("bytes {}-{}/", range.start(), range.end().saturating_sub(1));
    (response.headers().get(CONTENT_RANGE))
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with(&expected))
}

fn protocol(url: &Url, why: &str) -> Failed {
    let error = StoreError::Unavailable {
        place: url.to_string(),
        why: why.into(),
    };
    Failed::new(FailureKind::Protocol, error)
}

fn refusal(url: &Url, status: u16, why: String) -> Failed {
    let place = url.to_string();
    Failed::new(
        FailureKind::Refused,
        StoreError::Refused { place, status, why },
    )
}

/// An answer other than the one hoped for.
async fn refused(url: &Url, mut response: Response) -> Failed {
    let status = response.status();
    let pause = (response.headers().get(RETRY_AFTER))
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(MAX_PAUSE));
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_ERROR_BODY {
            break;
        }
    }
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FailureKind::Overloaded,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => FailureKind::Timeout,
        StatusCode::NOT_IMPLEMENTED => FailureKind::Refused,
        status if status.is_server_error() => FailureKind::Server,
        _ => FailureKind::Refused,
    };
    let why = message(&text).unwrap_or_else(|| status.to_string());
    let mut failed = refusal(url, status.as_u16(), why);
    failed.kind = kind;
    failed.pause = pause;
    failed
}

/// The message of an error in the network's own form.
fn message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = value.get("error")?.get("message")?.as_str()?;
    Some(http::words(text))
}

fn broken(url: &Url, error: &reqwest::Error) -> Failed {
    let kind = match error.is_timeout() {
        true => FailureKind::Timeout,
        false => FailureKind::Connect,
    };
    let error = StoreError::Unavailable {
        place: url.to_string(),
        why: cause(error),
    };
    Failed::new(kind, error)
}
