//! One check for each parser of untrusted bytes: it takes any bytes, and panics if a
//! promise is broken.
//!
//! The fuzzer calls them, and `cargo test` replays all findings of the fuzzer
//! (`corpus/`): both programs include this file.

#![allow(unreachable_pub)] // in one of the two it is a library

use std::io;

use bytes::Bytes;

use walgit_format::archive::{Segment, decode_group, decode_tree, encode_tree, parse_tree};
use walgit_format::blob::Header;
use walgit_format::chain::{MoveObject, ObjectId, answer};
use walgit_format::chunk::{
    BLOCK_LEN, Bases, BlobId, ChunkHash, ChunkRef, Codec, Location, PRIVATE_HEADER_LEN,
    PrivateError, PrivateHeader, PrivateKeys, SecretKey, is_payload, is_private, open_payload,
};
use walgit_format::directory::{self, Directory};
use walgit_format::head::Head;
use walgit_format::list::ChunkList;
use walgit_format::manifest::{MAX_FILES, Manifest, ManifestFile};
use walgit_format::names::RefName;
use walgit_format::{Address, Prior};
use walgit_prefetch::Profile;
use walgit_prefetch::model::Limits;
use walrus_encoding::quilt::{PatchId, Quilt, ReadAt};

/// Takes any bytes; panics if a promise is broken.
pub type Check = fn(&[u8]);

/// All checks by name; a directory of the corpus has the same name.
pub const ALL: [(&str, Check); 13] = [
    ("address", address),
    ("archive", archive),
    ("chain", chain),
    ("chunk", chunk),
    ("directory", directory),
    ("head", head),
    ("list", list),
    ("manifest", manifest),
    ("payload", payload),
    ("prior", prior),
    ("private", private),
    ("profile", profile),
    ("quilt", quilt),
];

/// A reference to a node directly after the header of a blob.
fn reference(raw: &[u8]) -> ChunkRef {
    ChunkRef::raw(
        ChunkHash::of(raw),
        raw.len() as u32,
        Location {
            blob: BlobId::from_bytes([7; 32]),
            offset: 64,
        },
    )
}

/// Any text is an address, a name or an ID that survives its text form, or is refused.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(address) = text.parse::<Address>() {
        let again = address.to_string().parse();
        assert_eq!(again.as_ref(), Ok(&address), "{text:?}");
    }
    if let Ok(name) = text.parse::<RefName>() {
        let above = |part: &str| part.is_empty() || part == "." || part == "..";
        assert!(!name.as_str().split('/').any(above), "{text:?}");
    }
    if let Ok(id) = text.parse::<PatchId>() {
        assert_eq!(id.to_string().parse::<PatchId>().ok(), Some(id));
    }
    if let Ok(id) = text.parse::<ObjectId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let _ = SecretKey::parse(data);
}

/// Parts of a history: a segment, a group, a tree, a tree as git stores it.
pub fn archive(data: &[u8]) {
    let Some((which, raw)) = data.split_first() else {
        return;
    };
    let bytes = Bytes::copy_from_slice(raw);
    match which % 4 {
        0 => {
            let Ok(segment) = Segment::decode(&bytes, &reference(raw)) else {
                return;
            };
            let chunks = segment.chunks.len();
            assert!(segment.trees.iter().all(|group| group.chunk < chunks));
            assert!(segment.tags.iter().all(|chunk| *chunk < chunks));
            for group in &segment.contents {
                let len = segment.chunks[group.chunk].raw_len;
                for at in 0..group.ends.len() {
                    let part = group.part(at).expect("it has as many parts as ends");
                    assert!(part.start <= part.end && part.end <= len);
                }
            }
            let runs = segment.files.iter();
            assert!(
                runs.map(|run| run.first + run.count)
                    .all(|end| end <= chunks)
            );
            assert!(segment.before.checked_add(segment.count()).is_some());
        }
        1 => {
            if let Ok(objects) = decode_group(&bytes) {
                assert!(objects.iter().map(|it| it.len()).sum::<usize>() <= raw.len());
            }
        }
        2 => {
            if let Ok(entries) = decode_tree(&bytes) {
                let again = decode_tree(&encode_tree(&entries).expect("it was read").into());
                assert_eq!(again.expect("it was written just now"), entries);
            }
        }
        _ => {
            let entries = parse_tree(raw, 20).take_while(Option::is_some).flatten();
            let len = entries.map(|it| it.mode.len() + it.name.len() + it.id.len() + 2);
            assert!(len.sum::<usize>() <= raw.len());
        }
    }
}

