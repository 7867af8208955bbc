//! Repositories that are small on disk and huge when decoded are refused or served
//! within limits: no address stops the daemon or affects its other mounts.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use walgit_format::blob::BlobBuilder;

use crate::support::raw_nodes::{self, EncodeFields as _, Segment};
use crate::support::{SharedDaemon, Tree, World};

/// A root directory of one file.
fn plain_root(builder: &mut BlobBuilder) -> walgit_format::PlannedChunk {
    let table = raw_nodes::chunk_table(&[], builder.next_node_end());
    builder.push_node(&raw_nodes::directory(
        &table,
        &[raw_nodes::inline_file(b"a", b"hello")],
    ))
}

#[test]
fn attachments_that_share_chunks_are_refused() {
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let root = plain_root(&mut builder);
    let table = raw_nodes::chunk_table(&[(&root, 8000)], builder.next_node_end());
    let commit = raw_nodes::commit(&[1; 20], 0, 2, 5);
    let raw = raw_nodes::head(&table, &[commit], &[], &vec![(99, 0, 8000); 12_000]);
    let address = raw_nodes::store_head(shared.world.path(), builder, &raw);
    shared.assert_mount_refused(&address, "use chunks twice or out of order");
}

#[test]
fn head_with_a_million_commits_or_refs_is_refused() {
    let shared = SharedDaemon::new();
    for (commits, attachments) in [(300_000, 300_000), (1_000_000, 0)] {
        let mut builder = BlobBuilder::new();
        let root = plain_root(&mut builder);
        let table = raw_nodes::chunk_table(&[(&root, 1)], builder.next_node_end());
        let mut commit = Vec::new();
        commit.string(b"").uint(0).uint(2).uint(5);
        commit.raw(&[0; 6]).string(b"").uint(0);
        let attached = vec![(99, 0, 0); attachments];
        let raw = raw_nodes::head(&table, &vec![commit; commits], &[], &attached);
        let address = raw_nodes::store_head(shared.world.path(), builder, &raw);
        shared.assert_mount_refused(&address, "memory allowed");
    }
}

#[test]
fn nested_ref_names_use_bounded_memory() {
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let root = plain_root(&mut builder);
    let table = raw_nodes::chunk_table(&[(&root, 1)], builder.next_node_end());
    let names = (0..20_000).map(|n| format!("{n:06}{}", "/a".repeat(500)).into_bytes());
    let commit = raw_nodes::commit(&[1; 20], 0, 2, 5);
    let raw = raw_nodes::head(&table, &[commit], &names.collect::<Vec<_>>(), &[]);
    let address = raw_nodes::store_head(shared.world.path(), builder, &raw);
    let dir = shared.world.mount(&address);
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"hello");
    let deep = dir.join(".walgit/branches/000000").join("a/".repeat(500));
    assert_eq!(fs::read(deep.join("a")).unwrap(), b"hello");
    assert!(fs::read_dir(dir.join(".walgit/branches")).unwrap().count() > 100);
}

#[test]
fn dictionaries_beyond_the_limit_are_refused() {
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let zeros = vec![0; 32 << 20];
    let dictionary = raw_nodes::push_data(&mut builder, &zeros);
    let root = plain_root(&mut builder);
    let commit = raw_nodes::commit(&[1; 20], 0, 2, 5);
    for (times, allowed) in [(2, true), (3, false), (100_000, false)] {
        let mut builder = builder.clone();
        let end = builder.next_node_end();
        let table = raw_nodes::chunk_table(&[(&root, 1), (&dictionary, times)], end);
        let attached = [(8, 1, times as u64)];
        let raw = raw_nodes::head(&table, std::slice::from_ref(&commit), &[], &attached);
        let address =
            raw_nodes::store_head(shared.world.path(), std::mem::take(&mut builder), &raw);
        if allowed {
            let dir = shared.world.mount(&address);
            assert_eq!(fs::read(dir.join("a")).unwrap(), b"hello");
        } else {
            shared.assert_mount_refused(&address, "the dictionaries are more than");
        }
    }
}

