//! Errors of reading objects on the chain.

use crate::id::ObjectId;

/// An error of reading objects on the chain.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChainError {
    /// No endpoint is configured.
    #[error(
        "network profile `{0}` has no Sui endpoint; give one with --sui-rpc URL or as `sui` in the config file"
    )]
    NoEndpoint(String),
    /// A URL that cannot be used.
    #[error("`{url}` is not a Sui endpoint: {why}")]
    BadEndpoint {
        /// The configured URL.
        url: String,
        /// Reason of the rejection.
        why: String,
    },
    /// Unreachable, or failing after all retries.
    #[error("the Sui node at {url} is unavailable: {why}")]
    Unavailable {
        /// URL of the node.
        url: String,
        /// The last error.
        why: String,
    },
    /// The node rejected the request.
    #[error("the Sui node at {url} refused: {why}")]
    Refused {
        /// URL of the node.
        url: String,
        /// Error message of the node.
        why: String,
    },
    /// The responses are longer, or more, than for any real repository.
    #[error("a response of the Sui node at {url} exceeds a limit: {what}")]
    TooMuch {
        /// URL of the node.
        url: String,
        /// The limit that was exceeded.
        what: String,
    },
    /// The object does not exist.
    #[error("object {0} does not exist on the chain; check the network")]
    NoObject(ObjectId),
    /// The object has a different type.
    #[error("object {id} is not {expected}: {why}")]
    NotThat {
        /// The object.
        id: ObjectId,
        /// The expected type.
        expected: &'static str,
        /// Reason of the mismatch.
        why: String,
    },
}
