//! What git knew beyond the tree, kept in attachments of the head that `ls`
//! and `cat` never fetch: raw commit objects, and the IDs of trees and blobs.
//!
//! Both attachments are streams of records. A chunk of an attachment holds
//! whole records, so each chunk can be read by itself.

use bytes::Bytes;

use super::directory::kind_and_version;
use super::error::MalformedNode;
use super::head::GitId;
use super::wire::{Reader, Write};
use crate::chunk::{ChunkHash, MAX_CHUNK};

const COMMITS_MAGIC: u8 = b'C';
const IDS_MAGIC: u8 = b'I';
const VERSION: u8 = 1;

/// Writes a chunk of raw commit objects (their content, without the
/// `commit LENGTH\0` that git hashes before it).
pub fn encode_commits<'a>(commits: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = vec![COMMITS_MAGIC, VERSION];
    for commit in commits {
        out.string(commit);
    }
    out
}

/// Reads a chunk of raw commit objects.
pub fn decode_commits(raw: &Bytes) -> Result<Vec<Bytes>, MalformedNode> {
    let mut reader = Reader::new(raw);
    kind_and_version(&mut reader, COMMITS_MAGIC, VERSION, "list of git commits")?;
    let mut commits = Vec::new();
    while reader.position() < raw.len() {
        commits.push(raw.slice_ref(reader.bytes(MAX_CHUNK as usize)?));
    }
    Ok(commits)
}

/// The IDs git gave to a directory and to its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryIds {
    /// The directory node they belong to.
    pub directory: ChunkHash,
    /// The ID of the tree.
    pub tree: GitId,
    /// The raw tree object where it cannot be rebuilt from the directory and
    /// these IDs (old file modes); else empty.
    pub raw_tree: Bytes,
    /// An ID for each entry of the directory, in its order.
    pub entries: Vec<GitId>,
}

/// Writes a chunk of IDs.
pub fn encode_ids<'a>(directories: impl IntoIterator<Item = &'a DirectoryIds>) -> Vec<u8> {
    let mut out = vec![IDS_MAGIC, VERSION];
    for ids in directories {
        out.extend_from_slice(ids.directory.as_bytes());
        out.string(&ids.tree.0);
        out.string(&ids.raw_tree);
        out.uint(ids.entries.len() as u64);
        for id in &ids.entries {
            out.string(&id.0);
        }
    }
    out
}

/// Reads a chunk of IDs.
pub fn decode_ids(raw: &Bytes) -> Result<Vec<DirectoryIds>, MalformedNode> {
    let mut reader = Reader::new(raw);
    kind_and_version(&mut reader, IDS_MAGIC, VERSION, "list of git IDs")?;
    let mut directories = Vec::new();
    while reader.position() < raw.len() {
        directories.push(DirectoryIds {
            directory: ChunkHash::from_bytes(reader.array()?),
            tree: GitId(reader.bytes(32)?.to_vec()),
            raw_tree: raw.slice_ref(reader.bytes(MAX_CHUNK as usize)?),
            entries: (0..reader.count(1)?)
                .map(|_| Ok(GitId(reader.bytes(32)?.to_vec())))
                .collect::<Result<_, MalformedNode>>()?,
        });
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn commits_read_as_written(commits in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let raw = Bytes::from(encode_commits(commits.iter().map(|c| &c[..])));
            prop_assert_eq!(decode_commits(&raw).unwrap(), commits);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut junk in proptest::collection::vec(any::<u8>(), 2..400), ids in any::<bool>()) {
            junk[0] = if ids { IDS_MAGIC } else { COMMITS_MAGIC };
            junk[1] = VERSION;
            let raw = Bytes::from(junk);
            let _ = decode_commits(&raw);
            let _ = decode_ids(&raw);
        }
    }
}
