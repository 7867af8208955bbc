//! Encoding of heads.

use bytes::Bytes;

use super::types::{
    Commit, Head, MAGIC, MAX_MESSAGE_BYTES, MAX_PERSON_BYTES, PlannedCommit, PlannedHead, Ref,
    RefKind, VERSION,
};
use crate::chunk::{ChunkRef, PlannedChunk};
use crate::encode::EncodeError;
use crate::table;
use crate::wire::Write;

impl PlannedHead {
    /// Encodes the head; its stored bytes will end at `end` (as in
    /// [`PlannedLocation::Local`](crate::PlannedLocation::Local)). Truncates messages over
    /// [`MAX_MESSAGE_BYTES`] and persons over 4096 bytes; the raw commits hold them in full.
    ///
    /// # Errors
    /// When the format cannot express the head or a reader would reject it, for example
    /// for a duplicate ref.
    pub fn encode(&self, end: i64) -> Result<Vec<u8>, EncodeError> {
        let raw = Bytes::from(self.encode_unchecked(end)?);
        let read = Head::decode(&raw, &ChunkRef::nominal_node(&raw))?;
        self.check(&read)?;
        Ok(raw.into())
    }

    /// Compares the decoded head with the intended one, except for chunks, which the
    /// table checks.
    fn check(&self, read: &Head) -> Result<(), EncodeError> {
        let differs = |what| Err(EncodeError::Differs(what));
        let same_commit = |(meant, read): (&PlannedCommit, &Commit)| {
            (&meant.id, meant.nodes, meant.bytes, &meant.parents)
                == (&read.id, read.nodes, read.bytes, &read.parents)
                && meant.root.hash == read.root.hash
        };
        if self.commits.len() != read.commits.len()
            || !self.commits.iter().zip(&read.commits).all(same_commit)
        {
            return differs("commits");
        }
        let meant = self.attachments.iter().map(|it| (it.kind, it.chunks.len()));
        if !meant.eq(read.attachments.iter().map(|it| (it.kind, it.chunks.len()))) {
            return differs("attachments");
        }
        if self.sorted_refs() != read.refs || self.default_branch != read.default_branch {
            return differs("branches and tags");
        }
        Ok(())
    }

    fn sorted_refs(&self) -> Vec<Ref> {
        let mut refs = self.refs.clone();
        refs.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        refs
    }

    /// Like [`encode`](Self::encode), but permits heads that a reader may reject; for
    /// tests of readers.
    ///
    /// # Errors
    /// When the format cannot express the head.
    #[doc(hidden)]
    pub fn encode_unchecked(&self, end: i64) -> Result<Vec<u8>, EncodeError> {
        let roots = self.commits.iter().map(|commit| commit.root.clone());
        let attached = self
            .attachments
            .iter()
            .flat_map(|it| it.chunks.iter().cloned());
        let chunks: Vec<PlannedChunk> = roots.chain(attached).collect();
        let mut out = vec![MAGIC, VERSION];
        table::write(&mut out, &chunks, end)?;
        out.string(&self.default_branch);
        out.uint(self.commits.len() as u64);
        for (index, commit) in self.commits.iter().enumerate() {
            out.string(commit.id.bytes());
            out.uint(index as u64);
            out.uint(commit.nodes);
            out.uint(commit.bytes);
            for signature in [&commit.author, &commit.committer] {
                out.string(cut(&signature.person, MAX_PERSON_BYTES));
                out.sint(signature.seconds);
                out.sint(i64::from(signature.offset_minutes));
            }
            out.string(cut(&commit.message, MAX_MESSAGE_BYTES));
            out.uint(commit.parents.len() as u64);
            for parent in &commit.parents {
                out.string(parent.bytes());
            }
        }
        let refs = self.sorted_refs();
        out.uint(refs.len() as u64);
        for r in &refs {
            out.push(match r.kind {
                RefKind::Branch => 1,
                RefKind::Tag => 2,
            });
            out.string(&r.name);
            out.uint(r.commit as u64);
        }
        out.uint(self.attachments.len() as u64);
        let mut first = self.commits.len() as u64;
        for attachment in &self.attachments {
            out.uint(attachment.kind.number());
            out.uint(first);
            out.uint(attachment.chunks.len() as u64);
            first += attachment.chunks.len() as u64;
        }
        let mut blobs = self.blobs.clone();
        blobs.sort();
        blobs.dedup();
        out.uint(blobs.len() as u64);
        for blob in &blobs {
            out.extend_from_slice(blob.as_bytes());
        }
        Ok(out)
    }
}

fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    &bytes[..bytes.len().min(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlannedLocation;
    use crate::attachment::{Attachment, AttachmentKind};
    use crate::chunk::{BlobId, Chunk, ChunkHash};
    use crate::head::{MAX_REF_NAME_BYTES, Signature};
    use crate::id::{CommitId, GitId, ObjectId};
    use proptest::prelude::*;

    fn root(seed: u8) -> PlannedChunk {
        Chunk::raw(
            ChunkHash::of(&[seed]),
            10,
            PlannedLocation::Local(i64::from(seed)),
        )
    }

    fn any_id() -> impl Strategy<Value = CommitId> {
        prop_oneof![
            Just(CommitId::None),
            prop_oneof![Just(20usize), Just(32), 0usize..40]
                .prop_map(|len| CommitId::Git(GitId(vec![6; len]))),
            any::<[u8; 32]>().prop_map(|id| CommitId::Manifest(BlobId::from_bytes(id))),
            any::<[u8; 32]>().prop_map(|id| CommitId::Object(ObjectId::from_bytes(id))),
        ]
    }

    prop_compose! {
        fn any_commit()(
            id in any_id(),
            seed in any::<u8>(),
            nodes in prop_oneof![1u64..9, any::<u64>()],
            bytes in any::<u64>(),
            seconds in any::<i64>(),
            offset_minutes in any::<i32>(),
            person in prop_oneof![Just(3usize), Just(MAX_PERSON_BYTES + 1)],
            message in prop_oneof![Just(5usize), Just(MAX_MESSAGE_BYTES + 1)],
            parents in proptest::collection::vec(any_id(), 0..3),
        ) -> PlannedCommit {
            let signature = Signature {
                person: vec![b'p'; person].into(),
                seconds,
                offset_minutes,
            };
            PlannedCommit {
                id,
                root: root(seed),
                nodes,
                bytes,
                author: signature.clone(),
                committer: signature,
                message: vec![b'm'; message].into(),
                parents,
            }
        }
    }

    fn any_ref() -> impl Strategy<Value = Ref> {
        let name = prop_oneof!["[ab]", "[./]{1,3}", Just("x/".repeat(600) + "x")];
        (any::<bool>(), name, 0usize..3).prop_map(|(branch, name, commit)| Ref {
            kind: if branch {
                RefKind::Branch
            } else {
                RefKind::Tag
            },
            name: name.into(),
            commit,
        })
    }

    prop_compose! {
        fn any_head()(
            commits in proptest::collection::vec(any_commit(), 0..3),
            refs in proptest::collection::vec(any_ref(), 0..3),
            kinds in proptest::collection::vec(prop_oneof![Just(3u64), 1u64..12], 0..2),
            default_branch in prop_oneof![Just(4usize), Just(MAX_REF_NAME_BYTES + 1)],
            blobs in proptest::collection::vec(any::<u8>(), 0..3),
        ) -> PlannedHead {
            PlannedHead {
                default_branch: vec![b'd'; default_branch].into(),
                commits,
                refs,
                attachments: kinds.into_iter().map(|kind| Attachment {
                    kind: match kind {
                        3 => AttachmentKind::Manifests,
                        other => AttachmentKind::Other(other),
                    },
                    chunks: vec![root(kind as u8)],
                }).collect(),
                blobs: blobs.into_iter().map(|fill| BlobId::from_bytes([fill; 32])).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_heads_decode_as_encoded_or_are_refused(head in any_head(), end in -9i64..9) {
            let Ok(raw) = head.encode(end) else { return Ok(()) };
            let raw = Bytes::from(raw);
            let read = Head::decode(&raw, &ChunkRef::nominal_node(&raw)).unwrap();
            prop_assert_eq!(&read.default_branch[..], &head.default_branch[..]);
            prop_assert_eq!(read.refs, head.sorted_refs());
            for (read, commit) in read.commits.iter().zip(&head.commits) {
                prop_assert_eq!(&read.id, &commit.id);
                prop_assert_eq!(&read.parents, &commit.parents);
                prop_assert_eq!((read.nodes, read.bytes), (commit.nodes, commit.bytes));
                prop_assert_eq!(read.author.seconds, commit.author.seconds);
                prop_assert_eq!(read.author.offset_minutes, commit.author.offset_minutes);
                prop_assert_eq!(&read.message[..], cut(&commit.message, MAX_MESSAGE_BYTES));
                prop_assert_eq!(&read.author.person[..], cut(&commit.author.person, MAX_PERSON_BYTES));
                prop_assert_eq!(read.root.hash, commit.root.hash);
                let PlannedLocation::Local(at) = commit.root.location else { unreachable!() };
                prop_assert_eq!(read.root.location.offset as i64, at - end);
            }
        }
    }

    #[test]
    fn a_duplicate_branch_is_refused() {
        let commit = PlannedCommit {
            id: CommitId::None,
            root: root(1),
            nodes: 1,
            bytes: 0,
            author: Signature::default(),
            committer: Signature::default(),
            message: Bytes::new(),
            parents: Vec::new(),
        };
        let main = Ref {
            kind: RefKind::Branch,
            name: "main".into(),
            commit: 0,
        };
        let head = PlannedHead {
            commits: vec![commit],
            refs: vec![main.clone(), main],
            ..PlannedHead::default()
        };
        let refused = head.encode(0);
        assert!(
            matches!(refused, Err(EncodeError::Refused(_))),
            "{refused:?}"
        );
    }
}
