//! Attachments of a repository.

use std::slice;

use bytes::Bytes;

use super::archive::{check_commits, decode_commits_of};
use super::error::RepoError;
use super::repository::Repository;
use walgit_format::chunk::{ChunkHash, ChunkRef};
use walgit_format::git::RawCommit;
use walgit_format::head::{AttachmentKind, MAX_SHIPPED_BYTES};
use walgit_format::prior::{MAX_PRIOR_BYTES, Prior};

/// Stored bytes of an attachment per read; attachments are read completely.
const ATTACHMENT_WINDOW_BYTES: u64 = 4 << 20;
/// Plain bytes of dictionaries to prefetch: the four dictionaries of a publisher take
/// half a megabyte.
const DICTIONARY_PREFETCH_BYTES: u64 = 4 << 20;
impl Repository {
    /// The plain chunks of the attachments of one kind, in order.
    pub async fn attachment(&self, kind: AttachmentKind) -> Result<Vec<Bytes>, RepoError> {
        let table: Vec<ChunkRef> = self.head().attached(kind).cloned().collect();
        let mut chunks = Vec::new();
        for index in 0..table.len() {
            chunks.push(self.chunk(&table, index).await?);
        }
        Ok(chunks)
    }

    /// The plain bytes of a chunk of an attachment.
    async fn chunk(&self, table: &[ChunkRef], index: usize) -> Result<Bytes, RepoError> {
        let cache = self.loader().cache();
        Ok(cache
            .get(self.store(), table, index, ATTACHMENT_WINDOW_BYTES)
            .await?)
    }

    /// Prefetches the dictionaries that content chunks are decoded with, up to a
    /// limit. They stay only in the memory cache: an evicted dictionary is fetched
    /// again on demand.
    pub async fn fetch_dictionaries(&self) {
        let table = self.head().attached(AttachmentKind::Dictionaries);
        let table: Vec<ChunkRef> = table.cloned().collect();
        let mut budget = DICTIONARY_PREFETCH_BYTES;
        for (at, chunk) in table.iter().enumerate() {
            let Some(left) = budget.checked_sub(u64::from(chunk.raw_len)) else {
                continue;
            };
            budget = left;
            // A demand read reports the error if the dictionary is unreadable.
            let _ = self.chunk(&table, at).await;
        }
    }

    /// Files that changed together in the history; `None` if the publisher did not
    /// attach the list.
    pub async fn prior(&self) -> Result<Option<Prior>, RepoError> {
        let Some(raw) = self.hint(AttachmentKind::Prior, MAX_PRIOR_BYTES).await? else {
            return Ok(None);
        };
        let prior = Prior::decode(&raw).map_err(|why| RepoError::Malformed {
            what: "list of files that changed together",
            hash: ChunkHash::of(&raw),
            why,
        })?;
        Ok(Some(prior))
    }

    /// The learned profile that was published with the repository; `None` if there is
    /// none.
    pub async fn shipped(&self) -> Result<Option<Bytes>, RepoError> {
        self.hint(AttachmentKind::Learned, MAX_SHIPPED_BYTES).await
    }

    /// Reads an optional attachment of one chunk. Fetches at most `limit` bytes,
    /// whatever size the head declares.
    async fn hint(&self, kind: AttachmentKind, limit: usize) -> Result<Option<Bytes>, RepoError> {
        let Some(chunk) = self.head().hint(kind, limit) else {
            return Ok(None);
        };
        let cache = self.loader().cache();
        let read = cache
            .get(self.store(), slice::from_ref(chunk), 0, 0)
            .await?;
        Ok(Some(read))
    }

    /// The text of the manifest, as WalGit's own tools wrote it; `None` if this
    /// repository is not a manifest.
    ///
    /// # Errors
    /// Fails if the cache has evicted the manifest and it cannot be fetched again.
    pub async fn manifest_text(&self) -> Result<Option<Bytes>, RepoError> {
        match (self.is_derived() && !self.has_archive(), self.blob()) {
            (true, Some(blob)) => Ok(Some(
                self.loader().manifest_text(self.access(), blob).await?,
            )),
            _ => Ok(None),
        }
    }

    /// Every commit object that was published, oldest first.
    ///
    /// # Errors
    /// [`RepoError::Malformed`], a read error, or [`RepoError::Memory`] if the
    /// commits exceed the memory limit of the mount.
    pub async fn git_commits(&self) -> Result<Vec<RawCommit>, RepoError> {
        let chunks = self.head().attached(AttachmentKind::GitCommits);
        let chunks: Vec<ChunkRef> = chunks.cloned().collect();
        check_commits(&chunks)?;
        let mut charge = self.access().account.nothing();
        let mut commits: Vec<RawCommit> = Vec::new();
        for at in 0..chunks.len() {
            let decoded = self.commits_in(&chunks, at).await?;
            charge.more(decoded.iter().map(RawCommit::weight).sum())?;
            commits.extend(decoded);
        }
        Ok(commits)
    }

    /// The commit objects of one chunk of an attachment.
    pub async fn commits_in(
        &self,
        table: &[ChunkRef],
        at: usize,
    ) -> Result<Vec<RawCommit>, RepoError> {
        let raw = self.chunk(table, at).await?;
        decode_commits_of(table[at].hash, raw, &self.head().commits[0].id.git()).await
    }
}
