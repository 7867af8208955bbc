//! Embedded Walrus: a real HTTP server over a directory of blobs.
//!
//! It implements the network's API (aggregator and publisher; the project's tests
//! contain both descriptions): true blob IDs, the same formats of responses and errors, the
//! same limits. Tests, benchmarks and offline users use it. It is indistinguishable from the
//! network, so the client contains no mock.
//!
//! A request passes the [`link`] and the [`faults`] ([`traffic`]), then the authentication of
//! uploads ([`upload_auth`]); the [`admin`] API and the on-chain functions ([`epochs`]) pass
//! neither.
//!
//! Where the descriptions and the network differ, or leave something open, this crate
//! decides and tests the behavior: the answer to a body over the limit, or to too many
//! requests, is plain text; an invalid query is a 400 in JSON; a member of a quilt is
//! always returned whole.
//!
//! An epoch ends only on an [`admin`] request, not by a clock.
//!
//! `examples/http_store.rs` starts a server and uses it.
//!
//! May depend on: `walrus_client`, `walrus_encoding`, `walgit_format`, `walgit_durable`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod admin;
mod concat;
mod connection;
mod epochs;
mod errors;
mod faults;
mod issuer;
mod link;
mod objects;
mod params;
mod peer_uid;
mod quilts;
mod reading;
mod server;
mod state;
mod storing;
mod traffic;
mod upload_auth;

pub use faults::{BadFault, Fault};
pub use server::{Devnet, DevnetError, serve};
pub use state::{DEFAULT_MAX_QUILT_BYTES, DevnetConfig, RequestLog};
pub use upload_auth::RequiredAuth;
