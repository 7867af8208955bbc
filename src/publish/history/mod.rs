//! Archiving of a git repository's history beside the trees.
//!
//! 1. [`commits`]: selects the commits, and chunks their raw objects.
//! 2. [`walk`]: collects their trees and contents, except those archived earlier
//!    ([`archived_objects`]), sorted so that versions of a path are neighbours.
//! 3. [`contents`]: stores contents in solid groups, as patches against the files of the
//!    published trees at the same paths; content of these trees is only referred to.
//! 4. [`trees`]: stores trees with numbers instead of IDs.
//!
//! A publish adds one segment. Like the chunks of commits, segments that are no larger
//! than the new content are rewritten together with it, so that there are never more than
//! a few.

mod archived_objects;
pub(super) mod commits;
mod contents;
mod segment;
mod trees;
mod walk;

use std::collections::HashSet;

use gix::ObjectId;

use super::compress::Compression;
use super::error::PublishError;
use super::options::Progress;
use super::packs::Packs;
use super::plan::Plan;
use super::previous_publish::PreviousPublish;
use crate::repo::archive::Archive;
use commits::{Archived, History, HistoryCommit, HistoryReport, TaggedObject};
use segment::SegmentBuilder;
use walgit_format::archive::{CommitMark, Segment};

/// Number of leading segments that stay: those whose commits are all still wanted, and that
/// are larger than everything after them.
fn reused_segments(history: &History, archive: Option<&Archive>) -> usize {
    let Some(archive) = archive else { return 0 };
    let commits = history.commits.iter();
    let wanted: HashSet<[u8; 8]> = commits
        .map(|commit| CommitMark::name(commit.id.as_slice()))
        .collect();
    let segments = archive.segments();
    let mut reused = (segments.iter())
        .take_while(|it| it.commits.iter().all(|mark| wanted.contains(&mark.name)))
        .count();
    let archived = segments[..reused].iter().map(|it| it.commits.len());
    let mut new = history.commits.len().saturating_sub(archived.sum());
    while reused > 0 && segments[reused - 1].commits.len() <= new {
        reused -= 1;
        new += segments[reused].commits.len();
    }
    reused
}

/// Stores the part of a history that is not archived yet, as a new segment.
pub(super) fn archive(
    history: &History,
    plan: &Plan,
    previous: &PreviousPublish,
    compression: &Compression,
    packs: &mut Packs,
    progress: &dyn Progress,
) -> Result<Archived, PublishError> {
    let no_git = PublishError::Internal("a history without a git repository");
    let repo = plan.git.as_ref().ok_or(no_git)?.to_thread_local();
    let old = previous.archive.as_ref();
    let reused = reused_segments(history, old);
    let before = old.map_or(&[][..], |archive| &archive.segments()[..reused]);
    let marks = before.iter().flat_map(|segment| &segment.commits);
    let done: HashSet<[u8; 8]> = marks.map(|mark| mark.name).collect();
    let is_new = |commit: &&HistoryCommit| !done.contains(&CommitMark::name(commit.id.as_slice()));
    let new: Vec<&HistoryCommit> = history.commits.iter().filter(is_new).collect();
    let first = before.last().map_or(0, |last| last.before + last.count());
    let mut numbers = match old.filter(|_| reused > 0) {
        Some(archive) => archived_objects::numbers(&repo, archive, &new, first)?,
        None => Default::default(),
    };
    // Targets of earlier tags stay archived only if the entire archive stays.
    let complete = old.filter(|archive| archive.segments().len() == reused);
    let tagged = complete.iter().flat_map(|archive| archive.refs());
    let tagged: HashSet<&[u8]> = tagged.map(|it| &it.id.0[..]).collect();
    let is_new = |root: &&TaggedObject| !tagged.contains(root.reference.as_slice());
    let roots: Vec<&TaggedObject> = history.roots.iter().filter(is_new).collect();
    let found = walk::walk(&repo, &new, &roots, &numbers, |objects| {
        progress.history(0, objects)
    })?;
    numbers.extend(found.trees.iter().map(|tree| tree.id).zip(first..));
    let archived_tags = match old {
        Some(archive) => archived_objects::tags(&repo, archive, before)?,
        None => HashSet::new(),
    };
    let is_new = |tag: &&ObjectId| !archived_tags.contains(*tag);
    let tags: Vec<ObjectId> = history.tags.iter().filter(is_new).copied().collect();
    let mut builder = SegmentBuilder {
        repo,
        plan,
        history,
        previous,
        compression,
        packs,
        progress,
        segment: Segment {
            chunks: Vec::new(),
            before: first,
            trees: Vec::new(),
            contents: Vec::new(),
            files: Vec::new(),
            tags: Vec::new(),
            commits: Vec::new(),
            refs: history.refs.clone(),
            head: history.head.clone(),
            shallow: history.shallow.clone(),
        },
        done: 0,
        objects: (found.trees.len() + found.contents.len() + tags.len()) as u64,
        bytes: 0,
    };
    let first_content = first + found.trees.len() as u64;
    contents::store_contents(&mut builder, &found, &mut numbers, first_content)?;
    trees::store_trees(&mut builder, &found, &numbers)?;
    trees::store_tags(&mut builder, &tags)?;
    for commit in &new {
        builder.push_commit(commit.id, numbers.get(&commit.tree).copied())?;
    }
    Ok(Archived {
        reused,
        report: HistoryReport {
            commits: history.commits.len() as u64,
            new_commits: new.len() as u64,
            new_objects: builder.objects,
            new_bytes: builder.bytes,
        },
        segments: vec![builder.segment],
    })
}
