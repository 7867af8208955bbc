//! Questions to a full node, over GraphQL.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use super::{ChainError, MoveObject, ObjectId, answer};
use crate::config::NetPolicy;
use crate::net::{Retry, Verdict, attempts, http};

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
}

impl Chain {
    /// A node at this URL; every question ends within `deadline`, and is asked
    /// as `policy` says. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ChainError::BadEndpoint`].
    pub fn new(url: &str, deadline: Duration, policy: &NetPolicy) -> Result<Self, ChainError> {
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
        })
    }

    async fn ask(&self, query: &str, variables: Value) -> Result<Value, ChainError> {
        let body = json!({"query": query, "variables": variables});
        let url = self.url.to_string();
        let timed_out = |deadline: Duration| ChainError::Unavailable {
            url: url.clone(),
            why: format!("no answer within {} s", deadline.as_secs_f64()),
        };
        attempts(&self.retry, timed_out, |_| self.ask_once(&body)).await
    }

    async fn ask_once(&self, body: &Value) -> Result<Value, Verdict<ChainError>> {
        let unavailable = |why: String| ChainError::Unavailable {
            url: self.url.to_string(),
            why,
        };
        let refused = |why: String| {
            let url = self.url.to_string();
            Verdict::Final(ChainError::Refused { url, why })
        };
        let broken =
            |error: reqwest::Error| Verdict::MayHeal(unavailable(http::cause(&error)), None);
        let sent = self.client.post(self.url.clone()).json(body).send().await;
        let response = sent.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let heals = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            return Err(match heals {
                true => Verdict::MayHeal(unavailable(status.to_string()), None),
                false => refused(status.to_string()),
            });
        }
        let text = http::body(response, MAX_ANSWER).await.map_err(broken)?;
        let text = text.ok_or_else(|| refused("its answer is too long".into()))?;
        answer::data(&text).map_err(|why| refused(http::words(&why)))
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
