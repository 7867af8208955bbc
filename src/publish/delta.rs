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

use super::known::Known;
use super::placed::{self, Placed};
use super::plan::{FileJob, FilePlace, Plan};
use super::sketch::Sketch;
use walgit_format::chunk::{ChunkHash, ChunkRef};

/// Maximum plain bytes of retained possible bases.
const REMEMBERED: usize = 32 << 20;
/// Minimum likeness to try a patch; below, it would not pay.
const RESEMBLES: f64 = 0.25;
/// Maximum size ratio of two files of one name to consider one the moved version of the
/// other.
const MOVED: u64 = 2;
/// Concurrent fetches of versions, and stored bytes per request.
const AT_ONCE: usize = 32;
const WINDOW: u64 = 1 << 20;

/// A possible base of a patch.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) hash: ChunkHash,
    /// Its plain bytes.
    pub(super) raw: Bytes,
    /// Its location, if an earlier publish stored it.
    pub(super) placed: Option<Placed>,
}

/// Earlier versions of the files of a plan.
#[derive(Debug, Default)]
pub(super) struct Before {
    versions: HashMap<FilePlace, ChunkRef>,
}

impl Before {
    /// Finds earlier files with the same path, or else the same name and a similar size.
    pub(super) fn of(plan: &Plan, known: &Known) -> Self {
        let mut versions = HashMap::new();
        let mut moved: HashMap<&[u8], Vec<&FileJob>> = HashMap::new();
        for job in &plan.files {
            let directory = &plan.directories[job.directory];
            let name = &directory.entries[job.entry].name[..];
            match known.file_at(&directory.path, name) {
                Some(chunk) => _ = versions.insert(job.place(), chunk.clone()),
                None => moved.entry(name).or_default().push(job),
            }
        }
        let names: HashSet<&[u8]> = moved.keys().copied().collect();
        let mut named: HashMap<&[u8], Vec<(u64, &ChunkRef)>> = HashMap::new();
        for (name, size, chunk) in known.files_named(&names) {
            named.entry(name).or_default().push((size, chunk));
        }
        for (name, jobs) in moved {
            for job in jobs {
                let others = named.get(name).into_iter().flatten();
                let alike = others.filter(|(size, _)| {
                    let (less, more) = (job.size.min(*size), job.size.max(*size));
                    more <= less.saturating_mul(MOVED)
                });
                // Deterministic choice.
                let nearest =
                    alike.min_by_key(|(size, chunk)| (job.size.abs_diff(*size), chunk.hash));
                if let Some((_, chunk)) = nearest {
                    versions.insert(job.place(), (*chunk).clone());
                }
            }
        }
        Before { versions }
    }

    /// Fetches the earlier versions of these files concurrently; omits unavailable ones.
    pub(super) fn fetch(&self, known: &Known, files: &[FilePlace]) -> HashMap<FilePlace, Base> {
        let Some(previous) = known.previous() else {
            return HashMap::new();
        };
        let wanted = files.iter();
        let mut wanted: Vec<(FilePlace, &ChunkRef)> = wanted
            .filter_map(|file| Some((*file, self.versions.get(file)?)))
            .collect();
        if wanted.is_empty() {
            return HashMap::new();
        }
        // Coalesce reads of neighbors.
        wanted.sort_unstable_by_key(|(file, chunk)| {
            (chunk.location.blob, chunk.location.offset, *file)
        });
        let table: Vec<ChunkRef> = wanted.iter().map(|(_, chunk)| (*chunk).clone()).collect();
        let cache = previous.loader().cache();
        let reads = (0..table.len()).map(|at| cache.get(previous.store(), &table, at, WINDOW));
        let reads = futures_util::stream::iter(reads).buffered(AT_ONCE);
        let read: Vec<_> = tokio::runtime::Handle::current().block_on(reads.collect());
        (wanted.into_iter().zip(read))
            .filter_map(|((file, chunk), raw)| {
                let base = Base {
                    hash: chunk.hash,
                    raw: raw.ok()?,
                    placed: Some(placed::known(chunk)),
                };
                Some((file, base))
            })
            .collect()
    }
}

/// Content recently stored whole, indexed by sketch.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Oldest first; the first one has the number `first`.
    contents: VecDeque<(Base, Sketch)>,
    first: usize,
    bytes: usize,
    /// For each feature, the latest content that has it.
    by_feature: HashMap<u32, usize>,
}

impl Recent {
    /// Adds a content, and evicts the oldest ones if necessary.
    pub(super) fn add(&mut self, hash: ChunkHash, raw: Bytes, sketch: Sketch) {
        self.bytes += raw.len();
        let number = self.first + self.contents.len();
        for feature in sketch.features() {
            self.by_feature.insert(*feature, number);
        }
        let base = Base {
            hash,
            raw,
            placed: None,
        };
        self.contents.push_back((base, sketch));
        while self.bytes > REMEMBERED {
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
    pub(super) fn like(&self, sketch: &Sketch) -> Option<&Base> {
        let features = sketch.features().iter();
        let met: HashSet<usize> = features
            .filter_map(|feature| self.by_feature.get(feature).copied())
            .collect();
        let met = met.into_iter().filter_map(|number| {
            let (base, other) = self.contents.get(number - self.first)?;
            Some((sketch.resemblance(other), number, base))
        });
        // Prefer the latest of equals: it is stored nearest.
        let best = met.max_by(|(a, m, _), (b, n, _)| a.total_cmp(b).then(m.cmp(n)));
        let (resemblance, _, base) = best?;
        (resemblance >= RESEMBLES).then_some(base)
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

    fn add(recent: &mut Recent, raw: &Bytes) -> ChunkHash {
        let hash = ChunkHash::of(raw);
        recent.add(hash, raw.clone(), Sketch::of(raw));
        hash
    }

    #[test]
    fn what_resembles_most_is_found_and_what_is_alone_is_not() {
        let mut recent = Recent::default();
        let one = text(1, 1000);
        let hash = add(&mut recent, &one);
        add(&mut recent, &text(500, 1000));
        let changed: Bytes = [&one[..9000], b"a change", &one[9000..]].concat().into();
        let found = recent.like(&Sketch::of(&changed)).unwrap();
        assert_eq!(found.hash, hash);
        let mut other = vec![0; 30_000];
        blake3::Hasher::new().finalize_xof().fill(&mut other);
        assert!(recent.like(&Sketch::of(&other)).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let mut recent = Recent::default();
        let contents: Vec<Bytes> = (0..40).map(|n| text(n * 1000 + 3, 30_000)).collect();
        for content in &contents {
            add(&mut recent, content);
            assert!(recent.bytes <= REMEMBERED);
        }
        assert!(recent.contents.len() < contents.len());
        let kept: usize = recent.contents.iter().map(|(base, _)| base.raw.len()).sum();
        assert_eq!(kept, recent.bytes);
        let features: HashSet<u32> = (recent.contents.iter())
            .flat_map(|(_, sketch)| sketch.features().to_vec())
            .collect();
        assert!(recent.by_feature.keys().all(|it| features.contains(it)));
        let last = recent.like(&Sketch::of(&contents[39])).unwrap();
        assert_eq!(last.hash, ChunkHash::of(&contents[39]));
        let first = recent.like(&Sketch::of(&contents[0]));
        assert!(first.is_none_or(|found| found.hash != ChunkHash::of(&contents[0])));
    }
}
