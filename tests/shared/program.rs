//! The program as a user runs it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_walgit-fs");

/// A command of walgit-fs for a user whose state is in `state`.
pub(crate) fn command<S: AsRef<OsStr>>(
    state: &Path,
    environment: &[(String, String)],
    args: &[S],
) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null());
    for name in ["CONFIG", "DATA", "CACHE", "STATE"] {
        let dir = state.join(name.to_lowercase());
        command.env(format!("XDG_{name}_HOME"), dir);
    }
    command.env("XDG_RUNTIME_DIR", state.join("run"));
    command.envs(environment.iter().cloned());
    command
}
