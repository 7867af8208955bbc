//! Replay of one recorded session over a simulated link.
//!
//! The computation of a task between two opens takes the same time as recorded;
//! recorded waits for fetches are excluded, and simulated waits delay everything
//! that the task does later. So each open follows one other open by the recorded
//! time between them: the task's previous open, or, for the first open of a task,
//! the open recorded just before it, by any task. (A trace does not record which
//! task started or waited for which; in a build the last active task is a good
//! approximation.) Negative times count as zero.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use super::super::catalogue::FileId;
use super::super::model::TaskId;
use super::super::scheduler::{Action, Fetch, FetchId, Scheduler};
use super::link::SimulatedLink;
use super::trace::Open;

/// Decides which files are fetched.
pub(super) trait Policy {
    fn opened(&mut self, task: TaskId, file: FileId, now: f64) -> Vec<Action>;
    fn fetched(&mut self, file: FileId, now: f64) -> Vec<Action>;
    /// Returns when to wake it if nothing else happens.
    fn wake(&self) -> Option<f64>;
    fn tick(&mut self, now: f64) -> Vec<Action>;
    fn holds(&self, file: FileId) -> bool;
    /// Returns the end of a file's bytes, relative to `offset`.
    fn end(&self, file: FileId, offset: u64) -> u64;
}

impl Policy for Scheduler {
    fn opened(&mut self, task: TaskId, file: FileId, now: f64) -> Vec<Action> {
        Scheduler::opened(self, task, file, now)
    }

    fn fetched(&mut self, file: FileId, now: f64) -> Vec<Action> {
        Scheduler::fetched(self, file, now)
    }

    fn wake(&self) -> Option<f64> {
        Scheduler::wake(self)
    }

    fn tick(&mut self, now: f64) -> Vec<Action> {
        Scheduler::tick(self, now)
    }

    fn holds(&self, file: FileId) -> bool {
        self.is_held(file)
    }

    fn end(&self, file: FileId, offset: u64) -> u64 {
        self.catalogue().place(file).end().saturating_sub(offset)
    }
}

/// Result of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Total seconds that tasks waited.
    pub(super) stall: f64,
    /// Opens that waited.
    pub(super) stalls: u64,
    /// Bytes that arrived, wanted or not.
    pub(super) bytes: u64,
    /// Seconds from the first open to the last answer.
    pub(super) lasted: f64,
}

/// Reason why a replay did not end.
#[derive(Debug, thiserror::Error)]
#[error("the replay stands still at {at} s with {waiting} opens unanswered")]
pub struct Stuck {
    at: f64,
    waiting: usize,
}

/// Plays `opens` of the files `files` to completion.
pub(super) fn play(
    opens: &[Open],
    files: &[FileId],
    policy: &mut impl Policy,
    mut link: SimulatedLink,
) -> Result<Outcome, Stuck> {
    let followers = followers(opens);
    let mut outcome = Outcome::default();
    let mut due: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
    let mut waiting: HashMap<FileId, Vec<(usize, f64)>> = HashMap::new();
    let mut lens: BTreeMap<FetchId, u64> = BTreeMap::new();
    let mut answers: VecDeque<(usize, f64)> = VecDeque::new();
    if !opens.is_empty() {
        due.push(Reverse(Due { at: 0.0, open: 0 }));
    }
    let mut unanswered = opens.len();
    let mut now = 0.0;
    while unanswered > 0 {
        let open_at = due.peek().map(|Reverse(due)| due.at);
        let link_at = link.next();
        // Arrivals precede opens at the same time.
        let next = match (open_at, link_at) {
            (Some(open), Some(link)) if open < link => Next::Open(open),
            (_, Some(link)) => Next::Link(link),
            (Some(open), None) => Next::Open(open),
            (None, None) => {
                return Err(Stuck {
                    at: now,
                    waiting: unanswered,
                });
            }
        };
        let next = match policy.wake() {
            Some(wake) if wake < next.at() => Next::Wake(wake),
            _ => next,
        };
        now = next.at().max(now);
        let there = link.advance(now);
        let mut actions = Vec::new();
        for file in there {
            actions.extend(policy.fetched(file, now));
            for (open, since) in waiting.remove(&file).unwrap_or_default() {
                outcome.stall += now - since;
                outcome.stalls += 1;
                answers.push_back((open, now));
            }
        }
        if let Next::Wake(_) = next {
            actions.extend(policy.tick(now));
        }
        if let (Next::Open(_), Some(Reverse(Due { open, .. }))) = (next, due.peek().copied()) {
            due.pop();
            let held = policy.holds(files[open]);
            actions.extend(policy.opened(opens[open].task, files[open], now));
            match held {
                true => answers.push_back((open, now)),
                false => waiting.entry(files[open]).or_default().push((open, now)),
            }
        }
        for action in actions {
            match action {
                Action::Fetch(Fetch {
                    id,
                    offset,
                    len,
                    files,
                    ..
                }) => {
                    let end = |&file: &FileId| (file, policy.end(file, offset));
                    link.begin(id, &files.iter().map(end).collect::<Vec<_>>());
                    lens.insert(id, len);
                    outcome.bytes = outcome.bytes.saturating_add(len);
                }
                Action::Cancel(id) => {
                    let came = link.cancel(id);
                    let len = lens.remove(&id).unwrap_or_default();
                    outcome.bytes = outcome.bytes.saturating_sub(len.saturating_sub(came));
                }
            }
        }
        while let Some((open, at)) = answers.pop_front() {
            unanswered -= 1;
            outcome.lasted = outcome.lasted.max(at);
            for &(open, gap) in &followers[open] {
                due.push(Reverse(Due { at: at + gap, open }));
            }
        }
    }
    Ok(outcome)
}

/// Returns for each open the opens that follow it, with their delays in seconds.
fn followers(opens: &[Open]) -> Vec<Vec<(usize, f64)>> {
    let mut followers = vec![Vec::new(); opens.len()];
    let mut last: HashMap<TaskId, usize> = HashMap::new();
    for (at, open) in opens.iter().enumerate() {
        let own = last.insert(open.task, at);
        if let Some(before) = own.or(at.checked_sub(1)) {
            let gap = (open.at - opens[before].at).max(0.0);
            followers[before].push((at, gap));
        }
    }
    followers
}

/// The next event and its time.
#[derive(Clone, Copy, Debug)]
enum Next {
    Open(f64),
    Link(f64),
    Wake(f64),
}

impl Next {
    fn at(self) -> f64 {
        match self {
            Next::Open(at) | Next::Link(at) | Next::Wake(at) => at,
        }
    }
}

/// A due open; at equal times the earlier recorded one comes first.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: f64,
    open: usize,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at
            .total_cmp(&other.at)
            .then(self.open.cmp(&other.open))
    }
}
