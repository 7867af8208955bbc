//! The Sui chain: objects, read over its GraphQL RPC.
//!
//! A WalGit repository may be an object on the chain that says which commit is
//! its newest. This room knows how to ask for objects ([`Chain`]), how to read
//! what comes back ([`answer`]) and what the two layouts of WalGit's objects
//! mean ([`objects`]); what a commit holds is for `repo` to read.
//!
//! What a full node answers is taken at its word: only the chain says which
//! commit a branch is at. The content that leads to is verified by hashes.
//!
//! May touch: `net`, and the names in `chunk`.

mod graphql;

pub use graphql::{Chain, Reading};

use std::sync::Arc;
use std::time::Duration;

use walgit_format::chain::ChainError;
use walrus_client::net::Journal;
use walrus_client::network::Network;

/// Opens the chain of a network profile; connects to nothing yet. What goes
/// wrong is kept in `journal`.
///
/// # Errors
/// [`ChainError::NoEndpoint`] where the profile names nobody to ask.
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
