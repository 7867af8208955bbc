//! Readers and a publisher work under every fault of the devnet, alone and combined,
//! while the daemon and the servers are killed, stopped and restarted.
//!
//! Every byte read is correct, every operation ends, successful publishes persist,
//! nothing leaks, and everything is readable again without a remount when the faults
//! end.
//!
//! - [`fault_schedule`]: faults and their order, generated from a seed;
//! - [`reader`], [`publisher`]: workers, which check their results;
//! - [`testbed`]: the servers, the daemon and the mounts, and their disruptions;
//! - [`statistics`]: the results;
//! - [`maintenance`]: collection, renewal, compaction and unmounting, with the daemon
//!   stopped and killed; a separate test, which `make soak` runs, too.
//!
//! `WALGIT_FS_CHAOS_SEED` sets the seed, which is printed. `make soak` runs the same
//! for `WALGIT_FS_SOAK_MINUTES`.

mod fault_schedule;
mod maintenance;
mod publisher;
mod reader;
mod statistics;
mod testbed;

use std::time::{Duration, Instant};

use fault_schedule::FaultSchedule;
use statistics::Statistics;
use testbed::{Testbed, wait_until_ok};

/// Seed of the schedule unless `WALGIT_FS_CHAOS_SEED` sets one.
const DEFAULT_SEED: u64 = 6;
/// Duration of each set of faults, and of the outage at the end.
const SHORT_RUN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
const SOAK_RUN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

#[test]
fn reads_are_correct_and_bounded_under_random_faults() {
    let seed = from_environment("WALGIT_FS_CHAOS_SEED").unwrap_or(DEFAULT_SEED);
    let minutes = from_environment("WALGIT_FS_SOAK_MINUTES");
    println!("chaos: the storm of WALGIT_FS_CHAOS_SEED={seed}");
    let (slot, outage) = if minutes.is_some() {
        SOAK_RUN
    } else {
        SHORT_RUN
    };
    let until = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(0));

    let statistics = Statistics::new();
    let mut schedule = FaultSchedule::of(seed);
    let mut testbed = Testbed::new(&statistics);
    loop {
        let workers = testbed.start_workers(seed);
        for (turn, faults) in schedule.round().into_iter().enumerate() {
            testbed.run_with_faults(&faults, slot);
            // A disruption after every other set of faults.
            if turn % 2 == 1 {
                testbed.disrupt(schedule.disruption(), slot);
            }
        }
        testbed.clear_faults();
        workers.stop();
        testbed.assert_mounts_intact();

        // A daemon that was not killed is as small as before after the faults.
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
