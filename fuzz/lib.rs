//! The program's decoders by themselves: its own files, none of its
//! dependencies on kernels, databases and networks.

#![allow(dead_code, unused_imports, missing_docs, clippy::all)]

#[path = "../src/chunk/mod.rs"]
pub mod chunk;

#[path = "../src/repo"]
pub mod repo {
    pub mod blob;
    pub mod directory;
    pub mod head;
    pub mod list;
    mod malformed;
    pub mod manifest;
    pub mod prior;
    mod table;
    mod wire;

    pub use malformed::MalformedNode;
    pub use prior::Prior;
    pub use table::{Place, PlacedChunk};
}

#[path = "../src/prefetch"]
pub mod prefetch {
    mod codec;
    pub mod model;
    mod part;
    mod profile;
    mod rates;

    pub use codec::MalformedProfile;
    pub use profile::Profile;
    pub use rates::Rates;

    /// A profile of this content, with a beginning and a checksum that are right.
    pub fn whole(content: &[u8]) -> Vec<u8> {
        let mut bytes = [b"WGPROF\0\x02", content].concat();
        let sum = codec::fnv1a(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }
}

use chunk::{BlobId, ChunkHash, ChunkRef, Codec, Location};

/// A reference to a node as if it lay right after a blob's header.
pub fn reference(raw: &[u8]) -> ChunkRef {
    ChunkRef {
        hash: ChunkHash::of(raw),
        raw_len: raw.len() as u32,
        at: Location {
            blob: BlobId::from_bytes([7; 32]),
            offset: 64,
            stored_len: raw.len() as u32,
            codec: Codec::Raw,
        },
    }
}
