//! Files stored as patches or with a dictionary read like any other; a bad base affects
//! only its files.

use std::fs;
use std::path::Path;

use walgit_format::blob::BlobBuilder;
use walgit_format::chunk::{Bases, BlobId, ChunkHash, Codec, Dictionary, Location, encode_patch};
use walgit_format::directory::{self, PlannedContent, PlannedEntry};
use walgit_format::{Kind, PlannedChunk, PlannedLocation};

use crate::support::World;
use crate::synthetic_repository;

/// A blob with its data first and its one directory last.
#[derive(Default)]
struct BlobPlan {
    builder: BlobBuilder,
    entries: Vec<PlannedEntry>,
}

impl BlobPlan {
    fn push(
        &mut self,
        raw: &[u8],
        codec: Codec,
        stored: &[u8],
        bases: Vec<PlannedChunk>,
    ) -> PlannedChunk {
        PlannedChunk {
            hash: ChunkHash::of(raw),
            raw_len: raw.len() as u32,
            stored_len: stored.len() as u32,
            codec,
            location: self.builder.push_data(stored),
            bases: bases.into(),
        }
    }

    fn plain(&mut self, raw: &[u8]) -> PlannedChunk {
        self.push(raw, Codec::Raw, raw, Vec::new())
    }

    /// `raw` as a patch against content stored at `bases`.
    fn patch(&mut self, raw: &[u8], against: &[&[u8]], bases: Vec<PlannedChunk>) -> PlannedChunk {
        let sealed = encode_patch(raw, against, 9).unwrap();
        self.push(raw, sealed.codec, &sealed.bytes, bases)
    }

    fn file(&mut self, name: &str, size: usize, chunk: PlannedChunk) {
        self.entries.push(PlannedEntry {
            name: name.to_owned().into(),
            kind: Kind::File { executable: false },
            size: size as u64,
            content: PlannedContent::Chunks(vec![chunk]),
        });
    }

    fn mount(self, world: &World) -> std::path::PathBuf {
        world.mount(&self.store(world))
    }

    fn store(mut self, world: &World) -> String {
        let nodes = self.entries.len() as u64 + 1;
        let bytes = self.entries.iter().map(|entry| entry.size).sum();
        let end = self.builder.next_node_end();
        let root = self
            .builder
            .push_node(&directory::encode_unchecked(&self.entries, end).unwrap());
        synthetic_repository::store(world.path(), self.builder, root, nodes, bytes, &[])
    }
}

fn text(seed: u32) -> Vec<u8> {
    let line = |n: u32| {
        format!(
            "line {n} of {seed} says {:x}\n",
            n.wrapping_mul(seed).rotate_left(7)
        )
    };
    (1..400).map(line).collect::<String>().into_bytes()
}

/// `base` with another line in its middle.
fn changed(base: &[u8]) -> Vec<u8> {
    [&base[..2000], b"a line more\n", &base[2000..]].concat()
}

fn assert_reads(dir: &Path, name: &str, expected: &[u8]) {
    assert!(fs::read(dir.join(name)).unwrap() == expected, "{name}");
}

#[test]
fn patched_and_dictionary_compressed_files_read_back_unchanged() {
    let world = World::new();
    let mut plan = BlobPlan::default();
    let texts: Vec<Vec<u8>> = (1..120).map(text).collect();
    let samples: Vec<&[u8]> = texts.iter().map(|text| &text[..600]).collect();
    let dictionary = Dictionary::train(&samples, 8 << 10, 9).unwrap();
    let known = plan.plain(dictionary.bytes());
    let mut expected = Vec::new();
    for (number, raw) in texts.iter().take(6).enumerate() {
        let sealed = dictionary.encode(raw);
        assert_eq!(sealed.codec, Codec::Dictionary);
        let base = plan.push(raw, sealed.codec, &sealed.bytes, vec![known.clone()]);
        // A patch whose base uses a dictionary, and is not a file itself in half of the
        // cases.
        let new = changed(raw);
        let patch = plan.patch(&new, &[raw], vec![base.clone()]);
        assert!(patch.stored_len < 200);
        let name = format!("new-{number}");
        plan.file(&name, new.len(), patch);
        expected.push((name, new));
        if number % 2 == 0 {
            let name = format!("old-{number}");
            plan.file(&name, raw.len(), base);
            expected.push((name, raw.clone()));
        }
    }
    let (one, two) = (text(1000), text(1001));
    let bases = vec![plan.plain(&one), plan.plain(&two)];
    let both = changed(&[&one[..], &two].concat());
    let patch = plan.patch(&both, &[&one, &two], bases);
    plan.file("of-two", both.len(), patch);
    expected.push(("of-two".into(), both));
    plan.entries.sort_by(|a, b| a.name.cmp(&b.name));
    let dir = plan.mount(&world);
    for (name, content) in &expected {
        assert_reads(&dir, name, content);
    }
    // Cached chunks are self-contained: offline, only the cache is available.
    world.unmount(&dir);
    let output = world.run(&["cache", "verify", "--json"]);
    assert!(
        output.contains("\"dropped\": 0") || output.contains("\"dropped\":0"),
        "{output}"
    );
}

