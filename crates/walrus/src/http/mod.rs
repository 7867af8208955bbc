//! A Walrus network over HTTP: untrusted aggregators to read from and publishers to
//! write to.
//!
//! An operation tries its endpoints, the one expected to be best first
//! ([`crate::net::Endpoints`]), until one succeeds. Then it pauses and starts over while
//! that may help ([`crate::net::Attempts`]). Bytes that fail verification are a failure
//! like any other: the next aggregator is tried, without a pause. If no endpoint is
//! available, the operation fails at once.

mod admin;
mod answer;
mod credentials;
mod exchange;
mod failed_request;
mod operation;
mod read_round;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Url;

use crate::auth::{Credentials, is_loopback};
use crate::net::{
    Attempts, Conditions, Connections, Endpoint, Endpoints, FIRST_CONTACT_TIMEOUT, FailureHandling,
    FailureKind, FailureLog, FirstContact, Journal, Retry, RetryObserver as _, Role, Tls, Verdict,
    cause, http,
};
use crate::network::{DEFAULT_MAX_BODY, NetPolicy};
use crate::{
    BlobReader, BlobWriter, PutOptions, PutReceipt, ReadRange, StoreError, StoreHealth, StoreLayer,
    Verifier,
};
use failed_request::verdict;
use operation::Operation;
use walgit_format::chunk::BlobId;

/// Slowest acceptable upload, in bytes a second: extends the deadline of a `put` by the
/// length of its body.
const MIN_UPLOAD_SPEED: u64 = 64 << 10;

/// How to reach a network.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Aggregator URLs, in order of preference before measurements.
    pub aggregators: Vec<String>,
    /// Publisher URLs.
    pub publishers: Vec<String>,
    /// Largest blob that a publisher accepts, in bytes.
    pub max_body: u64,
    /// Rules for retries, breakers, concurrency and hedged reads; trusted certificates.
    pub policy: NetPolicy,
    /// Time limit of an operation.
    pub deadline: Duration,
    /// Longest silence of a server before it counts as hanging.
    pub read_timeout: Duration,
    /// Log of failures.
    pub journal: Option<Arc<Journal>>,
    /// Credentials for publishers.
    pub credentials: Credentials,
    /// Admin URL of an embedded Walrus.
    pub admin: Option<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            aggregators: Vec::new(),
            publishers: Vec::new(),
            max_body: DEFAULT_MAX_BODY,
            policy: NetPolicy::default(),
            deadline: Duration::from_secs(30),
            read_timeout: Duration::from_secs(10),
            journal: None,
            credentials: Credentials::default(),
            admin: None,
        }
    }
}

/// A network over HTTP.
#[derive(Debug)]
pub struct HttpStore {
    reader: Connections,
    writer: Connections,
    tls: Tls,
    aggregators: Endpoints,
    publishers: Endpoints,
    admin: Option<Url>,
    config: HttpConfig,
    failures: FailureLog,
    counters: RequestCounters,
    first_contact: FirstContact,
}

/// Counters of [`StoreHealth`].
#[derive(Debug, Default)]
struct RequestCounters {
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    corrupt: AtomicU64,
    hedges: AtomicU64,
    hedges_won: AtomicU64,
    skipped: AtomicU64,
}

