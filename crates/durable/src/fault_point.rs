//! Named fault points, where a test stops, kills or fails this process.
//!
//! Crash safety is tested exactly, not with random kill times: a test sets
//! `WALGIT_FS_FAULT_POINTS` and the process fails at exactly that step.
//!
//! ```text
//! WALGIT_FS_FAULT_POINTS="gc.before_delete=kill,publish.before_name=fail@2"
//! ```
//!
//! Each item is `NAME=ACTION` with an optional `@N`: act on the N-th time that the
//! process reaches the point (1 is the first, and the default). Actions: `kill`
//! (SIGKILL), `stop` (SIGSTOP), `fail` (an I/O error, EIO) and `full` (ENOSPC). `*`
//! matches every point, so `*=kill@N` with N = 1, 2, … interrupts an operation at each of
//! its steps in turn. Without the variable, a fault point costs one atomic load.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

/// The environment variable that activates fault points.
pub const ENV_VARIABLE: &str = "WALGIT_FS_FAULT_POINTS";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultAction {
    Signal(Signal),
    Error(Errno),
}

#[derive(Debug)]
struct FaultPoint {
    name: String,
    action: FaultAction,
    /// Remaining visits until the point acts; 0 after it acted.
    remaining: AtomicU32,
}

/// Time that a thread waits for a signal that it sent to its process.
const SIGNAL_GRACE: Duration = Duration::from_millis(500);

static ACTIVE: OnceLock<Vec<FaultPoint>> = OnceLock::new();

/// Marks a step that a test may interrupt.
///
/// # Errors
/// The injected error, if the environment requests one.
pub fn reach(name: &str) -> io::Result<()> {
    let active = ACTIVE.get_or_init(|| match std::env::var(ENV_VARIABLE) {
        Ok(text) => parse(&text),
        Err(_) => Vec::new(),
    });
    for point in active {
        if (point.name == name || point.name == "*") && point.countdown() {
            match point.action {
                FaultAction::Signal(signal) => {
                    kill_process(getpid(), signal)?;
                    // Another thread may receive the signal: this thread must not
                    // continue before the signal has stopped or killed the process.
                    std::thread::sleep(SIGNAL_GRACE);
                }
                FaultAction::Error(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

impl FaultPoint {
    /// Whether the point acts on this visit.
    fn countdown(&self) -> bool {
        let step = |left: u32| left.checked_sub(1);
        let before = self
            .remaining
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
        before == Ok(1)
    }
}

/// Malformed items are reported and ignored, because the variable is for tests.
fn parse(text: &str) -> Vec<FaultPoint> {
    let items = text.split(',').filter(|item| !item.trim().is_empty());
    items
        .filter_map(|item| {
            let point = parse_item(item.trim());
            if point.is_none() {
                tracing::warn!("{ENV_VARIABLE}: malformed item `{item}` ignored");
            }
            point
        })
        .collect()
}

fn parse_item(item: &str) -> Option<FaultPoint> {
    let (name, action) = item.split_once('=')?;
    let (action, count) = match action.split_once('@') {
        Some((action, count)) => (action, count.parse().ok()?),
        None => (action, 1),
    };
    let action = match action {
        "kill" => FaultAction::Signal(Signal::KILL),
        "stop" => FaultAction::Signal(Signal::STOP),
        "fail" => FaultAction::Error(Errno::IO),
        "full" => FaultAction::Error(Errno::NOSPC),
        _ => return None,
    };
    Some(FaultPoint {
        name: name.into(),
        action,
        remaining: AtomicU32::new(count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_names_a_point_an_action_and_a_count() {
        let points = parse("a.b=kill, c=full@3,nonsense,d=explode");
        assert_eq!(points.len(), 2);
        assert_eq!(points[0].action, FaultAction::Signal(Signal::KILL));
        assert_eq!(points[1].action, FaultAction::Error(Errno::NOSPC));
        let acted: Vec<bool> = (0..4).map(|_| points[1].countdown()).collect();
        assert_eq!(acted, [false, false, true, false]);
    }
}
