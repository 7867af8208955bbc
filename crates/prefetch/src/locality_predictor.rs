//! Prediction from the repository itself, without learned data: files are opened
//! together with files near them.
//!
//! A program that opens one file of a folder mostly opens others of it, of the same
//! kind, and files of the folders below, above and beside it. The degree differs
//! from tree to tree: of some folders everything is read, of others one file. So
//! assumptions soon give way to counts: the fraction of files of a kind that were
//! opened in the used folders, and the fraction of folders in some relation to used
//! ones that were used in turn. These [`Rates`] are a few hundred numbers, stored
//! with the model; they give the probability of a file that has never been opened.
//!
//! If the repository has a [`Prior`], files that changed together with opened ones
//! are candidates too, however distant. The reliability of the prior is measured in
//! the same manner.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::co_change_predictor::CoChangePredictor;
use super::file_index::{FileId, FileIndex, FolderId};
use super::folder_usage::FolderUsage;
use super::rates::{Rate, Rates, SIZE_CLASSES};
use walgit_format::Prior;

/// Initial fraction of the files of a kind that are opened: higher for kinds of
/// which files have been opened.
const KIND_RATE: f64 = 0.5;
const KIND_WEIGHT: f64 = 12.0;
/// Folders of similar size behave alike. Number of counted files in folders of a
/// size at which their own rate outweighs the initial one.
const SIZE_WEIGHT: f64 = 24.0;
/// Initial factors by folder size: the larger a folder, the smaller the fraction of
/// it that is opened.
const SIZE_FACTORS: [f64; SIZE_CLASSES] = [1.0, 1.0, 1.0, 1.0, 0.8, 0.55, 0.35, 0.22, 0.13, 0.08];
/// Initial probability that the next file of a kind in a folder is opened.
const NEXT_RATE: f64 = 0.5;
const NEXT_WEIGHT: f64 = 8.0;
/// Initial probability that a file with the same stem but another kind is opened.
const STEM_RATE: f64 = 0.4;
const STEM_WEIGHT: f64 = 16.0;
/// Maximum number of files with one stem that count as a pair.
const MAX_STEM_FILES: usize = 6;
/// First opens after which the unopened files of a folder count as not opened.
const SETTLING_OPENS: u64 = 64;
/// Maximum number of files that are evaluated at once.
const MAX_EVALUATED_FILES: usize = 6000;

/// Rates, and the parts of the tree that this session uses.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalityPredictor {
    rates: Rates,
    folders: FolderUsage,
    opened: HashSet<FileId>,
    /// Used folders whose unopened files are not counted yet, with the time of a
    /// use.
    unsettled: VecDeque<(FolderId, u64)>,
    /// The last opened file, and the number of consecutive files with its name.
    last: Option<(FileId, u32)>,
    opens: u64,
    co_change: CoChangePredictor,
}

/// A related file: one that may be opened because of its location.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RelatedFile {
    pub(super) file: FileId,
    /// Probability that it is opened, 0..=1.
    pub(super) probability: f64,
    /// Whether an earlier session opened it.
    pub(super) known: bool,
}

impl LocalityPredictor {
    pub(super) fn new(rates: Rates) -> Self {
        LocalityPredictor {
            rates,
            ..LocalityPredictor::default()
        }
    }

    pub(super) fn into_rates(mut self, index: &FileIndex) -> Rates {
        self.settle(index, u64::MAX);
        self.rates
    }

    /// Adds the counts of another session or user.
    pub(super) fn merge(&mut self, rates: &Rates) {
        self.rates.merge(rates);
    }

    pub(super) fn prior(&self) -> Option<&Arc<Prior>> {
        self.co_change.prior()
    }

    pub(super) fn set_prior(&mut self, index: &FileIndex, prior: Arc<Prior>) {
        self.co_change.set_prior(prior);
        let mut opened: Vec<FileId> = self.opened.iter().copied().collect();
        opened.sort_unstable();
        for file in opened {
            self.record_co_changes(index, file);
        }
    }

    /// Records the files that changed together with an opened file.
    fn record_co_changes(&mut self, index: &FileIndex, file: FileId) {
        let (at, rate) = (self.opens, &mut self.rates.co_change);
        let opened = |other| self.opened.contains(&other);
        self.co_change.opened(index, file, at, rate, opened);
    }

