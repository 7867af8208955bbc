//! WalGit objects on the Sui chain, decoded from responses of a full node.

pub mod answer;
mod error;
mod id;
pub mod objects;

pub use answer::MoveObject;
pub use error::ChainError;
pub use id::{ObjectId, ParseObjectIdError};
