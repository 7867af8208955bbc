//! What the way to an endpoint is like: round trip, bandwidth and loss, from
//! the traffic that is there anyway.
//!
//! Every figure of a single request is spoiled by something: a server that had
//! to think, a line that others shared, a body too short to fill it. But they
//! are all spoiled in one direction. No request is answered before a round
//! trip is over, and no link carries more than it can. So, as BBR does it, the
//! round trip is the *least* time to an answer's head of late, and the
//! bandwidth the *most* bytes a second of late. "Of late" is two windows of
//! [`WINDOW`] each, so that a line that got worse is believed after a while.
//!
//! Requests that are under way together share the link, so a request's rate is
//! made from what arrived of *all* of them while it was under way.
//!
//! Pure: time is handed in.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// For how long a best figure is believed at least. Shorter than the patience
/// of somebody who changed networks, longer than a queue lasts.
const WINDOW: Duration = Duration::from_secs(30);
/// A window ends only when it has seen so many figures: one request an hour
/// must not forget all that was known.
const TELLING: u32 = 8;
/// A shorter transfer tells that the link carries *at least* so much, and
/// never that it carries less: it ended before the link was full.
const FULL: u64 = 256 << 10;
/// A shorter one tells nothing at all.
const TOO_SHORT: u64 = 16 << 10;
/// Clocks and schedulers are no better than this.
const GRAIN: Duration = Duration::from_millis(1);
/// What remains of the weight of an attempt when the next one ends: the last
/// 50 or so make the loss.
const MEMORY: f64 = 0.98;

/// What the way to an endpoint is like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// From asking to the head of the answer, at best, in microseconds. What
    /// the server always needs to think is part of it.
    pub round_trip_us: u64,
    /// What the link carries, all requests together, in bytes a second; `None`
    /// before enough was transferred to tell.
    pub bandwidth: Option<u64>,
    /// Whether the link has been full meanwhile; where not, it carries at least
    /// `bandwidth`, and perhaps much more.
    #[serde(default)]
    pub was_full: bool,
    /// Share of the latest attempts that failed: no connection, a broken one,
    /// no answer in time, a server in trouble; 0 to 1.
    pub loss: f64,
}

impl Conditions {
    /// From asking to the head of the answer.
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us)
    }

    /// Bytes that are on the way when the link is full: what has to be asked
    /// for at once to fill it.
    pub fn bytes_per_round_trip(&self) -> Option<u64> {
        let bytes = self.bandwidth? as f64 * self.round_trip().as_secs_f64();
        Some(bytes as u64)
    }

    /// How long so many bytes take from asking to the last of them.
    pub fn expected(&self, bytes: u64) -> Duration {
        let seconds = match self.bandwidth {
            Some(bandwidth) => bytes as f64 / bandwidth.max(1) as f64,
            None => 0.0,
        };
        self.round_trip() + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 2)
    }
}

/// How an attempt ended, for the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// There was an answer, whatever it said.
    Answered,
    /// There was none, or the server is in trouble.
    Lost,
    /// We did not want to know any more; says nothing.
    Abandoned,
}

/// One request under way; see [`Meter::sent`].
#[derive(Debug)]
pub(super) struct Transfer {
    sent: Instant,
    answered: Option<Instant>,
    /// Bytes of all transfers when it was sent.
    before: u64,
    /// Whether nothing came over the link when it was sent.
    idle: bool,
    bytes: u64,
}

impl Transfer {
    /// Bytes of its body so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.is_some()
    }
}

/// Estimates the [`Conditions`] of one endpoint.
#[derive(Debug)]
pub(super) struct Meter {
    round_trip: Best,
    bandwidth: Best,
    attempts: f64,
    lost: f64,
    arrived: u64,
    last_arrival: Option<Instant>,
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            round_trip: Best::new(f64::min),
            bandwidth: Best::new(f64::max),
            attempts: 0.0,
            lost: 0.0,
            arrived: 0,
            last_arrival: None,
        }
    }
}

impl Meter {
    /// A request is on its way.
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

    /// The head of its answer is there.
    pub(super) fn answered(&mut self, transfer: &mut Transfer, now: Instant) {
        transfer.answered = Some(now);
        let took = now.saturating_duration_since(transfer.sent);
        self.round_trip.note(took.as_secs_f64(), true, now);
    }

