//! Who we are to a publisher.
//!
//! Reading needs no identity; writing to a network that charges for it does.
//! So far there is a bearer token; signing in (OAuth), tokens minted per
//! upload (JWT), refresh and the system keyring will live here too, one file
//! each. Whatever the kind, a secret is sent to publishers only, and never in
//! the clear beyond this machine.
//!
//! Keys of encrypted repositories are kept here too ([`KeyChest`]): they say
//! what we may read rather than who we are, and are kept just as carefully.
//!
//! May touch: the keys in `chunk`.

mod chest;

pub use chest::{ChestError, Kept, KeyChest};

use std::fmt;

/// A value that never shows itself in logs, errors or debug output.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: String) -> Self {
        Secret(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How to prove who we are.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
}

/// A secret would have crossed the network in the clear.
#[derive(Debug, thiserror::Error)]
#[error("credentials are not sent over plain HTTP to {0}; use https")]
pub struct Unencrypted(String);

impl Credentials {
    /// The value of the `Authorization` header for a request to `host`.
    ///
    /// # Errors
    /// When there is one and the connection is neither encrypted nor local.
    pub fn authorization(&self, host: &str, https: bool) -> Result<Option<String>, Unencrypted> {
        match self {
            Credentials::None => Ok(None),
            Credentials::Bearer(_) if !https && !is_loopback(host) => Err(Unencrypted(host.into())),
            Credentials::Bearer(Secret(token)) => Ok(Some(format!("Bearer {token}"))),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_neither_shown_nor_sent_in_the_clear() {
        let bearer = Credentials::Bearer(Secret::new("hunter2".into()));
        assert!(!format!("{bearer:?}").contains("hunter2"));
        assert!(bearer.authorization("publisher.example", false).is_err());
        for local in ["127.0.0.1", "[::1]", "localhost"] {
            assert!(bearer.authorization(local, false).unwrap().is_some());
        }
        assert!(bearer.authorization("publisher.example", true).is_ok());
        assert!(matches!(
            Credentials::None.authorization("publisher.example", false),
            Ok(None)
        ));
    }
}
