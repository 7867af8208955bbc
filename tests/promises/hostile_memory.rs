//! Repositories whose parts fit their budgets individually but not together: exceeding
//! the memory of the mount is an error there and does not affect others.

use std::fs;
use std::io;
use std::path::Path;

use walgit_format::PlannedChunk;
use walgit_format::blob::BlobBuilder;

use crate::support::raw_nodes::{self, EncodeFields as _, Segment};
use crate::support::{SharedDaemon, eventually};

/// A directory of `count` empty files, and of these folders (name, node, nodes).
fn wide_directory(
    builder: &mut BlobBuilder,
    prefix: char,
    count: usize,
    below: &[(&str, &PlannedChunk, u64)],
) -> (PlannedChunk, u64) {
    let table: Vec<_> = below.iter().map(|(_, node, _)| (*node, 1)).collect();
    let table = raw_nodes::chunk_table(&table, builder.next_node_end());
    let files =
        (0..count).map(|n| raw_nodes::chunked_file(format!("{prefix}{n:05x}").as_bytes(), 0, 0, 0));
    // Their names sort after all others.
    let folders = below.iter().zip(0..);
    let folders =
        folders.map(|((name, _, nodes), at)| raw_nodes::subdirectory(name.as_bytes(), at, *nodes));
    let entries: Vec<_> = files.chain(folders).collect();
    let nodes = 1 + count as u64 + below.iter().map(|(_, _, nodes)| nodes).sum::<u64>();
    (
        builder.push_node(&raw_nodes::directory(&table, &entries)),
        nodes,
    )
}

fn store_root(shared: &SharedDaemon, builder: BlobBuilder, root: &(PlannedChunk, u64)) -> String {
    let table = raw_nodes::chunk_table(&[(&root.0, 1)], builder.next_node_end());
    let commit = raw_nodes::commit(&[1; 20], 0, root.1, 0);
    let raw = raw_nodes::head(&table, &[commit], &[], &[]);
    raw_nodes::store_head(shared.world.path(), builder, &raw)
}

fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOMEM.raw_os_error())
}

/// Bytes that the hostile mount (the last one) uses, and its limit.
fn memory(shared: &SharedDaemon) -> (u64, u64) {
    let status = shared.world.json(&["status"]);
    let mounts = status["mounts"].as_array().unwrap();
    let memory = &mounts.last().unwrap()["memory"];
    let figure = |name: &str| memory[name].as_u64().unwrap();
    (figure("kept"), figure("limit"))
}

#[test]
fn directories_beyond_the_mount_memory_are_refused_by_name_and_others_work() {
    const EACH: usize = 850_000;
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let inner = wide_directory(&mut builder, 'a', EACH, &[]);
    let outer = wide_directory(&mut builder, 'b', EACH, &[("z", &inner.0, inner.1)]);
    let folders = [("x", &inner.0, inner.1), ("y", &outer.0, outer.1)];
    let root = wide_directory(&mut builder, 'c', 1, &folders);
    let dir = shared.world.mount(&store_root(&shared, builder, &root));
    // Each fits on its own, also in sequence.
    for file in ["x/a00000", "y/b00000", "x/acf84f", "y/bcf84f"] {
        assert_eq!(fs::metadata(dir.join(file)).unwrap().len(), 0, "{file}");
    }
    // A path keeps its parent directories in memory.
    let error = fs::metadata(dir.join("y/z/a00000")).unwrap_err();
    assert!(is_refused(&error), "{error}");
    shared.assert_healthy();
    let log = fs::read_to_string(shared.world.path().join("state/walgit-fs/daemon.log")).unwrap();
    let report = |line: &&str| line.contains("of memory that one mount may use");
    let line = log.lines().find(report).unwrap();
    assert!(
        line.contains("walrus://") && line.contains("160 MiB"),
        "{line}"
    );
    let (kept, limit) = memory(&shared);
    assert!(kept <= limit, "{kept} of {limit}");
    // Directories that fit are served as before.
    assert_eq!(fs::read(dir.join("c00000")).unwrap(), b"");
    assert_eq!(fs::metadata(dir.join("x/a00001")).unwrap().len(), 0);
}

