//! Measurement of the prefetcher on recorded sessions.
//!
//! Sessions are played in sequence through the model and scheduler that serve a
//! mount, over a simulated link. Each starts with an empty cache and the data
//! learned from earlier sessions. The results are the time that tasks wait,
//! compared with fetching each file individually on demand, and the bytes that were
//! fetched but not used.
//!
//! The scheduler sees opens as they happen and files as they arrive; only the
//! simulated tasks see the future of the trace. The scheduler does not know the
//! link parameters: its estimate starts as in a mount and is corrected by its
//! fetches.

mod link;
mod session;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::file_index::{FileId, FileIndex, PackId, StoredRange};
use super::profile::Profile;
use super::scheduler::{Config, LinkEstimate, Scheduler};
use link::SimulatedLink;
use walgit_format::Prior;

pub use session::ReplayStalled;
pub use trace::{Open, TraceError, read_trace, read_tree};

/// Parameters of the simulated link and the stored size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplaySettings {
    /// Seconds from request to first byte.
    pub rtt: f64,
    /// Bytes per second.
    pub rate: f64,
    /// Stored bytes per byte of a file.
    pub stored_ratio: f64,
}

/// Knowledge before the first session.
#[derive(Clone, Debug, Default)]
pub struct InitialKnowledge {
    /// Files that changed together.
    pub prior: Option<Arc<Prior>>,
    /// Learned profile.
    pub profile: Profile,
}

/// Result of a session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Name of the session.
    pub trace: String,
    /// Number of recorded opens.
    pub opens: usize,
    /// Number of different files opened.
    pub files: usize,
    /// Seconds that tasks waited with each file fetched individually on demand.
    pub stall_without_s: f64,
    /// Seconds that tasks waited with prefetching.
    pub stall_with_s: f64,
    /// Ratio of `stall_with_s` to `stall_without_s`; 0 if no task had to wait.
    pub stall_ratio: f64,
    /// Opens that waited without prefetching.
    pub stalls_without: u64,
    /// Opens that waited with prefetching.
    pub stalls_with: u64,
    /// Stored bytes that were fetched and opened.
    pub useful_bytes: u64,
    /// Stored bytes that were fetched and not opened in this session.
    pub wasted_bytes: u64,
    /// Ratio of `wasted_bytes` to `useful_bytes`; `null` if no bytes were useful.
    pub waste_ratio: Option<f64>,
    /// Demand requests.
    pub demands: u64,
    /// Prefetch requests.
    pub prefetches: u64,
    /// Prefetch requests that were cancelled.
    pub cancelled: u64,
    /// Files fetched before they were opened.
    pub files_ahead: u64,
    /// Fraction of them that was opened; `null` if there were none.
    pub precision: Option<f64>,
    /// Fraction of the opened files that was fetched before the open.
    pub coverage: Option<f64>,
    /// Opens of files that were being fetched.
    pub late: u64,
    /// Duration of the session in seconds without prefetching.
    pub lasted_without_s: f64,
    /// Duration of the session in seconds with prefetching.
    pub lasted_with_s: f64,
}

/// Plays sessions in order, each with the data learned from earlier ones. `tree`
/// lists every file in pack order; without it, the files that `sessions` open are
/// used in the order of a walk.
pub fn replay(
    tree: Option<&[(String, u64)]>,
    sessions: &[(String, Vec<Open>)],
    settings: ReplaySettings,
    mut knowledge: InitialKnowledge,
) -> Result<Vec<ReplayReport>, ReplayStalled> {
    let files = list_files(tree, sessions);
    let mut reports = Vec::new();
    for (name, opens) in sessions {
        let (report, profile) = replay_session(name, opens, &files, settings, knowledge.clone())?;
        knowledge.profile = profile;
        reports.push(report);
    }
    Ok(reports)
}

struct ListedFile {
    path: String,
    size: u64,
    /// Whether its neighbours in the pack are known.
    in_tree: bool,
}

