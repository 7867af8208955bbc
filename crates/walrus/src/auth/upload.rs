//! A token for every upload.
//!
//! A publisher of the network takes a token once: it remembers its `jti` until
//! it has ended. So each upload, and each new attempt at one, gets a token of
//! its own, which is good for exactly this upload: its size, its epochs, and
//! whose the object will be.

use serde::Serialize;

use super::{AuthError, Secret, SigningKey};
use crate::clock::unix_seconds;
use crate::network::{DEFAULT_UPLOAD_TOKEN_S, JwtProfile};

/// An upload, as far as a token speaks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its size in bytes.
    pub size: u64,
    /// For how many epochs it is to be stored.
    pub epochs: u32,
}

/// Makes tokens for uploads.
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
    /// Tokens signed with the publisher's key, as its file has it.
    ///
    /// # Errors
    /// When it is none for the profile's algorithm.
    pub fn new(file: &Secret, profile: &JwtProfile) -> Result<Self, AuthError> {
        Ok(UploadTokens {
            key: SigningKey::parse(profile.algorithm, file.expose().as_bytes())?,
            profile: profile.clone(),
        })
    }

    /// How long a token is good for, in seconds.
    pub fn lifetime_s(&self) -> u64 {
        self.profile.lifetime_s.unwrap_or(DEFAULT_UPLOAD_TOKEN_S)
    }

    /// The address that gets the object, which the request must name too.
    pub fn send_object_to(&self) -> Option<&str> {
        self.profile.send_object_to.as_deref()
    }

    /// A token for an upload that begins now.
    ///
    /// # Errors
    /// When the system has no random numbers.
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
