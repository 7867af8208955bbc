//! Who we are to a publisher.
//!
//! Reading needs no identity; writing to a network that charges for it does.
//! A network profile says how ([`crate::network::AuthMethod`]): not at all, by
//! an API key, by a token that we sign for every upload ([`UploadTokens`]), or
//! by signing in with an OAuth issuer ([`oauth`]), which a [`Session`] then
//! keeps fresh. `login` takes the secret and puts it away ([`SignIns`]), and
//! [`Credentials`] give every upload what goes with it ([`Proof`]).
//!
//! What is promised of a secret:
//! - it lies in the system keyring, else in a sealed file that nobody else can
//!   read ([`strongbox`]); never in the config file, a log, an error, an
//!   argument or a report ([`Secret`] shows itself to nobody, and serializes
//!   for the strongbox alone);
//! - it goes to the [`Origin`]s it was given for and to no other, encrypted or
//!   not off this machine at all, and never across a redirect, for our clients
//!   follow none;
//! - what is held is wiped when it is dropped, and the process leaves no core
//!   dump ([`harden`]). Buffers of the HTTP and OAuth libraries, through which
//!   it passes, are not ours to wipe.
//!
//! Keys of encrypted repositories are kept here too ([`KeyChest`]): they say
//! what we may read rather than who we are, and are kept just as carefully.
//!
//! May touch: `net`, for clients; the keys in `chunk`.

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
