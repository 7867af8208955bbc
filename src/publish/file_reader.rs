//! Reading of whole files of a plan.

use bytes::Bytes;
use gix::objs::Kind;

use super::error::PublishError;
use super::git_objects;
use super::plan::{FileJob, FileSource};
use super::source::Skip;

/// Maximum size of files that are read into memory, in bytes; larger files are streamed,
/// unless they may become separate blobs, which are stored from memory.
pub(super) const MAX_IN_MEMORY: u64 = 8 << 20;
/// Maximum size of a file that is read into memory for a separate blob, in bytes.
const MAX_SEPARATE_BLOB: u64 = 64 << 20;

/// Result of reading a file.
pub(super) enum ReadOutcome<T> {
    Content(T),
    /// It grew beyond the limit.
    TooLong,
    Skipped(Skip),
}

/// Maximum size of a file that is read whole, for blobs of at most `max_blob` bytes.
pub(super) fn max_separate_blob(max_blob: u64) -> u64 {
    MAX_IN_MEMORY.max(max_blob.min(MAX_SEPARATE_BLOB))
}

impl FileJob {
    /// Whether the file is streamed, for blobs of at most `max_blob` bytes.
    pub(super) fn is_streamed(&self, max_blob: u64) -> bool {
        match self.source {
            FileSource::Folder(_) => self.size > max_separate_blob(max_blob),
            FileSource::Blob(_) => self.size > MAX_IN_MEMORY,
            FileSource::Git(_) | FileSource::Bytes(_) => false,
        }
    }
}

/// Reads a file whole; from a folder, at most `max` bytes.
pub(super) fn read(
    job: &FileJob,
    git: Option<&gix::Repository>,
    max: u64,
) -> Result<ReadOutcome<Bytes>, PublishError> {
    Ok(match (&job.source, git) {
        (FileSource::Folder(file), _) => match file.read(max) {
            Ok(Some(raw)) => ReadOutcome::Content(raw),
            Ok(None) => ReadOutcome::TooLong,
            Err(skip) => ReadOutcome::Skipped(skip),
        },
        (FileSource::Git(id), Some(git)) => {
            ReadOutcome::Content(git_objects::read_as(git, *id, Kind::Blob)?.into())
        }
        (FileSource::Bytes(bytes), _) => ReadOutcome::Content(bytes.clone()),
        (FileSource::Git(_), None) | (FileSource::Blob(_), _) => {
            return Err(PublishError::Internal("a file has no source to read from"));
        }
    })
}
