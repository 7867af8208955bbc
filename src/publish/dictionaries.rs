//! Dictionaries for the small files of a repository: trained on these files, stored with
//! them, and reused while they help.
//!
//! Code, text and data have separate dictionaries if there are enough files; the others
//! share one. A stored dictionary takes a third of its size, and each mount fetches it
//! once, so it has to save more than that.

use rayon::prelude::*;

use super::analyze::Class;
use super::effort::Speed;
use super::error::PublishError;
use super::file_reader::{MAX_IN_MEMORY, ReadOutcome, read};
use super::packs::Packs;
use super::pending_chunk::PendingChunk;
use super::plan::Plan;
use super::previous_publish::StoredDictionary;
use super::tier::USUAL_MAX_INLINE_BYTES;
use walgit_format::chunk::{Bases, Codec, Dictionary, EncodedChunk, encode_chunk};

/// Maximum size of a chunk for dictionary compression: larger chunks contain enough
/// repetition themselves.
pub(super) const MAX_DICTIONARY_CHUNK: usize = 128 << 10;
/// Minimum bytes and files for a separate dictionary of a kind.
const MIN_SEPARATE: (u64, usize) = (1 << 20, 64);
/// Minimum bytes and files for a shared dictionary.
const MIN_SHARED: (u64, usize) = (256 << 10, 32);
/// Bounds of the dictionary size, and the number of content bytes per dictionary byte.
const DICTIONARY_BYTES: (u64, u64) = (16 << 10, 112 << 10);
const CONTENT_PER_DICTIONARY_BYTE: u64 = 32;
/// Maximum bytes to sample, of all files and of one.
const MAX_SAMPLED_BYTES: u64 = 8 << 20;
const MAX_SAMPLE_BYTES: usize = 32 << 10;
/// Maximum bytes for comparing dictionaries.
const MAX_TRIAL_BYTES: usize = 512 << 10;
/// A new dictionary must be better than a stored one by this fraction (as a divisor).
const MIN_IMPROVEMENT: u64 = 8;
/// Maximum number of dictionaries of a head; the newest stay.
const MAX_DICTIONARIES: usize = 8;

/// Kinds of content that share a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum DictionaryKind {
    Code,
    Text,
    Data,
    Other,
}

impl DictionaryKind {
    const ALL: [Self; 4] = [Self::Code, Self::Text, Self::Data, Self::Other];

    fn of(class: Class) -> Option<Self> {
        match class {
            Class::Code(_) => Some(DictionaryKind::Code),
            Class::Text => Some(DictionaryKind::Text),
            Class::Structured(_) => Some(DictionaryKind::Data),
            Class::Binary | Class::Unknown => Some(DictionaryKind::Other),
            // These share nothing but their headers.
            Class::Image | Class::Archive => None,
        }
    }
}

/// A placed dictionary, and the kinds that use it.
pub(super) struct PlacedDictionary {
    kinds: Vec<DictionaryKind>,
    dictionary: Dictionary,
    chunk: PendingChunk,
}

impl PlacedDictionary {
    pub(super) fn is_for(&self, class: Class) -> bool {
        DictionaryKind::of(class).is_some_and(|kind| self.kinds.contains(&kind))
    }

    pub(super) fn encode(&self, raw: &[u8]) -> (EncodedChunk, Bases<PendingChunk>) {
        let sealed = self.dictionary.encode(raw);
        let bases = match sealed.codec {
            Codec::Dictionary => Bases::one(self.chunk.clone()),
            _ => Bases::NONE,
        };
        (sealed, bases)
    }
}

/// Sampled files, and the totals that they represent.
#[derive(Default)]
struct SampledFiles {
    samples: Vec<Vec<u8>>,
    bytes: u64,
    files: usize,
}

impl SampledFiles {
    fn join(&mut self, other: SampledFiles) {
        self.samples.extend(other.samples);
        self.bytes += other.bytes;
        self.files += other.files;
    }

    /// An evenly spaced subset of the samples.
    fn trial(&self) -> Vec<&[u8]> {
        let all: usize = self.samples.iter().map(Vec::len).sum();
        let step = all.div_ceil(MAX_TRIAL_BYTES).max(1);
        let samples = self.samples.iter().step_by(step);
        samples.map(Vec::as_slice).collect()
    }

    fn reaches(&self, (bytes, files): (u64, usize)) -> bool {
        self.bytes >= bytes && self.files >= files
    }
}

