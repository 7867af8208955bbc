//! CPU-heavy work on what a stranger wrote, off the threads that serve requests.
//!
//! Decoding a large node takes up to a second. On an async worker nobody else
//! would be served meanwhile and no deadline would fire, so such work runs on
//! blocking threads: a bounded number at a time, by what it takes in memory.
//! Work whose caller is gone (a deadline, a cancelled request) is told to stop.

use std::sync::LazyLock;

use tokio::sync::Semaphore;

use walgit_format::chunk::{Stop, budget};

/// Longest input in bytes that is decoded where it is needed: that takes about
/// a millisecond.
pub const INLINE: usize = 64 << 10;
/// Longest input in bytes that counts as light. Light work never waits for
/// heavy work.
const LIGHT: usize = 1 << 20;
/// Bytes of memory that light work at once may take.
const LIGHT_AT_ONCE: usize = 64 << 20;
/// Bytes of memory that heavy work at once may take: one of the largest nodes, or
/// several smaller ones.
const HEAVY_AT_ONCE: usize = budget::NODE as usize;
/// Permits are counted in units of this many bytes.
const UNIT: usize = 1 << 10;

static LIGHT_ROOM: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(LIGHT_AT_ONCE / UNIT));
static HEAVY_ROOM: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(HEAVY_AT_ONCE / UNIT));

/// The runtime ended before the work did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process is shutting down")]
pub struct Interrupted;

/// Tells the work to stop when its caller is gone.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Runs `work` on `input` bytes: here where they are few, else on a blocking
/// thread.
///
/// # Errors
/// [`Interrupted`] where the runtime shuts down meanwhile.
pub async fn offload<T: Send + 'static>(
    input: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Interrupted> {
    if input <= INLINE {
        return Ok(work());
    }
    let (room, most) = if input <= LIGHT {
        (&*LIGHT_ROOM, LIGHT_AT_ONCE)
    } else {
        (&*HEAVY_ROOM, HEAVY_AT_ONCE)
    };
    // As many as it may become, which is what counts.
    let memory = input.saturating_mul(budget::FACTOR as usize);
    let units = memory.min(most).div_ceil(UNIT);
    let permit = room.acquire_many(units as u32).await;
    let permit = permit.map_err(|_| Interrupted)?;
    let stop = Stop::default();
    let _stop = StopOnDrop(stop.clone());
    let done = tokio::task::spawn_blocking(move || {
        // Until the work has ended, whether or not somebody still waits for it.
        let _permit = permit;
        stop.during(work)
    });
    match done.await {
        Ok(done) => Ok(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Interrupted),
        },
    }
}

/// Elements after which a loop over somebody else's data lets others run.
const BREATHE_EVERY: usize = 1024;

/// Lets other tasks run, and deadlines fire, every so many steps of a loop
/// that may never have to wait for anything.
#[derive(Debug, Default)]
pub struct Pace(usize);

impl Pace {
    /// Counts `steps` steps.
    pub async fn steps(&mut self, steps: usize) {
        self.0 += steps;
        if self.0 >= BREATHE_EVERY {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}
