//! Reads chunks from the store to verify them, with as few requests as possible.
//!
//! Neighbouring chunks of one blob are fetched in one ranged read. They are verified on
//! arrival, so a gateway that returns a wrong chunk is skipped in favour of the next, and
//! every correct chunk counts, whichever gateway returned it.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::checker::Checker;
use super::fault::{FaultKind, stored_end};
use crate::lifecycle::walk::ChunkRole;
use crate::repo::RepoError;
use walgit_format::chunk::{BlobId, ByteRange, ChunkHash, ChunkRef};
use walrus_client::{ReadRange, Rejected};

/// Maximum stored bytes of one request, unless a single chunk is longer.
const MAX_REQUEST_BYTES: u64 = 4 << 20;
/// Maximum gap between two chunks that is read rather than splitting the request.
const MAX_GAP_BYTES: u64 = 128 << 10;
/// Maximum plain bytes of the bases for the chunks of one request.
const MAX_BASE_BYTES: u64 = 16 << 20;
/// Stored bytes of neighbouring chunks that are fetched with a base.
const BASE_REQUEST_BYTES: u64 = 1 << 20;
/// Concurrent requests.
const CONCURRENCY: usize = 4;

type RequestedChunk = (ChunkRef, ChunkRole);

/// Chunks that are read together.
struct ReadSpan {
    blob: BlobId,
    range: ByteRange,
    chunks: Vec<RequestedChunk>,
}

/// Whether a chunk is intact, or its fault.
type ChunkCheck = Result<(), (FaultKind, String)>;

/// The result of reading a span.
#[derive(Default)]
struct SpanResult {
    chunks: Vec<(ChunkRef, ChunkRole, ChunkCheck)>,
    /// Length of a blob that is too short, or `None` if it is not stored.
    blob: Option<(BlobId, Option<u64>)>,
}

impl Checker<'_> {
    /// Reads chunks and records faulty ones.
    pub(super) async fn read_chunks(
        &mut self,
        mut chunks: Vec<RequestedChunk>,
    ) -> Result<(), RepoError> {
        chunks.retain(|(chunk, _)| !self.faults.is_lost(&chunk.location.blob));
        chunks.sort_unstable_by_key(|(chunk, _)| (chunk.location.blob, chunk.location.offset));
        // One lookup per lost blob instead of one per request to it.
        let mut spans = spans(chunks).into_iter().peekable();
        while spans.peek().is_some() {
            let batch: Vec<ReadSpan> = (spans.by_ref().take(CONCURRENCY * 4))
                .filter(|span| !self.faults.is_lost(&span.blob))
                .collect();
            let this = &*self;
            let reads = batch.into_iter().map(|span| this.read_span(span));
            let reads = futures_util::stream::iter(reads).buffer_unordered(CONCURRENCY);
            let results: Vec<SpanResult> = reads.try_collect().await?;
            results.into_iter().for_each(|result| self.record(result));
        }
        Ok(())
    }

    fn record(&mut self, result: SpanResult) {
        if let Some((blob, len)) = result.blob {
            let kind = len.map_or(FaultKind::Missing, |_| FaultKind::Short);
            self.faults.blob(blob, kind, len);
        }
        for (chunk, role, checked) in result.chunks {
            self.progress.read(u64::from(chunk.stored_len));
            match checked {
                Ok(()) => self.report.sound += u64::from(!role.is_node()),
                Err((kind, why)) => self.faults.chunk(&chunk, role, kind, why),
            }
        }
    }

    async fn read_span(&self, span: ReadSpan) -> Result<SpanResult, RepoError> {
        let mut result = SpanResult::default();
        let bases = self.bases(&span, &mut result).await?;
        let mut todo = vec![span];
        while let Some(mut span) = todo.pop() {
            // `None` for a chunk whose base is faulty, which is reported separately.
            let mut checked: Vec<Option<Result<(), String>>> = vec![None; span.chunks.len()];
            let mut accept = |bytes: Bytes| {
                let mut rejected = Ok(());
                for ((chunk, _), checked) in span.chunks.iter().zip(&mut checked) {
                    if !matches!(checked, Some(Ok(()))) {
                        *checked = open(chunk, &bytes, span.range, &bases).or(checked.take());
                    }
                    if let Some(Err(why)) = checked {
                        rejected = Err(Rejected::because(why));
                    }
                }
                rejected
            };
            let store = self.repository.store();
            let read = store.read(span.blob, ReadRange::Part(span.range), &mut accept);
            let kind = match read.await {
                Ok(()) => None,
                Err(why) => Some(FaultKind::of_store(&why).ok_or(why)?),
            };
            match kind {
                Some(FaultKind::Missing) => {
                    result.blob = Some((span.blob, None));
                    return Ok(result);
                }
                Some(kind @ FaultKind::Short) => {
                    let len = store.len(span.blob).await?;
                    let requested = span.chunks.len();
                    let is_within = |chunk: &ChunkRef| {
                        len.is_some_and(|len| stored_end(self.repository, chunk) <= len)
                    };
                    span.chunks.retain(|(chunk, _)| is_within(chunk));
                    if span.chunks.len() < requested {
                        result.blob = Some((span.blob, len));
                        todo.extend(spans(span.chunks));
                    } else {
                        // The blob is long enough, but the read was refused.
                        result.blob = None;
                        split(
                            span,
                            (kind, "the store refuses its range"),
                            &mut todo,
                            &mut result,
                        );
                    }
                }
                // An encrypted block that fails to decrypt hides the others.
                Some(kind) if !checked.iter().any(|it| matches!(it, Some(Err(_)))) => {
                    split(
                        span,
                        (kind, "the chunk cannot be decrypted"),
                        &mut todo,
                        &mut result,
                    );
                }
                _ => {
                    let chunks = span.chunks.into_iter().zip(checked);
                    result
                        .chunks
                        .extend(chunks.filter_map(|((chunk, role), checked)| {
                            let checked = checked?.map_err(|why| (FaultKind::Wrong, why));
                            Some((chunk, role, checked))
                        }));
                }
            }
        }
        Ok(result)
    }

    /// Returns the bases of the chunks of a span, as far as they are intact.
    async fn bases(
        &self,
        span: &ReadSpan,
        result: &mut SpanResult,
    ) -> Result<HashMap<ChunkHash, Bytes>, RepoError> {
        let bases = (span.chunks.iter()).flat_map(|(chunk, _)| chunk.bases.iter());
        let mut table: Vec<ChunkRef> = bases.cloned().collect();
        table.sort_unstable_by_key(|base| (base.location.blob, base.location.offset));
        table.dedup();
        let (cache, store) = (self.repository.loader().cache(), self.repository.store());
        let mut plain = HashMap::new();
        for at in 0..table.len() {
            match cache.get(store, &table, at, BASE_REQUEST_BYTES).await {
                Ok(bytes) => _ = plain.insert(table[at].hash, bytes),
                Err(why) => {
                    let why = RepoError::from(why);
                    let fault = (FaultKind::from_error(&why)?, why.to_string());
                    let base = table[at].clone();
                    result.chunks.push((base, ChunkRole::Base, Err(fault)));
                }
            }
        }
        Ok(plain)
    }
}

