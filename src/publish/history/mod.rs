//! The history of a git repository becomes an archive beside the trees.
//!
//! 1. [`commits`]: which commits, and the chunks of their raw objects.
//! 2. [`walk`]: their trees and contents, but for what is archived already
//!    ([`older`]), sorted so that versions of a path are neighbours.
//! 3. [`contents`]: contents in solid groups, as patches against what the
//!    published trees hold of the same paths; what these hold itself is only
//!    referred to.
//! 4. [`trees`]: trees with numbers for IDs.
//!
//! A publish adds one segment. Like the chunks of commits, segments that are no
//! larger than what is new are written anew together with it, so that there are
//! never more than a few.

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

/// The history that is to be archived.
#[derive(Debug)]
pub(super) struct History {
    /// Parents before children.
    pub(super) commits: Vec<CommitFound>,
    /// Sorted by name.
    pub(super) refs: Vec<ArchivedRef>,
    /// Tag objects that the refs lead to, each after what it leads to.
    pub(super) tags: Vec<ObjectId>,
    /// Trees and contents that tags lead to.
    pub(super) roots: Vec<Root>,
    /// The full name of the branch that is checked out; empty for none.
    pub(super) head: Bytes,
    pub(super) shallow: Vec<GitId>,
}

/// A tree or a content that a tag leads to.
#[derive(Debug)]
pub(super) struct Root {
    /// The object that the tag is: an annotated tag, or `id` itself.
    pub(super) reference: ObjectId,
    pub(super) id: ObjectId,
    pub(super) is_tree: bool,
    /// The full name of the tag.
    pub(super) name: Bytes,
}

/// What was archived of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HistoryReport {
    /// Commits of the history.
    pub commits: u64,
    /// Commits that were archived now.
    pub new_commits: u64,
    /// Trees, contents and tags that were archived now.
    pub new_objects: u64,
    /// Stored bytes of them, commits and lists left out.
    pub new_bytes: u64,
}

/// An archive whose objects are in packs.
pub(super) struct Archived {
    /// Segments stored before that stay.
    pub(super) kept: usize,
    /// Those to be added.
    pub(super) segments: Vec<Segment<Placed>>,
    pub(super) report: HistoryReport,
}

impl History {
    /// Whether `archive` is just what this would make.
    pub(super) fn is_archived(&self, archive: &Archive) -> bool {
        let known = |commit: &CommitFound| archive.root_of(commit.id.as_slice()).is_some();
        archive.refs() == self.refs
            && archive.head() == &self.head[..]
            && archive.shallow() == self.shallow
            && archive.marks().count() == self.commits.len()
            && self.commits.iter().all(known)
    }

    /// Segments of an archive that stay: those of which everything is wanted
    /// still, and that are larger than what comes after them.
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

    /// Places all that is not archived yet, and makes a segment of it.
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
        // What tags of before lead to is archived where all of the archive stays.
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

/// Stored bytes of a chunk, and what they are decoded with.
type Encoded = (Sealed, Bases<Placed>);

/// A segment that is being filled, and what is needed for it.
struct Desk<'a> {
    plan: &'a Plan,
    known: &'a Known,
    how: &'a Compression,
    packs: &'a mut Packs,
    progress: &'a dyn Progress,
    segment: &'a mut Segment<Placed>,
    /// Objects placed, of how many.
    done: u64,
    objects: u64,
    /// Stored bytes of them.
    bytes: u64,
}

impl Desk<'_> {
    /// Places a chunk, unless it is there; its number in the segment.
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

    /// So many more objects are placed.
    fn told(&mut self, more: u64) {
        self.done += more;
        self.progress.history(self.done, self.objects);
    }
}
