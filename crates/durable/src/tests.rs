//! Tests of the contract, at every step and after power loss at every moment.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::power_loss::Recording;
use super::*;

/// Errors of a disk that is full, broken or read-only, or of missing descriptors.
const ERRORS: [Errno; 5] = [
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::IO,
    Errno::ROFS,
    Errno::MFILE,
];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    n: u32,
    /// Long, so that a truncated record is not valid by chance.
    text: String,
}

fn record(n: u32) -> Record {
    let text = "x".repeat(50);
    Record { n, text }
}

fn numbers(path: &Path) -> Vec<u32> {
    let read = AppendLog::new(path.into()).read::<Record>().unwrap();
    read.records.iter().map(|record| record.n).collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    entries.map(name).collect()
}

#[test]
fn after_power_loss_a_file_has_its_complete_old_or_new_content() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    let contents: [&[u8]; 3] = [b"first", b"the second one", b"3"];
    for content in contents {
        write_atomic(&dir.path().join("a/b/file"), content).unwrap();
        recording.reported();
    }
    let states = recording.check_all(|root, reported| {
        let found = fs::read(root.join("a/b/file")).ok();
        let allowed = [reported.checked_sub(1), Some(reported)];
        let is_allowed = match &found {
            None => reported == 0,
            Some(found) => allowed
                .into_iter()
                .flatten()
                .any(|at| contents.get(at) == Some(&&found[..])),
        };
        assert!(is_allowed, "{found:?} after {reported}");
        // The file can be written again despite leftovers.
        write_atomic(&root.join("a/b/file"), b"again").unwrap();
        assert_eq!(entries(&root.join("a/b")), ["file"]);
    });
    assert!(states > 20, "{states}");
}

#[test]
fn a_file_that_must_be_new_replaces_nothing_and_a_removed_one_stays_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let new = |bytes: &[u8]| {
        let mut file = AtomicFile::create(&path, PRIVATE_FILE_MODE)?;
        file.write_all(bytes)?;
        file.commit_new()
    };
    let recording = Recording::of(dir.path());
    new(b"first").unwrap();
    recording.reported();
    assert_eq!(new(b"second").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(remove_file(&path).unwrap());
    recording.reported();
    assert!(!remove_file(&path).unwrap());
    recording.check_all(|root, reported| {
        match (fs::read(root.join("file")), reported) {
            (Ok(found), 0 | 1) => assert_eq!(found, b"first"),
            (Err(_), 0 | 2) => {}
            // The removal was in progress.
            (Err(_), 1) => {}
            (found, _) => panic!("{found:?} after {reported}"),
        }
    });
}

#[test]
fn a_write_that_fails_at_any_step_leaves_only_the_old_file() {
    for error in ERRORS {
        for step in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            write_atomic(&path, b"old").unwrap();
            let recording = Recording::of(dir.path());
            recording.fail_at(step, error);
            let written = write_atomic(&path, b"new");
            if recording.steps() < step {
                written.unwrap();
                break;
            }
            let failed = written.unwrap_err();
            assert_eq!(failed.raw_os_error(), Some(error.raw_os_error()));
            // Only a failure of the last step, the fsync of the directory, comes too
            // late.
            let expected: &[u8] = if step == 5 { b"new" } else { b"old" };
            assert_eq!(fs::read(&path).unwrap(), expected, "step {step}");
            assert_eq!(entries(dir.path()), ["file"], "step {step}");
            write_atomic(&path, b"new").unwrap();
        }
    }
}

#[test]
fn a_file_in_place_of_a_folder_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let obstacle = dir.path().join("not a folder");
    fs::write(&obstacle, "").unwrap();
    let failed = write_atomic(&obstacle.join("file"), b"new").unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotADirectory);
    assert_eq!(entries(dir.path()), ["not a folder"]);
}

