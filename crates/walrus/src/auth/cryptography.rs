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
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair,
    EdDSAParameters, RsaEncoding, RsaKeyPair, RsaParameters, UnparsedPublicKey,
    VerificationAlgorithm,
};
use zeroize::Zeroize as _;

/// Installs `ring` as the back end of `jsonwebtoken`, process-wide.
pub(super) fn install() {
    static RING_PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| {
            let pair = KeyPair::new(*algorithm, key.as_bytes())?;
            let algorithm = *algorithm;
            Ok(Box::new(RingSigner { algorithm, pair }))
        },
        verifier_factory: |algorithm, key| {
            // `SigningKey::verification_key` creates all keys, and only in this form.
            let DecodingKeyKind::SecretOrDer(bytes) = key.kind() else {
                return Err(ErrorKind::InvalidKeyFormat.into());
            };
            let key = bytes.clone();
            let algorithm = *algorithm;
            Ok(Box::new(RingVerifier { algorithm, key }))
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    // Only the first call has an effect.
    let _ = RING_PROVIDER.install_default();
}

/// How `ring` signs and verifies an algorithm.
enum RingAlgorithm {
    Hmac(hmac::Algorithm),
    Rsa(&'static dyn RsaEncoding, &'static RsaParameters),
    Ecdsa(
        &'static EcdsaSigningAlgorithm,
        &'static EcdsaVerificationAlgorithm,
    ),
    Ed(&'static EdDSAParameters),
}

impl RingAlgorithm {
    fn of(algorithm: Algorithm) -> Option<Self> {
        use signature::*;
        Some(match algorithm {
            Algorithm::HS256 => RingAlgorithm::Hmac(hmac::HMAC_SHA256),
            Algorithm::HS384 => RingAlgorithm::Hmac(hmac::HMAC_SHA384),
            Algorithm::HS512 => RingAlgorithm::Hmac(hmac::HMAC_SHA512),
            Algorithm::RS256 => RingAlgorithm::Rsa(&RSA_PKCS1_SHA256, &RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => RingAlgorithm::Rsa(&RSA_PKCS1_SHA384, &RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => RingAlgorithm::Rsa(&RSA_PKCS1_SHA512, &RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => RingAlgorithm::Rsa(&RSA_PSS_SHA256, &RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => RingAlgorithm::Rsa(&RSA_PSS_SHA384, &RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => RingAlgorithm::Rsa(&RSA_PSS_SHA512, &RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => {
                RingAlgorithm::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P256_SHA256_FIXED)
            }
            Algorithm::ES384 => {
                RingAlgorithm::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, &ECDSA_P384_SHA384_FIXED)
            }
            Algorithm::EdDSA => RingAlgorithm::Ed(&ED25519),
            _ => return None,
        })
    }
}

/// Signing key.
pub(super) enum KeyPair {
    Hmac(hmac::Key),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl KeyPair {
    pub(super) fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, Error> {
        let method = RingAlgorithm::of(algorithm).ok_or(ErrorKind::InvalidAlgorithm)?;
        Ok(match method {
            RingAlgorithm::Hmac(algorithm) => KeyPair::Hmac(hmac::Key::new(algorithm, bytes)),
            RingAlgorithm::Rsa(encoding, _) => {
                let pair = RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes));
                let pair = pair.map_err(|_| {
                    ErrorKind::InvalidRsaKey("not an RSA key of 2048 to 4096 bits".into())
                })?;
                KeyPair::Rsa(Box::new(pair), encoding)
            }
            RingAlgorithm::Ecdsa(algorithm, _) => {
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, bytes, &SystemRandom::new());
                KeyPair::Ecdsa(pair.map_err(|_| ErrorKind::InvalidEcdsaKey)?)
            }
            RingAlgorithm::Ed(_) => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes);
                KeyPair::Ed(pair.map_err(|_| ErrorKind::InvalidEddsaKey)?)
            }
        })
    }
}

struct RingSigner {
    algorithm: Algorithm,
    pair: KeyPair,
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, generic::Error> {
        let failed = |_| generic::Error::new();
        let random = SystemRandom::new();
        match &self.pair {
            KeyPair::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            KeyPair::Rsa(pair, encoding) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signed)
                    .map_err(failed)?;
                Ok(signed)
            }
            KeyPair::Ecdsa(pair) => {
                let signed = pair.sign(&random, message).map_err(failed)?;
                Ok(signed.as_ref().to_vec())
            }
            KeyPair::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Verification key: a secret, or a public key in the format of `ring`.
struct RingVerifier {
    algorithm: Algorithm,
    key: Vec<u8>,
}

impl Drop for RingVerifier {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), generic::Error> {
        let public = |algorithm: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(algorithm, &self.key).verify(message, signed)
        };
        let verified = match RingAlgorithm::of(self.algorithm).ok_or_else(generic::Error::new)? {
            RingAlgorithm::Hmac(algorithm) => {
                hmac::verify(&hmac::Key::new(algorithm, &self.key), message, signed)
            }
            RingAlgorithm::Rsa(_, algorithm) => public(algorithm),
            RingAlgorithm::Ecdsa(_, algorithm) => public(algorithm),
            RingAlgorithm::Ed(algorithm) => public(algorithm),
        };
        verified.map_err(|_| generic::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
