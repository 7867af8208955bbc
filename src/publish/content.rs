//! Reading and chunking of files on all cores; stores the pieces in tree order.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use fastcdc::v2020::{FastCDC, StreamCDC};
use rayon::prelude::*;

use super::compress::{Compression, Manner};
use super::delta::Before;
use super::known::Known;
use super::objects;
use super::packs::Packs;
use super::pieces::{Piece, Storing};
use super::plan::{ContentPlan, FileJob, FilePlace, FileSource, Plan};
use super::source::{self, Skip};
use super::tier::{self, Facts};
use super::{Progress, PublishError};
use crate::config::Tiers;
use crate::repo::Tier;
use walgit_format::chunk::{ChunkHash, MAX_DATA_CHUNK};

/// Approximate maximum size of files that are stored inline in their directory
/// ([`super::tier`]).
pub(super) const INLINE: usize = 256;
/// Bounds of content-defined chunking: an insertion does not move later cuts.
const MIN_CUT: usize = 64 << 10;
const AVERAGE_CUT: usize = 256 << 10;
const MAX_CUT: usize = MAX_DATA_CHUNK as usize;
/// Larger files are streamed, unless they may become separate blobs, which must fit in
/// memory as a whole.
const WHOLE: u64 = 8 << 20;
/// Maximum size of a file that is read whole for a separate blob.
const WHOLE_BLOB: u64 = 64 << 20;
/// Bytes to read before processing a batch.
const BATCH: u64 = 16 << 20;

/// Inputs of the tier decision besides the files.
struct Layout<'a> {
    /// Maximum blob size, in bytes.
    limit: u64,
    /// Total bytes of all files to read.
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

/// Form of a file that was read whole.
enum Cut<'a> {
    Inline(Vec<u8>),
    Pieces(Vec<Piece<'a>>),
    Plain(Bytes, Vec<(ChunkHash, u32)>),
}

/// Reads every file of the plan and places its chunks; returns the bytes read.
pub(super) fn fill(
    plan: &mut Plan,
    packs: &mut Packs,
    known: &Known,
    how: &Compression,
    tiers: &Tiers,
    progress: &dyn Progress,
) -> Result<u64, PublishError> {
    let before = Before::of(plan, known);
    let files = std::mem::take(&mut plan.files);
    let total = files.iter().map(|file| file.size).sum();
    progress.total(files.len() as u64, total);
    let limit = packs.limit();
    let layout = Layout {
        limit,
        total,
        tiers,
    };
    let mut storing = Storing::new(packs, known);
    let mut bytes_read = 0;
    let mut rest = &files[..];
    while let Some(first) = rest.first() {
        if first.is_streamed(limit) {
            bytes_read += streamed(plan, first, &mut storing, how, progress)?;
            rest = &rest[1..];
            continue;
        }
        let count = batch_len(rest, limit);
        let (batch, later) = rest.split_at(count);
        let fetched = match &plan.remote {
            Some(remote) => remote.fetch(batch)?,
            None => vec![None; batch.len()],
        };
        let packs = &*storing.packs;
        let outcomes: Vec<Outcome<'_>> = batch
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
                        Some(fetched) => Fetched::Content(fetched),
                        None => read(job, git.as_ref(), most(limit))?,
                    };
                    let raw = match raw {
                        Fetched::Content(raw) => raw,
                        Fetched::TooLong => return Ok(Outcome::TooLong),
                        Fetched::Skipped(skip) => return Ok(Outcome::Skipped(skip)),
                    };
                    let manner = how.manner(plan.name(job), &raw);
                    let size = raw.len() as u64;
                    Ok(Outcome::Cut(size, cut(&raw, packs, known, manner, &layout)))
                },
            )
            .collect::<Result<_, PublishError>>()?;
        let (mut jobs, mut sizes, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut grown, mut skipped) = (Vec::new(), Vec::new());
        for (job, outcome) in batch.iter().zip(outcomes) {
            match outcome {
                Outcome::Cut(size, cut) => {
                    jobs.push(job);
                    sizes.push(size);
                    cuts.push(cut);
                }
                Outcome::TooLong => grown.push(job),
                Outcome::Skipped(skip) => skipped.push((job, skip)),
            }
        }
        let contents = place(&jobs, cuts, &mut storing, &before)?;
        for ((job, size), content) in jobs.into_iter().zip(sizes).zip(contents) {
            plan.set(job, size, content);
            bytes_read += size;
            progress.read(1, size);
        }
        for job in grown {
            bytes_read += streamed(plan, job, &mut storing, how, progress)?;
        }
        for (job, skip) in skipped {
            plan.drop_file(job, skip)?;
        }
        rest = later;
    }
    for ((directory, entry), (of, number)) in std::mem::take(&mut plan.copies) {
        let content = plan.directories[directory].entries[entry].content.clone();
        plan.directories[of].entries[number].content = content;
    }
    plan.take_out_dropped();
    Ok(bytes_read)
}

