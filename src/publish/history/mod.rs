//! Archiving of a git repository's history beside the trees.
//!
//! 1. [`commits`]: selects the commits, and chunks their raw objects.
//! 2. [`walk`]: collects their trees and contents, except those archived earlier
//!    ([`older`]), sorted so that versions of a path are neighbors.
//! 3. [`contents`]: stores contents in solid groups, as patches against the files of the
//!    published trees at the same paths; content of these trees is only referred to.
//! 4. [`trees`]: stores trees with numbers instead of IDs.
//!
//! A publish adds one segment. Like the chunks of commits, segments that are no larger
//! than the new content are rewritten together with it, so that there are never more than
//! a few.

mod commits;
mod contents;
mod older;
mod trees;
mod walk;

use std::collections::HashSet;

use bytes::Bytes;
use gix::ObjectId;
use serde::Serialize;

pub use commits::HistoryDepth;
pub(super) use commits::{CommitFound, KnownCommits, cut, in_chunks, select, shallow};

use super::compress::Compression;
use super::known::Known;
use super::packs::Packs;
use super::placed::{Placed, chunk_len};
use super::plan::Plan;
use super::{Progress, PublishError};
use crate::repo::archive::Archive;
use walgit_format::archive::{ArchivedRef, CommitMark, Segment};
use walgit_format::chunk::{Bases, ChunkHash, Sealed};
use walgit_format::head::GitId;

/// The history to archive.
#[derive(Debug)]
pub(super) struct History {
    /// Parents before children.
    pub(super) commits: Vec<CommitFound>,
    /// Sorted by name.
    pub(super) refs: Vec<ArchivedRef>,
    /// Tag objects that the refs lead to, each after its target.
    pub(super) tags: Vec<ObjectId>,
    /// Trees and contents that tags lead to.
    pub(super) roots: Vec<Root>,
    /// The full name of the checked-out branch; empty if none.
    pub(super) head: Bytes,
    pub(super) shallow: Vec<GitId>,
}

/// A tree or content that is the target of a tag.
#[derive(Debug)]
pub(super) struct Root {
    /// The object of the tag: an annotated tag, or `id` itself.
    pub(super) reference: ObjectId,
    pub(super) id: ObjectId,
    pub(super) is_tree: bool,
    /// The full name of the tag.
    pub(super) name: Bytes,
}

/// Report on archiving a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistoryReport {
    /// Commits of the history.
    pub commits: u64,
    /// Commits archived by this publish.
    pub new_commits: u64,
    /// Trees, contents and tags archived by this publish.
    pub new_objects: u64,
    /// Their stored bytes, excluding commits and lists.
    pub new_bytes: u64,
}

/// An archive whose objects are in packs.
pub(super) struct Archived {
    /// Number of earlier segments that stay.
    pub(super) kept: usize,
    /// The new segments.
    pub(super) segments: Vec<Segment<Placed>>,
    pub(super) report: HistoryReport,
}

impl History {
    /// Whether `archive` already contains exactly this history.
    pub(super) fn is_archived(&self, archive: &Archive) -> bool {
        let known = |commit: &CommitFound| archive.root_of(commit.id.as_slice()).is_some();
        archive.refs() == self.refs
            && archive.head() == &self.head[..]
            && archive.shallow() == self.shallow
            && archive.marks().count() == self.commits.len()
            && self.commits.iter().all(known)
    }

    /// Number of leading segments that stay: those whose commits are all still wanted,
    /// and that are larger than everything after them.
    fn kept(&self, archive: Option<&Archive>) -> usize {
        let Some(archive) = archive else { return 0 };
        let names = |id: &ObjectId| CommitMark::name(id.as_slice());
        let wanted: HashSet<[u8; 8]> = self.commits.iter().map(|it| names(&it.id)).collect();
        let segments = archive.segments();
        let mut kept = (segments.iter())
            .take_while(|it| it.commits.iter().all(|mark| wanted.contains(&mark.name)))
            .count();
        let archived = segments[..kept].iter().map(|it| it.commits.len());
        let mut new = self.commits.len().saturating_sub(archived.sum());
        while kept > 0 && segments[kept - 1].commits.len() <= new {
            kept -= 1;
            new += segments[kept].commits.len();
        }
        kept
    }

