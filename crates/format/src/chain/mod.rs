//! WalGit objects on the Sui chain, decoded from responses of a full node.

pub mod answer;
mod error;
mod move_object;
pub mod objects;

pub use crate::id::ObjectId;

pub use error::ChainError;
pub use move_object::MoveObject;
