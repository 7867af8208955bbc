//! The head of a repository: commits, branches, tags, and the locations of attachments
//! such as the git history.
//!
//! `?root=` in an address is the hash of a head; everything else is reachable from it by
//! hashes. A head is immutable: moving a branch creates a new head in a new blob.

use bytes::Bytes;

use super::directory::{MAX_NODES, kind_and_version};
use super::encode::EncodeError;
use super::malformed::MalformedNode;
use super::table::{self, Origin};
use super::wire::{Reader, Write};
use crate::chunk::budget::{self, MAX_DICTIONARIES, MAX_DICTIONARY_BYTES};
use crate::chunk::{BlobId, ChunkRef, PlannedChunk};

const MAGIC: u8 = b'H';
const VERSION: u8 = 1;

/// Longest branch or tag name, in bytes.
pub const MAX_REF_NAME: usize = 1024;
/// Longest commit message in a head, in bytes; an attachment stores the complete raw
/// commit.
pub const MAX_MESSAGE: usize = 16 << 10;
/// Length of a part of a manifest in [`AttachmentKind::Manifests`], in bytes.
pub const MANIFEST_PART: usize = 1 << 20;
/// Longest profile that a repository carries, in bytes.
pub const MAX_SHIPPED: usize = 1 << 20;
const MAX_PERSON: usize = 4096;
/// Minimum encoded size of a commit, in bytes: every string empty, every number below
/// 128.
const LEAST_COMMIT: usize = 12;

/// The git ID of a commit (20 or 32 bytes); empty for a plain folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct GitId(pub Vec<u8>);

impl GitId {
    /// Parses lower-case hexadecimal digits; `None` if they are not a git ID.
    pub fn from_hex(digits: &[u8]) -> Option<Self> {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if !matches!(digits.len(), 40 | 64) {
            return None;
        }
        let bytes = digits.chunks_exact(2).map(|pair| {
            let (high, low) = (value(pair[0])?, value(pair[1])?);
            Some(high << 4 | low)
        });
        bytes.collect::<Option<_>>().map(GitId)
    }
}

impl std::fmt::Display for GitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The ID of a commit in the system that it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum CommitId {
    /// No ID: a plain folder.
    #[default]
    None,
    /// A git ID.
    Git(GitId),
    /// The blob of its manifest.
    Manifest(BlobId),
    /// Its object on the Sui chain.
    Object([u8; 32]),
}

impl CommitId {
    /// Whether the commit has no ID.
    pub fn is_none(&self) -> bool {
        *self == CommitId::None
    }

    /// Returns its git ID; empty if it has none.
    pub fn git(&self) -> GitId {
        match self {
            CommitId::Git(id) => id.clone(),
            _ => GitId::default(),
        }
    }

    /// The encoded ID.
    fn bytes(&self) -> &[u8] {
        match self {
            CommitId::None => &[],
            CommitId::Git(id) => &id.0,
            CommitId::Manifest(blob) => blob.as_bytes(),
            CommitId::Object(id) => id,
        }
    }

    /// Converts the ID of a commit that git did not make: the head's attachment
    /// determines its type.
    fn attached_to(self, kind: AttachmentKind) -> Self {
        let CommitId::Git(GitId(bytes)) = &self else {
            return self;
        };
        match (<[u8; 32]>::try_from(&bytes[..]), kind) {
            (Ok(id), AttachmentKind::Manifests) => CommitId::Manifest(BlobId::from_bytes(id)),
            (Ok(id), AttachmentKind::Objects) => CommitId::Object(id),
            _ => self,
        }
    }
}

impl From<GitId> for CommitId {
    fn from(id: GitId) -> Self {
        match id.0.is_empty() {
            true => CommitId::None,
            false => CommitId::Git(id),
        }
    }
}

