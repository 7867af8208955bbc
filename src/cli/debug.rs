//! `debug`: commands for development and diagnosis; also `blob-id`.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;

use super::analyze::Analyze;
use super::context::Context;
use super::epoch::Epoch;
use super::explain::Explain;
use super::replay::Replay;
use walrus_encoding::blob_id::blob_id_of;
use walrus_encoding::cost;

/// Inspect files, tiers, prefetching and epochs, for development and diagnosis
#[derive(Debug, Args)]
pub(super) struct Debug {
    #[command(subcommand)]
    command: DebugCommand,
}

commands!(DebugCommand {
    Analyze(Analyze),
    BlobId(BlobIdOf),
    Epoch(Epoch),
    Explain(Explain),
    Replay(Replay),
});

impl Debug {
    pub(super) fn run(self, context: &Context) -> Result<std::process::ExitCode> {
        self.command.run(context)
    }
}

/// Print the Walrus blob ID of a file, computed locally
#[derive(Debug, Args)]
pub(super) struct BlobIdOf {
    /// Files to hash
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl BlobIdOf {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let mut rows = Vec::new();
        for path in &self.files {
            let shown = || path.display().to_string();
            let file = File::open(path).with_context(shown)?;
            let metadata = file.metadata().with_context(shown)?;
            ensure!(
                metadata.is_file(),
                "{}: only a regular file has a blob ID",
                path.display()
            );
            let id = blob_id_of(file, metadata.len()).with_context(shown)?;
            if context.json {
                rows.push(json!({
                    "file": path, "blob_id": id, "size": metadata.len(),
                    "billed": cost::encoded_size(metadata.len()),
                }));
            } else if self.files.len() > 1 {
                outln!("{id}  {}", path.display())?;
            } else {
                outln!("{id}")?;
            }
        }
        context.report(&rows, || Ok(()))
    }
}
