//! Speed of functions on the critical path.
//!
//! `make bench` runs it. Compare rows of one run with each other: BLAKE3 of the same
//! bytes is the lower bound for opening a chunk.

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use walgit_format::chunk::{
    Bases, BlobId, ChunkHash, ChunkRef, Location, PrivateKeys, SecretKey, encode_chunk,
};
use walgit_format::directory::{self, Directory, PlannedContent, PlannedEntry};
use walgit_format::{Kind, PlannedChunk, PlannedLocation};
use walrus_encoding::blob_id::blob_id;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 64 << 10, 1 << 20, 10 << 20, 16 << 20], sample_count = 5, sample_size = 1)]
fn blob_id_of(bencher: Bencher<'_, '_>, len: usize) {
    let bytes: Vec<u8> = (0..len).map(|i| ((i * 31 + 7) % 251) as u8).collect();
    bencher.bench(|| blob_id(black_box(&bytes)).unwrap());
}

fn text(len: usize) -> Vec<u8> {
    let words = (0u32..)
        .flat_map(|n| format!("word{} ", n.wrapping_mul(2_654_435_761) % 5000).into_bytes());
    words.take(len).collect()
}

#[divan::bench(args = [4 << 10, 64 << 10, 1 << 20])]
fn open_a_compressed_chunk(bencher: Bencher<'_, '_>, len: usize) {
    let raw = text(len);
    let sealed = encode_chunk(&raw, 3);
    let chunk = ChunkRef {
        hash: ChunkHash::of(&raw),
        raw_len: len as u32,
        stored_len: sealed.bytes.len() as u32,
        codec: sealed.codec,
        location: Location {
            blob: BlobId::from_bytes([0; 32]),
            offset: 0,
        },
        bases: Bases::NONE,
    };
    let stored = Bytes::from(sealed.bytes);
    bencher
        .counter(BytesCount::new(len))
        .bench(|| chunk.open(black_box(stored.clone()), &[]).unwrap());
}

#[divan::bench(args = [4 << 10, 64 << 10, 1 << 20])]
fn blake3_alone(bencher: Bencher<'_, '_>, len: usize) {
    let raw = text(len);
    bencher
        .counter(BytesCount::new(len))
        .bench(|| ChunkHash::of(black_box(&raw)));
}

#[divan::bench(args = [16 << 10, 1 << 20, 16 << 20])]
fn seal_a_private_blob(bencher: Bencher<'_, '_>, len: usize) {
    let keys = PrivateKeys::of(&SecretKey::from_bytes([1; 32]));
    let plain = text(len);
    bencher
        .counter(BytesCount::new(len))
        .bench(|| keys.seal(black_box(&plain)).unwrap());
}

#[divan::bench(args = [16 << 10, 1 << 20, 16 << 20])]
fn open_a_private_blob(bencher: Bencher<'_, '_>, len: usize) {
    let keys = PrivateKeys::of(&SecretKey::from_bytes([1; 32]));
    let sealed = keys.seal(&text(len)).unwrap();
    bencher
        .counter(BytesCount::new(len))
        .bench(|| keys.open(black_box(&sealed)).unwrap());
}

#[divan::bench(args = [10, 1000, 100_000])]
fn decode_a_directory(bencher: Bencher<'_, '_>, entries: usize) {
    let entries: Vec<PlannedEntry> = (0..entries)
        .map(|n| {
            let name = format!("file-{n:07}.txt").into_bytes();
            let chunk = PlannedChunk {
                hash: ChunkHash::of(&name),
                raw_len: 5000,
                stored_len: 2000,
                codec: walgit_format::chunk::Codec::Zstd,
                location: PlannedLocation::Local(n as i64 * 2000),
                bases: Bases::NONE,
            };
            PlannedEntry {
                name: name.into(),
                kind: Kind::File { executable: false },
                size: 5000,
                content: PlannedContent::Chunks(vec![chunk]),
            }
        })
        .collect();
    let raw = Bytes::from(directory::encode_unchecked(&entries, 0).unwrap());
    let reference = ChunkRef::raw(
        ChunkHash::of(&raw),
        raw.len() as u32,
        Location {
            blob: BlobId::from_bytes([0; 32]),
            offset: 64,
        },
    );
    bencher.bench(|| Directory::decode(black_box(&raw), &reference).unwrap());
}
