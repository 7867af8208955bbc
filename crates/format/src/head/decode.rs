//! Decoding of heads.

use bytes::Bytes;

use super::types::{
    Commit, Head, MAGIC, MAX_MESSAGE_BYTES, MAX_PERSON_BYTES, MAX_REF_NAME_BYTES, Ref, RefKind,
    Signature, VERSION,
};
use crate::attachment::{Attachment, check_dictionaries};
use crate::chunk::{BlobId, ChunkRef, budget};
use crate::directory::read_node_count;
use crate::id::CommitId;
use crate::malformed::MalformedNode;
use crate::names::check_ref_name;
use crate::table::{self, NodeOrigin, UsedChunks};
use crate::wire::Reader;

/// Minimum encoded size of a commit, in bytes: every string empty, every number below
/// 128.
const MIN_COMMIT_LEN: usize = 12;

impl Head {
    /// Decodes the head at `reference`.
    pub fn decode(raw: &Bytes, reference: &ChunkRef) -> Result<Self, MalformedNode> {
        let mut reader = Reader::within(raw, budget::HEAD_BYTES);
        reader.header(MAGIC, VERSION, "repository head")?;
        let chunks = table::read(&mut reader, NodeOrigin::of(reference))?;
        let default_branch = reader.copied(MAX_REF_NAME_BYTES)?;
        let mut commits = reader.list(MIN_COMMIT_LEN, |reader| read_commit(reader, &chunks))?;
        if commits.is_empty() {
            return Err(MalformedNode::Sum("commits (there is none)"));
        }
        let refs = reader.list(3, |reader| read_ref(reader, commits.len()))?;
        let is_sorted = |a: &Ref, b: &Ref| (a.kind, &a.name) < (b.kind, &b.name);
        if !refs.is_sorted_by(is_sorted) {
            return Err(MalformedNode::Order("of a branch or tag".into()));
        }
        let mut used = UsedChunks::default();
        let attachments = reader.list(3, |reader| Attachment::read(reader, &chunks, &mut used))?;
        check_dictionaries(&attachments)?;
        let blobs = reader.list(32, |reader| reader.array().map(BlobId::from_bytes))?;
        reader.finish()?;
        let mut kinds = attachments.iter().map(|it: &Attachment| it.kind);
        if let Some(kind) = kinds.find(|kind| kind.has_commit_ids()) {
            for id in commits.iter_mut().flat_map(commit_ids) {
                *id = kind.commit_id(std::mem::take(id));
            }
        }
        Ok(Head {
            default_branch,
            commits,
            refs,
            attachments,
            blobs,
        })
    }
}

fn commit_ids(commit: &mut Commit) -> impl Iterator<Item = &mut CommitId> {
    std::iter::once(&mut commit.id).chain(&mut commit.parents)
}

fn read_commit(reader: &mut Reader<'_>, chunks: &[ChunkRef]) -> Result<Commit, MalformedNode> {
    Ok(Commit {
        id: reader.id()?.into(),
        root: chunks[reader.index(chunks.len())?].clone(),
        nodes: read_node_count(reader)?,
        bytes: reader.uint()?,
        author: read_signature(reader)?,
        committer: read_signature(reader)?,
        message: reader.copied(MAX_MESSAGE_BYTES)?,
        parents: reader.list(1, |reader| Ok(reader.id()?.into()))?,
    })
}

fn read_signature(reader: &mut Reader<'_>) -> Result<Signature, MalformedNode> {
    Ok(Signature {
        person: reader.copied(MAX_PERSON_BYTES)?,
        seconds: reader.sint()?,
        offset_minutes: i32::try_from(reader.sint()?).map_err(|_| MalformedNode::Integer)?,
    })
}

fn read_ref(reader: &mut Reader<'_>, commits: usize) -> Result<Ref, MalformedNode> {
    let kind = match reader.byte()? {
        1 => RefKind::Branch,
        2 => RefKind::Tag,
        _ => return Err(MalformedNode::Sum("kinds of refs")),
    };
    let name = reader.copied(MAX_REF_NAME_BYTES)?;
    check_ref_name(&name)?;
    let commit = reader.index(commits)?;
    Ok(Ref { kind, name, commit })
}
