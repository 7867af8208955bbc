//! The cases: those that the descriptions write themselves, and those that say
//! what a parameter or an answer means.

use serde_json::Value;

use super::api::Api;
use super::call::{Answer, Call};
use super::ground::{Ground, writing};
use super::{described, meanings};
use crate::support::tree::noise;

/// A request and what must come of it.
pub(super) struct Case {
    pub(super) says: String,
    pub(super) call: Call,
    pub(super) status: u16,
    /// What goes wrong on order.
    pub(super) fault: Option<String>,
    pub(super) then: Box<dyn Fn(&Answer)>,
}

impl Case {
    pub(super) fn new(says: impl Into<String>, call: Call, status: u16) -> Self {
        Case {
            says: says.into(),
            call,
            status,
            fault: None,
            then: Box::new(|_| {}),
        }
    }

    pub(super) fn fault(mut self, fault: String) -> Self {
        self.fault = Some(fault);
        self
    }

    pub(super) fn reason(self, reason: &'static str) -> Self {
        self.then(move |answer| assert_eq!(answer.reason(), reason))
    }

    /// This is in the answer.
    pub(super) fn with(self, pointer: impl Into<String>, value: Value) -> Self {
        let pointer = pointer.into();
        self.then(move |answer| {
            let json = answer.json();
            assert_eq!(json.pointer(&pointer), Some(&value), "{pointer} in {json}");
        })
    }

    /// Something is there in the answer, or nothing.
    pub(super) fn has(self, pointer: impl Into<String>, there: bool) -> Self {
        let pointer = pointer.into();
        self.then(move |answer| {
            let json = answer.json();
            let found = json.pointer(&pointer).is_some();
            assert_eq!(found, there, "{pointer} in {json}");
        })
    }

    pub(super) fn then(mut self, then: impl Fn(&Answer) + 'static) -> Self {
        let before = self.then;
        self.then = Box::new(move |answer| {
            before(answer);
            then(answer);
        });
        self
    }
}

/// All cases, in the order in which they must be tried.
pub(super) fn all(ground: &Ground) -> Vec<Case> {
    let mut cases = Vec::new();
    let aggregator = Api::aggregator();
    for operation in aggregator.operations() {
        described::read_statuses(ground, &operation, &mut cases);
        let good = described::read(&operation, &ground.fine);
        described::parameters(&aggregator, &operation, &good, &mut cases);
    }
    meanings::reads(ground, &mut cases);
    let publisher = Api::publisher();
    for operation in publisher.operations() {
        described::write_statuses(ground, &operation, &mut cases);
        // The same content again and again: what is there already is fine.
        let good = writing(&operation.path, noise(100, 9));
        described::parameters(&publisher, &operation, &good, &mut cases);
        meanings::writes(&operation.path, &mut cases);
    }
    meanings::quilts(&mut cases);
    cases
}
