//! Retries of operations.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::network::NetPolicy;

/// Retry policy of an operation.
///
/// Implemented here rather than with a crate (`backon`, `tower`'s retry layer), because
/// the server may set the pause (`Retry-After`), no attempt may pass the operation's
/// deadline, and the failure log must record what follows each attempt. The crates leave
/// all of this to the caller; the rest is one multiplication.
#[derive(Clone, Debug)]
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

impl Default for Retry {
    fn default() -> Self {
        Retry {
            retries: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            deadline: Duration::from_secs(30),
        }
    }
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

/// Action after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt.
    Again,
    /// None: the operation failed.
    GiveUp,
}

/// Runs `attempt` until it succeeds, fails permanently, or runs out of time or retries.
/// Calls `follows` after each failed attempt.
///
/// # Errors
/// The error of the last attempt; `timed_out` creates the error for an attempt still in
/// progress at the deadline.
pub async fn attempts_told<T, E, F: Future<Output = Result<T, Verdict<E>>>>(
    retry: &Retry,
    timed_out: impl Fn(Duration) -> E,
    follows: impl Fn(Next),
    mut attempt: impl FnMut(u32) -> F,
) -> Result<T, E> {
    let end = Instant::now() + retry.deadline;
    let mut pause = retry.first_pause;
    for number in 0.. {
        let (error, asked) = match tokio::time::timeout_at(end, attempt(number)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Verdict::Final(error))) => {
                follows(Next::GiveUp);
                return Err(error);
            }
            Ok(Err(Verdict::MayHeal(error, asked))) => (error, asked),
            Err(_) => return Err(timed_out(retry.deadline)),
        };
        let wait = asked.unwrap_or_else(|| jittered(pause));
        if number >= retry.retries || Instant::now() + wait >= end {
            follows(Next::GiveUp);
            return Err(error);
        }
        follows(Next::Again);
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(retry.longest_pause);
    }
    Err(timed_out(retry.deadline))
}

/// Varies a pause by ±10 %, so that clients that failed together do not retry together.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    async fn run(
        verdict: impl Fn(u32) -> Result<u32, Verdict<String>>,
    ) -> (Result<u32, String>, u32, Duration) {
        let tried = Cell::new(0);
        let started = Instant::now();
        let done = attempts_told(
            &Retry::default(),
            |_| "timed out".into(),
            |_| {},
            |number| {
                tried.set(number + 1);
                let verdict = verdict(number);
                async move { verdict }
            },
        )
        .await;
        (done, tried.get(), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_heal_is_retried_with_doubling_pauses() {
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
    async fn what_is_final_is_not_retried() {
        let (done, tried, _) = run(|_| Err(Verdict::Final("gone".into()))).await;
        assert_eq!((done, tried), (Err("gone".into()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_retry_passes_the_deadline() {
        let (done, _, took) = run(|_| Err(Verdict::MayHeal("down".into(), None))).await;
        assert_eq!(done, Err("down".into()));
        assert!(took <= Retry::default().deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_a_pause_gets_it() {
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
        let done: Result<(), &str> = attempts_told(
            &Retry::default(),
            |_| "timed out",
            |_| {},
            |_| std::future::pending::<Result<(), Verdict<&str>>>(),
        )
        .await;
        assert_eq!(done, Err("timed out"));
        assert_eq!(started.elapsed(), Retry::default().deadline);
    }
}