/// A directory of `entries` files that all consist of the same `chunks` chunks.
fn overlapping_files(builder: &mut BlobBuilder, chunks: usize, entries: usize) -> Vec<u8> {
    let chunk = raw_nodes::push_data(builder, &[b'x'; 10]);
    let table = raw_nodes::chunk_table(&[(&chunk, chunks)], builder.next_node_end());
    let entry = |n| {
        let name = format!("{n:06}");
        raw_nodes::chunked_file(name.as_bytes(), 10 * chunks as u64, 0, chunks as u64)
    };
    raw_nodes::directory(&table, &(0..entries).map(entry).collect::<Vec<_>>())
}

#[test]
fn files_that_overlap_in_chunks_are_refused_by_every_reader() {
    let stored = |world: &World| {
        let mut builder = BlobBuilder::new();
        let raw = overlapping_files(&mut builder, 10_000, 10_000);
        let root = builder.push_node(&raw);
        let table = raw_nodes::chunk_table(&[(&root, 1)], builder.next_node_end());
        let commit = raw_nodes::commit(&[1; 20], 0, 10_001, 5);
        let raw = raw_nodes::head(&table, &[commit], &[], &[]);
        raw_nodes::store_head(world.path(), builder, &raw)
    };
    let shared = SharedDaemon::new();
    shared.assert_mount_refused(&stored(&shared.world), "use chunks twice or out of order");
    // Commands that read it without a daemon.
    for command in ["fsck", "cost"] {
        let world = World::new();
        let done = world.run_after("ulimit -v 2000000", &[command, &stored(&world)]);
        let output = [done.stdout, done.stderr].concat();
        let output = String::from_utf8_lossy(&output);
        assert!(!done.status.success(), "{command}: {output}");
        assert!(
            output.contains("use chunks twice or out of order"),
            "{output}"
        );
    }
}

#[test]
fn large_directory_does_not_block_serving_threads() {
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let raw = overlapping_files(&mut builder, 300_000, 300_000);
    let bad = builder.push_node(&raw);
    // A million empty files, the maximum.
    let entries: Vec<_> = (0..1 << 20)
        .map(|n| raw_nodes::chunked_file(format!("{n:06x}").as_bytes(), 0, 0, 0))
        .collect();
    let empty = raw_nodes::chunk_table(&[], builder.next_node_end());
    let large = builder.push_node(&raw_nodes::directory(&empty, &entries));
    let table = raw_nodes::chunk_table(&[(&bad, 1), (&large, 1)], builder.next_node_end());
    let entries = [
        raw_nodes::subdirectory(b"bad", 0, 300_001),
        raw_nodes::inline_file(b"fine", b"hello"),
        raw_nodes::subdirectory(b"large", 1, (1 << 20) + 1),
    ];
    let root = builder.push_node(&raw_nodes::directory(&table, &entries));
    let table = raw_nodes::chunk_table(&[(&root, 1)], builder.next_node_end());
    let nodes = 300_001 + (1 << 20) + 1 + 2;
    let commit = raw_nodes::commit(&[1; 20], 0, nodes, 5);
    let raw = raw_nodes::head(&table, &[commit], &[], &[]);
    let address = raw_nodes::store_head(shared.world.path(), builder, &raw);
    let dirs: Vec<_> = (0..2).map(|_| shared.world.mount(&address)).collect();
    std::thread::scope(|scope| {
        for dir in &dirs {
            scope.spawn(|| {
                let mut listed = fs::read_dir(dir.join("bad")).unwrap();
                assert!(listed.next().unwrap().is_err());
                assert_eq!(fs::metadata(dir.join("large/0fffff")).unwrap().len(), 0);
                assert_eq!(fs::read(dir.join("fine")).unwrap(), b"hello");
            });
        }
        for _ in 0..5 {
            shared.assert_healthy();
        }
    });
}

/// A mounted repository with this history; returns the mountpoint, and the ID of a
/// commit that is only in its history.
fn mounted_history(
    shared: &SharedDaemon,
    builder: BlobBuilder,
    segment: &Segment,
    chunks: &[(&walgit_format::PlannedChunk, usize)],
    commits: &walgit_format::PlannedChunk,
    id: &[u8],
) -> PathBuf {
    let state = shared.world.path();
    let address = raw_nodes::store_with_history(state, builder, segment, chunks, commits, id, 2);
    shared.world.mount(&address)
}

