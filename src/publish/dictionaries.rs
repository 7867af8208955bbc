//! Dictionaries for the small files of a repository: trained on these files, stored with
//! them, and reused while they help.
//!
//! Code, text and data have separate dictionaries if there are enough files; the others
//! share one. A stored dictionary takes a third of its size, and each mount fetches it
//! once, so it has to save more than that.

use rayon::prelude::*;

use super::PublishError;
use super::analyze::Class;
use super::compress::Pace;
use super::content::Reading;
use super::known::{Known, KnownDictionary};
use super::packs::Packs;
use super::placed::Placed;
use walgit_format::chunk::{Bases, Codec, Dictionary, Sealed, seal};

/// Maximum size of a chunk for dictionary compression: larger chunks contain enough
/// repetition themselves.
pub(super) const DICTIONARY_CHUNK: usize = 128 << 10;
/// Minimum bytes and files for a separate dictionary of a kind.
const OWN: (u64, usize) = (1 << 20, 64);
/// Minimum bytes and files for a shared dictionary.
const SHARED: (u64, usize) = (256 << 10, 32);
/// Bounds of the dictionary size, and the number of content bytes per dictionary byte.
const SIZES: (u64, u64) = (16 << 10, 112 << 10);
const PART: u64 = 32;
/// Maximum bytes to sample, of all files and of one.
const LOOK: u64 = 8 << 20;
const LOOK_EACH: usize = 32 << 10;
/// Maximum bytes for comparing dictionaries.
const TRIAL: usize = 512 << 10;
/// A new dictionary must be better than an old one by this fraction (as a divisor).
const BETTER: u64 = 8;
/// Maximum number of dictionaries of a head; the newest stay.
const CARRIED: usize = 8;

/// Kinds of content that share a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Code,
    Text,
    Data,
    Other,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Code, Kind::Text, Kind::Data, Kind::Other];

    fn of(class: Class) -> Option<Self> {
        match class {
            Class::Code(_) => Some(Kind::Code),
            Class::Text => Some(Kind::Text),
            Class::Structured(_) => Some(Kind::Data),
            Class::Binary | Class::Unknown => Some(Kind::Other),
            // These share nothing but their headers.
            Class::Image | Class::Archive => None,
        }
    }
}

/// A placed dictionary, and the kinds that use it.
pub(super) struct Ready {
    kinds: Vec<Kind>,
    dictionary: Dictionary,
    placed: Placed,
}

impl Ready {
    pub(super) fn is_for(&self, class: Class) -> bool {
        Kind::of(class).is_some_and(|kind| self.kinds.contains(&kind))
    }

    pub(super) fn seal(&self, raw: &[u8]) -> (Sealed, Bases<Placed>) {
        let sealed = self.dictionary.seal(raw);
        let bases = match sealed.codec {
            Codec::Dictionary => Bases::one(self.placed.clone()),
            _ => Bases::NONE,
        };
        (sealed, bases)
    }
}

/// Sampled files, and the totals that they represent.
#[derive(Default)]
struct Looked {
    samples: Vec<Vec<u8>>,
    bytes: u64,
    files: usize,
}

impl Looked {
    fn join(&mut self, other: Looked) {
        self.samples.extend(other.samples);
        self.bytes += other.bytes;
        self.files += other.files;
    }

    /// An evenly spaced subset of the samples.
    fn few(&self) -> Vec<&[u8]> {
        let all: usize = self.samples.iter().map(Vec::len).sum();
        let step = all.div_ceil(TRIAL).max(1);
        self.samples
            .iter()
            .step_by(step)
            .map(Vec::as_slice)
            .collect()
    }

    fn reaches(&self, (bytes, files): (u64, usize)) -> bool {
        self.bytes >= bytes && self.files >= files
    }
}

