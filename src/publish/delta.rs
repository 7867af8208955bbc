//! Selection of bases for patches: an earlier version of a file, or similar content that
//! was stored recently.
//!
//! Only chunks that are stored whole serve as bases, so the patch depth in a head is at
//! most one, however often a file changes: each version is a patch against the same base
//! until it has diverged too far, and is then stored whole. Bases belong to the previous
//! head or to this publish, under the same key or unencrypted; no patch crosses a
//! repository or a key.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::pending_chunk::{PendingChunk, stored};
use super::plan::{EntryIndex, FileJob, Plan};
use super::previous_publish::PreviousPublish;
use super::sketch::Sketch;
use walgit_format::chunk::{ChunkHash, ChunkRef};

/// Maximum plain bytes of retained possible bases.
const MAX_RECENT_BYTES: usize = 32 << 20;
/// Minimum resemblance to try a patch; below, it would not pay.
const MIN_RESEMBLANCE: f64 = 0.25;
/// Maximum size ratio of two files of one name to consider one the moved version of the
/// other.
const MAX_MOVED_SIZE_RATIO: u64 = 2;
/// Concurrent fetches of versions.
const FETCH_CONCURRENCY: usize = 32;
/// Stored bytes per request.
const MAX_REQUEST_BYTES: u64 = 1 << 20;

/// A possible base of a patch.
#[derive(Clone, Debug)]
pub(super) struct PatchBase {
    pub(super) hash: ChunkHash,
    /// Its plain bytes.
    pub(super) raw: Bytes,
    /// Its location, if an earlier publish stored it.
    pub(super) stored: Option<PendingChunk>,
}

/// Previous versions of the files of a plan.
#[derive(Debug)]
pub(super) struct PreviousVersions {
    chunks: HashMap<EntryIndex, ChunkRef>,
}

impl PreviousVersions {
    /// Finds previous files with the same path, or else the same name and a similar size.
    pub(super) fn of(plan: &Plan, previous: &PreviousPublish) -> Self {
        let mut chunks = HashMap::new();
        let mut moved: HashMap<&[u8], Vec<&FileJob>> = HashMap::new();
        for job in &plan.files {
            let directory = &plan.directories[job.entry.0];
            let name = &plan.entry(job.entry).name[..];
            match previous.file_at(&directory.path, name) {
                Some(chunk) => _ = chunks.insert(job.entry, chunk.clone()),
                None => moved.entry(name).or_default().push(job),
            }
        }
        let names: HashSet<&[u8]> = moved.keys().copied().collect();
        let mut named: HashMap<&[u8], Vec<(u64, &ChunkRef)>> = HashMap::new();
        for (name, size, chunk) in previous.files_named(&names) {
            named.entry(name).or_default().push((size, chunk));
        }
        for (name, jobs) in moved {
            for job in jobs {
                let others = named.get(name).into_iter().flatten();
                let alike = others.filter(|(size, _)| {
                    let (less, more) = (job.size.min(*size), job.size.max(*size));
                    more <= less.saturating_mul(MAX_MOVED_SIZE_RATIO)
                });
                // Deterministic choice.
                let nearest =
                    alike.min_by_key(|(size, chunk)| (job.size.abs_diff(*size), chunk.hash));
                if let Some((_, chunk)) = nearest {
                    chunks.insert(job.entry, (*chunk).clone());
                }
            }
        }
        PreviousVersions { chunks }
    }

    /// Fetches the versions of these files concurrently; omits unavailable ones.
    pub(super) fn fetch(
        &self,
        previous: &PreviousPublish,
        files: &[EntryIndex],
    ) -> Vec<(EntryIndex, PatchBase)> {
        let files = files.iter();
        let mut wanted: Vec<(EntryIndex, &ChunkRef)> = files
            .filter_map(|file| Some((*file, self.chunks.get(file)?)))
            .collect();
        let Some(head) = previous.head.as_ref().filter(|_| !wanted.is_empty()) else {
            return Vec::new();
        };
        // Coalesce reads of neighbours.
        wanted.sort_unstable_by_key(|(file, chunk)| {
            (chunk.location.blob, chunk.location.offset, *file)
        });
        let table: Vec<ChunkRef> = wanted.iter().map(|(_, chunk)| (*chunk).clone()).collect();
        let cache = head.loader().cache();
        let reads =
            (0..table.len()).map(|at| cache.get(head.store(), &table, at, MAX_REQUEST_BYTES));
        let reads = futures_util::stream::iter(reads).buffered(FETCH_CONCURRENCY);
        let read: Vec<_> = tokio::runtime::Handle::current().block_on(reads.collect());
        let read = wanted.into_iter().zip(read);
        read.filter_map(|((file, chunk), raw)| {
            let base = PatchBase {
                hash: chunk.hash,
                raw: raw.ok()?,
                stored: Some(stored(chunk)),
            };
            Some((file, base))
        })
        .collect()
    }
}

