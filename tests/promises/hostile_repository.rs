//! Hostile repositories are refused with a clear message and do no harm.

use std::ffi::OsStr;
use std::fs;

use walgit_format::blob::BlobBuilder;
use walgit_format::chunk::{Bases, BlobId, ChunkHash, Codec, Location, MAX_CHUNK};
use walgit_format::directory::{self, PlannedContent, PlannedEntry};
use walgit_format::head::AttachmentKind;
use walgit_format::{Kind, PlannedChunk, PlannedLocation};
use walrus_client::{BlobWriter as _, LocalDir, PutOptions};
use walrus_encoding::blob_id::blob_id;

use crate::support::manifests::Commit;
use crate::support::{Tree, World, block_on};
use crate::synthetic_repository;

const FILE: Kind = Kind::File { executable: false };

fn file(name: &[u8]) -> PlannedEntry {
    PlannedEntry {
        name: name.to_vec().into(),
        kind: FILE,
        size: 5,
        content: PlannedContent::Inline(b"hello".to_vec().into()),
    }
}

fn folder(name: &str, node: PlannedChunk, nodes: u64) -> PlannedEntry {
    PlannedEntry {
        name: name.to_owned().into(),
        kind: Kind::Directory,
        size: 0,
        content: PlannedContent::Directory { node, nodes },
    }
}

/// Stores a repository with this root; returns its address.
fn store(world: &World, builder: BlobBuilder, root: PlannedChunk, nodes: u64) -> String {
    synthetic_repository::store(world.path(), builder, root, nodes, 0, &[])
}

/// Stores a repository whose root contains these entries.
fn store_root_with(world: &World, entries: &[PlannedEntry], nodes: u64) -> String {
    let mut builder = BlobBuilder::new();
    let root = builder.push_node(&directory::encode_unchecked(entries, 0).unwrap());
    store(world, builder, root, nodes)
}

#[track_caller]
fn assert_refused(world: &World, address: &str, because: &str) {
    let dir = world.mountpoint();
    let output = world.fail(&[OsStr::new("mount"), address.as_ref(), dir.as_os_str()]);
    assert!(output.contains(because), "{output}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is mounted");
}

#[test]
fn path_traversal_names_are_refused() {
    let world = World::new();
    for name in [
        &b".."[..],
        b".",
        b"",
        b"a/b",
        b"/etc/passwd",
        b"nul\0l",
        b".git",
        b".GIT",
        &[b'x'; 256],
    ] {
        let address = store_root_with(&world, &[file(name)], 2);
        let because = if name.len() > 255 {
            "at most 255"
        } else {
            "not allowed"
        };
        assert_refused(&world, &address, because);
    }
}

#[test]
fn duplicate_or_unsorted_names_are_refused() {
    let world = World::new();
    for pair in [[&b"a"[..], b"a"], [b"b", b"a"]] {
        let address = store_root_with(&world, &pair.map(file), 3);
        assert_refused(&world, &address, "a duplicate or out of order");
    }
}

#[test]
fn inconsistent_counts_and_sizes_are_refused() {
    let world = World::new();
    assert_refused(
        &world,
        &store_root_with(&world, &[file(b"a")], 3),
        "instead of 3, as its parent declares",
    );
    let mut short = file(b"a");
    short.size = 1 << 60;
    assert_refused(
        &world,
        &store_root_with(&world, &[short], 2),
        "inconsistent",
    );
    let mut long_link = file(b"a");
    long_link.kind = Kind::Symlink;
    long_link.content = PlannedContent::Inline(vec![b'x'; 5000].into());
    assert_refused(
        &world,
        &store_root_with(&world, &[long_link], 2),
        "at most 4095",
    );
}

#[test]
fn subtree_with_excessive_node_count_is_refused() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let empty = builder.push_node(&directory::encode_unchecked(&[], 0).unwrap());
    let entries = [
        folder("a", empty.clone(), 1 << 40),
        folder("b", empty, 1 << 40),
    ];
    let root =
        builder.push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
    assert_refused(
        &world,
        &store(&world, builder, root, 1 << 40),
        "inconsistent",
    );
}

#[test]
fn exponential_tree_costs_nothing_until_it_is_walked() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    // 30 levels of two entries for the same folder: a billion files in 2 KB.
    let mut below = builder.push_node(&directory::encode_unchecked(&[file(b"x")], 0).unwrap());
    let mut nodes = 2;
    for _ in 0..30 {
        let entries = [folder("a", below.clone(), nodes), folder("b", below, nodes)];
        below = builder
            .push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
        nodes = nodes * 2 + 1;
    }
    let dir = world.mount(&store(&world, builder, below, nodes));
    let deep = "a/b/".repeat(15) + "x";
    assert_eq!(fs::read_to_string(dir.join(deep)).unwrap(), "hello");
}

