//! Repository names.

use std::fmt;
use std::str::FromStr;

/// Longest name of a repository, in bytes. Its percent-encoding must be a file name of at
/// most 255 bytes.
const MAX_LEN: usize = 80;

/// A repository name: letters, digits and `. _ - + @ /`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefName(String);

/// Text that is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a repository name; use letters, digits and . _ - + @ / (at most {MAX_LEN} bytes)"
)]
pub struct RefNameError(String);

impl RefName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RefName {
    type Err = RefNameError;

    fn from_str(text: &str) -> Result<Self, RefNameError> {
        // Excludes invisible letters.
        let visible = |c: char| c.is_alphanumeric() && !crate::text::is_unsafe(c);
        let allowed = |c: char| visible(c) || "._-+@/".contains(c);
        let part_ok = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']);
        let ok = text.len() <= MAX_LEN && text.chars().all(allowed) && text.split('/').all(part_ok);
        match ok {
            true => Ok(RefName(text.into())),
            false => Err(RefNameError(crate::text::field(text).into_owned())),
        }
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