impl RequestCounters {
    fn add(&self, counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

impl HttpStore {
    /// Creates a store over these endpoints. Does not connect yet.
    ///
    /// # Errors
    /// [`StoreError::BadEndpoint`] for an invalid URL, [`StoreError::BadCertificates`]
    /// for a file without certificates.
    pub fn new(config: HttpConfig) -> Result<Self, StoreError> {
        let endpoints = |urls: &[String]| -> Result<Endpoints, StoreError> {
            let endpoint = |url: &String| Ok(Endpoint::new(parse_url(url)?, &config.policy));
            let all = urls.iter().map(endpoint).collect::<Result<_, StoreError>>();
            Ok(Endpoints::new(all?, &config.policy))
        };
        let publishers = endpoints(&config.publishers)?;
        let writer = Use::Write {
            bypass_proxies: bypass_proxies(publishers.all()),
        };
        let tls = Tls::trusting(config.policy.ca.as_deref())?;
        Ok(HttpStore {
            reader: connections(&config, &tls, Use::Read)?,
            // A publisher is silent while it encodes and certifies; an upload has its
            // own deadline.
            writer: connections(&config, &tls, writer)?,
            tls,
            aggregators: endpoints(&config.aggregators)?,
            publishers,
            failures: FailureLog::new(config.journal.clone()),
            admin: config.admin.as_deref().map(parse_url).transpose()?,
            config,
            counters: RequestCounters::default(),
            first_contact: FirstContact::default(),
        })
    }

    /// Whether an aggregator has answered since this store was opened.
    fn was_reached(&self) -> bool {
        self.aggregators.all().iter().any(Endpoint::has_answered)
    }

    /// Starts the attempts of a read. Until the first answer, their deadline is short.
    fn read_attempts<'a, 'b>(
        &self,
        operation: &'b Operation<'a>,
    ) -> Result<Attempts<'b, Operation<'a>>, StoreError> {
        let mut policy = Retry::of(&self.config.policy, self.config.deadline);
        if !self.was_reached() {
            let Some(first_contact) = self.first_contact.retry(&policy) else {
                self.counters.add(&self.counters.skipped, 1);
                return Err(operation.timed_out(FIRST_CONTACT_TIMEOUT));
            };
            policy = first_contact;
        }
        Ok(Attempts::new(policy, operation))
    }

    /// Records the result of a read.
    fn read_ended<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() && !self.was_reached() {
            self.first_contact.failed();
        }
        result
    }

    /// Checks whether a server answers at `url`: returns the status of a request that
    /// every aggregator and publisher supports. `ca` are certificates to trust in
    /// addition to the system's.
    pub async fn reach(url: &str, timeout: Duration, ca: Option<&Path>) -> Result<u16, StoreError> {
        let url = parse_url(url)?;
        let unavailable =
            |error: &dyn std::error::Error| StoreError::unavailable(&url, cause(error));
        let tls = Tls::trusting(ca)?;
        tls.check(&url).map_err(|error| unavailable(&error))?;
        let client = http::client_with(&tls).timeout(timeout).build();
        let client = client.map_err(|error| unavailable(&error))?;
        let status = url.join("status").map_err(|error| unavailable(&error))?;
        let response = client.get(status).send().await;
        let response = response.map_err(|error| unavailable(&error))?;
        Ok(response.status().as_u16())
    }

    /// Starts an operation. After the machine has slept, all measurements are obsolete.
    fn begin<'a>(&'a self, name: &'static str, endpoints: &'a Endpoints) -> Operation<'a> {
        if self.reader.detect_resume() {
            self.writer.reset_pool();
            self.aggregators.probe_now();
            self.publishers.probe_now();
        }
        Operation::new(name, &self.failures, endpoints.all())
    }

    /// Whether an aggregator reports that a blob is stored. Not retried, because it only
    /// saves an upload.
    async fn is_certified(&self, blob: BlobId, len: u64) -> bool {
        for endpoint in self.aggregators.ranked() {
            if matches!(self.len_at(endpoint, blob).await, Ok(found) if found == len) {
                return true;
            }
        }
        false
    }

    async fn put_round<'a>(
        &'a self,
        operation: &Operation<'a>,
        blob: BlobId,
        body: &Bytes,
        options: &PutOptions,
    ) -> Result<PutReceipt, Verdict<StoreError>> {
        let mut failures = Vec::new();
        for endpoint in self.publishers.ranked() {
            // The upload may have succeeded although its answer was lost.
            if operation.is_ambiguous() && self.is_certified(blob, body.len() as u64).await {
                operation.handled(FailureHandling::Certified);
                return Ok(PutReceipt {
                    uploaded: true,
                    end_epoch: None,
                    object_id: None,
                });
            }
            operation.handled(FailureHandling::FailedOver);
            let put = self.put_to(endpoint, blob, body.clone(), options);
            match operation.request(endpoint, put).await {
                Ok(receipt) => return Ok(receipt),
                Err(failed) => {
                    operation.failed(endpoint, &failed);
                    failures.push(failed);
                }
            }
        }
        Err(verdict(failures, &self.publishers, "publisher"))
    }

    async fn len_round<'a>(
        &'a self,
        operation: &Operation<'a>,
        blob: BlobId,
    ) -> Result<Option<u64>, Verdict<StoreError>> {
        let mut failures = Vec::new();
        let mut is_missing = false;
        for endpoint in self.aggregators.ranked() {
            operation.handled(FailureHandling::FailedOver);
            let len = operation.request(endpoint, self.len_at(endpoint, blob));
            match len.await {
                Ok(len) => return Ok(Some(len)),
                Err(failed) if failed.kind() == Some(FailureKind::NotFound) => is_missing = true,
                Err(failed) => {
                    operation.failed(endpoint, &failed);
                    failures.push(failed);
                }
            }
        }
        if !is_missing {
            return Err(verdict(failures, &self.aggregators, "aggregator"));
        }
        // If one endpoint reports the blob as missing and another does not answer, it
        // counts as missing: a redundant upload is harmless.
        operation.handled(FailureHandling::FailedOver);
        Ok(None)
    }
}

