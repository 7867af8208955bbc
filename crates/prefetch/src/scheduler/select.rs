//! Selection of the files of the next request.
//!
//! First come the model's predictions within the time of a fetch, soonest first;
//! then related files, best request first. Neighbours of the selected files in the
//! pack are included if they are wanted too.

use std::sync::Arc;

use super::super::file_index::{FileId, FolderId, PackId};
use super::super::locality_predictor::RelatedFile;
use super::action::{Fetch, Seconds};
use super::state::{RankedFiles, SUFFICIENT_HIT_RATE, Scheduler};
use super::waste_budget::{BudgetAccount, RemainingBudget};

/// Minimum ratio of benefit to cost of a prediction. Two, because either estimate
/// may be wrong.
const MIN_BENEFIT_RATIO: f64 = 2.0;
/// Minimum probability of a prediction; lower ones are noise.
pub(super) const MIN_PROBABILITY: f64 = 0.03;
/// Divisor of the nearly free bytes: the maximum gap of unwanted bytes that joins
/// two files into one request.
const GAP_DIVISOR: u64 = 48;
/// Maximum gap in bytes, however fast the link is: waste counts too.
const MAX_GAP_BYTES: u64 = 8 << 10;
/// Divisor of the nearly free bytes: the assumed overhead of a request in bytes.
const REQUEST_OVERHEAD_DIVISOR: u64 = 64;
/// Minimum probability of a known file in a session that repeats earlier ones: less
/// likely files mostly belong to another program.
const MIN_KNOWN_PROBABILITY: f64 = 0.5;
/// Minimum bytes of prefetches in flight, however slow the link is: one small
/// request.
const MIN_WINDOW_BYTES: u64 = 16 << 10;
/// Maximum number of files examined to extend a request.
const MAX_EXAMINED_FILES: usize = 512;

/// A file of a request, and the reason for including it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SelectedFile {
    pub(super) file: FileId,
    pub(super) account: BudgetAccount,
    /// Probability that it is opened; 0 if it only fills a gap.
    pub(super) probability: f64,
}

impl Scheduler {
    /// Returns the request for a demanded file, with worthwhile files that follow
    /// it.
    pub(super) fn select_demand(&mut self, file: FileId) -> Vec<SelectedFile> {
        let mut selected = vec![SelectedFile {
            file,
            account: BudgetAccount::Learned,
            probability: 1.0,
        }];
        let ranked = self.ranked();
        let mut budget = RemainingBudget::new(self.at_risk());
        self.extend(&ranked, &mut selected, &mut budget, true);
        selected
    }

    /// Returns the best prefetch request; `None` if nothing is worth it now.
    pub(super) fn select_prefetch(&mut self, now: Seconds) -> Option<Vec<SelectedFile>> {
        let window = self.link.nearly_free().max(MIN_WINDOW_BYTES) * 2;
        let window = if self.in_flight.any_demanded() {
            window / 2
        } else {
            window
        };
        let in_flight = self.in_flight.prefetch_bytes();
        // A single request may exceed the window.
        if in_flight >= window {
            return None;
        }
        let ranked = self.ranked();
        let mut budget = RemainingBudget::new(self.at_risk());
        let max_bytes = (in_flight > 0).then(|| window - in_flight);
        let mut selected = vec![self.select_first(&ranked, now, &mut budget, max_bytes)?];
        self.extend(&ranked, &mut selected, &mut budget, true);
        self.extend(&ranked, &mut selected, &mut budget, false);
        Some(selected)
    }

