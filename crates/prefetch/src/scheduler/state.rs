//! State of a session.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::super::file_index::{FileId, FileIndex};
use super::super::locality_predictor::{LocalityPredictor, RelatedFile};
use super::super::model::{Model, TaskId};
use super::super::profile::Profile;
use super::action::{Config, FetchId, PrefetchCounts, Seconds};
use super::in_flight::InFlightRequests;
use super::link::LinkEstimate;
use super::predictions::Predictions;
use super::waste_budget::{Allowance, BudgetAccount, WasteBudget};
use walgit_format::Prior;

/// Predicted fraction of the opens above which the model needs no help.
pub(super) const SUFFICIENT_HIT_RATE: f64 = 0.8;
/// Prediction horizon in round trips: one for the fetch, one for the fetches before
/// it.
const LEAD_ROUND_TRIPS: f64 = 2.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FileState {
    /// Not cached.
    #[default]
    Missing,
    /// Requested.
    InFlight(FetchId),
    /// Cached.
    Cached,
    /// Not available; requested again only on demand.
    Failed,
}

impl FileState {
    /// Whether a demand must request the file.
    pub(super) fn needs_request(self) -> bool {
        matches!(self, FileState::Missing | FileState::Failed)
    }
}

/// Related files in order of rank, the best last, and by file.
#[derive(Debug, Default)]
pub(super) struct RankedFiles {
    pub(super) order: Vec<RelatedFile>,
    pub(super) by_file: HashMap<FileId, RelatedFile>,
}

/// State of one session.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) config: Config,
    pub(super) link: LinkEstimate,
    pub(super) file_index: FileIndex,
    pub(super) model: Model,
    pub(super) locality: LocalityPredictor,
    pub(super) predictions: Predictions,
    pub(super) budget: WasteBudget,
    pub(super) in_flight: InFlightRequests,
    pub(super) files: Vec<ScheduledFile>,
    /// Demands that wait for a free connection.
    pub(super) queue: VecDeque<FileId>,
    pub(super) waiting: HashMap<FileId, Vec<TaskId>>,
    /// Time at which each task last received its file.
    pub(super) answered: BTreeMap<TaskId, Seconds>,
    /// Last ranking of related files; recomputed after a first open.
    pub(super) ranked: Option<Arc<RankedFiles>>,
    /// Seconds without a waiting task, up to `now`.
    pub(super) clock: Seconds,
    pub(super) now: Seconds,
    /// Factor of the horizon; increases while predictions come too late.
    pub(super) lead_factor: f64,
    /// Fraction of recent first opens that the model predicted.
    pub(super) model_hit_rate: f64,
    /// Stored bytes that earlier sessions opened on average; 0 if there were none.
    pub(super) session_bytes: f64,
    pub(super) counts: PrefetchCounts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScheduledFile {
    pub(super) state: FileState,
    pub(super) opened: bool,
    pub(super) prefetched: bool,
}

impl Scheduler {
    /// Starts a session with the profile of earlier ones.
    pub fn new(
        file_index: FileIndex,
        profile: Profile,
        link: LinkEstimate,
        config: Config,
    ) -> Self {
        let mut model = profile.model;
        model.begin();
        Scheduler {
            config,
            link,
            file_index,
            model,
            locality: LocalityPredictor::new(profile.rates),
            predictions: Predictions::default(),
            budget: WasteBudget::default(),
            in_flight: InFlightRequests::default(),
            files: Vec::new(),
            queue: VecDeque::new(),
            waiting: HashMap::new(),
            answered: BTreeMap::new(),
            ranked: None,
            clock: 0.0,
            now: 0.0,
            lead_factor: 1.0,
            model_hit_rate: SUFFICIENT_HIT_RATE,
            session_bytes: profile.session_bytes,
            counts: PrefetchCounts::default(),
        }
    }

