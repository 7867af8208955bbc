//! A repository as data: addresses, refs, commits, directories, chunk lists;
//! the format's encoder and decoder; and [`Snapshot`], the one way to read.
//!
//! A published repository is a Merkle DAG. At its top stands a [`Head`]
//! (commits, branches, tags); a commit leads to a root [`Directory`],
//! directories lead to directories and to chunks of content. Every reference
//! carries the BLAKE3-256 of what it points at, so whoever knows the hash of
//! the head can verify every byte below it, no matter who serves it. Byte
//! layouts are told in `contrib/FORMAT.md`.
//!
//! Reading goes through three types:
//! - [`Loader`], one a process: decoded directories and lists, kept in memory
//!   within a budget, over the [`crate::cache::Cache`] of chunks;
//! - [`Repository`], one an address: the head, and where its blobs are stored;
//! - [`Snapshot`], one a commit: nodes by number or by name, and their content.
//!
//! A node's number ([`NodeIndex`]) is its place in a preorder walk of the
//! tree, so no table of numbers exists: [`Snapshot::node`] finds a node by
//! walking down from the root, a binary search in each directory.
//!
//! What WalGit's own tools keep, manifests of one blob a file ([`manifest`]) or
//! objects on the chain, is read by the same three types: it has no directories
//! that could be fetched, so they are implied by its paths and kept in memory.
//!
//! An encrypted repository is read by them through a store that opens its blobs
//! ([`walrus_client::PrivateStore`]); which key fits is found by its head
//! (`private`).
//!
//! [`Source`] is where a repository is, [`Target`] what that leads to at present.
//!
//! All reading is `async` and completes at its first poll when everything
//! needed is in memory or on disk; the driver relies on that to answer hits on
//! the thread that asked.
//!
//! May touch: `cache`, `chain`, `walrus`, `chunk`.

mod access;
mod account;
mod ahead;
pub mod archive;
mod coming;
mod content;
mod decoded;
mod diverges;
mod error;
mod implied;
mod kept;
mod lineage;
mod loader;
mod objects;
mod open;
mod private;
pub mod refs;
mod repository;
mod snapshot;
mod stored;
mod succession;

pub use access::{Access, Located, Relative, Source, Target};
pub use account::{Account, Charge, MOUNT, MemoryStats};
pub use ahead::Stretch;
pub use coming::Coming;
pub use diverges::Diverges;
pub use error::RepoError;
pub(crate) use kept::Kept;
pub use loader::{Loader, LoaderConfig};
pub use repository::{MAX_ANCESTORS, Repository};
pub use snapshot::{MAX_DEPTH, NEIGHBOURS, Node, NodeIndex, Snapshot, same_content};
pub use stored::{FileParts, Held, Tier};
pub use succession::{Folder, Lineage, Tag, described};
