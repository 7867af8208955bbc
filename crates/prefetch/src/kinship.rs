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

use super::catalogue::{Catalogue, FileId, FolderId};
use super::rates::{RELATIONS, Rate, Rates, SIZES};
use super::together::Together;
use walgit_format::Prior;

/// Relation of a folder to the used folders. The nearest relation counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// Its parent is used.
    Child = 0,
    /// A folder below it is used.
    Parent = 1,
    /// A folder below its parent is used.
    Sibling = 2,
    /// A folder below the same top-level folder is used.
    Cousin = 3,
    /// None of these relations.
    Stranger = 4,
}

/// Initial fraction of the files of a kind that are opened: higher for kinds of
/// which files have been opened.
const KIND: f64 = 0.5;
const KIND_WEIGHT: f64 = 12.0;
/// Folders of similar size behave alike. Number of counted files in folders of a
/// size at which their own rate outweighs the initial one.
const SIZE_WEIGHT: f64 = 24.0;
/// Initial factors by folder size: the larger a folder, the smaller the fraction of
/// it that is opened.
const OF_SIZE: [f64; SIZES] = [1.0, 1.0, 1.0, 1.0, 0.8, 0.55, 0.35, 0.22, 0.13, 0.08];
/// Initial fraction of the folders in a relation that are used, and the number of
/// counted folders at which the measured rate outweighs it.
const RELATED: [f64; RELATIONS] = [0.35, 0.5, 0.25, 0.1, 0.04];
const RELATED_WEIGHT: f64 = 16.0;
/// Factor for folders below an unrelated top-level folder: they are used more
/// rarely than it is.
const BELOW_STRANGER: f64 = 0.3;
/// Initial probability that the next file of a kind in a folder is opened.
const NEXT: f64 = 0.5;
const NEXT_WEIGHT: f64 = 8.0;
/// Initial probability that a file with the same stem but another kind is opened.
const STEM: f64 = 0.4;
const STEM_WEIGHT: f64 = 16.0;
/// Maximum number of files with one stem that count as a pair.
const MAX_MATES: usize = 6;
/// First opens after which the unopened files of a folder count as not opened.
const SETTLED: u64 = 64;

/// Rates, and the parts of the tree that this session uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinship {
    rates: Rates,
    used: HashMap<FolderId, Use>,
    /// Number of used folders below each folder.
    below: HashMap<FolderId, u32>,
    /// Folders to search for candidates, without duplicates.
    frontier: Vec<FolderId>,
    seen: HashSet<FolderId>,
    opened: HashSet<FileId>,
    /// Used folders whose unopened files are not counted yet, with the time of a
    /// use.
    unsettled: VecDeque<(FolderId, u64)>,
    /// The last opened file, and the number of consecutive files with its name.
    last: Option<(FileId, u32)>,
    opens: u64,
    together: Together,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    /// Position in its folder of the last opened file.
    last: usize,
    /// Time of the last use, in opens.
    at: u64,
    /// Whether its unopened files have been counted.
    settled: bool,
}

/// A related file: one that may be opened because of its location.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kin {
    pub(super) file: FileId,
    /// Probability that it is opened, 0..=1.
    pub(super) probability: f64,
    /// Whether an earlier session opened it.
    pub(super) known: bool,
}

/// Maximum number of folders that one use of a folder adds to the frontier.
const IN_SIGHT: usize = 48;
/// Maximum number of folders from the root down that are in the frontier initially.
const AT_FIRST: usize = 96;
/// Maximum number of files that are evaluated at once.
const MAX_WEIGHED: usize = 6000;

impl Kinship {
    pub(super) fn new(rates: Rates) -> Self {
        Kinship {
            rates,
            ..Kinship::default()
        }
    }

    pub(super) fn into_rates(mut self, catalogue: &Catalogue) -> Rates {
        self.settle(catalogue, u64::MAX);
        self.rates
    }

    /// Adds the counts of another session or user.
    pub(super) fn merge(&mut self, rates: &Rates) {
        self.rates.merge(rates);
    }

    /// Returns the prior, if there is one.
    pub(super) fn prior(&self) -> Option<&Arc<Prior>> {
        self.together.prior()
    }

    /// Sets the prior.
    pub(super) fn tell(&mut self, catalogue: &Catalogue, prior: Arc<Prior>) {
        self.together.tell(prior);
        let mut opened: Vec<FileId> = self.opened.iter().copied().collect();
        opened.sort_unstable();
        for file in opened {
            self.changed(catalogue, file);
        }
    }