#[test]
fn temporary_files_of_crashed_processes_are_removed_and_those_in_use_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(".walgit-fs.tmp-0123456789abcdef");
    fs::write(&left, "torn").unwrap();
    let others = [".tmp-0123456789abcdef", ".walgit-fs.tmp-mine"].map(|it| dir.path().join(it));
    for other in &others {
        fs::write(other, "mine").unwrap();
    }
    let mut used = AtomicFile::create(&dir.path().join("used"), PRIVATE_FILE_MODE).unwrap();
    assert!(!left.exists());
    used.write_all(b"whole").unwrap();
    atomic::sweep(dir.path());
    used.commit().unwrap();
    assert_eq!(fs::read(dir.path().join("used")).unwrap(), b"whole");
    assert!(others.iter().all(|other| other.exists()));
}

#[test]
fn after_power_loss_all_reported_records_are_present_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs/log.jsonl");
    let recording = Recording::of(dir.path());
    for n in 1..=3 {
        // A new handle each time, like separate processes.
        AppendLog::new(path.clone()).append(&record(n)).unwrap();
        recording.reported();
    }
    recording.check_all(|root, reported| {
        let path = root.join("logs/log.jsonl");
        let found = numbers(&path);
        let all = [1, 2, 3];
        let next = (reported + 1).min(3);
        assert!(
            found == all[..reported] || found == all[..next],
            "{found:?} after {reported}"
        );
        // A second crash, while repairing the result of the first one.
        let second = Recording::of(root);
        AppendLog::new(path.clone()).append(&record(9)).unwrap();
        second.reported();
        let expected = [&found[..], &[9]].concat();
        assert_eq!(numbers(&path), expected);
        second.check_all(|root, reported| {
            let now = numbers(&root.join("logs/log.jsonl"));
            assert!(
                now == expected || reported == 0 && now == found,
                "{now:?} of {expected:?}"
            );
        });
    });
}

#[test]
fn after_power_loss_a_compacted_log_has_all_old_or_all_new_records() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = AppendLog::new(path.clone());
    log.lock().unwrap().append_all((1..=3).map(record)).unwrap();
    let recording = Recording::of(dir.path());
    let mut locked = log.lock().unwrap();
    locked.replace([record(3)]).unwrap();
    recording.reported();
    locked.append(&record(4)).unwrap();
    recording.reported();
    drop(locked);
    recording.check_all(|root, reported| {
        let found = numbers(&root.join("log.jsonl"));
        let allowed: &[&[u32]] = match reported {
            0 => &[&[1, 2, 3], &[3]],
            1 => &[&[3], &[3, 4]],
            _ => &[&[3, 4]],
        };
        assert!(allowed.contains(&&found[..]), "{found:?} after {reported}");
    });
}

/// A process is killed between the rename and the fsync of the directory; another one
/// appends; then power is lost.
#[test]
fn a_record_appended_after_an_unfinished_compaction_survives_power_loss() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = AppendLog::new(path.clone());
    log.append(&record(1)).unwrap();
    let recording = Recording::of(dir.path());
    let mut compacted = AtomicFile::create(&path, PRIVATE_FILE_MODE).unwrap();
    let line = serde_json::to_string(&record(1)).unwrap() + "\n";
    compacted.write_all(line.as_bytes()).unwrap();
    compacted.place().unwrap();
    log.append(&record(2)).unwrap();
    recording.reported();
    recording.check_all(|root, reported| {
        let found = numbers(&root.join("log.jsonl"));
        assert!(
            found == [1, 2] || reported == 0 && found == [1],
            "{found:?}"
        );
    });
}

#[test]
fn a_record_that_cannot_be_appended_leaves_the_log_as_it_was() {
    for error in ERRORS {
        for step in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log.jsonl");
            AppendLog::new(path.clone()).append(&record(1)).unwrap();
            let before = fs::read(&path).unwrap();
            let recording = Recording::of(dir.path());
            recording.fail_at(step, error);
            let log = AppendLog::new(path.clone());
            let appended = log.append(&record(2));
            // The first step checks whether the file is new.
            if recording.steps() < step {
                appended.unwrap();
                break;
            }
            assert_eq!(
                appended.unwrap_err().raw_os_error(),
                Some(error.raw_os_error())
            );
            assert_eq!(fs::read(&path).unwrap(), before, "step {step}");
            log.append(&record(2)).unwrap();
            assert_eq!(numbers(&path), [1, 2]);
        }
    }
}