    /// Places everything that is not archived yet, as a new segment.
    pub(super) fn archive(
        &self,
        plan: &Plan,
        known: &Known,
        how: &Compression,
        packs: &mut Packs,
        progress: &dyn Progress,
    ) -> Result<Archived, PublishError> {
        let no = PublishError::Internal("a history without a git repository");
        let shared = plan.git.as_ref().ok_or(no)?;
        let repo = shared.to_thread_local();
        let old = known.archive();
        let kept = self.kept(old);
        let before = old.map_or(&[][..], |archive| &archive.segments()[..kept]);
        let marks = before.iter().flat_map(|segment| &segment.commits);
        let done: HashSet<[u8; 8]> = marks.map(|mark| mark.name).collect();
        let is_new =
            |commit: &&CommitFound| !done.contains(&CommitMark::name(commit.id.as_slice()));
        let new: Vec<&CommitFound> = self.commits.iter().filter(is_new).collect();
        let first = before.last().map_or(0, |last| last.before + last.count());
        let mut numbers = match old.filter(|_| kept > 0) {
            Some(archive) => older::numbers(&repo, archive, &new, first)?,
            None => Default::default(),
        };
        // Targets of earlier tags stay archived only if the entire archive stays.
        let stays = old.filter(|archive| archive.segments().len() == kept);
        let tagged = stays.iter().flat_map(|archive| archive.refs());
        let tagged: HashSet<&[u8]> = tagged.map(|it| &it.id.0[..]).collect();
        let is_new = |root: &&Root| !tagged.contains(root.reference.as_slice());
        let roots: Vec<&Root> = self.roots.iter().filter(is_new).collect();
        let found = walk::walk(&repo, &new, &roots, &numbers, |objects| {
            progress.history(0, objects)
        })?;
        let mut segment = Segment {
            chunks: Vec::new(),
            before: first,
            trees: Vec::new(),
            contents: Vec::new(),
            files: Vec::new(),
            tags: Vec::new(),
            commits: Vec::new(),
            refs: self.refs.clone(),
            head: self.head.clone(),
            shallow: self.shallow.clone(),
        };
        let mut number = first;
        for tree in &found.trees {
            numbers.insert(tree.id, number);
            number += 1;
        }
        let archived_tags = match old {
            Some(archive) => older::tags(&repo, archive, before)?,
            None => HashSet::new(),
        };
        let is_new = |tag: &&ObjectId| !archived_tags.contains(*tag);
        let tags: Vec<ObjectId> = self.tags.iter().filter(is_new).copied().collect();
        let objects = (found.trees.len() + found.contents.len() + tags.len()) as u64;
        let mut desk = Desk {
            plan,
            known,
            how,
            packs,
            progress,
            segment: &mut segment,
            done: 0,
            objects,
            bytes: 0,
        };
        contents::place(&mut desk, &repo, &found, &mut numbers, number)?;
        trees::place(&mut desk, &repo, &found, &numbers)?;
        trees::place_tags(&mut desk, &repo, &tags)?;
        let bytes = desk.bytes;
        for commit in &new {
            let tree = numbers.get(&commit.tree).copied();
            segment.commits.push(CommitMark {
                name: CommitMark::name(commit.id.as_slice()),
                tree: tree.ok_or(PublishError::Internal(
                    "the tree of a commit was not archived",
                ))?,
            });
        }
        Ok(Archived {
            kept,
            segments: vec![segment],
            report: HistoryReport {
                commits: self.commits.len() as u64,
                new_commits: new.len() as u64,
                new_objects: objects,
                new_bytes: bytes,
            },
        })
    }
}

/// Stored bytes of a chunk, and the bases for decoding.
type Encoded = (Sealed, Bases<Placed>);

/// A segment under construction, with its context.
struct Desk<'a> {
    plan: &'a Plan,
    known: &'a Known,
    how: &'a Compression,
    packs: &'a mut Packs,
    progress: &'a dyn Progress,
    segment: &'a mut Segment<Placed>,
    /// Number of objects placed, and their total.
    done: u64,
    objects: u64,
    /// Their stored bytes.
    bytes: u64,
}

impl Desk<'_> {
    /// Places a chunk unless it is stored already; returns its index in the segment.
    fn chunk(
        &mut self,
        hash: ChunkHash,
        raw_len: usize,
        (sealed, bases): Encoded,
    ) -> Result<usize, PublishError> {
        let placed = match self.packs.find(&hash, self.known) {
            Some(placed) => placed,
            None => {
                self.bytes += sealed.bytes.len() as u64;
                (self.packs).add(hash, chunk_len(raw_len)?, &sealed, bases)?
            }
        };
        self.segment.chunks.push(placed);
        Ok(self.segment.chunks.len() - 1)
    }

    /// Reports that `more` objects are placed.
    fn told(&mut self, more: u64) {
        self.done += more;
        self.progress.history(self.done, self.objects);
    }
}
