//! Git data beyond the tree, in attachments of the head that `ls` and `cat` never fetch:
//! raw commit objects ([`super::commits`]), and the IDs of trees and blobs.
//!
//! Both attachments are streams of records. Each chunk holds whole records, so it can be
//! decoded alone.

use std::collections::{BinaryHeap, HashMap, HashSet};

use bytes::Bytes;

use super::encode::{EncodeError, check_len};
use super::head::Signature;
use super::id::GitId;
use super::malformed::MalformedNode;
use super::wire::{Reader, Write};
use crate::chunk::{ChunkHash, MAX_CHUNK};

const IDS_MAGIC: u8 = b'I';
const VERSION: u8 = 1;
/// Longest ID, in bytes: SHA-256.
const MAX_ID_BYTES: usize = 32;

/// A raw commit object and its parsed fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCommit {
    /// ID, computed from the bytes.
    pub id: GitId,
    bytes: Bytes,
    tree: GitId,
    parents: Vec<GitId>,
    committed: i64,
}

impl Signature {
    /// Parses a line of a commit after its keyword as far as possible: git accepts any
    /// line. Without a `>` the whole line is the person; an invalid time or time zone is
    /// 0.
    pub fn parse(line: &[u8]) -> Self {
        let end = line.iter().rposition(|&byte| byte == b'>');
        let (person, when) = line.split_at(end.map_or(line.len(), |at| at + 1));
        let mut words = (when.split(u8::is_ascii_whitespace)).filter(|word| !word.is_empty());
        let mut number = || std::str::from_utf8(words.next()?).ok();
        let seconds = number().and_then(|word| word.parse().ok());
        let zone = number().and_then(|word| word.parse::<i32>().ok());
        let minutes = zone.map(|zone| (zone / 100, zone % 100));
        let offset = minutes.filter(|(hours, rest)| hours.abs() < 24 && rest.abs() < 60);
        Signature {
            person: Bytes::copy_from_slice(person.trim_ascii()),
            seconds: seconds.unwrap_or_default(),
            offset_minutes: offset.map_or(0, |(hours, rest)| hours * 60 + rest),
        }
    }
}

/// Parses an ID from digits of either case, as git does.
fn hex_id(digits: &[u8]) -> Option<GitId> {
    GitId::from_hex(&digits.to_ascii_lowercase())
}

/// Returns the target of an annotated tag, if git can parse it.
pub fn tag_target(raw: &[u8]) -> Option<GitId> {
    let mut lines = raw.split(|&byte| byte == b'\n');
    let target = hex_id(lines.next()?.strip_prefix(b"object ")?)?;
    lines.next()?.strip_prefix(b"type ")?;
    Some(target)
}

/// Returns the type of an annotated tag's target, for example `commit`.
pub fn tag_kind(raw: &[u8]) -> Option<&[u8]> {
    let mut lines = raw.split(|&byte| byte == b'\n');
    lines.nth(1)?.strip_prefix(b"type ")
}

/// Returns the tree and the parents of a commit. Git requires these lines and no others.
fn tree_and_parents(raw: &[u8], id_len: usize) -> Option<(GitId, Vec<GitId>)> {
    let id = |line: &[u8]| hex_id(line).filter(|id| id.0.len() == id_len);
    let mut lines = raw.split_inclusive(|&byte| byte == b'\n');
    let first = lines.next()?.strip_suffix(b"\n")?;
    let tree = id(first.strip_prefix(b"tree ")?)?;
    let mut parents = Vec::new();
    for line in lines {
        let Some(parent) = line.strip_prefix(b"parent ") else {
            break;
        };
        parents.push(id(parent.strip_suffix(b"\n")?)?);
    }
    Some((tree, parents))
}

impl RawCommit {
    /// Returns its size in memory, in bytes.
    pub fn weight(&self) -> u64 {
        let ids = self.parents.len() + 2;
        (size_of::<Self>() + self.bytes.len() + ids * (size_of::<GitId>() + 48)) as u64
    }

    /// Parses a raw commit with IDs of the same hash as `sample`, no more strictly than
    /// git: persons, times and messages may be anything.
    ///
    /// # Errors
    /// [`MalformedNode::Sum`] if it has no tree, or malformed parents.
    pub fn parse(bytes: Bytes, sample: &GitId) -> Result<Self, MalformedNode> {
        let bad = || MalformedNode::Sum("parts of a git commit");
        let kind = match sample.0.len() {
            32 => gix_hash::Kind::Sha256,
            _ => gix_hash::Kind::Sha1,
        };
        let mut hasher = gix_hash::hasher(kind);
        hasher.update(format!("commit {}\0", bytes.len()).as_bytes());
        hasher.update(&bytes);
        let id = hasher.try_finalize().map_err(|_| bad())?;
        let (tree, parents) = tree_and_parents(&bytes, kind.len_in_bytes()).ok_or_else(bad)?;
        let mut commit = RawCommit {
            id: GitId(id.as_slice().to_vec()),
            tree,
            parents,
            committed: 0,
            bytes,
        };
        commit.committed = commit.committer().seconds;
        Ok(commit)
    }

    /// Returns the ID of its tree.
    pub fn tree(&self) -> &GitId {
        &self.tree
    }

