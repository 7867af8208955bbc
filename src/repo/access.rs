//! Prerequisites for opening a repository: the store of its blobs, the chain and the
//! keys.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::account::MemoryAccount;
use super::error::RepoError;
use super::refs::RefStore;
use crate::chain::Chain;
use walgit_format::chain::objects::Layout;
use walgit_format::chain::{ChainError, ObjectId};
use walgit_format::chunk::{BlobId, ChunkHash, SecretKey};
use walgit_format::head::{CommitId, GitId, check_ref_name, join_names};
use walgit_format::names::RefName;
use walgit_format::{Address, RefKind};
use walrus_client::BlobStore;

/// Source of content, and the keys to decrypt it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    /// Store of the blobs.
    pub store: Arc<dyn BlobStore>,
    /// Keys of encrypted repositories.
    pub keys: Vec<SecretKey>,
    /// The chain client, or the reason why there is none.
    pub chain: Result<Arc<Chain>, ChainError>,
    /// Whether files that start with `#!` are shown as executable if the repository
    /// does not record modes.
    pub scripts: bool,
    /// Memory account of the mount.
    pub account: MemoryAccount,
}

impl From<Arc<dyn BlobStore>> for Access {
    fn from(store: Arc<dyn BlobStore>) -> Self {
        Access {
            store,
            keys: Vec::new(),
            chain: Err(ChainError::NoEndpoint("(none)".into())),
            scripts: false,
            account: MemoryAccount::unlimited(),
        }
    }
}

impl Access {
    /// Access to `store` with at most one key.
    pub fn with_key(store: Arc<dyn BlobStore>, key: Option<SecretKey>) -> Self {
        Access {
            keys: key.into_iter().collect(),
            ..Access::from(store)
        }
    }

    pub(super) fn chain(&self) -> Result<&Arc<Chain>, RepoError> {
        self.chain.as_ref().map_err(|why| why.clone().into())
    }
}

/// Location of a repository; sufficient to resolve it again later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// One immutable head.
    Blob {
        /// The blob.
        blob: BlobId,
        /// The hash of its head.
        root: Option<ChunkHash>,
    },
    /// A name in a [`RefStore`] directory.
    Name {
        /// The directory.
        dir: PathBuf,
        /// The name.
        name: String,
    },
    /// An object on the chain.
    Object {
        /// The object.
        id: ObjectId,
        /// A branch; `None` for the default branch.
        branch: Option<String>,
    },
}

/// A single commit, or a head with commits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A blob: a head in WalGit's format, or a manifest.
    Blob {
        /// The blob.
        blob: BlobId,
        /// The hash of its head, if known.
        root: Option<ChunkHash>,
    },
    /// A commit object on the chain.
    Commit(ObjectId),
    /// A commit in the archive of a head.
    Archived {
        /// The blob of the head.
        blob: BlobId,
        /// The hash of the head.
        root: Option<ChunkHash>,
        /// The commit.
        commit: GitId,
    },
}

/// A branch or tag whose tree is opened on first access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiblingRef {
    /// Branch or tag.
    pub kind: RefKind,
    /// Its name.
    pub name: Bytes,
    /// Its target.
    pub target: Target,
}

/// The current resolution of a [`Source`].
#[derive(Clone, Debug)]
pub struct Located {
    /// The commit or head.
    pub target: Target,
    /// Its branch; empty if unknown.
    pub branch: String,
    /// Other branches and tags.
    pub sibling_refs: Vec<SiblingRef>,
}

impl Target {
    /// The target of a commit ID; `None` for git commits.
    pub(super) fn of(id: &CommitId) -> Option<Self> {
        match id {
            CommitId::Manifest(blob) => Some(Target::Blob {
                blob: *blob,
                root: None,
            }),
            CommitId::Object(id) => Some(Target::Commit(*id)),
            CommitId::None | CommitId::Git(_) => None,
        }
    }

    /// The ID of the commit, if the target is one commit.
    pub fn id(&self) -> CommitId {
        match self {
            Target::Blob { blob, .. } => CommitId::Manifest(*blob),
            Target::Commit(id) => CommitId::Object(*id),
            Target::Archived { commit, .. } => CommitId::Git(commit.clone()),
        }
    }

    /// The blob of the head or manifest; `None` for a commit on the chain.
    pub fn blob(&self) -> Option<BlobId> {
        match self {
            Target::Blob { blob, .. } | Target::Archived { blob, .. } => Some(*blob),
            Target::Commit(_) => None,
        }
    }
}

