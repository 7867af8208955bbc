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

use super::super::file_index::FileId;
use super::super::model::TaskId;
use super::super::scheduler::{Action, Fetch, FetchId, Scheduler};
use super::link::SimulatedLink;
use super::trace::Open;

/// Result of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SessionOutcome {
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
#[error("the replay stalled at {at} s with {waiting} opens unanswered")]
pub struct ReplayStalled {
    at: f64,
    waiting: usize,
}

/// Plays `opens` of the files `files` to completion.
pub(super) fn play(
    opens: &[Open],
    files: &[FileId],
    scheduler: &mut Scheduler,
    mut link: SimulatedLink,
) -> Result<SessionOutcome, ReplayStalled> {
    let followers = followers(opens);
    let mut outcome = SessionOutcome::default();
    let mut due: BinaryHeap<Reverse<DueOpen>> = BinaryHeap::new();
    let mut waiting: HashMap<FileId, Vec<(usize, f64)>> = HashMap::new();
    let mut lens: BTreeMap<FetchId, u64> = BTreeMap::new();
    let mut answers: VecDeque<(usize, f64)> = VecDeque::new();
    if !opens.is_empty() {
        due.push(Reverse(DueOpen { at: 0.0, open: 0 }));
    }
    let mut unanswered = opens.len();
    let mut now = 0.0;
    while unanswered > 0 {
        let open_at = due.peek().map(|Reverse(due)| due.at);
        let link_at = link.next();
        // Arrivals precede opens at the same time.
        let (event, at) = match (open_at, link_at) {
            (Some(open), Some(link)) if open < link => (Event::Open, open),
            (_, Some(link)) => (Event::Arrival, link),
            (Some(open), None) => (Event::Open, open),
            (None, None) => {
                return Err(ReplayStalled {
                    at: now,
                    waiting: unanswered,
                });
            }
        };
        let (event, at) = match scheduler.wake() {
            Some(wake) if wake < at => (Event::Wake, wake),
            _ => (event, at),
        };
        now = at.max(now);
        let arrived = link.advance(now);
        let mut actions = Vec::new();
        for file in arrived {
            actions.extend(scheduler.fetched(file, now));
            for (open, since) in waiting.remove(&file).unwrap_or_default() {
                outcome.stall += now - since;
                outcome.stalls += 1;
                answers.push_back((open, now));
            }
        }
        if event == Event::Wake {
            actions.extend(scheduler.tick(now));
        }
        if event == Event::Open
            && let Some(Reverse(DueOpen { open, .. })) = due.pop()
        {
            let is_cached = scheduler.is_cached(files[open]);
            actions.extend(scheduler.opened(opens[open].task, files[open], now));
            if is_cached {
                answers.push_back((open, now));
            } else {
                waiting.entry(files[open]).or_default().push((open, now));
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
                    let index = scheduler.file_index();
                    let end =
                        |&file: &FileId| (file, index.range(file).end().saturating_sub(offset));
                    link.begin(id, &files.iter().map(end).collect::<Vec<_>>());
                    lens.insert(id, len);
                    outcome.bytes = outcome.bytes.saturating_add(len);
                }
                Action::Cancel(id) => {
                    let arrived = link.cancel(id);
                    let len = lens.remove(&id).unwrap_or_default();
                    outcome.bytes = outcome.bytes.saturating_sub(len.saturating_sub(arrived));
                }
            }
        }
        while let Some((open, at)) = answers.pop_front() {
            unanswered -= 1;
            outcome.lasted = outcome.lasted.max(at);
            for &(open, gap) in &followers[open] {
                due.push(Reverse(DueOpen { at: at + gap, open }));
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
        let previous = last.insert(open.task, at);
        if let Some(before) = previous.or(at.checked_sub(1)) {
            let gap = (open.at - opens[before].at).max(0.0);
            followers[before].push((at, gap));
        }
    }
    followers
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Open,
    Arrival,
    Wake,
}

/// A due open; at equal times the earlier recorded one comes first.
#[derive(Clone, Copy, Debug)]
struct DueOpen {
    at: f64,
    open: usize,
}

impl PartialEq for DueOpen {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for DueOpen {}

impl PartialOrd for DueOpen {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DueOpen {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at
            .total_cmp(&other.at)
            .then(self.open.cmp(&other.open))
    }
}