    /// Records the files that changed together with an opened file.
    fn changed(&mut self, catalogue: &Catalogue, file: FileId) {
        let (at, rate) = (self.opens, &mut self.rates.together);
        let opened = |other| self.opened.contains(&other);
        self.together.opened(catalogue, file, at, rate, opened);
    }

    /// Records the first open of a file in this session.
    pub(super) fn opened(&mut self, catalogue: &Catalogue, file: FileId) {
        self.opens += 1;
        let folder = catalogue.folder_of(file);
        let files = catalogue.files_in(folder);
        let place = files.iter().position(|&it| it == file).unwrap_or_default();
        let kind = catalogue.kind_of(file);
        if let Some(earlier) = self.used.get(&folder).copied() {
            let between = files.get(earlier.last + 1..place).unwrap_or_default();
            let next =
                earlier.last < place && between.iter().all(|&it| catalogue.kind_of(it) != kind);
            self.rates.next.add(1.0, f32::from(u8::from(next)));
        } else {
            self.begin(catalogue, folder);
        }
        let mates = catalogue.stem_mates(file);
        if (2..=MAX_MATES).contains(&mates.len()) {
            let opened = mates
                .iter()
                .any(|&it| it != file && self.opened.contains(&it));
            self.rates.stem.add(1.0, f32::from(u8::from(opened)));
        }
        let named = |other| catalogue.namesakes(file).contains(&other);
        self.last = match self.last {
            Some((other, run)) if named(other) => Some((file, run + 1)),
            _ => Some((file, 1)),
        };
        self.opened.insert(file);
        self.changed(catalogue, file);
        let class = size_class(count_kind(catalogue, folder, file));
        let of = match self.used.get(&folder).is_some_and(|it| it.settled) {
            true => 0.0,
            false => 1.0,
        };
        self.kind_mut(catalogue, file)[class].add(of, 1.0);
        let at = self.opens;
        if let Some(it) = self.used.get_mut(&folder) {
            it.last = place;
            it.at = at;
        }
        let before = at.saturating_sub(SETTLED);
        self.settle(catalogue, before);
        self.together.forget(before);
    }

    /// Counts the unopened files of the folders not used since `before`.
    fn settle(&mut self, catalogue: &Catalogue, before: u64) {
        while let Some(&(folder, since)) = self.unsettled.front() {
            if since >= before {
                break;
            }
            self.unsettled.pop_front();
            let Some(it) = self.used.get_mut(&folder) else {
                continue;
            };
            if it.at >= before {
                self.unsettled.push_back((folder, it.at));
                continue;
            }
            it.settled = true;
            let mut kinds: BTreeMap<u16, (FileId, usize, usize)> = BTreeMap::new();
            for &file in catalogue.files_in(folder) {
                let kind = catalogue.kind_of(file).0;
                let (_, all, left) = kinds.entry(kind).or_insert((file, 0, 0));
                *all += 1;
                *left += usize::from(!self.opened.contains(&file));
            }
            for (file, all, left) in kinds.into_values() {
                self.kind_mut(catalogue, file)[size_class(all)].add(left as f32, 0.0);
            }
        }
    }

    /// Returns files with a name like the last opened one: a program may look for
    /// the same name everywhere, and a source file has a header.
    fn alike(&self, catalogue: &Catalogue) -> Vec<(FileId, f64)> {
        let Some((last, run)) = self.last else {
            return Vec::new();
        };
        let mut alike = Vec::new();
        let mates = catalogue.stem_mates(last);
        if mates.len() <= MAX_MATES {
            let share = self.rates.stem.share(STEM, STEM_WEIGHT);
            let near = mates.iter().filter(|&&it| it != last);
            alike.extend(near.map(|&file| (file, share / (mates.len() - 1) as f64)));
        }
        if run > 1 {
            let share = 1.0 - 1.0 / f64::from(run);
            // Two or three consecutive files of one name may be chance.
            let ahead = if run < 4 { 8 } else { 32 };
            let named = catalogue.namesakes(last).iter();
            let others = named.filter(|&&it| !self.opened.contains(&it));
            alike.extend(others.take(ahead).map(|&file| (file, share)));
        }
        alike
    }

