//! Files that changed together in a repository's history: a prediction of file opens
//! before any have been observed.
//!
//! The publisher computes it from the history and stores it in an attachment of the head
//! that `ls` and `cat` never fetch. A short hash of its path identifies a file, so a
//! prior holds no text, and stays valid when a commit moves the surrounding files. A
//! prior is only a hint: a wrong one costs unnecessary fetches.

use std::collections::HashMap;

use bytes::Bytes;

use super::malformed::MalformedNode;
use super::wire::{Reader, Write};
use crate::chunk::ChunkHash;

const MAGIC: u8 = b'P';
const VERSION: u8 = 1;

/// Longest prior, in bytes: a mount fetches it whole, beside files of similar size, and
/// the first read of a small repository should include it.
pub const MAX_PRIOR_BYTES: usize = 16 << 10;
/// Weights are encoded in quarters of a commit.
const WEIGHT_SCALE: f64 = 4.0;
/// Commits in which a file is assumed to have changed alone, in addition to the counted
/// ones: one or two joint changes may be chance.
const ASSUMED_SINGLE_CHANGES: f64 = 1.0;
/// Minimum encoded size of a file, in bytes: its name, its weight.
const MIN_FILE_LEN: usize = 5;

/// A path in a prior: the first four bytes of its BLAKE3 hash. A collision costs a wrong
/// guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathName([u8; 4]);

impl PathName {
    /// Returns the name of a path relative to the root, with slashes.
    pub fn of(path: &[u8]) -> Self {
        let [a, b, c, d, ..] = *ChunkHash::of(path).as_bytes();
        PathName([a, b, c, d])
    }
}

/// A file that changed, and the files that changed with it.
#[derive(Clone, Debug, PartialEq)]
struct Changed {
    name: PathName,
    /// Quarters of commits that changed it; older commits weigh less.
    weight: u32,
    /// Indices of the files that these commits also changed, with the weight of the pair.
    with: Vec<(usize, u32)>,
}

/// Files by name, and how often they changed together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prior {
    files: Vec<Changed>,
    numbers: HashMap<PathName, usize>,
}

/// Two files of a history, and the weight of the commits that changed both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Indices of the two files in the list of files, the smaller one first.
    pub files: (usize, usize),
    /// Commits that changed both; older commits weigh less.
    pub weight: f64,
}

impl Prior {
    /// Builds a prior from files, each with the weight of the commits that changed it,
    /// and as many of the pairs as fit, in order. Files near each other should be near in
    /// the list.
    pub fn new(files: &[(PathName, f64)], pairs: &[Pair]) -> Self {
        let quarters = |weight: f64| (weight * WEIGHT_SCALE).round().clamp(1.0, 1e6) as u32;
        let mut taken: HashMap<PathName, usize> = HashMap::new();
        let mut selected: Vec<Pair> = Vec::new();
        // Kind, version, and the number of files.
        let mut len = 2 + 3;
        for pair in pairs {
            let mut more = 3 + len_of(quarters(pair.weight));
            let ends = [pair.files.0, pair.files.1];
            let new = |at: &usize| !taken.contains_key(&files[*at].0);
            for &at in ends.iter().filter(|at| new(at)) {
                more += 4 + len_of(quarters(files[at].1)) + 2;
            }
            // If two paths have the same name, the first one counts.
            let meant = ends
                .iter()
                .all(|&at| *taken.get(&files[at].0).unwrap_or(&at) == at);
            if !meant || files[ends[0]].0 == files[ends[1]].0 {
                continue;
            }
            if len + more > MAX_PRIOR_BYTES {
                break;
            }
            len += more;
            selected.push(*pair);
            taken.extend(ends.map(|at| (files[at].0, at)));
        }
        let mut order: Vec<usize> = taken.into_values().collect();
        order.sort_unstable();
        let numbers: HashMap<usize, usize> = order.iter().copied().zip(0..).collect();
        let mut prior = Prior::default();
        for &at in &order {
            prior.push(files[at].0, quarters(files[at].1));
        }
        selected.sort_unstable_by_key(|pair| pair.files);
        for pair in selected {
            let (first, other) = (numbers[&pair.files.0], numbers[&pair.files.1]);
            let max_weight = prior.files[first].weight.min(prior.files[other].weight);
            prior.join(first, other, quarters(pair.weight).min(max_weight));
        }
        prior
    }