    /// Returns the learned profile.
    pub fn profile(&self) -> Profile {
        let bytes = self.budget.useful() as f64;
        let session_bytes = if self.session_bytes > 0.0 {
            self.session_bytes * 0.7 + bytes * 0.3
        } else {
            bytes
        };
        Profile {
            session_bytes,
            model: self.model.clone(),
            rates: self.locality.clone().into_rates(&self.file_index),
        }
    }

    /// Merges a profile of others; `trust` is the assumed degree to which this
    /// session repeats it, 0..=1.
    pub fn merge(&mut self, profile: &Profile, trust: f64) {
        self.model.merge(&profile.model, trust);
        self.locality.merge(&profile.rates);
        if self.session_bytes <= 0.0 {
            self.session_bytes = profile.session_bytes;
        }
        self.ranked = None;
    }

    /// Replaces all learned data.
    pub fn replace(&mut self, profile: Profile) {
        let prior = self.prior().cloned();
        self.model = profile.model;
        self.model.begin();
        self.locality = LocalityPredictor::new(profile.rates);
        self.session_bytes = profile.session_bytes;
        self.predictions = Predictions::default();
        self.ranked = None;
        prior.into_iter().for_each(|prior| self.set_prior(prior));
    }

    /// Returns the prior of the repository, if set.
    pub fn prior(&self) -> Option<&Arc<Prior>> {
        self.locality.prior()
    }

    /// Sets the prior: files that changed together in the repository's history.
    pub fn set_prior(&mut self, prior: Arc<Prior>) {
        self.locality.set_prior(&self.file_index, prior);
        self.ranked = None;
    }

    /// Returns the known files.
    pub fn file_index(&self) -> &FileIndex {
        &self.file_index
    }

    /// Returns the known files, to add more.
    pub fn file_index_mut(&mut self) -> &mut FileIndex {
        &mut self.file_index
    }

    /// Returns the counters so far.
    pub fn counts(&self) -> PrefetchCounts {
        self.counts
    }

    /// Number of known transitions.
    pub fn transitions(&self) -> usize {
        self.model.transitions()
    }

    /// Returns the estimate of the link.
    pub fn link(&self) -> LinkEstimate {
        self.link
    }

    /// Returns whether a file is cached.
    pub fn is_cached(&self, file: FileId) -> bool {
        self.file(file).state == FileState::Cached
    }

    /// Returns the bytes at risk and the limit of each account: learned, then
    /// guessed.
    pub(super) fn at_risk(&self) -> [(u64, u64); 2] {
        [BudgetAccount::Learned, BudgetAccount::Guessed].map(|account| {
            let risk = self.budget.at_risk(account);
            (risk, risk + self.left(account))
        })
    }

    /// Remaining bytes to risk on an account. Guesses are for sessions that repeat
    /// nothing.
    fn left(&self, account: BudgetAccount) -> u64 {
        let allowance = match account {
            BudgetAccount::Learned => Allowance {
                start: (self.session_bytes * self.config.learned_start) as u64,
                per_useful: self.config.learned_per_useful,
            },
            BudgetAccount::Guessed => {
                let new = (1.0 - 2.0 * self.model.similarity()).max(0.0).powi(2);
                let Allowance { start, per_useful } = self.config.guessed;
                Allowance {
                    start: (start as f64 * new) as u64,
                    per_useful: per_useful * new,
                }
            }
        };
        self.budget.left(account, allowance)
    }

    /// Seconds ahead within which expected files are fetched.
    pub(super) fn horizon(&self) -> Seconds {
        LEAD_ROUND_TRIPS * self.lead_factor * self.link.rtt()
    }

    pub(super) fn file(&self, file: FileId) -> ScheduledFile {
        self.files.get(file.index()).copied().unwrap_or_default()
    }

    pub(super) fn is_missing(&self, file: FileId) -> bool {
        self.file(file).state == FileState::Missing
    }

    pub(super) fn file_mut(&mut self, file: FileId) -> &mut ScheduledFile {
        let at = file.index();
        if at >= self.files.len() {
            self.files.resize(at + 1, ScheduledFile::default());
        }
        &mut self.files[at]
    }
}