fn list_files(tree: Option<&[(String, u64)]>, sessions: &[(String, Vec<Open>)]) -> Vec<ListedFile> {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for open in sessions.iter().flat_map(|(_, opens)| opens) {
        let size = sizes.entry(&open.path).or_default();
        *size = open.size.max(*size);
    }
    let listed = |path: &str, size, in_tree| ListedFile {
        path: path.to_owned(),
        size,
        in_tree,
    };
    let Some(tree) = tree else {
        let mut found: Vec<(&str, u64)> = sizes.into_iter().collect();
        // A walk reads the entries of a folder in order of name.
        found.sort_by(|a, b| a.0.split('/').cmp(b.0.split('/')));
        let files = found.into_iter();
        return files.map(|(path, size)| listed(path, size, true)).collect();
    };
    let mut seen = BTreeSet::new();
    let in_tree = tree.iter().filter(|(path, _)| seen.insert(path.as_str()));
    let mut files: Vec<ListedFile> =
        (in_tree.map(|(path, size)| listed(path, *size, true))).collect();
    // Files outside the tree have no neighbours: placing them next to each other
    // would reveal which ones are opened.
    let others = sizes.into_iter().filter(|(path, _)| !seen.contains(path));
    files.extend(others.map(|(path, size)| listed(path, size, false)));
    files
}

/// Returns the index of the files; without `neighbours`, each file is unrelated to all others.
fn file_index(files: &[ListedFile], stored_ratio: f64, neighbours: bool) -> FileIndex {
    let mut index = FileIndex::default();
    let mut end: u64 = 0;
    let mut own_packs = 0;
    for file in files {
        let len = (file.size as f64 * stored_ratio).round() as u64;
        let (pack, offset) = if file.in_tree {
            let offset = end;
            end = end.saturating_add(len);
            (PackId(0), offset)
        } else {
            own_packs += 1;
            (PackId(own_packs), 0)
        };
        let range = StoredRange { pack, offset, len };
        if file.in_tree && neighbours {
            index.add(&file.path, range);
        } else {
            index.add_isolated(&file.path, range);
        }
    }
    index
}

fn replay_session(
    name: &str,
    opens: &[Open],
    files: &[ListedFile],
    settings: ReplaySettings,
    knowledge: InitialKnowledge,
) -> Result<(ReplayReport, Profile), ReplayStalled> {
    let index = file_index(files, settings.stored_ratio, true);
    // Every path of every session is listed.
    let opened: Vec<FileId> = (opens.iter())
        .filter_map(|open| index.find(&open.path))
        .collect();
    let useful_files: BTreeSet<FileId> = opened.iter().copied().collect();
    let useful = (useful_files.iter())
        .map(|&file| index.range(file).len)
        .fold(0, u64::saturating_add);

    let link = SimulatedLink::new(settings.rtt, settings.rate);
    // The baseline: each file is fetched individually, on demand.
    let on_demand = Config {
        prefetches: 0,
        ..Config::default()
    };
    let isolated = file_index(files, settings.stored_ratio, false);
    let profile = Profile::default();
    let mut baseline = Scheduler::new(isolated, profile, LinkEstimate::default(), on_demand);
    let without = session::play(opens, &opened, &mut baseline, link.clone())?;
    let mut scheduler = Scheduler::new(
        index,
        knowledge.profile,
        LinkEstimate::default(),
        Config::default(),
    );
    if let Some(prior) = knowledge.prior {
        scheduler.set_prior(prior);
    }
    let with = session::play(opens, &opened, &mut scheduler, link)?;

    let counts = scheduler.counts();
    let fraction = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
    let wasted = with.bytes.saturating_sub(useful);
    let report = ReplayReport {
        trace: name.to_owned(),
        opens: opens.len(),
        files: useful_files.len(),
        stall_without_s: without.stall,
        stall_with_s: with.stall,
        stall_ratio: if without.stall > 0.0 {
            with.stall / without.stall
        } else {
            0.0
        },
        stalls_without: without.stalls,
        stalls_with: with.stalls,
        useful_bytes: useful,
        wasted_bytes: wasted,
        waste_ratio: fraction(wasted, useful),
        demands: counts.demands,
        prefetches: counts.prefetches,
        cancelled: counts.cancelled,
        files_ahead: counts.files_prefetched,
        precision: fraction(counts.files_hit, counts.files_prefetched),
        coverage: fraction(counts.files_hit, useful_files.len() as u64),
        late: counts.files_late,
        lasted_without_s: without.lasted,
        lasted_with_s: with.lasted,
    };
    Ok((report, scheduler.profile()))
}
