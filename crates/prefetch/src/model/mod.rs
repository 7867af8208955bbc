//! Model of the order of file opens: opens in, predictions out. Pure: no clock, no
//! thread, no file.
//!
//! The model is a Markov chain of variable order. The last one, two and three opens
//! of a *stream* are its contexts; the successors of each are counted, counts age,
//! and a prediction blends the orders from the longest known context to the
//! shortest, each weighted by how often similar contexts were right. Paths are the
//! alphabet, so learned data outlives a commit.
//!
//! A process is one sequence, so that a parallel build does not turn into noise. But
//! a compiler opens seventy files and exits, and its first open has no past. So two
//! streams are shared by all processes: the first opens of new processes, which
//! predict the next process, and the first opens of each file in a session, which
//! are the only ones that can stall. A new process needs no parent: its first open
//! is a context in which an earlier process like it has been.
//!
//! Besides the order, `directory_access_stats` records which files of a folder were opened in the
//! sessions that used it; this is used if the order predicts nothing.
//!
//! **Size.** A transition costs about 35 bytes (18 of content in a B-tree filled to
//! two thirds) and each open adds up to six of them, so a million transitions are
//! the orders of some 170,000 different opens. With their paths and statistics they
//! take 70 MB of memory (70 bytes each), and 19 MB (19 bytes each) on disk, in an
//! export and in a repository; a test verifies both. A million transitions over
//! fewer paths take less. A [`Model`] keeps at most [`Limits::transitions`] and
//! [`Limits::paths`], and drops the entries with the lowest weight and the oldest
//! occurrence.

mod chain;
mod confidence;
mod context;
mod directory_access_stats;
mod encoding;
mod forecast;
mod merge;
mod paths;
mod session_similarity;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chain::TransitionTable;
use confidence::Confidence;
use context::{OpenHistory, Sequence};
use directory_access_stats::DirectoryAccessStats;
use paths::Paths;
use session_similarity::SessionSimilarity;

pub use paths::PathId;

/// Task that opens files: a process or thread ID of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A file that is expected to be opened for the first time in this session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Path of the file.
    pub path: PathId,
    /// Probability that it is opened soon, 0..=1.
    pub probability: f64,
    /// Seconds until it is opened, excluding the time that its reader waits for
    /// others.
    pub after: f64,
}

/// Size limits of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of transitions; 35 bytes each.
    pub transitions: usize,
    /// Maximum number of paths; 100 bytes and twice their length each.
    pub paths: usize,
}

impl Default for Limits {
    /// About 28 MB: some 80,000 different opens.
    fn default() -> Self {
        Limits {
            transitions: 400_000,
            paths: 60_000,
        }
    }
}

/// Maximum number of processes with a history; a machine rarely runs more at once
/// that read one repository.
const MAX_TASKS: usize = 1024;

/// Learned data, and the current position of each process.
#[derive(Clone, Debug, Default)]
pub struct Model {
    limits: Limits,
    paths: Paths,
    chain: TransitionTable,
    confidence: Confidence,
    access_stats: DirectoryAccessStats,
    /// Number of the session; used to find the least useful transitions.
    session: u16,
    current: SessionState,
}

/// State of the current session only.
#[derive(Clone, Debug, Default)]
struct SessionState {
    tasks: BTreeMap<TaskId, Task>,
    task_starts: OpenHistory,
    first_opens: OpenHistory,
    opened: BTreeSet<PathId>,
    similarity: SessionSimilarity,
    opens: u64,
    /// Time of the last first open of a file, and of the last new process.
    first_open_at: f64,
    task_start_at: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Task {
    history: OpenHistory,
    /// Time of its last open.
    last_open: u64,
}

impl Model {
    /// Creates an empty model.
    pub fn new(limits: Limits) -> Self {
        Model {
            limits,
            ..Model::default()
        }
    }

    /// Starts a session: nothing is cached, no process is known. Learned data
    /// remains.
    pub fn begin(&mut self) {
        self.session = self.session.wrapping_add(1);
        self.current = SessionState::default();
        self.current.similarity = SessionSimilarity::new(self.chain.len() > 0);
        self.prune();
    }

