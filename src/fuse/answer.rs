//! Answers right away where that is possible, else from a task.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use fuser::{
    Errno, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyXattr,
};
use tokio::runtime::Handle;

use super::errno::Failure;

/// A reply that can carry an error.
pub(super) trait Reply: Send + 'static {
    fn fail(self, errno: Errno);
}

macro_rules! reply {
    ($($reply:ty),*) => {
        $(impl Reply for $reply {
            fn fail(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

reply!(
    ReplyAttr,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEntry,
    ReplyXattr
);

/// How operations ended.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Operations begun.
    pub(super) operations: AtomicU64,
    /// Those that had to wait for the network.
    pub(super) waited: AtomicU64,
    /// Those that failed because something could not be read.
    pub(super) failed: AtomicU64,
    /// Of these, those whose bytes were refused.
    pub(super) integrity: AtomicU64,
    /// Those that took longer than they may.
    pub(super) timed_out: AtomicU64,
}

/// Runs operations within a deadline.
#[derive(Clone, Debug)]
pub(super) struct Answerer {
    pub(super) runtime: Handle,
    pub(super) deadline: Duration,
    pub(super) outcomes: Arc<Outcomes>,
}

type Operation = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Answerer {
    /// Does `work` and gives its result to `send`. An operation that panics,
    /// or whose runtime ends, drops its reply, which `fuser` answers with EIO.
    pub(super) fn answer<R: Reply, T: Send + 'static>(
        &self,
        reply: R,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
        send: impl FnOnce(R, T) + Send + 'static,
    ) {
        let (deadline, outcomes) = (self.deadline, self.outcomes.clone());
        outcomes.operations.fetch_add(1, Ordering::Relaxed);
        let _entered = self.runtime.enter();
        let mut operation: Operation = Box::pin(async move {
            match tokio::time::timeout(deadline, work).await {
                Ok(Ok(done)) => send(reply, done),
                Ok(Err(failure)) => reply.fail(outcomes.note(&failure)),
                Err(_) => {
                    outcomes.timed_out.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!("an operation took longer than {} s", deadline.as_secs());
                    reply.fail(Errno::ETIMEDOUT);
                }
            }
        });
        let mut context = Context::from_waker(Waker::noop());
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            operation.as_mut().poll(&mut context).is_ready()
        }));
        // A panic was printed by its hook and answered as the reply dropped;
        // polling again would panic again.
        if let Ok(false) = polled {
            self.outcomes.waited.fetch_add(1, Ordering::Relaxed);
            self.runtime.spawn(operation);
        }
    }
}

impl Outcomes {
    fn note(&self, failure: &Failure) -> Errno {
        if let Failure::Repo(error) = failure {
            self.failed.fetch_add(1, Ordering::Relaxed);
            if failure.is_integrity() {
                self.integrity.fetch_add(1, Ordering::Relaxed);
            }
            tracing::warn!("{error}");
        }
        failure.errno()
    }
}
