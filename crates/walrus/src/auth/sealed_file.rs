//! Encrypted file that holds a secret.
//!
//! ```text
//! "walgit-fs sealed 1\n" | IV (12 bytes) | GCM tag (16) | sealed value
//! ```

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use walgit_format::chunk::{IV_LEN, SecretKey, TAG_LEN};

/// Magic bytes of the file.
const MAGIC: &[u8] = b"walgit-fs sealed 1\n";

/// Returns the file content for the secret `name`; `None` if the system's random number
/// generator fails.
pub(super) fn seal(key: &SecretKey, name: &str, secret: &[u8]) -> Option<Vec<u8>> {
    let mut iv = [0; IV_LEN];
    SystemRandom::new().fill(&mut iv).ok()?;
    let mut sealed = secret.to_vec();
    let tag = key.seal(iv, name.as_bytes(), &mut sealed)?;
    Some([MAGIC, &iv, &tag, &sealed].concat())
}

/// Returns the secret in a file; `None` if the file is damaged, or sealed under another
/// name or key.
pub(super) fn unseal(key: &SecretKey, name: &str, file: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let body = file.strip_prefix(MAGIC)?;
    let (iv, body) = body.split_first_chunk::<IV_LEN>()?;
    let (tag, sealed) = body.split_first_chunk::<TAG_LEN>()?;
    let plain = key.open(*iv, *tag, name.as_bytes(), sealed)?;
    Some(Zeroizing::new(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_opens_under_its_own_name_and_key_alone() {
        let key = SecretKey::from_bytes([3; 32]);
        let sealed = seal(&key, "one", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(unseal(&key, "one", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(unseal(&key, "two", &sealed).is_none());
        assert!(unseal(&key.derive("x"), "one", &sealed).is_none());
        for cut in 0..sealed.len() {
            assert!(unseal(&key, "one", &sealed[..cut]).is_none(), "{cut}");
        }
    }
}
