//! `mount`: mounts a repository as a folder.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Keys;
use super::context::{self, Context};
use super::output;
use crate::config::Settings;
use crate::daemon::{self, MountRequest};
use crate::leases::Leases;
use crate::leases::MountTag;
use crate::prefetch::Learning;
use walgit_format::Address;

/// Number of notices that are printed immediately.
const MAX_NOTICES: usize = 5;

/// Mount a repository as a read-only folder; returns when it is ready
///
/// Nothing is cloned: directories and content are fetched on first access, verified, and
/// cached across sessions. The hidden folder DIR/.walgit shows status, commit, branches
/// and tags.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Mount {
    /// NAME, walrus://BLOB_ID[?root=HASH], walrus://MANIFEST_ID or
    /// sui://OBJECT_ID[/BRANCH]
    address: Address,
    /// Mountpoint; an empty folder
    dir: PathBuf,
    /// Show this branch, tag or commit [default: the default branch]
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    #[command(flatten)]
    keys: Keys,
    /// Check for a new head every SECONDS (default 30) and show it without a remount; for
    /// names and sui:// addresses
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30",
        value_parser = clap::value_parser!(u64).range(1..=86400)
    )]
    follow: Option<u64>,
    /// Show files that start with `#!` as executable if the repository stores no modes;
    /// reads the start of every file up to 1 MiB first
    #[arg(long)]
    scripts_executable: bool,
    /// Data that prefetching predicts opens from
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    prefetch: Learning,
    /// Let other users of this machine access the folder
    #[arg(long)]
    allow_other: bool,
    /// Run in the foreground and serve this mount until interrupted
    #[arg(long)]
    foreground: bool,
}

const EXAMPLES: &str = "\
Examples:
  walgit-fs mount ripgrep ~/mnt/ripgrep                the published name `ripgrep`
  walgit-fs mount ripgrep ~/mnt/v14 --ref 14.1.0       a tag, branch or commit
  walgit-fs mount sui://0x… ~/mnt/repo --follow=60     follow its branch, checked each minute
  walgit-fs mount diary ~/mnt/diary --key diary.key    an encrypted repository";

impl Mount {
    /// Whether this process serves the mount.
    pub(super) fn serves(&self) -> bool {
        self.foreground
    }

    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        settings.check_cache()?;
        if let Some(why) = too_large(&settings) {
            output::warning(&why);
        }
        let source = context::source(&settings, &self.address);
        if self.follow.is_some() && !source.may_move() {
            let why = "a walrus:// address never leads elsewhere; --follow is for names and sui://";
            bail!("{}: {why}", self.address);
        }
        let network = settings.network.value.clone();
        // The daemon has a different current directory.
        let leases = std::path::absolute(Leases::of(&settings).dir())?;
        let request = MountRequest {
            source,
            reference: self.reference,
            network,
            keys: self.keys.load(&settings)?,
            scripts: self.scripts_executable,
            learning: self.prefetch,
            follow: self.follow,
            mountpoint: self.dir,
            allow_other: self.allow_other,
            label: self.address.to_string(),
            leases,
            id: MountTag::new_id(),
        };
        if self.foreground {
            daemon::run(settings, Some(request))?;
            return Ok(());
        }
        let mounted = context.run(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            // Dropping this future undoes a mount; killing the process would leave it
            // dead.
            tokio::select! {
                mounted = daemon::mount(&settings, request) => return mounted,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            bail!("interrupted; nothing is mounted")
        })?;
        for warning in &mounted.warnings {
            output::warning(warning);
        }
        context.report(&mounted, || {
            let commit = match mounted.commit.get(..12).unwrap_or(&mounted.commit) {
                "" => String::new(),
                short => format!(" at {short}"),
            };
            print_notices(&mounted.notices, &mounted.mountpoint);
            let dir = mounted.mountpoint.display();
            outln!("{}{commit} is mounted on {dir}", self.address)
        })
    }
}

/// Warning about a cache that may outgrow its file system.
fn too_large(settings: &Settings) -> Option<String> {
    let dir = settings.dirs.cache.ancestors().find(|dir| dir.is_dir())?;
    let disk = rustix::fs::statvfs(dir).ok()?;
    let size = disk.f_blocks.saturating_mul(disk.f_frsize);
    let budget = settings.cache_disk.value;
    (size > 0 && budget > size).then(|| {
        format!(
            "the cache may take {}, but the file system of {} has only {}; set [cache] disk to less",
            output::bytes(budget),
            dir.display(),
            output::bytes(size)
        )
    })
}

/// Prints notices about entries that are hidden or shown differently.
fn print_notices(notices: &[String], dir: &Path) {
    for notice in notices.iter().take(MAX_NOTICES) {
        output::warning(notice);
    }
    let more = notices.len().saturating_sub(MAX_NOTICES);
    if more > 0 {
        let all = dir.join(".walgit/notices");
        warning!("and {more} more; all are in {}", all.display());
    }
}
