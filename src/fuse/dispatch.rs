//! Runs operations: replies immediately if possible, otherwise from a task.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use fuser::{
    Errno, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyXattr,
};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::errno::OpError;
use super::watchdog;

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

/// Statistics of one mount since it was created.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct DriverStats {
    /// Requests from the kernel.
    pub operations: u64,
    /// Operations that waited for the network.
    pub waited: u64,
    /// Operations that failed because of a read error.
    pub failed: u64,
    /// Failed operations whose content did not pass verification.
    pub integrity: u64,
    /// Operations that exceeded the deadline.
    pub timed_out: u64,
}

/// Runs operations within a deadline.
#[derive(Clone, Debug)]
pub(super) struct Dispatcher {
    pub(super) runtime: Handle,
    pub(super) deadline: Duration,
    pub(super) stats: Arc<Mutex<DriverStats>>,
}

impl Dispatcher {
    /// Runs `work` and passes its result to `send`. The kernel gets a reply in every
    /// case: EIO after a panic or if the runtime shuts down, ETIMEDOUT if the work
    /// exceeds the deadline or never yields.
    ///
    /// `op` and `path` describe the operation in log messages. The path is evaluated
    /// only after a failure, and only if that does not wait.
    pub(super) fn dispatch<R: Reply, T: Send + 'static>(
        &self,
        op: &'static str,
        path: impl Future<Output = Option<String>> + Send + 'static,
        reply: R,
        work: impl Future<Output = Result<T, OpError>> + Send + 'static,
        send: impl FnOnce(R, T) + Send + 'static,
    ) {
        let (deadline, stats) = (self.deadline, self.stats.clone());
        stats.lock().operations += 1;
        let reply = Arc::new(Mutex::new(Some(reply)));
        let watch = watchdog::watch(deadline, {
            let (reply, stats) = (reply.clone(), stats.clone());
            move || {
                let reply = reply.lock().take();
                if let Some(reply) = reply {
                    stats.lock().timed_out += 1;
                    tracing::warn!("{op} exceeded its deadline and is still computing");
                    reply.fail(Errno::ETIMEDOUT);
                }
            }
        });
        let describe = move || match path.now_or_never().flatten() {
            Some(path) => format!("{op} of {path:?}"),
            None => format!("{op} of a file whose path cannot be read"),
        };
        let _entered = self.runtime.enter();
        // State that a panic leaves inconsistent is dropped with the operation.
        let work = AssertUnwindSafe(work).catch_unwind();
        let mut operation = async move {
            let _watch = watch;
            let result = tokio::time::timeout(deadline, work).await;
            let Some(reply) = reply.lock().take() else {
                return;
            };
            let errno = match result {
                Ok(Ok(Ok(value))) => return send(reply, value),
                Ok(Ok(Err(OpError::Errno(errno)))) => errno,
                Ok(Ok(Err(OpError::Repo(error)))) => {
                    let mut stats = stats.lock();
                    stats.failed += 1;
                    stats.integrity += u64::from(super::errno::is_integrity(&error));
                    drop(stats);
                    tracing::warn!("{}: {error}", describe());
                    super::errno::of(&error)
                }
                Ok(Err(_)) => {
                    stats.lock().failed += 1;
                    tracing::error!("{} panicked; this is a bug", describe());
                    Errno::EIO
                }
                Err(_) => {
                    stats.lock().timed_out += 1;
                    let seconds = deadline.as_secs_f32();
                    tracing::warn!("{} took longer than {seconds} s", describe());
                    Errno::ETIMEDOUT
                }
            };
            reply.fail(errno);
        }
        .boxed();
        let mut context = Context::from_waker(Waker::noop());
        if operation.as_mut().poll(&mut context).is_pending() {
            self.stats.lock().waited += 1;
            self.runtime.spawn(operation);
        }
    }
}
