//! Tests of the model.

use proptest::prelude::*;

use super::*;

/// Returns a model after one session with these opens, a millisecond apart.
fn after(opens: &[(u64, &str)]) -> Model {
    let mut model = Model::default();
    session(&mut model, opens);
    model
}

fn session(model: &mut Model, opens: &[(u64, &str)]) {
    model.begin();
    for (at, &(task, path)) in opens.iter().enumerate() {
        model.opened(TaskId(task), path, 0.001, at as f64 * 0.001);
    }
}

/// Returns the model's predictions for the next open of a task, most likely first.
fn next(model: &Model, task: u64) -> Vec<(String, f64)> {
    let mut next: Vec<(String, f64)> = (model.next(TaskId(task)).into_iter())
        .map(|it| (model.path(it.path).unwrap().to_owned(), it.probability))
        .collect();
    next.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    next
}

const ABC: [(u64, &str); 4] = [(1, "a"), (1, "b"), (1, "c"), (1, "d")];

#[test]
fn a_transition_seen_once_is_predicted() {
    let mut model = after(&ABC);
    session(&mut model, &[(7, "a"), (7, "b")]);
    let (path, probability) = next(&model, 7).remove(0);
    assert_eq!(path, "c");
    assert!(probability > 0.9, "{probability}");
}

#[test]
fn a_session_is_predicted_from_its_first_open() {
    let mut model = after(&ABC);
    session(&mut model, &[(7, "a")]);
    let predicted: Vec<_> = (model.forecast(TaskId(7), 1.0).iter())
        .map(|it| model.path(it.path).unwrap().to_owned())
        .collect();
    assert_eq!(predicted, ["b", "c", "d"]);
}

#[test]
fn a_new_process_is_predicted_from_earlier_ones() {
    // Short-lived compilers; each opens a source and then its header.
    let names: Vec<(String, String)> = (0..6)
        .map(|n| (format!("{n}.c"), format!("{n}.h")))
        .collect();
    let opens: Vec<(u64, &str)> = (10..)
        .zip(&names)
        .flat_map(|(task, (source, header))| [(task, &**source), (task, &**header)])
        .collect();
    let mut model = after(&opens);
    session(&mut model, &[(90, "0.c"), (90, "0.h"), (91, "1.c")]);
    let anyone = model.forecast_all_tasks(0.002, 1.0);
    let predicted: Vec<_> = anyone.iter().filter_map(|it| model.path(it.path)).collect();
    assert!(
        predicted.contains(&"2.c") && predicted.contains(&"2.h"),
        "{predicted:?}"
    );
}

#[test]
fn the_longest_known_context_decides() {
    let mut model = Model::default();
    for _ in 0..3 {
        session(&mut model, &[(1, "x"), (1, "m"), (1, "after-x")]);
        session(&mut model, &[(1, "y"), (1, "m"), (1, "after-y")]);
    }
    session(&mut model, &[(1, "x"), (1, "m")]);
    assert_eq!(next(&model, 1)[0].0, "after-x");
}

#[test]
fn counts_decay_so_that_new_transitions_prevail() {
    let mut model = Model::default();
    for _ in 0..50 {
        session(&mut model, &[(1, "a"), (1, "old")]);
    }
    for _ in 0..5 {
        session(&mut model, &[(1, "a"), (1, "new")]);
    }
    session(&mut model, &[(1, "a")]);
    let next = next(&model, 1);
    assert_eq!(next[0].0, "new");
    assert!(next[0].1 > 1.5 * next[1].1, "{next:?}");
}

#[test]
fn confidence_falls_with_wrong_predictions() {
    let mut steady = Model::default();
    let mut fickle = Model::default();
    for round in 0..40 {
        session(&mut steady, &[(1, "a"), (1, "b")]);
        let other = format!("b{round}");
        session(&mut fickle, &[(1, "a"), (1, &other)]);
    }
    let sure = |model: &mut Model| {
        session(model, &[(1, "a")]);
        next(model, 1).iter().map(|it| it.1).sum::<f64>()
    };
    assert!(sure(&mut steady) > 0.95);
    assert!(sure(&mut fickle) < 0.5);
}

#[test]
fn similarity_falls_in_a_new_kind_of_session() {
    let mut model = after(&ABC);
    session(&mut model, &ABC);
    assert!(model.similarity() > 0.8);
    session(&mut model, &[(1, "a"), (1, "p"), (1, "q"), (1, "r")]);
    assert!(model.similarity() < 0.1);
}

