//! Access statistics of directories: which files of a folder are opened when the
//! folder is used.
//!
//! This is the knowledge about a file without any context: of the sessions that
//! opened something in its folder, the fraction that opened the file too. It
//! identifies neighbours that are not worth fetching.

use std::collections::BTreeMap;

use super::paths::PathId;

/// Factor by which a count decays each time its folder is used in another session.
const DECAY: f32 = 0.8;

/// A decaying count, and the number of the folder's session for which it is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct DecayingCount {
    pub(super) weight: f32,
    pub(super) session: u16,
}

impl DecayingCount {
    pub(super) fn at(self, session: u16) -> f32 {
        let sessions = session.wrapping_sub(self.session).min(64);
        self.weight * DECAY.powi(i32::from(sessions))
    }

    fn add(&mut self, session: u16, weight: f32) {
        self.weight = self.at(session) + weight;
        self.session = session;
    }

    /// Counts the next session.
    fn count_session(&mut self) {
        self.add(self.session.wrapping_add(1), 1.0);
    }
}

/// Counts of folders and of files, both by path; a folder's path has a trailing `/`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DirectoryAccessStats {
    pub(super) counts: BTreeMap<PathId, DecayingCount>,
    /// Sessions, and the folders they used.
    pub(super) sessions: DecayingCount,
    pub(super) used: BTreeMap<PathId, DecayingCount>,
}

impl DirectoryAccessStats {
    /// Records that a session has opened a file.
    pub(super) fn record_session(&mut self) {
        self.sessions.count_session();
    }

    /// Records that this session uses a folder.
    pub(super) fn record_folder(&mut self, folder: PathId) {
        self.counts.entry(folder).or_default().count_session();
        self.add_use(folder, 1.0);
    }

    /// Records that sessions of this weight used a folder, of all sessions.
    pub(super) fn add_use(&mut self, folder: PathId, weight: f32) {
        (self.used.entry(folder).or_default()).add(self.sessions.session, weight);
    }

    /// Records that sessions of this weight opened a file, of those that used its
    /// folder; the use of the folder is recorded before.
    pub(super) fn add_file(&mut self, file: PathId, folder: PathId, weight: f32) {
        if weight > 0.0 {
            let session = self.counts.get(&folder).map_or(0, |count| count.session);
            (self.counts.entry(file).or_default()).add(session, weight);
        }
    }

    /// Adds sessions that used a folder.
    pub(super) fn add_folder(&mut self, folder: PathId, more: DecayingCount) {
        self.counts.entry(folder).or_default().weight += more.weight;
    }

    /// Fraction of the earlier sessions that used a folder.
    pub(super) fn usage(&self, folder: PathId) -> f64 {
        let all = self.sessions.weight - 1.0;
        let used = self.used.get(&folder).copied().unwrap_or_default();
        if all > 0.0 {
            f64::from((used.at(self.sessions.session) / all).clamp(0.0, 1.0))
        } else {
            0.0
        }
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
    pub(super) fn accesses(&self, file: Option<PathId>, folder: PathId) -> (f64, f64) {
        let Some(&used) = self.counts.get(&folder) else {
            return (0.0, 0.0);
        };
        let file = file.and_then(|file| self.counts.get(&file));
        let opened = file.map_or(0.0, |count| count.at(used.session));
        (f64::from(used.weight), f64::from(opened))
    }
}
