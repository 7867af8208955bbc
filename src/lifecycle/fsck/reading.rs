//! Reads chunks from the store to verify them, with as few requests as possible.
//!
//! Neighbouring chunks of one blob are fetched in one ranged read. They are verified on
//! arrival, so a gateway that returns a wrong chunk is skipped in favour of the next, and
//! every correct chunk counts, whichever gateway returned it.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::Check;
use super::fault::FaultKind;
use crate::lifecycle::walk::Role;
use crate::repo::RepoError;
use walgit_format::chunk::{BlobId, ByteRange, ChunkHash, ChunkRef, private_len};
use walrus_client::{Extent, Rejected, StoreError};

/// Maximum stored bytes of one request, unless a single chunk is longer.
const MOST: u64 = 4 << 20;
/// Maximum gap between two chunks that is read rather than splitting the request.
const GAP: u64 = 128 << 10;
/// Maximum plain bytes of the bases for the chunks of one request.
const BASES: u64 = 16 << 20;
/// Stored bytes of neighbouring chunks that are fetched with a base.
const BASE_WINDOW: u64 = 1 << 20;
/// Concurrent requests.
const AT_ONCE: usize = 4;

type Wanted = (ChunkRef, Role);

/// Chunks that are read together.
struct Span {
    blob: BlobId,
    range: ByteRange,
    chunks: Vec<Wanted>,
}

/// The result for a chunk.
type Judged = (ChunkRef, Role, Result<(), Bad>);

struct Bad {
    kind: FaultKind,
    why: String,
}

/// The result of reading a span.
#[derive(Default)]
struct Told {
    judged: Vec<Judged>,
    /// Length of the blob, or `None` if it is not stored.
    blob: Option<(BlobId, Option<u64>)>,
}

