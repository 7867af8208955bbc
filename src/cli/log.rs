//! `log`: the history of a repository, newest first.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::{Failure, output};
use crate::repo::git::RawCommit;
use crate::repo::{Address, Commit, Repository};

/// Show the commits of a repository, newest first
///
/// The commits come from the raw git objects kept beside the trees; of a plain
/// folder there is one, made when it was published.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// NAME or walrus://BLOB_ID[?root=HASH]
    address: Address,
    /// Start at this branch, tag or commit [default: the default branch]
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Show at most this many
    #[arg(short = 'n', long, default_value_t = 50)]
    count: usize,
}

/// One line of history.
struct Line {
    id: String,
    date: String,
    author: String,
    subject: String,
}

impl Log {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let cache = context::cache(&settings)?;
        let loader = context::loader(&cache);
        let lines = context.run(async {
            let repository = context::open(&settings, &loader, &self.address).await?;
            let snapshot = repository.snapshot_of(self.reference.as_deref())?;
            history(&repository, snapshot.commit(), self.count).await
        })?;
        if context.json {
            let rows: Vec<_> = (lines.iter())
                .map(|l| json!({"commit": l.id, "date": l.date, "author": l.author, "subject": l.subject}))
                .collect();
            output::json(&rows)?;
        } else {
            for l in lines {
                let short = &l.id[..l.id.len().min(12)];
                output::line(&format!("{short:12}  {}  {}  ({})", l.date, l.subject, l.author))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn history(
    repository: &Repository,
    from: &Commit,
    count: usize,
) -> Result<Vec<Line>, Failure> {
    if from.id.0.is_empty() {
        return Ok(vec![Line {
            id: String::new(),
            date: date(from.committer.seconds),
            author: String::from_utf8_lossy(&from.author.person).into_owned(),
            subject: subject(&from.message),
        }]);
    }
    let commits = repository.git_commits().await?;
    let ancestry = RawCommit::ancestry(&commits, &from.id);
    Ok(ancestry
        .take(count)
        .map(|commit| Line {
            id: commit.id.to_string(),
            date: date(commit.committed()),
            author: String::from_utf8_lossy(commit.author()).into_owned(),
            subject: subject(commit.message()),
        })
        .collect())
}

fn subject(message: &[u8]) -> String {
    let first = message.split(|&b| b == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(first);
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A day in UTC, as ISO 8601 writes it.
fn date(seconds: i64) -> String {
    // Civil date from a day number: Howard Hinnant, "chrono-compatible
    // low-level date algorithms".
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let doe = days.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(-1), "1969-12-31");
    }
}
