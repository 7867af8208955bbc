//! What is learned from the order in which files are opened: opens in,
//! predictions out. Pure: no clock, no thread, no file.
//!
//! The model is a Markov chain of variable order. The last one, two and three
//! opens of a *stream* are its contexts; what followed each is counted, counts
//! age, and a prediction blends the orders from the longest known context to
//! the shortest, each weighed by how often contexts like it were right. Paths
//! are the alphabet, so what was learned outlives a commit.
//!
//! A process is one stream, so a parallel build does not blur into noise. But
//! a compiler opens seventy files and is gone, and its first open has no past.
//! So two streams belong to nobody: the first opens of new processes, which
//! say who comes next, and the first opens of each file in a session, which
//! are the only ones that can stall. A new process needs no parent: its first
//! open is a context that an earlier process like it has been in.
//!
//! Beside the order, [`habits`] keeps which files of a folder were opened in
//! the sessions that used it: what is left to say when the order says nothing.
//!
//! **Size.** A transition costs about 35 bytes (18 of content in a B-tree
//! filled to two thirds) and each open adds up to six of them, so a million
//! transitions are the orders of some 170,000 different opens. With the paths
//! and habits that belong to them they take 70 MB of memory (70 bytes each), and
//! 19 MB (19 bytes each) on disk, in an export and in a repository; a test holds
//! both to that. Of a million that repeat fewer paths, less. A [`Model`] keeps at most [`Limits::transitions`] and [`Limits::paths`], and
//! forgets what weighs least and was not met for longest.

mod chain;
mod confidence;
mod context;
mod familiar;
mod habits;
mod merge;
mod paths;
mod stored;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use chain::Chain;
use confidence::Confidence;
use context::{History, Stream};
use familiar::Familiarity;
use habits::Habits;
use paths::Paths;

pub use paths::PathId;

/// Who opens files: a process or thread, as the kernel numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A file that is expected to be opened in this session for the first time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The file.
    pub path: PathId,
    /// Probability that it is opened soon, 0..=1.
    pub probability: f64,
    /// Seconds until it is, not counting the time its reader waits for others.
    pub after: f64,
}

/// How large a model may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most transitions; 35 bytes each.
    pub transitions: usize,
    /// Most paths; 100 bytes and twice their length each.
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

/// Processes whose past is remembered; a machine rarely runs more at once that
/// read one repository.
const MAX_TASKS: usize = 1024;

/// What has been learned, and where each process stands.
#[derive(Clone, Debug, Default)]
pub struct Model {
    limits: Limits,
    paths: Paths,
    chain: Chain,
    confidence: Confidence,
    habits: Habits,
    /// Counts sessions; the least useful is found by it.
    session: u16,
    now: Now,
}

/// What belongs to the present session alone.
#[derive(Clone, Debug, Default)]
struct Now {
    tasks: BTreeMap<TaskId, Task>,
    births: History,
    firsts: History,
    opened: BTreeSet<PathId>,
    familiarity: Familiarity,
    opens: u64,
    /// When a file was last opened first, and a process last seen first.
    first_at: f64,
    birth_at: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Task {
    history: History,
    /// When it opened something last.
    seen: u64,
}

impl Model {
    /// A model that has learned nothing.
    pub fn new(limits: Limits) -> Self {
        Model {
            limits,
            ..Model::default()
        }
    }

    /// A session begins: nothing is cached, no process is known. What was
    /// learned stays.
    pub fn begin(&mut self) {
        self.session = self.session.wrapping_add(1);
        self.now = Now::default();
        self.now.familiarity = Familiarity::new(self.chain.len() > 0);
        self.prune();
    }

    /// Notes an open, and learns from it. `gap` is the time in seconds since
    /// the task's last open was answered: what it did by itself. `clock` is a
    /// clock in seconds that stands still while anybody waits. `None` for a
    /// path that is no path.
    pub fn opened(&mut self, task: TaskId, path: &str, gap: f64, clock: f64) -> Option<PathId> {
        let id = self.paths.intern(path)?;
        self.now.opens += 1;
        let born = !self.now.tasks.contains_key(&task);
        let history = self.now.tasks.get(&task).copied().unwrap_or_default();
        let first = !self.now.opened.contains(&id);
        if self.now.opens == 1 {
            self.habits.session();
        }
        if first {
            let known = self.habits.counts.contains_key(&id);
            self.now.familiarity.note(known);
            let gap = clock - self.now.first_at;
            self.now.first_at = clock;
            self.learn(Stream::Firsts, self.now.firsts, id, gap);
            self.visit(id, path);
        }
        if born {
            let gap = clock - self.now.birth_at;
            self.now.birth_at = clock;
            self.learn(Stream::Births, self.now.births, id, gap);
        }
        self.learn(Stream::Process, history.history, id, gap);

        let hash = self.paths.hash(id);
        self.now.opened.insert(id);
        if first {
            self.now.firsts = self.now.firsts.then(hash);
        }
        if born {
            self.now.births = self.now.births.then(hash);
            self.forget_tasks();
        }
        let task_now = Task {
            history: history.history.then(hash),
            seen: self.now.opens,
        };
        self.now.tasks.insert(task, task_now);
        // Pruning walks everything, so it frees a good part at once.
        let slack = self.limits.transitions / 8;
        if self.chain.len() > self.limits.transitions + slack
            || self.paths.len() > self.limits.paths + self.limits.paths / 8
        {
            self.prune();
        }
        Some(id)
    }

