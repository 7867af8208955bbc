//! Chunks of raw commit objects.
//!
//! Half of a commit is redundant or random: its parents are usually earlier commits, and
//! signatures compress badly unless they are adjacent. So a chunk encodes parents as
//! distances to earlier commits, and stores all signatures at the end.

use std::collections::HashMap;

use bytes::Bytes;

use super::encode::{EncodeError, check_len};
use super::git::RawCommit;
use super::id::GitId;
use super::malformed::MalformedNode;
use super::wire::{Reader, Write};
use crate::chunk::MAX_CHUNK;

const MAGIC: u8 = b'C';
/// Unmodified commits, one after the other.
const VERSION_PLAIN: u8 = 1;
/// Commits without their parents and signatures, which are encoded separately.
const VERSION_FOLDED: u8 = 2;
/// Most parents of all commits of a chunk: one byte of input expands to a line.
const MAX_PARENTS: usize = 1 << 20;
/// Length of a parent line with the longest ID, in bytes.
const PARENT_LINE_LEN: usize = 7 + 64 + 1;
/// Minimum length of a commit, in bytes: its line `tree ID`.
const MIN_BODY_LEN: usize = 5 + 40 + 1;
/// Memory of an ID, including its allocation.
type ParsedId = (GitId, [u8; 32 + 16]);
/// Prefix of a parent line.
const PARENT_PREFIX: &[u8] = b"parent ";

/// Encodes a chunk of commits from their IDs and raw objects without the `commit
/// LENGTH\0` header that git hashes.
///
/// # Errors
/// When the commits do not fit into one chunk, or do not decode to the same bytes.
pub fn encode_commits<'a>(
    commits: impl IntoIterator<Item = (&'a GitId, &'a [u8])>,
) -> Result<Vec<u8>, EncodeError> {
    let commits: Vec<(&GitId, &[u8])> = commits.into_iter().collect();
    let chunk = Bytes::from(fold_commits(&commits));
    check_len("a chunk of commits", chunk.len(), MAX_CHUNK as usize)?;
    if let Some((sample, _)) = commits.first() {
        let read = decode_commits(&chunk, sample)?;
        let read = read.iter().map(|commit| &commit.raw()[..]);
        if !read.eq(commits.iter().map(|(_, raw)| *raw)) {
            return Err(EncodeError::Differs("commits"));
        }
    }
    Ok(chunk.into())
}

fn fold_commits(commits: &[(&GitId, &[u8])]) -> Vec<u8> {
    let mut places: HashMap<&GitId, usize> = HashMap::new();
    let (mut out, mut signatures) = (Vec::new(), Vec::new());
    for (number, &(id, raw)) in commits.iter().enumerate() {
        let folded = Folded::of(raw).filter(|folded| folded.unfold() == raw);
        let folded = folded.unwrap_or_else(|| Folded {
            parents: Vec::new(),
            signature: (0, Vec::new()),
            body: raw.to_vec(),
        });
        out.uint(folded.parents.len() as u64);
        for parent in &folded.parents {
            match places.get(parent) {
                Some(place) => out.uint((number - place) as u64),
                None => {
                    out.uint(0);
                    out.string(&parent.0);
                }
            }
        }
        let (at, signature) = folded.signature;
        out.uint(signature.len() as u64);
        if !signature.is_empty() {
            out.uint(at as u64);
            signatures.extend_from_slice(&signature);
        }
        out.string(&folded.body);
        places.insert(id, number);
    }
    let mut chunk = vec![MAGIC, VERSION_FOLDED];
    chunk.uint(commits.len() as u64);
    chunk.extend_from_slice(&out);
    chunk.extend_from_slice(&signatures);
    chunk
}