#[test]
fn chunk_that_decompresses_beyond_its_stated_length_is_an_error() {
    let world = World::new();
    let zeros = zstd::bulk::compress(&vec![0; 60 << 20], 19).unwrap();
    for raw_len in [1000, 60 << 20] {
        let mut builder = BlobBuilder::new();
        let bomb = PlannedChunk {
            hash: ChunkHash::of(b"something else"),
            raw_len,
            stored_len: zeros.len() as u32,
            codec: Codec::Zstd,
            location: builder.push_data(&zeros),
            bases: Bases::NONE,
        };
        let mut entry = file(b"bomb");
        entry.size = u64::from(raw_len);
        entry.content = PlannedContent::Chunks(vec![bomb]);
        let entries = [entry, file(b"fine")];
        let root = builder
            .push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
        let dir = world.mount(&store(&world, builder, root, 3));
        assert!(fs::read(dir.join("bomb")).is_err());
        assert_eq!(fs::read(dir.join("fine")).unwrap(), b"hello");
    }
}

#[test]
fn oversized_chunk_is_refused_before_it_is_fetched() {
    let world = World::new();
    let mut entry = file(b"huge");
    entry.size = u64::from(MAX_CHUNK) + 1;
    entry.content = PlannedContent::Chunks(vec![PlannedChunk {
        hash: ChunkHash::of(b""),
        raw_len: MAX_CHUNK + 1,
        stored_len: 10,
        codec: Codec::Zstd,
        location: PlannedLocation::External(Location {
            blob: BlobId::from_bytes([0; 32]),
            offset: 0,
        }),
        bases: Bases::NONE,
    }]);
    assert_refused(&world, &store_root_with(&world, &[entry], 2), "more than");
}

#[test]
fn hostile_directory_fails_alone() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let bad = builder.push_node(&directory::encode_unchecked(&[file(b"..")], 0).unwrap());
    let entries = [folder("bad", bad, 2), file(b"good")];
    let root =
        builder.push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
    let dir = world.mount(&store(&world, builder, root, 4));
    // Opening a directory sends no request to the driver; reading it does.
    let mut listed = fs::read_dir(dir.join("bad")).unwrap();
    assert!(listed.next().unwrap().is_err());
    assert_eq!(fs::read(dir.join("good")).unwrap(), b"hello");
}

#[test]
fn blob_without_a_head_is_not_a_repository() {
    let world = World::new();
    let dir = world.path().join("data/walgit-fs/local");
    let local = LocalDir::open(&dir, 100 << 20).unwrap();
    for body in [vec![0; 100_000], b"{\"trees\": {}}".to_vec()] {
        let id = blob_id(&body).unwrap();
        block_on(local.put(id, body.into(), &PutOptions::default())).unwrap();
        assert_refused(&world, &format!("walrus://{id}"), "not a WalGit repository");
        let rooted = format!("walrus://{id}?root={}", "0".repeat(64));
        assert_refused(&world, &rooted, "not a WalGit repository");
    }
}

#[test]
fn hostile_attachments_cost_few_bytes_and_do_no_harm() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let mut push = |raw: &[u8], raw_len: u32| PlannedChunk {
        hash: ChunkHash::of(raw),
        raw_len,
        stored_len: raw.len() as u32,
        codec: Codec::Raw,
        location: builder.push_data(raw),
        bases: Bases::NONE,
    };
    let content = push(b"hello", 5);
    // Invalid co-change data and profiles, some with excessive lengths.
    let garbage = push(&[7; 300], 300);
    let short = push(b"P\x01\xff\xff\x03", 5);
    let profile = push(b"WGPROF\0\x02\xff\xff\xff\xff\xff\xff\xff", 15);
    let huge = PlannedChunk {
        codec: Codec::Zstd,
        ..push(&[7; 100_000], MAX_CHUNK)
    };
    let entry = PlannedEntry {
        content: PlannedContent::Chunks(vec![content]),
        ..file(b"file")
    };
    let root =
        builder.push_node(&directory::encode_unchecked(&[entry], builder.next_node_end()).unwrap());
    for attached in [
        [garbage.clone(), garbage],
        [short, profile],
        [huge.clone(), huge],
    ] {
        let kinds = [AttachmentKind::Prior, AttachmentKind::Learned];
        let attached: Vec<_> = kinds.into_iter().zip(attached).collect();
        let address = synthetic_repository::store(
            world.path(),
            builder.clone(),
            root.clone(),
            2,
            5,
            &attached,
        );
        let dir = world.mount(&address);
        assert_eq!(fs::read(dir.join("file")).unwrap(), b"hello");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        world.unmount(&dir);
    }
}

