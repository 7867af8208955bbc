//! Collects every tree and content of a history that is not archived yet, in storage
//! order.

use std::collections::HashMap;
use std::rc::Rc;

use gix::ObjectId;
use gix::objs::Kind;

use super::super::PublishError;
use super::super::git::join;
use super::super::objects::{failed, read_as};
use super::Root;
use super::commits::CommitFound;
use walgit_format::archive::parse_tree;

/// A tree found by the walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeFound {
    pub(super) id: ObjectId,
    /// Index in [`Found::paths`].
    path: u32,
    /// One more than the maximum height of its subtrees.
    height: u32,
}

/// A content found by the walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContentFound {
    pub(super) id: ObjectId,
    /// Index in [`Found::paths`].
    pub(super) path: u32,
}

/// Deduplicated results of the walk.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Trees, each after everything that it contains; grouped by path.
    pub(super) trees: Vec<TreeFound>,
    /// Contents, grouped by path, newest first.
    pub(super) contents: Vec<ContentFound>,
    /// Paths at which objects were found first.
    pub(super) paths: Vec<Rc<[u8]>>,
}

struct Walk<'a> {
    repo: &'a gix::Repository,
    /// Numbers of archived objects.
    archived: &'a HashMap<ObjectId, u64>,
    found: Found,
    /// Index in `found.trees`.
    trees: HashMap<ObjectId, u32>,
    contents: HashMap<ObjectId, ()>,
    paths: HashMap<Rc<[u8]>, u32>,
}

enum Step {
    Enter(ObjectId, Rc<[u8]>),
    Leave(u32, Vec<ObjectId>),
}

/// Walks the trees of these commits, newest first, and the other targets of tags.
pub(super) fn walk(
    repo: &gix::Repository,
    commits: &[&CommitFound],
    roots: &[&Root],
    archived: &HashMap<ObjectId, u64>,
    mut told: impl FnMut(u64),
) -> Result<Found, PublishError> {
    let mut walk = Walk {
        repo,
        archived,
        found: Found::default(),
        trees: HashMap::new(),
        contents: HashMap::new(),
        paths: HashMap::new(),
    };
    for commit in commits.iter().rev() {
        walk.tree(commit.tree)?;
        told(walk.trees.len() as u64 + walk.contents.len() as u64);
    }
    for root in roots {
        match root.is_tree {
            true => walk.tree(root.id)?,
            false => walk.content(root.id, &Rc::from(&root.name[..])),
        }
    }
    Ok(walk.in_order())
}

impl Walk<'_> {
    fn tree(&mut self, root: ObjectId) -> Result<(), PublishError> {
        let mut stack = vec![Step::Enter(root, Rc::from([]))];
        while let Some(step) = stack.pop() {
            match step {
                Step::Enter(id, path) => self.enter(id, &path, &mut stack)?,
                Step::Leave(number, below) => {
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
        stack: &mut Vec<Step>,
    ) -> Result<(), PublishError> {
        if self.archived.contains_key(&id) || self.trees.contains_key(&id) {
            return Ok(());
        }
        let raw = read_as(self.repo, id, Kind::Tree)?;
        let number = self.found.trees.len() as u32;
        self.trees.insert(id, number);
        let path_number = self.path(path);
        self.found.trees.push(TreeFound {
            id,
            path: path_number,
            height: 0,
        });
        let (mut below, mut steps) = (Vec::new(), Vec::new());
        for entry in parse_tree(&raw, self.repo.object_hash().len_in_bytes()) {
            let entry =
                entry.ok_or_else(|| failed(self.repo, format!("tree {id} is malformed")))?;
            let child = ObjectId::from_bytes_or_panic(entry.id);
            if entry.kind().is_none() {
                return Err(failed(self.repo, format!("tree {id} is malformed")));
            }
            if entry.is_submodule() {
                continue;
            }
            let at: Rc<[u8]> = join(path, entry.name).into();
            if entry.is_tree() {
                below.push(child);
                steps.push(Step::Enter(child, at));
            } else {
                self.content(child, &at);
            }
        }
        stack.push(Step::Leave(number, below));
        stack.extend(steps.into_iter().rev());
        Ok(())
    }

    fn content(&mut self, id: ObjectId, path: &Rc<[u8]>) {
        if !self.archived.contains_key(&id) && self.contents.insert(id, ()).is_none() {
            let path = self.path(path);
            self.found.contents.push(ContentFound { id, path });
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
    fn in_order(self) -> Found {
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
