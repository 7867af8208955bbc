//! Reading and chunking of files on all cores; stores the chunks in tree order.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use rayon::prelude::*;

use super::chunk_writer::{ChunkWriter, RawChunk};
use super::chunking::{split, split_stream};
use super::compress::{Compression, FileCodec};
use super::delta::PreviousVersions;
use super::error::PublishError;
use super::file_reader::{ReadOutcome, max_separate_blob, read};
use super::options::Progress;
use super::packs::Packs;
use super::plan::{ContentPlan, EntryIndex, FileJob, FileSource, Plan};
use super::previous_publish::PreviousPublish;
use super::source::Skip;
use super::tier::{self, TierFacts};
use crate::config::Tiers;
use crate::repo::Tier;
use walgit_format::chunk::ChunkHash;

/// Bytes to read before processing a batch.
const BATCH_BYTES: u64 = 16 << 20;

/// Inputs of the tier decision besides the files.
struct TierInputs<'a> {
    /// Maximum blob size, in bytes.
    max_blob: u64,
    /// Total bytes of all files to read.
    total: u64,
    tiers: &'a Tiers,
}

impl TierInputs<'_> {
    fn tier(&self, size: u64, codec: &FileCodec<'_>) -> Tier {
        let class = (codec.class, codec.compressible);
        let bounds = (self.max_blob, Some(self.total));
        let facts = TierFacts::published(size, class, bounds, self.tiers);
        tier::choose(&facts, &self.tiers.weights).tier
    }
}

/// A file that was read whole, in the form of its tier.
enum ChunkedFile<'a> {
    Inline(Vec<u8>),
    Chunks(Vec<RawChunk<'a>>),
    /// A separate blob, with the hashes and lengths of its chunks.
    Separate(Bytes, Vec<(ChunkHash, u32)>),
}

/// Reads every file of the plan and stores its chunks; returns the bytes read.
pub(super) fn store(
    plan: &mut Plan,
    packs: &mut Packs,
    previous: &PreviousPublish,
    compression: &Compression,
    tiers: &Tiers,
    progress: &dyn Progress,
) -> Result<u64, PublishError> {
    let versions = PreviousVersions::of(plan, previous);
    let files = std::mem::take(&mut plan.files);
    let total = files.iter().map(|file| file.size).sum();
    progress.total(files.len() as u64, total);
    let max_blob = packs.limit();
    let inputs = TierInputs {
        max_blob,
        total,
        tiers,
    };
    let mut writer = ChunkWriter::new(packs);
    let mut bytes_read = 0;
    let mut rest = &files[..];
    while let Some(first) = rest.first() {
        if first.is_streamed(max_blob) {
            bytes_read += store_streamed(plan, first, &mut writer, compression, progress)?;
            rest = &rest[1..];
            continue;
        }
        let (batch, later) = rest.split_at(batch_len(rest, max_blob));
        let chunked = chunk_batch(plan, batch, writer.packs, compression, &inputs)?;
        let (mut done, mut too_long, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (job, file) in batch.iter().zip(chunked) {
            match file {
                ReadOutcome::Content((size, file)) => done.push((job, size, file)),
                ReadOutcome::TooLong => too_long.push(job),
                ReadOutcome::Skipped(skip) => skipped.push((job, skip)),
            }
        }
        set_versions(&mut done, previous, &versions);
        for (job, size, content) in store_batch(done, &mut writer)? {
            plan.set_content(job, size, content);
            bytes_read += size;
            progress.read(1, size);
        }
        for job in too_long {
            bytes_read += store_streamed(plan, job, &mut writer, compression, progress)?;
        }
        for (job, skip) in skipped {
            plan.drop_file(job, skip)?;
        }
        rest = later;
    }
    for (original, copy) in std::mem::take(&mut plan.copies) {
        plan.entry_mut(copy).content = plan.entry(original).content.clone();
    }
    plan.remove_dropped();
    Ok(bytes_read)
}

/// Number of the next files that form a batch.
fn batch_len(files: &[FileJob], max_blob: u64) -> usize {
    let mut bytes = 0;
    let fits = files.iter().take_while(|job| {
        let first = bytes == 0;
        bytes += job.size.max(1);
        first || (bytes <= BATCH_BYTES && !job.is_streamed(max_blob))
    });
    fits.count()
}

/// Reads and chunks a batch of files on all cores; also returns their sizes.
fn chunk_batch<'a>(
    plan: &Plan,
    batch: &[FileJob],
    packs: &Packs,
    compression: &'a Compression,
    inputs: &TierInputs<'_>,
) -> Result<Vec<ReadOutcome<(u64, ChunkedFile<'a>)>>, PublishError> {
    let fetched = match &plan.foreign {
        Some(foreign) => foreign.fetch(batch.iter().map(|job| job.source.blob()))?,
        None => vec![None; batch.len()],
    };
    let git = || (plan.git.as_ref()).map(gix::ThreadSafeRepository::to_thread_local);
    (batch.par_iter().zip(fetched))
        .map_init(git, |git, (job, fetched)| {
            let read = match fetched {
                Some(fetched) => ReadOutcome::Content(fetched),
                None => read(job, git.as_ref(), max_separate_blob(inputs.max_blob))?,
            };
            Ok(match read {
                ReadOutcome::Content(raw) => {
                    let codec = compression.file_codec(&plan.entry(job.entry).name, &raw);
                    ReadOutcome::Content((raw.len() as u64, chunk(&raw, packs, codec, inputs)))
                }
                ReadOutcome::TooLong => ReadOutcome::TooLong,
                ReadOutcome::Skipped(skip) => ReadOutcome::Skipped(skip),
            })
        })
        .collect()
}

