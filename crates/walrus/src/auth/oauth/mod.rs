//! Sign-in with an OAuth issuer.
//!
//! Two flows, both for a public client (without its own secret): with a browser
//! (`code`: authorization code, PKCE, redirect to a port of this machine) and without
//! one (`device`: the user types a code on another device). Both return a [`super::Grant`],
//! which [`super::Session`] renews.
//!
//! The crate `oauth2` implements the exchanges (requests, answers and errors). They use
//! our own HTTP client (`issuer_client`), which follows no redirects, limits the size of
//! answers, and permits plain HTTP only to this machine. Discovery, which the crate
//! lacks, is in `issuer`.

mod code;
mod device;
mod issuer;
mod issuer_client;
mod tokens;

pub use code::{AuthorizationResponse, CodeFlow};
pub use device::{DeviceFlow, Verification};
pub use issuer::Issuer;
pub use tokens::{renew, revoke};