/// Result for a file of a batch.
enum Outcome<'a> {
    Cut(u64, Cut<'a>),
    /// Grew so much that it has to be streamed.
    TooLong,
    Skipped(Skip),
}

/// Result of reading a file.
enum Fetched {
    Content(Bytes),
    TooLong,
    Skipped(Skip),
}

/// Maximum size of a file that is read whole, for blobs of at most `limit` bytes.
fn most(limit: u64) -> u64 {
    WHOLE.max(limit.min(WHOLE_BLOB))
}

/// Places the cuts of a batch of files, in order.
fn place(
    batch: &[&FileJob],
    mut cuts: Vec<Cut<'_>>,
    storing: &mut Storing<'_>,
    before: &Before,
) -> Result<Vec<ContentPlan>, PublishError> {
    // Files of several pieces share unchanged pieces with their versions instead.
    let mut alone: HashMap<FilePlace, &mut Piece<'_>> = (batch.iter().zip(&mut cuts))
        .filter_map(|(job, cut)| match cut {
            Cut::Pieces(pieces) => match &mut pieces[..] {
                [piece] if piece.wants_a_base() => Some((job.place(), piece)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let wanted: Vec<FilePlace> = alone.keys().copied().collect();
    for (file, base) in before.fetch(storing.known, &wanted) {
        if let Some(piece) = alone.get_mut(&file) {
            piece.set_before(base);
        }
    }
    let mut counts = Vec::with_capacity(cuts.len());
    let mut pieces = Vec::new();
    let mut contents: Vec<Option<ContentPlan>> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let (count, content) = match cut {
            Cut::Pieces(of_file) => {
                let count = of_file.len();
                pieces.extend(of_file);
                (count, None)
            }
            Cut::Inline(bytes) if bytes.is_empty() => (0, Some(ContentPlan::Chunks(Vec::new()))),
            Cut::Inline(bytes) => (0, Some(ContentPlan::Inline(bytes))),
            Cut::Plain(body, cuts) => {
                let chunks = storing.packs.add_plain(body, &cuts)?;
                (0, Some(ContentPlan::Chunks(chunks)))
            }
        };
        counts.push(count);
        contents.push(content);
    }
    let mut placed = storing.store(pieces)?.into_iter();
    let contents = contents.into_iter().zip(counts);
    Ok(contents
        .map(|(content, count)| {
            let pieces = || ContentPlan::Chunks(placed.by_ref().take(count).collect());
            content.unwrap_or_else(pieces)
        })
        .collect())
}

/// Number of the next files that form a batch.
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
    /// Whether the file is streamed, for blobs of at most `limit` bytes.
    fn is_streamed(&self, limit: u64) -> bool {
        match self.source {
            FileSource::Folder(_) => self.size > most(limit),
            FileSource::Blob(_) => self.size > WHOLE,
            FileSource::Git(_) | FileSource::Bytes(_) => false,
        }
    }
}

/// Reads a file whole; from a folder, at most `most` bytes.
fn read(job: &FileJob, git: Option<&gix::Repository>, most: u64) -> Result<Fetched, PublishError> {
    match (&job.source, git) {
        (FileSource::Folder(file), _) => Ok(match file.read(most) {
            Ok(source::Content::Whole(raw)) => Fetched::Content(raw),
            Ok(source::Content::TooLong) => Fetched::TooLong,
            Err(skip) => Fetched::Skipped(skip),
        }),
        (FileSource::Git(id), Some(git)) => {
            let raw = objects::read_as(git, *id, gix::objs::Kind::Blob)?;
            Ok(Fetched::Content(raw.into()))
        }
        (FileSource::Bytes(bytes), _) => Ok(Fetched::Content(bytes.clone())),
        (FileSource::Git(_), None) | (FileSource::Blob(_), _) => Err(PublishError::Internal(
            "a file has no source to read it from",
        )),
    }
}

/// Splits content in memory into pieces: one, or content-defined ones.
pub(super) fn pieces(raw: &Bytes) -> Vec<Bytes> {
    match raw.len() <= MAX_CUT {
        true => vec![raw.clone()],
        false => FastCDC::new(raw, MIN_CUT, AVERAGE_CUT, MAX_CUT)
            .map(|piece| raw.slice(piece.offset..piece.offset + piece.length))
            .collect(),
    }
}

/// Cuts a file in memory.
fn cut<'a>(
    raw: &Bytes,
    packs: &Packs,
    known: &Known,
    manner: Manner<'a>,
    layout: &Layout<'_>,
) -> Cut<'a> {
    let tier = layout.tier(raw.len() as u64, &manner);
    if tier == Tier::Inline {
        return Cut::Inline(raw.to_vec());
    }
    let pieces = pieces(raw);
    if tier == Tier::Walrus {
        let cuts: Vec<_> = (pieces.par_iter())
            .map(|piece| (ChunkHash::of(piece), piece.len() as u32))
            .collect();
        // If all chunks are stored in any form, no separate blob is needed.
        if cuts
            .iter()
            .any(|(hash, _)| packs.find(hash, known).is_none())
        {
            return Cut::Plain(raw.clone(), cuts);
        }
    }
    // A retained piece must not keep its entire file in memory.
    let own = |piece: Bytes| match piece.len() == raw.len() {
        true => piece,
        false => Bytes::copy_from_slice(&piece),
    };
    let pieces = pieces.into_iter().map(own);
    Cut::Pieces(
        pieces
            .map(|piece| Piece::new(piece, manner, packs, known))
            .collect(),
    )
}

