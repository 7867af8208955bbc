//! One request to one endpoint.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::HttpStore;
use super::answer::{self, Body};
use super::failed_request::FailedRequest;
use crate::auth::Upload;
use crate::net::{
    Connections, Endpoint, Failure, FailureHandling, FailureKind, RequestGuard, RequestOutcome,
    http,
};
use crate::{PutOptions, PutReceipt, ReadRange, StoreError};
use walgit_format::chunk::{BlobId, ByteRange};

/// Longest answer of a publisher, in bytes.
const MAX_PUT_RESPONSE_BYTES: u64 = 1 << 20;

impl HttpStore {
    /// Reads from one aggregator. The result has the requested length and is not
    /// verified.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        blob: BlobId,
        read_range: ReadRange,
        race: Option<&AtomicU64>,
    ) -> Result<Bytes, FailedRequest> {
        let url = join(endpoint, &format!("v1/blobs/{blob}"))?;
        let mut guard = self.admit(endpoint).await?;
        if let Some(race) = race {
            guard.in_race(race);
        }
        let fetched = self.download(client, endpoint, url, blob, read_range, &mut guard);
        end(fetched.await, guard)
    }

    async fn download(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        url: Url,
        blob: BlobId,
        read_range: ReadRange,
        guard: &mut RequestGuard<'_>,
    ) -> Result<Bytes, FailedRequest> {
        let range = match read_range {
            ReadRange::Whole { .. } => None,
            ReadRange::Part(range) => Some(range),
        };
        let request = |client: &Client| {
            // Compression would change the length and the range.
            let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            match range {
                Some(range) => request.header(RANGE, range_header(range)),
                None => request,
            }
        };
        let response = self.send_idempotent(client, endpoint, request).await?;
        guard.answered();
        let (body, wrong_length) = match answer::body(endpoint, blob, read_range, response).await? {
            Body::FromStart(response, range) => {
                self.record_ignored_range(endpoint);
                let arrived = |len| guard.arrived(len);
                let body = http::part_of_body(response, range.start(), range.len(), arrived);
                (body.await, "it ends before the range does")
            }
            Body::Requested(response) => {
                let arrived = |len| guard.arrived(len);
                let body = http::body_with_progress(response, read_range.at_most(), arrived);
                (body.await, "it is longer than it may be")
            }
        };
        let corrupt = |why: String| {
            self.counters.add(&self.counters.corrupt, 1);
            FailedRequest::corrupt(endpoint, blob, why)
        };
        let bytes = body.map_err(|error| FailedRequest::broken(endpoint, &error))?;
        let bytes = bytes.ok_or_else(|| corrupt(wrong_length.into()))?;
        let len = bytes.len() as u64;
        self.counters.add(&self.counters.received, len);
        match range {
            Some(range) if range.len() != len => {
                let requested = range.len();
                Err(corrupt(format!(
                    "{len} bytes where {requested} were requested"
                )))
            }
            _ => Ok(bytes),
        }
    }

    /// Records once that a server ignores ranges.
    fn record_ignored_range(&self, endpoint: &Endpoint) {
        if endpoint.record_ignored_range() {
            self.failures.record(Failure::now(
                endpoint.name(),
                "read",
                FailureKind::NoRanges,
                1,
                FailureHandling::Tolerated,
                "it ignores range requests and sends whole blobs",
            ));
        }
    }

    /// Asks one aggregator for a blob's length.
    pub(super) async fn len_at(
        &self,
        endpoint: &Endpoint,
        blob: BlobId,
    ) -> Result<u64, FailedRequest> {
        let url = join(endpoint, &format!("v1/blobs/{blob}"))?;
        let mut guard = self.admit(endpoint).await?;
        let request =
            |client: &Client| client.head(url.clone()).header(ACCEPT_ENCODING, "identity");
        let client = self.reader.client();
        let answer = async {
            let response = self.send_idempotent(&client, endpoint, request).await?;
            guard.answered();
            match (response.status(), http::content_length(&response)) {
                (StatusCode::OK, Some(len)) => Ok(len),
                (StatusCode::OK, None) => {
                    let why = "its answer has no length of the blob";
                    Err(FailedRequest::protocol(endpoint, why))
                }
                (StatusCode::NOT_FOUND, _) => Err(FailedRequest::not_found(endpoint, blob)),
                _ => Err(FailedRequest::unexpected(endpoint, response).await),
            }
        };
        let answer = answer.await;
        end(answer, guard)
    }

    /// Stores through one publisher.
    pub(super) async fn put_to(
        &self,
        endpoint: &Endpoint,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<PutReceipt, FailedRequest> {
        let persistence = if options.deletable {
            ("deletable", "true")
        } else {
            ("permanent", "true")
        };
        let len = body.len() as u64;
        let request = (self.writer.client())
            .put(join(endpoint, "v1/blobs")?)
            .query(&[("epochs", options.epochs.to_string().as_str()), persistence])
            // The publisher encodes and certifies before it answers.
            .timeout(self.config.deadline + Duration::from_secs(len / super::MIN_UPLOAD_SPEED))
            .body(body);
        let upload = Upload {
            size: len,
            epochs: options.epochs,
        };
        let mut guard = self.admit(endpoint).await?;
        let receipt = self.upload(endpoint, request, blob, &upload).await;
        if receipt.is_ok() {
            guard.answered();
        }
        end(receipt, guard)
    }

    async fn upload(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
        blob: BlobId,
        upload: &Upload,
    ) -> Result<PutReceipt, FailedRequest> {
        let len = upload.size;
        let response = self.send_as_user(endpoint, request, upload).await?;
        if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = self.config.max_body.min(len.saturating_sub(1));
            let place = endpoint.name().to_owned();
            let error = StoreError::TooLarge { len, limit, place };
            return Err(FailedRequest::new(FailureKind::Refused, error));
        }
        if response.status() != StatusCode::OK {
            return Err(FailedRequest::unexpected(endpoint, response).await);
        }
        self.counters.add(&self.counters.sent, len);
        let text = http::body(response, MAX_PUT_RESPONSE_BYTES).await;
        let text = text.map_err(|error| FailedRequest::broken(endpoint, &error))?;
        let answer: PutAnswer =
            serde_json::from_slice(&text.unwrap_or_default()).map_err(|error| {
                FailedRequest::protocol(endpoint, format!("its answer violates the API: {error}"))
            })?;
        answer.receipt(endpoint, blob)
    }

    /// Sends an upload.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
    ) -> Result<Response, FailedRequest> {
        self.counters.add(&self.counters.requests, 1);
        let sent = request.send().await;
        sent.map_err(|error| no_answer(&self.writer, endpoint, &error))
    }

    /// Waits for permission to send a request to an endpoint.
    async fn admit<'a>(&self, endpoint: &'a Endpoint) -> Result<RequestGuard<'a>, FailedRequest> {
        self.tls
            .check(endpoint.url())
            .map_err(|error| FailedRequest::unavailable(FailureKind::Untrusted, endpoint, error))?;
        endpoint.admit().await.map_err(|unavailable| {
            self.counters.add(&self.counters.skipped, 1);
            FailedRequest::not_admitted(endpoint, unavailable)
        })
    }

    /// Sends an idempotent request. If the connection turns out to be dead, the request
    /// was not received, and is sent again at once over a new connection.
    async fn send_idempotent(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response, FailedRequest> {
        self.counters.add(&self.counters.requests, 1);
        let error = match request(client).send().await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let failed = no_answer(&self.reader, endpoint, &error);
        if error.is_connect() || error.is_timeout() || error.is_builder() {
            return Err(failed);
        }
        self.counters.add(&self.counters.requests, 1);
        let second = request(&self.reader.client()).send().await;
        second.map_err(|error| FailedRequest::broken(endpoint, &error))
    }
}

