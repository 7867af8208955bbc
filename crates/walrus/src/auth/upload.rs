//! One token per upload.
//!
//! A publisher of the network accepts a token once: it remembers the `jti` until the
//! token expires. So each upload, and each retry, gets its own token, which is valid
//! only for this upload: its size, its epochs, and the owner of the object.

use serde::Serialize;

use super::{AuthError, Secret, SigningKey};
use crate::clock::unix_seconds;
use crate::network::{DEFAULT_UPLOAD_TOKEN_S, JwtProfile};

/// Properties of an upload that a token contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Size in bytes.
    pub size: u64,
    /// Number of epochs to store it for.
    pub epochs: u32,
}

/// Creates tokens for uploads.
#[derive(Clone, Debug)]
pub struct UploadTokens {
    key: SigningKey,
    profile: JwtProfile,
}

#[derive(Serialize)]
struct Claims<'a> {
    iat: u64,
    exp: u64,
    jti: &'a str,
    max_size: u64,
    max_epochs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_object_to: Option<&'a str>,
}

impl UploadTokens {
    /// Creates tokens signed with the publisher's key, given in the format of its file.
    pub fn new(file: &Secret, profile: &JwtProfile) -> Result<Self, AuthError> {
        Ok(UploadTokens {
            key: SigningKey::parse(profile.algorithm, file.expose().as_bytes())?,
            profile: profile.clone(),
        })
    }

    /// Lifetime of a token, in seconds.
    pub fn lifetime_s(&self) -> u64 {
        self.profile.lifetime_s.unwrap_or(DEFAULT_UPLOAD_TOKEN_S)
    }

    /// Address that receives the object; the request must contain it as well.
    pub fn send_object_to(&self) -> Option<&str> {
        self.profile.send_object_to.as_deref()
    }

    /// Creates a token for an upload that begins now.
    pub fn mint(&self, upload: &Upload) -> Result<Secret, AuthError> {
        let iat = unix_seconds();
        let jti = Secret::random()?;
        Ok(self.key.sign(&Claims {
            iat,
            exp: iat + self.lifetime_s(),
            jti: jti.expose(),
            max_size: upload.size,
            max_epochs: upload.epochs,
            send_object_to: self.send_object_to(),
        })?)
    }
}
