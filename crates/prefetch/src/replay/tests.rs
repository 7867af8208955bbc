//! Tests of the replay on small synthetic sessions.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::model::TaskId;

const LINK: ReplaySettings = ReplaySettings {
    rtt: 0.05,
    rate: 12.5e6,
    stored_ratio: 0.25,
};

fn open(at: f64, task: u64, path: &str, size: u64) -> Open {
    Open {
        at,
        task: TaskId(task),
        path: path.to_owned(),
        size,
    }
}

/// A program that opens files across a tree of 40 folders.
fn program(seed: u64) -> Vec<Open> {
    (0..60)
        .map(|n| {
            let path = format!("d{}/f{}.py", (n * 17 + seed * 5) % 40, (n + seed) % 9);
            open(n as f64 * 0.01, 1, &path, 8000)
        })
        .collect()
}

fn forest() -> Vec<(String, u64)> {
    (0..40 * 12)
        .map(|n| (format!("d{}/f{}.py", n / 12, n % 12), 8000))
        .collect()
}

fn played(tree: Option<&[(String, u64)]>, sessions: Vec<Vec<Open>>) -> Vec<ReplayReport> {
    let names = (1..).map(|n: u32| n.to_string());
    let sessions: Vec<_> = names.zip(sessions).collect();
    replay(tree, &sessions, LINK, InitialKnowledge::default()).unwrap()
}

#[test]
fn a_file_alone_costs_a_round_trip_and_its_bytes() {
    let reports = played(None, vec![vec![open(0.0, 1, "a", 5_000_000)]]);
    let seconds = 0.05 + 1_250_000.0 / 12.5e6;
    assert!((reports[0].stall_without_s - seconds).abs() < 1e-6);
    assert!((reports[0].stall_with_s - seconds).abs() < 1e-6);
    assert_eq!(
        (reports[0].useful_bytes, reports[0].wasted_bytes),
        (1_250_000, 0)
    );
}

#[test]
fn tasks_share_the_link() {
    let both = vec![open(0.0, 1, "a", 5_000_000), open(0.0, 2, "b", 5_000_000)];
    let reports = played(None, vec![both]);
    // The second opens when the first, which it follows, is answered.
    assert!((reports[0].stall_without_s - 0.3).abs() < 1e-6);
    let three = vec![
        open(0.0, 1, "x", 0),
        open(0.1, 2, "a", 5_000_000),
        open(0.0, 1, "b", 5_000_000),
    ];
    let reports = played(None, vec![three]);
    let stall = reports[0].stall_without_s;
    assert!(stall > 0.35 && stall < 0.47, "{stall}");
}

#[test]
fn a_file_opened_again_costs_nothing() {
    let twice = vec![open(0.0, 1, "a", 10), open(1.0, 2, "a", 10)];
    let reports = played(None, vec![twice]);
    assert_eq!((reports[0].stalls_without, reports[0].stalls_with), (1, 1));
}

#[test]
fn a_session_seen_once_hardly_waits() {
    let tree = forest();
    let reports = played(Some(&tree), vec![program(1), program(1)]);
    assert!(reports[1].stall_ratio <= 0.05, "{:?}", reports[1]);
    assert!(reports[1].waste_ratio.unwrap() <= 0.5, "{:?}", reports[1]);
}

#[test]
fn a_session_never_seen_waits_less_than_without() {
    let tree = forest();
    let opens = (0..60).map(|n| {
        let path = format!("d{}/f{}.py", n / 10 * 3, n * 7 % 10);
        open(n as f64 * 0.01, 1, &path, 8000)
    });
    let reports = played(Some(&tree), vec![opens.collect()]);
    assert!(reports[0].stall_ratio < 0.3, "{:?}", reports[0]);
    assert!(reports[0].waste_ratio.unwrap() <= 3.0, "{:?}", reports[0]);
}

#[test]
fn the_same_sessions_give_the_same_report() {
    let tree = forest();
    let all = || played(Some(&tree), vec![program(1), program(2), program(1)]);
    assert_eq!(all(), all());
}

#[test]
fn think_time_is_kept_and_delays_add_up() {
    let reports = played(None, vec![program(3)]);
    let report = &reports[0];
    let thought = 59.0 * 0.01;
    assert!((report.lasted_without_s - thought - report.stall_without_s).abs() < 1e-6);
    assert!((report.lasted_with_s - thought - report.stall_with_s).abs() < 1e-6);
}

#[test]
fn an_empty_session_is_one() {
    let reports = played(None, vec![Vec::new()]);
    assert_eq!(
        (reports[0].stall_ratio, reports[0].waste_ratio),
        (0.0, None)
    );
}