    /// A part of its body is there.
    pub(super) fn arrived(&mut self, transfer: &mut Transfer, bytes: u64, now: Instant) {
        transfer.bytes += bytes;
        self.arrived += bytes;
        self.last_arrival = Some(now);
    }

    /// It is over. `now` is when the last of its body came.
    pub(super) fn ended(&mut self, transfer: &Transfer, how: Ended, now: Instant) {
        if how != Ended::Abandoned {
            self.attempts = self.attempts * MEMORY + 1.0;
            self.lost *= MEMORY;
        }
        if how == Ended::Lost {
            self.lost += 1.0;
        }
        self.note_rate(transfer, now);
    }

    /// What is known; `None` before the first answer.
    pub(super) fn conditions(&self) -> Option<Conditions> {
        let round_trip = self.round_trip.value()?;
        Some(Conditions {
            round_trip_us: (round_trip * 1e6).round() as u64,
            bandwidth: self.bandwidth.value().map(|rate| rate as u64),
            was_full: self.bandwidth.began.is_some(),
            loss: self.loss(),
        })
    }

    /// The share of the latest attempts that were lost; 0 before the first.
    pub(super) fn loss(&self) -> f64 {
        match self.attempts > 0.0 {
            true => (self.lost / self.attempts).clamp(0.0, 1.0),
            false => 0.0,
        }
    }

    fn note_rate(&mut self, transfer: &Transfer, now: Instant) {
        let Some(answered) = transfer.answered else {
            return;
        };
        if transfer.bytes < TOO_SHORT {
            return;
        }
        let round_trip = Duration::from_secs_f64(self.round_trip.value().unwrap_or(0.0));
        let all = now.saturating_duration_since(transfer.sent);
        let body = now.saturating_duration_since(answered);
        // A link that was idle carries nothing of the body in the first round
        // trip. A process that was late to look finds many bytes at once, so
        // the time since the head alone would promise too much.
        let busy = match transfer.idle {
            true => all.saturating_sub(round_trip),
            false => all,
        };
        let busy = busy.max(body).max(round_trip / 4).max(GRAIN);
        let rate = (self.arrived - transfer.before) as f64 / busy.as_secs_f64();
        let full = transfer.bytes >= FULL && busy >= round_trip;
        self.bandwidth.note(rate, full, now);
    }
}

/// The best figure of this window and of the one before.
#[derive(Debug)]
struct Best {
    better: fn(f64, f64) -> f64,
    this: Option<f64>,
    before: Option<f64>,
    began: Option<Instant>,
    seen: u32,
}