#[test]
fn concurrent_directories_stay_within_the_mount_memory() {
    const EACH: usize = 200_000;
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let folders: Vec<_> = ('d'..='k')
        .map(|prefix| wide_directory(&mut builder, prefix, EACH, &[]))
        .collect();
    let names: Vec<String> = ('d'..='k').map(String::from).collect();
    let below: Vec<_> = (names.iter().zip(&folders))
        .map(|(name, (node, nodes))| (&name[..], node, *nodes))
        .collect();
    let root = wide_directory(&mut builder, 'c', 1, &below);
    let dir = shared.world.mount(&store_root(&shared, builder, &root));
    std::thread::scope(|scope| {
        for name in &names {
            let dir = &dir;
            scope.spawn(move || {
                for file in ["00000", "30d3f"] {
                    match fs::metadata(dir.join(name).join(format!("{name}{file}"))) {
                        Ok(found) => assert_eq!(found.len(), 0),
                        Err(error) => assert!(is_refused(&error), "{name}: {error}"),
                    }
                }
            });
        }
        shared.assert_healthy();
    });
    // In sequence there is room for each: the cache evicts.
    for name in &names {
        let file = dir.join(name).join(format!("{name}00001"));
        assert_eq!(fs::metadata(file).unwrap().len(), 0, "{name}");
    }
    let (kept, limit) = memory(&shared);
    assert!(kept <= limit, "{kept} of {limit}");
}

/// A tree as the archive stores it, of `count` files that are content 0.
fn archived_tree(prefix: &str, count: usize, content: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..count {
        out.push(1);
        out.string(format!("{prefix}-{n:06}").as_bytes());
        out.uint(content + 1);
    }
    out
}

#[test]
fn concurrent_old_commits_stay_within_the_mount_memory() {
    const COMMITS: usize = 8;
    const FILES: usize = 150_000;
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let trees: Vec<_> = (0..COMMITS)
        .map(|n| archived_tree(&format!("of-{n}"), FILES, COMMITS as u64))
        .collect();
    let group = raw_nodes::push_data(&mut builder, &raw_nodes::group(&trees));
    let content = raw_nodes::push_data(&mut builder, b"x");
    let raws: Vec<_> = (0..=COMMITS)
        .map(|n| raw_nodes::raw_commit(&[n as u8; 20], &format!("commit {n}")))
        .collect();
    let ids: Vec<_> = (raws.iter())
        .map(|raw| raw_nodes::git_id(gix::objs::Kind::Commit, raw))
        .collect();
    let mut commits = vec![b'C', 1];
    raws.iter().for_each(|raw| _ = commits.string(raw));
    let commits = raw_nodes::push_data(&mut builder, &commits);
    let mut segment = Segment::default();
    let mut list = Vec::new();
    list.uint(1).uint(0).uint(COMMITS as u64);
    segment.trees = std::mem::take(&mut list);
    list.uint(1).uint(1).uint(1).uint(1);
    segment.contents = std::mem::take(&mut list);
    list.uint(COMMITS as u64);
    for (n, id) in ids[..COMMITS].iter().enumerate() {
        list.raw(&id[..8]).uint(n as u64);
    }
    segment.commits = std::mem::take(&mut list);
    list.uint(1)
        .string(b"refs/heads/main")
        .string(&ids[COMMITS]);
    segment.refs = list;
    let chunks = [(&group, 1), (&content, 1)];
    let state = shared.world.path();
    let address = raw_nodes::store_with_history(
        state,
        builder,
        &segment,
        &chunks,
        &commits,
        &ids[COMMITS],
        2,
    );
    let dir = shared.world.mount(&address);
    let olds: Vec<_> = (ids[..COMMITS].iter())
        .map(|id| {
            let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            dir.join(".walgit/commits").join(hex)
        })
        .collect();
    let first = |n: usize, old: &Path| fs::read(old.join(format!("of-{n}-000000")));
    std::thread::scope(|scope| {
        for (n, old) in olds.iter().enumerate() {
            scope.spawn(move || match first(n, old) {
                Ok(found) => assert_eq!(found, b"x"),
                Err(error) => assert!(is_refused(&error), "{n}: {error}"),
            });
        }
        shared.assert_healthy();
    });
    // In sequence there is room for each: earlier ones are evicted.
    for (n, old) in olds.iter().enumerate() {
        assert_eq!(first(n, old).unwrap(), b"x", "{n}");
    }
    let (kept, limit) = memory(&shared);
    assert!(kept <= limit, "{kept} of {limit}");
}

