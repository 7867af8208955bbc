//! Tests of the scheduler.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::file_index::{FileId, FileIndex, PackId, StoredRange};
use super::super::model::TaskId;
use super::super::profile::Profile;
use super::link::RequestTiming;
use super::*;

/// Creates a tree of folders `d0`, `d1` … with `files` adjacent files of `len`
/// bytes each.
fn tree(folders: u64, files: u64, len: u64) -> FileIndex {
    let mut file_index = FileIndex::default();
    for at in 0..folders * files {
        let place = StoredRange {
            pack: PackId(0),
            offset: at * len,
            len,
        };
        file_index.add(&format!("d{}/f{}.rs", at / files, at % files), place);
    }
    file_index
}

fn scheduler(file_index: FileIndex, profile: Profile) -> Scheduler {
    Scheduler::new(
        file_index,
        profile,
        LinkEstimate::default(),
        Config::default(),
    )
}

/// A caller that executes actions, checks that they are valid, and completes
/// requests on request.
struct Caller {
    scheduler: Scheduler,
    in_flight: BTreeMap<FetchId, Vec<FileId>>,
    arrived: BTreeSet<FileId>,
    now: Seconds,
}

impl Caller {
    fn new(scheduler: Scheduler) -> Self {
        Caller {
            scheduler,
            in_flight: BTreeMap::new(),
            arrived: BTreeSet::new(),
            now: 0.0,
        }
    }

    fn open(&mut self, task: u64, path: &str) -> Vec<Fetch> {
        self.now += 0.005;
        let file = self.scheduler.file_index().find(path).unwrap();
        let actions = self.scheduler.opened(TaskId(task), file, self.now);
        self.execute(actions)
    }

    /// Completes the oldest pending request.
    fn complete(&mut self) -> Vec<Fetch> {
        self.now += 0.02;
        let mut fetches = Vec::new();
        if let Some((_, files)) = self.in_flight.pop_first() {
            for file in files {
                self.arrived.insert(file);
                let actions = self.scheduler.fetched(file, self.now);
                fetches.extend(self.execute(actions));
            }
        }
        fetches
    }

    fn wake(&mut self) {
        if let Some(at) = self.scheduler.wake() {
            self.now = self.now.max(at);
            let actions = self.scheduler.tick(self.now);
            self.execute(actions);
        }
    }

    fn fail(&mut self) {
        if let Some((_, files)) = self.in_flight.pop_first() {
            for file in files {
                let actions = self.scheduler.failed(file, self.now);
                self.execute(actions);
            }
        }
    }

    fn execute(&mut self, actions: Vec<Action>) -> Vec<Fetch> {
        let mut fetches = Vec::new();
        for action in actions {
            match action {
                Action::Cancel(id) => assert!(self.in_flight.remove(&id).is_some()),
                Action::Fetch(fetch) => {
                    for &file in &fetch.files {
                        assert!(!self.arrived.contains(&file), "fetched twice");
                        let in_flight = self.in_flight.values().flatten().any(|&it| it == file);
                        assert!(!in_flight, "fetched twice at once");
                    }
                    let demanded = fetch.demanded;
                    assert!(demanded.is_none_or(|file| fetch.files.first() == Some(&file)));
                    self.in_flight.insert(fetch.id, fetch.files.clone());
                    fetches.push(fetch);
                }
            }
        }
        assert!(self.in_flight.len() <= Config::default().connections);
        fetches
    }
}

#[test]
fn a_demanded_file_is_requested_at_once_and_first() {
    let mut caller = Caller::new(scheduler(tree(4, 50, 3000), Profile::default()));
    let fetches = caller.open(1, "d1/f7.rs");
    let wanted = caller.scheduler.file_index().find("d1/f7.rs");
    assert_eq!(fetches[0].demanded, wanted);
    assert_eq!(fetches[0].offset, 57 * 3000);
    let files: usize = fetches.iter().map(|fetch| fetch.files.len()).sum();
    assert!(files > 10, "related files are in the same request: {files}");
}

#[test]
fn a_demand_finds_a_connection_during_many_prefetches() {
    let mut caller = Caller::new(scheduler(tree(40, 20, 2000), Profile::default()));
    for folder in 0..20 {
        let path = format!("d{}/f3.rs", folder * 2);
        let file = caller.scheduler.file_index().find(&path).unwrap();
        let is_in_flight = caller.in_flight.values().flatten().any(|&it| it == file);
        let fetches = caller.open(folder, &path);
        if !is_in_flight && !caller.arrived.contains(&file) && caller.in_flight.len() < 8 {
            assert_eq!(fetches.first().and_then(|fetch| fetch.demanded), Some(file));
        }
        caller.complete();
    }
}