    /// Records the first open of a file in this session.
    pub(super) fn opened(&mut self, index: &FileIndex, file: FileId) {
        self.opens += 1;
        let folder = index.folder_of(file);
        let files = index.files_in(folder);
        let position = files.iter().position(|&it| it == file).unwrap_or_default();
        let kind = index.kind_of(file);
        if let Some(earlier) = self.folders.used.get(&folder) {
            let between = files.get(earlier.last + 1..position).unwrap_or_default();
            let is_next =
                earlier.last < position && between.iter().all(|&it| index.kind_of(it) != kind);
            self.rates.next.record(is_next);
        } else {
            self.folders.begin(index, folder, &mut self.rates);
            self.unsettled.push_back((folder, self.opens));
        }
        let same_stem = index.files_with_same_stem(file);
        if (2..=MAX_STEM_FILES).contains(&same_stem.len()) {
            let is_open = |it: &FileId| *it != file && self.opened.contains(it);
            self.rates.stem.record(same_stem.iter().any(is_open));
        }
        self.last = match self.last {
            Some((other, run)) if index.files_with_same_name(file).contains(&other) => {
                Some((file, run + 1))
            }
            _ => Some((file, 1)),
        };
        self.opened.insert(file);
        self.record_co_changes(index, file);
        let same_kind = files.iter().filter(|&&it| index.kind_of(it) == kind);
        let class = size_class(same_kind.count());
        let mut all = 1.0;
        if let Some(it) = self.folders.used.get_mut(&folder) {
            if it.settled {
                all = 0.0;
            }
            it.last = position;
            it.at = self.opens;
        }
        self.kind_mut(index, file)[class].add(all, 1.0);
        let before = self.opens.saturating_sub(SETTLING_OPENS);
        self.settle(index, before);
        self.co_change.forget(before);
    }

    /// Counts the unopened files of the folders not used since `before`.
    fn settle(&mut self, index: &FileIndex, before: u64) {
        while let Some(&(folder, since)) = self.unsettled.front() {
            if since >= before {
                break;
            }
            self.unsettled.pop_front();
            let Some(it) = self.folders.used.get_mut(&folder) else {
                continue;
            };
            if it.at >= before {
                self.unsettled.push_back((folder, it.at));
                continue;
            }
            it.settled = true;
            let mut kinds: BTreeMap<u16, (FileId, usize, usize)> = BTreeMap::new();
            for &file in index.files_in(folder) {
                let kind = index.kind_of(file).0;
                let (_, all, unopened) = kinds.entry(kind).or_insert((file, 0, 0));
                *all += 1;
                *unopened += usize::from(!self.opened.contains(&file));
            }
            for (file, all, unopened) in kinds.into_values() {
                self.kind_mut(index, file)[size_class(all)].add(unopened as f32, 0.0);
            }
        }
    }

    /// Returns files with a name like the last opened one: a program may look for
    /// the same name everywhere, and a source file has a header.
    fn similar_names(&self, index: &FileIndex) -> Vec<(FileId, f64)> {
        let Some((last, run)) = self.last else {
            return Vec::new();
        };
        let mut similar = Vec::new();
        let same_stem = index.files_with_same_stem(last);
        if same_stem.len() <= MAX_STEM_FILES {
            let ratio = self.rates.stem.ratio(STEM_RATE, STEM_WEIGHT);
            let others = same_stem.iter().filter(|&&it| it != last);
            similar.extend(others.map(|&file| (file, ratio / (same_stem.len() - 1) as f64)));
        }
        if run > 1 {
            let probability = 1.0 - 1.0 / f64::from(run);
            // Two or three consecutive files of one name may be chance.
            let limit = if run < 4 { 8 } else { 32 };
            let same_name = index.files_with_same_name(last).iter();
            let others = same_name.filter(|&&it| !self.opened.contains(&it));
            similar.extend(others.take(limit).map(|&file| (file, probability)));
        }
        similar
    }