impl Source {
    /// The source of an address; `names` is the directory of names.
    pub fn of(address: &Address, names: &std::path::Path) -> Self {
        match address {
            Address::Walrus { blob, root } => Source::Blob {
                blob: *blob,
                root: *root,
            },
            Address::Name(name) => Source::Name {
                dir: names.into(),
                name: name.to_string(),
            },
            Address::Sui { object, branch } => Source::Object {
                id: *object,
                branch: branch.clone(),
            },
        }
    }

    /// A stable identifier, independent of the current target.
    pub fn identity(&self) -> String {
        match self {
            Source::Blob { blob, .. } => format!("walrus://{blob}"),
            // Each network has its own directory of names.
            Source::Name { dir, name } => {
                let network = dir.file_name().unwrap_or_default();
                format!("{}/{name}", network.display())
            }
            Source::Object { id, .. } => format!("sui://{id}"),
        }
    }

    /// Whether it may resolve to another target later.
    pub fn may_move(&self) -> bool {
        !matches!(self, Source::Blob { .. })
    }

    /// Resolves the source to its current target.
    pub async fn locate(&self, access: &Access) -> Result<Located, RepoError> {
        match self {
            Source::Blob { blob, root } => Ok(Located::at(Target::Blob {
                blob: *blob,
                root: *root,
            })),
            Source::Name { dir, name } => locate_name(dir, name),
            Source::Object { id, branch } => {
                locate_object(access.chain()?, *id, branch.as_deref()).await
            }
        }
    }
}

impl Located {
    fn at(target: Target) -> Self {
        Located {
            target,
            branch: String::new(),
            sibling_refs: Vec::new(),
        }
    }
}

fn locate_name(dir: &std::path::Path, name: &str) -> Result<Located, RepoError> {
    let no_name = |why: String| RepoError::NoRef {
        name: name.into(),
        known: why,
    };
    let parsed: RefName = name
        .parse()
        .map_err(|error: walgit_format::names::RefNameError| no_name(error.to_string()))?;
    let unknown = |why| RepoError::Name {
        why: Arc::new(why),
        // Each network has its own directory of names.
        network: dir.file_name().unwrap_or_default().display().to_string(),
    };
    match RefStore::new(dir).resolve(&parsed).map_err(unknown)? {
        Address::Walrus { blob, root } => Ok(Located::at(Target::Blob { blob, root })),
        other => Err(no_name(format!(
            "it refers to {other}, which is not a blob"
        ))),
    }
}

async fn locate_object(
    chain: &Chain,
    id: ObjectId,
    branch: Option<&str>,
) -> Result<Located, RepoError> {
    let mut reading = chain.reading();
    let object = reading.object(id).await?;
    if object.is_commit() && branch.is_none() {
        return Ok(Located::at(Target::Commit(id)));
    }
    let found = object.repository()?;
    let empty = || RepoError::NoCommits(format!("sui://{id}"));
    match found.layout {
        Layout::Manifests { latest } => {
            // This layout has a single branch.
            if let Some(asked) = branch
                && asked != found.default_branch
            {
                return Err(RepoError::NoRef {
                    name: asked.into(),
                    known: found.default_branch,
                });
            }
            Ok(Located {
                branch: found.default_branch,
                ..Located::at(Target::Blob {
                    blob: latest.ok_or_else(empty)?,
                    root: None,
                })
            })
        }
        Layout::Objects {
            head,
            branches,
            tags,
        } => {
            let mut sibling_refs = Vec::new();
            for (kind, table) in [(RefKind::Branch, branches), (RefKind::Tag, tags)] {
                let Some(table) = table else { continue };
                for (name, commit) in reading.table(table).await? {
                    if let Err(why) = check_ref_name(name.as_bytes()) {
                        tracing::warn!("sui://{id}: {why}; it is omitted");
                        continue;
                    }
                    sibling_refs.push(SiblingRef {
                        kind,
                        name: name.into(),
                        target: Target::Commit(commit),
                    });
                }
            }
            sibling_refs.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
            let named = |name: &str| {
                let found = sibling_refs.iter().find(|r| r.name == name.as_bytes());
                found.map(|r| r.target.clone())
            };
            let target = match branch {
                Some(asked) => named(asked).ok_or_else(|| RepoError::NoRef {
                    name: asked.into(),
                    known: sibling_names(&sibling_refs),
                })?,
                None => named(&found.default_branch)
                    .or(head.map(Target::Commit))
                    .ok_or_else(empty)?,
            };
            Ok(Located {
                target,
                branch: branch.map_or(found.default_branch, Into::into),
                sibling_refs,
            })
        }
    }
}

/// Names of branches and tags, for a message.
pub(super) fn sibling_names(siblings: &[SiblingRef]) -> String {
    if siblings.is_empty() {
        return "none".into();
    }
    join_names(siblings.iter().map(|it| &it.name))
}
