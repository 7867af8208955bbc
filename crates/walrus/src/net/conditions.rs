//! Network conditions to an endpoint: round trip, bandwidth and loss, estimated from
//! regular traffic.
//!
//! Each measurement of a single request is distorted: by server time, a shared link, or
//! a body too short to fill the link. But all distortions go in one direction: no
//! request is answered before a round trip is over, and no link carries more than its
//! capacity. So, as in BBR, the round trip is the *least* recent time to an answer's
//! head, and the bandwidth the *highest* recent rate in bytes a second. "Recent" means
//! two windows of [`MEASUREMENT_WINDOW`] each, so that the estimate follows a link that got worse.
//!
//! Concurrent requests share the link, so the rate of a request is computed from the
//! bytes of *all* requests that arrived during it.
//!
//! Pure: callers pass the time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Shortest time that a best value stays valid. Short enough to follow a change of
/// networks, longer than a queue lasts.
const MEASUREMENT_WINDOW: Duration = Duration::from_secs(30);
/// Values required before a window ends: at one request an hour, the estimates must not
/// expire.
const MIN_WINDOW_VALUES: u32 = 8;
/// A shorter transfer gives only a lower bound of the bandwidth: it ended before the
/// link was full. In bytes.
const MIN_SATURATING_BYTES: u64 = 256 << 10;
/// A shorter transfer is ignored. In bytes.
const MIN_TRANSFER_BYTES: u64 = 16 << 10;
/// Resolution of clocks and schedulers.
const CLOCK_RESOLUTION: Duration = Duration::from_millis(1);
/// Decay of an attempt's weight per later attempt: about the latest 50 determine the
/// loss.
const ATTEMPT_DECAY: f64 = 0.98;

/// Network conditions to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Least time from request to the head of the answer, in microseconds. Includes the
    /// minimum server time.
    pub round_trip_us: u64,
    /// Bandwidth of the link over all requests, in bytes a second; `None` before enough
    /// bytes were transferred.
    pub bandwidth: Option<u64>,
    /// Whether the link was full during the measurement. If not, `bandwidth` is a lower
    /// bound.
    #[serde(default)]
    pub was_full: bool,
    /// Share of the latest attempts that failed, 0 to 1: no connection, a broken
    /// connection, no answer in time, or a server error.
    pub loss: f64,
}

impl Conditions {
    /// Least time from request to the head of the answer.
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us)
    }

    /// Bandwidth-delay product: the bytes in transit on a full link, and the least that
    /// must be requested at once to fill it.
    pub fn bytes_per_round_trip(&self) -> Option<u64> {
        let bytes = self.bandwidth? as f64 * self.round_trip().as_secs_f64();
        Some(bytes as u64)
    }

    /// Expected time from request to the last of `bytes` bytes.
    pub fn expected(&self, bytes: u64) -> Duration {
        let seconds = match self.bandwidth {
            Some(bandwidth) => bytes as f64 / bandwidth.max(1) as f64,
            None => 0.0,
        };
        self.round_trip() + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 2)
    }
}

/// How an attempt ended, for the loss estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransferEnd {
    /// With an answer of any status.
    Answered,
    /// Without an answer, or with a server error.
    Lost,
    /// Cancelled by the caller; not counted.
    Abandoned,
}

/// One request in progress; see [`ConditionsMeter::sent`].
#[derive(Debug)]
pub(super) struct Transfer {
    sent: Instant,
    answered: Option<Instant>,
    /// Bytes of all transfers when the request was sent.
    before: u64,
    /// Whether the link was idle when the request was sent.
    idle: bool,
    bytes: u64,
}

impl Transfer {
    /// Bytes of the body so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.is_some()
    }
}

/// Estimates the [`Conditions`] of one endpoint.
#[derive(Debug)]
pub(super) struct ConditionsMeter {
    round_trip: WindowedBest,
    bandwidth: WindowedBest,
    attempts: f64,
    lost: f64,
    arrived: u64,
    last_arrival: Option<Instant>,
}

