//! Selection of the files of the next request.
//!
//! First come the model's predictions within the time of a fetch, soonest first;
//! then related files, best request first. Neighbours of the selected files in the
//! pack are included if they are wanted too.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::catalogue::{FileId, FolderId, PackId};
use super::super::kinship::Kin;
use super::ledger::Account;
use super::room::{Room, account};
use super::{Allowance, Fetch, NEW, Scheduler, Seconds, State};

/// Minimum ratio of benefit to cost of a prediction. Two, because either estimate
/// may be wrong.
const WORTH: f64 = 2.0;
/// Minimum probability of a prediction; lower ones are noise.
pub(super) const LEAST: f64 = 0.03;
/// Divisor of the nearly free bytes: the maximum gap of unwanted bytes that joins
/// two files into one request.
const GAP_PART: u64 = 48;
/// Maximum gap in bytes, however fast the link is: waste counts too.
const MAX_GAP: u64 = 8 << 10;
/// Divisor of the nearly free bytes: the assumed overhead of a request in bytes.
const REQUEST_PART: u64 = 64;
/// Predicted fraction of the opens above which the model needs no help.
pub(super) const GUIDED: f64 = 0.8;
/// Minimum probability of a habit in a session that repeats earlier ones: less
/// likely files mostly belong to another program.
const HABIT: f64 = 0.5;
/// Minimum bytes of prefetches in flight, however slow the link is: one small
/// request.
const LEAST_WINDOW: u64 = 16 << 10;
/// Maximum number of files examined to extend a request.
const MAX_JOINED: usize = 512;
/// Prediction horizon in round trips: one for the fetch, one for the fetches before
/// it.
pub(super) const LEAD: f64 = 2.0;

/// Ranked related files: in order with the best last, and by file.
#[derive(Debug, Default)]
pub(super) struct Ranked {
    order: Vec<Kin>,
    by_file: HashMap<FileId, Kin>,
}

/// A file of a request, and the reason for including it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) file: FileId,
    pub(super) account: Account,
    /// Probability that it is opened; 0 if it only fills a gap.
    pub(super) probability: f64,
}

impl Scheduler {
    /// Returns the request for a demanded file, with worthwhile files that follow
    /// it.
    pub(super) fn demand(&mut self, file: FileId) -> Vec<Chosen> {
        let mut chosen = vec![Chosen {
            file,
            account: Account::Learned,
            probability: 1.0,
        }];
        let kin = self.kin();
        self.lengthen(&kin, &mut chosen, &mut Room::of(self), true);
        chosen
    }

    /// Returns the best prefetch request; `None` if nothing is worth it now.
    pub(super) fn ahead(&mut self, now: Seconds) -> Option<Vec<Chosen>> {
        let window = self.link.nearly_free().max(LEAST_WINDOW) * 2;
        let window = match self.flights.awaiting() {
            true => window / 2,
            false => window,
        };
        let flying = self.flights.bytes_ahead();
        // A single request may exceed the window.
        if flying >= window {
            return None;
        }
        let kin = self.kin();
        let mut room = Room::of(self);
        let most = (flying > 0).then(|| window - flying);
        let mut chosen = vec![self.pick(&kin, now, &mut room, most)?];
        self.lengthen(&kin, &mut chosen, &mut room, true);
        self.lengthen(&kin, &mut chosen, &mut room, false);
        Some(chosen)
    }

