//! Verification that everything a head needs exists and is intact.
//!
//! A check walks over everything the head needs ([`super::walk`]), which reads, and so
//! verifies, every node. Other data is read as far as requested ([`ReadScope`]), in large
//! ranges ([`reading`]); for blobs that are not read, only existence and length are
//! checked. Each problem is a [`Fault`] of a blob, a chunk or a node. Only if there are
//! faults, a second walk over the same nodes names the affected files ([`affected`]); so
//! a check of a sound repository stores no paths.
//!
//! The history is decoded as well: its commits, trees and tags, and everything they refer
//! to ([`history`]). On request, all objects are built as in an export and must match the
//! IDs that name them, and so must the trees of mounts ([`shown`]).
//!
//! An error that says nothing about the repository, such as a network outage, is not a
//! fault but ends the check.

mod affected;
mod checker;
mod fault;
mod history;
mod options;
mod reading;
mod report;
mod sample;
mod shown;

pub use affected::Affected;
pub use fault::{Fault, FaultKind, MAX_REPORTED};
pub use options::{FsckOptions, FsckProgress, HistoryCheck, ReadScope};
pub use report::{FsckReport, HistorySummary, PaidUntil};

use futures_util::FutureExt as _;

use crate::repo::{RepoError, Repository};
use checker::Checker;

/// Checks everything that a head needs.
///
/// # Errors
/// When the check cannot be completed, for example because a store does not answer.
/// Faults of the repository are part of the report.
pub async fn check(
    repository: &Repository,
    options: &FsckOptions,
    progress: &dyn FsckProgress,
) -> Result<FsckReport, RepoError> {
    let before = repository.store().health().requests;
    let mut check = Checker::new(repository, options, progress)?;
    // Boxed: the compiler cannot prove that the whole future is `Send`.
    check.history().boxed().await?;
    check.walk().await?;
    check.check_existence().await?;
    check.check_lifetimes().await?;
    let Checker {
        mut report, faults, ..
    } = check;
    if !faults.is_empty() {
        (report.affected, report.affected_count) = affected::affected(repository, &faults).await;
        report.faults = faults.into_report();
    }
    report.requests = (repository.store().health().requests).saturating_sub(before);
    Ok(report)
}