    fn push(&mut self, name: PathName, weight: u32) -> bool {
        let number = self.files.len();
        self.files.push(Changed {
            name,
            weight,
            with: Vec::new(),
        });
        self.numbers.insert(name, number).is_none()
    }

    fn join(&mut self, first: usize, other: usize, weight: u32) {
        self.files[first].with.push((other, weight));
        self.files[other].with.push((first, weight));
    }

    /// Whether the prior is empty.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns the number of files and the number of pairs.
    pub fn counts(&self) -> (usize, usize) {
        let ends: usize = self.files.iter().map(|file| file.with.len()).sum();
        (self.files.len(), ends / 2)
    }

    /// Returns the files that changed with a file, each with the fraction (0..=1) of the
    /// commits of that file which changed both.
    pub fn with(&self, name: PathName) -> impl Iterator<Item = (PathName, f64)> + '_ {
        let file = self.numbers.get(&name).map(|&number| &self.files[number]);
        file.into_iter().flat_map(move |file| {
            let all = f64::from(file.weight) + ASSUMED_SINGLE_CHANGES * WEIGHT_SCALE;
            let part = move |weight: u32| f64::from(weight) / all;
            (file.with.iter()).map(move |&(other, weight)| (self.files[other].name, part(weight)))
        })
    }

    /// Returns the overlap of two priors, 0..=1: it tells a reader that has one of them
    /// whether to fetch the other.
    pub fn likeness(&self, other: &Prior) -> f64 {
        let sum_of = |prior: &Prior| -> f64 {
            let names = prior.files.iter().map(|file| file.name);
            names
                .flat_map(|name| prior.with(name))
                .map(|(_, part)| part)
                .sum()
        };
        let mut both = 0.0;
        for file in &self.files {
            let others: HashMap<PathName, f64> = other.with(file.name).collect();
            let shared =
                (self.with(file.name)).filter_map(|(name, part)| Some((part, others.get(&name)?)));
            both += shared.map(|(part, &other)| part.min(other)).sum::<f64>();
        }
        match sum_of(self).max(sum_of(other)) {
            total if total > 0.0 => (both / total).min(1.0),
            _ => 1.0,
        }
    }

    /// Encodes the prior in at most [`MAX_PRIOR_BYTES`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![MAGIC, VERSION];
        out.uint(self.files.len() as u64);
        for file in &self.files {
            out.extend_from_slice(&file.name.0);
            out.uint(u64::from(file.weight));
        }
        for (number, file) in self.files.iter().enumerate() {
            let later = file.with.iter().filter(|(other, _)| *other > number);
            let mut later: Vec<_> = later.copied().collect();
            later.sort_unstable();
            out.uint(later.len() as u64);
            let mut before = number;
            for (other, weight) in later {
                out.uint((other - before) as u64);
                out.uint(u64::from(weight));
                before = other;
            }
        }
        out
    }

    /// Decodes a prior, in time and memory proportional to the input.
    pub fn decode(raw: &Bytes) -> Result<Self, MalformedNode> {
        if raw.len() > MAX_PRIOR_BYTES {
            return Err(MalformedNode::TooLong {
                len: raw.len(),
                limit: MAX_PRIOR_BYTES,
            });
        }
        let mut reader = Reader::new(raw);
        reader.header(MAGIC, VERSION, "list of files that changed together")?;
        let mut prior = Prior::default();
        for _ in 0..reader.count::<[u64; 4]>(MIN_FILE_LEN)? {
            let name = PathName(reader.array()?);
            let weight = reader.uint32()?;
            if weight == 0 {
                return Err(MalformedNode::Sum("weights"));
            }
            if !prior.push(name, weight) {
                return Err(MalformedNode::Order("of a file".into()));
            }
        }
        for number in 0..prior.files.len() {
            let mut before = number;
            for _ in 0..reader.count::<[u64; 2]>(2)? {
                let step = reader.uint()?;
                let other = usize::try_from(step).ok().filter(|&step| step > 0);
                let other = other.and_then(|step| before.checked_add(step));
                let other = other.filter(|&other| other < prior.files.len());
                let other = other.ok_or(MalformedNode::Index(step))?;
                let weight = reader.uint32()?;
                let max_weight = prior.files[number].weight.min(prior.files[other].weight);
                if weight == 0 || weight > max_weight {
                    return Err(MalformedNode::Sum("weights"));
                }
                prior.join(number, other, weight);
                before = other;
            }
        }
        reader.finish()?;
        Ok(prior)
    }
}

