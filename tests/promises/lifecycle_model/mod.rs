//! Whatever happens in whatever order, nothing that is needed is ever lost, though
//! epochs end that it was paid for; and nothing that is not survives a cycle of
//! collection.
//!
//! Random histories run against a reference model that knows what was published
//! under which name and when. They are replayed on a real store with the real
//! publisher, ledger, leases, collector and renewal; only the clock is the test's
//! own.

mod interruptions;
mod components;
mod model;

use proptest::prelude::*;

use crate::support::block_on;
use model::Model;

const DAY: u64 = 24 * 3600;
/// Days for which an old head is kept.
const RETENTION_DAYS: u64 = 2;
/// So small that a tree takes several blobs.
const MAX_BODY: u64 = 200 << 10;
const TREE_COUNT: u64 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// A tree is published under a name.
    Publish { name: usize, content: u64 },
    /// The same, with a whole collection after each blob that it claims.
    PublishDuringCollection { name: usize, content: u64 },
    /// The same, but it ends after so many blobs.
    InterruptedPublish {
        name: usize,
        content: u64,
        after: u64,
    },
    /// A name is removed.
    Remove { name: usize },
    /// What a name stands for is read and compared.
    Read { name: usize },
    /// Time goes by.
    Wait { days: u64 },
    /// A collection.
    Collect,
    /// One that is killed at some deletion: before it, or after.
    InterruptedCollection { at: u64, before: bool },
    /// What is needed is renewed, perhaps killed at some blob and begun again, and
    /// the epoch ends.
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
        // Blob IDs take their time; PROPTEST_CASES asks for more.
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
