//! Habits: which files of a folder are opened when the folder is used.
//!
//! This is the knowledge about a file without any context: of the sessions that
//! opened something in its folder, the fraction that opened the file too. It
//! identifies neighbours that are not worth fetching.

use std::collections::BTreeMap;

use super::paths::PathId;

/// Factor by which a count ages each time its folder is used in another session.
const AGEING: f32 = 0.8;

/// An aging count, and the number of the folder's session for which it is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count {
    pub(super) weight: f32,
    pub(super) turn: u16,
}

impl Count {
    pub(super) fn at(self, turn: u16) -> f32 {
        let turns = turn.wrapping_sub(self.turn).min(64);
        self.weight * AGEING.powi(i32::from(turns))
    }

    fn met(self, turn: u16) -> Self {
        Count {
            weight: self.at(turn) + 1.0,
            turn,
        }
    }

    fn next(self) -> Self {
        self.met(self.turn.wrapping_add(1))
    }
}

/// Counts of folders and of files, both by path; a folder's path has a trailing
/// `/`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Habits {
    pub(super) counts: BTreeMap<PathId, Count>,
    /// Sessions, and the folders they used.
    pub(super) sessions: Count,
    pub(super) used: BTreeMap<PathId, Count>,
}

impl Habits {
    /// Records that a session has opened a file.
    pub(super) fn session(&mut self) {
        self.sessions = self.sessions.next();
    }

    /// Records that this session uses a folder.
    pub(super) fn folder(&mut self, folder: PathId) {
        let count = self.counts.entry(folder).or_default();
        *count = count.next();
        let count = self.used.entry(folder).or_default();
        *count = count.met(self.sessions.turn);
    }

    /// Fraction of the earlier sessions that used a folder.
    pub(super) fn usage(&self, folder: PathId) -> f64 {
        let all = self.sessions.weight - 1.0;
        let used = self
            .used
            .get(&folder)
            .map_or(0.0, |count| count.at(self.sessions.turn));
        match all > 0.0 {
            true => f64::from((used / all).clamp(0.0, 1.0)),
            false => 0.0,
        }
    }

    /// Records that a session opened a file; the use of its folder is recorded
    /// before.
    pub(super) fn file(&mut self, file: PathId, folder: PathId) {
        let turn = self.counts.get(&folder).map_or(0, |count| count.turn);
        let count = self.counts.entry(file).or_default();
        *count = count.met(turn);
    }

    /// Adds sessions that used a folder.
    pub(super) fn add_folder(&mut self, folder: PathId, more: Count) {
        self.counts.entry(folder).or_default().weight += more.weight;
    }

    /// Adds sessions that opened a file, of those that used its folder.
    pub(super) fn add_file(&mut self, file: PathId, folder: PathId, weight: f32) {
        if weight > 0.0 {
            let turn = self.counts.get(&folder).map_or(0, |count| count.turn);
            let count = self.counts.entry(file).or_default();
            *count = Count {
                weight: count.at(turn) + weight,
                turn,
            };
        }
    }

    /// Adds sessions that used a folder, of all sessions.
    pub(super) fn add_use(&mut self, folder: PathId, weight: f32) {
        let turn = self.sessions.turn;
        let count = self.used.entry(folder).or_default();
        *count = Count {
            weight: count.at(turn) + weight,
            turn,
        };
    }

    /// Halves all counts.
    pub(super) fn halve(&mut self) {
        let counts = self.counts.values_mut().chain(self.used.values_mut());
        for count in counts.chain([&mut self.sessions]) {
            count.weight /= 2.0;
        }
    }

    /// Returns the weights of the sessions that used the folder, and of those that
    /// opened the file.
    pub(super) fn of(&self, file: Option<PathId>, folder: PathId) -> (f64, f64) {
        let Some(&used) = self.counts.get(&folder) else {
            return (0.0, 0.0);
        };
        let file = file.and_then(|file| self.counts.get(&file));
        let opened = file.map_or(0.0, |count| count.at(used.turn));
        (f64::from(used.weight), f64::from(opened))
    }
}