/// A zstd frame of `blocks` × 128 KiB of zeros: each block takes four bytes. `window`
/// is the exponent of the window size it declares.
fn zeros(blocks: usize, window: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window - 10) << 3];
    for block in 1..=blocks {
        let header = (128 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// Peak memory of a process, in KiB.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.split_whitespace().next());
    peak.unwrap().parse().unwrap()
}

#[test]
fn decompression_bomb_is_refused_quickly_within_memory_limits() {
    let world = World::new();
    let ten_gigabytes = zeros(80 << 10, 20);
    assert!(ten_gigabytes.len() < 350_000);
    let bombs = [
        (1000, ten_gigabytes.clone()),
        (MAX_CHUNK, ten_gigabytes),
        // A window of 2 GiB, and the largest that a frame can declare.
        (1000, zeros(1, 31)),
        (1000, zeros(1, 41)),
    ];
    let mut builder = BlobBuilder::new();
    let mut entries = vec![file(b"fine")];
    for (number, (raw_len, stored)) in bombs.iter().enumerate() {
        let mut entry = file(format!("bomb-{number}").as_bytes());
        entry.size = u64::from(*raw_len);
        entry.content = PlannedContent::Chunks(vec![PlannedChunk {
            hash: ChunkHash::of(b""),
            raw_len: *raw_len,
            stored_len: stored.len() as u32,
            codec: Codec::Zstd,
            location: builder.push_data(stored),
            bases: Bases::NONE,
        }]);
        entries.push(entry);
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let root =
        builder.push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
    let dir = world.mount(&store(&world, builder, root, 6));
    assert_eq!(fs::read(dir.join("fine")).unwrap(), b"hello");
    let before = peak(world.daemon().unwrap());
    for number in 0..bombs.len() {
        let error = fs::read(dir.join(format!("bomb-{number}"))).unwrap_err();
        let io = rustix::io::Errno::IO.raw_os_error();
        assert_eq!(error.raw_os_error(), Some(io), "bomb-{number}");
    }
    let grown = peak(world.daemon().unwrap()) - before;
    assert!(grown < 256 << 10, "{grown} KiB more");
    assert_eq!(fs::read(dir.join("fine")).unwrap(), b"hello");
}

#[test]
fn exchanged_file_hashes_fail_both_files() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let contents = [b"what is in a".repeat(100), b"what is in b".repeat(100)];
    let places = contents
        .each_ref()
        .map(|content| builder.push_data(content));
    let entry = |name: &[u8], hash_of: &[u8], location| {
        let mut entry = file(name);
        entry.size = hash_of.len() as u64;
        entry.content = PlannedContent::Chunks(vec![PlannedChunk {
            hash: ChunkHash::of(hash_of),
            raw_len: hash_of.len() as u32,
            stored_len: hash_of.len() as u32,
            codec: Codec::Raw,
            location,
            bases: Bases::NONE,
        }]);
        entry
    };
    let entries = [
        entry(b"a", &contents[0], places[1]),
        entry(b"b", &contents[1], places[0]),
        file(b"fine"),
    ];
    let root =
        builder.push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
    let dir = world.mount(&store(&world, builder, root, 4));
    for name in ["a", "b", "a", "b"] {
        assert!(fs::read(dir.join(name)).is_err(), "{name}");
    }
    assert_eq!(fs::read(dir.join("fine")).unwrap(), b"hello");
}

#[test]
fn directory_with_a_wrong_hash_is_refused() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let one = builder.push_node(&directory::encode_unchecked(&[file(b"one")], 0).unwrap());
    let other = builder.push_node(&directory::encode_unchecked(&[file(b"two")], 0).unwrap());
    let swapped = PlannedChunk {
        location: other.location,
        ..one.clone()
    };
    let entries = [folder("right", one, 2), folder("wrong", swapped, 2)];
    let root =
        builder.push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
    let dir = world.mount(&store(&world, builder, root, 5));
    assert_eq!(fs::read(dir.join("right/one")).unwrap(), b"hello");
    // The correct chunk is found by its hash, regardless of the stated position.
    let found = fs::read(dir.join("wrong/one"));
    assert!(found.is_err() || found.is_ok_and(|found| found == b"hello"));
    assert!(fs::metadata(dir.join("wrong/two")).is_err());
}