#[test]
fn a_torn_last_line_is_repaired_and_a_complete_one_retained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = AppendLog::new(path.clone());
    let append = |bytes: &[u8]| {
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        file.write_all(bytes).unwrap();
    };
    // Written by an editor that omits the last line feed.
    append(serde_json::to_string(&record(1)).unwrap().as_bytes());
    assert_eq!(numbers(&path), [1]);
    log.append(&record(2)).unwrap();
    // Longer than one search block, and not text.
    for torn in [&b"{\"n\":7,\"te"[..], &[0; 100_000], b"\xff"] {
        append(torn);
        assert_eq!(numbers(&path), [1, 2]);
    }
    log.append(&record(3)).unwrap();
    assert_eq!(numbers(&path), [1, 2, 3]);
    // With a hole where a block was not written.
    append(b"{\"n\":8,\0\0\0\"}\n");
    assert_eq!(numbers(&path), [1, 2, 3]);
    log.append(&record(4)).unwrap();
    assert_eq!(log.read::<Record>().unwrap().unreadable, 0);
    // Of a future version: kept, and reported.
    append(b"{\"m\":9}\n");
    let counts = |log: &AppendLog| {
        let read = log.read::<Record>().unwrap();
        (read.records.len(), read.unreadable)
    };
    assert_eq!(counts(&log), (4, 1));
    log.append(&record(5)).unwrap();
    assert_eq!(counts(&log), (5, 1));
    log.lock().unwrap().rotate().unwrap();
    log.append(&record(6)).unwrap();
    assert_eq!(numbers(&path), [6]);
    assert_eq!(log.read_with_rotated::<Record>().unwrap().records.len(), 6);
}

#[test]
fn a_read_only_or_missing_log_is_read() {
    let none = AppendLog::new("/proc/nothing/here/log.jsonl".into());
    assert!(none.read::<Record>().unwrap().records.is_empty());
    assert!(none.append(&record(1)).is_err());
}

#[test]
fn processes_and_threads_append_without_losing_or_mixing_records() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = AppendLog::new(path.clone());
            scope.spawn(move || {
                for n in 0..20 {
                    let mut locked = log.lock().unwrap();
                    locked.append(&record(thread * 100 + n)).unwrap();
                    if n == 10 {
                        let all = locked.read::<Record>().unwrap().records;
                        locked.replace(all).unwrap();
                    }
                }
            });
        }
    });
    let mut found = numbers(&path);
    assert_eq!(found.len(), 80);
    found.dedup();
    found.sort_unstable();
    assert_eq!(
        found,
        (0..4)
            .flat_map(|thread| (0..20).map(move |n| thread * 100 + n))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_lock_excludes_others_until_it_is_dropped_even_where_its_file_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let held = FileLock::exclusive(&path).unwrap();
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    drop(held);
    let shared = [
        FileLock::shared(&path).unwrap(),
        FileLock::shared(&path).unwrap(),
    ];
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    drop(shared);
    let old = FileLock::exclusive(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let new = FileLock::exclusive(&path).unwrap();
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    drop((old, new));
}

#[test]
fn a_lock_held_by_a_stopped_process_is_reported_with_its_name() {
    use rustix::process::{Pid, Signal, kill_process};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    // flock(1) of util-linux holds the lock while the command runs.
    let mut child = std::process::Command::new("flock")
        .arg("--no-fork")
        .args([path.as_os_str(), "sleep".as_ref(), "600".as_ref()])
        .spawn()
        .expect("flock(1) of util-linux is needed by this test");
    // It acquires the lock before it executes the command.
    let name = format!("/proc/{}/comm", child.id());
    while fs::read_to_string(&name).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).unwrap();
    let failed = FileLock::exclusive(&path).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::TimedOut);
    let text = failed.to_string();
    assert!(
        text.contains(&format!("{} (sleep, stopped)", child.id())),
        "{text}"
    );
    kill_process(pid, Signal::KILL).unwrap();
    child.wait().unwrap();
}