/// Decodes a chunk of commits with IDs of the same hash as `sample`.
pub fn decode_commits(raw: &Bytes, sample: &GitId) -> Result<Vec<RawCommit>, MalformedNode> {
    let mut reader = Reader::new(raw);
    match (reader.byte()?, reader.byte()?) {
        (MAGIC, VERSION_PLAIN) => {
            let mut commits = Vec::new();
            while reader.position() < raw.len() {
                let bytes = reader.slice(raw, MAX_CHUNK as usize)?;
                let commit = RawCommit::parse(bytes, sample)?;
                reader.charge::<[RawCommit; 2]>(1)?;
                reader.charge::<ParsedId>(commit.parents().len() + 1)?;
                commits.push(commit);
            }
            Ok(commits)
        }
        (MAGIC, VERSION_FOLDED) => decode_folded(reader, sample),
        (MAGIC, version) => Err(MalformedNode::Version(version)),
        (found, _) => Err(MalformedNode::Kind {
            expected: "list of git commits",
            found,
        }),
    }
}

fn decode_folded(mut reader: Reader<'_>, sample: &GitId) -> Result<Vec<RawCommit>, MalformedNode> {
    let bad = || MalformedNode::Sum("parts of a git commit");
    let count = reader.count::<(FoldedCommit<'_>, RawCommit, ParsedId)>(3 + MIN_BODY_LEN)?;
    let mut folded: Vec<FoldedCommit<'_>> = Vec::with_capacity(count);
    let mut remaining_parents = MAX_PARENTS;
    for number in 0..count {
        let mut parents = Vec::new();
        let more = reader.count::<(Parent, [ParsedId; 2], [u8; PARENT_LINE_LEN])>(1)?;
        remaining_parents = remaining_parents.checked_sub(more).ok_or_else(bad)?;
        for _ in 0..more {
            parents.push(match reader.uint()? {
                0 => Parent::Named(reader.id()?),
                back => {
                    let back = usize::try_from(back).map_err(|_| bad())?;
                    Parent::Index(number.checked_sub(back).ok_or_else(bad)?)
                }
            });
        }
        let signature = match reader.uint32()? as usize {
            0 => (0, 0),
            len => (reader.uint32()? as usize, len),
        };
        let body = reader.bytes(MAX_CHUNK as usize)?;
        reader.charge::<u8>(body.len())?;
        folded.push((parents, signature, body));
    }
    let mut commits: Vec<RawCommit> = Vec::with_capacity(count);
    for (parents, (at, len), body) in folded {
        let parents = parents.into_iter().map(|parent| match parent {
            Parent::Named(id) => id,
            // Precedes this commit, so it is already decoded.
            Parent::Index(number) => commits[number].id.clone(),
        });
        let assembled = Folded {
            parents: parents.collect(),
            signature: (at, reader.take(len)?.to_vec()),
            body: body.to_vec(),
        };
        if at > assembled.body.len() {
            return Err(bad());
        }
        commits.push(RawCommit::parse(assembled.unfold().into(), sample)?);
    }
    reader.finish()?;
    Ok(commits)
}

/// A commit in a chunk: its parents, position and length of its signature, its body.
type FoldedCommit<'a> = (Vec<Parent>, (usize, usize), &'a [u8]);

/// A parent of a commit.
enum Parent {
    /// By ID.
    Named(GitId),
    /// By index of an earlier commit.
    Index(usize),
}

/// A commit split into its parts.
struct Folded {
    parents: Vec<GitId>,
    /// Position in the body, and bytes.
    signature: (usize, Vec<u8>),
    body: Vec<u8>,
}

impl Folded {
    /// Splits a commit; `None` if its layout differs from git's.
    fn of(raw: &[u8]) -> Option<Self> {
        let tree = raw.iter().position(|&byte| byte == b'\n')? + 1;
        let mut parents = Vec::new();
        let mut rest = &raw[tree..];
        while let Some(line) = rest.strip_prefix(PARENT_PREFIX) {
            let end = line.iter().position(|&byte| byte == b'\n')?;
            parents.push(GitId::from_hex(&line[..end])?);
            rest = &line[end + 1..];
        }
        let mut body = [&raw[..tree], rest].concat();
        let signature = signature(&body).map_or((0, Vec::new()), |range| {
            (range.start, body.drain(range).collect())
        });
        Some(Folded {
            parents,
            signature,
            body,
        })
    }

