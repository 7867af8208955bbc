//! Authentication to a network's publishers: the section `[networks.NAME.auth]`.
//!
//! ```toml
//! [networks.mine.auth]
//! method = "api_key"
//! header = "x-api-key"            # the default
//!
//! [networks.theirs.auth]
//! method = "jwt"
//! algorithm = "HS256"             # the default; HS, ES, RS, PS and EdDSA
//! lifetime_s = 60                 # exp - iat; some publishers require a value
//! send_object_to = "0x…"          # receives the objects of stored blobs
//!
//! [networks.ours.auth]
//! method = "oauth"
//! issuer = "https://id.example"   # its discovery document has the rest
//! client_id = "walgit-fs"
//! scopes = ["publish"]
//! ```
//!
//! The section never contains a secret: `walgit-fs login` stores it separately.

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

/// Default header of an API key.
pub const DEFAULT_API_KEY_HEADER: &str = "x-api-key";
/// Default lifetime of an upload token, in seconds. A token is checked when an upload
/// begins, so it only needs to cover clock differences.
pub const DEFAULT_UPLOAD_TOKEN_S: u64 = 60;
/// Default time before expiry at which an access token is renewed, in seconds.
pub const DEFAULT_REFRESH_BEFORE_S: u64 = 300;
/// Default client ID at an issuer.
const DEFAULT_CLIENT_ID: &str = "walgit-fs";

/// Authentication method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthMethod {
    /// No authentication.
    #[default]
    None,
    /// An API key in a header of every upload.
    ApiKey {
        /// Name of the header.
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
    /// Name of the method in the config file.
    pub fn name(&self) -> &'static str {
        match self {
            AuthMethod::None => "none",
            AuthMethod::ApiKey { .. } => "api_key",
            AuthMethod::Jwt(_) => "jwt",
            AuthMethod::Oauth(_) => "oauth",
        }
    }
}

/// Settings of upload tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtProfile {
    /// Signature algorithm.
    pub algorithm: Algorithm,
    /// Lifetime in seconds; `None` for [`DEFAULT_UPLOAD_TOKEN_S`].
    pub lifetime_s: Option<u64>,
    /// Address that receives the objects of stored blobs.
    pub send_object_to: Option<String>,
}

/// Settings of a sign-in with an OAuth issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthProfile {
    /// URL of the issuer.
    pub issuer: String,
    /// Our client ID at the issuer.
    #[serde(default = "client_id")]
    pub client_id: String,
    /// Scopes to request.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Time before expiry at which an access token is renewed, in seconds; `None` for
    /// [`DEFAULT_REFRESH_BEFORE_S`].
    pub refresh_before_s: Option<u64>,
    /// URL of the sign-in. If set, no discovery document is fetched.
    pub authorization_endpoint: Option<String>,
    /// URL that issues tokens.
    pub token_endpoint: Option<String>,
    /// URL to begin a sign-in without a browser.
    pub device_authorization_endpoint: Option<String>,
    /// URL to revoke tokens.
    pub revocation_endpoint: Option<String>,
}

fn client_id() -> String {
    DEFAULT_CLIENT_ID.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_parsed_and_an_unknown_key_refused() {
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
            // This message is the only part of a config file that is shown.
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }
}
