//! `log`: the history of a repository, newest first.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::args::Keys;
use super::context::Context;
use super::session::Session;
use crate::repo::Snapshot;
use walgit_format::git::RawCommit;
use walgit_format::head::Signature;
use walgit_format::text;
use walgit_format::{Address, CommitId};

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

/// A commit, as listed.
#[derive(Serialize)]
struct LogLine {
    commit: String,
    date: String,
    author: String,
    subject: String,
}

impl Log {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let session = Session::new(&settings, &self.keys)?;
        let lines = context.run(async {
            let repository = session.open(&self.address).await?;
            let snapshot = repository.snapshot_of(self.reference.as_deref()).await?;
            history(snapshot, self.count).await
        })?;
        context.report(&lines, || {
            lines.iter().try_for_each(|line| {
                let short = &line.commit[..line.commit.len().min(12)];
                let (subject, author) = (text::field(&line.subject), text::field(&line.author));
                outln!("{short:12}  {}  {subject}  ({author})", line.date)
            })
        })
    }
}

impl LogLine {
    fn new(id: &impl ToString, committer: &Signature, author: &Signature, message: &[u8]) -> Self {
        let subject = message.split(|&b| b == b'\n').next().unwrap_or_default();
        LogLine {
            commit: id.to_string(),
            // The day, in the committer's time zone.
            date: committer.date().chars().take(10).collect(),
            author: String::from_utf8_lossy(&author.person).into_owned(),
            subject: String::from_utf8_lossy(subject).into_owned(),
        }
    }
}

async fn history(from: Snapshot, count: usize) -> Result<Vec<LogLine>> {
    let CommitId::Git(id) = &from.commit().id else {
        return linked_history(from, count).await;
    };
    let commits = from.repository().git_commits().await?;
    let ancestry = RawCommit::ancestry(&commits, id).take(count);
    let line = |it: &RawCommit| LogLine::new(&it.id, &it.committer(), &it.author(), it.message());
    Ok(ancestry.map(line).collect())
}

/// History in which each commit refers to its predecessor, in the same head or not.
async fn linked_history(from: Snapshot, count: usize) -> Result<Vec<LogLine>> {
    let mut lines = Vec::new();
    let mut at = from;
    while lines.len() < count {
        let commit = at.commit();
        lines.push(LogLine::new(
            &commit.id,
            &commit.committer,
            &commit.author,
            &commit.message,
        ));
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
            (None, Some(parent)) => repository.open_sibling(parent).await?.snapshot(0)?,
            (None, None) => break,
        };
    }
    Ok(lines)
}