    /// Records an open and learns from it. `gap` is the time in seconds since the
    /// task's last open was answered, that is, the task's own time. `clock` is a
    /// clock in seconds that stops while any task waits. Returns `None` for an
    /// invalid path.
    pub fn opened(&mut self, task: TaskId, path: &str, gap: f64, clock: f64) -> Option<PathId> {
        let id = self.paths.intern(path)?;
        self.current.opens += 1;
        let earlier = self.current.tasks.get(&task).copied();
        let is_new_task = earlier.is_none();
        let history = earlier.unwrap_or_default().history;
        let is_first = !self.current.opened.contains(&id);
        if self.current.opens == 1 {
            self.access_stats.record_session();
        }
        if is_first {
            let known = self.access_stats.counts.contains_key(&id);
            self.current.similarity.record(known);
            let gap = clock - self.current.first_open_at;
            self.current.first_open_at = clock;
            self.learn(Sequence::FirstOpens, self.current.first_opens, id, gap);
            self.record_access(id, path);
        }
        if is_new_task {
            let gap = clock - self.current.task_start_at;
            self.current.task_start_at = clock;
            self.learn(Sequence::TaskStarts, self.current.task_starts, id, gap);
        }
        self.learn(Sequence::Process, history, id, gap);

        let hash = self.paths.hash(id);
        self.current.opened.insert(id);
        if is_first {
            self.current.first_opens = self.current.first_opens.then(hash);
        }
        if is_new_task {
            self.current.task_starts = self.current.task_starts.then(hash);
            self.forget_tasks();
        }
        let history = history.then(hash);
        let last_open = self.current.opens;
        (self.current.tasks).insert(task, Task { history, last_open });
        // Pruning visits everything, so it frees a large part at once.
        let exceeds = |len: usize, limit: usize| len > limit + limit / 8;
        if exceeds(self.chain.len(), self.limits.transitions)
            || exceeds(self.paths.len(), self.limits.paths)
        {
            self.prune();
        }
        Some(id)
    }

    /// Returns the fraction of current opens that was known from earlier sessions,
    /// 0..=1; recent opens are weighted most.
    pub fn similarity(&self) -> f64 {
        self.current.similarity.value()
    }

    /// Returns the weights of the earlier sessions that used `folder` (its path has
    /// a trailing `/`, the root is `/`), and of those that opened `file`.
    pub fn accesses(&self, file: &str, folder: &str) -> (f64, f64) {
        let accesses = |folder| (self.access_stats).accesses(self.paths.find(file), folder);
        self.paths.find(folder).map_or((0.0, 0.0), accesses)
    }

    /// Returns the fraction of earlier sessions that used a folder, with recent
    /// ones weighted most; 0 if there were too few.
    pub fn usage(&self, folder: &str) -> f64 {
        let folder = self.paths.find(folder);
        folder.map_or(0.0, |folder| self.access_stats.usage(folder))
    }

    /// Returns the path of an ID.
    pub fn path(&self, id: PathId) -> Option<&str> {
        self.paths.name(id)
    }

    /// Returns the number of transitions.
    pub fn transitions(&self) -> usize {
        self.chain.len()
    }

    /// Returns the number of paths.
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    fn learn(&mut self, sequence: Sequence, history: OpenHistory, next: PathId, gap: f64) {
        for (order, context) in history.contexts(sequence) {
            if let Some((evidence, successors)) = self.chain.successors(context) {
                let right = successors.iter().any(|it| it.path == next);
                self.confidence.record(sequence, order, evidence, right);
            }
            self.chain.record(context, next, gap, self.session);
        }
    }

    fn record_access(&mut self, file: PathId, path: &str) {
        let Some(folder) = self.paths.intern(&folder_of(path)) else {
            return;
        };
        // Folders and files share the path table; no file ends in `/`.
        if self.current.opened.insert(folder) {
            self.access_stats.record_folder(folder);
        }
        self.access_stats.add_file(file, folder, 1.0);
    }

    fn forget_tasks(&mut self) {
        if self.current.tasks.len() < MAX_TASKS {
            return;
        }
        let opens = self.current.tasks.values().map(|task| task.last_open);
        let mut opens: Vec<u64> = opens.collect();
        opens.sort_unstable();
        let median = opens.get(MAX_TASKS / 2).copied().unwrap_or_default();
        self.current
            .tasks
            .retain(|_, task| task.last_open >= median);
    }

    /// Enforces the limits.
    fn prune(&mut self) {
        self.chain.prune(self.limits.transitions, self.session);
        if self.paths.len() <= self.limits.paths {
            return;
        }
        // The value of a path is that of the transitions to it.
        let mut values: BTreeMap<PathId, u64> = self.paths.ids().map(|id| (id, 0)).collect();
        for (&(_, path), it) in &self.chain.transitions {
            *values.entry(path).or_default() += u64::from(it.value(self.session));
        }
        for (&path, count) in &self.access_stats.counts {
            *values.entry(path).or_default() += (count.weight * 256.0) as u64;
        }
        let mut order: Vec<(u64, PathId)> = values.into_iter().map(|(id, it)| (it, id)).collect();
        order.sort_unstable();
        let retained = order.split_off(self.paths.len() - self.limits.paths);
        let retained: BTreeSet<PathId> = retained.into_iter().map(|(_, id)| id).collect();
        (self.chain.transitions).retain(|(_, path), _| retained.contains(path));
        self.access_stats
            .counts
            .retain(|path, _| retained.contains(path));
        self.access_stats
            .used
            .retain(|path, _| retained.contains(path));
        self.current.opened.retain(|path| retained.contains(path));
        self.paths.retain(|path| retained.contains(&path));
    }
}

/// Returns the folder of a file with a trailing `/`; `/` for a file in the root.
pub(super) fn folder_of(path: &str) -> String {
    match path.rfind('/') {
        Some(at) => path[..=at].to_owned(),
        None => "/".to_owned(),
    }
}
