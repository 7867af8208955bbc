//! Commits of WalGit's own command line: a manifest, in JSON, with one blob per file.
//!
//! A manifest is flat: it maps paths to a blob, its size and its SHA-256. The blob ID
//! verifies its content, but its author may be hostile: this decoder rejects malformed
//! manifests, and the reader rejects paths that no tree may contain.

use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::malformed::MalformedNode;
use crate::chunk::{BlobId, Budget, Proof, WholeBlob, budget};

/// Longest manifest, in bytes of JSON: about 250,000 files.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Most files of a manifest.
pub const MAX_FILES: usize = 1 << 20;

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Commit time, in seconds since 1970.
    pub seconds: i64,
    /// Author, usually an address on the chain.
    pub author: String,
    /// Message.
    pub message: String,
    /// The manifest of the parent commit.
    pub parent: Option<BlobId>,
    /// Paths as written, and their files, in order.
    pub files: Vec<(String, ManifestFile)>,
}

/// The file at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestFile {
    /// A blob.
    Blob(WholeBlob),
    /// An unreadable file, and the reason.
    Bad(&'static str),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    parent_commit_cid: Option<String>,
    tree: RawTree,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    cid: String,
    size: Option<u64>,
    #[serde(default)]
    hash: String,
    #[serde(default)]
    encrypted: bool,
}

/// A map that keeps duplicate keys, so that they can be rejected.
struct RawTree(Vec<(String, ManifestFile)>);

impl<'de> Deserialize<'de> for RawTree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawTree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of paths")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTree, A::Error> {
                let mut files = Vec::new();
                let mut budget = Budget::fixed(budget::NODE_BYTES);
                while files.len() < MAX_FILES {
                    let Some((path, file)) = map.next_entry::<String, RawFile>()? else {
                        return Ok(RawTree(files));
                    };
                    // Twice, because a growing vector doubles its capacity.
                    let each = 2 * size_of::<(String, ManifestFile)>() + path.len() + 32;
                    budget
                        .charge(each as u64)
                        .map_err(|why| serde::de::Error::custom(MalformedNode::from(why)))?;
                    files.push((path, file.read()));
                }
                match map.next_key::<IgnoredAny>()? {
                    None => Ok(RawTree(files)),
                    Some(_) => Err(serde::de::Error::custom(format!(
                        "it has more than {MAX_FILES} files"
                    ))),
                }
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Manifest {
    /// Whether bytes could be a manifest.
    pub fn is_likely(bytes: &[u8]) -> bool {
        bytes.trim_ascii_start().first() == Some(&b'{')
    }

    /// Returns the size of its list of files in memory, in bytes.
    pub fn weight(&self) -> u64 {
        let paths = self.files.iter().map(|(path, _)| path.len() + 32);
        let list = self.files.capacity() * size_of::<(String, ManifestFile)>();
        (paths.sum::<usize>() + list) as u64
    }

    /// Decodes the JSON of a manifest.
    ///
    /// # Errors
    /// When it is not a manifest. Malformed files do not fail the others: see
    /// [`ManifestFile::Bad`].
    pub fn decode(json: &[u8]) -> Result<Self, MalformedNode> {
        if json.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(MalformedNode::Json("it is too long".into()));
        }
        let raw: Raw =
            serde_json::from_slice(json).map_err(|error| MalformedNode::Json(error.to_string()))?;
        let parent = match raw.parent_commit_cid.as_deref() {
            None | Some("") => None,
            Some(id) => Some(
                id.parse()
                    .map_err(|_| MalformedNode::Json("its parent is not a blob ID".into()))?,
            ),
        };
        let time = raw.timestamp.as_deref().unwrap_or_default();
        let seconds = time.parse::<jiff::Timestamp>().map_or(0, |t| t.as_second());
        Ok(Manifest {
            seconds,
            author: raw.author.unwrap_or_default(),
            message: raw.message.unwrap_or_default(),
            parent,
            files: raw.tree.0,
        })
    }
}

impl RawFile {
    fn read(self) -> ManifestFile {
        let Ok(blob) = self.cid.parse() else {
            return ManifestFile::Bad("its cid is not a blob ID");
        };
        let Some(size) = self.size.filter(|&size| size <= i64::MAX as u64) else {
            return ManifestFile::Bad("it has no valid size");
        };
        let Ok(hash) = blake3::Hash::from_hex(&self.hash) else {
            return ManifestFile::Bad("its hash is not a SHA-256");
        };
        ManifestFile::Blob(WholeBlob {
            blob,
            size,
            proof: Proof::Sha256(*hash.as_bytes()),
            sealed: self.encrypted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "OxEGFEyAQVc4UL_-JKbykm5e6YS8kMfjVlEQOahIbY0";

    fn with_tree(tree: &str) -> String {
        format!(
            r#"{{"timestamp":"2025-05-23T20:57:07.000Z","author":"0xa","message":"m",
                "parent_commit_cid":null,"tree":{tree},"metadata":{{"x":[1]}}}}"#
        )
    }

    #[test]
    fn a_manifest_lists_its_files() {
        let hash = "ab".repeat(32);
        let file = format!(r#"{{"cid":"{ID}","size":3,"hash":"{hash}","encrypted":true}}"#);
        let json = with_tree(&format!(r#"{{"b":{file},"a":{{}},"b":{file}}}"#));
        let manifest = Manifest::decode(json.as_bytes()).unwrap();
        assert_eq!(manifest.seconds, 1_748_033_827);
        assert_eq!((&*manifest.author, manifest.parent), ("0xa", None));
        let paths: Vec<&str> = manifest.files.iter().map(|(path, _)| &**path).collect();
        assert_eq!(paths, ["b", "a", "b"], "what is there twice is seen twice");
        assert!(matches!(&manifest.files[0].1, ManifestFile::Blob(whole) if whole.sealed));
        assert!(matches!(manifest.files[1].1, ManifestFile::Bad(_)));
    }

    #[test]
    fn text_that_is_not_a_manifest_is_refused() {
        for bad in ["", "{}", "[]", r#"{"tree":[]}"#, r#"{"tree":{}"#] {
            assert!(Manifest::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        let parent = r#"{"tree":{},"parent_commit_cid":"x"}"#;
        assert!(Manifest::decode(parent.as_bytes()).is_err());
        let deep = format!(r#"{{"tree":{{}},"metadata":{}"#, "[".repeat(1_000_000));
        assert!(Manifest::decode(deep.as_bytes()).is_err());
    }
}