/// Any response of a Sui node yields objects with the requested IDs, or an error.
pub fn chain(data: &[u8]) {
    let Ok(data) = answer::data(data) else {
        return;
    };
    let asked = [1, 2].map(|n| ObjectId::from_bytes([n; 32]));
    for count in [1, 2] {
        if let Ok(objects) = answer::objects(&data, &asked[..count]) {
            assert_eq!(objects.len(), count);
            objects.iter().zip(asked).for_each(|(object, id)| {
                assert_eq!(object.id, id);
                check_object(object);
            });
        }
    }
    let _ = answer::table(&data, asked[0]);
    // Also as an object without its envelope, so that the fuzzer reaches deeper code.
    check_object(&MoveObject {
        id: asked[0],
        kind: data["kind"].as_str().unwrap_or_default().into(),
        fields: data,
    });
}

fn check_object(object: &MoveObject) {
    let _ = (object.repository(), object.commit(), object.is_commit());
    let _ = object.entry();
}

/// Any stored bytes decode to a chunk of the stated hash and length within its stated
/// size, or are refused.
pub fn chunk(data: &[u8]) {
    let Some((&[a, b, c, codec], stored)) = data.split_first_chunk() else {
        return;
    };
    let mut chunk = reference(stored);
    chunk.raw_len = u32::from_le_bytes([a, b, c, 0]) % (4 << 20);
    chunk.codec = match codec & 3 {
        0 => Codec::Raw,
        1 => Codec::Zstd,
        2 => Codec::Dictionary,
        _ => Codec::Patch,
    };
    let mut stored = stored;
    let mut bases = Vec::new();
    if chunk.codec.has_bases() {
        // The base comes first: its length is three times the next byte.
        let Some((&len, rest)) = stored.split_first() else {
            return;
        };
        let (base, rest) = rest.split_at(rest.len().min(usize::from(len) * 3));
        chunk.bases = Bases::one(reference(base));
        chunk.stored_len = rest.len() as u32;
        bases.push(Bytes::copy_from_slice(base));
        stored = rest;
    }
    if let Ok(raw) = chunk.open(Bytes::copy_from_slice(stored), &bases) {
        assert_eq!(raw.len(), chunk.raw_len as usize);
        assert_eq!(ChunkHash::of(&raw), chunk.hash);
    }
}

/// Any bytes are a directory that keeps its invariants, or are refused.
pub fn directory(data: &[u8]) {
    let raw = Bytes::copy_from_slice(data);
    let Ok(directory) = Directory::decode(&raw, &reference(data)) else {
        return;
    };
    let mut last: Option<&[u8]> = None;
    for (number, entry) in directory.entries().iter().enumerate() {
        assert!(directory::check_name(&entry.name).is_ok());
        assert!(
            last.replace(&entry.name)
                .is_none_or(|before| before < &entry.name[..])
        );
        assert_eq!(directory.find(&entry.name), Some(number));
        assert_eq!(directory.holding(entry.offset), Some(number));
        assert_eq!(
            directory.holding(entry.offset + entry.nodes() - 1),
            Some(number)
        );
    }
}

/// Any bytes are a head or a header, or are refused.
pub fn head(data: &[u8]) {
    let _ = Header::decode(data);
    let raw = Bytes::copy_from_slice(data);
    if let Ok(head) = Head::decode(&raw, &reference(data)) {
        assert!(head.refs.iter().all(|r| r.commit < head.commits.len()));
        let _ = (head.ref_names(), head.commits[0].author.date());
    }
}

/// Any bytes are a chunk list that covers each byte once, or are refused.
pub fn list(data: &[u8]) {
    if let Ok(list) = ChunkList::decode(data, &reference(data)) {
        assert!(list.len() <= i64::MAX as u64);
        for part in 0..list.parts().len() {
            assert_eq!(
                list.holding(list.start(part)),
                Some((part, list.start(part)))
            );
        }
        assert_eq!(list.holding(list.len()), None);
    }
}

/// Any JSON is a manifest within the limits of file count and size, or is refused.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::decode(data) {
        assert!(Manifest::is_likely(data));
        assert!(manifest.files.len() <= MAX_FILES);
        for (_, file) in manifest.files {
            if let ManifestFile::Blob(whole) = file {
                assert!(whole.size <= i64::MAX as u64);
            }
        }
    }
}

