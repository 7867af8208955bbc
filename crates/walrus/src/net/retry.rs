//! Retries of operations.

use std::time::Duration;

use tokio::time::Instant;

use super::failures::FailureHandling;
use crate::network::NetPolicy;

/// Retry policy of an operation.
///
/// Implemented here rather than with a crate (`backon`, `tower`'s retry layer), because
/// the server may set the pause (`Retry-After`), no attempt may pass the operation's
/// deadline, and the failure log must record what follows each attempt. The crates leave
/// all of this to the caller; the rest is one multiplication.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Most retries after the first attempt.
    pub retries: u32,
    /// Pause before the first retry; doubles with each retry.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// Time limit of the whole operation, including pauses.
    pub deadline: Duration,
}

impl Retry {
    /// Takes the policy from the settings, for operations with this deadline.
    pub fn of(policy: &NetPolicy, deadline: Duration) -> Self {
        Retry {
            retries: policy.retries,
            first_pause: Duration::from_millis(policy.first_pause_ms),
            longest_pause: Duration::from_millis(policy.longest_pause_ms),
            deadline,
        }
    }
}

/// Effect of a failed attempt on the next one.
#[derive(Debug)]
pub enum Verdict<E> {
    /// Permanent: a retry cannot help.
    Final(E),
    /// Transient: retry, after the pause if the server requested one.
    MayHeal(E, Option<Duration>),
}

/// Receives the events of [`Attempts`].
pub trait RetryObserver<E> {
    /// An attempt starts; `number` counts from 1.
    fn starts(&self, number: u32);

    /// The last attempt failed, and is retried, or the operation gives up.
    fn failed(&self, handling: FailureHandling);

    /// Returns the error for an attempt still in progress at the deadline.
    fn timed_out(&self, deadline: Duration) -> E;
}

/// The attempts of one operation.
pub struct Attempts<'a, O> {
    policy: Retry,
    observer: &'a O,
    end: Instant,
    started: u32,
    pause: Duration,
}

impl<'a, O> Attempts<'a, O> {
    /// Starts an operation now.
    pub fn new(policy: Retry, observer: &'a O) -> Self {
        Attempts {
            policy,
            observer,
            end: Instant::now() + policy.deadline,
            started: 0,
            pause: policy.first_pause,
        }
    }

    /// Runs one attempt. Returns the result of the operation, or `None` after a pause if
    /// another attempt is to follow: not after a success, a permanent failure, the
    /// deadline or the last retry.
    pub async fn run<T, E>(
        &mut self,
        attempt: impl Future<Output = Result<T, Verdict<E>>>,
    ) -> Option<Result<T, E>>
    where
        O: RetryObserver<E>,
    {
        self.started += 1;
        self.observer.starts(self.started);
        let (error, requested) = match tokio::time::timeout_at(self.end, attempt).await {
            Ok(Ok(done)) => return Some(Ok(done)),
            Ok(Err(Verdict::MayHeal(error, requested))) => (error, requested),
            Ok(Err(Verdict::Final(error))) => {
                self.observer.failed(FailureHandling::GaveUp);
                return Some(Err(error));
            }
            Err(_) => return Some(Err(self.observer.timed_out(self.policy.deadline))),
        };
        let pause = requested.unwrap_or_else(|| jittered(self.pause));
        if self.started > self.policy.retries || Instant::now() + pause >= self.end {
            self.observer.failed(FailureHandling::GaveUp);
            return Some(Err(error));
        }
        self.observer.failed(FailureHandling::Retried);
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(self.policy.longest_pause);
        None
    }
}

/// Varies a pause by ±10 %, so that clients that failed together do not retry together.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn policy() -> Retry {
        Retry::of(&NetPolicy::default(), DEADLINE)
    }

    /// Records the number of the last attempt.
    #[derive(Default)]
    struct LastAttempt(Cell<u32>);

    impl RetryObserver<String> for LastAttempt {
        fn starts(&self, number: u32) {
            self.0.set(number);
        }

        fn failed(&self, _: FailureHandling) {}

        fn timed_out(&self, _: Duration) -> String {
            "timed out".into()
        }
    }

    /// Runs attempts, numbered from 0, with these results.
    async fn run(
        verdict: impl Fn(u32) -> Result<u32, Verdict<String>>,
    ) -> (Result<u32, String>, u32, Duration) {
        let (last, started) = (LastAttempt::default(), Instant::now());
        let mut attempts = Attempts::new(policy(), &last);
        loop {
            let attempt = async { verdict(last.0.get() - 1) };
            if let Some(done) = attempts.run(attempt).await {
                return (done, last.0.get(), started.elapsed());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_failure_is_retried_with_doubling_pauses() {
        let heals_at_third = |n| {
            if n < 3 {
                Err(Verdict::MayHeal("no".into(), None))
            } else {
                Ok(n)
            }
        };
        let (done, tried, took) = run(heals_at_third).await;
        assert_eq!((done, tried), (Ok(3), 4));
        assert!(
            (6.3..7.7).contains(&took.as_secs_f64()),
            "1 + 2 + 4 s, ±10 %: {took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_failure_is_not_retried() {
        let (done, tried, _) = run(|_| Err(Verdict::Final("gone".into()))).await;
        assert_eq!((done, tried), (Err("gone".into()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_retry_passes_the_deadline() {
        let (done, _, took) = run(|_| Err(Verdict::MayHeal("down".into(), None))).await;
        assert_eq!(done, Err("down".into()));
        assert!(took <= DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_requested_pause_is_observed() {
        let pause = Duration::from_secs(9);
        let (_, tried, took) = run(|n| match n {
            0 => Err(Verdict::MayHeal("busy".into(), Some(pause))),
            n => Ok(n),
        })
        .await;
        assert_eq!(tried, 2);
        assert_eq!(took, pause);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_ends_at_the_deadline() {
        let started = Instant::now();
        let last = LastAttempt::default();
        let done = Attempts::new(policy(), &last)
            .run(std::future::pending())
            .await;
        assert_eq!(done, Some(Err::<(), _>("timed out".into())));
        assert_eq!(started.elapsed(), DEADLINE);
    }
}
