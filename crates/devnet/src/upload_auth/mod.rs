//! Authentication required for uploads.
//!
//! None, as at open publishers, or one of: an API key in a header, a token signed for
//! one upload, as the network's own publisher accepts it ([`upload_tokens`]), or an access
//! token of the issuer that this server contains ([`super::issuer`]). Reads need no
//! authentication.

mod authenticate;
mod required_auth;
mod upload_tokens;

pub(super) use authenticate::{authenticate, bearer};
pub use required_auth::RequiredAuth;
pub(super) use required_auth::UploadAuth;
