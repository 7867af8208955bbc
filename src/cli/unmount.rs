//! `unmount`: the folder is empty again.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::{Failure, output};
use crate::daemon;

/// Unmount a folder; `umount DIR` and `fusermount3 -u DIR` do as well
#[derive(Debug, Args)]
pub(super) struct Unmount {
    /// The folders
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Detach now even if it is in use; it ends when its last user leaves
    #[arg(long)]
    lazy: bool,
}

impl Unmount {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let mut code = ExitCode::SUCCESS;
        for dir in &self.dirs {
            let done = context.run(async { Ok(daemon::unmount(&settings, dir, self.lazy).await?) });
            match done {
                Ok(()) => {
                    if !context.json {
                        output::line(&format!("{} is unmounted", dir.display()))?;
                    }
                }
                Err(error) => {
                    output::error(&*error);
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}