impl Default for ConditionsMeter {
    fn default() -> Self {
        ConditionsMeter {
            round_trip: WindowedBest::new(f64::min),
            bandwidth: WindowedBest::new(f64::max),
            attempts: 0.0,
            lost: 0.0,
            arrived: 0,
            last_arrival: None,
        }
    }
}

impl ConditionsMeter {
    /// Records the start of a request.
    pub(super) fn sent(&self, now: Instant) -> Transfer {
        let quiet = Duration::from_secs_f64(self.round_trip.value().unwrap_or(0.0));
        let idle = (self.last_arrival).is_none_or(|at| now.saturating_duration_since(at) > quiet);
        Transfer {
            sent: now,
            answered: None,
            before: self.arrived,
            idle,
            bytes: 0,
        }
    }

    /// Records the head of the answer.
    pub(super) fn answered(&mut self, transfer: &mut Transfer, now: Instant) {
        transfer.answered = Some(now);
        let took = now.saturating_duration_since(transfer.sent);
        self.round_trip.record(took.as_secs_f64(), true, now);
    }

    /// Records a part of the body.
    pub(super) fn arrived(&mut self, transfer: &mut Transfer, bytes: u64, now: Instant) {
        transfer.bytes += bytes;
        self.arrived += bytes;
        self.last_arrival = Some(now);
    }

    /// Records the end of a request. `now` is the arrival of the last part of its body.
    pub(super) fn ended(&mut self, transfer: &Transfer, how: TransferEnd, now: Instant) {
        if how != TransferEnd::Abandoned {
            self.attempts = self.attempts * ATTEMPT_DECAY + 1.0;
            self.lost *= ATTEMPT_DECAY;
        }
        if how == TransferEnd::Lost {
            self.lost += 1.0;
        }
        self.record_rate(transfer, now);
    }

    /// Returns the present estimates; `None` before the first answer.
    pub(super) fn conditions(&self) -> Option<Conditions> {
        let round_trip = self.round_trip.value()?;
        Some(Conditions {
            round_trip_us: (round_trip * 1e6).round() as u64,
            bandwidth: self.bandwidth.value().map(|rate| rate as u64),
            was_full: self.bandwidth.began.is_some(),
            loss: self.loss(),
        })
    }

    /// Share of the latest attempts that were lost; 0 before the first attempt.
    pub(super) fn loss(&self) -> f64 {
        if self.attempts > 0.0 {
            return (self.lost / self.attempts).clamp(0.0, 1.0);
        }
        0.0
    }

    fn record_rate(&mut self, transfer: &Transfer, now: Instant) {
        let Some(answered) = transfer.answered else {
            return;
        };
        if transfer.bytes < MIN_TRANSFER_BYTES {
            return;
        }
        let round_trip = Duration::from_secs_f64(self.round_trip.value().unwrap_or(0.0));
        let all = now.saturating_duration_since(transfer.sent);
        let body = now.saturating_duration_since(answered);
        // An idle link carries no part of the body in the first round trip. A process
        // that reads late finds many bytes at once, so the time since the head alone
        // would overestimate the rate.
        let idle = if transfer.idle {
            round_trip
        } else {
            Duration::ZERO
        };
        let busy = all.saturating_sub(idle);
        let busy = busy.max(body).max(round_trip / 4).max(CLOCK_RESOLUTION);
        let rate = (self.arrived - transfer.before) as f64 / busy.as_secs_f64();
        let full = transfer.bytes >= MIN_SATURATING_BYTES && busy >= round_trip;
        self.bandwidth.record(rate, full, now);
    }
}

/// Best value of the present and the previous window.
#[derive(Debug)]
struct WindowedBest {
    better: fn(f64, f64) -> f64,
    this: Option<f64>,
    before: Option<f64>,
    began: Option<Instant>,
    seen: u32,
}

impl WindowedBest {
    fn new(better: fn(f64, f64) -> f64) -> Self {
        WindowedBest {
            better,
            this: None,
            before: None,
            began: None,
            seen: 0,
        }
    }

    fn value(&self) -> Option<f64> {
        match (self.this, self.before) {
            (Some(this), Some(before)) => Some((self.better)(this, before)),
            (this, before) => this.or(before),
        }
    }

