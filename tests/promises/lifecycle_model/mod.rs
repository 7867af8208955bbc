//! No sequence of operations loses needed content, although paid epochs end; and
//! unneeded content does not survive a collection cycle.
//!
//! Random histories run against a reference model that knows what was published under
//! each name and when. They are replayed on a real store with the real publisher,
//! ledger, leases, collector and renewal; only the clock is simulated.

mod components;
mod interruptions;
mod model;

use proptest::prelude::*;

use crate::support::block_on;
use model::Model;

const DAY: u64 = 24 * 3600;
/// Days for which an old head is kept.
const RETENTION_DAYS: u64 = 2;
/// Small enough that a tree takes several blobs.
const MAX_BODY: u64 = 200 << 10;
const TREE_COUNT: u64 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// Publishes a tree under a name.
    Publish { name: usize, content: u64 },
    /// The same, with a complete collection after each claimed blob.
    PublishDuringCollection { name: usize, content: u64 },
    /// The same, killed after a number of blobs.
    InterruptedPublish {
        name: usize,
        content: u64,
        after: u64,
    },
    /// Removes a name.
    Remove { name: usize },
    /// Reads and compares the content of a name.
    Read { name: usize },
    /// Advances the time.
    Wait { days: u64 },
    /// Runs a collection.
    Collect,
    /// Runs a collection that is killed before or after a deletion.
    InterruptedCollection { at: u64, before: bool },
    /// Renews needed blobs, perhaps killed at some blob and repeated, and ends the
    /// epoch.
    Epoch { killed: Option<u64> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..2usize;
    let content = 0..TREE_COUNT;
    let step = prop_oneof![
        5 => (name.clone(), content.clone()).prop_map(|(name, content)| Step::Publish { name, content }),
        3 => (name.clone(), content.clone()).prop_map(|(name, content)| Step::PublishDuringCollection { name, content }),
        2 => (name.clone(), content, 0..3u64)
            .prop_map(|(name, content, after)| Step::InterruptedPublish { name, content, after }),
        1 => name.clone().prop_map(|name| Step::Remove { name }),
        1 => name.prop_map(|name| Step::Read { name }),
        3 => (1..3u64).prop_map(|days| Step::Wait { days }),
        3 => Just(Step::Collect),
        2 => (0..4u64, any::<bool>()).prop_map(|(at, before)| Step::InterruptedCollection { at, before }),
        3 => proptest::option::of(0..4u64).prop_map(|killed| Step::Epoch { killed }),
    ];
    let max_steps = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => 40,
        None => 16,
    };
    proptest::collection::vec(step, 4..max_steps)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Computing blob IDs is slow; PROPTEST_CASES sets more cases.
        cases: std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(6),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn collection_cycle_keeps_exactly_the_needed_blobs(steps in steps()) {
        block_on(async {
            let mut model = Model::new();
            for step in &steps {
                model.step(step).await;
            }
            model.step(&Step::Collect).await;
            eprintln!(
                "{} steps, {} bytes reclaimed, {} blobs renewed",
                steps.len() + 1,
                model.reclaimed,
                model.renewed
            );
        });
    }
}
