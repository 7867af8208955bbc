//! Content of a repository in a foreign format, read where it is stored.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;

use super::error::PublishError;
use crate::repo::Snapshot;
use walgit_format::chunk::{ByteRange, WholeBlob};

/// Number of concurrent file fetches: each takes a separate request, and this many
/// saturate a link of 100 Mbit/s at 50 ms.
const FETCH_CONCURRENCY: usize = 32;
/// Bytes of a large file in memory at a time.
const READ_BYTES: u64 = 8 << 20;

/// Source of content in a foreign format.
#[derive(Clone, Debug)]
pub(super) struct ForeignSource {
    /// Provides the store and the keys.
    pub(super) snapshot: Snapshot,
    pub(super) runtime: Handle,
    /// Cost of the repository in its present layout.
    pub(super) layout: FormerLayout,
    /// Number of files and directories of the newest commit.
    pub(super) counts: (u64, u64),
}

/// Cost of a repository in its former layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FormerLayout {
    /// Number of converted commits.
    pub commits: u64,
    /// Number of its blobs.
    pub blobs: u64,
    /// Bytes that the network bills for them.
    pub bytes_billed: u64,
    /// Requests to read the newest commit completely: one per blob.
    pub requests: u64,
}

impl ForeignSource {
    /// Fetches these blobs concurrently.
    pub(super) fn fetch<'b>(
        &self,
        blobs: impl Iterator<Item = Option<&'b WholeBlob>>,
    ) -> Result<Vec<Option<Bytes>>, PublishError> {
        let fetch = |blob: Option<&WholeBlob>| {
            let blob = blob.cloned();
            async move {
                let Some(blob) = blob else { return Ok(None) };
                let all = ByteRange::new(0, blob.size);
                let read = self.snapshot.read_whole(&blob, all, blob.size);
                read.await.map(Some)
            }
        };
        let reads: Vec<_> = blobs.map(fetch).collect();
        let fetched = futures_util::stream::iter(reads).buffered(FETCH_CONCURRENCY);
        Ok(self.runtime.block_on(fetched.try_collect())?)
    }

    /// Opens a large file for streaming.
    pub(super) fn reader(&self, blob: &WholeBlob) -> impl io::Read + use<> {
        ForeignFile {
            source: self.clone(),
            blob: blob.clone(),
            at: 0,
            buffer: Bytes::new(),
        }
    }
}

struct ForeignFile {
    source: ForeignSource,
    blob: WholeBlob,
    /// Number of bytes fetched so far.
    at: u64,
    buffer: Bytes,
}

impl io::Read for ForeignFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() && self.at < self.blob.size {
            let range = ByteRange::new(self.at, READ_BYTES);
            let read = (self.source.snapshot).read_whole(&self.blob, range, READ_BYTES);
            self.buffer = (self.source.runtime.block_on(read)).map_err(io::Error::other)?;
            self.at += self.buffer.len() as u64;
        }
        let len = out.len().min(self.buffer.len());
        out[..len].copy_from_slice(&self.buffer.split_to(len));
        Ok(len)
    }
}
