//! How one proves who one is to a network's publishers: the section
//! `[networks.NAME.auth]`.
//!
//! ```toml
//! [networks.mine.auth]
//! method = "api_key"
//! header = "x-api-key"            # the default
//!
//! [networks.theirs.auth]
//! method = "jwt"
//! algorithm = "HS256"             # the default; HS, ES, RS, PS and EdDSA
//! lifetime_s = 60                 # exp - iat; some publishers demand a figure
//! send_object_to = "0x…"          # who gets the objects of what is stored
//!
//! [networks.ours.auth]
//! method = "oauth"
//! issuer = "https://id.example"   # its discovery document tells the rest
//! client_id = "walgit-fs"
//! scopes = ["publish"]
//! ```
//!
//! No secret is ever in here: `walgit-fs login` takes it and puts it away.

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

/// Header of an API key where none is set.
pub const DEFAULT_API_KEY_HEADER: &str = "x-api-key";
/// How long an upload token is good for where nothing is set, in seconds: it
/// is looked at when an upload begins, so clocks that differ are what it has to
/// bridge.
pub const DEFAULT_UPLOAD_TOKEN_S: u64 = 60;
/// How long before its end an access token is renewed, in seconds.
pub const DEFAULT_REFRESH_BEFORE_S: u64 = 300;
/// What we call ourselves to an issuer where nothing is set.
const DEFAULT_CLIENT_ID: &str = "walgit-fs";

/// How to prove who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthMethod {
    /// Not at all.
    #[default]
    None,
    /// A key in a header of every upload.
    ApiKey {
        /// The header's name.
        #[serde(default = "api_key_header")]
        header: String,
    },
    /// A token for every upload, signed with the publisher's key.
    Jwt(JwtProfile),
    /// A sign-in with an OAuth issuer.
    Oauth(OauthProfile),
}

fn api_key_header() -> String {
    DEFAULT_API_KEY_HEADER.into()
}

impl AuthMethod {
    /// Its name, as in the config file.
    pub fn name(&self) -> &'static str {
        match self {
            AuthMethod::None => "none",
            AuthMethod::ApiKey { .. } => "api_key",
            AuthMethod::Jwt(_) => "jwt",
            AuthMethod::Oauth(_) => "oauth",
        }
    }
}

/// How upload tokens are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtProfile {
    /// How they are signed.
    pub algorithm: Algorithm,
    /// How long one is good for, in seconds; `None` for
    /// [`DEFAULT_UPLOAD_TOKEN_S`].
    pub lifetime_s: Option<u64>,
    /// The address that gets the objects of what is stored.
    pub send_object_to: Option<String>,
}

/// How one signs in with an OAuth issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthProfile {
    /// URL of the issuer.
    pub issuer: String,
    /// What we are called there.
    #[serde(default = "client_id")]
    pub client_id: String,
    /// What to ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// How long before its end an access token is renewed, in seconds;
    /// `None` for [`DEFAULT_REFRESH_BEFORE_S`].
    pub refresh_before_s: Option<u64>,
    /// Where to sign in. With this, no discovery document is asked for.
    pub authorization_endpoint: Option<String>,
    /// Where tokens come from.
    pub token_endpoint: Option<String>,
    /// Where to begin a sign-in without a browser.
    pub device_authorization_endpoint: Option<String>,
    /// Where tokens are given back.
    pub revocation_endpoint: Option<String>,
}

fn client_id() -> String {
    DEFAULT_CLIENT_ID.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_and_a_wrong_word_in_it_refused() {
        let read = |text: &str| toml::from_str::<AuthMethod>(text);
        let key = read("method = \"api_key\"").unwrap();
        assert_eq!(
            key,
            AuthMethod::ApiKey {
                header: "x-api-key".into()
            }
        );
        let jwt = read("method = \"jwt\"\nalgorithm = \"EdDSA\"").unwrap();
        let AuthMethod::Jwt(jwt) = jwt else {
            panic!("{jwt:?}")
        };
        assert_eq!(jwt.algorithm, Algorithm::EdDSA);
        let oauth = read("method = \"oauth\"\nissuer = \"https://id.example\"").unwrap();
        assert_eq!(oauth.name(), "oauth");
        for wrong in [
            "method = \"magic\"",
            "method = \"api_key\"\nkey = \"hunter2\"",
            "method = \"jwt\"\nsecret = \"hunter2\"",
            "method = \"jwt\"\nalgorithm = \"none\"",
            "method = \"oauth\"",
            "method = \"oauth\"\nissuer = \"https://id.example\"\nclient_secret = \"x\"",
        ] {
            let error = read(wrong).expect_err(wrong);
            // All that is told of a config file.
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }
}
