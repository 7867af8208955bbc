//! Authentication to publishers.
//!
//! Reading needs no identity; writing to a network that charges for it does. A network
//! profile defines the method ([`crate::network::AuthMethod`]): none, an API key, a
//! token signed for every upload ([`UploadTokens`]), or a sign-in with an OAuth issuer
//! ([`oauth`]), which a [`Session`] renews. `login` stores the secret ([`SignIns`]), and
//! [`Credentials`] add the proof of identity to every upload ([`RequestCredentials`]).
//!
//! Guarantees for secrets:
//! - A secret is stored in the system keyring, or else in a sealed file readable only by
//!   its owner ([`secret_store`]); never in the config file, a log, an error, an argument
//!   or a report ([`Secret`] has no visible debug output, and serializes only for the
//!   secret store).
//! - It is sent only to the [`Origin`]s it was created for, and only encrypted or within
//!   this machine. It never follows a redirect, because our clients follow none.
//! - It is wiped from memory when dropped, and the process leaves no core dump
//!   ([`harden_process()`]). We cannot wipe the buffers of the HTTP and OAuth libraries that it
//!   passes through.
//!
//! Keys of encrypted repositories are stored here too ([`KeyStore`]): they grant read
//! access rather than identify the user, and get the same protection.
//!
//! May depend on: `net` (clients), `network` (the settings), `clock`.

mod credentials;
mod cryptography;
mod error;
mod grant;
mod key_store;
mod keyring;
pub mod oauth;
mod origin;
mod process_hardening;
mod sealed_file;
mod secret;
mod secret_store;
mod session;
mod signin;
mod signing;
mod upload;

pub use credentials::{Credentials, RequestCredentials};
pub use error::AuthError;
pub use grant::Grant;
pub use key_store::{KeyAddition, KeyStore, ReplacedKey};
pub use keyring::KeyringError;
pub use origin::{Origin, is_loopback, is_private};
pub use process_hardening::harden_process;
pub use secret::Secret;
pub use secret_store::{SecretLocation, SecretStoreError, StoredSecret};
pub use session::Session;
pub use signin::{SignIn, SignInSecret, SignIns};
pub use signing::{BadKey, SigningKey};
pub use upload::{Upload, UploadTokens};
