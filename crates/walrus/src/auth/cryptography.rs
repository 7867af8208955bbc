//! Cryptography of `jsonwebtoken`, implemented with `ring`, which TLS already requires.
//! Of its built-in back ends, one builds C and the other's RSA has an open advisory
//! (RUSTSEC-2023-0071).

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self as generic, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKeyKind};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, RsaEncoding, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use zeroize::Zeroize as _;

/// Installs `ring` as the back end of `jsonwebtoken`, process-wide.
pub(super) fn install() {
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| {
            let pair = Pair::new(*algorithm, key.as_bytes())?;
            let algorithm = *algorithm;
            Ok(Box::new(Signing { algorithm, pair }))
        },
        verifier_factory: |algorithm, key| {
            // `SigningKey::checking` creates all keys, and only in this form.
            let DecodingKeyKind::SecretOrDer(bytes) = key.kind() else {
                return Err(ErrorKind::InvalidKeyFormat.into());
            };
            let key = bytes.clone();
            let algorithm = *algorithm;
            Ok(Box::new(Checking { algorithm, key }))
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    // Only the first call has an effect.
    let _ = RING.install_default();
}

/// Signing key.
pub(super) enum Pair {
    Hmac(hmac::Key),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Pair {
    pub(super) fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, Error> {
        use Algorithm::*;
        let rsa = |encoding| {
            let pair = RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes));
            pair.map(|pair| Pair::Rsa(Box::new(pair), encoding))
                .map_err(|_| {
                    ErrorKind::InvalidRsaKey("it is no RSA key of 2048 to 4096 bits".into()).into()
                })
        };
        let ecdsa = |algorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, bytes, &SystemRandom::new());
            pair.map(Pair::Ecdsa)
                .map_err(|_| ErrorKind::InvalidEcdsaKey.into())
        };
        match algorithm {
            HS256 => Ok(Pair::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes))),
            HS384 => Ok(Pair::Hmac(hmac::Key::new(hmac::HMAC_SHA384, bytes))),
            HS512 => Ok(Pair::Hmac(hmac::Key::new(hmac::HMAC_SHA512, bytes))),
            RS256 => rsa(&signature::RSA_PKCS1_SHA256),
            RS384 => rsa(&signature::RSA_PKCS1_SHA384),
            RS512 => rsa(&signature::RSA_PKCS1_SHA512),
            PS256 => rsa(&signature::RSA_PSS_SHA256),
            PS384 => rsa(&signature::RSA_PSS_SHA384),
            PS512 => rsa(&signature::RSA_PSS_SHA512),
            ES256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            ES384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
                .map(Pair::Ed)
                .map_err(|_| ErrorKind::InvalidEddsaKey.into()),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

struct Signing {
    algorithm: Algorithm,
    pair: Pair,
}

impl Signer<Vec<u8>> for Signing {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, generic::Error> {
        let failed = |_| generic::Error::new();
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Pair::Rsa(pair, encoding) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signed)
                    .map_err(failed)?;
                Ok(signed)
            }
            Pair::Ecdsa(pair) => {
                let signed = pair.sign(&random, message).map_err(failed)?;
                Ok(signed.as_ref().to_vec())
            }
            Pair::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for Signing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Verification key: a secret, or a public key in the format of `ring`.
struct Checking {
    algorithm: Algorithm,
    key: Vec<u8>,
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Verifier<Vec<u8>> for Checking {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), generic::Error> {
        use Algorithm::*;
        let hmac = |algorithm| {
            let key = hmac::Key::new(algorithm, &self.key);
            hmac::verify(&key, message, signed).map_err(|_| generic::Error::new())
        };
        let public = |algorithm: &'static dyn VerificationAlgorithm| {
            let key = UnparsedPublicKey::new(algorithm, &self.key);
            key.verify(message, signed)
                .map_err(|_| generic::Error::new())
        };
        match self.algorithm {
            HS256 => hmac(hmac::HMAC_SHA256),
            HS384 => hmac(hmac::HMAC_SHA384),
            HS512 => hmac(hmac::HMAC_SHA512),
            RS256 => public(&signature::RSA_PKCS1_2048_8192_SHA256),
            RS384 => public(&signature::RSA_PKCS1_2048_8192_SHA384),
            RS512 => public(&signature::RSA_PKCS1_2048_8192_SHA512),
            PS256 => public(&signature::RSA_PSS_2048_8192_SHA256),
            PS384 => public(&signature::RSA_PSS_2048_8192_SHA384),
            PS512 => public(&signature::RSA_PSS_2048_8192_SHA512),
            ES256 => public(&signature::ECDSA_P256_SHA256_FIXED),
            ES384 => public(&signature::ECDSA_P384_SHA384_FIXED),
            EdDSA => public(&signature::ED25519),
            _ => Err(generic::Error::new()),
        }
    }
}

impl JwtVerifier for Checking {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
