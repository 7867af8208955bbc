//! A Walrus network over HTTP: aggregators to read from, publishers to write
//! to, all of them strangers.
//!
//! An operation asks its endpoints in order until one satisfies it, then
//! pauses and starts over while that may help ([`crate::net`]). Bytes that
//! fail verification are a failure like any other: the next aggregator is
//! asked, without a pause.

mod exchange;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Url;

use super::{
    Accept, BlobStore, EndpointHealth, Extent, PutOptions, StoreError, StoreHealth, Stored,
};
use crate::auth::Credentials;
use crate::chunk::BlobId;
use crate::net::{
    Conditions, Endpoint, FailureKind, FailureLog, Retry, Verdict, attempts, cause, http,
};
use exchange::Failed;

/// How to reach a network.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// URLs to read from, the preferred one first.
    pub aggregators: Vec<String>,
    /// URLs to write to.
    pub publishers: Vec<String>,
    /// Largest blob a publisher takes, in bytes.
    pub max_body: u64,
    /// How reads are retried, and their deadline.
    pub retry: Retry,
    /// Longest silence of a server before it counts as hanging.
    pub silence: Duration,
    /// Who we are to publishers.
    pub credentials: Credentials,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            aggregators: Vec::new(),
            publishers: Vec::new(),
            max_body: crate::config::DEFAULT_MAX_BODY,
            retry: Retry::default(),
            silence: Duration::from_secs(10),
            credentials: Credentials::None,
        }
    }
}

/// A network over HTTP.
#[derive(Debug)]
pub struct HttpStore {
    reader: reqwest::Client,
    writer: reqwest::Client,
    aggregators: Vec<Endpoint>,
    publishers: Vec<Endpoint>,
    config: HttpConfig,
    failures: FailureLog,
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    corrupt: AtomicU64,
}

/// Slowest upload that still counts as moving, in bytes a second: what a body
/// adds to the deadline of a `put`.
const SLOWEST_UPLOAD: u64 = 64 << 10;

impl HttpStore {
    /// A store over these endpoints. Connects to nothing yet.
    ///
    /// # Errors
    /// [`StoreError::BadEndpoint`] for a URL that is none.
    pub fn new(config: HttpConfig) -> Result<Self, StoreError> {
        let endpoints = |list: &[String]| -> Result<Vec<Endpoint>, StoreError> {
            let urls = list.iter().map(|url| endpoint(url));
            urls.map(|url| url.map(Endpoint::new)).collect()
        };
        let client = || http::client().connect_timeout(config.silence);
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| StoreError::Unavailable {
                place: "the HTTP client".into(),
                why: cause(&error),
            })
        };
        Ok(HttpStore {
            reader: built(client().read_timeout(config.silence))?,
            // A publisher is silent while it encodes and certifies; an upload
            // has a deadline of its own.
            writer: built(client())?,
            aggregators: endpoints(&config.aggregators)?,
            publishers: endpoints(&config.publishers)?,
            config,
            failures: FailureLog::default(),
            requests: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
        })
    }

    /// Whether a server answers at `url`: its status to a request that every
    /// aggregator and publisher knows.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn reach(url: &str, patience: Duration) -> Result<u16, StoreError> {
        let url = endpoint(url)?;
        let store = HttpStore::new(HttpConfig {
            silence: patience,
            ..HttpConfig::default()
        })?;
        let unavailable = |why: String| StoreError::Unavailable {
            place: url.to_string(),
            why,
        };
        let status = url.join("status").map_err(|e| unavailable(e.to_string()))?;
        let sent = store.reader.get(status).timeout(patience).send().await;
        match sent {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(unavailable(cause(&error))),
        }
    }

    fn note(&self, endpoint: &Endpoint, failed: &Failed) {
        if failed.kind == FailureKind::Corrupt {
            self.corrupt.fetch_add(1, Ordering::Relaxed);
        }
        self.failures.record(
            endpoint.url().as_str(),
            failed.kind,
            &failed.error.to_string(),
        );
    }

    fn timed_out(&self, endpoints: &[Endpoint], deadline: Duration) -> StoreError {
        let place = (endpoints.first()).map_or_else(String::new, |e| e.url().to_string());
        let why = format!("no answer within {} s", deadline.as_secs_f64());
        self.failures.record(&place, FailureKind::Timeout, &why);
        StoreError::Unavailable { place, why }
    }
}

