//! Ordered set of equivalent servers: the order of requests, and when to hedge.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use super::conditions::Conditions;
use super::endpoint::Endpoint;
use super::hedge::HedgeBudget;
use super::ranking::{self, Availability, EndpointCandidate, Ranking};
use crate::network::NetPolicy;

/// Shortest delay worth a hedged read: a shorter wait goes unnoticed, and a second
/// request would cost more than it saves.
const MIN_HEDGE_DELAY: Duration = Duration::from_millis(50);

/// Delay before a hedge if no usual time is known and another server is available.
const DEFAULT_HEDGE_DELAY: Duration = Duration::from_secs(2);

/// Servers that hold the same blobs.
#[derive(Debug)]
pub(crate) struct Endpoints {
    all: Vec<Endpoint>,
    hedge_percentile: u8,
    selection: Mutex<SelectionState>,
}

#[derive(Debug)]
struct SelectionState {
    favourite: usize,
    reads: u64,
    budget: HedgeBudget,
}

/// Servers to ask for one read.
#[derive(Debug)]
pub(crate) struct ReadPlan<'a> {
    /// Servers in order of preference.
    pub(crate) endpoints: VecDeque<&'a Endpoint>,
    /// Delay before a hedged read; `None` if no usual time is known.
    pub(crate) hedge_after: Option<Duration>,
    /// Whether the second server is available for a hedge.
    pub(crate) has_spare: bool,
    /// Whether a hedge needs no budget of [`Endpoints::may_hedge`], because the first
    /// server is not the best one but is being explored.
    pub(crate) explores: bool,
}

impl Endpoints {
    /// Creates a set of servers in configured order.
    pub(crate) fn new(all: Vec<Endpoint>, policy: &NetPolicy) -> Self {
        let selection = SelectionState {
            favourite: 0,
            reads: 0,
            budget: HedgeBudget::new(policy.hedge_percent),
        };
        Endpoints {
            all,
            hedge_percentile: policy.hedge_percentile,
            selection: Mutex::new(selection),
        }
    }

    pub(crate) fn all(&self) -> &[Endpoint] {
        &self.all
    }

    /// Plans a read of `bytes` bytes.
    pub(crate) fn plan(&self, bytes: u64) -> ReadPlan<'_> {
        let candidates = self.candidates(bytes);
        let ranking = {
            let mut selection = self.selection.lock();
            selection.reads += 1;
            selection.budget.earn();
            let ranking = ranking::rank(&candidates, selection.favourite, selection.reads);
            if let Some(best) = best(&ranking) {
                selection.favourite = best;
            }
            ranking
        };
        // An explored server must keep up with the best.
        let judge = best(&ranking).and_then(|index| self.all.get(index));
        let usual = judge.and_then(|judge| judge.usual_time(bytes, self.hedge_percentile));
        let second = ranking
            .indices
            .get(1)
            .map(|index| candidates[*index].availability);
        let has_spare = second == Some(Availability::Available);
        let usual = usual.or(has_spare.then_some(DEFAULT_HEDGE_DELAY));
        ReadPlan {
            has_spare,
            endpoints: ranking
                .indices
                .iter()
                .map(|index| &self.all[*index])
                .collect(),
            hedge_after: usual.map(|usual| usual.max(MIN_HEDGE_DELAY)),
            explores: ranking.explores,
        }
    }

    /// Returns the servers in order of preference for requests other than content reads.
    pub(crate) fn ranked(&self) -> Vec<&Endpoint> {
        let candidates = self.candidates(0);
        let favourite = self.selection.lock().favourite;
        // With this number, only servers that are due are explored.
        let ranking = ranking::rank(&candidates, favourite, 1);
        ranking
            .indices
            .iter()
            .map(|index| &self.all[*index])
            .collect()
    }

    /// Takes a hedged read from the budget; `false` if the budget is spent.
    pub(crate) fn may_hedge(&self) -> bool {
        self.selection.lock().budget.spend()
    }

    /// Network conditions to the best server.
    pub(crate) fn conditions(&self) -> Option<Conditions> {
        let favourite = self.selection.lock().favourite;
        self.all.get(favourite)?.conditions()
    }

    /// Whether all breakers are open.
    pub(crate) fn all_open(&self) -> bool {
        self.all.iter().all(Endpoint::is_open)
    }

    /// Makes all open breakers due for a probe after the machine woke up.
    pub(crate) fn probe_now(&self) {
        self.all.iter().for_each(Endpoint::probe_now);
    }

    fn candidates(&self, bytes: u64) -> Vec<EndpointCandidate> {
        self.all.iter().map(|it| it.candidate(bytes)).collect()
    }
}

fn best(ranking: &Ranking) -> Option<usize> {
    ranking.indices.get(usize::from(ranking.explores)).copied()
}