    /// Returns the file to fetch next, with a maximum size in bytes.
    fn pick(
        &self,
        kin: &Ranked,
        now: Seconds,
        room: &mut Room,
        most: Option<u64>,
    ) -> Option<Chosen> {
        let fits = |bytes: u64| most.is_none_or(|most| bytes <= most);
        let horizon = self.horizon();
        for expected in self.expectations.soonest() {
            if expected.due > now + horizon {
                break;
            }
            let bytes = self.catalogue.place(expected.file).len;
            let known = kin.by_file.get(&expected.file).filter(|kin| kin.known);
            let probability = known.map_or(0.0, |kin| kin.probability);
            let probability = probability.max(expected.probability);
            if self.file(expected.file).state == State::Away
                && self.worth(bytes, probability)
                && fits(bytes)
                && room.take(Account::Learned, bytes, probability, false)
            {
                return Some(Chosen {
                    file: expected.file,
                    account: Account::Learned,
                    probability,
                });
            }
        }
        // A file that does not fit now may fit later.
        let best = (kin.order.iter().rev()).find(|kin| {
            let bytes = self.catalogue.place(kin.file).len;
            self.file(kin.file).state == State::Away
                && fits(bytes)
                && room.take(account(kin), bytes, kin.probability, true)
        });
        best.map(|best| Chosen {
            file: best.file,
            account: account(best),
            probability: best.probability,
        })
    }

    /// Returns the ranked related files; recomputes them after a first open.
    fn kin(&mut self) -> Arc<Ranked> {
        let kin = match self.kin.take() {
            Some(kin) => kin,
            None => Arc::new(self.rank_kin()),
        };
        self.kin.insert(kin).clone()
    }

    /// Ranks the related files that are worth fetching, best last.
    fn rank_kin(&self) -> Ranked {
        let (files, model, catalogue) = (&self.files, &self.model, &self.catalogue);
        let gone = |file: FileId| {
            let it = files.get(file.0 as usize).copied().unwrap_or(NEW);
            it.opened || it.state != State::Away
        };
        let habit = |file: FileId| {
            let folder = catalogue.folder_path(catalogue.folder_of(file));
            model.habit(catalogue.path(file), folder)
        };
        let familiar = model.familiarity();
        let used = |folder: FolderId| model.usage(catalogue.folder_path(folder));
        let mut kin = (self.kinship).candidates(catalogue, familiar, gone, habit, used);
        // If the model predicts each open, it will predict these in time, too.
        let guided = self.guided > GUIDED + 0.01;
        kin.retain(|kin| !kin.known || (!guided && kin.probability >= HABIT) || familiar < 0.5);
        kin.retain(|kin| self.worth(self.catalogue.place(kin.file).len, kin.probability));
        Ranked {
            by_file: kin.iter().map(|kin| (kin.file, *kin)).collect(),
            order: self.rank_runs(kin),
        }
    }