#[test]
fn deep_wide_or_endless_manifest_is_refused_or_cheap() {
    let world = World::new();
    let dir = world.path().join("data/walgit-fs/local");
    let local = LocalDir::open(&dir, 100 << 20).unwrap();
    let nested = |open: &str, close: &str| {
        format!(
            "{{\"tree\":{{\"a\":{}1{}}}}}",
            open.repeat(200_000),
            close.repeat(200_000)
        )
    };
    for body in [
        nested("[", "]"),
        nested("{\"a\":", "}"),
        format!("{{\"tree\":{{\"{}\":1}}}}", "a/".repeat(1 << 20)),
        format!("{{\"tree\":{{{}}}}}", "\"a\":1,".repeat(1 << 20)),
        "[".repeat(1 << 20),
    ] {
        let body = body.into_bytes();
        let id = blob_id(&body).unwrap();
        block_on(local.put(id, body.into(), &PutOptions::default())).unwrap();
        let dir = world.mountpoint();
        let address = format!("walrus://{id}");
        let done = world.try_run(&["mount", &address, dir.to_str().unwrap()]);
        let output = String::from_utf8(done.stderr).unwrap();
        let left_out = done.status.success() && output.contains("left out");
        assert!(
            left_out || output.contains("not a WalGit repository"),
            "{output}"
        );
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
    let kib = peak(world.daemon().unwrap());
    assert!(kib < 512 << 10, "{kib} KiB");
}

#[test]
fn author_text_cannot_send_terminal_escapes() {
    let world = World::new();
    let tree = Tree::new().file("a", "a").commit("first");
    let evil = "\u{1b}]0;owned\u{7}\u{9b}31m";
    let author = format!("user.name=Ada{evil}");
    let message = format!("second{evil}");
    tree.git(&[
        "-c",
        &author,
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        &message,
    ]);
    world.publish(tree.path(), "it");
    let manifest = Commit::new(&world.blobs())
        .file("good", b"good")
        .alias("good", &format!("bad{evil}/../x"))
        .store();
    let dir = world.mountpoint();
    let mounted = world.try_run(&[
        "mount",
        &format!("walrus://{manifest}"),
        dir.to_str().unwrap(),
    ]);
    assert!(mounted.status.success());
    let mut output = mounted.stderr;
    for args in [&["log", "it"][..], &["refs", "it"], &["refs"], &["status"]] {
        output.extend_from_slice(world.run(args).as_bytes());
    }
    let output = String::from_utf8(output).unwrap();
    assert!(
        output.contains("second") && output.contains("bad"),
        "{output}"
    );
    let commands = output
        .chars()
        .find(|c| c.is_control() && !"\n\t".contains(*c));
    assert_eq!(commands, None, "{output:?}");
}

#[test]
fn walk_of_an_exponential_tree_fetches_only_what_is_read() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    // 36 levels of two equal folders, each level with its own chunk: each is fetched
    // once, however many paths lead to it.
    let mut below = builder.push_node(&directory::encode_unchecked(&[file(b"x")], 0).unwrap());
    let mut nodes = 2;
    for level in 0..36 {
        let content = [level; 3000];
        let mut chunk = file(b"c");
        chunk.size = content.len() as u64;
        chunk.content = PlannedContent::Chunks(vec![PlannedChunk::raw(
            ChunkHash::of(&content),
            content.len() as u32,
            builder.push_data(&content),
        )]);
        let entries = [
            folder("a", below.clone(), nodes),
            folder("b", below, nodes),
            chunk,
        ];
        below = builder
            .push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
        nodes = nodes * 2 + 2;
    }
    let dir = world.mount(&store(&world, builder, below, nodes));
    let mut pending = vec![dir];
    let mut files = 0;
    while files < 3000 {
        let folder = pending.pop().unwrap();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => pending.push(entry.path()),
                false => {
                    fs::read(entry.path()).unwrap();
                    files += 1;
                }
            }
        }
    }
    let kib = peak(world.daemon().unwrap());
    assert!(kib < 512 << 10, "{kib} KiB");
}

#[test]
fn excessively_deep_tree_is_walkable_up_to_the_limit() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let mut below = builder.push_node(&directory::encode_unchecked(&[file(b"x")], 0).unwrap());
    let mut nodes = 2;
    for _ in 0..20_000 {
        let entries = [folder("d", below, nodes)];
        below = builder
            .push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
        nodes += 1;
    }
    let dir = world.mount(&store(&world, builder, below, nodes));
    // One level at a time, because the kernel refuses a path this long.
    let mut at = fs::File::open(&dir).unwrap();
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY;
    let mut depth = 0;
    let refused = loop {
        match rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()) {
            Ok(next) => at = next.into(),
            Err(error) => break error,
        }
        depth += 1;
    };
    assert!((100..20_000).contains(&depth), "{depth}");
    assert_eq!(refused, rustix::io::Errno::LOOP, "at {depth}");
    assert!(fs::read_dir(&dir).unwrap().next().unwrap().is_ok());
}
