//! What goes wrong, and when.

use std::time::Duration;

/// Each fault by itself.
const FAULTS: [&str; 20] = [
    "delay-ms=200",
    "delay-ms=20,jitter-ms=300",
    "bandwidth-mbit=2",
    "status=500,rate=0.5",
    "status=500",
    "status=503,retry-after=1,rate=0.5",
    "status=429,retry-after=1,flap=8/10",
    "status=404,rate=0.3",
    "status=503,flap=1/2",
    "reset,rate=0.5",
    "cut=1000,rate=0.5",
    "truncate=1000,rate=0.5",
    "flip,rate=0.5",
    "wrong-blob,rate=0.5",
    "drip-ms=100,rate=0.3",
    "hang,rate=0.3",
    "hang",
    "put=error,rate=0.5,method=PUT",
    "put=marked-invalid,rate=0.3,method=PUT",
    "put=uncertified,method=PUT",
];
/// How many times two or three of them come together.
const TOGETHER: usize = 6;

/// Faults of the two servers, one a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather(pub(super) [String; 2]);

/// What befalls those who are in the weather.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blow {
    /// The daemon is killed and started again by a mount.
    DaemonKilled,
    /// A server is killed and comes back at its address.
    ServerKilled(usize),
    /// The daemon does not run for a while: a laptop that was closed.
    DaemonStopped,
    /// A server does not run for a while, and its connections stay.
    ServerStopped(usize),
    /// The disk cache is emptied.
    CacheCleared,
}

const BLOWS: [Blow; 9] = [
    Blow::DaemonKilled,
    Blow::ServerKilled(0),
    Blow::DaemonKilled,
    Blow::CacheCleared,
    Blow::DaemonKilled,
    Blow::DaemonStopped,
    Blow::DaemonKilled,
    Blow::ServerStopped(1),
    Blow::ServerKilled(1),
];

/// All that comes, drawn from a seed.
pub(super) struct Storm {
    draw: fastrand::Rng,
    blows: Vec<Blow>,
}

impl Storm {
    pub(super) fn of(seed: u64) -> Self {
        Storm {
            draw: fastrand::Rng::with_seed(seed),
            blows: Vec::new(),
        }
    }

    /// Every fault once, at one server or both, and some together.
    pub(super) fn round(&mut self) -> Vec<Weather> {
        let mut round: Vec<Vec<&str>> = FAULTS.iter().map(|&fault| vec![fault]).collect();
        for _ in 0..TOGETHER {
            let count = self.draw.usize(2..=3);
            round.push(self.draw.choose_multiple(FAULTS, count));
        }
        self.draw.shuffle(&mut round);
        round.iter().map(|faults| self.over(faults)).collect()
    }

    fn over(&mut self, faults: &[&str]) -> Weather {
        let mut weather = Weather::default();
        for fault in faults {
            // At the first, at the second, at both.
            let places: &[usize] = [&[0][..], &[1], &[0, 1]][self.draw.usize(..3)];
            for &place in places {
                weather.0[place] += fault;
                weather.0[place] += "\n";
            }
        }
        weather
    }

    /// Each blow once before any comes again.
    pub(super) fn blow(&mut self) -> Blow {
        if self.blows.is_empty() {
            self.blows = BLOWS.to_vec();
            self.draw.shuffle(&mut self.blows);
        }
        self.blows.pop().unwrap_or(Blow::DaemonKilled)
    }
}

/// How long somebody who is stopped is away: longer than the silence that is
/// taken for a hang, for those who are in no hurry.
pub(super) fn away(slot: Duration) -> Duration {
    slot * 2
}