#[test]
fn learned_files_are_fetched_before_they_are_opened() {
    let paths: Vec<String> = (0..30)
        .map(|n| format!("d{}/f{}.rs", n * 7 % 40, n % 3))
        .collect();
    let mut profile = Profile::default();
    let mut waited = Vec::new();
    for _ in 0..2 {
        let mut caller = Caller::new(scheduler(tree(40, 20, 20_000), profile));
        let mut waits = 0;
        for path in &paths {
            let file = caller.scheduler.file_index().find(path).unwrap();
            waits += u32::from(!caller.arrived.contains(&file));
            caller.open(1, path);
            for _ in 0..8 {
                caller.complete();
                caller.wake();
            }
        }
        waited.push(waits);
        profile = caller.scheduler.profile();
    }
    assert!(waited[1] <= 2 && waited[0] > 5, "{waited:?}");
}

#[test]
fn a_failed_file_is_requested_again_only_on_demand() {
    let mut caller = Caller::new(scheduler(tree(1, 10, 3000), Profile::default()));
    caller.open(1, "d0/f0.rs");
    while !caller.in_flight.is_empty() {
        caller.fail();
    }
    assert!(caller.open(2, "d0/f9.rs")[0].demanded.is_some());
    assert_eq!(caller.scheduler.counts().demands, 2);
}

#[test]
fn cached_files_are_not_fetched() {
    let mut caller = Caller::new(scheduler(tree(1, 10, 3000), Profile::default()));
    for n in 0..10 {
        let file = caller
            .scheduler
            .file_index()
            .find(&format!("d0/f{n}.rs"))
            .unwrap();
        caller.scheduler.mark_cached(file);
    }
    assert!(caller.open(1, "d0/f4.rs").is_empty());
}

#[test]
fn wrong_guesses_stop_further_guesses() {
    // One file of each folder is opened, never a neighbour.
    let mut caller = Caller::new(scheduler(tree(300, 20, 5000), Profile::default()));
    for folder in 0..300 {
        caller.open(1, &format!("d{}/f{}.rs", folder * 7 % 300, folder % 20));
        for _ in 0..8 {
            caller.complete();
        }
    }
    let useful = 300 * 5000;
    let fetched = caller.arrived.len() as u64 * 5000;
    assert!(fetched < useful * 3, "{fetched}");
}

#[test]
fn the_link_estimate_follows_measurements() {
    let mut link = LinkEstimate::default();
    for _ in 0..200 {
        link.record(RequestTiming {
            first: 0.2 + 0.004,
            last: 0.2 + 0.4,
            first_bytes: 10_000,
            bytes: 1_000_000,
        });
    }
    assert!((link.rtt() - 0.2).abs() < 0.02, "{link:?}");
    assert!((link.seconds(2_500_000) - 1.0).abs() < 0.1, "{link:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Open(u64, u64),
    Complete,
    Fail,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..4, 0u64..120).prop_map(|(task, file)| Step::Open(task, file)),
        3 => Just(Step::Complete),
        1 => Just(Step::Fail),
    ];
    proptest::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_budget_is_kept_and_no_file_is_fetched_twice(
        sessions in proptest::collection::vec(steps(), 1..3),
        len in prop_oneof![Just(0u64), 1u64..10_000, Just(1 << 40), Just(u64::MAX / 64)],
    ) {
        let mut profile = Profile::default();
        for steps in sessions {
            let mut caller = Caller::new(scheduler(tree(12, 10, len.min(u64::MAX / 128)), profile));
            for step in steps {
                let risk = caller.scheduler.at_risk();
                let ahead = match step {
                    Step::Open(task, file) => caller.open(task, &format!("d{}/f{}.rs", file / 10, file % 10)),
                    Step::Complete => caller.complete(),
                    Step::Fail => { caller.fail(); Vec::new() }
                };
                // New risk must fit the limit; older risk may exceed it if the
                // allowance has shrunk.
                if ahead.iter().any(|fetch| fetch.files.len() > usize::from(fetch.demanded.is_some())) {
                    for (now, before) in caller.scheduler.at_risk().iter().zip(risk) {
                        prop_assert!(now.0 <= now.1.max(before.0), "{now:?} {before:?}");
                    }
                }
            }
            // Every task receives its file in the end.
            for _ in 0..200 {
                caller.complete();
            }
            prop_assert!(caller.in_flight.is_empty() && caller.scheduler.waiting.is_empty());
            profile = caller.scheduler.profile();
        }
    }
}
