//! The Walrus encoding, computed locally: blob IDs, quilts, billed sizes. The crate is
//! pure: no network, no async runtime.
//!
//! May depend on: `walgit_format`.
//!
//! ```
//! use walrus_encoding::blob_id::blob_id;
//! use walrus_encoding::cost::encoded_size;
//!
//! let body = b"hello, walrus";
//! println!("{}: billed as {} bytes", blob_id(body)?, encoded_size(body.len() as u64));
//! # Ok::<(), walrus_encoding::blob_id::BlobIdError>(())
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod blob_id;
pub mod cost;
pub mod quilt;

pub use cost::Price;
