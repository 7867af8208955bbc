//! A Walrus network over HTTP: untrusted aggregators to read from and publishers to
//! write to.
//!
//! An operation tries its endpoints, the one expected to be best first
//! ([`crate::net::Endpoints`]), until one succeeds. Then it pauses and starts over while
//! that may help ([`crate::net::Retry`]). Bytes that fail verification are a failure
//! like any other: the next aggregator is tried, without a pause. If no endpoint is
//! available, the operation fails at once.
//!
//! - [`admin`]: admin API of an embedded Walrus;
//! - [`answer`]: checks of an answer to a read;
//! - [`exchange`]: one request to one endpoint;
//! - [`failed`]: classification of failures;
//! - [`reading`]: one round of a read, over several endpoints;
//! - [`operation`]: failures of an operation, for the failure log.

mod admin;
mod answer;
mod credentials;
mod exchange;
mod failed;
mod operation;
mod reading;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Url;

use super::{
    Accept, BlobStore, EndpointHealth, Extent, Lifetime, PutOptions, Role, StoreError, StoreHealth,
    Stored,
};
use crate::auth::Credentials;
use crate::net::{
    Conditions, Connections, Done, Endpoint, EndpointRules, Endpoints, FIRST_CONTACT, FailureKind,
    FailureLog, FirstContact, HedgeRules, Journal, Retry, Tls, Verdict, attempts_told, cause, http,
};
use failed::verdict;
use operation::Operation;
use walgit_format::chunk::BlobId;

/// How to reach a network.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Aggregator URLs, in order of preference before measurements.
    pub aggregators: Vec<String>,
    /// Publisher URLs.
    pub publishers: Vec<String>,
    /// Largest blob that a publisher accepts, in bytes.
    pub max_body: u64,
    /// Retry policy and deadline of reads.
    pub retry: Retry,
    /// Breaker rules and limit of concurrent requests.
    pub rules: EndpointRules,
    /// When to hedge a read.
    pub hedge: HedgeRules,
    /// Longest silence of a server before it counts as hanging.
    pub silence: Duration,
    /// Certificates to trust in addition to the system's.
    pub ca: Option<PathBuf>,
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
            max_body: crate::network::DEFAULT_MAX_BODY,
            retry: Retry::default(),
            rules: EndpointRules::default(),
            hedge: HedgeRules::default(),
            silence: Duration::from_secs(10),
            ca: None,
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
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    corrupt: AtomicU64,
    hedges: AtomicU64,
    hedges_won: AtomicU64,
    not_asked: AtomicU64,
    first_contact: FirstContact,
}

/// Slowest acceptable upload, in bytes a second: extends the deadline of a `put` by the
/// length of its body.
const SLOWEST_UPLOAD: u64 = 64 << 10;

impl HttpStore {
    /// Creates a store over these endpoints. Does not connect yet.
    ///
    /// # Errors
    /// [`StoreError::BadEndpoint`] for an invalid URL, [`StoreError::BadCertificates`]
    /// for a file without certificates.
    pub fn new(config: HttpConfig) -> Result<Self, StoreError> {
        let endpoints = |list: &[String]| -> Result<Endpoints, StoreError> {
            let one = |url: &String| Ok(Endpoint::new(endpoint(url)?, config.rules));
            let all = list.iter().map(one).collect::<Result<_, StoreError>>()?;
            Ok(Endpoints::new(all, config.hedge))
        };
        let publishers = endpoints(&config.publishers)?;
        let writer = Kind::Writer {
            direct: credentials::past_proxies(publishers.all()),
        };
        let tls = Tls::trusting(config.ca.as_deref())?;
        Ok(HttpStore {
            reader: connections(&config, &tls, Kind::Reader)?,
            // A publisher is silent while it encodes and certifies; an upload has its
            // own deadline.
            writer: connections(&config, &tls, writer)?,
            tls,
            aggregators: endpoints(&config.aggregators)?,
            publishers,
            failures: FailureLog::new(config.journal.clone()),
            admin: config.admin.as_deref().map(endpoint).transpose()?,
            config,
            requests: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
            hedges_won: AtomicU64::new(0),
            not_asked: AtomicU64::new(0),
            first_contact: FirstContact::default(),
        })
    }

