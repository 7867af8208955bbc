//! Questions to a full node, over GraphQL.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ObjectId;
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

/// Why the chain did not say.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChainError {
    /// Nobody to ask.
    #[error(
        "network profile `{0}` has no Sui endpoint; give one with --sui-rpc URL or as `sui` in the config file"
    )]
    NoEndpoint(String),
    /// Not a URL that can be used.
    #[error("`{url}` is not a Sui endpoint: {why}")]
    BadEndpoint {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not reachable, or failing, after all retries.
    #[error("the Sui node at {url} is unavailable: {why}")]
    Unavailable {
        /// Whom we asked.
        url: String,
        /// What happened.
        why: String,
    },
    /// It refused the question.
    #[error("the Sui node at {url} refused: {why}")]
    Refused {
        /// Whom we asked.
        url: String,
        /// Its words.
        why: String,
    },
    /// There is no such object.
    #[error("there is no object {0} on the chain; is it of another network?")]
    NoObject(ObjectId),
    /// The object is something else.
    #[error("object {id} is not {expected}: {why}")]
    NotThat {
        /// The object.
        id: ObjectId,
        /// What it should be.
        expected: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// An object as the chain shows it.
#[derive(Clone, Debug)]
pub struct MoveObject {
    /// Its ID.
    pub id: ObjectId,
    /// Its type, as `0xPACKAGE::module::Name`.
    pub kind: String,
    /// Its fields.
    pub fields: Value,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<Complaint>,
}

#[derive(Deserialize)]
struct Complaint {
    message: String,
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
        let answer: Answer = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("its answer is no GraphQL ({error})")))?;
        if let Some(complaint) = answer.errors.first() {
            return Err(refused(http::words(&complaint.message)));
        }
        answer
            .data
            .ok_or_else(|| refused("its answer is empty".into()))
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
            let found = data["multiGetObjects"].as_array();
            for (at, &id) in page.iter().enumerate() {
                let object = found.and_then(|found| found.get(at));
                let object = object.filter(|object| !object.is_null());
                let object = object.ok_or(ChainError::NoObject(id))?;
                let named = object["address"].as_str().and_then(|id| id.parse().ok());
                let contents = &object["asMoveObject"]["contents"];
                let kind = contents["type"]["repr"].as_str();
                match (named == Some(id), kind) {
                    (true, Some(kind)) => objects.push(MoveObject {
                        id,
                        kind: kind.into(),
                        fields: contents["json"].clone(),
                    }),
                    _ => {
                        return Err(ChainError::NotThat {
                            id,
                            expected: "a Move object",
                            why: "the node shows no fields of it".into(),
                        });
                    }
                }
            }
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
        let bad = |why: &str| ChainError::NotThat {
            id,
            expected: "a table of names",
            why: why.into(),
        };
        let mut entries = Vec::new();
        let mut after = Value::Null;
        for _ in 0..MAX_PAGES {
            let variables = json!({"id": id, "first": PAGE, "after": after});
            let data = self.ask(FIELDS, variables).await?;
            let fields = &data["address"]["dynamicFields"];
            for node in fields["nodes"].as_array().into_iter().flatten() {
                let name = node["name"]["json"].as_str();
                let value = super::objects::id_in(&node["value"]["json"]);
                match (name, value) {
                    (Some(name), Some(value)) => entries.push((name.into(), value)),
                    _ => return Err(bad("an entry has no name or leads to no object")),
                }
            }
            let page = &fields["pageInfo"];
            match (page["hasNextPage"].as_bool(), &page["endCursor"]) {
                (Some(true), next) if *next != after => after = next.clone(),
                _ => return Ok(entries),
            }
        }
        Err(bad("it has too many entries"))
    }
}
