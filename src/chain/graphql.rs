//! GraphQL client for a full node.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use serde_json::{Value, json};

use walgit_format::chain::{ChainError, MoveObject, ObjectId, answer};
use walrus_client::net::{
    Attempts, FIRST_CONTACT_TIMEOUT, Failure, FailureHandling, FailureKind, FailureLog, Journal,
    Retry, RetryObserver, Tls, Verdict, http,
};
use walrus_client::network::NetPolicy;

/// Objects per request, and entries per page of a table: a limit that every node
/// accepts.
const PAGE_SIZE: usize = 50;
/// Longest response in bytes. An object has at most 256 KB, which may take four times
/// as much as JSON; if several objects exceed the limit, they are requested one by
/// one.
const MAX_RESPONSE_BYTES: u64 = 4 << 20;
/// Most entries of one table.
const MAX_ENTRIES: usize = 100_000;
/// Most bytes of responses per [`Reading`]; the decoded data takes about as much
/// memory.
const MAX_READING_BYTES: u64 = 96 << 20;
/// Time limit of a [`Reading`], as a multiple of the deadline of a request.
const MAX_READING_DEADLINES: u32 = 10;

/// `make test-interop` checks both queries against the schema of the chain.
const OBJECTS_QUERY: &str = include_str!("objects.graphql");
const FIELDS_QUERY: &str = include_str!("fields.graphql");

/// A full node of the chain.
#[derive(Debug)]
pub struct Chain {
    client: reqwest::Client,
    tls: Tls,
    url: Url,
    deadline: Duration,
    retry: Retry,
    failures: FailureLog,
    /// Whether the node has responded since this was created.
    answered: AtomicBool,
}

/// A group of related requests, such as those for one tree, with a limit on the total
/// response bytes and the total time.
#[derive(Debug)]
pub struct Reading<'a> {
    chain: &'a Chain,
    bytes: u64,
    until: Instant,
}

/// A request in progress, with its latest failure until the retry decision is known.
struct RequestAttempt<'a> {
    chain: &'a Chain,
    /// Starts at 1.
    attempt: AtomicU32,
    failed: Mutex<Option<(FailureKind, String)>>,
}

impl Chain {
    /// Creates a client for the node at `url`, without connecting. Every request ends
    /// within `deadline` and follows `policy`. Failures are recorded in `journal`.
    ///
    /// # Errors
    /// [`ChainError::BadEndpoint`].
    pub fn new(
        url: &str,
        deadline: Duration,
        policy: &NetPolicy,
        journal: Option<Arc<Journal>>,
    ) -> Result<Self, ChainError> {
        let bad = |why: String| ChainError::BadEndpoint {
            url: url.into(),
            why,
        };
        let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad("it must start with http:// or https://".into()));
        }
        let tls = Tls::trusting(policy.ca.as_deref()).map_err(|error| bad(error.to_string()))?;
        let client = http::client_with(&tls)
            .connect_timeout(deadline / 3)
            .read_timeout(deadline / 3)
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok(Chain {
            client,
            tls,
            url: parsed,
            deadline,
            retry: Retry::of(policy, deadline),
            failures: FailureLog::new(journal),
            answered: AtomicBool::new(false),
        })
    }

    /// Starts a group of related requests.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            chain: self,
            bytes: 0,
            until: Instant::now() + self.deadline * MAX_READING_DEADLINES,
        }
    }

    /// Reads one object.
    ///
    /// # Errors
    /// [`ChainError::NoObject`] if it does not exist.
    pub async fn object(&self, id: ObjectId) -> Result<MoveObject, ChainError> {
        self.reading().object(id).await
    }

    /// Creates the error for responses beyond a limit.
    pub fn too_much(&self, what: impl Into<String>) -> ChainError {
        let url = self.url.to_string();
        let what = what.into();
        ChainError::TooMuch { url, what }
    }

    /// Returns the data of the response, and its length in bytes.
    async fn ask(&self, query: &str, variables: Value) -> Result<(Value, u64), ChainError> {
        let body = json!({"query": query, "variables": variables});
        let question = RequestAttempt {
            chain: self,
            attempt: AtomicU32::new(1),
            failed: Mutex::default(),
        };
        let mut retry = self.retry;
        if !self.answered.load(Ordering::Relaxed) {
            retry.deadline = retry.deadline.min(FIRST_CONTACT_TIMEOUT);
        }
        let mut attempts = Attempts::new(retry, &question);
        let done = loop {
            if let Some(done) = attempts.run(question.ask_once(&body)).await {
                break done;
            }
        };
        self.answered.fetch_or(done.is_ok(), Ordering::Relaxed);
        done
    }

    fn unavailable(&self, why: String) -> ChainError {
        let url = self.url.to_string();
        ChainError::Unavailable { url, why }
    }
}

