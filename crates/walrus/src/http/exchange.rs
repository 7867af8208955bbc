//! One request to one endpoint.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::HttpStore;
use super::answer::{self, Body};
use super::failed::{Failed, absent, broken, no_certificates, protocol, refusal, refused};
use crate::auth::Upload;
use crate::net::{Connections, Done, Endpoint, Failure, FailureKind, InFlight, Outcome, http};
use crate::{Extent, PutOptions, StoreError, Stored};
use walgit_format::chunk::{BlobId, ByteRange};

impl HttpStore {
    /// Reads from one aggregator. The result has the requested length and is not
    /// verified.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        blob: BlobId,
        extent: Extent,
        race: Option<&AtomicU64>,
    ) -> Result<Bytes, Failed> {
        let url = at(endpoint, &format!("v1/blobs/{blob}"))?;
        let range = match extent {
            Extent::Whole { .. } => None,
            Extent::Part(range) => Some(range),
        };
        let mut flight = self.enter(endpoint).await?;
        if let Some(race) = race {
            flight.in_race(race);
        }
        let request = |client: &Client| {
            // Compression would change the length and the range.
            let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            match range {
                Some(range) => request.header(RANGE, header_of(range)),
                None => request,
            }
        };
        let response = match self.ask_again(client, endpoint, request).await {
            Ok(response) => response,
            Err(failed) => return Err(failed.ends(flight)),
        };
        flight.answered();
        let answer = match answer::body(endpoint, blob, extent, response).await {
            Ok(answer) => answer,
            Err(failed) => return Err(failed.ends(flight)),
        };
        let from_start = matches!(answer, Body::FromStart(_));
        let body = match (answer, range) {
            (Body::FromStart(response), Some(range)) => {
                self.ignores_ranges(endpoint);
                let arrived = |len| flight.arrived(len);
                http::part_of_body(response, range.start(), range.len(), arrived).await
            }
            (Body::Asked(response) | Body::FromStart(response), _) => {
                let arrived = |len| flight.arrived(len);
                http::body_watched(response, extent.at_most(), arrived).await
            }
        };
        let bytes = match body {
            Ok(bytes) => bytes,
            Err(error) => return Err(broken(endpoint, &error).ends(flight)),
        };
        let corrupt = |why: String| {
            self.corrupt.fetch_add(1, Ordering::Relaxed);
            Failed::corrupt(endpoint, blob, why)
        };
        let Some(bytes) = bytes else {
            let why = match from_start {
                true => "it ends before the range does",
                false => "it is longer than it may be",
            };
            return Err(corrupt(why.into()).ends(flight));
        };
        flight.ended(Outcome::Well, "");
        self.received
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match range {
            Some(range) if range.len() != bytes.len() as u64 => Err(corrupt(format!(
                "{} bytes where {} were asked for",
                bytes.len(),
                range.len()
            ))),
            _ => Ok(bytes),
        }
    }

    /// Records once that a server ignores ranges.
    fn ignores_ranges(&self, endpoint: &Endpoint) {
        if endpoint.ignores_ranges() {
            let message = "it ignores range requests and sends whole blobs";
            self.failures.record(Failure::now(
                endpoint.name(),
                "read",
                FailureKind::NoRanges,
                1,
                Done::Tolerated,
                message,
            ));
        }
    }

    /// Asks one aggregator for a blob's length.
    pub(super) async fn len_at(&self, endpoint: &Endpoint, blob: BlobId) -> Result<u64, Failed> {
        let url = at(endpoint, &format!("v1/blobs/{blob}"))?;
        let mut flight = self.enter(endpoint).await?;
        let request =
            |client: &Client| client.head(url.clone()).header(ACCEPT_ENCODING, "identity");
        let response = match self
            .ask_again(&self.reader.client(), endpoint, request)
            .await
        {
            Ok(response) => response,
            Err(failed) => return Err(failed.ends(flight)),
        };
        flight.answered();
        let failed = match response.status() {
            StatusCode::OK => match http::announced(&response) {
                Some(len) => {
                    flight.ended(Outcome::Well, "");
                    return Ok(len);
                }
                None => protocol(endpoint, "it does not tell the length of a blob"),
            },
            StatusCode::NOT_FOUND => absent(endpoint, blob),
            _ => refused(endpoint, response).await,
        };
        Err(failed.ends(flight))
    }

    /// Stores through one publisher.
    pub(super) async fn put_to(
        &self,
        endpoint: &Endpoint,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Stored, Failed> {
        let kept = match options.deletable {
            true => ("deletable", "true"),
            false => ("permanent", "true"),
        };
        let len = body.len() as u64;
        let request = (self.writer.client())
            .put(at(endpoint, "v1/blobs")?)
            .query(&[("epochs", options.epochs.to_string().as_str()), kept])
            // The publisher encodes and certifies before it answers.
            .timeout(self.config.retry.deadline + Duration::from_secs(len / super::SLOWEST_UPLOAD))
            .body(body);
        let upload = Upload {
            size: len,
            epochs: options.epochs,
        };
        let mut flight = self.enter(endpoint).await?;
        match self.upload(endpoint, request, blob, &upload).await {
            Ok(stored) => {
                flight.answered();
                flight.ended(Outcome::Well, "");
                Ok(stored)
            }
            Err(failed) => Err(failed.ends(flight)),
        }
    }

    async fn upload(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
        blob: BlobId,
        upload: &Upload,
    ) -> Result<Stored, Failed> {
        let len = upload.size;
        let response = self.send_as_user(endpoint, request, upload).await?;
        if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = self.config.max_body.min(len.saturating_sub(1));
            let place = endpoint.name().to_owned();
            let error = StoreError::TooLarge { len, limit, place };
            return Err(Failed::new(FailureKind::Refused, error));
        }
        if response.status() != StatusCode::OK {
            return Err(refused(endpoint, response).await);
        }
        self.sent.fetch_add(len, Ordering::Relaxed);
        let text = http::body(response, 1 << 20).await;
        let text = text.map_err(|error| broken(endpoint, &error))?;
        let answer: PutAnswer =
            serde_json::from_slice(&text.unwrap_or_default()).map_err(|error| {
                protocol(endpoint, &format!("its answer is not the API's: {error}"))
            })?;
        answer.stored(endpoint, blob)
    }

    /// Sends an upload.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
    ) -> Result<Response, Failed> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let sent = request.send().await;
        sent.map_err(|error| self.no_answer(&self.writer, endpoint, &error))
    }

    /// Waits for permission to send a request to an endpoint.
    async fn enter<'a>(&self, endpoint: &'a Endpoint) -> Result<InFlight<'a>, Failed> {
        self.tls
            .check(endpoint.url())
            .map_err(|error| no_certificates(endpoint, &error))?;
        let entered = endpoint.enter().await;
        entered.map_err(|not_now| {
            self.not_asked.fetch_add(1, Ordering::Relaxed);
            Failed::not_asked(endpoint, not_now)
        })
    }

    /// Sends an idempotent request. If the connection turns out to be dead, the request
    /// was not received, and is sent again at once over a new connection.
    async fn ask_again(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response, Failed> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let broke = match request(client).send().await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let failed = self.no_answer(&self.reader, endpoint, &broke);
        if broke.is_connect() || broke.is_timeout() || broke.is_builder() {
            return Err(failed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let second = request(&self.reader.client()).send().await;
        second.map_err(|error| broken(endpoint, &error))
    }

    fn no_answer(
        &self,
        connections: &Connections,
        endpoint: &Endpoint,
        error: &reqwest::Error,
    ) -> Failed {
        if !error.is_connect() {
            connections.drop_idle();
        }
        broken(endpoint, error)
    }
}

/// Publisher's answer with status 200.
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
    fn stored(self, endpoint: &Endpoint, blob: BlobId) -> Result<Stored, Failed> {
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
                return Err(refusal(endpoint, 200, why));
            }
            PutAnswer::Error {
                failure_phase,
                error_msg,
            } => {
                let why = format!("{error_msg} (while {failure_phase})");
                let place = endpoint.name().to_owned();
                let error = StoreError::Unavailable { place, why };
                return Err(Failed::new(FailureKind::Server, error));
            }
        };
        if found != blob.to_string() {
            let error = StoreError::WrongId {
                expected: blob,
                found: found.chars().take(64).collect(),
                place: endpoint.name().to_owned(),
            };
            return Err(Failed::new(FailureKind::Protocol, error));
        }
        Ok(stored)
    }
}

fn at(endpoint: &Endpoint, path: &str) -> Result<Url, Failed> {
    let joined = endpoint.url().join(path);
    joined.map_err(|error| protocol(endpoint, &error.to_string()))
}

/// `bytes=a-b`, both ends included.
fn header_of(range: ByteRange) -> String {
    format!("bytes={}-{}", range.start(), range.end().saturating_sub(1))
}
