//! One server, and what we know about it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::Url;
use tokio::time::Instant;

use super::conditions::{Conditions, Ended, Meter, Transfer};

/// A server that requests go to.
#[derive(Debug)]
pub struct Endpoint {
    url: Url,
    meter: Mutex<Meter>,
}

impl Endpoint {
    /// A server nothing is known about yet.
    pub fn new(url: Url) -> Self {
        Endpoint {
            url,
            meter: Mutex::default(),
        }
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// A request is on its way to it.
    pub fn sent(&self) -> InFlight<'_> {
        let transfer = self.meter().sent(now());
        InFlight {
            endpoint: self,
            transfer,
            ended: false,
        }
    }

    /// What the way to it is like; `None` before its first answer.
    pub fn conditions(&self) -> Option<Conditions> {
        self.meter().conditions()
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way. One that is dropped before it ended was abandoned,
/// which says nothing about the server.
#[derive(Debug)]
pub struct InFlight<'a> {
    endpoint: &'a Endpoint,
    transfer: Transfer,
    ended: bool,
}

impl InFlight<'_> {
    /// The head of the answer is there.
    pub fn answered(&mut self) {
        self.endpoint.meter().answered(&mut self.transfer, now());
    }

    /// A part of its body is there.
    pub fn arrived(&mut self, bytes: usize) {
        let mut meter = self.endpoint.meter();
        meter.arrived(&mut self.transfer, bytes as u64, now());
    }

    /// It is over.
    pub fn ended(mut self, how: Ended) {
        self.end(how);
    }

    fn end(&mut self, how: Ended) {
        if !std::mem::replace(&mut self.ended, true) {
            self.endpoint.meter().ended(&self.transfer, how, now());
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.end(Ended::Abandoned);
    }
}

/// The runtime's clock, which a test can turn.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}