impl std::fmt::Display for CommitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CommitId::None => Ok(()),
            CommitId::Git(id) => id.fmt(f),
            CommitId::Manifest(blob) => blob.fmt(f),
            CommitId::Object(id) => {
                f.write_str("0x")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// The author or committer of a commit, and the time.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Signature {
    /// `Name <email>`, as bytes because git does not require UTF-8.
    pub person: Bytes,
    /// Seconds since 1970, UTC.
    pub seconds: i64,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

impl Signature {
    /// Formats the time as `2025-05-24 03:57:07 +0000`, or as plain seconds if it is
    /// outside the calendar's range.
    pub fn date(&self) -> String {
        let offset = jiff::tz::Offset::from_seconds(self.offset_minutes.saturating_mul(60));
        let at = jiff::Timestamp::from_second(self.seconds);
        match (offset, at) {
            (Ok(offset), Ok(at)) => (at.to_zoned(jiff::tz::TimeZone::fixed(offset)))
                .strftime("%Y-%m-%d %H:%M:%S %z")
                .to_string(),
            _ => format!("{} seconds after 1970", self.seconds),
        }
    }
}

/// A commit whose tree can be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// ID of the commit.
    pub id: CommitId,
    /// Its root directory.
    pub root: ChunkRef,
    /// Nodes in the tree, the root included.
    pub nodes: u64,
    /// Bytes of content in the tree.
    pub bytes: u64,
    /// Author of the change.
    pub author: Signature,
    /// Committer of the change.
    pub committer: Signature,
    /// Message, truncated to [`MAX_MESSAGE`].
    pub message: Bytes,
    /// IDs of the parents.
    pub parents: Vec<CommitId>,
}

impl Commit {
    fn attached_to(self, kind: AttachmentKind) -> Self {
        let parents = self.parents.into_iter();
        Commit {
            id: self.id.attached_to(kind),
            parents: parents.map(|id| id.attached_to(kind)).collect(),
            ..self
        }
    }
}

/// The kind of a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefKind {
    /// A branch, which moves.
    Branch,
    /// A tag, which does not move.
    Tag,
}

/// A branch or tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    /// Branch or tag.
    pub kind: RefKind,
    /// Name without `refs/heads/` or `refs/tags/`.
    pub name: Bytes,
    /// Index of its commit in the head.
    pub commit: usize,
}

/// The kind of an attachment: optional data that `ls` and `cat` never fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachmentKind {
    /// Raw git commit objects: see `super::git`.
    GitCommits,
    /// Git IDs of the nodes of directories: see `super::git`.
    GitIds,
    /// Manifests of WalGit's own command line, unchanged, in the order of the commits:
    /// each in parts of [`MANIFEST_PART`] bytes, of which the last is shorter. The
    /// manifest blobs are then the commit IDs.
    Manifests,
    /// IDs of commit objects on the Sui chain, one per line. They are then the commit
    /// IDs.
    Objects,
    /// Files that changed together: see `super::prior`. One chunk.
    Prior,
    /// A learned order of file opens: a profile of `crate::prefetch`. One chunk of at
    /// most [`MAX_SHIPPED`] bytes.
    Learned,
    /// History: segments of an archive, oldest first; see `super::archive`.
    Archive,
    /// Dictionaries of content chunks, one chunk each. Chunks refer to their own
    /// dictionary; this list lets a mount prefetch all of them.
    Dictionaries,
    /// Data of a newer version, which older versions may skip.
    Other(u64),
}

impl AttachmentKind {
    fn number(self) -> u64 {
        match self {
            AttachmentKind::GitCommits => 1,
            AttachmentKind::GitIds => 2,
            AttachmentKind::Manifests => 3,
            AttachmentKind::Objects => 4,
            AttachmentKind::Prior => 5,
            AttachmentKind::Learned => 6,
            AttachmentKind::Archive => 7,
            AttachmentKind::Dictionaries => 8,
            AttachmentKind::Other(number) => number,
        }
    }
}

/// A stream of bytes stored beside the trees, in chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment<C = ChunkRef> {
    /// Kind of the attachment.
    pub kind: AttachmentKind,
    /// Chunks in order.
    pub chunks: Vec<C>,
}

/// A verified, well-formed head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The branch that a mount shows by default; empty for a plain folder.
    pub default_branch: Bytes,
    /// Commits whose trees the head holds; the first is the default branch's.
    pub commits: Vec<Commit>,
    /// Branches and tags, sorted by kind and name.
    pub refs: Vec<Ref>,
    /// Attachments of the head.
    pub attachments: Vec<Attachment>,
    /// All other blobs that the repository refers to.
    pub blobs: Vec<BlobId>,
}

