//! Co-change data of the repository's history reduces waiting before anything is
//! learned, at no cost.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use walgit_format::prior::MAX_PRIOR_BYTES;
use walgit_format::{Address, Prior};
use walgit_fs::repo::Repository;
use walgit_prefetch::model::TaskId;
use walgit_prefetch::replay::{self, InitialKnowledge, Open, ReplaySettings};
use walrus_client::LocalDir;

use crate::support::tree::git;
use crate::support::{Server, Tree, World, block_on, eventually, loader};

/// The files of one change: four, with different names in different folders.
fn change(number: u64) -> Vec<String> {
    (0..4)
        .map(|part| {
            let seed = blake3::hash(&[number as u8, part]);
            let [folder, name, ..] = *seed.as_bytes();
            format!("d{:02}/{name:02x}-{number}-{part}.rs", folder % 40)
        })
        .collect()
}

const CHANGES: u64 = 10;

/// A repository in which these files changed together a few times, and many others did
/// not.
fn history() -> Tree {
    let mut tree = Tree::new();
    for n in 0..400u64 {
        tree = tree.noise(&format!("d{:02}/other-{n:03}.rs", n % 40), 20_000, n);
    }
    for number in 0..CHANGES {
        for file in change(number) {
            tree = tree.noise(&file, 20_000, number);
        }
    }
    tree = tree.commit("everything");
    for round in 1..4 {
        for number in 0..CHANGES {
            for file in change(number) {
                tree = tree.noise(&file, 20_000, 1000 * round + number);
            }
            tree = tree.commit("a change");
        }
    }
    tree
}

/// Opens the repository at an address of the local network through the library.
fn open(world: &World, published: &Value) -> (Repository, tempfile::TempDir) {
    let (loader, scratch) = loader();
    let store = LocalDir::open(world.blobs().parent().unwrap(), 1 << 30).unwrap();
    let store: Arc<dyn walrus_client::BlobStore> = Arc::new(store);
    let address = published["address"].as_str().unwrap().parse().unwrap();
    let Address::Walrus { blob, root } = address else {
        panic!("{address:?}");
    };
    (block_on(loader.open(store, blob, root)).unwrap(), scratch)
}

fn prior(world: &World, published: &Value) -> Option<Prior> {
    let (repository, _scratch) = open(world, published);
    block_on(repository.prior()).unwrap()
}

#[test]
fn co_change_data_is_published_once_and_kept_while_valid() {
    let world = World::new();
    let tree = history();
    let first = world.publish(tree.path(), "it");
    let co_changes = prior(&world, &first).unwrap();
    let (files, pairs) = co_changes.counts();
    assert_eq!((files as u64, pairs as u64), (4 * CHANGES, 6 * CHANGES));
    // The same history gives the same bytes.
    assert_eq!(world.publish(tree.path(), "other")["bytes_stored"], 0);
    // A small change is one small blob and refers to the existing data.
    let tree = tree.file(&change(1)[0], "changed").commit("a small change");
    let second = world.publish(tree.path(), "it");
    assert_eq!(second["blobs_uploaded"], 1, "{second}");
    assert_eq!(second["bytes_stored"], 65_536, "{second}");
    assert_eq!(prior(&world, &second).unwrap(), co_changes);
    // Many changes publish new data.
    let mut tree = tree;
    for round in 0..8 {
        for n in 0..40 {
            tree = tree.file(format!("new/{n}"), format!("{n} {round}"));
            tree = tree.file(format!("newer/{n}"), format!("{n} {round}"));
            if n % 10 == 9 {
                tree = tree.commit("more");
            }
        }
    }
    let third = world.publish(tree.path(), "it");
    assert!(prior(&world, &third).unwrap().counts().0 as u64 > 4 * CHANGES);
}

#[test]
fn folder_without_history_has_no_co_change_data() {
    let world = World::new();
    let tree = Tree::new().file("a", "a").file("b", "b");
    let published = world.publish(tree.path(), "it");
    assert_eq!(prior(&world, &published), None);
}