impl Reading<'_> {
    async fn ask(&mut self, query: &str, variables: Value) -> Result<Value, ChainError> {
        let chain = self.chain;
        let left = self.until.saturating_duration_since(Instant::now());
        let asked = tokio::time::timeout(left, chain.ask(query, variables)).await;
        let (data, bytes) = asked.map_err(|_| {
            let seconds = (chain.deadline * MAX_READING_DEADLINES).as_secs_f64();
            chain.unavailable(format!("no complete response within {seconds} s"))
        })??;
        self.bytes += bytes;
        if self.bytes > MAX_READING_BYTES {
            return Err(chain.too_much(format!("responses of over {MAX_READING_BYTES} bytes")));
        }
        Ok(data)
    }

    /// Reads objects by ID and passes them to `take`, in order. Does not keep the
    /// JSON objects, because they take many times the memory of the response.
    ///
    /// # Errors
    /// [`ChainError::NoObject`] for the first object that does not exist.
    pub async fn each(
        &mut self,
        ids: &[ObjectId],
        mut take: impl FnMut(MoveObject) -> Result<(), ChainError> + Send,
    ) -> Result<(), ChainError> {
        let mut left = ids;
        let mut page = PAGE_SIZE;
        while !left.is_empty() {
            let now = &left[..left.len().min(page)];
            let keys: Vec<Value> = now.iter().map(|id| json!({"address": id})).collect();
            match self.ask(OBJECTS_QUERY, json!({"keys": keys})).await {
                Ok(data) => {
                    (answer::objects(&data, now)?.into_iter()).try_for_each(&mut take)?;
                    left = &left[now.len()..];
                }
                // Request large objects one by one.
                Err(ChainError::TooMuch { .. })
                    if now.len() > 1 && self.bytes <= MAX_READING_BYTES =>
                {
                    page = 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads one object.
    ///
    /// # Errors
    /// [`ChainError::NoObject`] if it does not exist.
    pub async fn object(&mut self, id: ObjectId) -> Result<MoveObject, ChainError> {
        let mut found = None;
        let keep = |object| {
            found = Some(object);
            Ok(())
        };
        self.each(&[id], keep).await?;
        found.ok_or(ChainError::NoObject(id))
    }

    /// The entries of a `Table<String, ID>`.
    ///
    /// # Errors
    /// [`ChainError::NotThat`] if it is not such a table; [`ChainError::TooMuch`] if
    /// it has too many entries or its pages form a cycle; or a request error.
    pub async fn table(&mut self, id: ObjectId) -> Result<Vec<(String, ObjectId)>, ChainError> {
        let mut entries = Vec::new();
        let mut after = Value::Null;
        let mut cursors = HashSet::new();
        loop {
            let variables = json!({"id": id, "first": PAGE_SIZE, "after": after});
            let data = self.ask(FIELDS_QUERY, variables).await?;
            let (page, next) = answer::table(&data, id)?;
            let is_empty = page.is_empty();
            entries.extend(page);
            let Some(next) = next else {
                return Ok(entries);
            };
            // A page with a successor must not be empty, and its cursor must be new.
            if is_empty || !cursors.insert(next.to_string()) {
                return Err(self.chain.too_much("a table whose pages form a cycle"));
            }
            if entries.len() > MAX_ENTRIES {
                let what = format!("a table of over {MAX_ENTRIES} entries");
                return Err(self.chain.too_much(what));
            }
            after = next;
        }
    }
}

impl RequestAttempt<'_> {
    async fn ask_once(&self, body: &Value) -> Result<(Value, u64), Verdict<ChainError>> {
        let chain = self.chain;
        let refused = |kind: FailureKind, why: String| {
            self.note_failure(kind, &why);
            let url = chain.url.to_string();
            Verdict::Final(ChainError::Refused { url, why })
        };
        let heals = |kind: FailureKind, why: String| {
            self.note_failure(kind, &why);
            Verdict::MayHeal(chain.unavailable(why), None)
        };
        if let Err(error) = chain.tls.check(&chain.url) {
            let why = error.to_string();
            self.note_failure(FailureKind::Untrusted, &why);
            return Err(Verdict::Final(chain.unavailable(why)));
        }
        let broken = |error: reqwest::Error| heals(http::broken_kind(&error), http::cause(&error));
        let sent = chain.client.post(chain.url.clone()).json(body).send().await;
        let response = sent.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let kind = http::refusal_kind(status);
            return Err(match kind {
                FailureKind::Refused => refused(kind, status.to_string()),
                _ => heals(kind, status.to_string()),
            });
        }
        let text = http::body(response, MAX_RESPONSE_BYTES)
            .await
            .map_err(broken)?;
        let protocol = |why: String| refused(FailureKind::Protocol, why);
        let text = text.ok_or_else(|| {
            let what = format!("a response of over {MAX_RESPONSE_BYTES} bytes");
            self.note_failure(FailureKind::Protocol, &what);
            Verdict::Final(chain.too_much(what))
        })?;
        let data = answer::data(&text).map_err(|why| protocol(http::words(&why)))?;
        Ok((data, text.len() as u64))
    }

    fn latest_failure(&self) -> MutexGuard<'_, Option<(FailureKind, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_failure(&self, kind: FailureKind, why: &str) {
        *self.latest_failure() = Some((kind, why.into()));
    }

    fn record(&self, kind: FailureKind, handling: FailureHandling, why: &str) {
        let attempt = self.attempt.load(Ordering::Relaxed);
        let node = self.chain.url.as_str();
        (self.chain.failures).record(Failure::now(node, "object", kind, attempt, handling, why));
    }
}

impl RetryObserver<ChainError> for RequestAttempt<'_> {
    fn starts(&self, number: u32) {
        self.attempt.store(number, Ordering::Relaxed);
    }

    fn failed(&self, handling: FailureHandling) {
        let failed = std::mem::take(&mut *self.latest_failure());
        if let Some((kind, why)) = failed {
            self.record(kind, handling, &why);
        }
    }

    fn timed_out(&self, deadline: Duration) -> ChainError {
        let why = format!("no response within {} s", deadline.as_secs_f64());
        self.record(FailureKind::Timeout, FailureHandling::GaveUp, &why);
        self.chain.unavailable(why)
    }
}
