//! `export`: converts a published history back to a git repository.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, output};
use crate::lifecycle::{Checkout, ExportLimits, ExportOptions, Exported, export, git_fsck};
use walgit_format::Address;

/// Size in plain bytes above which a hint about a smaller pack is printed.
const WORTH_REPACKING: u64 = 1 << 20;

/// Export a published repository, with all its history, to a git repository
///
/// Every commit, tree, file and tag keeps its ID, so signatures stay valid; branches and
/// tags are preserved. All IDs are computed from the stored content and must match those
/// that the commits refer to. The folder appears when it is complete.
#[derive(Debug, Args)]
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
    #[arg(long, value_name = "NUMBER", default_value_t = ExportLimits::default().entries)]
    max_files: u64,
    /// Maximum bytes of content to check out
    #[arg(long, value_name = "BYTES", default_value_t = ExportLimits::default().bytes)]
    max_size: u64,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Serialize)]
struct Report<'a> {
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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let cache = context::cache(&settings)?;
        let loader = context::loader(&cache);
        let started = std::time::Instant::now();
        let bar = output::byte_bar("exporting");
        let done = context.run(async {
            let work = async {
                let repository =
                    context::open(&settings, &loader, &self.address, &self.keys).await?;
                let tell = |done, total| {
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
                    limits: ExportLimits {
                        entries: self.max_files,
                        bytes: self.max_size,
                    },
                };
                let exported = export(&repository, &self.dir, options, &tell).await;
                let exported = exported
                    .map_err(|error| -> Failure { format!("{}: {error}", self.address).into() })?;
                if self.check {
                    bar.set_message("checking");
                    self.look_over().await?;
                }
                Ok(exported)
            };
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                done = work => done,
                _ = tokio::signal::ctrl_c() => Err("stopped; nothing is left of it".into()),
                _ = terminate.recv() => Err("stopped; nothing is left of it".into()),
            }
        });
        bar.finish_and_clear();
        let exported = done?;
        let report = Report {
            address: self.address.to_string(),
            dir: &self.dir,
            exported: &exported,
            checked: self.check,
            repack: self.repack,
            seconds: started.elapsed().as_secs_f64(),
        };
        match context.json {
            true => output::json(&report)?,
            false => report.print()?,
        }
        if let Some(why) = &exported.not_repacked {
            output::warning(&format!("git could not repack it: {why}"));
        }
        let dir = self.dir.display();
        match &exported.checkout {
            Checkout::Done | Checkout::Bare => {}
            Checkout::NoGit => output::warning(&format!(
                "there is no git here to check anything out; where there is: git -C {dir} \
                 checkout --force"
            )),
            Checkout::Failed(why) => output::warning(&format!(
                "the history is complete, and git could not check it out: {why}"
            )),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Verifies the exported repository with git.
    async fn look_over(&self) -> Result<(), Failure> {
        let dir = self.dir.display();
        match git_fsck(&self.dir).await {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(format!(
                "{dir} is exported, object for object as it was published, and git fsck \
                 complains: {found}"
            )
            .into()),
            Err(error) => {
                Err(format!("{dir} is exported, and git cannot check it: {error}").into())
            }
        }
    }
}

impl Report<'_> {
    fn print(&self) -> Result<(), Failure> {
        let done = self.exported;
        let dir = self.dir.display();
        output::line(&format!("{} exported to {dir}", self.address))?;
        let row = |key: &str, value: String| vec![format!("  {key}"), value];
        output::table(&[
            row(
                "history",
                format!(
                    "{} commits, {} trees, {} contents, {} tags{}",
                    done.commits,
                    done.trees,
                    done.contents,
                    done.tags,
                    if done.shallow { "; shallow" } else { "" }
                ),
            ),
            row("refs", done.refs.to_string()),
            row(
                "written",
                format!(
                    "{} in a pack of {} in {:.1} s",
                    output::bytes(done.bytes),
                    output::bytes(done.pack_bytes),
                    self.seconds
                ),
            ),
            row(
                "checked",
                match self.checked {
                    true => "all IDs are those that the commits name; git fsck agrees".into(),
                    false => "all IDs are those that the commits name".into(),
                },
            ),
        ])?;
        if self.repack || done.bytes < WORTH_REPACKING {
            return Ok(());
        }
        output::line("")?;
        output::line(&format!(
            "`git -C {dir} repack -adf` makes the pack several times smaller"
        ))
    }
}