/// Chunks a file in memory.
fn chunk<'a>(
    raw: &Bytes,
    packs: &Packs,
    codec: FileCodec<'a>,
    inputs: &TierInputs<'_>,
) -> ChunkedFile<'a> {
    let tier = inputs.tier(raw.len() as u64, &codec);
    if tier == Tier::Inline {
        return ChunkedFile::Inline(raw.to_vec());
    }
    let chunks = split(raw);
    if tier == Tier::Walrus {
        let hashes: Vec<_> = (chunks.par_iter())
            .map(|chunk| (ChunkHash::of(chunk), chunk.len() as u32))
            .collect();
        // If all chunks are stored in any form, no separate blob is needed.
        if hashes.iter().any(|(hash, _)| packs.find(hash).is_none()) {
            return ChunkedFile::Separate(raw.clone(), hashes);
        }
    }
    let chunks = chunks.into_iter().map(|chunk| {
        // A retained chunk must not keep its entire file in memory.
        let own = if chunk.len() == raw.len() {
            chunk
        } else {
            Bytes::copy_from_slice(&chunk)
        };
        RawChunk::new(own, codec, packs)
    });
    ChunkedFile::Chunks(chunks.collect())
}

/// Sets the previous versions of files of a single chunk. Files of several chunks share
/// unchanged chunks with their versions instead.
fn set_versions(
    files: &mut [(&FileJob, u64, ChunkedFile<'_>)],
    previous: &PreviousPublish,
    versions: &PreviousVersions,
) {
    let mut single: HashMap<EntryIndex, &mut RawChunk<'_>> = (files.iter_mut())
        .filter_map(|(job, _, file)| match file {
            ChunkedFile::Chunks(chunks) => match &mut chunks[..] {
                [chunk] if chunk.wants_base() => Some((job.entry, chunk)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let wanted: Vec<EntryIndex> = single.keys().copied().collect();
    for (file, base) in versions.fetch(previous, &wanted) {
        if let Some(chunk) = single.get_mut(&file) {
            chunk.version = Some(base);
        }
    }
}

/// Stores a batch of files, in order.
fn store_batch<'j>(
    files: Vec<(&'j FileJob, u64, ChunkedFile<'_>)>,
    writer: &mut ChunkWriter<'_>,
) -> Result<Vec<(&'j FileJob, u64, ContentPlan)>, PublishError> {
    let mut chunks = Vec::new();
    let mut contents = Vec::with_capacity(files.len());
    for (job, size, file) in files {
        // The number of chunks, or the content if it is stored already.
        let content = match file {
            ChunkedFile::Chunks(of_file) => {
                let count = of_file.len();
                chunks.extend(of_file);
                Err(count)
            }
            ChunkedFile::Inline(bytes) if bytes.is_empty() => Ok(ContentPlan::Chunks(Vec::new())),
            ChunkedFile::Inline(bytes) => Ok(ContentPlan::Inline(bytes)),
            ChunkedFile::Separate(body, hashes) => {
                Ok(ContentPlan::Chunks(writer.packs.add_plain(body, &hashes)?))
            }
        };
        contents.push((job, size, content));
    }
    let mut stored = writer.store(chunks)?.into_iter();
    let contents = contents.into_iter().map(|(job, size, content)| {
        let chunks = |count| ContentPlan::Chunks(stored.by_ref().take(count).collect());
        (job, size, content.unwrap_or_else(chunks))
    });
    Ok(contents.collect())
}

/// Reason for not storing a streamed file.
enum StreamError {
    Skipped(Skip),
    Failed(PublishError),
}

impl From<Skip> for StreamError {
    fn from(skip: Skip) -> Self {
        StreamError::Skipped(skip)
    }
}

impl From<PublishError> for StreamError {
    fn from(error: PublishError) -> Self {
        StreamError::Failed(error)
    }
}

/// Streams a large file; returns the bytes read.
fn store_streamed(
    plan: &mut Plan,
    job: &FileJob,
    writer: &mut ChunkWriter<'_>,
    compression: &Compression,
    progress: &dyn Progress,
) -> Result<u64, PublishError> {
    let name = plan.entry(job.entry).name.clone();
    let codec = |content: &Bytes| compression.file_codec(&name, content);
    let done = match (&job.source, &plan.foreign) {
        (FileSource::Folder(file), _) => file.stream(|input, _| {
            let skip = |error| StreamError::Skipped(Skip::from(error));
            let (size, content) = stream(input, writer, codec, progress, skip)?;
            Ok((size, (size, content)))
        }),
        (FileSource::Blob(whole), Some(foreign)) => {
            let input = foreign.reader(whole);
            let unreadable = PublishError::read(&job.source.path());
            match stream(input, writer, codec, progress, unreadable) {
                Ok((size, _)) if size != job.size => {
                    Err(PublishError::Changed(job.source.path()).into())
                }
                done => done.map_err(Into::into),
            }
        }
        _ => Err(PublishError::Internal("a large file has no source to read from").into()),
    };
    progress.read(1, 0);
    match done {
        Ok((size, content)) => {
            plan.set_content(job, size, content);
            Ok(size)
        }
        Err(StreamError::Skipped(skip)) => plan.drop_file(job, skip).map(|()| 0),
        Err(StreamError::Failed(error)) => Err(error),
    }
}

/// Chunks and stores a large file while reading it, with one batch of chunks in memory at
/// a time; returns its size.
fn stream<'a, E: From<PublishError>>(
    input: impl Read,
    writer: &mut ChunkWriter<'_>,
    codec: impl Fn(&Bytes) -> FileCodec<'a>,
    progress: &dyn Progress,
    read_failed: impl Fn(io::Error) -> E,
) -> Result<(u64, ContentPlan), E> {
    let mut input = split_stream(input);
    let mut stored = Vec::new();
    let mut size = 0;
    loop {
        let mut batch: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(chunk) = input.next()
        {
            let chunk = chunk.map_err(&read_failed)?;
            bytes += chunk.len() as u64;
            batch.push(chunk);
        }
        let Some(first) = batch.first() else {
            return Ok((size, ContentPlan::Chunks(stored)));
        };
        // Decide per batch: disk images contain zeros in one part, noise in another.
        let codec = codec(first);
        let packs = &*writer.packs;
        let chunks: Vec<RawChunk<'_>> = (batch.into_par_iter())
            .map(|chunk| RawChunk::new(chunk, codec, packs))
            .collect();
        stored.extend(writer.store(chunks)?);
        size += bytes;
        progress.read(0, bytes);
    }
}

impl FileSource {
    /// The blob that contains exactly the file.
    fn blob(&self) -> Option<&walgit_format::chunk::WholeBlob> {
        match self {
            FileSource::Blob(whole) => Some(whole),
            _ => None,
        }
    }

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

impl Plan {
    /// Skips a file of a folder.
    fn drop_file(&mut self, job: &FileJob, skip: Skip) -> Result<(), PublishError> {
        let FileSource::Folder(file) = &job.source else {
            return Err(PublishError::Internal("a skipped file is not in a folder"));
        };
        self.skip(&file.folder, &file.relative, skip)?;
        self.dropped.push(job.entry);
        Ok(())
    }

    fn set_content(&mut self, job: &FileJob, size: u64, content: ContentPlan) {
        let entry = self.entry_mut(job.entry);
        entry.size = size;
        entry.content = content;
    }
}
