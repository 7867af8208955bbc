//! `log`: the history of a repository, newest first.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, output};
use crate::repo::Snapshot;
use walgit_format::git::RawCommit;
use walgit_format::head::Signature;
use walgit_format::text;
use walgit_format::{Address, Commit, CommitId};

/// Show the commits of a repository, newest first
///
/// Commits come from the raw git objects stored beside the trees. A plain folder has one
/// commit, created when it was published.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// NAME, walrus://BLOB_ID or sui://OBJECT_ID[/BRANCH]
    address: Address,
    /// Start at this branch, tag or commit [default: the default branch]
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Show at most this many
    #[arg(short = 'n', long, default_value_t = 50)]
    count: usize,
    #[command(flatten)]
    keys: Keys,
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
            let repository = context::open(&settings, &loader, &self.address, &self.keys).await?;
            let snapshot = repository.snapshot_of(self.reference.as_deref()).await?;
            history(snapshot, self.count).await
        })?;
        if context.json {
            let rows: Vec<_> = (lines.iter())
                .map(|l| json!({"commit": l.id, "date": l.date, "author": l.author, "subject": l.subject}))
                .collect();
            output::json(&rows)?;
        } else {
            for l in lines {
                let short = &l.id[..l.id.len().min(12)];
                output::line(&format!(
                    "{short:12}  {}  {}  ({})",
                    l.date,
                    text::field(&l.subject),
                    text::field(&l.author)
                ))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Line {
    fn of(commit: &Commit) -> Self {
        Line {
            id: commit.id.to_string(),
            date: day(&commit.committer),
            author: String::from_utf8_lossy(&commit.author.person).into_owned(),
            subject: subject(&commit.message),
        }
    }
}

async fn history(from: Snapshot, count: usize) -> Result<Vec<Line>, Failure> {
    let CommitId::Git(id) = &from.commit().id else {
        return one_by_one(from, count).await;
    };
    let commits = from.repository().git_commits().await?;
    let ancestry = RawCommit::ancestry(&commits, id);
    Ok(ancestry
        .take(count)
        .map(|commit| Line {
            id: commit.id.to_string(),
            date: day(&commit.committer()),
            author: String::from_utf8_lossy(&commit.author().person).into_owned(),
            subject: subject(commit.message()),
        })
        .collect())
}

/// History in which each commit refers to its predecessor, in the same head or not.
async fn one_by_one(from: Snapshot, count: usize) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let mut at = from;
    while lines.len() < count {
        lines.push(Line::of(at.commit()));
        let Some(parent) = at.commit().parents.first() else {
            break;
        };
        let repository = at.repository();
        let inside = repository
            .head()
            .commits
            .iter()
            .position(|c| c.id == *parent);
        at = match (inside, repository.parents().first()) {
            (Some(inside), _) => repository.snapshot(inside)?,
            (None, Some(parent)) => repository.open_relative(parent).await?.snapshot(0)?,
            (None, None) => break,
        };
    }
    Ok(lines)
}

fn subject(message: &[u8]) -> String {
    let first = message.split(|&b| b == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(first).into_owned()
}

/// The day, in the committer's time zone.
fn day(signature: &Signature) -> String {
    signature.date().chars().take(10).collect()
}
