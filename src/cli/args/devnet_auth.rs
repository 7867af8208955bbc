//! `devnet --require`: authentication of uploads.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::http::HeaderName;
use clap::{Args, ValueEnum};
use jsonwebtoken::Algorithm;

use crate::cli::secrets;
use walrus_client::auth::SigningKey;
use walrus_client::network::DEFAULT_API_KEY_HEADER;
use walrus_devnet::RequiredAuth;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AuthKind {
    /// API key in a header
    ApiKey,
    /// Token signed for each upload, as accepted by publishers of the network
    Jwt,
    /// Access token of the OAuth issuer built into the server
    Oauth,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DevnetAuth {
    /// Require this authentication for uploads
    #[arg(long, value_enum)]
    require: Option<AuthKind>,
    /// File with the key for --require api-key
    #[arg(long, value_name = "FILE", required_if_eq("require", "api-key"))]
    api_key_file: Option<PathBuf>,
    /// Header that carries the key
    #[arg(long, value_name = "NAME", default_value = DEFAULT_API_KEY_HEADER)]
    api_key_header: HeaderName,
    /// Signing key of tokens for --require jwt: a shared secret (text, 0x… or base64:…)
    /// or a private key (PEM)
    #[arg(long, value_name = "FILE", required_if_eq("require", "jwt"))]
    jwt_secret_file: Option<PathBuf>,
    /// Signature algorithm: HS256, ES256, RS256, PS256, EdDSA, …
    #[arg(long, value_name = "NAME", default_value = "HS256")]
    jwt_algorithm: Algorithm,
    /// Required value of exp - iat, in seconds [default: any]
    #[arg(long, value_name = "N")]
    jwt_expiring_s: Option<u64>,
    /// Lifetime of access tokens for --require oauth, in seconds
    #[arg(long, value_name = "N", default_value_t = 3600)]
    oauth_lifetime_s: u64,
}

impl DevnetAuth {
    /// The `auth` section of a profile that signs in here; `URL` stands for the server's
    /// URL.
    pub(in crate::cli) fn section(&self) -> Option<String> {
        self.require.map(|kind| match kind {
            AuthKind::ApiKey => {
                format!("method = \"api_key\", header = \"{}\"", self.api_key_header)
            }
            AuthKind::Jwt => format!("method = \"jwt\", algorithm = \"{:?}\"", self.jwt_algorithm),
            AuthKind::Oauth => "method = \"oauth\", issuer = \"URL\"".into(),
        })
    }

    pub(in crate::cli) fn load(self) -> Result<RequiredAuth> {
        let Some(kind) = self.require else {
            return Ok(RequiredAuth::Nothing);
        };
        Ok(match kind {
            AuthKind::ApiKey => RequiredAuth::ApiKey {
                header: self.api_key_header,
                key: secrets::from_file(&self.api_key_file.unwrap_or_default())?,
            },
            AuthKind::Jwt => {
                let path = self.jwt_secret_file.unwrap_or_default();
                let secret = secrets::from_file(&path)?;
                let key = SigningKey::parse(self.jwt_algorithm, secret.expose().as_bytes());
                RequiredAuth::Jwt {
                    key: key.with_context(|| path.display().to_string())?,
                    expiring_s: self.jwt_expiring_s,
                }
            }
            AuthKind::Oauth => RequiredAuth::Oauth {
                lifetime: Duration::from_secs(self.oauth_lifetime_s),
            },
        })
    }
}