#[test]
fn files_the_tree_does_not_list_are_fetched_alone() {
    let tree = vec![("a".to_owned(), 1000)];
    let opens = vec![open(0.0, 1, "b", 1000), open(1.0, 1, "c", 1000)];
    let reports = played(Some(&tree), vec![opens]);
    assert_eq!((reports[0].demands, reports[0].files), (2, 2));
}

#[test]
fn a_wrong_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error_of = |content: &[u8]| {
        let path = dir.path().join("trace.tsv");
        std::fs::File::create(&path)
            .unwrap()
            .write_all(content)
            .unwrap();
        let error = read_trace(&path).unwrap_err().to_string();
        assert!(error.contains("trace.tsv:2: "), "{error}");
        error
    };
    let good = b"0.0\t1\ta\t10\n";
    let with = |line: &[u8]| error_of(&[good, line].concat());
    assert!(with(b"0.1\t1\ta\n").contains("3 fields"));
    assert!(with(b"x\t1\ta\t10\n").contains("time"));
    assert!(with(b"nan\t1\ta\t10\n").contains("time"));
    assert!(with(b"0.1\t-1\ta\t10\n").contains("task"));
    assert!(with(b"0.1\t1\t\t10\n").contains("empty"));
    assert!(with(b"0.1\t1\ta\t1.5\n").contains("size"));
    assert!(with(b"0.1\t1\t\xff\t1\n").contains("UTF-8"));
    assert!(with(&[b'x'; 10_000]).contains("longer"));
    let missing = read_trace(&dir.path().join("missing")).unwrap_err();
    assert!(missing.to_string().contains("missing: "));
}

#[test]
fn windows_line_ends_and_comments_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    std::fs::write(&path, "# by hand\r\n0.5\t3\ta b/c\t7\r\n\r\n").unwrap();
    assert_eq!(read_trace(&path).unwrap(), [open(0.5, 3, "a b/c", 7)]);
}

prop_compose! {
    fn any_open()(
        at in -1.0f64..5.0,
        task in 0u64..4,
        file in 0u32..30,
        size in prop_oneof![Just(0u64), 0u64..100_000, Just(1 << 40), Just(u64::MAX)],
    ) -> Open {
        open(at, task, &format!("d{}//f{}.x", file % 4, file), size)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_trace_terminates(
        sessions in proptest::collection::vec(proptest::collection::vec(any_open(), 0..60), 1..3),
        rtt in prop_oneof![Just(0.0), 0.0f64..1.0],
        rate in 1e3f64..1e10,
    ) {
        let sessions: Vec<_> = sessions.into_iter().map(|opens| (String::new(), opens)).collect();
        let setting = ReplaySettings { rtt, rate, stored_ratio: 0.28 };
        for report in replay(None, &sessions, setting, InitialKnowledge::default()).unwrap() {
            prop_assert!(report.stall_with_s.is_finite() && report.stall_with_s >= 0.0);
        }
    }
}

#[test]
fn co_changed_files_are_fetched_together_from_distant_folders() {
    use walgit_format::prior::{Pair, PathName};
    let tree = forest();
    // Four files of each change, scattered over the tree.
    let path = |change: usize, n: usize| &tree[(change * 131 + n * 97) % tree.len()].0;
    let files: Vec<_> = (tree.iter())
        .map(|(path, _)| (PathName::of(path.as_bytes()), 5.0))
        .collect();
    let at = |wanted: &str| tree.iter().position(|(path, _)| path == wanted).unwrap();
    let mut pairs = Vec::new();
    for change in 0..8 {
        for (one, other) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            let (one, other) = (at(path(change, one)), at(path(change, other)));
            pairs.push(Pair {
                files: (one.min(other), one.max(other)),
                weight: 4.0,
            });
        }
    }
    let prior = Arc::new(Prior::new(&files, &pairs));
    let session = |change| -> Vec<Open> {
        (0..4)
            .map(|n| open(n as f64 * 0.3, 1, path(change, n), 8000))
            .collect()
    };
    let stall = |prior: Option<Arc<Prior>>| -> f64 {
        let sessions = (0..8).map(|change| ("change".to_owned(), session(change)));
        let reports = sessions.map(|session| {
            let known = InitialKnowledge {
                prior: prior.clone(),
                ..InitialKnowledge::default()
            };
            replay(Some(&tree), &[session], LINK, known)
                .unwrap()
                .remove(0)
        });
        reports.map(|report| report.stall_with_s).sum()
    };
    let (with, without) = (stall(Some(prior)), stall(None));
    assert!(with < 0.5 * without, "{with} s, {without} s without");
}