#[test]
fn file_metadata_with_long_paths_is_bounded() {
    const FOLDERS: usize = 16;
    const LEVELS: usize = 14;
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let table = raw_nodes::chunk_table(&[], builder.next_node_end());
    let files: Vec<_> = (0..9000)
        .map(|n| raw_nodes::inline_file(format!("{n:05}").as_bytes(), b"x"))
        .collect();
    let leaf = builder.push_node(&raw_nodes::directory(&table, &files));
    let table = raw_nodes::chunk_table(&[(&leaf, FOLDERS)], builder.next_node_end());
    let folders: Vec<_> = (0..FOLDERS)
        .map(|n| raw_nodes::subdirectory(format!("{n:02}").as_bytes(), n as u64, 9001))
        .collect();
    let mut root = builder.push_node(&raw_nodes::directory(&table, &folders));
    let mut nodes = 1 + 9001 * FOLDERS as u64;
    let name = "d".repeat(250);
    for _ in 0..LEVELS {
        let table = raw_nodes::chunk_table(&[(&root, 1)], builder.next_node_end());
        let entry = raw_nodes::subdirectory(name.as_bytes(), 0, nodes);
        root = builder.push_node(&raw_nodes::directory(&table, &[entry]));
        nodes += 1;
    }
    let dir = shared
        .world
        .mount(&store_root(&shared, builder, &(root, nodes)));
    let deep = dir.join(format!("{name}/").repeat(LEVELS));
    for folder in 0..FOLDERS {
        let file = deep.join(format!("{folder:02}/05000"));
        assert_eq!(fs::read(file).unwrap(), b"x");
    }
    // It would be 36 MB for one folder.
    eventually("some files are known", || memory(&shared).0 > 20 << 20);
    for folder in 0..FOLDERS {
        let file = deep.join(format!("{folder:02}/06000"));
        assert_eq!(fs::read(file).unwrap(), b"x");
    }
    let (kept, _) = memory(&shared);
    assert!(kept < 40 << 20, "{kept}");
    shared.assert_healthy();
}

#[test]
fn manifest_file_memory_matches_the_readme() {
    const FOLDERS: usize = 200;
    const FILES: usize = 100_000;
    let shared = SharedDaemon::new();
    let file = |n: usize| {
        let (folder, hash) = (n % FOLDERS, format!("{n:064x}"));
        let cid = "SsWuShwnvH-DsuIdIDRuWwACj16HePWQe2QXwq7di40";
        format!(
            r#""src/module-{folder:03}/file-{n:06}.rs":{{"cid":"{cid}","size":{n},"hash":"{hash}"}}"#
        )
    };
    let files: Vec<_> = (0..FILES).map(file).collect();
    let json = format!(
        r#"{{"timestamp":"2025-05-23T20:57:07.000Z","author":"a","message":"m","parent_commit_cid":null,"tree":{{{}}}}}"#,
        files.join(",")
    );
    let id = raw_nodes::put_blob(shared.world.path(), json.into());
    let before = shared.resident();
    let dir = shared.world.mount(&format!("walrus://{id}"));
    let listed = fs::read_dir(dir.join("src/module-007")).unwrap().count();
    assert_eq!(listed, FILES / FOLDERS);
    let (kept, _) = memory(&shared);
    let each = kept as usize / FILES;
    println!(
        "{each} bytes kept a file; the daemon grew by {} bytes a file",
        (shared.resident().saturating_sub(before) << 10) as usize / FILES
    );
    assert!((100..=300).contains(&each), "{each}");
}

/// An exponential tree: `levels` folders, each with two entries for the same folder,
/// with one file of this name at the leaves.
fn exponential_tree(builder: &mut BlobBuilder, levels: usize, file: &str) -> (PlannedChunk, u64) {
    let table = raw_nodes::chunk_table(&[], builder.next_node_end());
    let file = raw_nodes::inline_file(file.as_bytes(), b"hello");
    let mut below = builder.push_node(&raw_nodes::directory(&table, &[file]));
    let mut nodes = 2;
    for _ in 0..levels {
        let table = raw_nodes::chunk_table(&[(&below, 2)], builder.next_node_end());
        let entries = [
            raw_nodes::subdirectory(b"a", 0, nodes),
            raw_nodes::subdirectory(b"b", 1, nodes),
        ];
        below = builder.push_node(&raw_nodes::directory(&table, &entries));
        nodes = 2 * nodes + 1;
    }
    (below, nodes)
}

#[test]
fn mount_follows_to_an_exponential_tree_in_time() {
    const LEVELS: usize = 30;
    let shared = SharedDaemon::new();
    let address = |file: &str| {
        let mut builder = BlobBuilder::new();
        let root = exponential_tree(&mut builder, LEVELS, file);
        store_root(&shared, builder, &root)
    };
    let (before, after) = (address("before"), address("after"));
    let world = &shared.world;
    world.run(&["refs", "--set", "it", &before]);
    let dir = world.mountpoint();
    world.run(&["mount", "--follow=1", "it", dir.to_str().unwrap()]);
    let deep = dir.join("a/".repeat(LEVELS));
    assert_eq!(fs::read(deep.join("before")).unwrap(), b"hello");
    world.run(&["refs", "--set", "it", &after, "--force"]);
    eventually("the mount has moved", || {
        fs::read(deep.join("after")).is_ok_and(|found| found == b"hello")
    });
    assert!(fs::metadata(deep.join("before")).is_err(), "it is gone");
    shared.assert_healthy();
}
