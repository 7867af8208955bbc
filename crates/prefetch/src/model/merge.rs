//! Merging of two models, and halving of a foreign model.
//!
//! The current counts of both are added, each with its own age: a transition of the
//! last session of either model counts in full, one that has not occurred for five
//! of its sessions a third. From then on they age together. So transitions that
//! both models know become more certain, those of one model keep their weight, and
//! no model's data is lost.

use std::collections::HashMap;

use super::chain::Transition;
use super::{Model, PathId, folder_of};

impl Model {
    /// Adds the data of another model; `trust`, relative to the default, is the
    /// assumed degree to which a session that has just started repeats it.
    pub fn merge(&mut self, other: &Model, trust: f64) {
        let known = |id: PathId| other.paths.name(id).map(|name| (id, name));
        let mut ids: HashMap<PathId, PathId> = HashMap::new();
        for (id, name) in other.paths.ids().filter_map(known) {
            if let Some(local) = self.paths.intern(name) {
                ids.insert(id, local);
            }
        }
        let local = |id: &PathId| ids.get(id).copied();

        for (&(context, path), it) in &other.chain.transitions {
            let Some(path) = local(&path) else { continue };
            let idle = other.session.wrapping_sub(it.session);
            let it = Transition {
                session: self.session.wrapping_sub(idle),
                ..*it
            };
            self.chain.add(context, path, it, self.session);
        }
        self.chain.limit_successors();

        let scores = self.confidence.scores.iter_mut();
        scores
            .zip(&other.confidence.scores)
            .for_each(|(local, other)| local.merge(other));

        // The counts of files refer to those of their folders.
        let paths = || other.paths.ids().filter_map(known);
        let (ours, theirs) = (&mut self.access_stats, &other.access_stats);
        for (id, _) in paths().filter(|(_, name)| name.ends_with('/')) {
            if let (Some(folder), Some(count)) = (local(&id), theirs.counts.get(&id)) {
                ours.add_folder(folder, *count);
            }
        }
        for (id, name) in paths().filter(|(_, name)| !name.ends_with('/')) {
            let folder = folder_of(name);
            let folders = (other.paths.find(&folder), self.paths.find(&folder));
            if let (Some(file), (Some(their_folder), Some(folder))) = (local(&id), folders) {
                let (_, weight) = theirs.accesses(Some(id), their_folder);
                ours.add_file(file, folder, weight as f32);
            }
        }
        for (id, count) in &theirs.used {
            if let Some(folder) = local(id) {
                ours.add_use(folder, count.at(theirs.sessions.session));
            }
        }
        ours.sessions.weight += theirs.sessions.weight;
        if other.chain.len() > 0 {
            self.current.similarity.raise(trust);
        }
        self.prune();
    }

    /// Halves the weight of all learned data, until it is confirmed.
    pub fn halve(&mut self) {
        for it in self.chain.transitions.values_mut() {
            it.weight = (it.weight / 2).max(1);
        }
        self.confidence.halve();
        self.access_stats.halve();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Limits, Model, TaskId};

    fn learned(sessions: &[Vec<u8>]) -> Model {
        let mut model = Model::default();
        for session in sessions {
            model.begin();
            for file in session {
                let path = format!("d{}/{file}", file % 3);
                model.opened(TaskId(1), &path, 0.01, 0.0);
            }
        }
        model
    }

    fn next(model: &mut Model, path: &str) -> Vec<(String, f64)> {
        model.begin();
        model.opened(TaskId(9), path, 0.0, 0.0);
        let mut next: Vec<_> = (model.next(TaskId(9)).into_iter())
            .map(|it| (model.path(it.path).unwrap().to_owned(), it.probability))
            .collect();
        next.sort_by(|a, b| b.1.total_cmp(&a.1));
        next
    }

    #[test]
    fn a_merged_model_knows_the_transitions_of_both() {
        let mut one = learned(&[vec![1, 2, 3]]);
        let other = learned(&[vec![10, 11, 12], vec![10, 11, 12]]);
        one.merge(&other, 1.0);
        assert_eq!(next(&mut one, "d1/1")[0].0, "d2/2");
        assert_eq!(next(&mut one, "d1/10")[0].0, "d2/11");
        let (used, opened) = one.accesses("d1/10", "d1/");
        assert!(opened > 0.5 && opened < used, "{opened} of {used}");
    }

    #[test]
    fn the_transition_with_more_occurrences_prevails() {
        let often = learned(&vec![vec![1, 2]; 6]);
        let mut once = learned(&[vec![1, 5]]);
        once.merge(&often, 1.0);
        let next = next(&mut once, "d1/1");
        assert_eq!(next[0].0, "d2/2");
        assert!(next[0].1 > 2.0 * next[1].1, "{next:?}");
    }

    #[test]
    fn halved_data_is_soon_outweighed() {
        let theirs = learned(&vec![vec![1, 2]; 3]);
        let sure = next(&mut theirs.clone(), "d1/1")[0].1;
        let mut half = theirs.clone();
        half.halve();
        let halved = next(&mut half, "d1/1")[0].1;
        assert!((0.3..0.8).contains(&(halved / sure)), "{halved} of {sure}");
        let mut local = learned(&vec![vec![1, 5]; 2]);
        local.merge(&half, 0.5);
        assert_eq!(next(&mut local, "d1/1")[0].0, "d2/5");
    }

    proptest! {
        #[test]
        fn merging_keeps_the_limits_and_probabilities(
            one in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4),
            other in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4),
        ) {
            let limits = Limits { transitions: 100, paths: 30 };
            let mut model = Model::new(limits);
            model.merge(&learned(&one), 1.0);
            model.merge(&learned(&other), 0.5);
            prop_assert!(model.transitions() <= limits.transitions && model.paths() <= limits.paths);
            let next = next(&mut model, "d1/1");
            prop_assert!(next.iter().map(|it| it.1).sum::<f64>() <= 1.0 + 1e-9);
        }

        #[test]
        fn merging_an_empty_model_changes_nothing(sessions in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let mut model = learned(&sessions);
            let before = next(&mut model.clone(), "d1/1");
            model.merge(&Model::default(), 1.0);
            prop_assert_eq!(next(&mut model, "d1/1"), before);
        }
    }
}
