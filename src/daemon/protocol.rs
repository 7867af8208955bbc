//! Messages between client and daemon.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::lock::LockRecord;
use super::settings::DaemonSettings;
use crate::prefetch::{Learning, WarmReport};
use crate::repo::Source;
use walgit_format::chunk::SecretKey;
use walgit_prefetch::Profile;
use walrus_client::network::Network;

/// A mount to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Location of the repository.
    pub source: Source,
    /// A branch, tag or commit; the default branch if `None`.
    pub reference: Option<String>,
    /// Network of its blobs.
    pub network: Network,
    /// Keys of encrypted content.
    pub keys: Vec<SecretKey>,
    /// Whether files that start with `#!` are executable if the repository stores no
    /// modes.
    pub scripts: bool,
    /// Sources for the prediction of file opens.
    pub learning: Learning,
    /// Interval in seconds at which to poll for a new head and show it; `None` for never.
    pub follow: Option<u64>,
    /// The mount point.
    pub mountpoint: PathBuf,
    /// Whether other users may access the mount.
    pub allow_other: bool,
    /// Label for lists, as given by the user.
    pub label: String,
    /// Directory of the leases of its network.
    pub leases: PathBuf,
    /// Identifies the mount in the kernel's mount table, and names its lease.
    pub id: String,
}

/// Summary of a repository that is ready to be mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PreparedMount {
    /// Git ID of the commit; empty for a plain folder.
    pub(super) commit: String,
    /// Number of files and directories.
    pub(super) nodes: u64,
    /// Bytes of content.
    pub(super) bytes: u64,
    /// Notices about content that is omitted or shown with restrictions.
    pub(super) notices: Vec<String>,
    /// Whether the name of the repository is confidential. Absent from older daemons.
    #[serde(default)]
    pub(super) encrypted: bool,
}

/// Result of handing over a mount.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct AttachResult {
    pub(super) error: Option<String>,
    /// A warning for the user of the mount.
    pub(super) warning: Option<String>,
}

/// Identity of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The daemon process.
    #[serde(flatten)]
    pub(super) process: LockRecord,
    /// Its settings. Absent from some other versions.
    #[serde(default)]
    pub(super) settings: Option<DaemonSettings>,
}

/// Stops the daemon.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct StopRequest {
    /// Only if it has no mounts and no work.
    pub(super) if_idle: bool,
}

/// Reason why the daemon rejected a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rejection {
    pub(super) error: String,
}

/// A request to warm the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WarmRequest {
    /// A file or folder in a mount, as an absolute path without symlinks.
    pub(super) path: PathBuf,
    /// Whether to pin it.
    pub(super) pin: bool,
}

/// A line of the response to a [`WarmRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WarmEvent {
    /// Bytes of content that are cached, and the total.
    Progress(u64, u64),
    /// The request is complete.
    Done(WarmReport),
    /// The request failed, with this reason.
    Failed(String),
}

/// The repository of a learned profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileTarget {
    /// The repository mounted on this folder.
    Mount(PathBuf),
    /// The repository at an address.
    Repository {
        /// Location of the repository.
        source: Source,
        /// Network of its blobs.
        network: Box<Network>,
        /// Keys of encrypted content.
        keys: Vec<SecretKey>,
    },
}

/// A learned profile, as text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EncodedProfile {
    profile: String,
}

impl EncodedProfile {
    pub(super) fn new(profile: &[u8]) -> Self {
        EncodedProfile {
            profile: STANDARD.encode(profile),
        }
    }

    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.profile).ok()
    }
}

/// A profile to import.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImportRequest {
    pub(super) subject: ProfileTarget,
    pub(super) learned: EncodedProfile,
    pub(super) replace: bool,
}

/// Result of an import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportedProfile {
    /// Persistent identity of the repository.
    pub identity: String,
    /// Total number of known transitions.
    pub transitions: u64,
    /// Total number of known paths.
    pub paths: u64,
    /// Number of mounts that now use the profile.
    pub mounts: u64,
}

impl ImportedProfile {
    /// Describes a profile after an import.
    pub fn new(identity: String, profile: &Profile, mounts: u64) -> Self {
        ImportedProfile {
            identity,
            transitions: profile.model.transitions() as u64,
            paths: profile.model.paths() as u64,
            mounts,
        }
    }
}