    /// Returns the file to fetch next, with a maximum size in bytes.
    fn select_first(
        &self,
        ranked: &RankedFiles,
        now: Seconds,
        budget: &mut RemainingBudget,
        max_bytes: Option<u64>,
    ) -> Option<SelectedFile> {
        let fits = |bytes: u64| max_bytes.is_none_or(|max_bytes| bytes <= max_bytes);
        let horizon = self.horizon();
        for expected in self.predictions.soonest() {
            if expected.due > now + horizon {
                break;
            }
            let bytes = self.file_index.range(expected.file).len;
            let known = ranked.by_file.get(&expected.file).filter(|it| it.known);
            let probability = known.map_or(0.0, |it| it.probability);
            let probability = probability.max(expected.probability);
            if self.is_missing(expected.file)
                && self.is_worth(bytes, probability)
                && fits(bytes)
                && budget.take(BudgetAccount::Learned, bytes, probability, false)
            {
                return Some(SelectedFile {
                    file: expected.file,
                    account: BudgetAccount::Learned,
                    probability,
                });
            }
        }
        // A file that does not fit now may fit later.
        let best = (ranked.order.iter().rev()).find(|it| {
            let bytes = self.file_index.range(it.file).len;
            self.is_missing(it.file)
                && fits(bytes)
                && budget.take(BudgetAccount::of(it.known), bytes, it.probability, true)
        });
        best.map(|best| SelectedFile {
            file: best.file,
            account: BudgetAccount::of(best.known),
            probability: best.probability,
        })
    }

    /// Returns the ranked related files; recomputes them after a first open.
    fn ranked(&mut self) -> Arc<RankedFiles> {
        let ranked = self.ranked.take();
        let ranked = ranked.unwrap_or_else(|| Arc::new(self.rank()));
        self.ranked.insert(ranked).clone()
    }

    /// Ranks the related files that are worth fetching, best last.
    fn rank(&self) -> RankedFiles {
        let (model, index) = (&self.model, &self.file_index);
        let is_done = |file: FileId| self.file(file).opened || !self.is_missing(file);
        let accesses = |file: FileId| {
            let folder = index.folder_path(index.folder_of(file));
            model.accesses(index.path(file), folder)
        };
        let similarity = model.similarity();
        let usage = |folder: FolderId| model.usage(index.folder_path(folder));
        let mut related = (self.locality).candidates(index, similarity, is_done, accesses, usage);
        // If the model predicts each open, it will predict these in time, too.
        let is_sufficient = self.model_hit_rate > SUFFICIENT_HIT_RATE + 0.01;
        related.retain(|it| {
            let is_likely = !is_sufficient && it.probability >= MIN_KNOWN_PROBABILITY;
            (!it.known || is_likely || similarity < 0.5)
                && self.is_worth(self.file_index.range(it.file).len, it.probability)
        });
        RankedFiles {
            by_file: related.iter().map(|it| (it.file, *it)).collect(),
            order: self.rank_runs(related),
        }
    }

