//! `completions`: prints shell completion scripts.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::Failure;

/// Print completions for a shell: bash, zsh, fish, elvish, powershell
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Shell to complete for
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::grammar(), "walgit-fs", &mut script);
        super::output::script(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