/// No payload decrypts that was not encrypted with the key.
pub fn payload(data: &[u8]) {
    let keys = [
        SecretKey::from_bytes([1; 32]),
        SecretKey::from_bytes([2; 32]),
    ];
    if open_payload(&keys, data).is_ok() {
        assert!(is_payload(data));
    }
    assert!(open_payload(&[], data).is_err());
}

/// Any bytes are a prior with a unique encoding and valid ratios, or are refused.
pub fn prior(data: &[u8]) {
    if let Ok(prior) = Prior::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(prior.encode(), data);
        assert!(prior.likeness(&prior) > 0.99);
    }
}

/// No part of a private blob decrypts that was not encrypted with the key; decrypted
/// data are complete blocks that encrypt to the same bytes.
pub fn private(data: &[u8]) {
    let right = PrivateKeys::of(&SecretKey::from_bytes([1; 32]));
    let wrong = PrivateKeys::of(&SecretKey::from_bytes([2; 32]));
    assert!(wrong.open(data).is_err());
    let Ok(header) = PrivateHeader::decode(data) else {
        return;
    };
    assert!(is_private(data) && header.blocks() > 0);
    assert!(matches!(wrong.unlock(&header), Err(PrivateError::WrongKey)));
    let Ok(blob) = right.unlock(&header) else {
        return;
    };
    let body = &data[PRIVATE_HEADER_LEN..];
    for first in [header.blocks(), u32::MAX] {
        assert!(body.is_empty() || blob.open(first, body).is_err());
    }
    if let Ok(plain) = right.open(data) {
        assert_eq!(plain.len() as u64, u64::from(header.blocks()) * BLOCK_LEN);
        assert_eq!(right.seal(&plain).as_deref(), Ok(data));
    }
}

/// Any profile with a valid checksum is read within its limits and survives rewriting,
/// or is refused.
pub fn profile(data: &[u8]) {
    const LIMITS: Limits = Limits {
        transitions: 100,
        paths: 20,
    };
    // Both versions that can be read.
    for version in [1, 2] {
        let mut whole = [&b"WGPROF\0"[..], &[version], data].concat();
        let fnv1a = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let sum = whole.iter().fold(0xcbf2_9ce4_8422_2325, fnv1a);
        whole.extend_from_slice(&sum.to_le_bytes());
        if let Ok(profile) = Profile::decode(&whole, LIMITS) {
            assert!(profile.model.transitions() <= LIMITS.transitions);
            assert!(profile.model.paths() <= LIMITS.paths);
            assert!(Profile::decode(&profile.encode(), LIMITS).is_ok());
        }
    }
}

/// Any quilt yields patches within its columns, or is refused.
pub fn quilt(data: &[u8]) {
    let Ok(quilt) = Quilt::open(Columns(data), (ROWS * COLUMNS * SYMBOL) as u64) else {
        return;
    };
    let Ok(patches) = quilt.index() else {
        return;
    };
    assert!(patches.len() < COLUMNS);
    for patch in patches.iter().take(5) {
        if let Ok(content) = quilt.content(patch) {
            let columns = usize::from(patch.end - patch.start);
            assert!(content.len() <= columns * ROWS * SYMBOL);
        }
    }
}

/// The smallest quilt: this many cells of two bytes.
const ROWS: usize = 334;
const COLUMNS: usize = 667;
const SYMBOL: usize = 2;

/// A quilt whose first columns hold these bytes and whose other columns are empty: the
/// bytes that are read are adjacent, so a short input suffices.
struct Columns<'a>(&'a [u8]);

impl ReadAt for Columns<'_> {
    fn fill(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        for (byte, at) in out.iter_mut().zip(offset as usize..) {
            *byte = self.0.get(column_order_index(at)).copied().unwrap_or(0);
        }
        Ok(())
    }
}

/// The index of a byte of the blob in column order.
fn column_order_index(at: usize) -> usize {
    let (cell, within) = (at / SYMBOL, at % SYMBOL);
    let (row, column) = (cell / COLUMNS, cell % COLUMNS);
    (column * ROWS + row) * SYMBOL + within
}

/// The smallest quilt in column order: the input of [`quilt`].
pub fn columns_of(blob: &[u8]) -> Vec<u8> {
    assert_eq!(blob.len(), ROWS * COLUMNS * SYMBOL, "the smallest quilt");
    let mut columns = vec![0; blob.len()];
    (blob.iter().enumerate()).for_each(|(at, &byte)| columns[column_order_index(at)] = byte);
    columns
}
