//! Statistics of files that change together, from the newest commits.
//!
//! Each commit is compared with its first parent. A commit that touches many files (a
//! reformatting, a vendored library) is no evidence about any two of them, and a merge
//! only repeats its commits; both are skipped. Older commits weigh less; a renamed file
//! starts from zero. All limits are counts, not times, so that a history yields the same
//! bytes on every machine.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::ops::ControlFlow;

use gix::ObjectId;
use gix::bstr::BStr;
use gix::diff::tree::{Recorder, Visit, recorder, visit};
use gix::objs::TreeRefIter;

use super::history::commits::HistoryCommit;
use super::options::Progress;
use walgit_format::prior::{Pair, PathName, Prior};

/// Maximum number of commits to examine.
const MAX_COMMITS: usize = 2000;
/// Maximum number of files that a commit may touch.
const MAX_TOUCHED_FILES: usize = 30;
/// Decay of the weight per commit: half after some 500.
const WEIGHT_DECAY: f64 = 0.9986;
/// Minimum weight of commits that changed both files of a pair: a single common change
/// may be coincidence.
const MIN_PAIR_WEIGHT: f64 = 1.5;
/// Minimum fraction of one file's commits that also changed the other.
const MIN_PAIR_FRACTION: f64 = 0.15;
/// Cache size for decoded objects during tree comparison, in bytes.
const OBJECT_CACHE_BYTES: usize = 8 << 20;

/// Computes the prior from the commits that lead to `tips`; empty without evidence. Skips
/// unreadable history.
pub(super) fn prior(
    git: &gix::ThreadSafeRepository,
    tips: &[ObjectId],
    progress: &dyn Progress,
) -> Prior {
    let mut git = git.to_thread_local();
    git.object_cache_size_if_unset(OBJECT_CACHE_BYTES);
    let mut counts = Counts::default();
    let mut weight = 1.0;
    for (done, commit) in newest(&git, tips).into_iter().enumerate() {
        if let Some(touched) = touched(&git, &commit) {
            counts.add(touched, weight);
        }
        weight *= WEIGHT_DECAY;
        progress.compared(done as u64 + 1);
    }
    counts.prior(|path| is_file(&git, tips, path))
}

/// The newest commits that lead to `tips`, newest first.
fn newest(git: &gix::Repository, tips: &[ObjectId]) -> Vec<HistoryCommit> {
    let mut seen: HashSet<ObjectId> = tips.iter().copied().collect();
    let mut known: HashMap<ObjectId, HistoryCommit> = HashMap::new();
    // Sort by time, then by ID, for a deterministic order.
    let mut queue: BinaryHeap<(i64, ObjectId)> = BinaryHeap::new();
    let mut newest = Vec::new();
    let mut pending: Vec<ObjectId> = seen.iter().copied().collect();
    loop {
        for id in std::mem::take(&mut pending) {
            if let Ok(commit) = HistoryCommit::read(git, id) {
                queue.push((commit.committed, id));
                known.insert(id, commit);
            }
        }
        let next = queue.pop().and_then(|(_, id)| known.remove(&id));
        let Some(commit) = next.filter(|_| newest.len() < MAX_COMMITS) else {
            return newest;
        };
        let parents = commit.parents.iter().copied();
        pending.extend(parents.filter(|&parent| seen.insert(parent)));
        newest.push(commit);
    }
}

/// The files that a commit added or changed; `None` if it is no evidence.
fn touched(git: &gix::Repository, commit: &HistoryCommit) -> Option<Vec<Vec<u8>>> {
    let tree = |id: ObjectId| Some(git.find_object(id).ok()?.detach().data);
    let before = match commit.parents[..] {
        [] => Vec::new(),
        [parent] => tree(HistoryCommit::read(git, parent).ok()?.tree)?,
        _ => return None,
    };
    let after = tree(commit.tree)?;
    let entries = |raw| TreeRefIter::from_bytes(raw, git.object_hash());
    let mut changes = Changes::default();
    let state = gix::diff::tree::State::default();
    gix::diff::tree(
        entries(&before),
        entries(&after),
        state,
        &git.objects,
        &mut changes,
    )
    .ok()?;
    let files = changes
        .0
        .records
        .into_iter()
        .filter_map(|change| match change {
            recorder::Change::Addition {
                entry_mode, path, ..
            }
            | recorder::Change::Modification {
                entry_mode, path, ..
            } => entry_mode.is_blob().then(|| path.into()),
            recorder::Change::Deletion { .. } => None,
        });
    Some(files.collect())
}