    /// Sorts candidates by the sum of probabilities per byte of one request for
    /// them and adjacent candidates; the best last.
    fn rank_runs(&self, mut related: Vec<RelatedFile>) -> Vec<RelatedFile> {
        let max_bytes = self.link.nearly_free();
        // A request occupies a connection for a round trip, in which the link could
        // have carried this many bytes.
        let overhead = ((max_bytes / REQUEST_OVERHEAD_DIVISOR).min(MAX_GAP_BYTES)) as f64;
        related.sort_by_key(|it| {
            let range = self.file_index.range(it.file);
            (range.pack, range.offset, it.file)
        });
        let mut ranked: Vec<(f64, RelatedFile)> = Vec::with_capacity(related.len());
        let mut rest = related.as_slice();
        while let Some(&first) = rest.first() {
            let first = self.file_index.range(first.file);
            let mut end = first.end();
            let (mut bytes, mut probabilities, mut count) = (0u64, 0.0, 0);
            for next in rest {
                let range = self.file_index.range(next.file);
                let is_near = range.pack == first.pack
                    && range.offset.saturating_sub(end) <= self.max_gap()
                    && range.end().saturating_sub(first.offset) <= max_bytes;
                if count > 0 && !is_near {
                    break;
                }
                count += 1;
                bytes = range.len.saturating_add(bytes);
                probabilities += next.probability;
                end = end.max(range.end());
            }
            let benefit = probabilities / (bytes as f64 + overhead);
            let (run, others) = rest.split_at(count);
            ranked.extend(run.iter().map(|&it| (benefit, it)));
            rest = others;
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranked.into_iter().map(|(_, it)| it).collect()
    }

    /// Extends a request by wanted files after (or before) its files, up to the
    /// bytes that are nearly free.
    fn extend(
        &self,
        ranked: &RankedFiles,
        selected: &mut Vec<SelectedFile>,
        budget: &mut RemainingBudget,
        forward: bool,
    ) {
        let edge = if forward {
            selected.last()
        } else {
            selected.first()
        };
        let Some(from) = edge.map(|selected| selected.file) else {
            return;
        };
        let max_bytes = self.link.nearly_free();
        let mut length = 0;
        let mut skipped: Vec<SelectedFile> = Vec::new();
        let mut skipped_bytes = 0;
        let mut found = Vec::new();
        let mut edge = self.file_index.range(from);
        let neighbours: Box<dyn Iterator<Item = FileId>> = if forward {
            Box::new(self.file_index.after(from))
        } else {
            Box::new(self.file_index.before(from))
        };
        for file in neighbours.take(MAX_EXAMINED_FILES) {
            let range = self.file_index.range(file);
            // Only adjacent files that are neither cached nor requested: bytes are
            // never fetched twice.
            let is_adjacent = if forward {
                range.offset == edge.end()
            } else {
                range.end() == edge.offset
            };
            length = range.len.saturating_add(length);
            if !is_adjacent || length > max_bytes || !self.is_missing(file) {
                break;
            }
            edge = range;
            let expected = self.predictions.probability(file);
            let related = ranked.by_file.get(&file);
            let related = related.filter(|it| it.probability > expected);
            let account = related.map_or(BudgetAccount::Learned, |it| BudgetAccount::of(it.known));
            let probability = related.map_or(expected, |it| it.probability);
            let mut rest = *budget;
            let is_taken = self.is_worth(range.len, probability)
                && rest.take(account, range.len, probability, related.is_some())
                && rest.take_gap(account, skipped_bytes);
            let mut next = SelectedFile {
                file,
                account,
                probability,
            };
            if is_taken {
                *budget = rest;
                skipped.iter_mut().for_each(|it| it.account = account);
                found.append(&mut skipped);
                found.push(next);
                skipped_bytes = 0;
            } else {
                next.probability = 0.0;
                skipped.push(next);
                skipped_bytes = range.len.saturating_add(skipped_bytes);
                if skipped_bytes > self.max_gap() {
                    break;
                }
            }
        }
        if forward {
            selected.extend(found);
        } else {
            found.reverse();
            selected.splice(..0, found);
        }
    }

    /// Creates the request for adjacent files.
    pub(super) fn request(&mut self, selected: &[SelectedFile], demanded: Option<FileId>) -> Fetch {
        let files: Vec<FileId> = selected.iter().map(|it| it.file).collect();
        let ranges = files.iter().map(|&file| self.file_index.range(file));
        let (mut pack, mut offset, mut end) = (PackId(0), u64::MAX, 0);
        for range in ranges {
            pack = range.pack;
            offset = offset.min(range.offset);
            end = end.max(range.end());
        }
        Fetch {
            id: self.in_flight.next_id(),
            pack,
            offset,
            len: end.saturating_sub(offset),
            files,
            demanded,
        }
    }

    /// Maximum number of unwanted bytes to fetch to join two files.
    fn max_gap(&self) -> u64 {
        (self.link.nearly_free() / GAP_DIVISOR).min(MAX_GAP_BYTES)
    }

    pub(super) fn is_worth(&self, bytes: u64, probability: f64) -> bool {
        probability >= MIN_PROBABILITY
            && probability * self.link.rtt()
                >= MIN_BENEFIT_RATIO * self.link.seconds(bytes) * (1.0 - probability)
    }
}