impl Best {
    fn new(better: fn(f64, f64) -> f64) -> Self {
        Best {
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

    /// Notes a figure. One that does not `tell` can better the best, and lets
    /// no time pass.
    fn note(&mut self, figure: f64, tells: bool, now: Instant) {
        if !figure.is_finite() {
            return;
        }
        let best = self.this.map_or(figure, |this| (self.better)(this, figure));
        let betters = self.value().is_none_or(|value| {
            let both = (self.better)(value, figure);
            both == figure && both != value
        });
        if !tells {
            if betters {
                self.this = Some(best);
            }
            return;
        }
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= WINDOW && self.seen >= TELLING {
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

    /// A link that carries whole slices of the bodies in turn, first come,
    /// first served, as routers do.
    struct Link {
        round_trip: f64,
        bandwidth: f64,
        free: f64,
        begun: Instant,
    }

    const SLICE: u64 = 16 << 10;

    impl Link {
        fn new(round_trip: f64, bandwidth: f64) -> Self {
            Link {
                round_trip,
                bandwidth,
                free: 0.0,
                begun: Instant::now(),
            }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.begun + Duration::from_secs_f64(seconds)
        }

        /// Requests of these sizes, all sent at `now`, each answered as much
        /// later than the round trip as its `late` says; when the last of them
        /// is over.
        fn transfers(&mut self, meter: &mut Meter, now: f64, asked: &[(u64, f64)]) -> f64 {
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
                            meter.ended(transfer, Ended::Answered, when);
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
        /// Whatever is asked for, alone or several at once, and however late a
        /// server answers now and then.
        #[test]
        fn the_link_is_found_under_any_traffic(
            round_trip in 0.002..0.4f64,
            mbit in 4.0..1000.0f64,
            mut rounds in prop::collection::vec(
                prop::collection::vec((SLICE..3_000_000u64, 0.0..0.05f64), 1..6),
                3..12,
            ),
        ) {
            let bandwidth = mbit * 1e6 / 8.0;
            let mut link = Link::new(round_trip, bandwidth);
            let mut meter = Meter::default();
            let mut now = link.transfers(&mut meter, 1.0, &[(8 << 20, 0.0)]) + 1.0;
            for round in &mut rounds {
                // Late now and then, not always.
                round[0].1 = 0.0;
                now = link.transfers(&mut meter, now, round) + 0.2;
            }
            let found = meter.conditions().unwrap();
            prop_assert!(near(found.round_trip().as_secs_f64(), round_trip, 0.01), "{:?}", found);
            let rate = found.bandwidth.unwrap() as f64;
            prop_assert!(near(rate, bandwidth, 0.35), "{} is not {}", rate, bandwidth);
            prop_assert_eq!(found.loss, 0.0);
        }

        /// It follows the link, down as well as up.
        #[test]
        fn a_link_that_changes_is_found_again(
            before in (0.002..0.4f64, 4.0..1000.0f64),
            after in (0.002..0.4f64, 4.0..1000.0f64),
        ) {
            let mut meter = Meter::default();
            let mut link = Link::new(before.0, before.1 * 1e6 / 8.0);
            let mut now = link.transfers(&mut meter, 1.0, &[(4 << 20, 0.0)]);
            let begun = link.begun;
            let long = after.1 * 1e6 / 8.0 * after.0;
            let mut link = Link { begun, ..Link::new(after.0, after.1 * 1e6 / 8.0) };
            for _ in 0..40 {
                now = link.transfers(&mut meter, now + 3.0, &[((8 << 20) + 8 * long as u64, 0.0)]);
            }
            let found = meter.conditions().unwrap();
            prop_assert!(near(found.round_trip().as_secs_f64(), after.0, 0.01), "{:?}", found);
            prop_assert!(near(found.bandwidth.unwrap() as f64, after.1 * 1e6 / 8.0, 0.35));
        }

        #[test]
        fn the_loss_is_the_share_of_what_was_lost(outcomes in prop::collection::vec(0..3u8, 1..400)) {
            let mut meter = Meter::default();
            let now = Instant::now();
            for outcome in &outcomes {
                let how = [Ended::Answered, Ended::Lost, Ended::Abandoned][*outcome as usize];
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
    fn small_answers_do_not_make_a_link_look_narrow() {
        let mut link = Link::new(0.05, 12.5e6);
        let mut meter = Meter::default();
        let mut now = link.transfers(&mut meter, 1.0, &[(8 << 20, 0.0)]);
        let before = meter.conditions().unwrap().bandwidth.unwrap();
        for _ in 0..1000 {
            now = link.transfers(&mut meter, now + 0.5, &[(20_000, 0.01)]);
        }
        let after = meter.conditions().unwrap().bandwidth.unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn a_process_that_looks_late_is_not_deceived() {
        let mut meter = Meter::default();
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut first = meter.sent(at(0));
        meter.answered(&mut first, at(50));
        meter.ended(&first, Ended::Answered, at(50));
        // 1 MB in 100 ms, and all of it was found in the socket at once.
        let mut late = meter.sent(at(1000));
        meter.answered(&mut late, at(1149));
        meter.arrived(&mut late, 1_000_000, at(1150));
        meter.ended(&late, Ended::Answered, at(1150));
        let found = meter.conditions().unwrap();
        assert_eq!(found.bandwidth, Some(10_000_000));
        assert_eq!(found.bytes_per_round_trip(), Some(500_000));
        assert_eq!(found.expected(1_000_000), Duration::from_millis(150));
    }

    #[test]
    fn nothing_is_known_before_an_answer() {
        let mut meter = Meter::default();
        let now = Instant::now();
        let transfer = meter.sent(now);
        meter.ended(&transfer, Ended::Lost, now);
        assert_eq!(meter.conditions(), None);
        assert_eq!(meter.loss(), 1.0);
    }
}
