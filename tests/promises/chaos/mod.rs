//! Whatever the weather: readers and a publisher work on while everything that
//! can be ordered goes wrong, alone and together, and the daemon and the
//! servers are killed, stopped and started again between.
//!
//! In the end every byte that was read was right, every operation ended, what
//! was published is there, nothing leaked, and all of it reads again without a
//! remount once the weather is fair.
//!
//! - [`weather`]: which faults, in which order: drawn from a seed;
//! - [`reader`], [`publisher`]: those who work, and check what they get;
//! - [`town`]: the servers, the daemon and the mounts, and what is done to them;
//! - [`tally`]: what came of it;
//! - [`maintenance`]: collection, renewal, compaction and unmounting, with the daemon
//!   stopped and killed in between; a test of its own, which `make soak` runs too.
//!
//! `WALGIT_FS_CHAOS_SEED` draws another storm; the one that was drawn is told.
//! `make soak` runs the same for `WALGIT_FS_SOAK_MINUTES`.

mod maintenance;
mod publisher;
mod reader;
mod tally;
mod town;
mod weather;

use std::time::{Duration, Instant};

use tally::Tally;
use town::{Town, eventually_fair};
use weather::Storm;

/// What the storm is drawn from unless told otherwise.
const SEED: u64 = 6;
/// How long weather lasts, and how long the servers are away in the end.
const BRIEF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
const SOAK: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn reads_are_correct_and_bounded_under_random_faults() {
    let seed = from_environment("WALGIT_FS_CHAOS_SEED").unwrap_or(SEED);
    let minutes = from_environment("WALGIT_FS_SOAK_MINUTES");
    println!("chaos: the storm of WALGIT_FS_CHAOS_SEED={seed}");
    let (slot, outage) = if minutes.is_some() { SOAK } else { BRIEF };
    let until = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(0));

    let tally = Tally::new();
    let mut storm = Storm::of(seed);
    let mut town = Town::new(&tally);
    loop {
        let workers = town.at_work(seed);
        for (turn, weather) in storm.round().into_iter().enumerate() {
            town.under(&weather, slot);
            // Every other time something befalls who is in it.
            if turn % 2 == 1 {
                town.befalls(storm.blow(), slot);
            }
        }
        town.clear_up();
        workers.done();
        town.is_intact();

        // A daemon that nobody kills is as it was when the storm is over.
        let workers = town.at_work(seed + 1);
        town.clear_up();
        std::thread::sleep(slot);
        let before = town.size();
        for weather in storm.round().into_iter().step_by(3) {
            town.under(&weather, slot);
        }
        town.clear_up();
        workers.done();
        let after = eventually_fair("the daemon is no larger than before", || {
            town.size().beside(&before)
        });
        tally.size(before, after);

        tally.recovered(town.comes_back_after(outage));
        town.is_intact();
        println!("chaos: {tally}");
        if Instant::now() >= until {
            break;
        }
    }
    town.has_all_that_was_published();
    println!("chaos: {tally}");
    tally.must_be_fair();
}
