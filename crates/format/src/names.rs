//! Names of files, refs and repositories.

use std::fmt;
use std::str::FromStr;

use super::malformed::MalformedNode;

/// Longest name of an entry, in bytes; the kernel's own limit.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest name of a repository, in bytes. Its percent-encoding must be a file name of at
/// most 255 bytes.
const MAX_REPOSITORY_NAME: usize = 80;

/// A repository name: letters, digits and `. _ - + @ /`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefName(String);

/// Text that is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a repository name; use letters, digits and . _ - + @ / (at most {MAX_REPOSITORY_NAME} bytes)"
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
        let ok = text.len() <= MAX_REPOSITORY_NAME
            && text.chars().all(allowed)
            && text.split('/').all(part_ok);
        if !ok {
            return Err(RefNameError(crate::text::field(text).into_owned()));
        }
        Ok(RefName(text.into()))
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Rejects names that could escape the mount or make tools run hostile content: git
/// executes commands that a `.git/config` in a folder specifies.
pub fn check_name(name: &[u8]) -> Result<(), MalformedNode> {
    let bad = name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || name == b"."
        || name == b".."
        || name.eq_ignore_ascii_case(b".git")
        || name.iter().any(|&byte| byte == b'/' || byte == 0);
    if bad {
        return Err(MalformedNode::Name(lossy(name)));
    }
    Ok(())
}

pub(super) fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(MAX_NAME_BYTES)])
        .escape_debug()
        .collect()
}

/// Rejects branch and tag names that git rejects, such as those with control characters,
/// and those that could not be folders under `.walgit/branches/`.
pub fn check_ref_name(name: &[u8]) -> Result<(), MalformedNode> {
    check_full_ref_name(&[b"refs/heads/", name].concat())?;
    name.split(|&byte| byte == b'/').try_for_each(check_name)
}

/// Rejects full ref names that git rejects (`git check-ref-format`).
pub fn check_full_ref_name(name: &[u8]) -> Result<(), MalformedNode> {
    gix_validate::reference::name(name.into())
        .map(|_| ())
        .map_err(|why| MalformedNode::RefName {
            name: crate::text::bytes_field(name),
            why: why.to_string(),
        })
}