/// Selects dictionaries for the files to be stored.
pub(super) fn choose(
    plan: &Plan,
    stored: &[StoredDictionary],
    packs: &mut Packs,
    speed: Speed,
) -> Result<Vec<PlacedDictionary>, PublishError> {
    let small =
        |size: u64| size > USUAL_MAX_INLINE_BYTES as u64 && size <= MAX_DICTIONARY_CHUNK as u64;
    let jobs: Vec<_> = plan.files.iter().filter(|job| small(job.size)).collect();
    let bytes: u64 = jobs.iter().map(|job| job.size).sum();
    let enough = bytes >= MIN_SHARED.0 && jobs.len() >= MIN_SHARED.1;
    if jobs.is_empty() || (!enough && stored.is_empty()) {
        return Ok(Vec::new());
    }
    let step = bytes.div_ceil(MAX_SAMPLED_BYTES).max(1) as usize;
    let git = || (plan.git.as_ref()).map(gix::ThreadSafeRepository::to_thread_local);
    let sampled: Vec<Option<(DictionaryKind, Vec<u8>)>> = (jobs.par_iter().step_by(step))
        .map_init(git, |git, job| {
            // Others are reported when they are stored.
            let ReadOutcome::Content(raw) = read(job, git.as_ref(), MAX_IN_MEMORY)? else {
                return Ok(None);
            };
            let kind = DictionaryKind::of(Class::of(&plan.entry(job.entry).name, &raw));
            Ok(kind.map(|kind| (kind, raw[..raw.len().min(MAX_SAMPLE_BYTES)].to_vec())))
        })
        .collect::<Result<_, PublishError>>()?;
    let mut of_kind: [SampledFiles; DictionaryKind::ALL.len()] = Default::default();
    for (sampled, job) in sampled.into_iter().zip(jobs.iter().step_by(step)) {
        if let Some((kind, sample)) = sampled {
            let files = &mut of_kind[kind as usize];
            files.samples.push(sample);
            files.bytes += job.size * step as u64;
            files.files += step;
        }
    }
    let mut shared = (Vec::new(), SampledFiles::default());
    let mut groups: Vec<(Vec<DictionaryKind>, SampledFiles, bool)> = Vec::new();
    for (kind, files) in DictionaryKind::ALL.into_iter().zip(of_kind) {
        if files.reaches(MIN_SEPARATE) {
            groups.push((vec![kind], files, true));
        } else if files.files > 0 {
            shared.0.push(kind);
            shared.1.join(files);
        }
    }
    let train_shared = shared.1.reaches(MIN_SHARED);
    groups.push((shared.0, shared.1, train_shared));
    let chosen: Vec<(Vec<DictionaryKind>, ChosenDictionary)> = groups
        .into_par_iter()
        .filter_map(|(kinds, files, train)| Some((kinds, best(&files, stored, train, speed)?)))
        .collect();
    let place = |(kinds, (dictionary, chunk)): (_, ChosenDictionary)| {
        let chunk = match chunk {
            Some(chunk) => chunk,
            None => packs.add_raw(dictionary.bytes(), speed.dictionary_level())?,
        };
        Ok(PlacedDictionary {
            kinds,
            dictionary,
            chunk,
        })
    };
    chosen.into_iter().map(place).collect()
}

/// A dictionary, and its chunk if it is stored already.
type ChosenDictionary = (Dictionary, Option<PendingChunk>);

/// Selects the best dictionary for the samples: a stored one, a new one, or none.
fn best(
    files: &SampledFiles,
    stored: &[StoredDictionary],
    train: bool,
    speed: Speed,
) -> Option<ChosenDictionary> {
    let trial = files.trial();
    let trial_bytes: u64 = trial.iter().map(|sample| sample.len() as u64).sum();
    if trial_bytes == 0 {
        return None;
    }
    let level = speed.dictionary_level();
    // Extrapolates from the trial to all files.
    let all = |encode: &dyn Fn(&[u8]) -> EncodedChunk| -> u64 {
        let bytes: u64 = (trial.iter())
            .map(|raw| encode(raw).bytes.len() as u64)
            .sum();
        bytes * files.bytes / trial_bytes
    };
    let mut least = all(&|raw| encode_chunk(raw, level));
    let mut chosen = None;
    for known in stored {
        let Some(dictionary) = Dictionary::new(known.bytes.to_vec(), level) else {
            continue;
        };
        let bytes = all(&|raw| dictionary.encode(raw));
        if bytes < least {
            least = bytes;
            chosen = Some((dictionary, Some(known.chunk.clone())));
        }
    }
    if train {
        let (min, max) = DICTIONARY_BYTES;
        let size = (files.bytes / CONTENT_PER_DICTIONARY_BYTE).clamp(min, max) as usize;
        let samples: Vec<&[u8]> = files.samples.iter().map(Vec::as_slice).collect();
        if let Some(dictionary) = Dictionary::train(&samples, size, level) {
            let own_bytes = encode_chunk(dictionary.bytes(), level).bytes.len() as u64;
            let bytes = all(&|raw| dictionary.encode(raw)) + own_bytes;
            let margin = chosen.as_ref().map_or(0, |_| least / MIN_IMPROVEMENT);
            if bytes < least - margin {
                chosen = Some((dictionary, None));
            }
        }
    }
    chosen
}

/// The dictionaries of the new head: the stored ones and the new ones.
pub(super) fn attached(
    used: &[PlacedDictionary],
    stored: &[StoredDictionary],
) -> Vec<PendingChunk> {
    let old = stored.iter().map(|stored| &stored.chunk);
    let new = used.iter().map(|used| &used.chunk);
    let mut attached: Vec<PendingChunk> = Vec::new();
    for chunk in old.chain(new) {
        if attached.iter().all(|other| other.hash != chunk.hash) {
            attached.push(chunk.clone());
        }
    }
    let surplus = attached.len().saturating_sub(MAX_DICTIONARIES);
    attached.split_off(surplus)
}
