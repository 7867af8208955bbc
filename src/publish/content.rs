//! Files become chunks: read, cut, hashed and compressed on all cores, placed
//! in tree order.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use fastcdc::v2020::{FastCDC, StreamCDC};
use rayon::prelude::*;

use super::compress::{Compression, Manner, first_part};
use super::known::Known;
use super::packs::Packs;
use super::placed::Placed;
use super::plan::{ContentPlan, FileJob, FileSource, Plan};
use super::remote::Remote;
use super::tier::{self, Facts};
use super::{Progress, PublishError};
use crate::chunk::{Bases, ChunkHash, MAX_DATA_CHUNK, Sealed};
use crate::config::Tiers;
use crate::repo::Tier;

/// Files of up to about this size are kept in the node of their directory
/// ([`super::tier`]).
pub(super) const INLINE: usize = 256;
/// Bounds of a cut: large files are cut where their content says, so that an
/// insertion moves no later cut.
pub(super) const MIN_CUT: usize = 64 << 10;
pub(super) const AVERAGE_CUT: usize = 256 << 10;
pub(super) const MAX_CUT: usize = MAX_DATA_CHUNK as usize;
/// Larger files are read a part at a time, unless they may become a blob of
/// their own: that is in memory as a whole.
const WHOLE: u64 = 8 << 20;
/// The longest file that is read whole for that.
const WHOLE_BLOB: u64 = 64 << 20;
/// Bytes read before a batch is worked on.
const BATCH: u64 = 16 << 20;

/// What decides about tiers beside the files themselves.
struct Layout<'a> {
    /// The longest blob, in bytes.
    limit: u64,
    /// Bytes of all files that are read.
    total: u64,
    tiers: &'a Tiers,
}

impl Layout<'_> {
    fn tier(&self, size: u64, manner: &Manner<'_>) -> Tier {
        let bounds = (self.limit, Some(self.total));
        let facts = Facts::published(size, manner.found(), bounds, self.tiers);
        tier::choose(&facts, &self.tiers.weights).tier
    }
}

/// What became of a file that was read whole.
enum Cut {
    Inline(Vec<u8>),
    Chunks(Vec<CutChunk>),
    Plain(Bytes, Vec<(ChunkHash, u32)>),
}

struct CutChunk {
    hash: ChunkHash,
    raw_len: u32,
    /// `None` for content that is stored already.
    sealed: Option<(Sealed, Bases<Placed>)>,
}

/// Reads every file of the plan and places its chunks; bytes read.
pub(super) fn fill(
    plan: &mut Plan,
    packs: &mut Packs,
    known: &Known,
    how: &Compression,
    tiers: &Tiers,
    progress: &dyn Progress,
) -> Result<u64, PublishError> {
    let files = std::mem::take(&mut plan.files);
    let total = files.iter().map(|file| file.size).sum();
    progress.total(files.len() as u64, total);
    let limit = packs.limit();
    let layout = Layout {
        limit,
        total,
        tiers,
    };
    let mut bytes_read = 0;
    let mut rest = &files[..];
    while let Some(first) = rest.first() {
        if first.is_streamed(limit) {
            let input = open(first, plan.remote.as_ref())?;
            let (size, content) =
                stream(first, input, packs, known, how, plan.name(first), progress)?;
            bytes_read += size;
            plan.set(first, size, content);
            rest = &rest[1..];
            continue;
        }
        let count = batch_len(rest, limit);
        let (batch, later) = rest.split_at(count);
        let fetched = match &plan.remote {
            Some(remote) => remote.fetch(batch)?,
            None => vec![None; batch.len()],
        };
        let cuts: Vec<(u64, Cut)> = batch
            .par_iter()
            .zip(fetched)
            .map_init(
                || {
                    plan.git
                        .as_ref()
                        .map(gix::ThreadSafeRepository::to_thread_local)
                },
                |git, (job, fetched)| {
                    let raw = match fetched {
                        Some(fetched) => fetched,
                        None => read(job, git.as_ref())?,
                    };
                    let manner = || how.manner(plan.name(job), &raw);
                    Ok((raw.len() as u64, cut(&raw, packs, known, manner, &layout)))
                },
            )
            .collect::<Result<_, PublishError>>()?;
        for (job, (size, cut)) in batch.iter().zip(cuts) {
            let content = place(cut, packs, known)?;
            plan.set(job, size, content);
            bytes_read += size;
            progress.read(1, size);
        }
        rest = later;
    }
    for ((directory, entry), (of, number)) in std::mem::take(&mut plan.copies) {
        let content = plan.directories[directory].entries[entry].content.clone();
        plan.directories[of].entries[number].content = content;
    }
    Ok(bytes_read)
}