/// Splits a span that failed as a whole; a failure of a single chunk is recorded.
fn split(
    mut span: ReadSpan,
    (kind, why): (FaultKind, &str),
    todo: &mut Vec<ReadSpan>,
    result: &mut SpanResult,
) {
    if span.chunks.len() < 2 {
        let failed = |(chunk, role)| (chunk, role, Err((kind, why.into())));
        return result.chunks.extend(span.chunks.into_iter().map(failed));
    }
    let second = span.chunks.split_off(span.chunks.len() / 2);
    todo.extend(spans(second).into_iter().chain(spans(span.chunks)));
}

/// Verifies a chunk; `None` if its bases are not available.
fn open(
    chunk: &ChunkRef,
    bytes: &Bytes,
    range: ByteRange,
    bases: &HashMap<ChunkHash, Bytes>,
) -> Option<Result<(), String>> {
    let needed = (chunk.bases.iter()).map(|base| bases.get(&base.hash).cloned());
    let needed: Vec<Bytes> = needed.collect::<Option<_>>()?;
    let start = (chunk.location.offset - range.start()) as usize;
    let end = start + chunk.stored_len as usize;
    let stored = if end <= bytes.len() {
        bytes.slice(start..end)
    } else {
        Bytes::new()
    };
    let opened = chunk.open(stored, &needed);
    Some(opened.map(|_| ()).map_err(|why| why.to_string()))
}

/// Groups chunks, sorted by blob and offset, into few reads.
fn spans(chunks: Vec<RequestedChunk>) -> Vec<ReadSpan> {
    let mut spans: Vec<ReadSpan> = Vec::new();
    let mut bases = 0;
    for (chunk, role) in chunks {
        let range = chunk.range();
        let needs: u64 = chunk.bases.iter().map(|it| u64::from(it.raw_len)).sum();
        let fits = |span: &&mut ReadSpan| {
            let start = span.range.start();
            span.blob == chunk.location.blob
                && range.start() <= span.range.end().saturating_add(MAX_GAP_BYTES)
                && range.end().max(span.range.end()) - start <= MAX_REQUEST_BYTES
                && bases + needs <= MAX_BASE_BYTES
        };
        match spans.last_mut().filter(fits) {
            Some(span) => {
                let end = range.end().max(span.range.end());
                span.range = ByteRange::new(span.range.start(), end - span.range.start());
                bases += needs;
                span.chunks.push((chunk, role));
            }
            None => {
                bases = needs;
                spans.push(ReadSpan {
                    blob: chunk.location.blob,
                    range,
                    chunks: vec![(chunk, role)],
                });
            }
        }
    }
    spans
}
