//! Reads a repository: addresses, refs, commits, directories and chunk lists.
//! [`Snapshot`] is the only interface to its content.
//!
//! A published repository is a Merkle DAG. Its top node is a
//! [`Head`](walgit_format::Head) (commits, branches, tags). A commit references a
//! root [`Directory`](walgit_format::Directory); directories reference directories
//! and chunks of content. Every reference carries the BLAKE3-256 of its target, so
//! the hash of the head is enough to verify every byte below it, regardless of the
//! server. `contrib/FORMAT.md` specifies the byte layouts.
//!
//! Reading goes through three types:
//! - [`Loader`], one per process: decoded directories and lists, kept in memory
//!   within a budget, on top of the [`crate::cache::Cache`] of chunks;
//! - [`Repository`], one per address: the head, and the store of its blobs;
//! - [`Snapshot`], one per commit: nodes by number or by name, and their content.
//!
//! The number of a node ([`NodeIndex`]) is its position in a preorder walk of the
//! tree, so no table of numbers exists: [`Snapshot::node`] finds a node by descending
//! from the root, with a binary search in each directory.
//!
//! The same three types read the formats of WalGit's own tools: manifests with one
//! blob per file ([`manifest`](walgit_format::manifest)) and objects on the chain.
//! These have no directories to fetch; the directories are derived from the paths and
//! kept in memory.
//!
//! The same types also read an encrypted repository, through a store that decrypts
//! its blobs ([`walrus_client::EncryptedStore`]). The `blob_access` module finds the key
//! that decrypts the head.
//!
//! [`Source`] is the location of a repository, [`Target`] the head or commit that it
//! currently resolves to.
//!
//! All reads are `async` and complete at the first poll if everything needed is in
//! memory or on disk. The driver relies on this to answer cache hits on the thread
//! that received the request.
//!
//! May depend on: `cache`, `chain`, `offload`.

mod access;
mod account;
pub mod archive;
mod attachments;
mod blob_access;
mod content;
mod decoded;
mod derived_tree;
mod diverges;
mod error;
mod lineage;
mod loader;
mod open;
mod pending_fetch;
pub mod refs;
mod repository;
mod residency;
mod resolve;
mod scan;
mod snapshot;
mod succession;
mod sui_tree;
mod weighted_lru;

pub use access::{Access, Located, SiblingRef, Source, Target};
pub use account::{Charge, MOUNT_MEMORY_BYTES, MemoryAccount, MemoryStats};
pub use derived_tree::MAX_DEPTH;
pub use diverges::Diverges;
pub use error::RepoError;
pub use loader::{Loader, LoaderConfig};
pub use pending_fetch::PendingFetch;
pub use repository::Repository;
pub use residency::{CachedShare, FileParts, Tier};
pub use resolve::MAX_ANCESTORS;
pub use scan::ScanRange;
pub use snapshot::{NEIGHBOUR_BYTES, Node, NodeIndex, Snapshot, same_content};
pub use succession::{Lineage, PublishedFolder, Tag, described};
pub(crate) use weighted_lru::WeightedLru;
