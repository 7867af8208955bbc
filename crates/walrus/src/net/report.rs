//! Failures grouped by endpoint and kind, with counts, rate, times and advice.
//!
//! Pure: callers pass the time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::failures::{Consequence, Failure, FailureHandling, FailureKind, Severity};

/// Number of steps that divide the period.
pub const REPORT_STEPS: usize = 24;

/// Filter of failures.
#[derive(Clone, Debug, Default)]
pub struct FailureFilter {
    /// Earliest time, in seconds since 1970.
    pub since: u64,
    /// Text that the URL of the endpoint must contain.
    pub endpoint: Option<String>,
}

impl FailureFilter {
    fn matches(&self, failure: &Failure) -> bool {
        let endpoint = self.endpoint.as_ref();
        failure.time >= self.since && endpoint.is_none_or(|part| failure.endpoint.contains(part))
    }
}

/// Failures of a period, grouped by endpoint and kind; the most frequent first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailureReport {
    /// First second of the period.
    pub since: u64,
    /// Last second of the period.
    pub until: u64,
    /// Length of one step of [`FailureGroup::over_time`], in seconds.
    pub step_s: u64,
    /// Number of failures.
    pub total: u64,
    /// Groups by endpoint and kind.
    pub groups: Vec<FailureGroup>,
}

/// Failures of one kind at one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailureGroup {
    /// URL of the endpoint.
    pub endpoint: String,
    /// Kind of failure.
    pub kind: FailureKind,
    /// Highest severity.
    pub severity: Severity,
    /// Number of failures.
    pub count: u64,
    /// Failures per hour, from the first to the end of the period.
    pub per_hour: f64,
    /// Time of the first, in seconds since 1970.
    pub first: u64,
    /// Time of the last, in seconds since 1970.
    pub last: u64,
    /// Failures in each step of the period.
    pub over_time: Vec<u64>,
    /// Failures by operation.
    pub operations: BTreeMap<String, u64>,
    /// Failures by handling.
    #[serde(rename = "done")]
    pub handlings: BTreeMap<FailureHandling, u64>,
    /// Failures by consequence for the endpoint.
    pub consequences: BTreeMap<Consequence, u64>,
    /// Message of the last one.
    pub message: String,
    /// Advice for the user.
    pub advice: &'static str,
}

impl FailureReport {
    /// Groups the failures that match `filter`; `now` in seconds since 1970.
    pub fn of(failures: &[Failure], filter: &FailureFilter, now: u64) -> Self {
        let chosen: Vec<&Failure> = (failures.iter())
            .filter(|failure| filter.matches(failure))
            .collect();
        // Without a start, the period starts with its first failure.
        let since = match filter.since {
            0 => chosen.first().map_or(now, |first| first.time),
            since => since,
        };
        let step_s = (now.saturating_sub(since) + 1).div_ceil(REPORT_STEPS as u64);
        let mut groups: BTreeMap<(&str, FailureKind), FailureGroup> = BTreeMap::new();
        for failure in &chosen {
            let key = (failure.endpoint.as_str(), failure.kind);
            let group = groups.entry(key).or_insert_with(|| empty(failure));
            group.count += 1;
            group.severity = group.severity.max(failure.severity);
            group.last = failure.time;
            group.message.clone_from(&failure.message);
            *(group.operations)
                .entry(failure.operation.to_string())
                .or_default() += 1;
            *group.handlings.entry(failure.handling).or_default() += 1;
            if let Some(consequence) = failure.consequence {
                *group.consequences.entry(consequence).or_default() += 1;
            }
            let step = (failure.time.saturating_sub(since) / step_s) as usize;
            group.over_time[step.min(REPORT_STEPS - 1)] += 1;
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        for group in &mut groups {
            // A rate requires at least a minute.
            let seconds = now.saturating_sub(group.first).max(60);
            group.per_hour = group.count as f64 * 3600.0 / seconds as f64;
        }
        groups.sort_by_key(|group| std::cmp::Reverse((group.severity, group.count)));
        FailureReport {
            since,
            until: now,
            step_s,
            total: chosen.len() as u64,
            groups,
        }
    }
}

fn empty(failure: &Failure) -> FailureGroup {
    FailureGroup {
        endpoint: failure.endpoint.clone(),
        kind: failure.kind,
        severity: failure.severity,
        count: 0,
        per_hour: 0.0,
        first: failure.time,
        last: failure.time,
        over_time: vec![0; REPORT_STEPS],
        operations: BTreeMap::new(),
        handlings: BTreeMap::new(),
        consequences: BTreeMap::new(),
        message: String::new(),
        advice: failure.kind.advice(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64, endpoint: &str, kind: FailureKind, handling: FailureHandling) -> Failure {
        Failure {
            time,
            ..Failure::now(endpoint, "read", kind, 1, handling, &format!("at {time}"))
        }
    }

    #[test]
    fn failures_are_grouped_and_the_worst_come_first() {
        let all = [
            at(
                1000,
                "http://a/",
                FailureKind::Timeout,
                FailureHandling::Retried,
            ),
            at(
                2000,
                "http://a/",
                FailureKind::Timeout,
                FailureHandling::FailedOver,
            ),
            at(
                2001,
                "http://b/",
                FailureKind::Corrupt,
                FailureHandling::FailedOver,
            ),
            at(
                4599,
                "http://a/",
                FailureKind::Timeout,
                FailureHandling::Retried,
            ),
        ];
        let report = FailureReport::of(&all, &FailureFilter::default(), 4600);
        assert_eq!((report.since, report.total), (1000, 4));
        let [lies, late] = &report.groups[..] else {
            panic!("{report:?}");
        };
        assert_eq!(
            (lies.kind, lies.severity),
            (FailureKind::Corrupt, Severity::Error)
        );
        assert_eq!((late.count, late.per_hour), (3, 3.0));
        assert_eq!(late.handlings[&FailureHandling::Retried], 2);
        assert_eq!(late.message, "at 4599");
        assert_eq!(late.over_time.iter().sum::<u64>(), 3);
        assert_eq!(
            (late.over_time[0], late.over_time[REPORT_STEPS - 1]),
            (1, 1)
        );
        let filter = FailureFilter {
            since: 2000,
            endpoint: Some("a/".into()),
        };
        let part = FailureReport::of(&all, &filter, 4600);
        assert_eq!((part.total, part.groups.len()), (2, 1));
        let none = FailureReport::of(&[], &FailureFilter::default(), 4600);
        assert_eq!((none.total, none.groups.len()), (0, 0));
    }
}