#[test]
fn histories_with_oversized_lists_are_refused_on_access() {
    const LEN: usize = 60 << 20;
    let shared = SharedDaemon::new();
    let raw = raw_nodes::raw_commit(&[1; 20], "m");
    let id = raw_nodes::git_id(gix::objs::Kind::Commit, &raw);
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    for what in ["shallow", "refs", "tags", "tags twice", "commits"] {
        let mut builder = BlobBuilder::new();
        let mut segment = Segment::default();
        let mut chunks = Vec::new();
        let mut list = vec![b'C', 1];
        list.string(&raw);
        let endless_body = |count: usize| {
            let mut out = Vec::new();
            out.uint(count as u64);
            out.resize(out.len() + LEN, 0);
            out
        };
        match what {
            "shallow" => segment.shallow = endless_body(LEN),
            "refs" => segment.refs = endless_body(LEN / 2),
            "tags" => {
                let mut group = vec![b'G', 1];
                group.raw(&endless_body(LEN));
                chunks.push(raw_nodes::push_data(&mut builder, &group));
                segment.tags = vec![1, 0];
            }
            "tags twice" => {
                chunks.push(raw_nodes::push_data(
                    &mut builder,
                    &raw_nodes::group(&[b"object".to_vec()]),
                ));
                segment.tags = endless_body(LEN);
            }
            _ => {
                list = vec![b'C', 2];
                list.raw(&endless_body(LEN / 3));
            }
        }
        let commits = raw_nodes::push_data(&mut builder, &list);
        let chunks: Vec<_> = chunks.iter().map(|chunk| (chunk, 1)).collect();
        let dir = mounted_history(&shared, builder, &segment, &chunks, &commits, &id);
        assert!(
            fs::metadata(dir.join(".walgit/commits").join("7".repeat(40))).is_err(),
            "{what}"
        );
        let _ = fs::read_dir(dir.join(".walgit/tags")).map(Iterator::count);
        assert!(
            fs::read_dir(dir.join(".walgit/commits").join(&hex)).is_ok(),
            "{what}"
        );
        assert_eq!(fs::read(dir.join("000001")).unwrap(), b"hello", "{what}");
        shared.assert_healthy();
        shared.world.unmount(&dir);
    }
}

/// A tree as the archive stores it, of entries (mode, name, target + 1).
fn archived_tree(entries: impl Iterator<Item = (u8, String, u64)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (mode, name, target) in entries {
        out.push(mode);
        out.string(name.as_bytes()).uint(target);
    }
    out
}

/// A history of two commits with the same tree, number `root` of the group; the first
/// is mounted, the second is only in the history.
struct ArchivedHistory {
    segment: Segment,
    commits: Vec<u8>,
    mounted: Vec<u8>,
    old: String,
}

