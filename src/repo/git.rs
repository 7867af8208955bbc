//! What git knew beyond the tree, kept in attachments of the head that `ls`
//! and `cat` never fetch: raw commit objects, and the IDs of trees and blobs.
//!
//! Both attachments are streams of records. A chunk of an attachment holds
//! whole records, so each chunk can be read by itself.

use std::collections::{BinaryHeap, HashMap, HashSet};

use bytes::Bytes;

use super::directory::kind_and_version;
use super::head::{GitId, Signature};
use super::malformed::MalformedNode;
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

/// A raw commit object and what was found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCommit {
    /// Its ID, computed from its bytes.
    pub id: GitId,
    bytes: Bytes,
    parents: Vec<GitId>,
    committed: i64,
}

impl Signature {
    /// As git has it.
    pub fn of(found: &gix::actor::SignatureRef<'_>) -> Self {
        let time = found.time().unwrap_or_default();
        let person = [found.name as &[u8], b" <", found.email, b">"].concat();
        Signature {
            person: person.into(),
            seconds: time.seconds,
            offset_minutes: time.offset / 60,
        }
    }
}

impl RawCommit {
    /// Parses a raw commit whose IDs are of the kind of `sample`.
    ///
    /// # Errors
    /// [`MalformedNode::Sum`] when it is not a commit.
    pub fn parse(bytes: Bytes, sample: &GitId) -> Result<Self, MalformedNode> {
        let bad = || MalformedNode::Sum("parts of a git commit");
        let kind = match sample.0.len() {
            32 => gix::hash::Kind::Sha256,
            _ => gix::hash::Kind::Sha1,
        };
        let id =
            gix::objs::compute_hash(kind, gix::objs::Kind::Commit, &bytes).map_err(|_| bad())?;
        let commit = gix::objs::CommitRef::from_bytes(&bytes, kind).map_err(|_| bad())?;
        let parents = commit
            .parents()
            .map(|id| GitId(id.as_slice().to_vec()))
            .collect();
        let committed = commit.time().map_or(0, |time| time.seconds);
        drop(commit);
        Ok(RawCommit {
            id: GitId(id.as_slice().to_vec()),
            parents,
            committed,
            bytes,
        })
    }

    /// As git has it, without its header.
    pub fn raw(&self) -> &Bytes {
        &self.bytes
    }

    /// What its parents are called.
    pub fn parents(&self) -> &[GitId] {
        &self.parents
    }

    /// When it was made, in seconds since 1970.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// Who wrote the change.
    pub fn author(&self) -> Signature {
        self.signature(b"author ")
    }

    /// Who made the commit.
    pub fn committer(&self) -> Signature {
        self.signature(b"committer ")
    }

    fn signature(&self, key: &[u8]) -> Signature {
        let mut lines = self.bytes.split(|&byte| byte == b'\n');
        let line = lines.find_map(|line| line.strip_prefix(key));
        let parsed = line.and_then(|line| gix::actor::SignatureRef::from_bytes(line).ok());
        parsed.map_or_else(Signature::default, |found| Signature::of(&found))
    }

    /// What it says.
    pub fn message(&self) -> &[u8] {
        let end = self.bytes.windows(2).position(|pair| pair == b"\n\n");
        end.map_or(&[], |at| &self.bytes[at + 2..])
    }

    /// The commits that lead to `from`, newest first; those that are not in
    /// `commits` are passed over.
    pub fn ancestry<'a>(
        commits: &'a [RawCommit],
        from: &GitId,
    ) -> impl Iterator<Item = &'a RawCommit> {
        let by_id: HashMap<&GitId, usize> = commits
            .iter()
            .enumerate()
            .map(|(i, c)| (&c.id, i))
            .collect();
        let mut seen: HashSet<usize> = HashSet::new();
        let mut queue: BinaryHeap<(i64, usize)> = BinaryHeap::new();
        if let Some(&first) = by_id.get(from) {
            seen.insert(first);
            queue.push((commits[first].committed, first));
        }
        std::iter::from_fn(move || {
            let (_, next) = queue.pop()?;
            for parent in &commits[next].parents {
                if let Some(&parent) = by_id.get(parent)
                    && seen.insert(parent)
                {
                    queue.push((commits[parent].committed, parent));
                }
            }
            Some(&commits[next])
        })
    }
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
