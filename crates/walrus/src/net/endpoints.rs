//! Several servers that can do the same: in which order they are asked, and
//! when a second one is asked meanwhile.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::conditions::Conditions;
use super::endpoint::Endpoint;
use super::hedge::{HedgeBudget, HedgeRules};
use super::ranking::{self, Candidate, Fitness, Order};

/// A wait as short as this is noticed by nobody, and a second request for it
/// would cost more than it saves.
const UNNOTICED: Duration = Duration::from_millis(50);

/// What is long where nobody knows, and somebody else could be asked.
const UNKNOWN: Duration = Duration::from_secs(2);

/// Servers that can do the same.
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

/// Whom to ask for one read.
#[derive(Debug)]
pub struct Plan<'a> {
    /// In this order.
    pub endpoints: VecDeque<&'a Endpoint>,
    /// When the first has been asked for so long, ask another as well; `None`
    /// where nobody knows what is long.
    pub patience: Option<Duration>,
    /// Whether the second is fit to be that other.
    pub has_spare: bool,
    /// Whether that needs no leave of [`Endpoints::may_hedge`]: the first was
    /// not chosen for being the best.
    pub explores: bool,
}

impl Endpoints {
    /// These servers, as configured.
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

    /// All of them, as configured.
    pub fn all(&self) -> &[Endpoint] {
        &self.all
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whom to ask for a read of so many bytes.
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
        // A server that is looked at must keep up with the best.
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

    /// In the order that is best for something else than a read of content.
    pub fn ranked(&self) -> Vec<&Endpoint> {
        let candidates = self.candidates(0);
        let favourite = self.choice().favourite;
        // A number that explores nobody but who is due.
        let order = ranking::order(&candidates, favourite, 1);
        order.places.iter().map(|place| &self.all[*place]).collect()
    }

    /// Whether a read may be asked for a second time; then it is counted.
    pub fn may_hedge(&self) -> bool {
        self.choice().budget.spend()
    }

    /// What the way to the best of them is like.
    pub fn conditions(&self) -> Option<Conditions> {
        let favourite = self.choice().favourite;
        self.all.get(favourite)?.conditions()
    }

    /// Whether nobody would be asked now.
    pub fn all_open(&self) -> bool {
        self.all.iter().all(Endpoint::is_open)
    }

    /// The machine woke up: look at all of them again.
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