/// Use of a connection.
#[derive(Clone, Copy)]
enum Use {
    /// To aggregators, with a short limit on silence.
    Read,
    /// To publishers.
    Write { bypass_proxies: bool },
}

fn connections(config: &HttpConfig, tls: &Tls, kind: Use) -> Result<Connections, StoreError> {
    let (tls, timeout) = (tls.clone(), config.read_timeout);
    let make = move || {
        let builder = http::client_with(&tls).connect_timeout(timeout);
        match kind {
            Use::Read => http::detect_dead_connections(builder).read_timeout(timeout),
            Use::Write { bypass_proxies } if bypass_proxies => builder.no_proxy(),
            Use::Write { .. } => builder,
        }
    };
    Connections::new(make)
        .map_err(|error| StoreError::unavailable("the HTTP client", cause(&error)))
}

/// Whether uploads bypass any proxy: plaintext requests to this machine must not pass
/// through a third-party proxy.
fn bypass_proxies(publishers: &[Endpoint]) -> bool {
    publishers.iter().any(|it| is_loopback(it.url()))
}

fn parse_url(url: &str) -> Result<Url, StoreError> {
    let bad = |why: String| StoreError::BadEndpoint {
        url: url.into(),
        why,
    };
    let mut parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(bad("it must start with http:// or https://".into()));
    }
    // `join` replaces the path after the last slash.
    if !parsed.path().ends_with('/') {
        let path = format!("{}/", parsed.path());
        parsed.set_path(&path);
    }
    Ok(parsed)
}

/// A server that confirms a change has made it durable, so there is nothing to flush.
impl StoreLayer for HttpStore {}

#[async_trait]
impl BlobReader for HttpStore {
    async fn read(
        &self,
        blob: BlobId,
        read_range: ReadRange,
        verify: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        let operation = self.begin("read", &self.aggregators);
        let mut attempts = self.read_attempts(&operation)?;
        loop {
            let round = self.read_round(&operation, blob, read_range, &mut *verify);
            if let Some(result) = attempts.run(round).await {
                return self.read_ended(result);
            }
        }
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        // A write-only store cannot know; a publisher reports existing blobs.
        if self.aggregators.all().is_empty() {
            return Ok(None);
        }
        let operation = self.begin("len", &self.aggregators);
        let mut attempts = self.read_attempts(&operation)?;
        loop {
            let round = self.len_round(&operation, blob);
            if let Some(result) = attempts.run(round).await {
                return self.read_ended(result);
            }
        }
    }

    fn conditions(&self) -> Option<Conditions> {
        self.aggregators.conditions()
    }

    fn health(&self) -> StoreHealth {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let with_role = [
            (&self.aggregators, Role::Aggregator),
            (&self.publishers, Role::Publisher),
        ];
        let endpoints = with_role
            .into_iter()
            .flat_map(|(endpoints, role)| endpoints.all().iter().map(move |it| it.health(role)));
        StoreHealth {
            requests: get(&self.counters.requests),
            received: get(&self.counters.received),
            sent: get(&self.counters.sent),
            corrupt: get(&self.counters.corrupt),
            hedges: get(&self.counters.hedges),
            hedges_won: get(&self.counters.hedges_won),
            skipped: get(&self.counters.skipped),
            failures: self.failures.counts(),
            endpoints: endpoints.collect(),
        }
    }
}

#[async_trait]
impl BlobWriter for HttpStore {
    async fn put(
        &self,
        blob: BlobId,
        body: Bytes,
        options: &PutOptions,
    ) -> Result<PutReceipt, StoreError> {
        let len = body.len() as u64;
        if len > self.config.max_body {
            return Err(StoreError::TooLarge {
                len,
                limit: self.config.max_body,
                place: "the network profile (max_body)".into(),
            });
        }
        let deadline = self.config.deadline + Duration::from_secs(len / MIN_UPLOAD_SPEED);
        let policy = Retry::of(&self.config.policy, deadline);
        let operation = self.begin("put", &self.publishers);
        let mut attempts = Attempts::new(policy, &operation);
        loop {
            let round = self.put_round(&operation, blob, &body, options);
            if let Some(result) = attempts.run(round).await {
                return result;
            }
        }
    }

    fn max_body(&self) -> u64 {
        self.config.max_body
    }
}
