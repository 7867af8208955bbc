//! Arguments that several commands share, or that need code of their own.

mod devnet_auth;
mod keys;

pub(super) use devnet_auth::DevnetAuth;
pub(super) use keys::{Keys, parse_key, read_key, stored_keys, warn_of_key_file};