    /// How much of what is opened at present was known from earlier sessions,
    /// 0..=1; the last opens weigh most.
    pub fn familiarity(&self) -> f64 {
        self.now.familiarity.value()
    }

    /// Weights of the earlier sessions that used `folder` (its path ends in
    /// `/`, the root's is `/`), and of those of them that opened `file`.
    pub fn habit(&self, file: &str, folder: &str) -> (f64, f64) {
        match self.paths.find(folder) {
            Some(folder) => self.habits.of(self.paths.find(file), folder),
            None => (0.0, 0.0),
        }
    }

    /// Part of the earlier sessions that used a folder, the last ones weighing
    /// most; 0 where there were too few to say.
    pub fn usage(&self, folder: &str) -> f64 {
        let folder = self.paths.find(folder);
        folder.map_or(0.0, |folder| self.habits.usage(folder))
    }

    /// The path of a number.
    pub fn path(&self, id: PathId) -> Option<&str> {
        self.paths.name(id)
    }

    /// How many transitions are known.
    pub fn transitions(&self) -> usize {
        self.chain.len()
    }

    /// How many paths are known.
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    fn learn(&mut self, stream: Stream, history: History, next: PathId, gap: f64) {
        for (order, context) in history.contexts(stream) {
            if let Some((evidence, successors)) = self.chain.successors(context) {
                let right = successors.iter().any(|it| it.path == next);
                self.confidence.note(stream, order, evidence, right);
            }
            self.chain.note(context, next, gap, self.session);
        }
    }

    fn visit(&mut self, file: PathId, path: &str) {
        let Some(folder) = self.paths.intern(&folder_of(path)) else {
            return;
        };
        // Folders and files share the table of paths; no file ends in `/`.
        if self.now.opened.insert(folder) {
            self.habits.folder(folder);
        }
        self.habits.file(file, folder);
    }

    fn forget_tasks(&mut self) {
        if self.now.tasks.len() < MAX_TASKS {
            return;
        }
        let mut seen: Vec<u64> = self.now.tasks.values().map(|task| task.seen).collect();
        seen.sort_unstable();
        let bar = seen.get(MAX_TASKS / 2).copied().unwrap_or_default();
        self.now.tasks.retain(|_, task| task.seen >= bar);
    }

    /// Keeps the limits.
    fn prune(&mut self) {
        self.chain.prune(self.limits.transitions, self.session);
        if self.paths.len() <= self.limits.paths {
            return;
        }
        // A path is worth what leads to it.
        let mut worth: BTreeMap<PathId, u64> = self.paths.ids().map(|id| (id, 0)).collect();
        for (&(_, path), it) in &self.chain.transitions {
            let idle = self.session.wrapping_sub(it.session).min(16);
            *worth.entry(path).or_default() += u64::from(it.weight) << 8 >> idle;
        }
        for (&path, count) in &self.habits.counts {
            *worth.entry(path).or_default() += (count.weight * 256.0) as u64;
        }
        let mut order: Vec<(u64, PathId)> = worth.into_iter().map(|(id, it)| (it, id)).collect();
        order.sort_unstable();
        order.truncate(self.paths.len() - self.limits.paths);
        let gone: BTreeSet<PathId> = order.into_iter().map(|(_, id)| id).collect();
        let transitions = &mut self.chain.transitions;
        transitions.retain(|(_, path), _| !gone.contains(path));
        self.habits.counts.retain(|path, _| !gone.contains(path));
        self.habits.used.retain(|path, _| !gone.contains(path));
        self.now.opened.retain(|path| !gone.contains(path));
        self.paths.keep(|path| !gone.contains(&path));
    }
}

/// The folder of a file, ending in `/`; `/` for a file at the top.
pub(super) fn folder_of(path: &str) -> String {
    match path.rfind('/') {
        Some(at) => path[..=at].to_owned(),
        None => "/".to_owned(),
    }
}
