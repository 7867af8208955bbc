//! `debug`: commands for development and diagnosis.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Failure;
use super::analyze::Analyze;
use super::blob_id::BlobIdOf;
use super::context::Context;
use super::epoch::Epoch;
use super::prefetch::Replay;
use super::tiers::Explain;

/// Inspect files, tiers, prefetching and epochs, for development and diagnosis
#[derive(Debug, Args)]
pub(super) struct Debug {
    #[command(subcommand)]
    command: DebugCommand,
}

#[derive(Debug, Subcommand)]
enum DebugCommand {
    Analyze(Analyze),
    BlobId(BlobIdOf),
    Epoch(Epoch),
    Explain(Explain),
    Replay(Replay),
}

impl Debug {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.command {
            DebugCommand::Analyze(command) => command.run(context),
            DebugCommand::BlobId(command) => command.run(context),
            DebugCommand::Epoch(command) => command.run(context),
            DebugCommand::Explain(command) => command.run(context),
            DebugCommand::Replay(command) => command.run(context),
        }
    }
}