/// An intact file, and three whose bases are missing, damaged, or different.
fn with_bad_bases() -> (BlobPlan, Vec<u8>) {
    let mut plan = BlobPlan::default();
    let base = text(3);
    let new = changed(&base);
    let good = plan.plain(&base);
    let other = plan.plain(&text(4));
    let fine = plan.patch(&new, &[&base], vec![good.clone()]);
    plan.file("fine", new.len(), fine.clone());
    // In no blob.
    let nowhere = PlannedChunk {
        hash: ChunkHash::of(b"nowhere"),
        location: PlannedLocation::External(Location {
            blob: BlobId::from_bytes([3; 32]),
            offset: 100,
        }),
        ..good.clone()
    };
    // At a position with other bytes.
    let damaged = PlannedChunk {
        hash: ChunkHash::of(b"damaged"),
        location: other.location,
        ..good.clone()
    };
    // Intact, but not the base of the patch.
    for (name, base) in [("missing", nowhere), ("damaged", damaged), ("other", other)] {
        let raw = changed(&[name.as_bytes(), &base_of(name)].concat());
        let chunk = PlannedChunk {
            hash: ChunkHash::of(&raw),
            raw_len: raw.len() as u32,
            bases: Bases::one(base),
            ..fine.clone()
        };
        plan.file(name, raw.len(), chunk);
    }
    plan.entries.sort_by(|a, b| a.name.cmp(&b.name));
    (plan, new)
}

#[test]
fn bad_base_fails_only_the_files_that_need_it() {
    let world = World::new();
    let (plan, new) = with_bad_bases();
    let dir = plan.mount(&world);
    for _ in 0..2 {
        for name in ["missing", "damaged", "other"] {
            let output = fs::read(dir.join(name)).unwrap_err();
            assert_eq!(output.raw_os_error(), Some(5), "{name}: {output}");
        }
        assert_reads(&dir, "fine", &new);
    }
}

#[test]
fn fsck_reports_bad_bases_by_the_files_that_need_them() {
    let world = World::new();
    let address = with_bad_bases().0.store(&world);
    let done = world.try_run(&["fsck", &address, "--json"]);
    assert_eq!(done.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let affected = report["report"]["affected"].as_array().unwrap();
    let why = |name: &str| {
        let found = affected.iter().find(|it| it["what"] == name);
        found.map(|it| it["why"].as_str().unwrap().to_owned())
    };
    assert_eq!(affected.len(), 3, "{report}");
    let missing = why("missing").unwrap();
    assert!(missing.contains("decoded with is missing"), "{missing}");
    let damaged = why("damaged").unwrap();
    assert!(damaged.contains("decoded with is wrong"), "{damaged}");
    assert!(
        why("other").unwrap().contains("some of it is wrong"),
        "{report}"
    );
    // `doctor` reads only bases and finds those.
    let done = world.try_run(&["doctor", &address]);
    assert_eq!(done.status.code(), Some(1));
    let output = String::from_utf8(done.stdout).unwrap();
    assert!(
        output.contains("affected: missing") && output.contains("affected: damaged"),
        "{output}"
    );
}

fn base_of(name: &str) -> Vec<u8> {
    text(name.len() as u32)
}
