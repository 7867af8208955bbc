//! Every command under every adverse condition ends in time, names the object and the
//! remedy, exits with the documented code, and loses nothing.
//!
//! - [`commands`]: the commands, with their arguments;
//! - [`conditions`]: the conditions, each with a way to create and to end it;
//! - [`environment`]: a user with published repositories, keys and pins;
//! - [`expected`]: the exit code of each combination.
//!
//! Each condition is a separate test, so conditions run in parallel. `devnet` is not
//! among the commands, because it serves until it is stopped; `devnet.rs` covers it.

mod commands;
mod conditions;
mod environment;
mod expected;

use std::time::Duration;

use commands::COMMANDS;
use conditions::Condition;
use environment::{CommandResult, Environment};

/// Time limit of a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs all commands under a condition.
fn check(condition: Condition) {
    let mut environment = Environment::new(condition.network());
    let mut failures = Vec::new();
    for command in COMMANDS {
        condition.begin(&mut environment);
        let result = environment.run(command, condition, COMMAND_TIMEOUT);
        condition.end(&mut environment);
        println!(
            "matrix: {:<12} {:<24} {} {:>5} ms  {}",
            condition.name(),
            command.name,
            result.code,
            result.took.as_millis(),
            result.message()
        );
        let expected = expected::code(command.name, condition);
        if result.code != expected {
            failures.push(format!(
                "{}: exit code {} instead of {expected}: {}",
                command.name, result.code, result.stderr
            ));
        }
        failures.extend(violations(&result).map(|fault| format!("{}: {fault}", command.name)));
        failures
            .extend((environment.losses().iter()).map(|loss| format!("{}: {loss}", command.name)));
    }
    failures.extend(environment.content_losses());
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        condition.name(),
        failures.join("\n")
    );
}

/// Violations in the result of a command, apart from its exit code.
fn violations(result: &CommandResult) -> impl Iterator<Item = String> {
    let stderr = &result.stderr;
    let errors = stderr.lines().filter(|line| line.starts_with("error: "));
    let has_error = errors.count() == 1;
    let found = [
        (result.code == -1, "did not end in time"),
        (stderr.contains("panicked"), "panicked"),
        (result.code == 0 && has_error, "succeeded with an error"),
        // A command that reports findings (`status`, `doctor`, `fsck`) fails without an
        // error message: its report names the object and the remedy.
        (
            result.code == 1 && !has_error && result.stdout.trim().is_empty(),
            "failed without a message",
        ),
        (stderr.lines().count() > 8, "printed more than 8 lines"),
    ];
    let text = stderr.clone();
    (found.into_iter())
        .filter(|(applies, _)| *applies)
        .map(move |(_, what)| format!("{what}: {text}"))
}

macro_rules! conditions {
    ($($test:ident: $condition:ident,)*) => { $(
        #[test]
        fn $test() {
            check(Condition::$condition);
        }
    )* };
}

conditions! {
    commands_are_robust_without_a_daemon: NoDaemon,
    commands_are_robust_after_the_daemon_was_killed: KilledDaemon,
    commands_are_robust_while_the_daemon_is_stopped: StoppedDaemon,
    commands_are_robust_in_another_environment: OtherEnvironment,
    commands_are_robust_on_a_full_disk: FullDisk,
    commands_are_robust_with_20_file_descriptors: FewDescriptors,
    commands_are_robust_with_a_read_only_home: ReadOnlyHome,
    commands_are_robust_without_a_network: NoNetwork,
    commands_are_robust_on_a_silent_network: SilentNetwork,
    commands_are_robust_with_a_broken_config_file: BrokenConfig,
}
