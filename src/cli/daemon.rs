//! `daemon`: what `mount` starts in the background; not for people.

use std::process::ExitCode;

use clap::Args;

use super::Failure;
use super::context::Context;

/// Serve mounts in the background (started by `mount` when needed)
#[derive(Debug, Args)]
pub(super) struct Daemon {}

impl Daemon {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        crate::daemon::run(context.settings()?, None)?;
        Ok(ExitCode::SUCCESS)
    }
}
