//! `failures`: shows failed network requests and remedies.

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp, Unit};

use super::context::Context;
use walrus_client::clock::unix_seconds;
use walrus_client::net::{
    Consequence, FailureFilter, FailureGroup, FailureHandling, FailureReport, Journal,
};

/// Show failed network requests and what to do about them
///
/// The latest few thousand failed requests of all processes are kept across sessions.
/// Failures are grouped by endpoint and kind, worst first; the bars show their number
/// over time.
#[derive(Debug, Args)]
pub(super) struct Failures {
    /// Only since this time: 30m, 1h, 2d ago, or a time such as 2026-11-25 or
    /// 2026-11-25T10:30 [default: all that is kept]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    since: Option<u64>,
    /// Only endpoints whose URL contains this text
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

impl Failures {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let path = context.settings()?.failures();
        let failures = Journal::read(&path).with_context(|| path.display().to_string())?;
        let wanted = FailureFilter {
            since: self.since.unwrap_or(0),
            endpoint: self.endpoint,
        };
        let report = FailureReport::of(&failures, &wanted, unix_seconds());
        context.report(&report, || print(&report))
    }
}

/// Parses a time, or an age before now, to Unix seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let none = || "give 30m, 1h, 2d, or a time such as 2026-11-25 or 2026-11-25T10:30".to_owned();
    let second = match text.parse::<Span>() {
        Ok(span) => {
            let days = SpanRelativeTo::days_are_24_hours();
            let ago = span.total((Unit::Second, days)).map_err(|_| none())?;
            unix_seconds() as i64 - ago.abs() as i64
        }
        Err(_) => match (text.parse::<Timestamp>(), text.parse::<DateTime>()) {
            (Ok(moment), _) => moment.as_second(),
            (_, Ok(local)) => {
                let zoned = local.to_zoned(TimeZone::system()).map_err(|_| none())?;
                zoned.timestamp().as_second()
            }
            _ => return Err(none()),
        },
    };
    Ok(second.max(0) as u64)
}

fn print(report: &FailureReport) -> Result<()> {
    let time = length(report.until.saturating_sub(report.since));
    if report.total == 0 {
        return outln!("nothing failed");
    }
    outln!(
        "{} within the last {time}; a bar is {}",
        count(report.total, "failure"),
        length(report.step_s)
    )?;
    for group in &report.groups {
        outln!("")?;
        print_group(group, report.until)?;
    }
    Ok(())
}

fn print_group(group: &FailureGroup, now: u64) -> Result<()> {
    outln!(
        "{}  {}  {}, {:.0} an hour, the last {} ago",
        group.endpoint,
        group.kind,
        count(group.count, "time"),
        group.per_hour,
        length(now.saturating_sub(group.last))
    )?;
    outln!("  {}", bars(&group.over_time))?;
    let operations = group.operations.iter();
    let operations = operations.map(|(name, n)| format!("{name} {n}"));
    let done = group.handlings.iter().map(|(done, n)| {
        let words = match done {
            FailureHandling::Retried => "retried",
            FailureHandling::FailedOver => "failed over to another",
            FailureHandling::Hedged => "another was faster",
            FailureHandling::Certified => "stored nevertheless",
            FailureHandling::Tolerated => "read nevertheless",
            FailureHandling::GaveUp => "given up",
        };
        format!("{words} {n}")
    });
    let consequences = group.consequences.iter().map(|(consequence, n)| {
        let words = match consequence {
            Consequence::BreakerOpened => "circuit breaker opened",
            Consequence::Quarantined => "quarantined",
        };
        format!("{words} {n}")
    });
    let details: Vec<_> = operations.chain(done).chain(consequences).collect();
    outln!("  {}", details.join(", "))?;
    outln!("  last: {}", group.message)?;
    outln!("  what to do: {}", group.advice)
}

/// `▁` for zero, up to `█` for the maximum.
fn bars(counts: &[u64]) -> String {
    let max_count = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: &u64| match count {
        0 => '▁',
        count => ['▂', '▃', '▄', '▅', '▆', '▇', '█']
            [((count * 7).div_ceil(max_count) - 1).min(6) as usize],
    };
    counts.iter().map(bar).collect()
}

fn count(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Formats a duration with one figure.
fn length(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_age_or_date() {
        let now = unix_seconds();
        for (text, ago) in [("30m", 1800), ("1h", 3600), ("2d", 172_800), ("90s", 90)] {
            let found = now - seconds(text).unwrap();
            assert!((ago..ago + 5).contains(&found), "{text}: {found}");
        }
        assert_eq!(seconds("1970-01-02T00:00Z").unwrap(), 86_400);
        assert!(seconds("2026-11-25").unwrap() > 1_700_000_000);
        assert!(seconds("2026-11-25T10:30").unwrap() > seconds("2026-11-25").unwrap());
        assert!(seconds("soon").unwrap_err().contains("2d"));
    }

    #[test]
    fn bars_show_zero_some_and_maximum() {
        assert_eq!(bars(&[0, 1, 50, 100]), "▁▂▅█");
        assert_eq!(bars(&[0, 0]), "▁▁");
        assert_eq!(bars(&[3]), "█");
    }
}