    /// Returns the files to evaluate with their probabilities, unordered. `habit`
    /// gives the sessions that used a file's folder and those of them that opened
    /// the file; `used` the fraction of sessions that used a folder; `familiar` the
    /// degree to which this session repeats earlier ones.
    pub(super) fn candidates(
        &self,
        catalogue: &Catalogue,
        familiar: f64,
        open: impl Fn(FileId) -> bool,
        habit: impl Fn(FileId) -> (f64, f64),
        used: impl Fn(FolderId) -> f64,
    ) -> Vec<Kin> {
        let mut folders: Vec<(f64, FolderId)> = (self.frontier.iter())
            .map(|&folder| {
                let related = self.of_folder(catalogue, folder);
                (related.max(used(folder) * familiar), folder)
            })
            .collect();
        folders.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut found = Vec::new();
        let mut weighed = 0;
        for (folder_probability, folder) in folders {
            let files = catalogue.files_in(folder);
            weighed += files.len();
            if weighed > MAX_WEIGHED {
                break;
            }
            let mut counts: HashMap<u16, usize> = HashMap::new();
            for &file in files {
                *counts.entry(catalogue.kind_of(file).0).or_default() += 1;
            }
            let last = self.used.get(&folder).map(|it| it.last);
            let mut ahead = 0;
            for (place, &file) in files.iter().enumerate() {
                let behind = last.is_some_and(|last| place > last);
                ahead += i32::from(behind);
                if open(file) {
                    continue;
                }
                let count = counts.get(&catalogue.kind_of(file).0).copied();
                let rate = self.of_kind(catalogue, file, count.unwrap_or(1));
                let (used, opened) = habit(file);
                // A habit of one session has half weight.
                let mut probability = folder_probability * (opened + rate) / (used + 1.0);
                if behind && ahead <= 8 {
                    let next = self.rates.next.share(NEXT, NEXT_WEIGHT).powi(ahead);
                    probability = probability.max(next / (used - opened + 1.0));
                }
                if opened == 0.0 {
                    probability *= 1.0 - familiar;
                }
                found.push(Kin {
                    file,
                    probability: probability.clamp(0.0, 1.0),
                    known: opened > 0.0,
                });
            }
        }
        let mut places: HashMap<FileId, usize> = (found.iter().zip(0..))
            .map(|(kin, at)| (kin.file, at))
            .collect();
        let alike = self.alike(catalogue).into_iter();
        let alike = alike.map(|(file, probability)| (file, probability, false));
        let changed = self.together.files(catalogue, self.rates.together);
        let changed = changed.map(|(file, probability)| (file, probability, true));
        for (file, probability, apart) in alike.chain(changed) {
            if open(file) {
                continue;
            }
            let (used, opened) = habit(file);
            let mut probability = (opened + probability) / (used + 1.0);
            if opened == 0.0 {
                probability *= 1.0 - familiar;
            }
            match places.get(&file) {
                // Location and history are independent evidence: combine them.
                Some(&at) if apart => {
                    let other = 1.0 - found[at].probability;
                    found[at].probability += probability * other;
                }
                Some(&at) => found[at].probability = found[at].probability.max(probability),
                None => {
                    places.insert(file, found.len());
                    found.push(Kin {
                        file,
                        probability,
                        known: opened > 0.0,
                    });
                }
            }
        }
        found
    }

    /// Records the first use of a folder.
    fn begin(&mut self, catalogue: &Catalogue, folder: FolderId) {
        let relation = self.relation(catalogue, folder);
        if self.used.is_empty() {
            self.sight(catalogue, FolderId(0), AT_FIRST);
            let tops = catalogue.folders_in(FolderId(0)).len() as f32;
            self.rates.relations[Relation::Stranger as usize].add(tops, 0.0);
        } else {
            self.rates.relations[relation as usize].add(0.0, 1.0);
        }
        if relation == Relation::Stranger {
            let below = count_below(catalogue, self.top(catalogue, folder));
            self.rates.relations[Relation::Cousin as usize].add(below, 0.0);
        }
        let at = self.opens;
        let begun = Use {
            last: 0,
            at,
            settled: false,
        };
        self.used.insert(folder, begun);
        self.unsettled.push_back((folder, at));
        // Count each folder that now has a nearer relation than before.
        let unused = |folders: &[FolderId], used: &HashMap<FolderId, Use>| {
            folders.iter().filter(|it| !used.contains_key(it)).count() as f32
        };
        let children = unused(catalogue.folders_in(folder), &self.used);
        self.rates.relations[Relation::Child as usize].add(children, 0.0);
        let mut up = catalogue.parent(folder);
        let mut level = 0;
        while let Some(parent) = up {
            let below = self.below.entry(parent).or_default();
            *below += 1;
            let nearest = *below == 1 && level == 0 && catalogue.depth(parent) > 0;
            if nearest && !self.used.contains_key(&parent) {
                self.rates.relations[Relation::Parent as usize].add(1.0, 0.0);
                let siblings = unused(catalogue.folders_in(parent), &self.used);
                self.rates.relations[Relation::Sibling as usize].add(siblings, 0.0);
            }
            level += 1;
            up = catalogue.parent(parent);
        }
        self.sight(catalogue, folder, IN_SIGHT);
        if let Some(parent) = catalogue.parent(folder) {
            self.sight(catalogue, parent, IN_SIGHT);
        }
    }

