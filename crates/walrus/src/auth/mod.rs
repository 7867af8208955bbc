//! Authentication to publishers.
//!
//! Reading needs no identity; writing to a network that charges for it does. A network
//! profile defines the method ([`crate::network::AuthMethod`]): none, an API key, a
//! token signed for every upload ([`UploadTokens`]), or a sign-in with an OAuth issuer
//! ([`oauth`]), which a [`Session`] renews. `login` stores the secret ([`SignIns`]), and
//! [`Credentials`] add the proof of identity to every upload ([`Proof`]).
//!
//! Guarantees for secrets:
//! - A secret is stored in the system keyring, or else in a sealed file readable only by
//!   its owner ([`strongbox`]); never in the config file, a log, an error, an argument
//!   or a report ([`Secret`] has no visible debug output, and serializes only for the
//!   strongbox).
//! - It is sent only to the [`Origin`]s it was created for, and only encrypted or within
//!   this machine. It never follows a redirect, because our clients follow none.
//! - It is wiped from memory when dropped, and the process leaves no core dump
//!   ([`harden()`]). We cannot wipe the buffers of the HTTP and OAuth libraries that it
//!   passes through.
//!
//! Keys of encrypted repositories are stored here too ([`KeyChest`]): they grant read
//! access rather than identify the user, and get the same protection.
//!
//! Allowed dependencies: `net`, for clients; the keys in `chunk`.

mod chest;
mod credentials;
mod cryptography;
mod error;
mod grant;
mod harden;
mod keyring;
pub mod oauth;
mod origin;
mod sealed;
mod secret;
mod session;
mod signin;
mod signing;
pub mod strongbox;
mod upload;

pub use chest::{Added, KeyChest, Replaced};
pub use credentials::{Credentials, Proof};
pub use error::AuthError;
pub use grant::Grant;
pub use harden::harden;
pub use keyring::KeyringError;
pub use origin::{Origin, is_loopback, is_private};
pub use secret::Secret;
pub use session::Session;
pub use signin::{Held, SignIn, SignIns};
pub use signing::{BadKey, SigningKey};
pub use strongbox::{ChestError, Kept, Stored};
pub use upload::{Upload, UploadTokens};
