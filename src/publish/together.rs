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
use gix::diff::tree::visit::{Action, Change};
use gix::objs::TreeRefIter;

use super::{Progress, objects};
use walgit_format::prior::{Pair, PathName, Prior};

/// Maximum number of commits to examine.
const COMMITS: usize = 2000;
/// Maximum number of files that a commit may touch.
const MAX_TOUCHED: usize = 30;
/// Decay of the weight per commit: half after some 500.
const AGEING: f64 = 0.9986;
/// Minimum weight of commits that changed both files of a pair: a single common change
/// may be coincidence.
const LEAST_WEIGHT: f64 = 1.5;
/// Minimum fraction of one file's commits that also changed the other.
const LEAST_PART: f64 = 0.15;
/// Cache size for decoded objects during tree comparison, in bytes.
const OBJECTS: usize = 8 << 20;

/// Computes the prior from the commits that lead to `tips`; empty without evidence. Skips
/// unreadable history.
pub(super) fn prior(
    git: &gix::ThreadSafeRepository,
    tips: &[ObjectId],
    progress: &dyn Progress,
) -> Prior {
    let mut git = git.to_thread_local();
    git.object_cache_size_if_unset(OBJECTS);
    let mut counts = Counts::default();
    let mut weight = 1.0;
    for (done, commit) in newest(&git, tips).into_iter().enumerate() {
        if let Some(touched) = touched(&git, &commit) {
            counts.note(touched, weight);
        }
        weight *= AGEING;
        progress.compared(done as u64 + 1);
    }
    counts.prior(|path| is_file(&git, tips, path))
}

struct Commit {
    tree: ObjectId,
    parents: Vec<ObjectId>,
}

/// The newest commits that lead to `tips`, newest first.
fn newest(git: &gix::Repository, tips: &[ObjectId]) -> Vec<Commit> {
    let mut seen: HashSet<ObjectId> = tips.iter().copied().collect();
    let read = |id: ObjectId| {
        let commit = objects::commit(git, id).ok()?;
        let parents = commit.parents().iter();
        let parents = parents.map(|parent| objects::object_id(git, parent).ok());
        let parents = parents.collect::<Option<_>>()?;
        let tree = objects::object_id(git, commit.tree()).ok()?;
        Some((commit.committed(), Commit { tree, parents }))
    };
    let mut known: HashMap<ObjectId, Commit> = HashMap::new();
    // Sort by time, then by ID, for a deterministic order.
    let mut queue: BinaryHeap<(i64, ObjectId)> = BinaryHeap::new();
    let mut newest = Vec::new();
    let mut pending: Vec<ObjectId> = seen.iter().copied().collect();
    loop {
        for id in std::mem::take(&mut pending) {
            if let Some((seconds, commit)) = read(id) {
                queue.push((seconds, id));
                known.insert(id, commit);
            }
        }
        let next = queue.pop().and_then(|(_, id)| known.remove(&id));
        let Some(commit) = next.filter(|_| newest.len() < COMMITS) else {
            return newest;
        };
        let parents = commit.parents.iter().copied();
        pending.extend(parents.filter(|&parent| seen.insert(parent)));
        newest.push(commit);
    }
}

/// The files that a commit added or changed; `None` if it is no evidence.
fn touched(git: &gix::Repository, commit: &Commit) -> Option<Vec<Vec<u8>>> {
    let tree = |id: ObjectId| Some(git.find_object(id).ok()?.detach().data);
    let before = match commit.parents[..] {
        [] => Vec::new(),
        [parent] => {
            let parent = objects::commit(git, parent).ok()?;
            tree(objects::object_id(git, parent.tree()).ok()?)?
        }
        _ => return None,
    };
    let after = tree(commit.tree)?;
    let entries = |raw| TreeRefIter::from_bytes(raw, git.object_hash());
    let mut touched = Touched::default();
    let state = gix::diff::tree::State::default();
    gix::diff::tree(
        entries(&before),
        entries(&after),
        state,
        &git.objects,
        &mut touched,
    )
    .ok()?;
    Some(touched.files)
}