    /// Returns the git object without its header.
    pub fn raw(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the IDs of its parents.
    pub fn parents(&self) -> &[GitId] {
        &self.parents
    }

    /// Returns the commit time, in seconds since 1970.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// Returns the author of the change.
    pub fn author(&self) -> Signature {
        self.signature(b"author ")
    }

    /// Returns the committer of the change.
    pub fn committer(&self) -> Signature {
        self.signature(b"committer ")
    }

    fn signature(&self, key: &[u8]) -> Signature {
        let header = self.bytes.split(|&byte| byte == b'\n');
        let mut header = header.take_while(|line| !line.is_empty());
        let line = header.find_map(|line| line.strip_prefix(key));
        line.map_or_else(Signature::default, Signature::parse)
    }

    /// Returns the message.
    pub fn message(&self) -> &[u8] {
        let end = self.bytes.windows(2).position(|pair| pair == b"\n\n");
        end.map_or(&[], |at| &self.bytes[at + 2..])
    }

    /// Returns the ancestors of `from`, newest first, skipping those that are not in
    /// `commits`.
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

/// The git IDs of a directory and of its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryIds {
    /// The directory node.
    pub directory: ChunkHash,
    /// The ID of the tree.
    pub tree: GitId,
    /// The raw tree object if the directory and these IDs cannot reproduce it (old file
    /// modes); otherwise empty.
    pub raw_tree: Bytes,
    /// IDs of the entries, in the order of the directory.
    pub entries: Vec<GitId>,
}

impl DirectoryIds {
    /// Returns an upper bound of its size in a chunk, in bytes.
    pub fn encoded_len(&self) -> usize {
        let entries: usize = self.entries.iter().map(|id| id.0.len() + 1).sum();
        // A hash, and three lengths of at most ten bytes.
        32 + self.tree.0.len() + self.raw_tree.len() + entries + 30
    }
}

/// Encodes a chunk of IDs.
///
/// # Errors
/// [`EncodeError::TooLong`] for an ID that is too long, or when the IDs do not fit into
/// one chunk.
pub fn encode_ids<'a>(
    directories: impl IntoIterator<Item = &'a DirectoryIds>,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![IDS_MAGIC, VERSION];
    for ids in directories {
        out.extend_from_slice(ids.directory.as_bytes());
        out.string(&ids.tree.0);
        out.string(&ids.raw_tree);
        out.uint(ids.entries.len() as u64);
        for id in [&ids.tree].into_iter().chain(&ids.entries) {
            check_len("a git ID", id.0.len(), MAX_ID_BYTES)?;
        }
        for id in &ids.entries {
            out.string(&id.0);
        }
    }
    check_len("a list of git IDs", out.len(), MAX_CHUNK as usize)?;
    Ok(out)
}

/// Decodes a chunk of IDs.
pub fn decode_ids(raw: &Bytes) -> Result<Vec<DirectoryIds>, MalformedNode> {
    let mut reader = Reader::new(raw);
    reader.header(IDS_MAGIC, VERSION, "list of git IDs")?;
    let mut directories = Vec::new();
    while reader.position() < raw.len() {
        reader.charge::<[DirectoryIds; 2]>(1)?;
        directories.push(DirectoryIds {
            directory: ChunkHash::from_bytes(reader.array()?),
            tree: reader.id()?,
            raw_tree: reader.slice(raw, MAX_CHUNK as usize)?,
            entries: reader.list(1, Reader::id)?,
        });
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commit(rest: &[u8]) -> Result<RawCommit, MalformedNode> {
        let head = format!("tree {}\nparent {}\n", "1".repeat(40), "AB".repeat(20));
        let raw = [head.as_bytes(), rest].concat();
        RawCommit::parse(raw.into(), &GitId(vec![0; 20]))
    }

    #[test]
    fn a_commit_parses_with_any_headers_after_its_parents() {
        let person = |raw: &[u8]| {
            let author = commit(raw).unwrap().author();
            let text = String::from_utf8_lossy(&author.person).into_owned();
            (text, author.seconds, author.offset_minutes)
        };
        for (raw, name, seconds, minutes) in [
            ("author A <a@x> 5 +0130\n\nhi\n", "A <a@x>", 5, 90),
            ("author A <a@x> -5 -0200\n\nhi", "A <a@x>", -5, -120),
            ("author A <a@x\n> 5 +0000\n\nhi", "A <a@x", 0, 0),
            ("author A <a@x>\n\n", "A <a@x>", 0, 0),
            (
                "author A <a@x> 99999999999999999999 +0000\n",
                "A <a@x>",
                0,
                0,
            ),
            ("author A <a@x> 7 +99999999\n", "A <a@x>", 7, 0),
            ("author A <a@x> 7 zone\n", "A <a@x>", 7, 0),
            ("author \n", "", 0, 0),
            ("unknown header\n\nauthor no <n@x> 1 +0000\n", "", 0, 0),
            ("", "", 0, 0),
        ] {
            assert_eq!(
                person(raw.as_bytes()),
                (name.into(), seconds, minutes),
                "{raw:?}"
            );
        }
        let found = commit(b"author \xff <a@x> 1 +0000\n\none\n\ntwo\0\r").unwrap();
        assert_eq!(found.message(), b"one\n\ntwo\0\r");
        assert_eq!(found.parents(), [GitId(vec![0xab; 20])]);
        assert_eq!(found.tree(), &GitId(vec![0x11; 20]));
    }

    #[test]
    fn a_commit_that_git_rejects_is_refused() {
        let sample = GitId(vec![0; 20]);
        let tree = "1".repeat(40);
        for raw in [
            String::new(),
            format!("tree {tree}"),
            format!("tree {}\n", "1".repeat(64)),
            format!("parent {tree}\n"),
            format!("tree {tree}\nparent {}\n", "1".repeat(39)),
            format!("tree {tree}\nparent {}", "1".repeat(40)),
        ] {
            let parsed = RawCommit::parse(raw.clone().into(), &sample);
            assert!(parsed.is_err(), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut junk in proptest::collection::vec(any::<u8>(), 2..400)) {
            junk[0] = IDS_MAGIC;
            junk[1] = VERSION;
            let _ = decode_ids(&Bytes::from(junk));
        }
    }
}
