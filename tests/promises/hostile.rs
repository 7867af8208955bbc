//! A repository made by an enemy is refused with a clear message, and does no
//! harm.

use std::ffi::OsStr;
use std::fs;

use walgit_fs::chunk::{BlobId, ChunkHash, Codec, MAX_CHUNK};
use walgit_fs::repo::blob::BlobBuilder;
use walgit_fs::repo::directory::{self, PlannedContent, PlannedEntry};
use walgit_fs::repo::head::AttachmentKind;
use walgit_fs::repo::{Kind, Place, PlacedChunk};
use walgit_fs::walrus::blob_id::blob_id;
use walgit_fs::walrus::{BlobStore as _, LocalDir, PutOptions};

use crate::planned;
use crate::support::{World, block_on};

const FILE: Kind = Kind::File { executable: false };

fn file(name: &[u8]) -> PlannedEntry {
    PlannedEntry {
        name: name.to_vec(),
        kind: FILE,
        size: 5,
        content: PlannedContent::Inline(b"hello".to_vec()),
    }
}

fn folder(name: &str, node: PlacedChunk, nodes: u64) -> PlannedEntry {
    PlannedEntry {
        name: name.into(),
        kind: Kind::Directory,
        size: 0,
        content: PlannedContent::Directory { node, nodes },
    }
}

/// Stores a repository whose root is `root`; its address.
fn store(world: &World, builder: BlobBuilder, root: PlacedChunk, nodes: u64) -> String {
    planned::store(world.path(), builder, root, nodes, 0, &[])
}

/// A repository whose root holds these entries.
fn root_of(world: &World, entries: &[PlannedEntry], nodes: u64) -> String {
    let mut builder = BlobBuilder::new();
    let root = builder.push_node(&directory::encode(entries, 0));
    store(world, builder, root, nodes)
}

#[track_caller]
fn refused(world: &World, address: &str, because: &str) {
    let dir = world.mountpoint();
    let said = world.fail(&[OsStr::new("mount"), address.as_ref(), dir.as_os_str()]);
    assert!(said.contains(because), "{said}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is mounted");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
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
        let address = root_of(&world, &[file(name)], 2);
        let because = if name.len() > 255 {
            "at most 255"
        } else {
            "not allowed"
        };
        refused(&world, &address, because);
    }
}

#[test]
fn names_twice_or_out_of_order_are_refused() {
    let world = World::new();
    for pair in [[&b"a"[..], b"a"], [b"b", b"a"]] {
        let address = root_of(&world, &pair.map(file), 3);
        refused(&world, &address, "out of order or there twice");
    }
}

#[test]
fn counts_and_sizes_that_do_not_add_up_are_refused() {
    let world = World::new();
    refused(
        &world,
        &root_of(&world, &[file(b"a")], 3),
        "its parent says 3",
    );
    let mut short = file(b"a");
    short.size = 1 << 60;
    refused(&world, &root_of(&world, &[short], 2), "do not add up");
    let mut long_link = file(b"a");
    long_link.kind = Kind::Symlink;
    long_link.content = PlannedContent::Inline(vec![b'x'; 5000]);
    refused(&world, &root_of(&world, &[long_link], 2), "at most 4095");
}

#[test]
fn a_subtree_that_claims_to_be_endless_is_refused() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let empty = builder.push_node(&directory::encode(&[], 0));
    let entries = [folder("a", empty, 1 << 40), folder("b", empty, 1 << 40)];
    let root = builder.push_node(&directory::encode(&entries, builder.next_node_end()));
    refused(
        &world,
        &store(&world, builder, root, 1 << 40),
        "do not add up",
    );
}

#[test]
fn a_tree_that_multiplies_at_every_level_costs_nothing_until_it_is_walked() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    // 30 levels of two entries that are the same folder: a billion files in 2 KB.
    let mut below = builder.push_node(&directory::encode(&[file(b"x")], 0));
    let mut nodes = 2;
    for _ in 0..30 {
        let entries = [folder("a", below, nodes), folder("b", below, nodes)];
        below = builder.push_node(&directory::encode(&entries, builder.next_node_end()));
        nodes = nodes * 2 + 1;
    }
    let dir = world.mount(&store(&world, builder, below, nodes));
    let deep = "a/b/".repeat(15) + "x";
    assert_eq!(fs::read_to_string(dir.join(deep)).unwrap(), "hello");
}

