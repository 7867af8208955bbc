//! `export`: converts a published history back to a git repository.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Keys;
use super::context::Context;
use super::output;
use super::progress::byte_bar;
use super::session::Session;
use crate::lifecycle::{
    CheckoutLimits, CheckoutOutcome, ExportOptions, Exported, export, git_fsck,
};
use walgit_format::Address;

/// Size in plain bytes above which a hint about a smaller pack is printed.
const MIN_REPACK_HINT_BYTES: u64 = 1 << 20;
const INTERRUPTED: &str = "interrupted; nothing is left of the export";

/// Export a published repository, with all its history, to a git repository
///
/// Every commit, tree, file and tag keeps its ID, so signatures stay valid; branches and
/// tags are preserved. All IDs are computed from the stored content and must match those
/// that the commits refer to. The folder appears when it is complete.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Export {
    /// NAME, walrus://BLOB_ID or sui://OBJECT_ID[/BRANCH]
    address: Address,
    /// Target folder; must be empty or not exist
    dir: PathBuf,
    /// Create a bare repository, without a checkout
    #[arg(long)]
    bare: bool,
    /// Let `git repack` search for deltas: slower, but the pack is several times smaller
    #[arg(long)]
    repack: bool,
    /// Verify the result with `git fsck`
    #[arg(long)]
    check: bool,
    /// Maximum number of files and directories to check out
    #[arg(long, value_name = "NUMBER", default_value_t = CheckoutLimits::default().entries)]
    max_files: u64,
    /// Maximum bytes of content to check out
    #[arg(long, value_name = "BYTES", default_value_t = CheckoutLimits::default().bytes)]
    max_size: u64,
    #[command(flatten)]
    keys: Keys,
}

const EXAMPLES: &str = "\
Examples:
  walgit-fs export ripgrep ~/src/ripgrep            clone with all history
  walgit-fs export ripgrep mirror.git --bare --check";

#[derive(Serialize)]
struct ExportReport<'a> {
    address: String,
    dir: &'a Path,
    #[serde(flatten)]
    exported: &'a Exported,
    /// Whether `git fsck` ran and found no error.
    checked: bool,
    #[serde(skip)]
    repack: bool,
    seconds: f64,
}

impl Export {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let session = Session::new(&settings, &self.keys)?;
        let started = std::time::Instant::now();
        let bar = byte_bar("exporting");
        let done = context.run(async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                done = self.export(context, &session, &bar) => done,
                _ = tokio::signal::ctrl_c() => bail!(INTERRUPTED),
                _ = terminate.recv() => bail!(INTERRUPTED),
            }
        });
        bar.finish_and_clear();
        let exported = done?;
        let report = ExportReport {
            address: self.address.to_string(),
            dir: &self.dir,
            exported: &exported,
            checked: self.check,
            repack: self.repack,
            seconds: started.elapsed().as_secs_f64(),
        };
        context.report(&report, || report.print())?;
        if let Some(why) = &exported.not_repacked {
            warning!("git could not repack it: {why}");
        }
        let dir = self.dir.display();
        match &exported.checkout {
            CheckoutOutcome::Done | CheckoutOutcome::Bare => {}
            CheckoutOutcome::NoGit => warning!(
                "git is not installed, so no files were checked out; later: git -C {dir} checkout \
                 --force"
            ),
            CheckoutOutcome::Failed(why) => {
                warning!("the history is complete, but git could not check it out: {why}");
            }
        }
        Ok(())
    }

    async fn export(
        &self,
        context: &Context,
        session: &Session<'_>,
        bar: &ProgressBar,
    ) -> Result<Exported> {
        let repository = session.open(&self.address).await?;
        let progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
            if done == total {
                bar.set_message("finishing");
            }
        };
        let options = ExportOptions {
            bare: self.bare,
            repack: self.repack,
            umask: Some(context.umask),
            limits: CheckoutLimits {
                entries: self.max_files,
                bytes: self.max_size,
            },
        };
        let exported = export(&repository, &self.dir, options, &progress).await;
        let exported = exported.with_context(|| self.address.to_string())?;
        if self.check {
            bar.set_message("checking");
            let dir = self.dir.display();
            match git_fsck(&self.dir).await {
                Ok(None) => {}
                Ok(Some(found)) => bail!(
                    "{dir} is exported, every object as it was published, but git fsck reports: \
                     {found}"
                ),
                Err(error) => bail!("{dir} is exported, but git cannot check it: {error}"),
            }
        }
        Ok(exported)
    }
}

impl ExportReport<'_> {
    fn print(&self) -> Result<()> {
        let done = self.exported;
        let dir = self.dir.display();
        outln!("{} exported to {dir}", self.address)?;
        let history = format!(
            "{} commits, {} trees, {} contents, {} tags{}",
            done.commits,
            done.trees,
            done.contents,
            done.tags,
            if done.shallow { "; shallow" } else { "" }
        );
        let written = format!(
            "{} in a pack of {} in {:.1} s",
            output::bytes(done.bytes),
            output::bytes(done.pack_bytes),
            self.seconds
        );
        let fsck = if self.checked {
            "; git fsck agrees"
        } else {
            ""
        };
        output::details([
            ("history", history),
            ("refs", done.refs.to_string()),
            ("written", written),
            (
                "checked",
                format!("all IDs match those in the commits{fsck}"),
            ),
        ])?;
        if self.repack || done.bytes < MIN_REPACK_HINT_BYTES {
            return Ok(());
        }
        output::line("")?;
        outln!("`git -C {dir} repack -adf` makes the pack several times smaller")
    }
}
