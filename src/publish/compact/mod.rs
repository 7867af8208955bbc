//! Compaction of a published head: the same commits, trees, files, history and
//! attachments, in fewer blobs.
//!
//! After many publishes, a head is scattered over many blobs, each of which is billed and
//! requested separately. Compaction vacates some of these blobs: content that the head
//! needs from them is copied in its stored form ([`copier`]) into new packs, in tree order;
//! references to other blobs stay. Content is recompressed only for files that move to
//! another tier ([`retier`]), and for versions that are patches against bases that would
//! have to be copied only for them: these are stored whole, so that readers of the tree
//! fetch no extra bases. Directories and the head record locations, so they are
//! rewritten; what they record about files stays identical, which is verified ([`verify_equal`]).
//!
//! Copying the same head yields the same blobs, so an interrupted compaction resumes.

mod copier;
mod head_reader;
mod retier;
mod verify_equal;

pub use retier::{Retiering, better_tier};
pub use verify_equal::verify_equal;

use std::collections::HashSet;

use tokio::runtime::Handle;

use super::effort::Effort;
use super::error::PublishError;
use super::history::commits::{Archived, HistoryReport};
use super::options::Progress;
use super::packed::PackedPlan;
use super::packs::Packs;
use super::pending_chunk::PendingChunk;
use super::plan::ContentPlan;
use super::previous_publish::{PreviousPublish, attachment_chunks};
use crate::config::Tiers;
use crate::repo::Repository;
use crate::repo::archive::Archive;
use copier::ChunkCopier;
use head_reader::{HeadContent, StoredContent, StoredFile};
use walgit_format::archive::Segment;
use walgit_format::chunk::{BlobId, ChunkRef};
use walgit_format::head::AttachmentKind;

/// Parameters of a compaction.
#[derive(Clone, Debug)]
pub struct CompactionInput {
    /// The head, in our format.
    pub repository: Repository,
    /// Blobs to vacate.
    pub vacate: HashSet<BlobId>,
    /// Maximum bytes to write, excluding directories and the head; `None` for no limit.
    pub max_bytes: Option<u64>,
    /// Moves files to better tiers, if set.
    pub retiering: Option<Retiering>,
}

/// Reads a head and stores its content.
pub(super) fn pack(
    compaction: &CompactionInput,
    tiers: &Tiers,
    packs: &mut Packs,
    progress: &dyn Progress,
) -> Result<PackedPlan, PublishError> {
    let repository = &compaction.repository;
    if repository.is_derived() {
        return Err(PublishError::ForeignFormat);
    }
    let runtime = Handle::current();
    let HeadContent { mut plan, files } = runtime.block_on(head_reader::read(repository))?;
    let mut copier = ChunkCopier::new(repository, &compaction.vacate, packs, compaction.max_bytes);
    let mut attachments: Vec<(AttachmentKind, Vec<PendingChunk>)> = Vec::new();
    let copy = |kind: AttachmentKind, copier: &mut ChunkCopier<'_>| {
        let chunks: Vec<ChunkRef> = attachment_chunks(repository, kind).cloned().collect();
        let stored = copier.store(&chunks)?;
        Ok::<_, PublishError>((!stored.is_empty()).then_some((kind, stored)))
    };
    // Read first by a mount.
    for kind in [AttachmentKind::Prior, AttachmentKind::Dictionaries] {
        attachments.extend(copy(kind, &mut copier)?);
    }
    let chunks = files.iter().flat_map(StoredFile::chunks);
    copier.tree_chunks = chunks.map(|chunk| chunk.hash).collect();
    let bytes: u64 = files.iter().map(|file| plan.entry(file.entry).size).sum();
    progress.total(files.len() as u64, bytes);
    let mut rest = files;
    while !rest.is_empty() {
        let later = rest.split_off(copier::batch_len(rest.iter().map(StoredFile::chunks)));
        let new_tier = |file: &StoredFile| {
            let retiering = compaction.retiering.as_ref()?;
            retiering.new_tier(&plan, file, copier.packs.limit(), bytes, tiers)
        };
        let moves: Vec<_> = rest.iter().map(new_tier).collect();
        let stay = rest.iter().zip(&moves).filter(|(_, to)| to.is_none());
        let chunks: Vec<ChunkRef> = stay.flat_map(|(file, _)| file.chunks()).cloned().collect();
        copier.encode_standalone(&chunks)?;
        let mut stored = copier.store(&chunks)?.into_iter();
        for (file, to) in rest.iter().zip(moves) {
            let content = match (to, &file.content) {
                (Some(tier), _) => retier::store(file, tier, &mut copier)?,
                (None, StoredContent::Inline(bytes)) => ContentPlan::Inline(bytes.to_vec()),
                (None, StoredContent::Chunks(chunks)) => {
                    ContentPlan::Chunks(stored.by_ref().take(chunks.len()).collect())
                }
            };
            let entry = plan.entry_mut(file.entry);
            entry.content = content;
            progress.read(1, entry.size);
        }
        rest = later;
    }
    let archive = runtime.block_on(repository.load_archive())?;
    let archived = archive.map(|archive| copy_archive(&archive, &mut copier));
    let archived = archived.transpose()?;
    for kind in repository.head().attachments.iter().map(|it| it.kind) {
        match kind {
            // Copied already, or written with the directories.
            AttachmentKind::Prior
            | AttachmentKind::Dictionaries
            | AttachmentKind::Archive
            | AttachmentKind::GitIds => {}
            AttachmentKind::Other(number) => return Err(PublishError::UnknownAttachment(number)),
            AttachmentKind::GitCommits
            | AttachmentKind::Manifests
            | AttachmentKind::Objects
            | AttachmentKind::Learned => attachments.extend(copy(kind, &mut copier)?),
        }
    }
    Ok(PackedPlan {
        plan,
        previous: PreviousPublish {
            referenced_blobs: copier.referenced.iter().copied().collect(),
            ..PreviousPublish::default()
        },
        attachments,
        bytes_read: bytes,
        archived,
        effort: Effort::Default,
    })
}

/// Copies the segments of a history.
fn copy_archive(archive: &Archive, copier: &mut ChunkCopier<'_>) -> Result<Archived, PublishError> {
    let mut segments: Vec<Segment<PendingChunk>> = Vec::new();
    for segment in archive.segments() {
        let mut stored = Vec::with_capacity(segment.chunks.len());
        let mut rest = &segment.chunks[..];
        while !rest.is_empty() {
            let single = rest.iter().map(std::slice::from_ref);
            let (batch, later) = rest.split_at(copier::batch_len(single));
            stored.extend(copier.store(batch)?);
            rest = later;
        }
        segments.push(segment.with_chunks(stored));
    }
    Ok(Archived {
        reused: 0,
        segments,
        report: HistoryReport {
            commits: archive.marks().count() as u64,
            ..HistoryReport::default()
        },
    })
}