fn mount_archived_history(root: u64, trees: Vec<u8>, tree_id: &[u8]) -> ArchivedHistory {
    let raws = [
        raw_nodes::raw_commit(tree_id, "new"),
        raw_nodes::raw_commit(tree_id, "old"),
    ];
    let ids = raws
        .each_ref()
        .map(|raw| raw_nodes::git_id(gix::objs::Kind::Commit, raw));
    let mut commits = vec![b'C', 1];
    raws.iter().for_each(|raw| _ = commits.string(raw));
    let mut marks = vec![2];
    ids.iter().for_each(|id| _ = marks.raw(&id[..8]).uint(root));
    let mut contents = Vec::new();
    // One group of one content of one byte: chunk 1 of the segment.
    contents.uint(1).uint(1).uint(1).uint(1);
    let mut refs = vec![1];
    refs.string(b"refs/heads/main").string(&ids[0]);
    ArchivedHistory {
        segment: Segment {
            trees,
            contents,
            commits: marks,
            refs,
            ..Segment::default()
        },
        commits,
        mounted: ids[0].clone(),
        old: ids[1].iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[test]
fn history_with_empty_groups_and_a_wide_tree_is_listed_in_time() {
    const WIDE: usize = 20_000;
    const EMPTY: usize = 1_000_000;
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let n = WIDE as u64 + 1;
    let mut trees: Vec<_> = (0..WIDE)
        .map(|at| archived_tree([(1, format!("f{at}"), n + 1)].into_iter()))
        .collect();
    trees.push(archived_tree(
        (0..WIDE).map(|at| (3, format!("{at:06}"), at as u64 + 1)),
    ));
    let group = raw_nodes::push_data(&mut builder, &raw_nodes::group(&trees));
    let content = raw_nodes::push_data(&mut builder, b"x");
    let nothing = raw_nodes::push_data(&mut builder, &raw_nodes::group(&[]));
    // A million references to the same empty group are refused; a million slots for it
    // in the table are accepted and found quickly.
    for (times, fine) in [(EMPTY, false), (1, true)] {
        let mut groups = Vec::new();
        if fine {
            groups.uint(1).uint(0).uint(n);
        } else {
            groups.uint(1 + times as u64);
            (0..times).for_each(|_| _ = groups.uint(2).uint(0));
            groups.uint(0).uint(n);
        }
        let past = mount_archived_history(n - 1, groups, &[1; 20]);
        let mut builder = builder.clone();
        let commits = raw_nodes::push_data(&mut builder, &past.commits);
        let chunks = [(&group, 1), (&content, 1), (&nothing, 1)];
        let dir = mounted_history(
            &shared,
            builder,
            &past.segment,
            &chunks,
            &commits,
            &past.mounted,
        );
        let listed = fs::read_dir(dir.join(".walgit/commits").join(&past.old));
        let listed = listed.map(|entries| entries.filter(Result::is_ok).count());
        match fine {
            true => assert_eq!(listed.unwrap(), WIDE),
            false => assert!(!listed.is_ok_and(|count| count > 0)),
        }
        shared.world.unmount(&dir);
        shared.assert_healthy();
    }
}

#[test]
fn archived_tree_of_20_million_entries_is_refused() {
    const ENTRIES: usize = 20_000_000;
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let group = raw_nodes::group(&[[1, 0, 1].repeat(ENTRIES)]);
    let group = raw_nodes::push_data(&mut builder, &group);
    let content = raw_nodes::push_data(&mut builder, b"x");
    let mut groups = Vec::new();
    groups.uint(1).uint(0).uint(1);
    let past = mount_archived_history(0, groups, &[1; 20]);
    let commits = raw_nodes::push_data(&mut builder, &past.commits);
    let chunks = [(&group, 1), (&content, 1)];
    let dir = mounted_history(
        &shared,
        builder,
        &past.segment,
        &chunks,
        &commits,
        &past.mounted,
    );
    let listed = fs::read_dir(dir.join(".walgit/commits").join(&past.old));
    assert!(!listed.is_ok_and(|mut entries| entries.any(|entry| entry.is_ok())));
    assert_eq!(fs::read(dir.join("000001")).unwrap(), b"hello");
}

#[test]
fn export_checks_limits_before_checkout_and_leaves_nothing() {
    const LEVELS: usize = 9;
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let hex = |n: usize| format!("{n:x}");
    let blob = raw_nodes::git_id(gix::objs::Kind::Blob, b"x");
    let (mut trees, mut below) = (Vec::new(), blob);
    for level in 0..LEVELS {
        let (mode, raw_mode) = if level == 0 {
            (1, "100644")
        } else {
            (3, "40000")
        };
        let target = if level == 0 { LEVELS } else { level - 1 } as u64;
        trees.push(archived_tree((0..10).map(|n| (mode, hex(n), target + 1))));
        let raw: Vec<u8> = (0..10)
            .flat_map(|n| [format!("{raw_mode} {}\0", hex(n)).as_bytes(), &below[..]].concat())
            .collect();
        below = raw_nodes::git_id(gix::objs::Kind::Tree, &raw);
    }
    let group = raw_nodes::push_data(&mut builder, &raw_nodes::group(&trees));
    let content = raw_nodes::push_data(&mut builder, b"x");
    let mut groups = Vec::new();
    groups.uint(1).uint(0).uint(LEVELS as u64);
    let past = mount_archived_history(LEVELS as u64 - 1, groups, &below);
    let commits = raw_nodes::push_data(&mut builder, &past.commits);
    let chunks = [(&group, 1), (&content, 1)];
    let state = world.path();
    let address = raw_nodes::store_with_history(
        state,
        builder,
        &past.segment,
        &chunks,
        &commits,
        &past.mounted,
        2,
    );
    let parent = world.path().join("exports");
    fs::create_dir(&parent).unwrap();
    let dir = parent.join("here");
    let output = world.fail(&[OsStr::new("export"), address.as_ref(), dir.as_os_str()]);
    assert!(
        output.contains("1111111110 files and directories"),
        "{output}"
    );
    assert_eq!(fs::read_dir(&parent).unwrap().count(), 0, "nothing is left");
    let bare = [
        OsStr::new("export"),
        "--bare".as_ref(),
        address.as_ref(),
        dir.as_os_str(),
    ];
    world.run(&bare);
}

#[test]
fn manifest_with_deep_disjoint_paths_is_refused() {
    let shared = SharedDaemon::new();
    let tail = "/a".repeat(2040);
    let file = |n: usize| {
        let hash = format!("{n:064x}");
        let cid = "SsWuShwnvH-DsuIdIDRuWwACj16HePWQe2QXwq7di40";
        format!(r#""{n:05}{tail}":{{"cid":"{cid}","size":{n},"hash":"{hash}"}}"#)
    };
    let files: Vec<_> = (0..2000).map(file).collect();
    let json = format!(
        r#"{{"timestamp":"2025-05-23T20:57:07.000Z","author":"a","message":"m","parent_commit_cid":null,"tree":{{{}}}}}"#,
        files.join(",")
    );
    let id = raw_nodes::put_blob(shared.world.path(), json.into());
    shared.assert_mount_refused(
        &format!("walrus://{id}"),
        "MiB of memory allowed for one repository",
    );
}

#[test]
fn daemon_at_its_memory_limit_refuses_new_mounts_and_serves_existing_ones() {
    const LIMIT: u64 = 80_000_000;
    let world = World::new().config(&format!("[daemon]\nmemory = {LIMIT}\n"));
    let tree = Tree::new().file("a", "hello").noise("large", 60_000_000, 1);
    let address = world.publish(tree.path(), "tree");
    let address = address["address"].as_str().unwrap();
    let dir = world.mount(address);
    // Fills its cache.
    assert_eq!(fs::read(dir.join("large")).unwrap().len(), 60_000_000);
    let other = world.mountpoint();
    let output = world.fail(&[OsStr::new("mount"), address.as_ref(), other.as_os_str()]);
    assert!(
        output.contains("takes no new mounts above 80000000"),
        "{output}"
    );
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"hello");
}

#[test]
fn archived_commit_of_300000_files_is_listed_completely() {
    const FOLDERS: usize = 300;
    const EACH: usize = 1000;
    let shared = SharedDaemon::new();
    let mut builder = BlobBuilder::new();
    let content = FOLDERS as u64 + 1;
    let folder = |n: usize| {
        let files = (0..EACH).map(move |at| (1, format!("file-{n:04}-{at:04}.rs"), content + 1));
        archived_tree(files)
    };
    let mut trees: Vec<_> = (0..FOLDERS).map(folder).collect();
    let root = (0..FOLDERS).map(|n| (3, format!("folder-{n:04}"), n as u64 + 1));
    trees.push(archived_tree(root));
    let group = raw_nodes::push_data(&mut builder, &raw_nodes::group(&trees));
    let content = raw_nodes::push_data(&mut builder, b"x");
    let mut groups = Vec::new();
    groups.uint(1).uint(0).uint(trees.len() as u64);
    let past = mount_archived_history(FOLDERS as u64, groups, &[1; 20]);
    let commits = raw_nodes::push_data(&mut builder, &past.commits);
    let dir = mounted_history(
        &shared,
        builder,
        &past.segment,
        &[(&group, 1), (&content, 1)],
        &commits,
        &past.mounted,
    );
    let old = dir.join(".walgit/commits").join(&past.old);
    let mut files = 0;
    for folder in fs::read_dir(&old).unwrap() {
        files += fs::read_dir(folder.unwrap().path()).unwrap().count();
    }
    assert_eq!(files, FOLDERS * EACH);
    let one = old.join("folder-0299/file-0299-0999.rs");
    assert_eq!(fs::read(one).unwrap(), b"x");
}
