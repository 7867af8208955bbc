//! Moves CPU-heavy work on untrusted input off the threads that serve requests.
//!
//! Decoding a large node takes up to a second. On an async worker thread it would
//! block other tasks and prevent deadlines from firing, so such work runs on blocking
//! threads, with its concurrency bounded by memory. Work is cancelled if its caller
//! is gone (deadline exceeded, request cancelled).
//!
//! May depend on: no other module.

use std::sync::LazyLock;

use tokio::sync::Semaphore;

use walgit_format::chunk::{Stop, budget};

/// Maximum input in bytes to decode on the calling thread: takes about a millisecond.
pub const MAX_INLINE_INPUT_BYTES: usize = 64 << 10;
/// Maximum input in bytes that counts as light. Light work never waits for heavy
/// work.
const MAX_LIGHT_INPUT_BYTES: usize = 1 << 20;
/// Maximum bytes of memory for concurrent light work.
const LIGHT_BYTES: usize = 64 << 20;
/// Maximum bytes of memory for concurrent heavy work: one of the largest nodes, or
/// several smaller ones.
const HEAVY_BYTES: usize = budget::NODE_BYTES as usize;
/// Bytes per semaphore permit.
const PERMIT_BYTES: usize = 1 << 10;

static LIGHT_PERMITS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(LIGHT_BYTES / PERMIT_BYTES));
static HEAVY_PERMITS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(HEAVY_BYTES / PERMIT_BYTES));

/// The runtime shut down before the work completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process is shutting down")]
pub struct Interrupted;

/// Cancels the work when its caller is gone.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Runs `work` on `input` bytes: on the calling thread if there are few, otherwise on
/// a blocking thread.
///
/// # Errors
/// [`Interrupted`] if the runtime shuts down first.
pub async fn offload<T: Send + 'static>(
    input: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Interrupted> {
    if input <= MAX_INLINE_INPUT_BYTES {
        return Ok(work());
    }
    let (permits, limit) = if input <= MAX_LIGHT_INPUT_BYTES {
        (&*LIGHT_PERMITS, LIGHT_BYTES)
    } else {
        (&*HEAVY_PERMITS, HEAVY_BYTES)
    };
    // Counts the memory of the decoded result, not of the input.
    let memory = input.saturating_mul(budget::MEMORY_PER_INPUT_BYTE as usize);
    let units = memory.min(limit).div_ceil(PERMIT_BYTES);
    let permit = permits.acquire_many(units as u32).await;
    let permit = permit.map_err(|_| Interrupted)?;
    let stop = Stop::default();
    let _stop = StopOnDrop(stop.clone());
    let result = tokio::task::spawn_blocking(move || {
        // Held until the work ends, even if the caller is gone.
        let _permit = permit;
        stop.during(work)
    });
    match result.await {
        Ok(result) => Ok(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Interrupted),
        },
    }
}

/// Steps after which a loop over untrusted data yields.
const STEPS_PER_YIELD: usize = 1024;

/// Yields to other tasks and timers at regular intervals, for loops that may never
/// wait for anything else.
#[derive(Debug, Default)]
pub struct CooperativeYield(usize);

impl CooperativeYield {
    /// Counts `steps` steps.
    pub async fn steps(&mut self, steps: usize) {
        self.0 += steps;
        if self.0 >= STEPS_PER_YIELD {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}