    /// Returns the files to evaluate with their probabilities, unordered. `accesses`
    /// gives the sessions that used a file's folder and those of them that opened
    /// the file; `usage` the fraction of sessions that used a folder; `similarity` the
    /// degree to which this session repeats earlier ones.
    pub(super) fn candidates(
        &self,
        index: &FileIndex,
        similarity: f64,
        is_done: impl Fn(FileId) -> bool,
        accesses: impl Fn(FileId) -> (f64, f64),
        usage: impl Fn(FolderId) -> f64,
    ) -> Vec<RelatedFile> {
        let mut folders: Vec<(f64, FolderId)> = (self.folders.frontier.iter())
            .map(|&folder| {
                let probability = self.folders.probability(index, folder, &self.rates);
                (probability.max(usage(folder) * similarity), folder)
            })
            .collect();
        folders.sort_by(|a, b| b.0.total_cmp(&a.0));
        // A file that was never opened is unlikely in a session that repeats others.
        let related = |file, probability: f64, opened: f64| RelatedFile {
            file,
            probability: if opened == 0.0 {
                probability * (1.0 - similarity)
            } else {
                probability
            },
            known: opened > 0.0,
        };
        let mut found = Vec::new();
        let mut evaluated = 0;
        for (folder_probability, folder) in folders {
            let files = index.files_in(folder);
            evaluated += files.len();
            if evaluated > MAX_EVALUATED_FILES {
                break;
            }
            let mut counts: HashMap<u16, usize> = HashMap::new();
            for &file in files {
                *counts.entry(index.kind_of(file).0).or_default() += 1;
            }
            let last = self.folders.used.get(&folder).map(|it| it.last);
            let mut distance = 0;
            for (position, &file) in files.iter().enumerate() {
                let follows = last.is_some_and(|last| position > last);
                distance += i32::from(follows);
                if is_done(file) {
                    continue;
                }
                let count = counts.get(&index.kind_of(file).0).copied();
                let rate = self.kind_rate(index, file, count.unwrap_or(1));
                let (used, opened) = accesses(file);
                // The accesses of one session have half weight.
                let mut probability = folder_probability * (opened + rate) / (used + 1.0);
                if follows && distance <= 8 {
                    let next = self.rates.next.ratio(NEXT_RATE, NEXT_WEIGHT).powi(distance);
                    probability = probability.max(next / (used - opened + 1.0));
                }
                let mut file = related(file, probability, opened);
                file.probability = file.probability.clamp(0.0, 1.0);
                found.push(file);
            }
        }
        let mut positions: HashMap<FileId, usize> = (found.iter().zip(0..))
            .map(|(it, at)| (it.file, at))
            .collect();
        let similar = self.similar_names(index).into_iter();
        let similar = similar.map(|(file, probability)| (file, probability, false));
        let changed = self.co_change.files(index, self.rates.co_change);
        let changed = changed.map(|(file, probability)| (file, probability, true));
        for (file, probability, is_independent) in similar.chain(changed) {
            if is_done(file) {
                continue;
            }
            let (used, opened) = accesses(file);
            let file = related(file, (opened + probability) / (used + 1.0), opened);
            let Some(&at) = positions.get(&file.file) else {
                positions.insert(file.file, found.len());
                found.push(file);
                continue;
            };
            let known = &mut found[at].probability;
            if is_independent {
                // Location and history are independent evidence: combine them.
                *known += file.probability * (1.0 - *known);
            } else {
                *known = known.max(file.probability);
            }
        }
        found
    }

    fn kind_rate(&self, index: &FileIndex, file: FileId, count: usize) -> f64 {
        let class = size_class(count);
        let Some(sizes) = self.rates.kinds.get(index.kind_name(index.kind_of(file))) else {
            return KIND_RATE / 4.0 * SIZE_FACTORS[class];
        };
        let mut all = Rate::default();
        for rate in sizes {
            all.total += rate.total;
            all.hits += rate.hits;
        }
        let ratio = all.ratio(KIND_RATE, KIND_WEIGHT);
        sizes[class].ratio(ratio * SIZE_FACTORS[class], SIZE_WEIGHT)
    }

    fn kind_mut(&mut self, index: &FileIndex, file: FileId) -> &mut [Rate; SIZE_CLASSES] {
        self.rates.kind_mut(index.kind_name(index.kind_of(file)))
    }
}

fn size_class(count: usize) -> usize {
    let log = count.max(1).ilog2() as usize;
    log.min(SIZE_CLASSES - 1)
}