/// What a round over all endpoints ended with.
fn verdict(failures: Vec<Failed>, none: StoreError) -> Verdict<StoreError> {
    let heals = failures.iter().any(|failed| failed.heals());
    let pause = failures.iter().filter_map(|failed| failed.pause).min();
    // Lies matter more than absence, absence on one more than silence of
    // another only when nobody may still come back with it.
    let weight = |failed: &Failed| match failed.kind {
        FailureKind::Corrupt => 3,
        FailureKind::NotFound => 0,
        _ if failed.heals() => 2,
        _ => 1,
    };
    let worst = failures.into_iter().max_by_key(weight);
    match worst {
        Some(failed) if heals => Verdict::MayHeal(failed.error, pause),
        Some(failed) => Verdict::Final(failed.error),
        None => Verdict::Final(none),
    }
}

fn endpoint_health(endpoint: &Endpoint) -> EndpointHealth {
    EndpointHealth {
        url: endpoint.url().to_string(),
        conditions: endpoint.conditions(),
    }
}

fn endpoint(url: &str) -> Result<Url, StoreError> {
    let bad = |why: String| StoreError::BadEndpoint {
        url: url.into(),
        why,
    };
    let mut parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(bad("it must start with http:// or https://".into()));
    }
    // `join` replaces what follows the last slash.
    if !parsed.path().ends_with('/') {
        let path = format!("{}/", parsed.path());
        parsed.set_path(&path);
    }
    Ok(parsed)
}

#[async_trait]
impl BlobStore for HttpStore {
    async fn read(
        &self,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), StoreError> {
        let accept = tokio::sync::Mutex::new(accept);
        attempts(
            &self.config.retry,
            |deadline| self.timed_out(&self.aggregators, deadline),
            |number| {
                let accept = &accept;
                async move {
                    let mut accept = accept.lock().await;
                    let mut failures = Vec::new();
                    for endpoint in &self.aggregators {
                        match self.read_from(endpoint, blob, extent, &mut **accept).await {
                            Ok(()) => return Ok(()),
                            Err(mut failed) => {
                                self.note(endpoint, &failed);
                                // Bytes damaged on the way may arrive well the
                                // second time; a liar keeps lying.
                                failed.give_up_if_corrupt(number > 0);
                                failures.push(failed);
                            }
                        }
                    }
                    Err(verdict(failures, StoreError::NoEndpoint("aggregator")))
                }
            },
        )
        .await
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        // Who can only write cannot know; a publisher tells what it has.
        if self.aggregators.is_empty() {
            return Ok(None);
        }
        let found = attempts(
            &self.config.retry,
            |deadline| self.timed_out(&self.aggregators, deadline),
            |_| async {
                let mut failures = Vec::new();
                for endpoint in &self.aggregators {
                    match self.len_at(endpoint, blob).await {
                        Ok(len) => return Ok(Some(len)),
                        Err(failed) => {
                            if failed.kind != FailureKind::NotFound {
                                self.note(endpoint, &failed);
                            }
                            failures.push(failed);
                        }
                    }
                }
                // Where one says that it is missing and another does not say,
                // it is missing: an upload too many harms nobody.
                if let Some(at) = failures
                    .iter()
                    .position(|f| f.kind == FailureKind::NotFound)
                {
                    return Err(Verdict::Final(failures.swap_remove(at).error));
                }
                Err(verdict(failures, StoreError::NoEndpoint("aggregator")))
            },
        )
        .await;
        match found {
            Err(StoreError::NotFound { .. }) => Ok(None),
            other => other,
        }
    }

    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<Stored, StoreError> {
        let len = body.len() as u64;
        if len > self.config.max_body {
            return Err(StoreError::TooLarge {
                len,
                limit: self.config.max_body,
                place: "the network profile (max_body)".into(),
            });
        }
        let mut retry = self.config.retry.clone();
        retry.deadline += Duration::from_secs(len / SLOWEST_UPLOAD);
        attempts(
            &retry,
            |deadline| self.timed_out(&self.publishers, deadline),
            |_| async {
                let mut failures = Vec::new();
                for endpoint in &self.publishers {
                    match self.put_to(endpoint, blob, body.clone(), options).await {
                        Ok(stored) => return Ok(stored),
                        Err(failed) => {
                            self.note(endpoint, &failed);
                            failures.push(failed);
                        }
                    }
                }
                Err(verdict(failures, StoreError::NoEndpoint("publisher")))
            },
        )
        .await
    }

    fn max_body(&self) -> u64 {
        self.config.max_body
    }

    fn conditions(&self) -> Option<Conditions> {
        self.aggregators.first()?.conditions()
    }

    fn health(&self) -> StoreHealth {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreHealth {
            requests: get(&self.requests),
            received: get(&self.received),
            sent: get(&self.sent),
            corrupt: get(&self.corrupt),
            failures: self.failures.counts(),
            endpoints: self.aggregators.iter().map(endpoint_health).collect(),
        }
    }
}
