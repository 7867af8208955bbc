//! Questions to a full node, over GraphQL.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use super::{ChainError, MoveObject, ObjectId, answer};
use crate::config::NetPolicy;
use crate::net::{
    Done, Failure, FailureKind, FailureLog, Journal, Next, Retry, Verdict, attempts_told, http,
};

/// Objects asked for at once, and entries of a table in a page: what every
/// node allows.
const PAGE: usize = 50;
/// Longest answer that is read, in bytes. An object has at most 256 KB.
const MAX_ANSWER: u64 = 32 << 20;
/// Most pages of one table.
const MAX_PAGES: usize = 2000;

/// `make test-interop` holds both questions to the chain's own schema.
const OBJECTS: &str = include_str!("objects.graphql");
const FIELDS: &str = include_str!("fields.graphql");

/// A full node of the chain.
#[derive(Debug)]
pub struct Chain {
    client: reqwest::Client,
    url: Url,
    retry: Retry,
    failures: FailureLog,
}

/// A question under way: what went wrong last, until it is known what follows.
struct Question<'a> {
    chain: &'a Chain,
    /// From 1.
    attempt: AtomicU32,
    failed: Mutex<Option<(FailureKind, String)>>,
}

impl Chain {
    /// A node at this URL; every question ends within `deadline`, and is asked
    /// as `policy` says. Failures are kept in `journal`. Connects to nothing yet.
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
        let client = http::client()
            .connect_timeout(deadline / 3)
            .read_timeout(deadline / 3);
        let client = http::trusting(client, policy.ca.as_deref())
            .map_err(|error| bad(error.to_string()))?
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok(Chain {
            client,
            url: parsed,
            retry: Retry::of(policy, deadline),
            failures: FailureLog::new(journal),
        })
    }

    async fn ask(&self, query: &str, variables: Value) -> Result<Value, ChainError> {
        let body = json!({"query": query, "variables": variables});
        let question = Question {
            chain: self,
            attempt: AtomicU32::new(1),
            failed: Mutex::default(),
        };
        let timed_out = |deadline: Duration| {
            let why = format!("no answer within {} s", deadline.as_secs_f64());
            question.record(FailureKind::Timeout, Done::GaveUp, &why);
            self.unavailable(why)
        };
        let follows = |next| question.follows(next);
        attempts_told(&self.retry, timed_out, follows, |attempt| {
            question.attempt.store(attempt + 1, Ordering::Relaxed);
            question.ask_once(&body)
        })
        .await
    }

    fn unavailable(&self, why: String) -> ChainError {
        let url = self.url.to_string();
        ChainError::Unavailable { url, why }
    }

    /// Objects by their IDs, in order.
    ///
    /// # Errors
    /// [`ChainError::NoObject`] for the first that is not there.
    pub async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<MoveObject>, ChainError> {
        let mut objects = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            let keys: Vec<Value> = page.iter().map(|id| json!({"address": id})).collect();
            let data = self.ask(OBJECTS, json!({"keys": keys})).await?;
            objects.extend(answer::objects(&data, page)?);
        }
        Ok(objects)
    }

    /// One object.
    ///
    /// # Errors
    /// [`ChainError::NoObject`] where there is none.
    pub async fn object(&self, id: ObjectId) -> Result<MoveObject, ChainError> {
        let mut found = self.objects(&[id]).await?;
        found.pop().ok_or(ChainError::NoObject(id))
    }

    /// The entries of a `Table<String, ID>`.
    ///
    /// # Errors
    /// What kept the node from saying; [`ChainError::NotThat`] where it is no
    /// such table.
    pub async fn table(&self, id: ObjectId) -> Result<Vec<(String, ObjectId)>, ChainError> {
        let mut entries = Vec::new();
        let mut after = Value::Null;
        for _ in 0..MAX_PAGES {
            let variables = json!({"id": id, "first": PAGE, "after": after});
            let data = self.ask(FIELDS, variables).await?;
            let (page, next) = answer::table(&data, id)?;
            entries.extend(page);
            match next {
                Some(next) if next != after => after = next,
                _ => return Ok(entries),
            }
        }
        Err(answer::no_table(id, "it has too many entries"))
    }
}

impl Question<'_> {
    async fn ask_once(&self, body: &Value) -> Result<Value, Verdict<ChainError>> {
        let chain = self.chain;
        let refused = |kind: FailureKind, why: String| {
            self.failed(kind, &why);
            let url = chain.url.to_string();
            Verdict::Final(ChainError::Refused { url, why })
        };
        let heals = |kind: FailureKind, why: String| {
            self.failed(kind, &why);
            Verdict::MayHeal(chain.unavailable(why), None)
        };
        let broken = |error: reqwest::Error| heals(http::breach_kind(&error), http::cause(&error));
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
        let text = http::body(response, MAX_ANSWER).await.map_err(broken)?;
        let protocol = |why: String| refused(FailureKind::Protocol, why);
        let text = text.ok_or_else(|| protocol("its answer is too long".into()))?;
        answer::data(&text).map_err(|why| protocol(http::words(&why)))
    }

    fn failed(&self, kind: FailureKind, why: &str) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = Some((kind, why.into()));
    }

    fn follows(&self, next: Next) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match next {
            Next::Again => Done::Retried,
            Next::GiveUp => Done::GaveUp,
        };
        if let Some((kind, why)) = failed.take() {
            self.record(kind, done, &why);
        }
    }

    fn record(&self, kind: FailureKind, done: Done, why: &str) {
        let attempt = self.attempt.load(Ordering::Relaxed);
        let node = self.chain.url.as_str();
        (self.chain.failures).record(Failure::now(node, "object", kind, attempt, done, why));
    }
}
