//! The storage format of a WalGit repository: encode, decode, verify.
//!
//! A published repository is a Merkle DAG. Its root is a [`Head`] (commits,
//! branches, tags). A commit refers to a root [`Directory`]; directories refer to
//! directories and to the chunks of files. Every reference carries the BLAKE3-256 of its
//! target, so the hash of the head verifies every byte below it, no matter which server
//! sends it. `contrib/FORMAT.md` specifies the byte layouts.
//!
//! The crate is pure: no I/O, no threads, no async runtime. Every decoder has a
//! [budget](chunk::Budget) of memory that derives from the size of its input; an input that
//! needs more is an error.
//!
//! May depend on: no other crate of this workspace.
//!
//! ```
//! use walgit_format::chunk::{BlobId, Chunk, Location, encode_chunk};
//!
//! let plain = "a line that repeats\n".repeat(100).into_bytes();
//! let sealed = encode_chunk(&plain, 3);
//! let location = Location {
//!     blob: BlobId::from_bytes([7; 32]),
//!     offset: 0,
//! };
//! let reference = Chunk::encoded(&plain, &sealed, location);
//! assert_eq!(reference.open(sealed.bytes.into(), &[]).unwrap(), plain);
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod address;
pub mod archive;
mod attachment;
pub mod blob;
pub mod chain;
pub mod chunk;
pub mod commits;
pub mod directory;
pub mod encode;
pub mod git;
pub mod guard;
pub mod head;
pub mod id;
pub mod list;
pub mod malformed;
pub mod manifest;
pub mod names;
pub mod prior;

pub mod table;
pub mod text;
pub mod wire;

pub use address::{Address, ParseAddressError};
pub use attachment::{Attachment, AttachmentKind};
pub use chunk::{PlannedChunk, PlannedLocation};
pub use directory::{Content, Directory, Entry, Kind};
pub use encode::EncodeError;
pub use head::{Commit, Head, Ref, RefKind};
pub use id::{CommitId, GitId, ObjectId};
pub use list::ChunkList;
pub use malformed::MalformedNode;
pub use prior::Prior;