/// Ends a request with its result.
fn end<T>(result: Result<T, FailedRequest>, guard: RequestGuard<'_>) -> Result<T, FailedRequest> {
    match result {
        Ok(done) => {
            guard.ended(RequestOutcome::Success, "");
            Ok(done)
        }
        Err(failed) => Err(failed.ends(guard)),
    }
}

fn no_answer(
    connections: &Connections,
    endpoint: &Endpoint,
    error: &reqwest::Error,
) -> FailedRequest {
    if !error.is_connect() {
        connections.reset_pool();
    }
    FailedRequest::broken(endpoint, error)
}

/// Publisher's answer with status 200.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum PutAnswer {
    #[serde(rename_all = "camelCase")]
    NewlyCreated { blob_object: StoredBlobObject },
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
struct StoredBlobObject {
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
    fn receipt(self, endpoint: &Endpoint, blob: BlobId) -> Result<PutReceipt, FailedRequest> {
        let (found, receipt) = match self {
            PutAnswer::NewlyCreated { blob_object } => (
                blob_object.blob_id,
                PutReceipt {
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
                PutReceipt {
                    uploaded: false,
                    end_epoch: Some(end_epoch),
                    object_id: object,
                },
            ),
            PutAnswer::MarkedInvalid { blob_id } => {
                let why = format!("the network has marked {blob_id} as invalid");
                return Err(FailedRequest::refused(endpoint, 200, why));
            }
            PutAnswer::Error {
                failure_phase,
                error_msg,
            } => {
                let why = format!("{error_msg} (while {failure_phase})");
                return Err(FailedRequest::unavailable(
                    FailureKind::Server,
                    endpoint,
                    why,
                ));
            }
        };
        if found != blob.to_string() {
            let error = StoreError::WrongId {
                expected: blob,
                found: found.chars().take(64).collect(),
                place: endpoint.name().to_owned(),
            };
            return Err(FailedRequest::new(FailureKind::Protocol, error));
        }
        Ok(receipt)
    }
}

fn join(endpoint: &Endpoint, path: &str) -> Result<Url, FailedRequest> {
    let joined = endpoint.url().join(path);
    joined.map_err(|error| FailedRequest::protocol(endpoint, error))
}

/// `bytes=a-b`, both ends included.
fn range_header(range: ByteRange) -> String {
    format!("bytes={}-{}", range.start(), range.end().saturating_sub(1))
}
