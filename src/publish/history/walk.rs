//! Collects every tree and content of a history that is not archived yet, in storage
//! order.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use gix::ObjectId;
use gix::objs::Kind;

use super::commits::{HistoryCommit, TaggedObject};
use crate::publish::error::PublishError;
use crate::publish::git_objects::{malformed_tree, read_as};
use crate::publish::plan::join;
use walgit_format::archive::parse_tree;

/// A tree found by the walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundTree {
    pub(super) id: ObjectId,
    /// Index in [`HistoryObjects::paths`].
    path: u32,
    /// One more than the maximum height of its subtrees.
    height: u32,
}

/// A content found by the walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundContent {
    pub(super) id: ObjectId,
    /// Index in [`HistoryObjects::paths`].
    pub(super) path: u32,
}

/// Deduplicated results of the walk.
#[derive(Debug, Default)]
pub(super) struct HistoryObjects {
    /// Trees, each after everything that it contains; grouped by path.
    pub(super) trees: Vec<FoundTree>,
    /// Contents, grouped by path, newest first.
    pub(super) contents: Vec<FoundContent>,
    /// Paths at which objects were found first.
    pub(super) paths: Vec<Rc<[u8]>>,
}

struct HistoryWalk<'a> {
    repo: &'a gix::Repository,
    /// Numbers of archived objects.
    archived: &'a HashMap<ObjectId, u64>,
    found: HistoryObjects,
    /// Index in `found.trees`.
    trees: HashMap<ObjectId, u32>,
    contents: HashSet<ObjectId>,
    paths: HashMap<Rc<[u8]>, u32>,
}

enum WalkStep {
    Enter(ObjectId, Rc<[u8]>),
    Leave(u32, Vec<ObjectId>),
}

/// Walks the trees of these commits, newest first, and the other targets of tags.
pub(super) fn walk(
    repo: &gix::Repository,
    commits: &[&HistoryCommit],
    roots: &[&TaggedObject],
    archived: &HashMap<ObjectId, u64>,
    mut progress: impl FnMut(u64),
) -> Result<HistoryObjects, PublishError> {
    let mut walk = HistoryWalk {
        repo,
        archived,
        found: HistoryObjects::default(),
        trees: HashMap::new(),
        contents: HashSet::new(),
        paths: HashMap::new(),
    };
    for commit in commits.iter().rev() {
        walk.tree(commit.tree)?;
        progress(walk.trees.len() as u64 + walk.contents.len() as u64);
    }
    for root in roots {
        if root.is_tree {
            walk.tree(root.id)?;
        } else {
            walk.content(root.id, &Rc::from(&root.name[..]));
        }
    }
    Ok(walk.sorted())
}

impl HistoryWalk<'_> {
    fn tree(&mut self, root: ObjectId) -> Result<(), PublishError> {
        let mut stack = vec![WalkStep::Enter(root, Rc::from([]))];
        while let Some(step) = stack.pop() {
            match step {
                WalkStep::Enter(id, path) => self.enter(id, &path, &mut stack)?,
                WalkStep::Leave(number, below) => {
                    let heights = below.iter().filter_map(|id| self.trees.get(id));
                    let heights = heights.map(|&at| self.found.trees[at as usize].height);
                    let height = heights.max().map_or(0, |height| height + 1);
                    self.found.trees[number as usize].height = height;
                }
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        id: ObjectId,
        path: &Rc<[u8]>,
        stack: &mut Vec<WalkStep>,
    ) -> Result<(), PublishError> {
        if self.archived.contains_key(&id) || self.trees.contains_key(&id) {
            return Ok(());
        }
        let raw = read_as(self.repo, id, Kind::Tree)?;
        let number = self.found.trees.len() as u32;
        self.trees.insert(id, number);
        let path_number = self.path(path);
        self.found.trees.push(FoundTree {
            id,
            path: path_number,
            height: 0,
        });
        let (mut below, mut steps) = (Vec::new(), Vec::new());
        for entry in parse_tree(&raw, self.repo.object_hash().len_in_bytes()) {
            let entry = entry.filter(|entry| entry.kind().is_some());
            let entry = entry.ok_or_else(|| malformed_tree(self.repo, id))?;
            if entry.is_submodule() {
                continue;
            }
            let child = ObjectId::from_bytes_or_panic(entry.id);
            let at: Rc<[u8]> = join(path, entry.name).into();
            if entry.is_tree() {
                below.push(child);
                steps.push(WalkStep::Enter(child, at));
            } else {
                self.content(child, &at);
            }
        }
        stack.push(WalkStep::Leave(number, below));
        stack.extend(steps.into_iter().rev());
        Ok(())
    }

    fn content(&mut self, id: ObjectId, path: &Rc<[u8]>) {
        if !self.archived.contains_key(&id) && self.contents.insert(id) {
            let path = self.path(path);
            self.found.contents.push(FoundContent { id, path });
        }
    }

    fn path(&mut self, path: &Rc<[u8]>) -> u32 {
        if let Some(number) = self.paths.get(path) {
            return *number;
        }
        let number = self.found.paths.len() as u32;
        self.found.paths.push(path.clone());
        self.paths.insert(path.clone(), number);
        number
    }

    /// Sorts the results by name, then by path, so that moved files are adjacent to their
    /// origin. The order within a path stays: newest first.
    fn sorted(self) -> HistoryObjects {
        let mut found = self.found;
        let mut sorted: Vec<u32> = (0..found.paths.len() as u32).collect();
        let key = |path: &u32| {
            let path = &found.paths[*path as usize][..];
            (path.rsplit(|&byte| byte == b'/').next(), path)
        };
        sorted.sort_by(|a, b| key(a).cmp(&key(b)));
        let mut rank = vec![0u32; sorted.len()];
        for (place, path) in sorted.into_iter().enumerate() {
            rank[path as usize] = place as u32;
        }
        let rank = |path: u32| rank[path as usize];
        found.contents.sort_by_key(|content| rank(content.path));
        (found.trees).sort_by_key(|tree| (tree.height, rank(tree.path)));
        found
    }
}