    /// Reassembles the raw commit.
    fn unfold(&self) -> Vec<u8> {
        let (at, signature) = &self.signature;
        let mut assembled = self.body.clone();
        assembled.splice(*at..*at, signature.iter().copied());
        let tree = assembled.iter().position(|&byte| byte == b'\n');
        let tree = tree.map_or(assembled.len(), |at| at + 1);
        let mut lines = Vec::new();
        for parent in &self.parents {
            lines.extend_from_slice(format!("parent {parent}\n").as_bytes());
        }
        assembled.splice(tree..tree, lines);
        assembled
    }
}

/// Returns the range of a commit's signature: its line and the continuation lines.
fn signature(body: &[u8]) -> Option<std::ops::Range<usize>> {
    let head = body.windows(2).position(|pair| pair == b"\n\n")? + 1;
    let lines = body[..head].split_inclusive(|&byte| byte == b'\n');
    let (mut at, mut found) = (0, None);
    for line in lines {
        match &mut found {
            None if line.starts_with(b"gpgsig") => found = Some(at..at + line.len()),
            Some(range) if line.starts_with(b" ") && range.end == at => range.end += line.len(),
            _ => {}
        }
        at += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> GitId {
        GitId(vec![0; 20])
    }

    fn commit(parents: &[GitId], signature: &str, message: &str) -> Vec<u8> {
        let mut raw = format!("tree {}\n", "a1".repeat(20));
        for parent in parents {
            raw.push_str(&format!("parent {parent}\n"));
        }
        raw.push_str("author A <a@b> 1 +0000\ncommitter C <c@d> 2 +0100\n");
        raw.push_str(signature);
        raw.push_str(&format!("\n{message}"));
        raw.into_bytes()
    }

    proptest! {
        #[test]
        fn commits_read_as_written(
            shapes in proptest::collection::vec(
                (proptest::collection::vec(0usize..12, 0..3), any::<bool>(), "[a-z\n ]{0,40}"),
                0..12,
            )
        ) {
            let mut commits: Vec<(GitId, Vec<u8>)> = Vec::new();
            for (parents, signed, message) in shapes {
                let parents: Vec<GitId> = (parents.into_iter())
                    .map(|at| commits.get(at).map_or(GitId(vec![7; 20]), |(id, _)| id.clone()))
                    .collect();
                let signature = "gpgsig -----BEGIN\n abc\n \n def\n";
                let raw = commit(&parents, if signed { signature } else { "" }, &message);
                let parsed = RawCommit::parse(raw.clone().into(), &sample()).unwrap();
                commits.push((parsed.id, raw));
            }
            let chunk = encode_commits(commits.iter().map(|(id, raw)| (id, &raw[..]))).unwrap();
            let read = decode_commits(&chunk.into(), &sample()).unwrap();
            prop_assert_eq!(read.len(), commits.len());
            for (read, (id, raw)) in read.iter().zip(&commits) {
                prop_assert_eq!(&read.id, id);
                prop_assert_eq!(read.raw(), raw);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut junk in proptest::collection::vec(any::<u8>(), 2..400), folded in any::<bool>()) {
            junk[0] = MAGIC;
            junk[1] = if folded { VERSION_FOLDED } else { VERSION_PLAIN };
            let _ = decode_commits(&junk.into(), &sample());
        }

        #[test]
        fn arbitrary_commits_decode_as_encoded(raw in "(tree [0-9a-f]{40}\n)?(parent [0-9a-fA-F]{39,41}\n){0,2}(gpgsig x\n( y\n)?){0,2}(\n)?[a-z \n]{0,20}") {
            let raw = raw.into_bytes();
            if let Some(folded) = Folded::of(&raw).filter(|folded| folded.unfold() == raw) {
                prop_assert!(folded.body.len() <= raw.len());
            }
            if RawCommit::parse(raw.clone().into(), &sample()).is_ok() {
                let chunk = encode_commits([(&sample(), &raw[..])]).unwrap();
                let read = decode_commits(&chunk.into(), &sample()).unwrap();
                prop_assert_eq!(read[0].raw(), &raw);
            }
        }
    }
}
