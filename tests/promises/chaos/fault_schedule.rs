//! Schedule of faults and disruptions.

use std::time::Duration;

/// Each fault on its own.
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
/// Number of combinations of two or three faults.
const COMBINATION_COUNT: usize = 6;

/// Faults of the two servers, one per line.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultSet(pub(super) [String; 2]);

/// A disruption of a process or of the cache.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disruption {
    /// The daemon is killed; a mount starts a new one.
    DaemonKilled,
    /// A server is killed and restarts at its address.
    ServerKilled(usize),
    /// The daemon is stopped for a while, like a suspended laptop.
    DaemonStopped,
    /// A server is stopped for a while, and its connections stay open.
    ServerStopped(usize),
    /// The disk cache is cleared.
    CacheCleared,
}

const DISRUPTIONS: [Disruption; 9] = [
    Disruption::DaemonKilled,
    Disruption::ServerKilled(0),
    Disruption::DaemonKilled,
    Disruption::CacheCleared,
    Disruption::DaemonKilled,
    Disruption::DaemonStopped,
    Disruption::DaemonKilled,
    Disruption::ServerStopped(1),
    Disruption::ServerKilled(1),
];

/// The schedule, generated from a seed.
pub(super) struct FaultSchedule {
    rng: fastrand::Rng,
    disruptions: Vec<Disruption>,
}

impl FaultSchedule {
    pub(super) fn of(seed: u64) -> Self {
        FaultSchedule {
            rng: fastrand::Rng::with_seed(seed),
            disruptions: Vec::new(),
        }
    }

    /// Every fault once, at one server or both, and some combinations.
    pub(super) fn round(&mut self) -> Vec<FaultSet> {
        let mut round: Vec<Vec<&str>> = FAULTS.iter().map(|&fault| vec![fault]).collect();
        for _ in 0..COMBINATION_COUNT {
            let count = self.rng.usize(2..=3);
            round.push(self.rng.choose_multiple(FAULTS, count));
        }
        self.rng.shuffle(&mut round);
        round
            .iter()
            .map(|faults| self.at_random_servers(faults))
            .collect()
    }

    fn at_random_servers(&mut self, faults: &[&str]) -> FaultSet {
        let mut set = FaultSet::default();
        for fault in faults {
            // At the first, at the second, at both.
            let servers: &[usize] = [&[0][..], &[1], &[0, 1]][self.rng.usize(..3)];
            for &server in servers {
                set.0[server] += fault;
                set.0[server] += "\n";
            }
        }
        set
    }

    /// Each disruption once before any is repeated.
    pub(super) fn disruption(&mut self) -> Disruption {
        if self.disruptions.is_empty() {
            self.disruptions = DISRUPTIONS.to_vec();
            self.rng.shuffle(&mut self.disruptions);
        }
        self.disruptions.pop().unwrap_or(Disruption::DaemonKilled)
    }
}

/// How long a stopped process stays stopped: longer than the silence that counts as a
/// hang.
pub(super) fn pause_duration(slot: Duration) -> Duration {
    slot * 2
}
