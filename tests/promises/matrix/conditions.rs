//! The conditions, each with a way to create and to end it.

use std::fs;

use rustix::process::Signal;

use super::environment::{Environment, Network};

/// An adverse condition while a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing is mounted, no daemon runs.
    NoDaemon,
    /// The daemon was killed: a dead mount is left.
    KilledDaemon,
    /// The daemon serves a mount and is stopped (SIGSTOP).
    StoppedDaemon,
    /// A mount was made with other XDG directories and another TMPDIR, as from cron.
    OtherEnvironment,
    /// The disk with all state is full.
    FullDisk,
    /// The command may open 20 files.
    FewDescriptors,
    /// The disk with all state is mounted read-only.
    ReadOnlyHome,
    /// Servers refuse connections.
    NoNetwork,
    /// Servers accept connections and never respond.
    SilentNetwork,
    /// The config file does not parse.
    BrokenConfig,
}

use Condition::*;

impl Condition {
    pub(super) fn name(self) -> &'static str {
        match self {
            NoDaemon => "no daemon",
            KilledDaemon => "killed",
            StoppedDaemon => "stopped",
            OtherEnvironment => "environment",
            FullDisk => "full disk",
            FewDescriptors => "descriptors",
            ReadOnlyHome => "read-only",
            NoNetwork => "no network",
            SilentNetwork => "silent",
            BrokenConfig => "config",
        }
    }

    /// The network that the condition needs.
    pub(super) fn network(self) -> Network {
        match self {
            NoNetwork | SilentNetwork => Network::Http,
            FullDisk | ReadOnlyHome => Network::LocalOnItsOwnDisk,
            _ => Network::Local,
        }
    }

    /// A shell command in the process of the command.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            FewDescriptors => "ulimit -S -n 20",
            _ => ":",
        }
    }

    /// Environment variables of the command.
    pub(super) fn environment(
        self,
        environment: &Environment,
    ) -> Vec<(&'static str, std::path::PathBuf)> {
        let other = |name: &str| environment.path().join("elsewhere").join(name);
        match self {
            OtherEnvironment => vec![
                ("XDG_RUNTIME_DIR", other("run")),
                ("XDG_CACHE_HOME", other("cache")),
                ("XDG_STATE_HOME", other("state")),
                ("TMPDIR", other("tmp")),
            ],
            _ => Vec::new(),
        }
    }

    /// Creates the condition.
    pub(super) fn begin(self, environment: &mut Environment) {
        match self {
            NoDaemon | ReadOnlyHome => environment.end_daemon(),
            _ => environment.mount(),
        }
        match self {
            KilledDaemon => environment.kill_daemon(),
            StoppedDaemon => environment.signal_daemon(Signal::STOP),
            OtherEnvironment => {
                fs::create_dir_all(environment.path().join("elsewhere/tmp")).unwrap()
            }
            FullDisk => environment.fill_disk(),
            ReadOnlyHome => environment.remount("ro"),
            NoNetwork => environment.server().stop(),
            SilentNetwork => environment.server().suspend(),
            BrokenConfig => environment.write_config("netwrok = \n[cache"),
            NoDaemon | FewDescriptors => {}
        }
    }

    /// Ends the condition.
    pub(super) fn end(self, environment: &mut Environment) {
        match self {
            StoppedDaemon => environment.signal_daemon(Signal::CONT),
            FullDisk => environment.free_disk(),
            ReadOnlyHome => environment.remount("rw"),
            NoNetwork => environment.server().restart(),
            SilentNetwork => environment.server().resume(),
            BrokenConfig => environment.write_config(""),
            NoDaemon | KilledDaemon | OtherEnvironment | FewDescriptors => {}
        }
        environment.clear_other_mount();
    }
}
