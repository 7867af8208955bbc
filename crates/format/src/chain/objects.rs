//! WalGit objects on the chain, in both layouts.
//!
//! Nodes represent the same Move value in several ways (an ID as text or in a struct, a
//! number as number or text, bytes as base64 or as numbers), so decoding is lenient about
//! representation and strict about meaning.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::error::ChainError;
use super::move_object::{MoveObject, id_in};
use crate::id::{BlobId, ObjectId};

/// A repository object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryObject {
    /// The branch that is shown by default; may be empty.
    pub default_branch: String,
    /// Location of its commits.
    pub layout: Layout,
}

/// The two layouts of a repository object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Commits are manifests on Walrus.
    Manifests {
        /// Blob of the newest manifest; `None` before the first commit.
        latest: Option<BlobId>,
    },
    /// Commits are objects.
    Objects {
        /// The newest commit of the default branch; `None` before the first commit.
        head: Option<ObjectId>,
        /// The table of branches.
        branches: Option<ObjectId>,
        /// The table of tags.
        tags: Option<ObjectId>,
    },
}

/// A commit object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitObject {
    /// Tree of the commit.
    pub tree: ObjectId,
    /// The parent commit.
    pub parent: Option<ObjectId>,
    /// Author, as an address on the chain.
    pub author: String,
    /// Message.
    pub message: String,
    /// Commit time, in seconds since 1970.
    pub seconds: i64,
}

/// The target of a tree entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryObject {
    /// A tree: names and objects.
    Tree(Vec<(String, ObjectId)>),
    /// A file.
    Blob(BlobObject),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobObject {
    /// Bytes of content.
    pub size: u64,
    /// Hash as written.
    pub hash: String,
    /// Location of the content.
    pub content: BlobContent,
}

/// Location of the content of a [`BlobObject`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobContent {
    /// Inline in the object.
    Inline(Bytes),
    /// On Walrus.
    Walrus(BlobId),
}

/// Returns the value of an `Option`: null, the value itself, or a vector of at most one.
fn some(value: &Value) -> Option<&Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) if fields.contains_key("vec") => fields["vec"].get(0),
        Value::Array(list) => list.first(),
        other => Some(other),
    }
}

fn text(value: &Value) -> Option<&str> {
    some(value)?.as_str()
}

