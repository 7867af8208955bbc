//! Repository names in the local store: one small file per name, replaced atomically,
//! and a history of earlier values per name.
//!
//! The history only lists earlier heads: it does not protect them from garbage
//! collection.

mod store;
mod value;

pub use store::RefStore;
pub use value::{Expected, Generation, ListedRef, NamedRef, PastRef, RefStoreError};