#[test]
fn a_chunk_that_unpacks_to_far_more_than_it_says_is_an_error() {
    let world = World::new();
    let zeros = zstd::bulk::compress(&vec![0; 60 << 20], 19).unwrap();
    for raw_len in [1000, 60 << 20] {
        let mut builder = BlobBuilder::new();
        let bomb = PlacedChunk {
            hash: ChunkHash::of(b"something else"),
            raw_len,
            stored_len: zeros.len() as u32,
            codec: Codec::Zstd,
            place: builder.push_data(&zeros),
        };
        let mut entry = file(b"bomb");
        entry.size = u64::from(raw_len);
        entry.content = PlannedContent::Chunks(vec![bomb]);
        let entries = [entry, file(b"fine")];
        let root = builder.push_node(&directory::encode(&entries, builder.next_node_end()));
        let dir = world.mount(&store(&world, builder, root, 3));
        assert!(fs::read(dir.join("bomb")).is_err());
        assert_eq!(fs::read(dir.join("fine")).unwrap(), b"hello");
    }
}

#[test]
fn a_chunk_larger_than_any_reader_accepts_is_refused_before_it_is_fetched() {
    let world = World::new();
    let mut entry = file(b"huge");
    entry.size = u64::from(MAX_CHUNK) + 1;
    entry.content = PlannedContent::Chunks(vec![PlacedChunk {
        hash: ChunkHash::of(b""),
        raw_len: MAX_CHUNK + 1,
        stored_len: 10,
        codec: Codec::Zstd,
        place: Place::There(BlobId::from_bytes([0; 32]), 0),
    }]);
    refused(&world, &root_of(&world, &[entry], 2), "more than");
}

#[test]
fn a_hostile_folder_spoils_itself_and_not_its_neighbours() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let bad = builder.push_node(&directory::encode(&[file(b"..")], 0));
    let entries = [folder("bad", bad, 2), file(b"good")];
    let root = builder.push_node(&directory::encode(&entries, builder.next_node_end()));
    let dir = world.mount(&store(&world, builder, root, 4));
    // Opening a folder asks nothing of the driver; reading it does.
    let mut listed = fs::read_dir(dir.join("bad")).unwrap();
    assert!(listed.next().unwrap().is_err());
    assert_eq!(fs::read(dir.join("good")).unwrap(), b"hello");
}

#[test]
fn a_blob_of_something_else_is_no_repository() {
    let world = World::new();
    let dir = world.path().join("data/walgit-fs/local");
    let local = LocalDir::open(&dir, 100 << 20).unwrap();
    for body in [vec![0; 100_000], b"{\"trees\": {}}".to_vec()] {
        let id = blob_id(&body).unwrap();
        block_on(local.put(id, body.into(), &PutOptions::default())).unwrap();
        refused(&world, &format!("walrus://{id}"), "not a WalGit repository");
        let rooted = format!("walrus://{id}?root={}", "0".repeat(64));
        refused(&world, &rooted, "not a WalGit repository");
    }
}

#[test]
fn hints_of_an_enemy_cost_a_few_bytes_and_harm_nobody() {
    let world = World::new();
    let mut builder = BlobBuilder::new();
    let mut push = |raw: &[u8], raw_len: u32| PlacedChunk {
        hash: ChunkHash::of(raw),
        raw_len,
        stored_len: raw.len() as u32,
        codec: Codec::Raw,
        place: builder.push_data(raw),
    };
    let content = push(b"hello", 5);
    // No prior, no profile; and some that say to be larger than any.
    let garbage = push(&[7; 300], 300);
    let short = push(b"P\x01\xff\xff\x03", 5);
    let profile = push(b"WGPROF\0\x02\xff\xff\xff\xff\xff\xff\xff", 15);
    let huge = PlacedChunk {
        codec: Codec::Zstd,
        ..push(&[7; 100_000], MAX_CHUNK)
    };
    let entry = PlannedEntry {
        content: PlannedContent::Chunks(vec![content]),
        ..file(b"file")
    };
    let root = builder.push_node(&directory::encode(&[entry], builder.next_node_end()));
    for attached in [[garbage, garbage], [short, profile], [huge, huge]] {
        let kinds = [AttachmentKind::Prior, AttachmentKind::Learned];
        let attached: Vec<_> = kinds.into_iter().zip(attached).collect();
        let address = planned::store(world.path(), builder.clone(), root, 2, 5, &attached);
        let dir = world.mount(&address);
        assert_eq!(fs::read(dir.join("file")).unwrap(), b"hello");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        world.unmount(&dir);
    }
}
