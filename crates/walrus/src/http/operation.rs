//! One operation over several attempts and endpoints: its failures and their handling.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::failed::Failed;
use crate::StoreError;
use crate::net::{Consequence, Done, Endpoint, Failure, FailureKind, FailureLog, Next};

/// A running operation. A failure is logged once its handling is known; corrupt bytes
/// are logged once another endpoint's bytes were accepted.
pub(super) struct Operation<'a> {
    name: &'static str,
    log: &'a FailureLog,
    /// Number of the attempt, from 0.
    attempt: AtomicU32,
    /// Whether the request may have been carried out in spite of a failure.
    ambiguous: AtomicBool,
    notes: Mutex<Notes<'a>>,
}

#[derive(Default)]
struct Notes<'a> {
    asking: Vec<&'a Endpoint>,
    held: Vec<Note<'a>>,
    lies: Vec<Note<'a>>,
}

/// A failure to be logged.
struct Note<'a> {
    endpoint: &'a Endpoint,
    kind: FailureKind,
    message: String,
    consequence: Option<Consequence>,
}

impl<'a> Operation<'a> {
    pub(super) fn new(name: &'static str, log: &'a FailureLog) -> Self {
        Operation {
            name,
            log,
            attempt: AtomicU32::new(0),
            ambiguous: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Number of the attempt, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed) + 1
    }

    pub(super) fn begin(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }

    /// Records that a request to `endpoint` starts.
    pub(super) fn asking(&self, endpoint: &'a Endpoint) {
        self.notes().asking.push(endpoint);
    }

    /// Records that a request to `endpoint` has ended.
    pub(super) fn asked(&self, endpoint: &Endpoint) {
        let mut notes = self.notes();
        let place = notes
            .asking
            .iter()
            .position(|it| std::ptr::eq(*it, endpoint));
        if let Some(place) = place {
            notes.asking.swap_remove(place);
        }
    }

    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// Records a failure of an endpoint, unless no request was sent.
    pub(super) fn failed(&self, endpoint: &'a Endpoint, failed: &Failed) {
        if failed.is_ambiguous() {
            self.ambiguous.store(true, Ordering::Relaxed);
        }
        let Some(kind) = failed.kind() else {
            return;
        };
        let note = Note {
            endpoint,
            kind,
            message: failed.message().into_owned(),
            consequence: failed.consequence(),
        };
        let mut notes = self.notes();
        match kind {
            FailureKind::Corrupt => notes.lies.push(note),
            _ => notes.held.push(note),
        }
    }

    /// Logs the failures so far with this handling.
    pub(super) fn done(&self, done: Done) {
        let held = std::mem::take(&mut self.notes().held);
        held.iter().for_each(|note| self.record(note, done));
    }

    /// Records the action after a failed attempt.
    pub(super) fn follows(&self, next: Next) {
        match next {
            Next::Again => self.done(Done::Retried),
            Next::GiveUp => {
                self.done(Done::GaveUp);
                let lies = std::mem::take(&mut self.notes().lies);
                lies.iter().for_each(|note| self.record(note, Done::GaveUp));
            }
        }
    }

    /// The bytes of `winner` were accepted, so the rejected bytes of others were
    /// corrupt.
    pub(super) fn accepted(&self, winner: &Endpoint) {
        let lies = std::mem::take(&mut self.notes().lies);
        for mut note in lies {
            let other = !std::ptr::eq(note.endpoint, winner);
            if other && note.endpoint.lied() {
                note.consequence = Some(Consequence::Quarantined);
            }
            self.record(&note, Done::FailedOver);
        }
    }

    /// The deadline has passed: records the endpoints that did not answer and returns
    /// the error.
    pub(super) fn timed_out(&self, first: Option<&Endpoint>, deadline: Duration) -> StoreError {
        let why = format!("no answer within {} s", deadline.as_secs_f64());
        self.follows(Next::GiveUp);
        let asking = std::mem::take(&mut self.notes().asking);
        for endpoint in &asking {
            let opened = endpoint.is_silent(&why);
            let note = Note {
                endpoint,
                kind: FailureKind::Timeout,
                message: why.clone(),
                consequence: opened.then_some(Consequence::BreakerOpened),
            };
            self.record(&note, Done::GaveUp);
        }
        let place = asking.first().copied().or(first);
        StoreError::Unavailable {
            place: place.map_or_else(String::new, |it| it.name().to_owned()),
            why,
        }
    }

    /// `endpoint` was so slow that a hedged read was faster.
    pub(super) fn outrun(&self, endpoint: &Endpoint, after: Duration) {
        if endpoint.tell_slow() {
            let message = format!("no answer after {} ms", after.as_millis());
            self.log.record(Failure::now(
                endpoint.name(),
                self.name,
                FailureKind::Slow,
                self.attempt(),
                Done::Hedged,
                &message,
            ));
        }
    }

    fn record(&self, note: &Note<'_>, done: Done) {
        let name = note.endpoint.name();
        let attempt = self.attempt();
        self.log.record(Failure {
            consequence: note.consequence,
            ..Failure::now(name, self.name, note.kind, attempt, done, &note.message)
        });
    }

    fn notes(&self) -> MutexGuard<'_, Notes<'a>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Operation<'_> {
    /// The caller dropped the operation; its failures remain failures.
    fn drop(&mut self) {
        self.follows(Next::GiveUp);
    }
}