/// How many of the next files make a batch.
fn batch_len(files: &[FileJob], limit: u64) -> usize {
    let mut bytes = 0;
    let fits = files.iter().take_while(|job| {
        let first = bytes == 0;
        bytes += job.size.max(1);
        first || (bytes <= BATCH && !job.is_streamed(limit))
    });
    fits.count()
}

impl FileJob {
    /// Whether it is read a part at a time, where a blob has at most `limit`
    /// bytes.
    fn is_streamed(&self, limit: u64) -> bool {
        match self.source {
            FileSource::Path(_) => self.size > WHOLE.max(limit.min(WHOLE_BLOB)),
            FileSource::Blob(_) => self.size > WHOLE,
            FileSource::Git(_) | FileSource::Bytes(_) => false,
        }
    }
}

fn read(job: &FileJob, git: Option<&gix::Repository>) -> Result<Bytes, PublishError> {
    match (&job.source, git) {
        (FileSource::Path(path), _) => {
            let read = std::fs::read(path).map_err(|source| PublishError::Read {
                path: path.clone(),
                source,
            })?;
            match read.len() as u64 == job.size {
                true => Ok(read.into()),
                false => Err(PublishError::Changed(path.clone())),
            }
        }
        (FileSource::Git(id), Some(git)) => {
            let object = git.find_object(*id).map_err(|error| PublishError::Git {
                path: git.path().into(),
                why: error.to_string(),
            })?;
            Ok(object.detach().data.into())
        }
        (FileSource::Bytes(bytes), _) => Ok(bytes.clone()),
        (FileSource::Git(_), None) | (FileSource::Blob(_), _) => Err(PublishError::Interrupted),
    }
}

/// Cuts one file that is in memory.
fn cut<'m>(
    raw: &Bytes,
    packs: &Packs,
    known: &Known,
    manner: impl FnOnce() -> Manner<'m>,
    layout: &Layout<'_>,
) -> Cut {
    let manner = manner();
    let tier = layout.tier(raw.len() as u64, &manner);
    if tier == Tier::Inline {
        return Cut::Inline(raw.to_vec());
    }
    let pieces: Vec<&[u8]> = match raw.len() <= MAX_CUT {
        true => vec![&raw[..]],
        false => FastCDC::new(raw, MIN_CUT, AVERAGE_CUT, MAX_CUT)
            .map(|piece| &raw[piece.offset..piece.offset + piece.length])
            .collect(),
    };
    if tier == Tier::Walrus {
        let cuts: Vec<_> = (pieces.par_iter())
            .map(|piece| (ChunkHash::of(piece), piece.len() as u32))
            .collect();
        // Stored before, in whatever form: no need for another blob.
        if cuts
            .iter()
            .any(|(hash, _)| packs.find(hash, known).is_none())
        {
            return Cut::Plain(raw.clone(), cuts);
        }
    }
    Cut::Chunks(
        pieces
            .into_iter()
            .map(|piece| cut_chunk(piece, packs, known, &manner))
            .collect(),
    )
}

fn cut_chunk(piece: &[u8], packs: &Packs, known: &Known, manner: &Manner<'_>) -> CutChunk {
    let hash = ChunkHash::of(piece);
    let sealed = match packs.find(&hash, known) {
        Some(_) => None,
        None => Some(manner.seal(piece)),
    };
    CutChunk {
        hash,
        raw_len: piece.len() as u32,
        sealed,
    }
}

fn place(cut: Cut, packs: &mut Packs, known: &Known) -> Result<ContentPlan, PublishError> {
    match cut {
        Cut::Inline(bytes) if bytes.is_empty() => Ok(ContentPlan::Chunks(Vec::new())),
        Cut::Inline(bytes) => Ok(ContentPlan::Inline(bytes)),
        Cut::Plain(body, cuts) => Ok(ContentPlan::Chunks(packs.add_plain(body, &cuts)?)),
        Cut::Chunks(chunks) => {
            let placed = chunks
                .into_iter()
                .map(|chunk| place_chunk(&chunk, packs, known));
            Ok(ContentPlan::Chunks(placed.collect::<Result<_, _>>()?))
        }
    }
}

