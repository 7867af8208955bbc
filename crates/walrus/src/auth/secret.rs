//! Secret text.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Value that is never shown in logs, errors or debug output, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: String) -> Self {
        Secret(value)
    }

    /// Returns the text. Callers must pass it only to requests and the secret store.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Creates a random secret of 256 bits.
    pub fn random() -> Result<Self, ring::error::Unspecified> {
        use base64::Engine as _;
        use ring::rand::{SecureRandom as _, SystemRandom};
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut())?;
        let alphabet = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        Ok(Secret(alphabet.encode(bytes.as_ref())))
    }

    /// Compares in time independent of the position of a difference.
    pub fn is(&self, other: &str) -> bool {
        blake3::hash(self.0.as_bytes()) == blake3::hash(other.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Serialization for records in the secret store only: a [`Secret`] does not implement
/// `Serialize`, so that it cannot enter a report by accident.
pub(super) mod exposed {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::auth::Secret;

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        secret.expose().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

/// Same as [`exposed`] for an optional secret.
pub(super) mod exposed_option {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::auth::Secret;

    pub(crate) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_displayed_and_compares_entirely() {
        let secret = Secret::new("hunter2".into());
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(secret.is("hunter2") && !secret.is("hunter3") && !secret.is(""));
        let [one, two] = [Secret::random().unwrap(), Secret::random().unwrap()];
        assert!(one != two && one.expose().len() == 43);
    }
}
