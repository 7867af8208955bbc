//! Signals that end the daemon: all catchable signals that would end a process.
//!
//! A daemon killed by a signal leaves dead mounts behind, so it ends its mounts first on
//! any such signal. SIGKILL cannot be caught, and signals for program faults (SIGSEGV,
//! SIGBUS, SIGILL, SIGFPE) must not be.

use std::io;
use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::fuse::proc_field;

const SIGHUP: i32 = 1;
/// INT, QUIT, TRAP, ABRT, USR1, USR2, ALRM, TERM, STKFLT, XCPU, VTALRM, PROF, IO, PWR and
/// SYS.
const ENDING_SIGNALS: [i32; 15] = [2, 3, 5, 6, 10, 12, 14, 15, 16, 24, 26, 27, 29, 30, 31];
/// Signal for a write beyond the file size limit, which also returns an error.
const SIGXFSZ: i32 = 25;
const REAL_TIME_SIGNALS: std::ops::RangeInclusive<i32> = 34..=64;

/// Signals that ask this process to exit.
pub(super) struct Signals {
    received: mpsc::UnboundedReceiver<i32>,
    _harmless: Vec<Signal>,
}

impl Signals {
    /// Starts to catch signals. With `nohup`, a SIGHUP that the caller ignores stays
    /// ignored.
    pub(super) fn catch(nohup: bool) -> io::Result<Self> {
        let (sender, received) = mpsc::unbounded_channel();
        let hangup = (!(nohup && is_ignored(SIGHUP))).then_some(SIGHUP);
        for number in ENDING_SIGNALS
            .into_iter()
            .chain(REAL_TIME_SIGNALS)
            .chain(hangup)
        {
            let mut stream = signal(SignalKind::from_raw(number))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    let _ = sender.send(number);
                }
            });
        }
        Ok(Signals {
            received,
            // If the caller ignores SIGCHLD, this process could not wait for its
            // children.
            _harmless: vec![
                signal(SignalKind::from_raw(SIGXFSZ))?,
                signal(SignalKind::child())?,
            ],
        })
    }

    /// Waits for a signal that ends the process; returns its number.
    pub(super) async fn next(&mut self) -> i32 {
        match self.received.recv().await {
            Some(number) => number,
            None => std::future::pending().await,
        }
    }
}

fn is_ignored(number: i32) -> bool {
    let ignored = proc_field(Path::new("/proc/self/status"), "SigIgn:");
    let ignored = ignored.and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}
