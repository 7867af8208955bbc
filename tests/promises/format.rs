//! Today's format stays readable, and decoders withstand any input.

use bytes::Bytes;
use proptest::prelude::*;
use walgit_format::blob::{BlobBuilder, Header, MIN_BLOB_LEN};
use walgit_format::chunk::{BlobId, ByteRange, ChunkHash, ChunkRef, Location};
use walgit_format::directory::{self, PlannedContent, PlannedEntry};
use walgit_format::head::{GitId, PlannedCommit, PlannedHead, Signature};
use walgit_format::prior::{Pair, PathName, Prior};
use walgit_format::{
    ChunkList, Content, Directory, Head, Kind, PlannedChunk, PlannedLocation, Ref, RefKind, list,
};

const GOLDEN: &[u8] = include_bytes!("../data/golden-v1.bin");
const GOLDEN_ROOT: &str = include_str!("../data/golden-v1.root");
const BLOB: BlobId = BlobId::from_bytes([42; 32]);

fn entry(name: &str, kind: Kind, size: u64, content: PlannedContent) -> PlannedEntry {
    PlannedEntry {
        name: Bytes::copy_from_slice(name.as_bytes()),
        kind,
        size,
        content,
    }
}

fn placed(raw: &[u8], location: PlannedLocation) -> PlannedChunk {
    PlannedChunk::raw(ChunkHash::of(raw), raw.len() as u32, location)
}

fn external(fill: u8, offset: u64) -> PlannedLocation {
    let blob = BlobId::from_bytes([fill; 32]);
    PlannedLocation::External(Location { blob, offset })
}

/// One of everything: the blob, and the hash of its head.
fn golden() -> (Vec<u8>, ChunkHash) {
    let mut builder = BlobBuilder::new();
    let file = Kind::File { executable: false };
    let data = builder.push_data(b"some content of a file");
    let chunk = placed(b"some content of a file", data);
    let elsewhere = placed(b"elsewhere", external(7, 1 << 33));
    let list = list::encode(
        0,
        &[(elsewhere, 9), (chunk.clone(), 22)],
        builder.next_node_end(),
    )
    .unwrap();
    let list = builder.push_node(&list);
    let below = [entry("deep", file, 31, PlannedContent::List(list))];
    let below =
        builder.push_node(&directory::encode_unchecked(&below, builder.next_node_end()).unwrap());
    let entries = [
        entry(
            "dir",
            Kind::Directory,
            31,
            PlannedContent::Directory {
                node: below,
                nodes: 2,
            },
        ),
        entry("empty", file, 0, PlannedContent::Chunks(vec![])),
        entry("file", file, 22, PlannedContent::Chunks(vec![chunk])),
        entry(
            "link",
            Kind::Symlink,
            4,
            PlannedContent::Inline(b"file".to_vec().into()),
        ),
        entry(
            "run",
            Kind::File { executable: true },
            3,
            PlannedContent::Inline(b"#!x".to_vec().into()),
        ),
        entry(
            "sub",
            Kind::Submodule,
            0,
            PlannedContent::Inline(vec![9; 20].into()),
        ),
    ];
    let root =
        builder.push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
    let who = Signature {
        person: Bytes::from_static(b"Ada <ada@example.org>"),
        seconds: 1_700_000_000,
        offset_minutes: -90,
    };
    let head = PlannedHead {
        default_branch: Bytes::from_static(b"main"),
        commits: vec![PlannedCommit {
            id: GitId(vec![3; 20]).into(),
            root,
            nodes: 8,
            bytes: 56,
            author: who.clone(),
            committer: who,
            message: Bytes::from_static(b"golden\n"),
            parents: vec![GitId(vec![4; 20]).into()],
        }],
        refs: vec![Ref {
            kind: RefKind::Branch,
            name: Bytes::from_static(b"main"),
            commit: 0,
        }],
        blobs: vec![BlobId::from_bytes([7; 32])],
        ..PlannedHead::default()
    };
    let head = builder.push_node(&head.encode_unchecked(builder.next_node_end()).unwrap());
    (builder.finish_with_head(&head).unwrap(), head.hash)
}

fn open(blob: &Bytes, chunk: &ChunkRef) -> Bytes {
    let range = chunk.range();
    chunk
        .open(
            blob.slice(range.start() as usize..range.end() as usize),
            &[],
        )
        .unwrap()
}

#[test]
fn golden_blob_is_written_unchanged() {
    let (blob, root) = golden();
    assert_eq!(blob.len() as u64, MIN_BLOB_LEN);
    // Set by hand for a new version of the format.
    if std::env::var_os("WALGIT_FS_WRITE_GOLDEN").is_some() {
        let end = blob.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
        std::fs::write(format!("{data}/golden-v1.bin"), &blob[..end]).unwrap();
        std::fs::write(format!("{data}/golden-v1.root"), root.to_string()).unwrap();
    }
    assert_eq!(&blob[..GOLDEN.len()], GOLDEN);
    assert_eq!(root.to_string(), GOLDEN_ROOT);
}