/// Collects the changes of a commit, up to a limit.
#[derive(Default)]
struct Changes(Recorder);

impl Visit for Changes {
    fn pop_front_tracked_path_and_set_current(&mut self) {
        self.0.pop_front_tracked_path_and_set_current();
    }

    fn push_back_tracked_path_component(&mut self, component: &BStr) {
        self.0.push_back_tracked_path_component(component);
    }

    fn push_path_component(&mut self, component: &BStr) {
        self.0.push_path_component(component);
    }

    fn pop_path_component(&mut self) {
        self.0.pop_path_component();
    }

    fn visit(&mut self, change: visit::Change) -> visit::Action {
        if change.entry_mode().is_tree() {
            return ControlFlow::Continue(());
        }
        let _ = self.0.visit(change);
        if self.0.records.len() > MAX_TOUCHED_FILES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// Whether a file with this path exists at one of the tips.
fn is_file(git: &gix::Repository, tips: &[ObjectId], path: &[u8]) -> bool {
    tips.iter().any(|&tip| {
        let commit = HistoryCommit::read(git, tip).ok();
        let tree = commit.and_then(|commit| git.find_tree(commit.tree).ok());
        let parts = path.split(|&byte| byte == b'/');
        let entry = tree.and_then(|tree| tree.lookup_entry(parts).ok().flatten());
        entry.is_some_and(|entry| entry.mode().is_blob())
    })
}

/// Weights of commits, per file and per pair.
#[derive(Default)]
struct Counts {
    numbers: HashMap<Vec<u8>, usize>,
    files: Vec<f64>,
    pairs: HashMap<(usize, usize), f64>,
}

impl Counts {
    fn add(&mut self, touched: Vec<Vec<u8>>, weight: f64) {
        let mut numbers: Vec<usize> = Vec::with_capacity(touched.len());
        for path in touched {
            let next = self.files.len();
            let number = *self.numbers.entry(path).or_insert(next);
            if number == next {
                self.files.push(0.0);
            }
            self.files[number] += weight;
            numbers.push(number);
        }
        numbers.sort_unstable();
        for (at, &one) in numbers.iter().enumerate() {
            for &other in &numbers[at + 1..] {
                *self.pairs.entry((one, other)).or_default() += weight;
            }
        }
    }

    /// The significant pairs of files that still exist, best first.
    fn prior(self, exists: impl Fn(&[u8]) -> bool) -> Prior {
        let fraction = |&(one, other): &(usize, usize), weight: f64| {
            weight / self.files[one].min(self.files[other])
        };
        let is_significant = |(pair, weight): &(&(usize, usize), &f64)| {
            **weight >= MIN_PAIR_WEIGHT && fraction(pair, **weight) >= MIN_PAIR_FRACTION
        };
        let mut pairs: Vec<((usize, usize), f64)> = (self.pairs.iter())
            .filter(is_significant)
            .map(|(&pair, &weight)| (pair, weight))
            .collect();
        let mut paths: Vec<(&Vec<u8>, usize)> = {
            let paired: HashSet<usize> = pairs.iter().flat_map(|&((a, b), _)| [a, b]).collect();
            let paths = self.numbers.iter().map(|(path, &number)| (path, number));
            paths
                .filter(|(path, number)| paired.contains(number) && exists(path))
                .collect()
        };
        // Sort by path, so that entries of neighbouring files are adjacent.
        paths.sort_unstable();
        let places: HashMap<usize, usize> = (paths.iter().zip(0..))
            .map(|(&(_, number), place)| (number, place))
            .collect();
        let files: Vec<(PathName, f64)> = (paths.iter())
            .map(|&(path, number)| (PathName::of(path), self.files[number]))
            .collect();
        pairs.retain(|((one, other), _)| places.contains_key(one) && places.contains_key(other));
        let mut ranked: Vec<(f64, Pair)> = (pairs.into_iter())
            .map(|(pair, weight)| {
                let (one, other) = (places[&pair.0], places[&pair.1]);
                let files = (one.min(other), one.max(other));
                (fraction(&pair, weight) * weight, Pair { files, weight })
            })
            .collect();
        ranked.sort_unstable_by(|(a, one), (b, other)| {
            b.total_cmp(a).then(one.files.cmp(&other.files))
        });
        let pairs: Vec<Pair> = ranked.into_iter().map(|(_, pair)| pair).collect();
        Prior::new(&files, &pairs)
    }
}
