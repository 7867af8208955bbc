//! Whatever is stored: a chunk opens to bytes of its hash and length, or not at
//! all, within its declared size.
#![no_main]

use bytes::Bytes;
use decoders::chunk::{ChunkHash, ChunkRef, Codec};

libfuzzer_sys::fuzz_target!(|data: (u32, bool, &[u8])| {
    let (raw_len, zstd, stored) = data;
    let mut chunk: ChunkRef = decoders::reference(stored);
    chunk.raw_len = raw_len % (4 << 20);
    chunk.at.codec = if zstd { Codec::Zstd } else { Codec::Raw };
    if let Ok(raw) = chunk.open(Bytes::copy_from_slice(stored)) {
        assert_eq!(raw.len(), chunk.raw_len as usize);
        assert_eq!(ChunkHash::of(&raw), chunk.hash);
    }
});