/// Content recently stored whole, indexed by sketch.
#[derive(Debug, Default)]
pub(super) struct RecentChunks {
    /// Oldest first; the first one has the number `first`.
    contents: VecDeque<(PatchBase, Sketch)>,
    first: usize,
    bytes: usize,
    /// For each feature, the latest content that has it.
    by_feature: HashMap<u32, usize>,
}

impl RecentChunks {
    /// Adds a content, and evicts the oldest ones if necessary.
    pub(super) fn add(&mut self, hash: ChunkHash, raw: Bytes, sketch: Sketch) {
        self.bytes += raw.len();
        let number = self.first + self.contents.len();
        for feature in sketch.features() {
            self.by_feature.insert(*feature, number);
        }
        let base = PatchBase {
            hash,
            raw,
            stored: None,
        };
        self.contents.push_back((base, sketch));
        while self.bytes > MAX_RECENT_BYTES {
            let Some((oldest, sketch)) = self.contents.pop_front() else {
                break;
            };
            for feature in sketch.features() {
                if self.by_feature.get(feature) == Some(&self.first) {
                    self.by_feature.remove(feature);
                }
            }
            self.first += 1;
            self.bytes -= oldest.raw.len();
        }
    }

    /// Returns the most similar content, if any is similar.
    pub(super) fn most_similar(&self, sketch: &Sketch) -> Option<&PatchBase> {
        let features = sketch.features().iter();
        let candidates: HashSet<usize> = features
            .filter_map(|feature| self.by_feature.get(feature).copied())
            .collect();
        let candidates = candidates.into_iter().filter_map(|number| {
            let (base, other) = self.contents.get(number - self.first)?;
            Some((sketch.resemblance(other), number, base))
        });
        // Prefer the latest of equals: it is stored nearest.
        let best = candidates.max_by(|(a, m, _), (b, n, _)| a.total_cmp(b).then(m.cmp(n)));
        let (resemblance, _, base) = best?;
        (resemblance >= MIN_RESEMBLANCE).then_some(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: u32, lines: u32) -> Bytes {
        let line = |n| {
            format!(
                "line {n} of a text, number {}\n",
                (n * 7919 + seed) % 100_003
            )
        };
        (0..lines).map(line).collect::<String>().into()
    }

    fn add(recent: &mut RecentChunks, raw: &Bytes) -> ChunkHash {
        let hash = ChunkHash::of(raw);
        recent.add(hash, raw.clone(), Sketch::of(raw));
        hash
    }

    #[test]
    fn finds_the_most_similar_content_and_no_dissimilar_one() {
        let mut recent = RecentChunks::default();
        let first_content = text(1, 1000);
        let hash = add(&mut recent, &first_content);
        add(&mut recent, &text(500, 1000));
        let changed: Bytes = [&first_content[..9000], b"a change", &first_content[9000..]]
            .concat()
            .into();
        let found = recent.most_similar(&Sketch::of(&changed)).unwrap();
        assert_eq!(found.hash, hash);
        let mut other = vec![0; 30_000];
        blake3::Hasher::new().finalize_xof().fill(&mut other);
        assert!(recent.most_similar(&Sketch::of(&other)).is_none());
    }

    #[test]
    fn evicts_the_oldest_contents_beyond_the_limit() {
        let mut recent = RecentChunks::default();
        let contents: Vec<Bytes> = (0..40).map(|n| text(n * 1000 + 3, 30_000)).collect();
        for content in &contents {
            add(&mut recent, content);
            assert!(recent.bytes <= MAX_RECENT_BYTES);
        }
        assert!(recent.contents.len() < contents.len());
        let total: usize = recent.contents.iter().map(|(base, _)| base.raw.len()).sum();
        assert_eq!(total, recent.bytes);
        let features: HashSet<u32> = (recent.contents.iter())
            .flat_map(|(_, sketch)| sketch.features().to_vec())
            .collect();
        assert!(recent.by_feature.keys().all(|it| features.contains(it)));
        let last = recent.most_similar(&Sketch::of(&contents[39])).unwrap();
        assert_eq!(last.hash, ChunkHash::of(&contents[39]));
        let first = recent.most_similar(&Sketch::of(&contents[0]));
        assert!(first.is_none_or(|found| found.hash != ChunkHash::of(&contents[0])));
    }
}