/// Encoded length of a number, in bytes.
fn len_of(number: u32) -> usize {
    let bits = 32 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(number: usize) -> PathName {
        PathName::of(format!("src/{number}").as_bytes())
    }

    fn prior(weights: &[u8], pairs: &[(usize, usize, u8)]) -> Prior {
        let files: Vec<_> = (weights.iter().enumerate())
            .map(|(at, &weight)| (name(at), f64::from(weight) + 1.0))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|&(first, other, weight)| (first % files.len(), other % files.len(), weight))
            .filter(|&(first, other, _)| first < other && seen.insert((first, other)))
            .map(|(first, other, weight)| Pair {
                files: (first, other),
                weight: f64::from(weight).min(files[first].1).min(files[other].1),
            })
            .collect();
        Prior::new(&files, &pairs)
    }

    #[test]
    fn co_changed_files_predict_each_other() {
        let prior = prior(&[9, 3, 30], &[(0, 1, 4), (1, 2, 2)]);
        let of = |number| -> Vec<_> { prior.with(name(number)).collect() };
        assert_eq!(of(0), [(name(1), 4.0 / 11.0)]);
        assert_eq!(of(1), [(name(0), 4.0 / 5.0), (name(2), 2.0 / 5.0)]);
        assert!(of(7).is_empty());
        assert_eq!(prior.counts(), (3, 2));
    }

    #[test]
    fn likeness_is_the_fraction_in_common() {
        let first = prior(&[9, 3, 30], &[(0, 1, 4), (1, 2, 2)]);
        assert_eq!(first.likeness(&first), 1.0);
        assert_eq!(first.likeness(&Prior::default()), 0.0);
        let other = prior(&[9, 3, 30], &[(0, 1, 4)]);
        let likeness = first.likeness(&other);
        assert!((0.5..0.9).contains(&likeness), "{likeness}");
        assert_eq!(likeness, other.likeness(&first));
    }

    proptest! {
        #[test]
        fn a_prior_reads_as_written_and_is_never_too_long(
            weights in proptest::collection::vec(any::<u8>(), 2..2500),
            pairs in proptest::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 0..4000),
        ) {
            let prior = prior(&weights, &pairs);
            let raw = Bytes::from(prior.encode());
            prop_assert!(raw.len() <= MAX_PRIOR_BYTES, "{}", raw.len());
            prop_assert_eq!(Prior::decode(&raw).unwrap(), prior);
        }

        #[test]
        fn spoiled_priors_are_read_or_refused(
            spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut raw = prior(&[9, 3, 30, 200], &[(0, 1, 4), (1, 2, 2), (0, 3, 8)]).encode();
            for (at, byte) in spoils {
                let at = at.index(raw.len());
                raw[at] = byte;
            }
            raw.truncate(keep.index(raw.len()) + 1);
            if let Ok(prior) = Prior::decode(&Bytes::from(raw.clone())) {
                // A prior has exactly one encoding.
                prop_assert_eq!(prior.encode(), raw);
                let parts = (0..4).flat_map(|at| prior.with(name(at)).collect::<Vec<_>>());
                prop_assert!(parts.into_iter().all(|(_, part)| (0.0..=1.0).contains(&part)));
            }
        }
    }
}
