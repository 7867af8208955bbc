//! The program's decoders by themselves: its own files, none of its
//! dependencies on kernels, databases and networks.

#![allow(dead_code, unused_imports, missing_docs, clippy::all)]

pub mod checks;

#[path = "../src/chain"]
pub mod chain {
    pub mod answer;
    mod error;
    mod id;
    pub mod objects;

    pub use answer::MoveObject;
    pub use error::ChainError;
    pub use id::{ObjectId, ParseObjectIdError};
}

#[path = "../src/chunk/mod.rs"]
pub mod chunk;

#[path = "../src/clock.rs"]
pub mod clock;

#[path = "../src/text.rs"]
pub mod text;

#[path = "../src/repo"]
pub mod repo {
    pub mod archive {
        mod group;
        mod segment;
        mod tree;

        pub use group::decode_group;
        pub use segment::Segment;
        pub use tree::{decode_tree, encode_tree, parse_tree};
    }

    /// What is decoded here belongs to no mount.
    pub mod account {
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Charge;
    }
    mod address;
    pub mod blob;
    pub mod directory;
    mod encode;
    pub mod head;
    pub mod list;
    mod malformed;
    pub mod manifest;
    pub mod prior;
    mod ref_name;

    pub mod refs {
        pub use super::ref_name::*;
    }

    mod table;
    mod wire;

    pub use address::{Address, ParseAddressError};
    pub use encode::EncodeError;
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
}

#[path = "../src/walrus"]
pub mod walrus {
    pub mod blob_id;
    pub mod quilt;
}

use crate as decoders;