impl Check<'_> {
    /// Reads chunks and records faulty ones.
    pub(super) async fn read_chunks(&mut self, mut chunks: Vec<Wanted>) -> Result<(), RepoError> {
        chunks.retain(|(chunk, _)| !self.faults.is_lost(&chunk.location.blob));
        chunks.sort_unstable_by_key(|(chunk, _)| (chunk.location.blob, chunk.location.offset));
        // One lookup per lost blob instead of one per request to it.
        let mut spans = spans(chunks).into_iter().peekable();
        while spans.peek().is_some() {
            let some: Vec<Span> = spans
                .by_ref()
                .take(AT_ONCE * 4)
                .filter(|span| !self.faults.is_lost(&span.blob))
                .collect();
            let this = &*self;
            let mut reads =
                futures_util::stream::iter(some.into_iter().map(|span| this.read_span(span)))
                    .buffer_unordered(AT_ONCE);
            let mut all = Vec::new();
            while let Some(told) = reads.next().await {
                all.push(told?);
            }
            drop(reads);
            all.into_iter().for_each(|told| self.note(told));
        }
        Ok(())
    }

    fn note(&mut self, told: Told) {
        match told.blob {
            Some((blob, None)) => self.faults.blob(blob, FaultKind::Missing, None),
            Some((blob, len)) => self.faults.blob(blob, FaultKind::Short, len),
            None => {}
        }
        for (chunk, role, judged) in told.judged {
            self.watch.read(u64::from(chunk.stored_len));
            match judged {
                Ok(()) => {
                    let is_node = matches!(role, Role::Directory | Role::List);
                    self.report.sound += u64::from(!is_node);
                }
                Err(bad) => self.faults.chunk(&chunk, role, bad.kind, bad.why),
            }
        }
    }

    async fn read_span(&self, span: Span) -> Result<Told, RepoError> {
        let mut told = Told::default();
        let bases = self.bases(&span, &mut told).await?;
        let mut todo = vec![span];
        while let Some(mut span) = todo.pop() {
            let mut sound = vec![false; span.chunks.len()];
            let mut whys: Vec<Option<String>> = vec![None; span.chunks.len()];
            let mut accept = |bytes: Bytes| {
                let mut refused = None;
                for (at, (chunk, _)) in span.chunks.iter().enumerate() {
                    if sound[at] {
                        continue;
                    }
                    match open(chunk, &bytes, span.range, &bases) {
                        // Its base is faulty, and reported separately.
                        None => {}
                        Some(Ok(())) => (sound[at], whys[at]) = (true, None),
                        Some(Err(why)) => {
                            refused = Some(Rejected::because(&why));
                            whys[at] = Some(why);
                        }
                    }
                }
                refused.map_or(Ok(()), Err)
            };
            let store = self.repository.store();
            let read = store.read(span.blob, Extent::Part(span.range), &mut accept);
            let failed = read.await.err();
            let judged = whys.iter().any(Option::is_some);
            let kind = match &failed {
                None => None,
                Some(why) => match FaultKind::of_store(why) {
                    Some(kind) => Some(kind),
                    None => return Err(failed.map_or(unexpected(), RepoError::from)),
                },
            };
            match kind {
                Some(FaultKind::Missing) => {
                    told.blob = Some((span.blob, None));
                    return Ok(told);
                }
                Some(FaultKind::Short) => {
                    let len = store.len(span.blob).await?;
                    told.blob = Some((span.blob, len));
                    let fits = |chunk: &ChunkRef| len.is_some_and(|len| self.end(chunk) <= len);
                    let all = span.chunks.len();
                    span.chunks.retain(|(chunk, _)| fits(chunk));
                    if span.chunks.len() < all {
                        todo.extend(spans(span.chunks));
                        continue;
                    }
                    // The blob is long enough, but the read was refused: split the range.
                    told.blob = None;
                    self.halve(span, "its range is refused", kind, &mut todo, &mut told);
                }
                // An encrypted block that fails to decrypt hides the others.
                Some(_) if !judged => {
                    let why = "it cannot be decrypted";
                    self.halve(span, why, kind, &mut todo, &mut told);
                }
                _ => {
                    let them = span.chunks.into_iter().zip(sound).zip(whys);
                    told.judged
                        .extend(them.filter_map(|(((chunk, role), sound), why)| {
                            let judged = match (sound, why) {
                                (true, _) => Ok(()),
                                (false, Some(why)) => Err(Bad {
                                    kind: FaultKind::Wrong,
                                    why,
                                }),
                                (false, None) => return None,
                            };
                            Some((chunk, role, judged))
                        }));
                }
            }
        }
        Ok(told)
    }

    /// Reads both halves of a span that failed as a whole; a failure of a single chunk is
    /// recorded.
    fn halve(
        &self,
        mut span: Span,
        why: &str,
        kind: Option<FaultKind>,
        todo: &mut Vec<Span>,
        told: &mut Told,
    ) {
        if span.chunks.len() < 2 {
            let bad = |(chunk, role)| {
                let bad = Bad {
                    kind: kind.unwrap_or(FaultKind::Wrong),
                    why: why.into(),
                };
                (chunk, role, Err(bad))
            };
            return told.judged.extend(span.chunks.into_iter().map(bad));
        }
        let second = span.chunks.split_off(span.chunks.len() / 2);
        todo.extend(spans(second).into_iter().chain(spans(span.chunks)));
    }

    /// Returns the end of a chunk in its blob as stored.
    fn end(&self, chunk: &ChunkRef) -> u64 {
        let end = chunk.range().end();
        match self.repository.key() {
            Some(_) => private_len(end).unwrap_or(u64::MAX),
            None => end,
        }
    }

    /// Returns the bases of the chunks of a span, as far as they are intact.
    async fn bases(
        &self,
        span: &Span,
        told: &mut Told,
    ) -> Result<HashMap<ChunkHash, Bytes>, RepoError> {
        let bases = (span.chunks.iter()).flat_map(|(chunk, _)| chunk.bases.iter());
        let mut table: Vec<ChunkRef> = bases.cloned().collect();
        table.sort_unstable_by_key(|base| (base.location.blob, base.location.offset));
        table.dedup();
        let (cache, store) = (self.repository.loader().cache(), self.repository.store());
        let mut plain = HashMap::new();
        for at in 0..table.len() {
            match cache.get(store, &table, at, BASE_WINDOW).await {
                Ok(bytes) => _ = plain.insert(table[at].hash, bytes),
                Err(why) => {
                    let why = RepoError::from(why);
                    let kind = FaultKind::of(&why).ok_or(why.clone())?;
                    let bad = Bad {
                        kind,
                        why: why.to_string(),
                    };
                    told.judged.push((table[at].clone(), Role::Base, Err(bad)));
                }
            }
        }
        Ok(plain)
    }
}

fn unexpected() -> RepoError {
    RepoError::from(StoreError::Unavailable {
        place: "the store".into(),
        why: "it gave nothing".into(),
    })
}

/// Verifies a chunk; `None` if its bases are not available.
fn open(
    chunk: &ChunkRef,
    bytes: &Bytes,
    range: ByteRange,
    bases: &HashMap<ChunkHash, Bytes>,
) -> Option<Result<(), String>> {
    let needed = chunk
        .bases
        .iter()
        .map(|base| bases.get(&base.hash).cloned());
    let needed: Vec<Bytes> = needed.collect::<Option<_>>()?;
    let start = (chunk.location.offset - range.start()) as usize;
    let end = start + chunk.stored_len as usize;
    let stored = match end <= bytes.len() {
        true => bytes.slice(start..end),
        false => Bytes::new(),
    };
    let opened = chunk.open(stored, &needed);
    Some(opened.map(|_| ()).map_err(|why| why.to_string()))
}

/// Groups chunks, sorted by blob and offset, into few reads.
fn spans(chunks: Vec<Wanted>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut bases = 0;
    for (chunk, role) in chunks {
        let range = chunk.range();
        let needs: u64 = chunk.bases.iter().map(|it| u64::from(it.raw_len)).sum();
        let fits = |span: &&mut Span| {
            let start = span.range.start();
            span.blob == chunk.location.blob
                && range.start() <= span.range.end().saturating_add(GAP)
                && range.end().max(span.range.end()) - start <= MOST
                && bases + needs <= BASES
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
                spans.push(Span {
                    blob: chunk.location.blob,
                    range,
                    chunks: vec![(chunk, role)],
                });
            }
        }
    }
    spans
}