fn number(value: &Value) -> Option<u64> {
    match some(value)? {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

impl MoveObject {
    fn is_a(&self, name: &str) -> bool {
        let plain = self.kind.split('<').next().unwrap_or_default();
        plain.rsplit("::").next() == Some(name)
    }

    fn not(&self, expected: &'static str, why: impl Into<String>) -> ChainError {
        ChainError::NotThat {
            id: self.id,
            expected,
            why: why.into(),
        }
    }

    fn id_of(&self, field: &str) -> Option<ObjectId> {
        id_in(some(&self.fields[field])?)
    }

    /// Decodes a repository.
    pub fn repository(&self) -> Result<RepositoryObject, ChainError> {
        let fields = (self.fields.as_object())
            .ok_or_else(|| self.not("a WalGit repository", "it has no fields"))?;
        let layout = if fields.contains_key("latest_commit_manifest_cid") {
            let latest =
                text(&self.fields["latest_commit_manifest_cid"]).filter(|id| !id.is_empty());
            let latest = latest.map(str::parse).transpose().map_err(|_| {
                self.not(
                    "a WalGit repository",
                    "its latest manifest is not a blob ID",
                )
            })?;
            Layout::Manifests { latest }
        } else if fields.contains_key("head_commit_id") || fields.contains_key("branches") {
            Layout::Objects {
                head: self.id_of("head_commit_id"),
                branches: self.id_of("branches"),
                tags: self.id_of("tags"),
            }
        } else {
            let why = format!("it is a {} without a commit", self.kind);
            return Err(self.not("a WalGit repository", why));
        };
        Ok(RepositoryObject {
            default_branch: text(&self.fields["default_branch"])
                .unwrap_or_default()
                .into(),
            layout,
        })
    }

    /// Whether the object is a commit, not a repository.
    pub fn is_commit(&self) -> bool {
        self.is_a("GitCommitObject")
    }

    /// Decodes a commit.
    pub fn commit(&self) -> Result<CommitObject, ChainError> {
        let bad = |why: &str| self.not("a WalGit commit", why);
        let tree = self.id_of("tree_id").ok_or_else(|| bad("it has no tree"))?;
        let time = number(&self.fields["timestamp"]).unwrap_or(0);
        // The chain's clock counts milliseconds; as seconds, this would be year 5138.
        let seconds = if time > 100_000_000_000 {
            time / 1000
        } else {
            time
        };
        Ok(CommitObject {
            tree,
            parent: self.id_of("parent_commit_id"),
            author: text(&self.fields["author"]).unwrap_or_default().into(),
            message: text(&self.fields["message"]).unwrap_or_default().into(),
            seconds: i64::try_from(seconds).unwrap_or(0),
        })
    }

    /// Decodes the target of a tree entry.
    ///
    /// # Errors
    /// [`ChainError::NotThat`] if it is neither a tree nor a file.
    pub fn entry(&self) -> Result<EntryObject, ChainError> {
        if self.is_a("GitTreeObject") || self.fields["entries"].is_array() {
            let list = self.fields["entries"].as_array().into_iter().flatten();
            let entries = list.map(|entry| {
                let name = text(&entry["name"]);
                name.map(str::to_owned).zip(id_in(&entry["object_id"]))
            });
            let entries: Option<Vec<_>> = entries.collect();
            let why = "an entry has no name or no object";
            let entries = entries.ok_or_else(|| self.not("a WalGit tree", why))?;
            return Ok(EntryObject::Tree(entries));
        }
        let bad = |why: &str| self.not("a WalGit file", why);
        let size = number(&self.fields["size"]).ok_or_else(|| bad("it has no size"))?;
        let content = match number(&self.fields["storage_type"]) {
            Some(0) => BlobContent::Inline(
                self.inline(size)
                    .map(Bytes::from)
                    .ok_or_else(|| bad("the length of its content differs from its size"))?,
            ),
            Some(1) => {
                let blob = text(&self.fields["walrus_blob_id"]).and_then(|id| id.parse().ok());
                BlobContent::Walrus(blob.ok_or_else(|| bad("it has no valid blob ID"))?)
            }
            _ => return Err(bad("its storage type is unknown")),
        };
        Ok(EntryObject::Blob(BlobObject {
            size,
            hash: text(&self.fields["hash"]).unwrap_or_default().into(),
            content,
        }))
    }

    /// Returns the inline content if it has the declared size.
    fn inline(&self, size: u64) -> Option<Vec<u8>> {
        let fits = |bytes: &Vec<u8>| bytes.len() as u64 == size;
        match &self.fields["inline_content"] {
            Value::Null => Some(Vec::new()).filter(fits),
            Value::String(text) => (STANDARD.decode(text).ok().filter(fits))
                .or_else(|| Some(text.clone().into_bytes()).filter(fits)),
            Value::Array(list) => {
                // An `Option<vector<u8>>` may be represented as a list of one element.
                if let [Value::String(encoded)] = &list[..] {
                    return STANDARD.decode(encoded).ok().filter(fits);
                }
                let bytes = list.iter().map(|byte| u8::try_from(byte.as_u64()?).ok());
                bytes.collect::<Option<Vec<u8>>>().filter(fits)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str, fields: Value) -> MoveObject {
        MoveObject {
            id: "0x1".parse().unwrap(),
            kind: format!("0xabc::git::{kind}"),
            fields,
        }
    }

    #[test]
    fn both_layouts_of_a_repository_are_detected() {
        let blob = "OxEGFEyAQVc4UL_-JKbykm5e6YS8kMfjVlEQOahIbY0";
        let commit_object = object(
            "Repository",
            json!({"latest_commit_manifest_cid": blob, "default_branch": "main"}),
        );
        let latest = Some(blob.parse().unwrap());
        let found = commit_object.repository().unwrap();
        assert_eq!(found.layout, Layout::Manifests { latest });
        assert_eq!(found.default_branch, "main");
        let two = object(
            "Repository",
            json!({"head_commit_id": {"vec": ["0x2"]}, "branches": {"id": {"id": "0x3"}, "size": "1"},
                   "tags": {"id": "0x4"}}),
        );
        let id = |text: &str| Some(text.parse().unwrap());
        let expected = Layout::Objects {
            head: id("0x2"),
            branches: id("0x3"),
            tags: id("0x4"),
        };
        assert_eq!(two.repository().unwrap().layout, expected);
        assert!(object("Coin", json!({"balance": 1})).repository().is_err());
    }

    #[test]
    fn inline_content_is_decoded_in_every_form_and_must_have_its_size() {
        for form in [
            json!("YWJj"),
            json!([97, 98, 99]),
            json!("abc"),
            json!(["YWJj"]),
        ] {
            let fields =
                json!({"size": "3", "storage_type": 0, "hash": "x", "inline_content": form});
            let EntryObject::Blob(blob) = object("GitBlobObject", fields).entry().unwrap() else {
                panic!("a file");
            };
            assert_eq!(
                blob.content,
                BlobContent::Inline(Bytes::from_static(b"abc"))
            );
        }
        let long = json!({"size": 5, "storage_type": 0, "inline_content": "YWJj"});
        assert!(object("GitBlobObject", long).entry().is_err());
    }
}