impl Head {
    /// Makes the first commit the head of `branch`, if there are no refs yet.
    pub fn of_branch(mut self, branch: &str) -> Self {
        if self.refs.is_empty() && check_ref_name(branch.as_bytes()).is_ok() {
            self.default_branch = Bytes::copy_from_slice(branch.as_bytes());
            self.refs.push(Ref {
                kind: RefKind::Branch,
                name: self.default_branch.clone(),
                commit: 0,
            });
        }
        self
    }

    /// Returns its approximate size in memory, in bytes.
    pub fn weight(&self) -> u64 {
        let person = |signature: &Signature| signature.person.len();
        let commits = self.commits.iter().map(|it| {
            let text = it.message.len() + person(&it.author) + person(&it.committer);
            size_of::<Commit>() + text + it.parents.len() * (size_of::<CommitId>() + 48)
        });
        let refs = self.refs.iter().map(|it| size_of::<Ref>() + it.name.len());
        let attached = self
            .attachments
            .iter()
            .map(|it| size_of::<Attachment>() + it.chunks.len() * size_of::<ChunkRef>());
        let blobs = self.blobs.len() * size_of::<BlobId>();
        (commits.chain(refs).chain(attached).sum::<usize>() + blobs) as u64
    }

    /// Finds a branch, a tag, or a commit by its full or abbreviated (at least four
    /// digits) ID.
    pub fn resolve(&self, name: &str) -> Option<usize> {
        let named = |kind| {
            self.refs
                .iter()
                .find(|r| r.kind == kind && r.name == name.as_bytes())
                .map(|r| r.commit)
        };
        named(RefKind::Branch)
            .or_else(|| named(RefKind::Tag))
            .or_else(|| {
                let hex = name.len() >= 4 && name.bytes().all(|b| b.is_ascii_hexdigit());
                let mut with_prefix = (0..self.commits.len()).filter(|&i| {
                    let id = self.commits[i].id.to_string();
                    hex && id.starts_with(&name.to_ascii_lowercase())
                });
                with_prefix.next().filter(|_| with_prefix.next().is_none())
            })
            .or_else(|| (self.commits.iter()).position(|c| c.id.to_string() == name))
    }

    /// Returns the chunk of an attachment that consists of one chunk of at most `most`
    /// bytes; otherwise `None`.
    pub fn hint(&self, kind: AttachmentKind, most: usize) -> Option<&ChunkRef> {
        let attached = self.attachments.iter().find(|it| it.kind == kind)?;
        let fits = |len: u32| usize::try_from(len).is_ok_and(|len| len <= most);
        match &attached.chunks[..] {
            // The stored length has the same limit.
            [one] if fits(one.raw_len) && fits(one.stored_len) => Some(one),
            _ => None,
        }
    }

    /// Returns the names of branches and tags, for a message.
    pub fn ref_names(&self) -> String {
        let names: Vec<_> = (self.refs.iter())
            .take(20)
            .map(|r| String::from_utf8_lossy(&r.name).into_owned())
            .collect();
        match names.is_empty() {
            true => "none (a plain folder)".into(),
            false => names.join(", "),
        }
    }

