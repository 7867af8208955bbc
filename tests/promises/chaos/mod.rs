//! Whatever the weather: readers and a publisher work on while everything that
//! can be ordered goes wrong, alone and together, and the daemon and the
//! servers are killed, stopped and started again between.
//!
//! In the end every byte that was read was right, every operation ended, what
//! was published is there, nothing leaked, and all of it reads again without a
//! remount once the weather is fair.
//!
//! - [`fault_schedule`]: which faults, in which order: drawn from a seed;
//! - [`reader`], [`publisher`]: those who work, and check what they get;
//! - [`testbed`]: the servers, the daemon and the mounts, and what is done to them;
//! - [`statistics`]: what came of it;
//! - [`maintenance`]: collection, renewal, compaction and unmounting, with the daemon
//!   stopped and killed in between; a test of its own, which `make soak` runs too.
//!
//! `WALGIT_FS_CHAOS_SEED` draws another storm; the one that was drawn is told.
//! `make soak` runs the same for `WALGIT_FS_SOAK_MINUTES`.

mod maintenance;
mod publisher;
mod reader;
mod statistics;
mod testbed;
mod fault_schedule;

use std::time::{Duration, Instant};

use statistics::Statistics;
use testbed::{Testbed, wait_until_ok};
use fault_schedule::FaultSchedule;

/// What the storm is drawn from unless told otherwise.
const DEFAULT_SEED: u64 = 6;
/// How long weather lasts, and how long the servers are away in the end.
const SHORT_RUN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
const SOAK_RUN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn reads_are_correct_and_bounded_under_random_faults() {
    let seed = from_environment("WALGIT_FS_CHAOS_SEED").unwrap_or(DEFAULT_SEED);
    let minutes = from_environment("WALGIT_FS_SOAK_MINUTES");
    println!("chaos: the storm of WALGIT_FS_CHAOS_SEED={seed}");
    let (slot, outage) = if minutes.is_some() { SOAK_RUN } else { SHORT_RUN };
    let until = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(0));

    let statistics = Statistics::new();
    let mut schedule = FaultSchedule::of(seed);
    let mut testbed = Testbed::new(&statistics);
    loop {
        let workers = testbed.start_workers(seed);
        for (turn, faults) in schedule.round().into_iter().enumerate() {
            testbed.run_with_faults(&faults, slot);
            // Every other time something befalls who is in it.
            if turn % 2 == 1 {
                testbed.disrupt(schedule.disruption(), slot);
            }
        }
        testbed.clear_faults();
        workers.stop();
        testbed.assert_mounts_intact();

        // A daemon that nobody kills is as it was when the storm is over.
        let workers = testbed.start_workers(seed + 1);
        testbed.clear_faults();
        std::thread::sleep(slot);
        let before = testbed.size();
        for faults in schedule.round().into_iter().step_by(3) {
            testbed.run_with_faults(&faults, slot);
        }
        testbed.clear_faults();
        workers.stop();
        let after = wait_until_ok("the daemon is no larger than before", || {
            testbed.size().check_growth(&before)
        });
        statistics.record_size(before, after);

        statistics.record_recovery(testbed.measure_recovery(outage));
        testbed.assert_mounts_intact();
        println!("chaos: {statistics}");
        if Instant::now() >= until {
            break;
        }
    }
    testbed.assert_all_publishes_readable();
    println!("chaos: {statistics}");
    statistics.assert_healthy();
}