/// Reason for skipping a large file, or for failing the publish.
enum Stopped {
    Skipped(Skip),
    Failed(PublishError),
}

impl From<Skip> for Stopped {
    fn from(skip: Skip) -> Self {
        Stopped::Skipped(skip)
    }
}

/// Streams a large file; returns the bytes read.
fn streamed(
    plan: &mut Plan,
    job: &FileJob,
    storing: &mut Storing<'_>,
    how: &Compression,
    progress: &dyn Progress,
) -> Result<u64, PublishError> {
    let manner = |content: &Bytes| how.manner(plan.name(job), content);
    let done = match (&job.source, &plan.remote) {
        (FileSource::Folder(file), _) => file.stream(|input, _| {
            let (size, content) = match stream(input, &mut *storing, manner, progress) {
                Ok(done) => done,
                Err(StreamError::Read(error)) => return Err(Skip::from(error).into()),
                Err(StreamError::Store(error)) => return Err(Stopped::Failed(error)),
            };
            Ok((size, (size, content)))
        }),
        (FileSource::Blob(whole), Some(remote)) => {
            let input = Box::new(remote.reader(whole));
            match stream(input, &mut *storing, manner, progress) {
                Ok(done) if done.0 == job.size => Ok(done),
                Ok(_) => Err(Stopped::Failed(PublishError::Changed(job.source.path()))),
                Err(StreamError::Read(source)) => {
                    let path = job.source.path();
                    Err(Stopped::Failed(PublishError::Read { path, source }))
                }
                Err(StreamError::Store(error)) => Err(Stopped::Failed(error)),
            }
        }
        _ => {
            let why = "a large file has no source to read it from";
            Err(Stopped::Failed(PublishError::Internal(why)))
        }
    };
    progress.read(1, 0);
    match done {
        Ok((size, content)) => {
            plan.set(job, size, content);
            Ok(size)
        }
        Err(Stopped::Skipped(skip)) => {
            plan.drop_file(job, skip)?;
            Ok(0)
        }
        Err(Stopped::Failed(error)) => Err(error),
    }
}