    /// Whether an aggregator has answered since this store was opened.
    fn was_reached(&self) -> bool {
        self.aggregators.all().iter().any(Endpoint::has_answered)
    }

    /// Runs a read until it succeeds, fails permanently, or runs out of time or retries.
    async fn attempts<T, F: Future<Output = Result<T, Verdict<StoreError>>>>(
        &self,
        operation: &Operation<'_>,
        attempt: impl FnMut(u32) -> F,
    ) -> Result<T, StoreError> {
        let first = self.aggregators.all().first();
        let retry = if self.was_reached() {
            self.config.retry.clone()
        } else {
            match self.first_contact.retry(&self.config.retry) {
                Some(retry) => retry,
                None => {
                    self.not_asked.fetch_add(1, Ordering::Relaxed);
                    return Err(operation.timed_out(first, FIRST_CONTACT));
                }
            }
        };
        let done = attempts_told(
            &retry,
            |deadline| operation.timed_out(first, deadline),
            |next| operation.follows(next),
            attempt,
        )
        .await;
        if done.is_err() && !self.was_reached() {
            self.first_contact.failed();
        }
        done
    }

    /// Checks whether a server answers at `url`: returns the status of a request that
    /// every aggregator and publisher supports. `ca` are certificates to trust in
    /// addition to the system's.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn reach(
        url: &str,
        patience: Duration,
        ca: Option<&Path>,
    ) -> Result<u16, StoreError> {
        let url = endpoint(url)?;
        let unavailable = |why: String| StoreError::Unavailable {
            place: url.to_string(),
            why,
        };
        let tls = Tls::trusting(ca)?;
        tls.check(&url)
            .map_err(|error| unavailable(error.to_string()))?;
        let client = http::client_with(&tls).timeout(patience).build();
        let client = client.map_err(|error| unavailable(cause(&error)))?;
        let status = url.join("status").map_err(|e| unavailable(e.to_string()))?;
        match client.get(status).send().await {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(unavailable(cause(&error))),
        }
    }

    /// Starts an operation. After the machine has slept, all measurements are obsolete.
    fn begin(&self, name: &'static str) -> Operation<'_> {
        if self.reader.woke_up() {
            self.writer.drop_idle();
            self.aggregators.look_again();
            self.publishers.look_again();
        }
        Operation::new(name, &self.failures)
    }

    /// Whether an aggregator reports that a blob is stored. Not retried, because it only
    /// saves an upload.
    async fn is_certified(&self, blob: BlobId, len: u64) -> bool {
        for endpoint in self.aggregators.ranked() {
            if self
                .len_at(endpoint, blob)
                .await
                .is_ok_and(|found| found == len)
            {
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
    ) -> Result<Stored, Verdict<StoreError>> {
        let mut failures = Vec::new();
        for endpoint in self.publishers.ranked() {
            // The upload may have succeeded although its answer was lost.
            if operation.is_ambiguous() && self.is_certified(blob, body.len() as u64).await {
                operation.done(Done::Certified);
                return Ok(Stored {
                    uploaded: true,
                    end_epoch: None,
                    object_id: None,
                });
            }
            operation.done(Done::FailedOver);
            operation.asking(endpoint);
            let put = self.put_to(endpoint, blob, body.clone(), options).await;
            operation.asked(endpoint);
            match put {
                Ok(stored) => return Ok(stored),
                Err(failed) => {
                    operation.failed(endpoint, &failed);
                    failures.push(failed);
                }
            }
        }
        match failures.is_empty() {
            true => Err(Verdict::Final(StoreError::NoEndpoint("publisher"))),
            false => Err(verdict(failures, &self.publishers)),
        }
    }

    async fn len_round<'a>(
        &'a self,
        operation: &Operation<'a>,
        blob: BlobId,
    ) -> Result<Option<u64>, Verdict<StoreError>> {
        let mut failures = Vec::new();
        for endpoint in self.aggregators.ranked() {
            operation.done(Done::FailedOver);
            operation.asking(endpoint);
            let len = self.len_at(endpoint, blob).await;
            operation.asked(endpoint);
            match len {
                Ok(len) => return Ok(Some(len)),
                Err(failed) => {
                    if failed.kind() != Some(FailureKind::NotFound) {
                        operation.failed(endpoint, &failed);
                    }
                    failures.push(failed);
                }
            }
        }
        // If one endpoint reports the blob as missing and another does not answer, it
        // counts as missing: a redundant upload is harmless.
        let absent = |failed: &failed::Failed| failed.kind() == Some(FailureKind::NotFound);
        match failures.iter().any(absent) {
            true => {
                operation.done(Done::FailedOver);
                Ok(None)
            }
            false => Err(verdict(failures, &self.aggregators)),
        }
    }
}

/// Use of a connection.
#[derive(Clone, Copy)]
enum Kind {
    /// To aggregators, with a short limit on silence.
    Reader,
    /// To publishers; `direct` connections bypass any proxy.
    Writer { direct: bool },
}

fn connections(config: &HttpConfig, tls: &Tls, kind: Kind) -> Result<Connections, StoreError> {
    let (tls, silence) = (tls.clone(), config.silence);
    let make = move || {
        let builder = http::client_with(&tls).connect_timeout(silence);
        match kind {
            Kind::Reader => http::watchful(builder).read_timeout(silence),
            Kind::Writer { direct: true } => builder.no_proxy(),
            Kind::Writer { direct: false } => builder,
        }
    };
    Connections::new(make).map_err(|error| StoreError::Unavailable {
        place: "the HTTP client".into(),
        why: cause(&error),
    })
}

fn endpoint_health(endpoint: &Endpoint, role: Role) -> EndpointHealth {
    let known = endpoint.knowledge();
    EndpointHealth {
        url: endpoint.name().to_owned(),
        role,
        // A publisher's response time includes encoding and certifying.
        conditions: known.conditions.filter(|_| role == Role::Aggregator),
        breaker: known.standing.into(),
        probe_in_s: known.probe_in.map(|due| due.as_secs()),
        quarantined_s: known.quarantine.map(|left| left.as_secs()),
        lies: known.lies,
        at_once: known.at_once,
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
    // `join` replaces the path after the last slash.
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
        let operation = self.begin("read");
        let accept = tokio::sync::Mutex::new(accept);
        self.attempts(&operation, |number| {
            let (operation, accept) = (&operation, &accept);
            async move {
                operation.begin(number);
                let mut accept = accept.lock().await;
                (self.read_round(operation, blob, extent, &mut **accept)).await
            }
        })
        .await
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        // A write-only store cannot know; a publisher reports existing blobs.
        if self.aggregators.is_empty() {
            return Ok(None);
        }
        let operation = self.begin("len");
        self.attempts(&operation, |number| {
            operation.begin(number);
            self.len_round(&operation, blob)
        })
        .await
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
        let operation = self.begin("put");
        attempts_told(
            &retry,
            |deadline| operation.timed_out(self.publishers.all().first(), deadline),
            |next| operation.follows(next),
            |number| {
                operation.begin(number);
                self.put_round(&operation, blob, &body, options)
            },
        )
        .await
    }

    fn max_body(&self) -> u64 {
        self.config.max_body
    }

    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        self.present_epoch().await
    }

    async fn advance(&self, epochs: u32) -> Result<Option<u32>, StoreError> {
        self.advance_epoch(epochs).await
    }

    async fn lifetime(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        self.lifetime_of(blob).await
    }

    async fn extend(&self, blob: BlobId, end: u32) -> Result<Option<Lifetime>, StoreError> {
        self.extend_to(blob, end).await
    }

    async fn delete(&self, blob: BlobId) -> Result<bool, StoreError> {
        self.delete_at(blob).await
    }

    /// A server that confirms a change has made it durable.
    async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn conditions(&self) -> Option<Conditions> {
        self.aggregators.conditions()
    }

    fn health(&self) -> StoreHealth {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of = |endpoints: &Endpoints, role| -> Vec<EndpointHealth> {
            let all = endpoints.all().iter();
            all.map(|endpoint| endpoint_health(endpoint, role))
                .collect()
        };
        StoreHealth {
            requests: get(&self.requests),
            received: get(&self.received),
            sent: get(&self.sent),
            corrupt: get(&self.corrupt),
            hedges: get(&self.hedges),
            hedges_won: get(&self.hedges_won),
            not_asked: get(&self.not_asked),
            failures: self.failures.counts(),
            endpoints: [
                of(&self.aggregators, Role::Aggregator),
                of(&self.publishers, Role::Publisher),
            ]
            .concat(),
        }
    }
}
