//! Command-line interface: arguments, progress bars, tables, exit codes. One file per
//! command.
//!
//! A command parses its arguments, calls the modules below, and prints. Results go to
//! standard output, as a table or, with `--json`, as JSON; progress, warnings and errors
//! go to standard error. Exit codes: 0 success, 1 failure, 2 wrong usage. An error states
//! the failed operation, its object, and the next step.
//!
//! May depend on: all other modules.

#[macro_use]
mod output;

/// Defines an enum of commands, and a function that runs the chosen one.
macro_rules! commands {
    ($name:ident { $($(#[$meta:meta])* $variant:ident($arguments:ty),)* }) => {
        #[derive(Debug, clap::Subcommand)]
        enum $name {
            $($(#[$meta])* $variant($arguments),)*
        }

        impl $name {
            fn run(
                self,
                context: &$crate::cli::context::Context,
            ) -> anyhow::Result<std::process::ExitCode> {
                match self {
                    $($name::$variant(command) => {
                        command.run(context).map(std::process::Termination::report)
                    })*
                }
            }
        }
    };
}

mod analyze;
mod args;
mod cache;
mod compact;
mod context;
mod cost;
mod daemon;
mod debug;
mod devnet;
mod doctor;
mod encrypt;
mod epoch;
mod explain;
mod export;
mod failures;
mod fsck;
mod gc;
mod key;
mod ledger;
mod log;
mod login;
mod mount;
mod names;
mod open_cache;
mod paths;
mod policy;
mod profile;
mod progress;
mod publish;
mod publish_report;
mod refs;
mod renew;
mod replay;
mod secrets;
mod session;
mod status;
mod system_error;
mod unmount;

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser};
use clap_complete::Shell;

use crate::allocator;
use crate::config::Flags;
use context::Context;

/// Mount a WalGit repository, stored on Walrus, as a folder.
#[derive(Debug, Parser)]
#[command(name = "walgit-fs", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  walgit-fs publish ~/src/ripgrep --name ripgrep    publish a git repository or a folder
  walgit-fs mount ripgrep ~/mnt/ripgrep             mount it; returns when the folder answers
  walgit-fs status                                  mounts, hit rates, traffic
  walgit-fs unmount ~/mnt/ripgrep                   done
  walgit-fs publish ~/diary --encrypt               for those alone who have its key

An ADDRESS is NAME (a name given at publish), walrus://BLOB_ID[?root=HASH]
(what publish prints: one immutable snapshot, verified as it is read),
walrus://MANIFEST_ID (a commit of WalGit's own tools) or sui://OBJECT_ID[/BRANCH]
(a WalGit repository on the Sui chain).";

#[derive(Debug, Args)]
struct Global {
    #[command(flatten)]
    flags: Flags,
    /// Print reports as JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Log more to standard error; repeat for all messages
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

commands!(Command {
    Mount(mount::Mount),
    Unmount(unmount::Unmount),
    Publish(publish::Publish),
    Refs(refs::Refs),
    Log(log::Log),
    Export(export::Export),
    Cost(cost::Cost),
    Compact(compact::Compact),
    Status(status::Status),
    Cache(cache::Cache),
    Prefetch(profile::Prefetch),
    Key(key::Key),
    Failures(failures::Failures),
    Login(login::Login),
    Logout(login::Logout),
    Whoami(login::Whoami),
    Fsck(fsck::Fsck),
    Policy(policy::PolicyCommand),
    Gc(gc::Gc),
    Renew(renew::Renew),
    Ledger(ledger::LedgerCommand),
    Doctor(doctor::Doctor),
    Devnet(devnet::Devnet),
    Debug(debug::Debug),
    /// Same as `debug blob-id`, for scripts that call it
    #[command(hide = true)]
    BlobId(debug::BlobIdOf),
    Completions(Completions),
    Daemon(daemon::Daemon),
});

/// Runs the program.
pub fn main() -> ExitCode {
    walrus_client::auth::harden_process();
    // Panic messages may quote authors' text; backtraces are for developers.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|panic| {
            errln!("error: {panic}; this is a bug");
        }));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // The message quotes the arguments, which may contain untrusted text.
        Err(error) if error.use_stderr() => {
            output::notes(&error.render().to_string());
            return ExitCode::from(2);
        }
        Err(error) => error.exit(),
    };
    if let Command::Publish(_) | Command::Export(_) = cli.command {
        // Re-executes the program, which must inherit the user's umask.
        allocator::restart_with(allocator::BULK);
    }
    // Restrict files, folders and sockets, including those of the database, to the user,
    // regardless of the inherited umask.
    let umask = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let serves = match &cli.command {
        Command::Daemon(command) => command.serves(),
        Command::Mount(command) => command.serves(),
        _ => false,
    };
    start_tracing(cli.global.verbose, serves);
    let context = Context::new(cli.global.flags, cli.global.json, umask);
    match cli.command.run(&context) {
        Ok(code) => code,
        Err(error) => {
            output::error(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Print completions for a shell: bash, zsh, fish, elvish, powershell
#[derive(Debug, Args)]
struct Completions {
    /// Shell to complete for
    shell: Shell,
}

impl Completions {
    fn run(self, _: &Context) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "walgit-fs", &mut script);
        output::script(&script)
    }
}

/// Crates of this project.
const CRATES: [&str; 6] = [
    "walgit_durable",
    "walgit_format",
    "walgit_fs",
    "walgit_prefetch",
    "walrus_client",
    "walrus_devnet",
];

/// Logs to standard error. A process that serves mounts is long-lived: it does not repeat
/// messages, and may have a log file.
fn start_tracing(verbose: u8, serves: bool) {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let (ours, others) = match verbose {
        0 => ("warn", "warn"),
        1 => ("info", "warn"),
        _ => ("debug", "info"),
    };
    let levels = || {
        let crates = CRATES.map(|name| format!("{name}={ours}"));
        EnvFilter::new(format!("{others},{}", crates.join(",")))
    };
    let filter = EnvFilter::try_from_env("WALGIT_FS_LOG").unwrap_or_else(|_| levels());
    // Log messages quote authors and servers.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| walgit_format::text::LineWriter(crate::daemon::log::Writer))
        .with_ansi(false)
        .event_format(output::Events::of(serves));
    tracing_subscriber::registry()
        .with(filter)
        .with(serves.then_some(crate::daemon::log::Repeats))
        .with(lines)
        .init();
}
