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

mod alone;
mod link;
mod session;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::catalogue::{Catalogue, FileId, PackId, Place};
use super::profile::Profile;
use super::scheduler::{Config, Link, Scheduler};
use alone::Alone;
use link::SimulatedLink;
use walgit_format::Prior;

pub use session::Stuck;
pub use trace::{Open, TraceError, read_trace, read_tree};

/// Parameters of the simulated link and the stored size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Seconds from request to first byte.
    pub rtt: f64,
    /// Bytes per second.
    pub rate: f64,
    /// Stored bytes per byte of a file.
    pub stored_ratio: f64,
}

/// Knowledge before the first session.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Files that changed together.
    pub prior: Option<Arc<Prior>>,
    /// Learned profile.
    pub profile: Profile,
}

/// Result of a session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
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
    setting: Setting,
    known: Known,
) -> Result<Vec<Report>, Stuck> {
    let files = listed(tree, sessions);
    let mut known = known;
    let mut reports = Vec::new();
    for (name, opens) in sessions {
        let (report, profile) = one(name, opens, &files, setting, known.clone())?;
        known.profile = profile;
        reports.push(report);
    }
    Ok(reports)
}

/// One file: path, stored bytes, and whether its neighbours in the pack are known.
type Listed = (String, u64, bool);

fn listed(tree: Option<&[(String, u64)]>, sessions: &[(String, Vec<Open>)]) -> Vec<Listed> {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for open in sessions.iter().flat_map(|(_, opens)| opens) {
        let size = sizes.entry(&open.path).or_default();
        *size = open.size.max(*size);
    }
    let Some(tree) = tree else {
        let mut found: Vec<(&str, u64)> = sizes.into_iter().collect();
        found.sort_by(|a, b| as_walked(a.0).cmp(as_walked(b.0)));
        return found
            .into_iter()
            .map(|(path, size)| (path.to_owned(), size, true))
            .collect();
    };
    let mut files: Vec<Listed> = Vec::with_capacity(tree.len());
    let mut seen = BTreeSet::new();
    for (path, size) in tree {
        if seen.insert(path.as_str()) {
            files.push((path.clone(), *size, true));
        }
    }
    // Files outside the tree have no neighbours: placing them next to each other
    // would reveal which ones are opened.
    for (path, size) in sizes {
        if !seen.contains(path) {
            files.push((path.to_owned(), size, false));
        }
    }
    files
}

/// Sort key of a walk that reads the entries of a folder in order of name.
fn as_walked(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
}

fn catalogue(files: &[Listed], ratio: f64) -> Catalogue {
    let mut catalogue = Catalogue::default();
    let mut end: u64 = 0;
    let mut own = 0;
    for (path, size, listed) in files {
        let len = (*size as f64 * ratio).round() as u64;
        let place = match listed {
            true => Place {
                pack: PackId(0),
                offset: end,
                len,
            },
            false => {
                own += 1;
                Place {
                    pack: PackId(own),
                    offset: 0,
                    len,
                }
            }
        };
        if *listed {
            end = end.saturating_add(len);
        }
        match listed {
            true => catalogue.add(path, place),
            false => catalogue.add_alone(path, place),
        };
    }
    catalogue
}

fn one(
    name: &str,
    opens: &[Open],
    files: &[Listed],
    setting: Setting,
    known: Known,
) -> Result<(Report, Profile), Stuck> {
    let config = Config::default();
    let catalogue = catalogue(files, setting.stored_ratio);
    // Every path of every session is listed.
    let opened: Vec<FileId> = (opens.iter())
        .filter_map(|open| catalogue.find(&open.path))
        .collect();
    let useful_files: BTreeSet<FileId> = opened.iter().copied().collect();
    let useful = (useful_files.iter())
        .map(|&file| catalogue.place(file).len)
        .fold(0, u64::saturating_add);

    let link = SimulatedLink::new(setting.rtt, setting.rate);
    let mut alone = Alone::new(&catalogue, config.connections);
    let without = session::play(opens, &opened, &mut alone, link.clone())?;
    let mut scheduler = Scheduler::new(catalogue, known.profile, Link::default(), config);
    if let Some(prior) = known.prior {
        scheduler.tell(prior);
    }
    let with = session::play(opens, &opened, &mut scheduler, link)?;

    let counts = scheduler.counts();
    let part = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
    let wasted = with.bytes.saturating_sub(useful);
    let stall_ratio = match without.stall > 0.0 {
        true => with.stall / without.stall,
        false => 0.0,
    };
    let report = Report {
        trace: name.to_owned(),
        opens: opens.len(),
        files: useful_files.len(),
        stall_without_s: without.stall,
        stall_with_s: with.stall,
        stall_ratio,
        stalls_without: without.stalls,
        stalls_with: with.stalls,
        useful_bytes: useful,
        wasted_bytes: wasted,
        waste_ratio: part(wasted, useful),
        demands: counts.demands,
        prefetches: counts.prefetches,
        cancelled: counts.cancelled,
        files_ahead: counts.files_ahead,
        precision: part(counts.files_hit, counts.files_ahead),
        coverage: part(counts.files_hit, useful_files.len() as u64),
        late: counts.files_late,
        lasted_without_s: without.lasted,
        lasted_with_s: with.lasted,
    };
    Ok((report, scheduler.profile()))
}
