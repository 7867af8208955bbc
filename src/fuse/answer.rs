//! Answers right away where that is possible, else from a task.

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

/// A reply that has not been given yet.
struct Pending<R> {
    reply: Mutex<Option<R>>,
    verb: &'static str,
    outcomes: Arc<Outcomes>,
}

impl<R> Pending<R> {
    /// The reply, unless somebody has given it.
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

/// What an operation does and to which file: for a message when it fails.
pub(super) struct Subject<P> {
    /// Such as `read`.
    pub(super) verb: &'static str,
    /// The path. Only looked at once the operation failed, and only if it can
    /// be told without waiting.
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
    /// Does `work` and gives its result to `send`. Whatever becomes of the
    /// work, the kernel gets an answer: a panic is an EIO, as is a reply that
    /// is dropped because the runtime ends; work that never yields is ETIMEDOUT
    /// like any other that takes too long.
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
        // What a panic leaves behind is dropped with the operation.
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
