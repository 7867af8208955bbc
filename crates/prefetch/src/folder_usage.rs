//! Folders that a session uses, and their relation to other folders.

use std::collections::{HashMap, HashSet};

use super::file_index::{FileIndex, FolderId};
use super::rates::{RELATIONS, Rates};

/// Relation of a folder to the used folders. The nearest relation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// Its parent is used.
    Child = 0,
    /// A folder below it is used.
    Parent = 1,
    /// A folder below its parent is used.
    Sibling = 2,
    /// A folder below the same top-level folder is used.
    Cousin = 3,
    /// None of these relations.
    Unrelated = 4,
}

/// Initial fraction of the folders in a relation that are used, and the number of
/// counted folders at which the measured rate outweighs it.
const RELATION_RATES: [f64; RELATIONS] = [0.35, 0.5, 0.25, 0.1, 0.04];
const RELATION_WEIGHT: f64 = 16.0;
/// Factor for folders below an unrelated top-level folder: they are used more
/// rarely than it is.
const BELOW_UNRELATED: f64 = 0.3;
/// Maximum number of folders that one use of a folder adds to the frontier.
const MAX_ADDED_FOLDERS: usize = 48;
/// Maximum number of folders from the root down that are in the frontier initially.
const MAX_INITIAL_FOLDERS: usize = 96;

/// Use of a folder in this session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FolderUse {
    /// Position in its folder of the last opened file.
    pub(super) last: usize,
    /// Time of the last use, in opens.
    pub(super) at: u64,
    /// Whether its unopened files have been counted.
    pub(super) settled: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FolderUsage {
    pub(super) used: HashMap<FolderId, FolderUse>,
    /// Number of used folders below each folder.
    below: HashMap<FolderId, u32>,
    /// Folders to search for candidates, without duplicates.
    pub(super) frontier: Vec<FolderId>,
    seen: HashSet<FolderId>,
}

impl FolderUsage {
    /// Records the first use of a folder; counts it, and each folder that now has a
    /// nearer relation than before.
    pub(super) fn begin(&mut self, index: &FileIndex, folder: FolderId, rates: &mut Rates) {
        let relation = self.relation(index, folder);
        let mut count = |relation: Relation, all: f32, used: f32| {
            rates.relations[relation as usize].add(all, used);
        };
        if self.used.is_empty() {
            self.add_to_frontier(index, FolderId(0), MAX_INITIAL_FOLDERS);
            let top_level = index.folders_in(FolderId(0)).len() as f32;
            count(Relation::Unrelated, top_level, 0.0);
        } else {
            count(relation, 0.0, 1.0);
        }
        if relation == Relation::Unrelated {
            let below = count_below(index, top_level(index, folder));
            count(Relation::Cousin, below, 0.0);
        }
        self.used.insert(folder, FolderUse::default());
        let used = &self.used;
        let unused = |folders: &[FolderId]| {
            folders.iter().filter(|it| !used.contains_key(it)).count() as f32
        };
        count(Relation::Child, unused(index.folders_in(folder)), 0.0);
        let mut ancestor = index.parent(folder);
        let mut level = 0;
        while let Some(parent) = ancestor {
            let below = self.below.entry(parent).or_default();
            *below += 1;
            let is_nearest = *below == 1 && level == 0 && index.depth(parent) > 0;
            if is_nearest && !used.contains_key(&parent) {
                count(Relation::Parent, 1.0, 0.0);
                count(Relation::Sibling, unused(index.folders_in(parent)), 0.0);
            }
            level += 1;
            ancestor = index.parent(parent);
        }
        for folder in [Some(folder), index.parent(folder)].into_iter().flatten() {
            self.add_to_frontier(index, folder, MAX_ADDED_FOLDERS);
        }
    }

    /// Adds up to `limit` folders, a folder and those below it, to the frontier, in
    /// breadth-first order.
    fn add_to_frontier(&mut self, index: &FileIndex, from: FolderId, limit: usize) {
        let mut level = vec![from];
        let mut left = limit;
        while !level.is_empty() {
            let mut below = Vec::new();
            for folder in level {
                if left == 0 {
                    return;
                }
                left -= 1;
                if self.seen.insert(folder) {
                    self.frontier.push(folder);
                }
                below.extend(index.folders_in(folder).iter().take(limit));
            }
            level = below;
        }
    }

    /// Returns the probability that a folder is used.
    pub(super) fn probability(&self, index: &FileIndex, folder: FolderId, rates: &Rates) -> f64 {
        if self.used.contains_key(&folder) {
            return 1.0;
        }
        let relation = self.relation(index, folder);
        let prior = RELATION_RATES[relation as usize];
        let ratio = rates.relations[relation as usize].ratio(prior, RELATION_WEIGHT);
        if relation == Relation::Unrelated && index.depth(folder) > 1 {
            ratio * BELOW_UNRELATED
        } else {
            ratio
        }
    }

    fn relation(&self, index: &FileIndex, folder: FolderId) -> Relation {
        let is_used_below = |folder| self.below.get(&folder).is_some_and(|&n| n > 0);
        let is_used = |folder| self.used.contains_key(&folder);
        let Some(parent) = index.parent(folder) else {
            return Relation::Unrelated;
        };
        let is_top_level_used = || {
            let top = top_level(index, parent);
            is_used_below(top) || is_used(top)
        };
        if is_used_below(folder) {
            Relation::Parent
        } else if index.depth(parent) == 0 {
            // At the top level every folder would be a sibling.
            Relation::Unrelated
        } else if is_used(parent) {
            Relation::Child
        } else if is_used_below(parent) {
            Relation::Sibling
        } else if is_top_level_used() {
            Relation::Cousin
        } else {
            Relation::Unrelated
        }
    }
}

/// Returns the top-level folder that contains a folder, or is it.
fn top_level(index: &FileIndex, folder: FolderId) -> FolderId {
    let mut top = folder;
    while index.depth(top) > 1
        && let Some(parent) = index.parent(top)
    {
        top = parent;
    }
    top
}

/// Counts the folders below one, up to the number that would be searched.
fn count_below(index: &FileIndex, folder: FolderId) -> f32 {
    let mut count = 0;
    let mut pending = vec![folder];
    while let Some(folder) = pending.pop() {
        let below = index.folders_in(folder);
        count += below.len();
        if count > MAX_INITIAL_FOLDERS {
            break;
        }
        pending.extend(below);
    }
    count.min(MAX_INITIAL_FOLDERS) as f32
}