/// Selects dictionaries for the files to be stored.
pub(super) fn choose(
    reading: &Reading<'_>,
    known: &Known,
    packs: &mut Packs,
    pace: Pace,
) -> Result<Vec<Ready>, PublishError> {
    let small = |size: u64| size > super::content::INLINE as u64 && size <= DICTIONARY_CHUNK as u64;
    let jobs = reading.jobs().iter().filter(|job| small(job.size));
    let jobs: Vec<_> = jobs.collect();
    let bytes: u64 = jobs.iter().map(|job| job.size).sum();
    let enough = bytes >= SHARED.0 && jobs.len() >= SHARED.1;
    if jobs.is_empty() || (!enough && known.dictionaries().is_empty()) {
        return Ok(Vec::new());
    }
    let step = bytes.div_ceil(LOOK).max(1) as usize;
    let looked: Vec<(Option<Kind>, Vec<u8>)> = (jobs.par_iter().step_by(step))
        .map_init(
            || reading.reader(),
            |git, job| {
                let Some(raw) = reading.read(job, git.as_ref())? else {
                    return Ok((None, Vec::new()));
                };
                let kind = Kind::of(Class::of(reading.name(job), &raw));
                Ok((kind, raw[..raw.len().min(LOOK_EACH)].to_vec()))
            },
        )
        .collect::<Result<_, PublishError>>()?;
    let mut of_kind: [Looked; Kind::ALL.len()] = Default::default();
    for ((kind, sample), job) in looked.into_iter().zip(jobs.iter().step_by(step)) {
        if let Some(kind) = kind {
            let looked = &mut of_kind[kind as usize];
            looked.samples.push(sample);
            looked.bytes += job.size * step as u64;
            looked.files += step;
        }
    }
    let mut shared = (Vec::new(), Looked::default());
    let mut groups: Vec<(Vec<Kind>, Looked, bool)> = Vec::new();
    for (kind, looked) in Kind::ALL.into_iter().zip(of_kind) {
        match looked.reaches(OWN) {
            true => groups.push((vec![kind], looked, true)),
            false if looked.files > 0 => {
                shared.0.push(kind);
                shared.1.join(looked);
            }
            false => {}
        }
    }
    let worth = shared.1.reaches(SHARED);
    groups.push((shared.0, shared.1, worth));
    let chosen: Vec<Option<(Vec<Kind>, Chosen)>> = groups
        .into_par_iter()
        .map(|(kinds, looked, train)| {
            let chosen = best(&looked, known.dictionaries(), train, pace)?;
            Some((kinds, chosen))
        })
        .collect();
    let mut ready = Vec::new();
    for (kinds, chosen) in chosen.into_iter().flatten() {
        let placed = match chosen.placed {
            Some(placed) => placed,
            None => packs.add_raw(chosen.dictionary.bytes(), pace.with_dictionary(), known)?,
        };
        ready.push(Ready {
            kinds,
            dictionary: chosen.dictionary,
            placed,
        });
    }
    Ok(ready)
}

struct Chosen {
    dictionary: Dictionary,
    /// Its location, if it is stored already.
    placed: Option<Placed>,
}

/// Selects the best dictionary for the samples: a stored one, a new one, or none.
fn best(looked: &Looked, old: &[KnownDictionary], train: bool, pace: Pace) -> Option<Chosen> {
    let few = looked.few();
    let trial: u64 = few.iter().map(|sample| sample.len() as u64).sum();
    if trial == 0 {
        return None;
    }
    let level = pace.with_dictionary();
    let plain: u64 = few
        .iter()
        .map(|raw| seal(raw, level).bytes.len() as u64)
        .sum();
    let with = |dictionary: &Dictionary| -> u64 {
        few.iter()
            .map(|raw| dictionary.seal(raw).bytes.len() as u64)
            .sum()
    };
    // Extrapolates from the trial to all files.
    let all = |bytes: u64| bytes * looked.bytes / trial;
    let mut least = all(plain);
    let mut chosen = None;
    for known in old {
        let Some(dictionary) = Dictionary::new(known.bytes.to_vec(), level) else {
            continue;
        };
        let bytes = all(with(&dictionary));
        if bytes < least {
            least = bytes;
            let placed = Some(known.placed.clone());
            chosen = Some(Chosen { dictionary, placed });
        }
    }
    if train {
        let size = (looked.bytes / PART).clamp(SIZES.0, SIZES.1) as usize;
        let samples: Vec<&[u8]> = looked.samples.iter().map(Vec::as_slice).collect();
        let new = Dictionary::train(&samples, size, level);
        if let Some(dictionary) = new {
            let itself = seal(dictionary.bytes(), level).bytes.len() as u64;
            let bytes = all(with(&dictionary)) + itself;
            let margin = chosen.as_ref().map_or(0, |_| least / BETTER);
            if bytes < least - margin {
                let placed = None;
                chosen = Some(Chosen { dictionary, placed });
            }
        }
    }
    chosen
}

/// The dictionaries of the new head: the stored ones and the new ones.
pub(super) fn carried(ready: &[Ready], known: &Known) -> Vec<Placed> {
    let old = known.dictionaries().iter().map(|known| &known.placed);
    let new = ready.iter().map(|ready| &ready.placed);
    let mut carried: Vec<Placed> = Vec::new();
    for placed in old.chain(new) {
        if carried.iter().all(|other| other.hash != placed.hash) {
            carried.push(placed.clone());
        }
    }
    let surplus = carried.len().saturating_sub(CARRIED);
    carried.split_off(surplus)
}