    /// Records a value. If `is_reliable` is false, it can only improve the best value, and
    /// does not advance the window.
    fn record(&mut self, figure: f64, is_reliable: bool, now: Instant) {
        if !figure.is_finite() {
            return;
        }
        let best = self.this.map_or(figure, |this| (self.better)(this, figure));
        let betters = self.value().is_none_or(|value| {
            let both = (self.better)(value, figure);
            both == figure && both != value
        });
        if !is_reliable {
            if betters {
                self.this = Some(best);
            }
            return;
        }
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= MEASUREMENT_WINDOW
            && self.seen >= MIN_WINDOW_VALUES
        {
            self.before = self.this;
            self.this = Some(figure);
            self.began = Some(now);
            self.seen = 1;
        } else {
            self.this = Some(best);
            self.seen += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A link that carries slices of the bodies in turn, first come, first served, like
    /// a router.
    struct Link {
        round_trip: f64,
        bandwidth: f64,
        free: f64,
        started: Instant,
    }

    const SLICE: u64 = 16 << 10;

    impl Link {
        fn new(round_trip: f64, bandwidth: f64) -> Self {
            Link {
                round_trip,
                bandwidth,
                free: 0.0,
                started: Instant::now(),
            }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.started + Duration::from_secs_f64(seconds)
        }

        /// Simulates requests of these sizes, all sent at `now`; each answer is delayed
        /// by its `late` beyond the round trip. Returns the end of the last request.
        fn transfers(
            &mut self,
            meter: &mut ConditionsMeter,
            now: f64,
            asked: &[(u64, f64)],
        ) -> f64 {
            let mut events = Vec::new();
            let mut transfers: Vec<_> = asked.iter().map(|_| meter.sent(self.at(now))).collect();
            let mut left: Vec<u64> = asked.iter().map(|(bytes, _)| *bytes).collect();
            for (number, (_, late)) in asked.iter().enumerate() {
                events.push((now + self.round_trip + late, number, None));
            }
            self.free = self.free.max(now + self.round_trip);
            while left.iter().any(|left| *left > 0) {
                for (number, left) in left.iter_mut().enumerate() {
                    let slice = SLICE.min(*left);
                    if slice > 0 {
                        *left -= slice;
                        let ready = now + self.round_trip + asked[number].1;
                        self.free = self.free.max(ready) + slice as f64 / self.bandwidth;
                        events.push((self.free, number, Some((slice, *left == 0))));
                    }
                }
            }
            events.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (when, number, what) in &events {
                let (when, transfer) = (self.at(*when), &mut transfers[*number]);
                match what {
                    None => meter.answered(transfer, when),
                    Some((bytes, last)) => {
                        meter.arrived(transfer, *bytes, when);
                        if *last {
                            meter.ended(transfer, TransferEnd::Answered, when);
                        }
                    }
                }
            }
            events.last().map_or(now, |(when, ..)| *when)
        }
    }

    fn near(found: f64, truth: f64, share: f64) -> bool {
        (truth * (1.0 - share)..=truth * (1.0 + share)).contains(&found)
    }

    proptest! {
        /// For any requests, alone or concurrent, and for occasionally late answers.
        #[test]
        fn the_link_is_estimated_under_any_traffic(
            round_trip in 0.002..0.4f64,
            mbit in 4.0..1000.0f64,
            mut rounds in prop::collection::vec(
                prop::collection::vec((SLICE..3_000_000u64, 0.0..0.05f64), 1..6),
                3..12,
            ),
        ) {
            let bandwidth = mbit * 1e6 / 8.0;
            let mut link = Link::new(round_trip, bandwidth);
            let mut meter = ConditionsMeter::default();
            let mut now = link.transfers(&mut meter, 1.0, &[(8 << 20, 0.0)]) + 1.0;
            for round in &mut rounds {
                // Late occasionally, not always.
                round[0].1 = 0.0;
                now = link.transfers(&mut meter, now, round) + 0.2;
            }
            let found = meter.conditions().unwrap();
            prop_assert!(near(found.round_trip().as_secs_f64(), round_trip, 0.01), "{:?}", found);
            let rate = found.bandwidth.unwrap() as f64;
            prop_assert!(near(rate, bandwidth, 0.35), "{} is not {}", rate, bandwidth);
            prop_assert_eq!(found.loss, 0.0);
        }

        /// The estimate follows the link in both directions.
        #[test]
        fn a_changed_link_is_estimated_again(
            before in (0.002..0.4f64, 4.0..1000.0f64),
            after in (0.002..0.4f64, 4.0..1000.0f64),
        ) {
            let mut meter = ConditionsMeter::default();
            let mut link = Link::new(before.0, before.1 * 1e6 / 8.0);
            let mut now = link.transfers(&mut meter, 1.0, &[(4 << 20, 0.0)]);
            let started = link.started;
            let long = after.1 * 1e6 / 8.0 * after.0;
            let mut link = Link { started, ..Link::new(after.0, after.1 * 1e6 / 8.0) };
            for _ in 0..40 {
                now = link.transfers(&mut meter, now + 3.0, &[((8 << 20) + 8 * long as u64, 0.0)]);
            }
            let found = meter.conditions().unwrap();
            prop_assert!(near(found.round_trip().as_secs_f64(), after.0, 0.01), "{:?}", found);
            prop_assert!(near(found.bandwidth.unwrap() as f64, after.1 * 1e6 / 8.0, 0.35));
        }

        #[test]
        fn the_loss_is_the_fraction_of_failed_attempts(outcomes in prop::collection::vec(0..3u8, 1..400)) {
            let mut meter = ConditionsMeter::default();
            let now = Instant::now();
            for outcome in &outcomes {
                let how = [TransferEnd::Answered, TransferEnd::Lost, TransferEnd::Abandoned][*outcome as usize];
                let transfer = meter.sent(now);
                meter.ended(&transfer, how, now);
                prop_assert!((0.0..=1.0).contains(&meter.loss()));
            }
            if !outcomes.contains(&1) {
                prop_assert_eq!(meter.loss(), 0.0);
            }
            if !outcomes.contains(&0) && outcomes.contains(&1) {
                prop_assert!((meter.loss() - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn small_responses_do_not_lower_the_bandwidth_estimate() {
        let mut link = Link::new(0.05, 12.5e6);
        let mut meter = ConditionsMeter::default();
        let mut now = link.transfers(&mut meter, 1.0, &[(8 << 20, 0.0)]);
        let before = meter.conditions().unwrap().bandwidth.unwrap();
        for _ in 0..1000 {
            now = link.transfers(&mut meter, now + 0.5, &[(20_000, 0.01)]);
        }
        let after = meter.conditions().unwrap().bandwidth.unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn a_late_measurement_does_not_distort_the_estimate() {
        let mut meter = ConditionsMeter::default();
        let started = Instant::now();
        let at = |ms: u64| started + Duration::from_millis(ms);
        let mut first = meter.sent(at(0));
        meter.answered(&mut first, at(50));
        meter.ended(&first, TransferEnd::Answered, at(50));
        // 1 MB in 100 ms, all of it read from the socket at once.
        let mut late = meter.sent(at(1000));
        meter.answered(&mut late, at(1149));
        meter.arrived(&mut late, 1_000_000, at(1150));
        meter.ended(&late, TransferEnd::Answered, at(1150));
        let found = meter.conditions().unwrap();
        assert_eq!(found.bandwidth, Some(10_000_000));
        assert_eq!(found.bytes_per_round_trip(), Some(500_000));
        assert_eq!(found.expected(1_000_000), Duration::from_millis(150));
    }

    #[test]
    fn no_estimate_exists_before_a_response() {
        let mut meter = ConditionsMeter::default();
        let now = Instant::now();
        let transfer = meter.sent(now);
        meter.ended(&transfer, TransferEnd::Lost, now);
        assert_eq!(meter.conditions(), None);
        assert_eq!(meter.loss(), 1.0);
    }
}