#[test]
fn access_stats_distinguish_the_files_of_a_folder() {
    let mut model = Model::default();
    for _ in 0..4 {
        session(&mut model, &[(1, "d/often"), (1, "other")]);
    }
    session(&mut model, &[(1, "d/often"), (1, "d/once")]);
    let (used, often) = model.accesses("d/often", "d/");
    let (_, once) = model.accesses("d/once", "d/");
    let (_, never) = model.accesses("d/never", "d/");
    assert!((used - often).abs() < 1e-6 && once < 0.4 * used && never == 0.0);
}

#[test]
fn a_path_longer_than_the_limit_is_ignored() {
    let mut model = Model::default();
    assert_eq!(model.opened(TaskId(1), &"x".repeat(5000), 0.0, 0.0), None);
    assert_eq!(model.paths(), 0);
}

prop_compose! {
    fn opens()(opens in proptest::collection::vec((0u64..4, 0u8..12), 0..120)) -> Vec<(u64, String)> {
        opens.into_iter().map(|(task, file)| (task, format!("d{}/f{file}", file % 3))).collect()
    }
}

fn borrowed(opens: &[(u64, String)]) -> Vec<(u64, &str)> {
    opens.iter().map(|(task, path)| (*task, &**path)).collect()
}

proptest! {
    #[test]
    fn probabilities_are_probabilities(sessions in proptest::collection::vec(opens(), 1..5)) {
        let mut model = Model::default();
        for opens in &sessions {
            model.begin();
            for (at, (task, path)) in borrowed(opens).into_iter().enumerate() {
                model.opened(TaskId(task), path, 0.01, at as f64);
                let next = model.next(TaskId(task));
                prop_assert!(next.iter().all(|it| (0.0..=1.0).contains(&it.probability)));
                prop_assert!(next.iter().map(|it| it.probability).sum::<f64>() <= 1.0 + 1e-9);
                let far = model.forecast(TaskId(task), 1.0);
                let anyone = model.forecast_all_tasks(at as f64, 1.0);
                for it in far.iter().chain(&anyone) {
                    prop_assert!((0.0..=1.0).contains(&it.probability) && it.after >= 0.0);
                }
            }
        }
    }

    #[test]
    fn interleaved_processes_have_separate_histories(turns in proptest::collection::vec(any::<bool>(), 60)) {
        let paths = |name: &str| (0..20).map(|n| format!("{name}{}", n * 7 % 11)).collect::<Vec<_>>();
        let (one, other) = (paths("one"), paths("other"));
        let mut together = Model::default();
        let mut apart = Model::default();
        together.begin();
        apart.begin();
        let (mut a, mut b) = (one.iter(), other.iter());
        // Both start in the same order in either model.
        for (model, task, path) in [(1, 1, &one[0]), (1, 2, &other[0]), (2, 1, &one[0]), (2, 2, &other[0])] {
            let model = if model == 1 { &mut together } else { &mut apart };
            model.opened(TaskId(task), path, 0.0, 0.0);
        }
        a.next();
        b.next();
        for turn in turns.into_iter().chain([true; 20]).chain([false; 20]) {
            let (task, path) = if turn { (1, a.next()) } else { (2, b.next()) };
            if let Some(path) = path {
                together.opened(TaskId(task), path, 0.0, 0.0);
            }
        }
        for (task, paths) in [(1, &one), (2, &other)] {
            for path in &paths[1..] {
                apart.opened(TaskId(task), path, 0.0, 0.0);
            }
        }
        for task in [1, 2] {
            let (together, apart) = (next(&together, task), next(&apart, task));
            prop_assert_eq!(together.len(), apart.len());
            for (one, other) in together.iter().zip(&apart) {
                prop_assert_eq!(&one.0, &other.0);
                prop_assert!((one.1 - other.1).abs() < 0.02, "{:?} {:?}", together, apart);
            }
        }
    }

    #[test]
    fn the_limits_are_kept(sessions in proptest::collection::vec(proptest::collection::vec((0u64..5, 0u16..400), 1..200), 1..4)) {
        let limits = Limits { transitions: 160, paths: 40 };
        let mut model = Model::new(limits);
        for opens in sessions {
            model.begin();
            for (task, file) in opens {
                model.opened(TaskId(task), &format!("d{}/{file}", file % 7), 0.0, 0.0);
                // Pruning removes many at once.
                prop_assert!(model.transitions() <= limits.transitions * 9 / 8 + 9);
                prop_assert!(model.paths() <= limits.paths * 9 / 8 + 2);
            }
        }
    }
}
