//! All cases: those generated from the descriptions, and those that test the meaning of
//! parameters and responses.

use serde_json::Value;

use super::api::Api;
use super::request::{ApiRequest, ApiResponse};
use super::testbed::{Testbed, write_request};
use super::{generated_cases, semantic_cases};
use crate::support::tree::noise;

/// A request and its expected response.
pub(super) struct Case {
    pub(super) title: String,
    pub(super) request: ApiRequest,
    pub(super) status: u16,
    /// A fault to inject.
    pub(super) fault: Option<String>,
    pub(super) check: Box<dyn Fn(&ApiResponse)>,
}

impl Case {
    pub(super) fn new(title: impl Into<String>, request: ApiRequest, status: u16) -> Self {
        Case {
            title: title.into(),
            request,
            status,
            fault: None,
            check: Box::new(|_| {}),
        }
    }

    pub(super) fn fault(mut self, fault: String) -> Self {
        self.fault = Some(fault);
        self
    }

    pub(super) fn reason(self, reason: &'static str) -> Self {
        self.check(move |response| assert_eq!(response.reason(), reason))
    }

    /// The response contains this value.
    pub(super) fn with(self, pointer: impl Into<String>, value: Value) -> Self {
        let pointer = pointer.into();
        self.check(move |response| {
            let json = response.json();
            assert_eq!(json.pointer(&pointer), Some(&value), "{pointer} in {json}");
        })
    }

    /// The response contains a value, or none.
    pub(super) fn with_presence(self, pointer: impl Into<String>, there: bool) -> Self {
        let pointer = pointer.into();
        self.check(move |response| {
            let json = response.json();
            let found = json.pointer(&pointer).is_some();
            assert_eq!(found, there, "{pointer} in {json}");
        })
    }

    pub(super) fn check(mut self, check: impl Fn(&ApiResponse) + 'static) -> Self {
        let before = self.check;
        self.check = Box::new(move |response| {
            before(response);
            check(response);
        });
        self
    }
}

/// All cases, in the order in which they must run.
pub(super) fn all(testbed: &Testbed) -> Vec<Case> {
    let mut cases = Vec::new();
    let aggregator = Api::aggregator();
    for operation in aggregator.operations() {
        generated_cases::read_statuses(testbed, &operation, &mut cases);
        let good = generated_cases::read(&operation, &testbed.fine);
        generated_cases::parameters(&aggregator, &operation, &good, &mut cases);
    }
    semantic_cases::reads(testbed, &mut cases);
    let publisher = Api::publisher();
    for operation in publisher.operations() {
        generated_cases::write_statuses(testbed, &operation, &mut cases);
        // The same content each time: existing content is accepted.
        let good = write_request(&operation.path, noise(100, 9));
        generated_cases::parameters(&publisher, &operation, &good, &mut cases);
        semantic_cases::writes(&operation.path, &mut cases);
    }
    semantic_cases::quilts(&mut cases);
    cases
}