#[test]
fn golden_blob_is_read() {
    let mut padded = GOLDEN.to_vec();
    padded.resize(MIN_BLOB_LEN as usize, 0);
    let blob = Bytes::from(padded);
    let reference = Header::decode(&blob).unwrap().head(BLOB).unwrap();
    assert_eq!(reference.hash.to_string(), GOLDEN_ROOT);
    let head = Head::decode(&open(&blob, &reference), &reference).unwrap();
    assert_eq!(head.resolve("main"), Some(0));
    assert_eq!(head.resolve("0303"), Some(0));
    let commit = &head.commits[0];
    assert_eq!((commit.nodes, commit.author.offset_minutes), (8, -90));
    let root = Directory::decode(&open(&blob, &commit.root), &commit.root).unwrap();
    let names: Vec<_> = root.entries().iter().map(|e| &e.name[..]).collect();
    assert_eq!(
        names,
        [&b"dir"[..], b"empty", b"file", b"link", b"run", b"sub"]
    );
    assert_eq!(
        (root.nodes(), root.holding(2), root.holding(3)),
        (8, Some(0), Some(1))
    );
    let Content::Chunks { first, count: 1 } = root.entries()[2].content else {
        panic!("one chunk");
    };
    let content = open(&blob, &root.chunks()[first as usize]);
    assert_eq!(content, &b"some content of a file"[..]);
    let Content::Directory { index, nodes: 2 } = root.entries()[0].content else {
        panic!("a directory of two nodes");
    };
    let reference = root.chunks()[index as usize].clone();
    let below = Directory::decode(&open(&blob, &reference), &reference).unwrap();
    let Content::List { index } = below.entries()[0].content else {
        panic!("a list");
    };
    let reference = below.chunks()[index as usize].clone();
    let list = ChunkList::decode(&open(&blob, &reference), &reference).unwrap();
    assert_eq!(
        (list.len(), list.holding(9), list.holding(31)),
        (31, Some((1, 9)), None)
    );
    assert_eq!(list.parts()[0].range(), ByteRange::new(1 << 33, 9));
    assert_eq!(open(&blob, &list.parts()[1]), content);
}

/// Co-change data of three files and two pairs.
const GOLDEN_PRIOR: &str = "50010368b5adcb24e3f85dfb0c84cd145c7801010801010a00";

#[test]
fn golden_prior_is_written_and_read_unchanged() {
    let files = ["Cargo.toml", "src/lib.rs", "tests/lib.rs"];
    let names = files.map(|path| PathName::of(path.as_bytes()));
    let weights = [9.0, 3.0, 30.0];
    let files: Vec<_> = names.into_iter().zip(weights).collect();
    let pair = |one, other, weight| Pair {
        files: (one, other),
        weight,
    };
    let prior = Prior::new(&files, &[pair(0, 1, 2.0), pair(1, 2, 2.5)]);
    let hex: String = (prior.encode().iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, GOLDEN_PRIOR);
    let read = Prior::decode(&Bytes::from(prior.encode())).unwrap();
    let with: Vec<_> = read.with(names[1]).collect();
    assert_eq!(with, [(names[0], 2.0 / 4.0), (names[2], 2.5 / 4.0)]);
}

#[test]
fn newer_format_version_is_refused_with_advice_to_update() {
    let mut newer = GOLDEN.to_vec();
    newer[8] = 2;
    let error = Header::decode(&newer).unwrap_err().to_string();
    assert!(
        error.contains("version 2") && error.contains("update"),
        "{error}"
    );
}

#[test]
fn oversized_directory_is_refused_before_allocation() {
    // No blobs, no chunks, 2^20 + 1 entries of four bytes.
    let mut raw = vec![b'D', 1, 0, 0, 0x81, 0x80, 0x40];
    raw.resize(raw.len() + 4 * ((1 << 20) + 1), 0);
    let error = Directory::decode(&Bytes::from(raw.clone()), &reference(&raw)).unwrap_err();
    assert!(error.to_string().contains("1048577 entries"), "{error}");
}

fn reference(raw: &[u8]) -> ChunkRef {
    ChunkRef::raw(
        ChunkHash::of(raw),
        raw.len() as u32,
        Location {
            blob: BLOB,
            offset: 64,
        },
    )
}

