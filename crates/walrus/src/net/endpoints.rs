//! Ordered set of equivalent servers: the order of requests, and when to hedge.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::conditions::Conditions;
use super::endpoint::Endpoint;
use super::hedge::{HedgeBudget, HedgeRules};
use super::ranking::{self, Candidate, Fitness, Order};

/// Shortest delay worth a hedged read: a shorter wait goes unnoticed, and a second
/// request would cost more than it saves.
const UNNOTICED: Duration = Duration::from_millis(50);

/// Delay before a hedge if no usual time is known and another server is available.
const UNKNOWN: Duration = Duration::from_secs(2);

/// Servers that hold the same blobs.
#[derive(Debug)]
pub struct Endpoints {
    all: Vec<Endpoint>,
    rules: HedgeRules,
    choice: Mutex<Choice>,
}

#[derive(Debug)]
struct Choice {
    favourite: usize,
    reads: u64,
    budget: HedgeBudget,
}

/// Servers to ask for one read.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Servers in order of preference.
    pub endpoints: VecDeque<&'a Endpoint>,
    /// Delay before a hedged read; `None` if no usual time is
    /// known.
    pub patience: Option<Duration>,
    /// Whether the second server is available for a hedge.
    pub has_spare: bool,
    /// Whether a hedge needs no budget of [`Endpoints::may_hedge`], because the first
    /// server is not the best one but is being explored.
    pub explores: bool,
}

impl Endpoints {
    /// Creates a set of servers in configured order.
    pub fn new(all: Vec<Endpoint>, rules: HedgeRules) -> Self {
        let choice = Choice {
            favourite: 0,
            reads: 0,
            budget: HedgeBudget::new(rules),
        };
        Endpoints {
            all,
            rules,
            choice: Mutex::new(choice),
        }
    }

    /// Returns all servers in configured order.
    pub fn all(&self) -> &[Endpoint] {
        &self.all
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Plans a read of `bytes` bytes.
    pub fn plan(&self, bytes: u64) -> Plan<'_> {
        let candidates = self.candidates(bytes);
        let order = {
            let mut choice = self.choice();
            choice.reads += 1;
            choice.budget.earn();
            let order = ranking::order(&candidates, choice.favourite, choice.reads);
            if let Some(best) = best(&order) {
                choice.favourite = best;
            }
            order
        };
        // An explored server must keep up with the best.
        let judge = best(&order).and_then(|place| self.all.get(place));
        let usual = judge.and_then(|judge| judge.usual(bytes, self.rules.percentile));
        let second = order.places.get(1).map(|place| candidates[*place].fitness);
        let has_spare = second == Some(Fitness::Fit);
        let usual = usual.or(has_spare.then_some(UNKNOWN));
        Plan {
            has_spare,
            endpoints: order.places.iter().map(|place| &self.all[*place]).collect(),
            patience: usual.map(|usual| usual.max(UNNOTICED)),
            explores: order.explores,
        }
    }

    /// Returns the servers in order of preference for requests other than content reads.
    pub fn ranked(&self) -> Vec<&Endpoint> {
        let candidates = self.candidates(0);
        let favourite = self.choice().favourite;
        // With this number, only servers that are due are explored.
        let order = ranking::order(&candidates, favourite, 1);
        order.places.iter().map(|place| &self.all[*place]).collect()
    }

    /// Takes a hedged read from the budget; `false` if the budget is spent.
    pub fn may_hedge(&self) -> bool {
        self.choice().budget.spend()
    }

    /// Network conditions to the best server.
    pub fn conditions(&self) -> Option<Conditions> {
        let favourite = self.choice().favourite;
        self.all.get(favourite)?.conditions()
    }

    /// Whether all breakers are open.
    pub fn all_open(&self) -> bool {
        self.all.iter().all(Endpoint::is_open)
    }

    /// Makes all open breakers due for a probe after the machine woke up.
    pub fn look_again(&self) {
        self.all.iter().for_each(Endpoint::look_again);
    }

    fn candidates(&self, bytes: u64) -> Vec<Candidate> {
        self.all.iter().map(|it| it.candidate(bytes)).collect()
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn best(order: &Order) -> Option<usize> {
    order.places.get(usize::from(order.explores)).copied()
}
