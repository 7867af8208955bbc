//! Baseline of the comparison: each file is fetched individually, on demand.

use std::collections::{BTreeSet, VecDeque};

use super::super::catalogue::{Catalogue, FileId};
use super::super::model::TaskId;
use super::super::scheduler::{Action, Fetch, FetchId};
use super::session::Policy;

/// Policy without prefetches or neighbours.
#[derive(Debug)]
pub(super) struct Alone<'a> {
    catalogue: &'a Catalogue,
    connections: usize,
    held: BTreeSet<FileId>,
    flying: BTreeSet<FileId>,
    queue: VecDeque<FileId>,
    next: u64,
}

impl<'a> Alone<'a> {
    pub(super) fn new(catalogue: &'a Catalogue, connections: usize) -> Self {
        Alone {
            catalogue,
            connections,
            held: BTreeSet::new(),
            flying: BTreeSet::new(),
            queue: VecDeque::new(),
            next: 0,
        }
    }

    fn go_on(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.flying.len() < self.connections {
            let Some(file) = self.queue.pop_front() else {
                break;
            };
            self.flying.insert(file);
            self.next += 1;
            let place = self.catalogue.place(file);
            actions.push(Action::Fetch(Fetch {
                id: FetchId(self.next),
                pack: place.pack,
                offset: place.offset,
                len: place.len,
                files: vec![file],
                demanded: Some(file),
            }));
        }
        actions
    }
}

impl Policy for Alone<'_> {
    fn opened(&mut self, _: TaskId, file: FileId, _: f64) -> Vec<Action> {
        let known =
            self.held.contains(&file) || self.flying.contains(&file) || self.queue.contains(&file);
        if !known {
            self.queue.push_back(file);
        }
        self.go_on()
    }

    fn fetched(&mut self, file: FileId, _: f64) -> Vec<Action> {
        self.flying.remove(&file);
        self.held.insert(file);
        self.go_on()
    }

    fn wake(&self) -> Option<f64> {
        None
    }

    fn tick(&mut self, _: f64) -> Vec<Action> {
        Vec::new()
    }

    fn holds(&self, file: FileId) -> bool {
        self.held.contains(&file)
    }

    fn end(&self, file: FileId, offset: u64) -> u64 {
        self.catalogue.place(file).end().saturating_sub(offset)
    }
}
