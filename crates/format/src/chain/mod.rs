//! Objects of WalGit on the Sui chain, decoded from answers of a full node.

pub mod answer;
mod error;
mod id;
pub mod objects;

pub use answer::MoveObject;
pub use error::ChainError;
pub use id::{ObjectId, ParseObjectIdError};
