//! The background process that owns the cache, serves all mounts, and answers queries
//! about them.
//!
//! RocksDB permits one owner, and mounts share one cache and one view of the network, so
//! there is one daemon per cache directory. The first `mount` starts it ([`launch`]); it
//! exits some time after its last mount ([`server`]). Its lock ([`lock`]) and its two Unix
//! sockets are in a private directory next to the database ([`daemon_dir`], maintained by
//! [`discovery`]):
//! - `control.sock` ([`control`]): HTTP, for `status`, preparing a mount, the cache
//!   commands, and Prometheus ([`metrics`]); [`client`] sends the requests;
//! - `attach.sock` ([`attach`]): receives the `/dev/fuse` descriptor of a mount.
//!
//! The mounting command makes the mount itself, in its own namespace and with its own
//! privileges ([`mount_client`]), and then hands it over. So a mount works from inside a
//! container too, and every error of the repository is reported before the mount is made.
//!
//! The state of the daemon ([`state`]) consists of its mounts ([`mounts`]), each served by
//! a driver ([`serve`]), and the stores that they share ([`repositories`]). A following
//! mount ([`follow`]) polls for a new head, and shows it without a remount. A folder of a
//! mount can be fetched into the cache and pinned there ([`warm`]).
//!
//! The daemon schedules compaction of scattered heads and renewal of needed blobs
//! ([`jobs`]); both are implemented in [`crate::maintenance`].
//!
//! May depend on: all other modules except `cli`.

mod attach;
mod client;
mod control;
mod daemon_dir;
mod discovery;
mod error;
mod follow;
mod jobs;
mod launch;
mod lock;
pub mod log;
mod metrics;
mod mount_client;
mod mounts;
mod overview;
mod process;
mod profile_io;
mod protocol;
mod repositories;
mod serve;
mod server;
mod settings;
mod signals;
mod state;
mod status;
mod stop;
mod transport;
mod warm;

pub use client::{Client, DaemonState};
pub use daemon_dir::{DaemonDirError, directory};
pub use error::ClientError;
pub use jobs::saved_statuses;
pub use lock::Phase;
pub use mount_client::{MountInfo, mount, mounted_folder, unmount};
pub use overview::{DaemonPhase, DaemonReport, MountedFolder, Overview};
pub use protocol::{ImportedProfile, MountRequest, ProfileTarget};
pub use server::run;
pub use settings::DaemonSettings;
pub use status::{DaemonStatus, FollowStatus, JobStatus, MountStatus, NetworkStatus};
pub use stop::{Restarted, StopOutcome, restart, stop};
pub use warm::no_pin;
