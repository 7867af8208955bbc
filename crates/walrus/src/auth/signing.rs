//! Signing with a publisher's key.
//!
//! The key has the same format as for the publisher: a shared secret for HS256, HS384
//! and HS512, a private key (PEM, PKCS #8 or PKCS #1) for the other algorithms.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header};
use ring::signature::KeyPair as _;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use zeroize::{Zeroize as _, Zeroizing};

use super::Secret;
use super::cryptography::{KeyPair, install};

/// Reason that a key cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The messages name the fields.
pub enum BadKey {
    #[error("the key is empty")]
    Empty,
    /// `0x…` or `base64:…` with invalid content.
    #[error("{0} must be followed by {1}")]
    Encoding(&'static str, &'static str),
    /// A private key instead of a secret, or the reverse.
    #[error(
        "{algorithm:?} needs {needs}; choose another `algorithm` in the network's auth section"
    )]
    Kind {
        algorithm: Algorithm,
        needs: &'static str,
    },
    #[error(
        "not a private key for {0:?} (PEM, PKCS #8); openssl pkcs8 -topk8 -nocrypt makes one of other forms"
    )]
    Private(Algorithm),
    #[error("the key does not sign")]
    Signing,
}

/// Key that signs the tokens of a publisher.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?}, …)", self.algorithm)
    }
}

impl SigningKey {
    /// Parses a key file. A shared secret is read as the network's publisher reads it:
    /// `0x…` is hexadecimal, anything else is literal text. In addition, `base64:…` is
    /// base64, because many secrets are stored that way.
    pub fn parse(algorithm: Algorithm, file: &[u8]) -> Result<Self, BadKey> {
        let text = file.trim_ascii();
        if text.is_empty() {
            return Err(BadKey::Empty);
        }
        let pem = text.starts_with(b"-----BEGIN ");
        let hmac = family(algorithm) == AlgorithmFamily::Hmac;
        let key = match (hmac, pem) {
            (true, false) => EncodingKey::from_secret(&shared_secret(text)?),
            (false, true) => private_key(algorithm, text)?,
            (true, true) => {
                let needs = "a shared secret, and this is a private key";
                return Err(BadKey::Kind { algorithm, needs });
            }
            (false, false) => {
                let needs = "a private key in PEM";
                return Err(BadKey::Kind { algorithm, needs });
            }
        };
        let key = SigningKey { algorithm, key };
        // Detects a key that cannot sign before the first upload.
        key.sign(&serde_json::json!({}))?;
        Ok(key)
    }

    /// Signs a token with these claims.
    pub fn sign(&self, claims: &impl Serialize) -> Result<Secret, BadKey> {
        install();
        let header = Header::new(self.algorithm);
        let signed = jsonwebtoken::encode(&header, claims, &self.key);
        signed
            .map(Secret::new)
            .map_err(|_| match family(self.algorithm) {
                AlgorithmFamily::Hmac => BadKey::Signing,
                _ => BadKey::Private(self.algorithm),
            })
    }

    /// Signature algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the verification key: the same secret, or the public key.
    pub fn verification_key(&self) -> Result<DecodingKey, BadKey> {
        install();
        let bytes = self.key.as_bytes();
        let bad = || BadKey::Private(self.algorithm);
        Ok(
            match KeyPair::new(self.algorithm, bytes).map_err(|_| bad())? {
                KeyPair::Hmac(_) => DecodingKey::from_secret(bytes),
                KeyPair::Rsa(pair, _) => DecodingKey::from_rsa_der(pair.public().as_ref()),
                KeyPair::Ecdsa(pair) => DecodingKey::from_ec_der(pair.public_key().as_ref()),
                KeyPair::Ed(pair) => DecodingKey::from_ed_der(pair.public_key().as_ref()),
            },
        )
    }
}

fn shared_secret(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, BadKey> {
    use base64::Engine as _;
    if let Some(digits) = text.strip_prefix(b"0x") {
        let bad = BadKey::Encoding("0x", "hexadecimal digits, two a byte");
        let pairs = digits.chunks(2).map(|pair| {
            let text = std::str::from_utf8(pair).ok().filter(|_| pair.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        return bytes.map(Zeroizing::new).ok_or(bad);
    }
    if let Some(base64) = text.strip_prefix(b"base64:") {
        let bad = BadKey::Encoding("base64:", "base64, with its padding");
        let standard = &base64::engine::general_purpose::STANDARD;
        let bytes = standard.decode(base64.trim_ascii()).map_err(|_| bad)?;
        return Ok(Zeroizing::new(bytes));
    }
    Ok(Zeroizing::new(text.to_vec()))
}

fn private_key(algorithm: Algorithm, pem: &[u8]) -> Result<EncodingKey, BadKey> {
    let bad = BadKey::Private(algorithm);
    let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| bad.clone())?;
    let bytes = der.secret_der();
    let key = match (family(algorithm), &der) {
        (AlgorithmFamily::Rsa, _) => Ok(EncodingKey::from_rsa_der(bytes)),
        (AlgorithmFamily::Ec, PrivateKeyDer::Pkcs8(_)) => Ok(EncodingKey::from_ec_der(bytes)),
        (AlgorithmFamily::Ed, PrivateKeyDer::Pkcs8(_)) => Ok(EncodingKey::from_ed_der(bytes)),
        _ => Err(bad),
    };
    der.zeroize();
    key
}

fn family(algorithm: Algorithm) -> AlgorithmFamily {
    use Algorithm::*;
    match algorithm {
        HS256 | HS384 | HS512 => AlgorithmFamily::Hmac,
        ES256 | ES384 => AlgorithmFamily::Ec,
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => AlgorithmFamily::Rsa,
        // An unknown algorithm is refused when its key is parsed.
        _ => AlgorithmFamily::Ed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_secret_is_parsed_as_by_a_publisher() {
        let read = |text: &str| shared_secret(text.as_bytes()).map(|bytes| bytes.to_vec());
        assert_eq!(read("plain text").unwrap(), b"plain text");
        assert_eq!(read("0x00ff10").unwrap(), [0, 255, 16]);
        assert_eq!(read("base64:AP8Q").unwrap(), [0, 255, 16]);
        for bad in ["0x", "0xabc", "0xzz", "base64:%"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_valid_for_its_own_algorithm_and_key_only() {
        use Algorithm::*;
        let claims = serde_json::json!({"exp": 4_000_000_000u64, "jti": "1"});
        for algorithm in [HS256, HS384, HS512] {
            let key = SigningKey::parse(algorithm, b"a secret\n").unwrap();
            let token = key.sign(&claims).unwrap();
            let check = |key: &SigningKey, algorithm| {
                jsonwebtoken::decode::<serde_json::Value>(
                    token.expose(),
                    &key.verification_key().unwrap(),
                    &jsonwebtoken::Validation::new(algorithm),
                )
            };
            assert_eq!(check(&key, algorithm).unwrap().claims, claims);
            let other = SigningKey::parse(algorithm, b"another").unwrap();
            assert!(check(&other, algorithm).is_err());
            for wrong in [HS256, HS384, HS512] {
                assert_eq!(check(&key, wrong).is_ok(), wrong == algorithm);
            }
        }
        for (algorithm, text) in [(HS256, "-----BEGIN PRIVATE KEY-----"), (RS256, "secret")] {
            assert!(matches!(
                SigningKey::parse(algorithm, text.as_bytes()),
                Err(BadKey::Kind { .. })
            ));
        }
        assert_eq!(SigningKey::parse(HS256, b" \n").err(), Some(BadKey::Empty));
    }
}
