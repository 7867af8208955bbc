//! Reads objects of the Sui chain over its GraphQL RPC.
//!
//! A WalGit repository may be an object on the chain that references its newest
//! commit. [`Chain`] requests objects; [`answer`](walgit_format::chain::answer)
//! decodes the responses, and [`objects`](walgit_format::chain::objects) defines the
//! two layouts of WalGit's objects. The `repo` module reads the content of a commit.
//!
//! The responses of a full node are trusted, because only the chain knows the current
//! commit of a branch. The content that a commit references is verified by hashes.
//!
//! May depend on: no other module.

mod graphql;

pub use graphql::{Chain, Reading};

use std::sync::Arc;
use std::time::Duration;

use walgit_format::chain::ChainError;
use walrus_client::net::Journal;
use walrus_client::network::Network;

/// Creates a client for the chain of a network profile, without connecting. Failures
/// are recorded in `journal`.
///
/// # Errors
/// [`ChainError::NoEndpoint`] if the profile has no full node.
pub fn open(
    network: &Network,
    deadline: Duration,
    journal: Option<Arc<Journal>>,
) -> Result<Arc<Chain>, ChainError> {
    match &network.sui {
        Some(url) => {
            let chain = Chain::new(url, deadline, &network.policy, journal)?;
            Ok(Arc::new(chain))
        }
        None => Err(ChainError::NoEndpoint(network.name.clone())),
    }
}