    /// Decodes the head at `reference`.
    ///
    /// # Errors
    /// When the bytes are not a valid head.
    pub fn decode(raw: &Bytes, reference: &ChunkRef) -> Result<Self, MalformedNode> {
        let mut reader = Reader::within(raw, budget::HEAD);
        kind_and_version(&mut reader, MAGIC, VERSION, "repository head")?;
        let chunks = table::read(&mut reader, Origin::of(reference))?;
        let default_branch = reader.copied(MAX_REF_NAME)?;
        let commits = (0..reader.count::<Commit>(LEAST_COMMIT)?)
            .map(|_| read_commit(&mut reader, &chunks))
            .collect::<Result<Vec<_>, _>>()?;
        if commits.is_empty() {
            return Err(MalformedNode::Sum("commits (there is none)"));
        }
        let refs = (0..reader.count::<Ref>(3)?)
            .map(|_| read_ref(&mut reader, commits.len()))
            .collect::<Result<Vec<_>, _>>()?;
        if refs
            .windows(2)
            .any(|w| (w[0].kind, &w[0].name) >= (w[1].kind, &w[1].name))
        {
            return Err(MalformedNode::Order("of a branch or tag".into()));
        }
        let mut used = 0;
        let attachments = (0..reader.count::<Attachment>(3)?)
            .map(|_| read_attachment(&mut reader, &chunks, &mut used))
            .collect::<Result<Vec<_>, _>>()?;
        check_dictionaries(&attachments)?;
        let blobs = (0..reader.count::<BlobId>(32)?)
            .map(|_| reader.array().map(BlobId::from_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        let naming = |it: &&Attachment| {
            let kind = it.kind;
            matches!(kind, AttachmentKind::Manifests | AttachmentKind::Objects)
        };
        let commits = match attachments.iter().find(naming) {
            Some(attached) => (commits.into_iter())
                .map(|commit| commit.attached_to(attached.kind))
                .collect(),
            None => commits,
        };
        Ok(Head {
            default_branch,
            commits,
            refs,
            attachments,
            blobs,
        })
    }
}

fn read_commit(reader: &mut Reader<'_>, chunks: &[ChunkRef]) -> Result<Commit, MalformedNode> {
    let id = reader.id()?.into();
    let root = reader.uint()?;
    let root = usize::try_from(root)
        .ok()
        .and_then(|index| chunks.get(index).cloned())
        .ok_or(MalformedNode::Index(root))?;
    let nodes = reader.uint()?;
    if nodes == 0 || nodes > MAX_NODES {
        return Err(MalformedNode::Sum("counts of nodes"));
    }
    let bytes = reader.uint()?;
    let author = read_signature(reader)?;
    let committer = read_signature(reader)?;
    let message = reader.copied(MAX_MESSAGE)?;
    let parents = (0..reader.count::<CommitId>(1)?)
        .map(|_| Ok(reader.id()?.into()))
        .collect::<Result<_, MalformedNode>>()?;
    Ok(Commit {
        id,
        root,
        nodes,
        bytes,
        author,
        committer,
        message,
        parents,
    })
}

fn read_signature(reader: &mut Reader<'_>) -> Result<Signature, MalformedNode> {
    Ok(Signature {
        person: reader.copied(MAX_PERSON)?,
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
    let name = reader.copied(MAX_REF_NAME)?;
    check_ref_name(&name)?;
    let commit = reader.uint()?;
    match usize::try_from(commit) {
        Ok(commit) if commit < commits => Ok(Ref { kind, name, commit }),
        _ => Err(MalformedNode::Index(commit)),
    }
}

/// Rejects branch and tag names that git rejects, such as those with control characters,
/// and those that could not be folders under `.walgit/branches/`.
pub fn check_ref_name(name: &[u8]) -> Result<(), MalformedNode> {
    check_full_ref_name(&[b"refs/heads/", name].concat())?;
    name.split(|&byte| byte == b'/')
        .try_for_each(super::directory::check_name)
}

/// Rejects full ref names that git rejects (`git check-ref-format`).
pub fn check_full_ref_name(name: &[u8]) -> Result<(), MalformedNode> {
    match gix_validate::reference::name(name.into()) {
        Ok(_) => Ok(()),
        Err(why) => Err(MalformedNode::RefName {
            name: crate::text::bytes_field(name),
            why: why.to_string(),
        }),
    }
}

fn read_attachment(
    reader: &mut Reader<'_>,
    chunks: &[ChunkRef],
    used: &mut u64,
) -> Result<Attachment, MalformedNode> {
    let kind = match reader.uint()? {
        1 => AttachmentKind::GitCommits,
        2 => AttachmentKind::GitIds,
        3 => AttachmentKind::Manifests,
        4 => AttachmentKind::Objects,
        5 => AttachmentKind::Prior,
        6 => AttachmentKind::Learned,
        7 => AttachmentKind::Archive,
        8 => AttachmentKind::Dictionaries,
        other => AttachmentKind::Other(other),
    };
    let first = reader.uint()?;
    let count = reader.uint()?;
    let end = first
        .checked_add(count)
        .filter(|&end| end <= chunks.len() as u64);
    let end = end.ok_or(MalformedNode::Index(first))?;
    // Attachments use the table in order and each chunk once, so they never have more
    // chunks than the table.
    if count > 0 && first < *used {
        return Err(MalformedNode::Runs("attachments"));
    }
    *used = end.max(*used);
    let run = &chunks[first as usize..end as usize];
    reader.charge::<ChunkRef>(run.len())?;
    Ok(Attachment {
        kind,
        chunks: run.to_vec(),
    })
}

/// Rejects more dictionaries than a reader should have to hold.
fn check_dictionaries(attachments: &[Attachment]) -> Result<(), MalformedNode> {
    let dictionaries = || {
        let attached = attachments.iter();
        let attached = attached.filter(|it| it.kind == AttachmentKind::Dictionaries);
        attached.flat_map(|it| &it.chunks)
    };
    let bytes: u64 = dictionaries().map(|it| u64::from(it.raw_len)).sum();
    if dictionaries().count() > MAX_DICTIONARIES || bytes > MAX_DICTIONARY_BYTES {
        return Err(MalformedNode::Dictionaries);
    }
    Ok(())
}

/// A head to be encoded: commits with the locations of their roots, attachments with the
/// locations of their chunks.
#[derive(Clone, Debug, Default)]
pub struct PlannedHead {
    /// See [`Head::default_branch`].
    pub default_branch: Vec<u8>,
    /// See [`Head::commits`].
    pub commits: Vec<PlannedCommit>,
    /// See [`Head::refs`]; sorted when written.
    pub refs: Vec<Ref>,
    /// See [`Head::attachments`].
    pub attachments: Vec<Attachment<PlannedChunk>>,
    /// See [`Head::blobs`]; sorted when written.
    pub blobs: Vec<BlobId>,
}

/// A commit of a [`PlannedHead`].
#[derive(Clone, Debug)]
pub struct PlannedCommit {
    /// See [`Commit::id`].
    pub id: CommitId,
    /// See [`Commit::root`].
    pub root: PlannedChunk,
    /// See [`Commit::nodes`].
    pub nodes: u64,
    /// See [`Commit::bytes`].
    pub bytes: u64,
    /// See [`Commit::author`].
    pub author: Signature,
    /// See [`Commit::committer`].
    pub committer: Signature,
    /// See [`Commit::message`]; truncated when written.
    pub message: Vec<u8>,
    /// See [`Commit::parents`].
    pub parents: Vec<CommitId>,
}

impl PlannedHead {
    /// Encodes the head; its stored bytes will end at `end` (as in
    /// [`super::PlannedLocation::Local`]). Truncates messages over [`MAX_MESSAGE`] and persons over
    /// 4096 bytes; the raw commits hold them in full.
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
            .flat_map(|a| a.chunks.iter().cloned());
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
                out.string(cut(&signature.person, MAX_PERSON));
                out.sint(signature.seconds);
                out.sint(i64::from(signature.offset_minutes));
            }
            out.string(cut(&commit.message, MAX_MESSAGE));
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

fn cut(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlannedLocation;
    use crate::chunk::{Chunk, ChunkHash};
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
            any::<[u8; 32]>().prop_map(CommitId::Object),
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
            person in prop_oneof![Just(3usize), Just(MAX_PERSON + 1)],
            message in prop_oneof![Just(5usize), Just(MAX_MESSAGE + 1)],
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
                message: vec![b'm'; message],
                parents,
            }
        }
    }

    fn any_ref() -> impl Strategy<Value = Ref> {
        let name = prop_oneof!["[ab]", "[./]{1,3}", Just("x/".repeat(600) + "x")];
        (any::<bool>(), name, 0usize..3).prop_map(|(branch, name, commit)| Ref {
            kind: match branch {
                true => RefKind::Branch,
                false => RefKind::Tag,
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
            default_branch in prop_oneof![Just(4usize), Just(MAX_REF_NAME + 1)],
            blobs in proptest::collection::vec(any::<u8>(), 0..3),
        ) -> PlannedHead {
            PlannedHead {
                default_branch: vec![b'd'; default_branch],
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
        fn whatever_a_head_is_it_reads_as_written_or_is_refused(head in any_head(), end in -9i64..9) {
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
                prop_assert_eq!(&read.message[..], cut(&commit.message, MAX_MESSAGE));
                prop_assert_eq!(&read.author.person[..], cut(&commit.author.person, MAX_PERSON));
                prop_assert_eq!(read.root.hash, commit.root.hash);
                let PlannedLocation::Local(at) = commit.root.location else { unreachable!() };
                prop_assert_eq!(read.root.location.offset as i64, at - end);
            }
        }
    }

    #[test]
    fn a_branch_that_is_there_twice_makes_no_head() {
        let commit = PlannedCommit {
            id: CommitId::None,
            root: root(1),
            nodes: 1,
            bytes: 0,
            author: Signature::default(),
            committer: Signature::default(),
            message: Vec::new(),
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