fn place_chunk(chunk: &CutChunk, packs: &mut Packs, known: &Known) -> Result<Placed, PublishError> {
    // Another file of the same batch may have placed it meanwhile.
    match (packs.find(&chunk.hash, known), &chunk.sealed) {
        (Some(placed), _) => Ok(placed),
        (None, Some((sealed, bases))) => {
            packs.add(chunk.hash, chunk.raw_len, sealed, bases.clone())
        }
        (None, None) => Err(PublishError::Interrupted),
    }
}

/// A large file, to be read a part at a time; one byte more than there should
/// be tells that it grew.
fn open(job: &FileJob, remote: Option<&Remote>) -> Result<Box<dyn Read>, PublishError> {
    match (&job.source, remote) {
        (FileSource::Path(path), _) => {
            let file = File::open(path).map_err(|source| failed(job, source))?;
            Ok(Box::new(file.take(job.size + 1)))
        }
        (FileSource::Blob(whole), Some(remote)) => Ok(Box::new(remote.reader(whole))),
        _ => Err(PublishError::Interrupted),
    }
}

fn failed(job: &FileJob, source: io::Error) -> PublishError {
    PublishError::Read {
        path: job.source.path(),
        source,
    }
}

/// Cuts a large file as it is read, a batch of pieces in memory at a time.
fn stream(
    job: &FileJob,
    input: Box<dyn Read>,
    packs: &mut Packs,
    known: &Known,
    how: &Compression,
    name: &[u8],
    progress: &dyn Progress,
) -> Result<(u64, ContentPlan), PublishError> {
    let mut cutter = StreamCDC::new(input, MIN_CUT, AVERAGE_CUT, MAX_CUT);
    let mut chunks = Vec::new();
    let mut size = 0;
    loop {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        for piece in cutter.by_ref() {
            let piece = piece.map_err(|error| failed(job, io::Error::other(error.to_string())))?;
            bytes += piece.length as u64;
            pieces.push(piece.data);
            if bytes >= BATCH {
                break;
            }
        }
        if pieces.is_empty() {
            break;
        }
        // Each part for itself: disks of machines are zeros here, noise there.
        let manner = how.manner(name, &first_part(&pieces));
        let cuts: Vec<CutChunk> = pieces
            .par_iter()
            .map(|piece| cut_chunk(piece, packs, known, &manner))
            .collect();
        for cut in &cuts {
            chunks.push(place_chunk(cut, packs, known)?);
        }
        size += bytes;
        progress.read(0, bytes);
    }
    progress.read(1, 0);
    match size == job.size {
        true => Ok((size, ContentPlan::Chunks(chunks))),
        false => Err(PublishError::Changed(job.source.path())),
    }
}

impl FileSource {
    /// What to call it in a message.
    fn path(&self) -> PathBuf {
        match self {
            FileSource::Path(path) => path.clone(),
            FileSource::Git(id) => id.to_string().into(),
            FileSource::Blob(whole) => format!("blob {}", whole.blob).into(),
            FileSource::Bytes(_) => PathBuf::from("an inline file"),
        }
    }
}

/// The files of a plan, to be read ahead of their time.
pub(super) struct Reading<'a>(&'a Plan);

impl<'a> Reading<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        Reading(plan)
    }

    pub(super) fn jobs(&self) -> &'a [FileJob] {
        &self.0.files
    }

    /// The name of a file, without its path.
    pub(super) fn name(&self, job: &FileJob) -> &'a [u8] {
        self.0.name(job)
    }

    /// What one thread reads with.
    pub(super) fn reader(&self) -> Option<gix::Repository> {
        let git = self.0.git.as_ref();
        git.map(gix::ThreadSafeRepository::to_thread_local)
    }

    pub(super) fn read(
        &self,
        job: &FileJob,
        git: Option<&gix::Repository>,
    ) -> Result<Bytes, PublishError> {
        read(job, git)
    }
}

impl Plan {
    fn name(&self, job: &FileJob) -> &[u8] {
        &self.directories[job.directory].entries[job.entry].name
    }

    fn set(&mut self, job: &FileJob, size: u64, content: ContentPlan) {
        let entry = &mut self.directories[job.directory].entries[job.entry];
        entry.size = size;
        entry.content = content;
    }
}
