//! Answers an operation immediately if possible, otherwise from a task.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use fuser::{
    Errno, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyXattr,
};
use futures_util::FutureExt as _;
use tokio::runtime::Handle;

use super::errno::Failure;
use super::watchdog::{self, Overdue};

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

/// Statistics of operations.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Operations started.
    pub(super) operations: AtomicU64,
    /// Operations that waited for the network.
    pub(super) waited: AtomicU64,
    /// Operations that failed because of a read error.
    pub(super) failed: AtomicU64,
    /// Failed operations whose content did not pass verification.
    pub(super) integrity: AtomicU64,
    /// Operations that exceeded the deadline.
    pub(super) timed_out: AtomicU64,
}

/// Runs operations within a deadline.
#[derive(Clone, Debug)]
pub(super) struct Answerer {
    pub(super) runtime: Handle,
    pub(super) deadline: Duration,
    pub(super) outcomes: Arc<Outcomes>,
}

/// A reply that has not been sent yet.
struct Pending<R> {
    reply: Mutex<Option<R>>,
    verb: &'static str,
    outcomes: Arc<Outcomes>,
}

impl<R> Pending<R> {
    /// The reply, unless it was sent already.
    fn take(&self) -> Option<R> {
        let mut reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner);
        reply.take()
    }
}

impl<R: Reply> Overdue for Pending<R> {
    fn expire(&self) {
        if let Some(reply) = self.take() {
            self.outcomes.timed_out.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("{} is overdue and still computing", self.verb);
            reply.fail(Errno::ETIMEDOUT);
        }
    }
}

type Operation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Description of an operation and its file, for error messages.
pub(super) struct Subject<P> {
    /// The operation, such as `read`.
    pub(super) verb: &'static str,
    /// The path. Evaluated only after a failure, and only if that does not wait.
    pub(super) path: P,
}

impl<P: Future<Output = Option<String>>> Subject<P> {
    fn tell(self) -> String {
        match self.path.now_or_never().flatten() {
            Some(path) => format!("{} of {path:?}", self.verb),
            None => format!("{} of a file whose path cannot be read", self.verb),
        }
    }
}

impl Answerer {
    /// Runs `work` and passes its result to `send`. The kernel gets a reply in every
    /// case: EIO after a panic or if the runtime shuts down, ETIMEDOUT if the work
    /// exceeds the deadline or never yields.
    pub(super) fn answer<R: Reply, T: Send + 'static>(
        &self,
        reply: R,
        subject: Subject<impl Future<Output = Option<String>> + Send + 'static>,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
        send: impl FnOnce(R, T) + Send + 'static,
    ) {
        let (deadline, outcomes) = (self.deadline, self.outcomes.clone());
        let pending = Arc::new(Pending {
            reply: Mutex::new(Some(reply)),
            verb: subject.verb,
            outcomes: outcomes.clone(),
        });
        let watch = watchdog::watch(deadline, pending.clone());
        outcomes.operations.fetch_add(1, Ordering::Relaxed);
        let _entered = self.runtime.enter();
        // State that a panic leaves inconsistent is dropped with the operation.
        let work = AssertUnwindSafe(work).catch_unwind();
        let mut operation: Operation = Box::pin(async move {
            let _watch = watch;
            let ended = tokio::time::timeout(deadline, work).await;
            let Some(reply) = pending.take() else {
                return;
            };
            match ended {
                Ok(Ok(Ok(done))) => send(reply, done),
                Ok(Ok(Err(failure))) => reply.fail(outcomes.note(&failure, subject)),
                Ok(Err(_)) => {
                    outcomes.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("{} panicked; this is a bug", subject.tell());
                    reply.fail(Errno::EIO);
                }
                Err(_) => {
                    outcomes.timed_out.fetch_add(1, Ordering::Relaxed);
                    let (subject, seconds) = (subject.tell(), deadline.as_secs_f32());
                    tracing::warn!("{subject} took longer than {seconds} s");
                    reply.fail(Errno::ETIMEDOUT);
                }
            }
        });
        let mut context = Context::from_waker(Waker::noop());
        if operation.as_mut().poll(&mut context).is_pending() {
            self.outcomes.waited.fetch_add(1, Ordering::Relaxed);
            self.runtime.spawn(operation);
        }
    }
}

impl Outcomes {
    fn note(
        &self,
        failure: &Failure,
        subject: Subject<impl Future<Output = Option<String>>>,
    ) -> Errno {
        if let Failure::Repo(error) = failure {
            self.failed.fetch_add(1, Ordering::Relaxed);
            if failure.is_integrity() {
                self.integrity.fetch_add(1, Ordering::Relaxed);
            }
            tracing::warn!("{}: {error}", subject.tell());
        }
        failure.errno()
    }
}