#[test]
fn co_change_data_reduces_wait() {
    let world = World::new();
    let tree = history();
    world.publish(tree.path(), "it");
    let listed = git(tree.path(), &["ls-tree", "-r", "--name-only", "HEAD"]);
    let files: String = listed
        .lines()
        .map(|path| format!("{path}\t20000\n"))
        .collect();
    let file = |name: &str, text: &str| {
        let path = world.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let files = file("tree.tsv", &files);
    let stall = |number: u64, more: &[&str]| {
        let mut trace = String::new();
        for (n, path) in change(number).iter().enumerate() {
            writeln!(trace, "{}\t1\t{path}\t20000", n as f64 * 0.3).unwrap();
        }
        let trace = file("trace.tsv", &trace);
        let mut args = vec!["debug", "replay", "--tree", &files, &trace];
        args.extend(more);
        world.json(&args)["sessions"][0]["stall_with_s"]
            .as_f64()
            .unwrap()
    };
    let all = |more: &[&str]| (0..CHANGES).map(|number| stall(number, more)).sum::<f64>();
    let (with, without) = (all(&["--repository", "it"]), all(&[]));
    assert!(with < 0.5 * without, "{with} s, {without} s without");
}

#[test]
fn co_change_data_costs_no_request_on_first_read() {
    let server = Server::start();
    let world = World::on(&server);
    let tree = history();
    world.publish(tree.path(), "it");
    // The publish read its head back.
    world.run(&["cache", "clear"]);
    server.clear_requests();
    let dir = world.mount("it");
    fs::read_dir(&dir).unwrap().count();
    server.assert_read_count(1); // mount and ls
    fs::read(dir.join(&change(3)[0])).unwrap();
    // Prefetching, and fetching the co-change data, start after the reads.
    eventually("the other files are prefetched", || {
        let others = change(3);
        let cached = |path: &String| {
            let value = xattr::get(dir.join(path), "user.walgit.cached").unwrap();
            value.as_deref() == Some(b"yes".as_slice())
        };
        others.iter().all(cached)
    });
}

/// The files of the next commits, opened in turn as if by their author, on real
/// histories if present.
#[test]
fn co_change_data_reduces_wait_on_later_commits() {
    let Some(corpora) = std::env::var_os("WALGIT_FS_CORPORA").map(PathBuf::from) else {
        eprintln!("WALGIT_FS_CORPORA is not set: only a synthetic history was tested");
        return;
    };
    const NEXT: usize = 200;
    for bundle in fs::read_dir(&corpora).unwrap() {
        let bundle = bundle.unwrap().path();
        let world = World::new();
        git(
            world.path(),
            &["clone", "-q", bundle.to_str().unwrap(), "it"],
        );
        let dir = world.path().join("it");
        let commits = git(&dir, &["log", "--no-merges", "--format=%H"]);
        let commits: Vec<&str> = commits.lines().collect();
        let Some(past) = commits.get(NEXT) else {
            continue;
        };
        git(&dir, &["branch", "past", past]);
        let path = dir.to_str().unwrap();
        let published = world.json(&["publish", path, "--name", "it", "--branch", "past"]);
        let co_changes = prior(&world, &published).unwrap();
        let len = co_changes.encode().len();
        assert!(len <= MAX_PRIOR_BYTES);
        let tree = files_at(&dir, past);
        let sessions: Vec<_> = (commits[..NEXT].iter().rev())
            .filter_map(|commit| session(&dir, commit, &tree))
            .collect();
        let co_changes = Arc::new(co_changes);
        let stall = |prior: Option<&Arc<Prior>>| -> (f64, f64) {
            let setting = ReplaySettings {
                rtt: 0.05,
                rate: 12.5e6,
                stored_ratio: 0.28,
            };
            let reports = sessions.iter().map(|session| {
                let known = InitialKnowledge {
                    prior: prior.cloned(),
                    ..InitialKnowledge::default()
                };
                let session = std::slice::from_ref(session);
                replay::replay(Some(&tree), session, setting, known)
                    .unwrap()
                    .remove(0)
            });
            reports.fold((0.0, 0.0), |(with, without), report| {
                (with + report.stall_with_s, without + report.stall_without_s)
            })
        };
        let ((with, alone), (without, _)) = (stall(Some(&co_changes)), stall(None));
        println!(
            "{}: a prior of {len} bytes, {:?} files and pairs; {} commits wait {:.3} of {alone:.1} s with it, {:.3} without",
            bundle.display(),
            co_changes.counts(),
            sessions.len(),
            with / alone,
            without / alone
        );
        assert!(with < without);
    }
}

fn files_at(dir: &Path, commit: &str) -> Vec<(String, u64)> {
    let listed = git(dir, &["ls-tree", "-r", "-l", commit]);
    let file = |line: &str| {
        let (about, path) = line.split_once('\t')?;
        let size = about.split_whitespace().nth(3)?.parse().ok()?;
        Some((path.to_owned(), size))
    };
    listed.lines().filter_map(file).collect()
}

/// Opens of the files that a commit touches, in an order independent of the commit.
fn session(dir: &Path, commit: &str, tree: &[(String, u64)]) -> Option<(String, Vec<Open>)> {
    let names = git(
        dir,
        &["diff-tree", "-r", "--name-only", "--no-commit-id", commit],
    );
    let known = |name: &str| tree.iter().find(|(path, _)| path == name);
    let mut files: Vec<_> = names.lines().filter_map(known).collect();
    files.sort_by_key(|(path, _)| *blake3::hash(format!("{commit}{path}").as_bytes()).as_bytes());
    let open = |(n, (path, size)): (usize, &(String, u64))| Open {
        at: n as f64 * 0.3,
        task: TaskId(1),
        path: path.clone(),
        size: *size,
    };
    let opens = files.into_iter().enumerate().map(open).collect();
    (2..=30)
        .contains(&names.lines().count())
        .then(|| (commit.to_owned(), opens))
}
