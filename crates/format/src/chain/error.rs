//! Why the chain did not say.

use super::ObjectId;

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
    /// Its answers are longer, or more, than those of any repository.
    #[error("the Sui node at {url} gives more than is taken: {what}")]
    TooMuch {
        /// Whom we asked.
        url: String,
        /// What is too much.
        what: String,
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