    /// Sorts candidates by the sum of probabilities per byte of one request for
    /// them and adjacent candidates; the best last.
    fn rank_runs(&self, mut kin: Vec<Kin>) -> Vec<Kin> {
        let most = self.link.nearly_free();
        // A request occupies a connection for a round trip, in which the link could
        // have carried this many bytes.
        let request = ((most / REQUEST_PART).min(MAX_GAP)) as f64;
        kin.sort_by_key(|kin| {
            let place = self.catalogue.place(kin.file);
            (place.pack, place.offset, kin.file)
        });
        let mut ranked: Vec<(f64, Kin)> = Vec::with_capacity(kin.len());
        let mut rest = kin.as_slice();
        while let Some(&first) = rest.first() {
            let begin = self.catalogue.place(first.file);
            let mut end = begin.end();
            let (mut bytes, mut probabilities, mut count) = (0u64, 0.0, 0);
            for next in rest {
                let place = self.catalogue.place(next.file);
                let near = place.pack == begin.pack
                    && place.offset.saturating_sub(end) <= self.gap()
                    && place.end().saturating_sub(begin.offset) <= most;
                if count > 0 && !near {
                    break;
                }
                count += 1;
                bytes = place.len.saturating_add(bytes);
                probabilities += next.probability;
                end = end.max(place.end());
            }
            let worth = probabilities / (bytes as f64 + request);
            let (run, others) = rest.split_at(count);
            ranked.extend(run.iter().map(|&kin| (worth, kin)));
            rest = others;
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranked.into_iter().map(|(_, kin)| kin).collect()
    }

    /// Extends a request by wanted files after (or before) its files, up to the
    /// bytes that are nearly free.
    fn lengthen(&self, kin: &Ranked, chosen: &mut Vec<Chosen>, room: &mut Room, forward: bool) {
        let end = if forward {
            chosen.last()
        } else {
            chosen.first()
        };
        let Some(from) = end.map(|chosen| chosen.file) else {
            return;
        };
        let most = self.link.nearly_free();
        let gap = self.gap();
        let mut length = 0;
        let mut skipped: Vec<Chosen> = Vec::new();
        let mut skipped_bytes = 0;
        let mut found = Vec::new();
        let mut edge = self.catalogue.place(from);
        let ahead: Box<dyn Iterator<Item = FileId>> = match forward {
            true => Box::new(self.catalogue.after(from)),
            false => Box::new(self.catalogue.before(from)),
        };
        for next in ahead.take(MAX_JOINED) {
            let place = self.catalogue.place(next);
            // Only adjacent files that are neither cached nor requested: bytes are
            // never fetched twice.
            let touches = match forward {
                true => place.offset == edge.end(),
                false => place.end() == edge.offset,
            };
            length = place.len.saturating_add(length);
            if !touches || length > most || self.file(next).state != State::Away {
                break;
            }
            edge = place;
            let expected = self.expectations.of(next);
            let (account, probability, guess) = match kin.by_file.get(&next) {
                Some(kin) if kin.probability > expected => (account(kin), kin.probability, true),
                _ => (Account::Learned, expected, false),
            };
            let mut rest = *room;
            let taken = self.worth(place.len, probability)
                && rest.take(account, place.len, probability, guess)
                && rest.take_gap(account, skipped_bytes);
            if taken {
                *room = rest;
                skipped.iter_mut().for_each(|it| it.account = account);
                found.append(&mut skipped);
                found.push(Chosen {
                    file: next,
                    account,
                    probability,
                });
                skipped_bytes = 0;
            } else {
                skipped.push(Chosen {
                    file: next,
                    account,
                    probability: 0.0,
                });
                skipped_bytes = place.len.saturating_add(skipped_bytes);
                if skipped_bytes > gap {
                    break;
                }
            }
        }
        match forward {
            true => chosen.extend(found),
            false => {
                found.reverse();
                found.append(chosen);
                *chosen = found;
            }
        }
    }

    /// Creates the request for adjacent files.
    pub(super) fn request(&mut self, chosen: &[Chosen], demanded: Option<FileId>) -> Fetch {
        let files: Vec<FileId> = chosen.iter().map(|it| it.file).collect();
        let places = files.iter().map(|&file| self.catalogue.place(file));
        let (mut pack, mut offset, mut end) = (PackId(0), u64::MAX, 0);
        for place in places {
            pack = place.pack;
            offset = offset.min(place.offset);
            end = end.max(place.end());
        }
        Fetch {
            id: self.flights.number(),
            pack,
            offset,
            len: end.saturating_sub(offset),
            files,
            demanded,
        }
    }

    /// Maximum number of unwanted bytes to fetch to join two files.
    fn gap(&self) -> u64 {
        (self.link.nearly_free() / GAP_PART).min(MAX_GAP)
    }

    pub(super) fn worth(&self, bytes: u64, probability: f64) -> bool {
        probability >= LEAST
            && probability * self.link.rtt()
                >= WORTH * self.link.seconds(bytes) * (1.0 - probability)
    }

    /// Remaining bytes to risk on an account. Guesses are for sessions that repeat
    /// nothing.
    pub(super) fn left(&self, account: Account) -> u64 {
        let allowance = match account {
            Account::Learned => Allowance {
                start: (self.session_bytes * self.config.learned_start) as u64,
                per_useful: self.config.learned_per_useful,
            },
            Account::Guessed => {
                let new = (1.0 - 2.0 * self.model.familiarity()).max(0.0).powi(2);
                let Allowance { start, per_useful } = self.config.guessed;
                Allowance {
                    start: (start as f64 * new) as u64,
                    per_useful: per_useful * new,
                }
            }
        };
        self.ledger.left(account, allowance)
    }
}