    /// Adds a folder and those below it to the frontier, in breadth-first order.
    fn sight(&mut self, catalogue: &Catalogue, from: FolderId, most: usize) {
        let mut level = vec![from];
        let mut left = most;
        while !level.is_empty() && left > 0 {
            let mut below = Vec::new();
            for folder in level {
                if left == 0 {
                    return;
                }
                left -= 1;
                if self.seen.insert(folder) {
                    self.frontier.push(folder);
                }
                below.extend(catalogue.folders_in(folder).iter().take(most));
            }
            level = below;
        }
    }

    fn of_folder(&self, catalogue: &Catalogue, folder: FolderId) -> f64 {
        if self.used.contains_key(&folder) {
            return 1.0;
        }
        let relation = self.relation(catalogue, folder);
        let prior = RELATED[relation as usize];
        let share = self.rates.relations[relation as usize].share(prior, RELATED_WEIGHT);
        match relation == Relation::Stranger && catalogue.depth(folder) > 1 {
            true => share * BELOW_STRANGER,
            false => share,
        }
    }

    /// Returns the top-level folder that contains a folder, or is it.
    fn top(&self, catalogue: &Catalogue, folder: FolderId) -> FolderId {
        let mut top = folder;
        while catalogue.depth(top) > 1 {
            match catalogue.parent(top) {
                Some(up) => top = up,
                None => break,
            }
        }
        top
    }

    fn of_kind(&self, catalogue: &Catalogue, file: FileId, count: usize) -> f64 {
        let kind = catalogue.kind_name(catalogue.kind_of(file));
        let Some(sizes) = self.rates.kinds.get(kind) else {
            return KIND / 4.0 * OF_SIZE[size_class(count)];
        };
        let mut all = Rate::default();
        for part in sizes {
            all.of += part.of;
            all.part += part.part;
        }
        let share = all.share(KIND, KIND_WEIGHT);
        let class = size_class(count);
        sizes[class].share(share * OF_SIZE[class], SIZE_WEIGHT)
    }

    fn relation(&self, catalogue: &Catalogue, folder: FolderId) -> Relation {
        let used_below = |folder| self.below.get(&folder).is_some_and(|&n| n > 0);
        let Some(parent) = catalogue.parent(folder) else {
            return Relation::Stranger;
        };
        if used_below(folder) {
            return Relation::Parent;
        }
        // At the top level every folder would be a sibling.
        if catalogue.depth(parent) == 0 {
            return Relation::Stranger;
        }
        if self.used.contains_key(&parent) {
            return Relation::Child;
        }
        if used_below(parent) {
            return Relation::Sibling;
        }
        let top = self.top(catalogue, parent);
        match used_below(top) || self.used.contains_key(&top) {
            true => Relation::Cousin,
            false => Relation::Stranger,
        }
    }

    fn kind_mut(&mut self, catalogue: &Catalogue, file: FileId) -> &mut [Rate; SIZES] {
        self.rates
            .kind_mut(catalogue.kind_name(catalogue.kind_of(file)))
    }
}

/// Counts the folders below one, up to the number that would be searched.
fn count_below(catalogue: &Catalogue, folder: FolderId) -> f32 {
    let mut count = 0;
    let mut level = vec![folder];
    while let Some(folder) = level.pop() {
        let below = catalogue.folders_in(folder);
        count += below.len();
        if count > AT_FIRST {
            break;
        }
        level.extend(below);
    }
    count.min(AT_FIRST) as f32
}

fn count_kind(catalogue: &Catalogue, folder: FolderId, file: FileId) -> usize {
    let kind = catalogue.kind_of(file);
    let files = catalogue.files_in(folder).iter();
    files.filter(|&&it| catalogue.kind_of(it) == kind).count()
}

fn size_class(count: usize) -> usize {
    let log = count.max(1).ilog2() as usize;
    log.min(SIZES - 1)
}