/// Valid nodes of each kind, to be corrupted.
pub(crate) fn nodes() -> Vec<Vec<u8>> {
    let mut padded = GOLDEN.to_vec();
    padded.resize(MIN_BLOB_LEN as usize, 0);
    let blob = Bytes::from(padded);
    let reference = Header::decode(&blob).unwrap().head(BLOB).unwrap();
    let head = open(&blob, &reference);
    let root = Head::decode(&head, &reference).unwrap().commits[0]
        .root
        .clone();
    let root_raw = open(&blob, &root);
    let directory = Directory::decode(&root_raw, &root).unwrap();
    let below = directory.chunks()[0].clone();
    let below_raw = open(&blob, &below);
    let list = Directory::decode(&below_raw, &below).unwrap().chunks()[0].clone();
    [head, root_raw, below_raw, open(&blob, &list)]
        .map(|b| b.to_vec())
        .to_vec()
}

/// Decodes as every kind; well-formed results keep their invariants.
fn decode_all(raw: &[u8]) {
    let raw = Bytes::copy_from_slice(raw);
    let reference = reference(&raw);
    let _ = Header::decode(&raw);
    let _ = Head::decode(&raw, &reference);
    let _ = Prior::decode(&raw);
    if let Ok(list) = ChunkList::decode(&raw, &reference) {
        assert!(list.len() <= i64::MAX as u64);
    }
    if let Ok(directory) = Directory::decode(&raw, &reference) {
        assert!(
            directory
                .entries()
                .windows(2)
                .all(|w| w[0].name < w[1].name)
        );
        for (number, entry) in directory.entries().iter().enumerate() {
            assert!(directory::check_name(&entry.name).is_ok());
            assert_eq!(directory.find(&entry.name), Some(number));
            assert_eq!(directory.holding(entry.offset), Some(number));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn decoders_survive_corrupted_nodes(
        node in 0usize..4,
        spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let mut raw = nodes().swap_remove(node);
        for (at, byte, how) in spoils {
            if raw.is_empty() { break; }
            let at = at.index(raw.len());
            match how {
                0 => raw[at] = byte,
                1 => raw.insert(at, byte),
                2 => _ = raw.remove(at),
                _ => raw.truncate(at),
            }
        }
        decode_all(&raw);
    }

    #[test]
    fn decoders_survive_arbitrary_bytes(magic in 0usize..6, mut raw in proptest::collection::vec(any::<u8>(), 2..300)) {
        raw[0] = b"DLHWP\0"[magic];
        raw[1] = 1;
        decode_all(&raw);
    }

    #[test]
    fn directory_round_trips(
        names in proptest::collection::btree_set("[a-zA-Z0-9 .~ü-]{1,30}", 0..40),
        seeds in proptest::collection::vec((0u8..5, any::<u32>(), 0usize..200), 40),
    ) {
        let mut wanted: Vec<PlannedEntry> = Vec::new();
        for (name, (kind, seed, len)) in names.iter().zip(seeds) {
            if directory::check_name(name.as_bytes()).is_err() { continue; }
            let bytes = vec![b'x'; len + 1];
            let place = match seed % 2 {
                0 => PlannedLocation::Local(i64::from(seed)),
                _ => external(seed as u8, u64::from(seed) << 20),
            };
            let chunk = placed(&bytes, place);
            let size = bytes.len() as u64;
            let (kind, size, content) = match kind {
                0 => (Kind::File { executable: seed % 3 == 0 }, size, PlannedContent::Inline(bytes.into())),
                1 => (Kind::File { executable: false }, size, PlannedContent::Chunks(vec![chunk])),
                2 => (Kind::Symlink, size, PlannedContent::Inline(bytes.into())),
                3 => (Kind::Directory, u64::from(seed), PlannedContent::Directory { node: chunk, nodes: u64::from(seed) + 1 }),
                _ => (Kind::Submodule, 0, PlannedContent::Inline(vec![1; 20].into())),
            };
            wanted.push(entry(name, kind, size, content));
        }
        wanted.sort_by(|a, b| a.name.cmp(&b.name));
        let raw = Bytes::from(directory::encode_unchecked(&wanted, 0).unwrap());
        let found = Directory::decode(&raw, &reference(&raw)).unwrap();
        prop_assert_eq!(found.entries().len(), wanted.len());
        for (found_entry, wanted) in found.entries().iter().zip(&wanted) {
            prop_assert_eq!(&found_entry.name[..], &wanted.name[..]);
            prop_assert_eq!((found_entry.kind, found_entry.size), (wanted.kind, wanted.size));
            if let (Content::Chunks { first, .. }, PlannedContent::Chunks(chunks)) = (&found_entry.content, &wanted.content) {
                let chunk = &found.chunks()[*first as usize];
                prop_assert_eq!(chunk.hash, chunks[0].hash);
                let expected = match chunks[0].location {
                    // The node ends 64 bytes plus its own length into the blob.
                    PlannedLocation::Local(at) => Location { blob: BLOB, offset: 64 + raw.len() as u64 + at as u64 },
                    PlannedLocation::External(location) => location,
                };
                prop_assert_eq!(chunk.location, expected);
            }
        }
    }
}
