//! `unmount`: unmounts folders.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::output;
use crate::daemon;
use crate::fuse::MountTable;

/// Unmount a folder; `umount DIR` and `fusermount3 -u DIR` also work
///
/// Works without a responding daemon and without settings.
#[derive(Debug, Args)]
pub(super) struct Unmount {
    /// Folders to unmount
    #[arg(required_unless_present = "all")]
    dirs: Vec<PathBuf>,
    /// Unmount all folders that you have mounted
    #[arg(long, conflicts_with = "dirs")]
    all: bool,
    /// Detach now even if in use; the mount ends when its last user leaves
    #[arg(long)]
    lazy: bool,
}

/// Result of unmounting a folder.
#[derive(Serialize)]
struct UnmountOutcome {
    mountpoint: String,
    unmounted: bool,
    error: Option<String>,
}

impl Unmount {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        // An unmount needs no settings; they only locate the daemon.
        let dirs = context.dirs().ok();
        let folders = if self.all { mine()? } else { self.dirs };
        // Resolve paths before the current directory changes.
        let found: Vec<_> = folders
            .into_iter()
            .map(|dir| (daemon::mounted_folder(&dir), dir))
            .collect();
        let mut outcomes = Vec::new();
        for (found, dir) in found {
            let done = found
                .and_then(|path| context.wait(daemon::unmount(dirs.as_ref(), &path, self.lazy)));
            match &done {
                Ok(()) if context.json => {}
                Ok(()) => outln!("{} is unmounted", dir.display())?,
                Err(error) => output::error(error.as_ref()),
            }
            outcomes.push(UnmountOutcome {
                mountpoint: dir.display().to_string(),
                unmounted: done.is_ok(),
                error: done.err().map(|error| error.to_string()),
            });
        }
        context.report(&outcomes, || {
            if outcomes.is_empty() {
                outln!("nothing is mounted")?;
            }
            Ok(())
        })?;
        let all = outcomes.iter().all(|outcome| outcome.unmounted);
        Ok(output::exit_code(all))
    }
}

/// This user's mounts, last one first: mounts may be nested.
fn mine() -> Result<Vec<PathBuf>> {
    let table = MountTable::read()?;
    let mine = table.ours().rev().filter(|entry| entry.is_mine());
    Ok(mine.map(|entry| entry.mountpoint.clone()).collect())
}
