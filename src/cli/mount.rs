//! `mount`: a repository becomes a folder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::context::{self, Context};
use super::{Failure, output};
use crate::daemon::{self, MountRequest};
use crate::repo::Address;

/// Mount a repository as a read-only folder; returns when the folder answers
///
/// Nothing is cloned: directories and content are fetched when they are first
/// looked at, verified, and kept in a cache that outlives the session. The
/// hidden folder DIR/.walgit shows status, the commit, branches and tags.
#[derive(Debug, Args)]
pub(super) struct Mount {
    /// NAME or walrus://BLOB_ID[?root=HASH]
    address: Address,
    /// An empty folder
    dir: PathBuf,
    /// Show this branch, tag or commit [default: the default branch]
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Let other users of this machine see the folder too
    #[arg(long)]
    allow_other: bool,
    /// Stay in the foreground and serve this mount until interrupted
    #[arg(long)]
    foreground: bool,
}

impl Mount {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let (blob, root) = context::locate(&settings, &self.address)?;
        let request = MountRequest {
            blob,
            root,
            reference: self.reference,
            network: settings.network.value.clone(),
            mountpoint: self.dir,
            allow_other: self.allow_other,
            label: self.address.to_string(),
        };
        if self.foreground {
            daemon::run(settings, Some(request))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mounted = context.run(async { Ok(daemon::mount(&settings, request).await?) })?;
        if context.json {
            output::json(&mounted)?;
        } else {
            let commit = match mounted.commit.is_empty() {
                true => String::new(),
                false => format!(" at {}", &mounted.commit[..mounted.commit.len().min(12)]),
            };
            output::line(&format!(
                "{}{commit} is mounted on {}",
                self.address,
                mounted.mountpoint.display()
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