/// Collects the changed files, up to a limit.
#[derive(Default)]
struct Touched {
    path: Vec<u8>,
    folders: std::collections::VecDeque<Vec<u8>>,
    files: Vec<Vec<u8>>,
    differ: usize,
}

impl gix::diff::tree::Visit for Touched {
    fn pop_front_tracked_path_and_set_current(&mut self) {
        self.path = self.folders.pop_front().unwrap_or_default();
    }

    fn push_back_tracked_path_component(&mut self, component: &BStr) {
        self.push_path_component(component);
        self.folders.push_back(self.path.clone());
    }

    fn push_path_component(&mut self, component: &BStr) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(component);
    }

    fn pop_path_component(&mut self) {
        let end = self.path.iter().rposition(|&byte| byte == b'/');
        self.path.truncate(end.unwrap_or(0));
    }

    fn visit(&mut self, change: Change) -> Action {
        if change.entry_mode().is_tree() {
            return ControlFlow::Continue(());
        }
        self.differ += 1;
        let stays = !matches!(change, Change::Deletion { .. });
        if stays && change.entry_mode().is_blob() {
            self.files.push(self.path.clone());
        }
        match self.differ <= MAX_TOUCHED {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}

/// Whether a file with this path exists at one of the tips.
fn is_file(git: &gix::Repository, tips: &[ObjectId], path: &[u8]) -> bool {
    tips.iter().any(|&tip| {
        let commit = objects::commit(git, tip).ok();
        let tree = commit.and_then(|commit| objects::object_id(git, commit.tree()).ok());
        let tree = tree.and_then(|tree| git.find_tree(tree).ok());
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
    fn note(&mut self, touched: Vec<Vec<u8>>, weight: f64) {
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
    fn prior(self, is_there: impl Fn(&[u8]) -> bool) -> Prior {
        let part = |&(one, other): &(usize, usize), weight: f64| {
            weight / self.files[one].min(self.files[other])
        };
        let telling = |(pair, weight): &(&(usize, usize), &f64)| {
            **weight >= LEAST_WEIGHT && part(pair, **weight) >= LEAST_PART
        };
        let mut pairs: Vec<((usize, usize), f64)> = (self.pairs.iter())
            .filter(telling)
            .map(|(&pair, &weight)| (pair, weight))
            .collect();
        let mut paths: Vec<(&Vec<u8>, usize)> = {
            let told: HashSet<usize> = pairs.iter().flat_map(|&((a, b), _)| [a, b]).collect();
            let paths = self.numbers.iter().map(|(path, &number)| (path, number));
            paths
                .filter(|(path, number)| told.contains(number) && is_there(path))
                .collect()
        };
        // Sort by path, so that entries of neighboring files are adjacent.
        paths.sort_unstable();
        let places: HashMap<usize, usize> = (paths.iter().zip(0..))
            .map(|(&(_, number), place)| (number, place))
            .collect();
        let files: Vec<(PathName, f64)> = (paths.iter())
            .map(|&(path, number)| (PathName::of(path), self.files[number]))
            .collect();
        pairs.retain(|((one, other), _)| places.contains_key(one) && places.contains_key(other));
        let mut told: Vec<(f64, Pair)> = (pairs.into_iter())
            .map(|(pair, weight)| {
                let (one, other) = (places[&pair.0], places[&pair.1]);
                let files = (one.min(other), one.max(other));
                (part(&pair, weight) * weight, Pair { files, weight })
            })
            .collect();
        told.sort_unstable_by(|(a, one), (b, other)| {
            b.total_cmp(a).then(one.files.cmp(&other.files))
        });
        let pairs: Vec<Pair> = told.into_iter().map(|(_, pair)| pair).collect();
        Prior::new(&files, &pairs)
    }
}