/// Reason for an incomplete cut of a file.
enum StreamError {
    Read(io::Error),
    Store(PublishError),
}

/// The system error of a read.
fn read_error(error: fastcdc::v2020::Error) -> io::Error {
    match error {
        fastcdc::v2020::Error::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// Cuts a large file while reading it, with one batch of pieces in memory at a time;
/// returns its size.
fn stream<'a>(
    input: Box<dyn Read>,
    storing: &mut Storing<'_>,
    manner: impl Fn(&Bytes) -> Manner<'a>,
    progress: &dyn Progress,
) -> Result<(u64, ContentPlan), StreamError> {
    let mut cutter = StreamCDC::new(input, MIN_CUT, AVERAGE_CUT, MAX_CUT);
    let mut chunks = Vec::new();
    let mut size = 0;
    loop {
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for piece in cutter.by_ref() {
            let piece = piece.map_err(|error| StreamError::Read(read_error(error)))?;
            bytes += piece.length as u64;
            pieces.push(piece.data.into());
            if bytes >= BATCH {
                break;
            }
        }
        let Some(first) = pieces.first() else {
            break;
        };
        // Decide per batch: disk images contain zeros in one part, noise in another.
        let manner = manner(first);
        let (packs, known) = (&*storing.packs, storing.known);
        let pieces: Vec<Piece<'_>> = (pieces.into_par_iter())
            .map(|piece| Piece::new(piece, manner, packs, known))
            .collect();
        chunks.extend(storing.store(pieces).map_err(StreamError::Store)?);
        size += bytes;
        progress.read(0, bytes);
    }
    Ok((size, ContentPlan::Chunks(chunks)))
}

impl FileSource {
    /// Its designation in messages.
    fn path(&self) -> PathBuf {
        match self {
            FileSource::Folder(file) => file.path(),
            FileSource::Git(id) => id.to_string().into(),
            FileSource::Blob(whole) => format!("blob {}", whole.blob).into(),
            FileSource::Bytes(_) => PathBuf::from("an inline file"),
        }
    }
}

/// Access to the files of a plan before they are stored.
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

    /// Per-thread handle for reading.
    pub(super) fn reader(&self) -> Option<gix::Repository> {
        let git = self.0.git.as_ref();
        git.map(gix::ThreadSafeRepository::to_thread_local)
    }

    pub(super) fn read(
        &self,
        job: &FileJob,
        git: Option<&gix::Repository>,
    ) -> Result<Option<Bytes>, PublishError> {
        Ok(match read(job, git, WHOLE)? {
            Fetched::Content(raw) => Some(raw),
            // Reported when the file is stored.
            Fetched::TooLong | Fetched::Skipped(_) => None,
        })
    }
}

impl Plan {
    fn name(&self, job: &FileJob) -> &[u8] {
        &self.directories[job.directory].entries[job.entry].name
    }

    /// Skips a file of a folder.
    fn drop_file(&mut self, job: &FileJob, skip: Skip) -> Result<(), PublishError> {
        let FileSource::Folder(file) = &job.source else {
            return Err(PublishError::Internal(
                "a file that is no folder's was skipped",
            ));
        };
        self.skip(&file.folder, &file.relative, skip)?;
        self.dropped.push(job.place());
        Ok(())
    }

    fn set(&mut self, job: &FileJob, size: u64, content: ContentPlan) {
        let entry = &mut self.directories[job.directory].entries[job.entry];
        entry.size = size;
        entry.content = content;
    }
}
