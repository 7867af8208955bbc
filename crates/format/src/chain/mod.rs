//! WalGit objects on the Sui chain, decoded from responses of a full node.

pub mod answer;
mod error;
pub mod objects;

pub use crate::id::ObjectId;
pub use answer::MoveObject;
pub use error::ChainError;
