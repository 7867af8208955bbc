//! Applies retention rules to unneeded blobs.
//!
//! Rules apply to files, but deletion applies to blobs: a blob stays as long as any file
//! in it. A file is useless without its parent directories, so these stay as long as any
//! file of their head.

use std::collections::{HashMap, HashSet};

use super::super::context::MaintenanceContext;
use super::super::journal::CollectionJournal;
use super::mark::Marks;
use crate::config::Level;
use crate::lifecycle::LedgerEntry;
use crate::lifecycle::policy::Facts;
use crate::lifecycle::walk::{ChunkRole, Dependency, ItemPath, Walk, WalkItem};
use crate::publish::analyze::Class;
use crate::repo::{RepoError, Repository, Tier};
use walgit_format::RefKind;
use walgit_format::chunk::{BlobId, ChunkHash};

/// Time until which blobs are kept, in seconds since 1970; `None` if forever.
pub(super) type Retained = HashMap<BlobId, Option<u64>>;

/// A published head that no name refers to any longer.
struct OldHead<'a> {
    entry: &'a LedgerEntry,
    /// When its successor was published.
    since: u64,
    /// Whether its name still exists.
    named: bool,
}

/// Applies the rules to the files of old heads in `candidates`.
pub(super) async fn retain(
    context: &MaintenanceContext,
    now: u64,
    marks: &mut Marks,
    candidates: &HashSet<BlobId>,
    journal: &mut CollectionJournal,
) -> Retained {
    let mut retained = Retained::new();
    if candidates.is_empty() {
        return retained;
    }
    let mut levels: HashMap<&str, Level> = HashMap::new();
    // Branches and tags that a newer head of the same name has.
    let mut newer: HashMap<&str, HashSet<String>> = HashMap::new();
    for old in old_heads(context, now, marks, journal) {
        let name = old.entry.name.as_str();
        if old.named && !newer.contains_key(name) {
            let current = match marks.names.get(name) {
                Some((blob, root)) => open(context, *blob, *root).await.ok(),
                None => None,
            };
            match level_of(context, name, current.as_ref(), now).await {
                Ok(level) => levels.insert(name, level),
                Err(why) => {
                    marks.add_unreadable(context, name, why);
                    continue;
                }
            };
            let refs = current.iter().flat_map(refs).collect();
            newer.insert(name, refs);
        }
        let Some((blob, root)) = old.entry.head() else {
            continue;
        };
        // Collected earlier: a cached copy does not keep anything.
        if !candidates.contains(&blob) && !marks.live.contains(&blob) {
            continue;
        }
        let repository = match open(context, blob, root).await {
            Ok(repository) => repository,
            // Lost: no rule can restore it.
            Err(why) if why.is_missing() => continue,
            Err(why) => {
                marks.add_unreadable(context, name, why);
                continue;
            }
        };
        let seen = newer.entry(name).or_default();
        let last: Vec<String> = (refs(&repository))
            .filter(|it| old.named && !seen.contains(it))
            .collect();
        seen.extend(refs(&repository));
        let level = match levels.get(name) {
            Some(level) => *level,
            None => match level_of(context, name, Some(&repository), now).await {
                Ok(level) => level,
                Err(why) => {
                    marks.add_unreadable(context, name, why);
                    continue;
                }
            },
        };
        let mut judge = RetentionJudge {
            context,
            candidates,
            since: old.since,
            refs: &last,
            level,
            retained: &mut retained,
            longest: None,
            nodes: HashSet::new(),
        };
        judge.nodes.insert(blob);
        let mut walk = Walk::of(&repository);
        while let Some(batch) = walk.next().await {
            batch.iter().for_each(|found| judge.found(found));
        }
        judge.finish();
    }
    retained
}

async fn level_of(
    context: &MaintenanceContext,
    name: &str,
    repository: Option<&Repository>,
    now: u64,
) -> std::io::Result<Level> {
    let (levels, entries) = (&context.activity_levels, &context.entries);
    (context.activity)
        .level(name, levels, entries, repository, now)
        .await
}

async fn open(
    context: &MaintenanceContext,
    blob: BlobId,
    root: Option<ChunkHash>,
) -> Result<Repository, RepoError> {
    context
        .loader
        .open(context.access.clone(), blob, root)
        .await
}

/// Returns the branches, and the tags as `tags/NAME`.
fn refs(repository: &Repository) -> impl Iterator<Item = String> + '_ {
    repository.head().refs.iter().map(|it| {
        let name = String::from_utf8_lossy(&it.name);
        match it.kind {
            RefKind::Branch => name.into_owned(),
            RefKind::Tag => format!("tags/{name}"),
        }
    })
}

/// Returns old heads, for each name the newest first.
fn old_heads<'a>(
    context: &'a MaintenanceContext,
    now: u64,
    marks: &Marks,
    journal: &mut CollectionJournal,
) -> Vec<OldHead<'a>> {
    let live: HashSet<BlobId> = marks.names.values().map(|(blob, _)| *blob).collect();
    let mut next: HashMap<&str, u64> = HashMap::new();
    let mut old = Vec::new();
    for entry in context.entries.iter().rev() {
        let superseded = next.insert(&entry.name, entry.at);
        if entry.head().is_none_or(|(blob, _)| live.contains(&blob)) {
            continue;
        }
        let named = marks.names.contains_key(&entry.name);
        // The last head of a name that was removed, or moved manually.
        let since = superseded.unwrap_or_else(|| journal.first_seen(&entry.address, now));
        old.push(OldHead {
            entry,
            since,
            named,
        });
    }
    old
}

/// Applies the rules to one old head.
struct RetentionJudge<'a> {
    context: &'a MaintenanceContext,
    candidates: &'a HashSet<BlobId>,
    since: u64,
    refs: &'a [String],
    level: Level,
    retained: &'a mut Retained,
    /// Longest time that a file is kept; `Some(None)` if forever.
    longest: Option<Option<u64>>,
    /// Blobs of the nodes above its files.
    nodes: HashSet<BlobId>,
}

impl RetentionJudge<'_> {
    fn found(&mut self, found: &WalkItem) {
        let tier = match &found.dependency {
            Dependency::Chunk(
                _,
                ChunkRole::Directory
                | ChunkRole::List
                | ChunkRole::Attachment
                | ChunkRole::Objects
                | ChunkRole::Base,
            )
            | Dependency::Opened(_)
            | Dependency::Perhaps(_) => {
                self.nodes.extend(found.blobs());
                return;
            }
            Dependency::Unreadable(_) => return,
            Dependency::Chunk(chunk, ChunkRole::Content) => {
                match Tier::of(std::slice::from_ref(chunk)) {
                    Tier::Walrus => "walrus",
                    Tier::Inline | Tier::Chunked => "chunked",
                }
            }
            Dependency::Whole(_) => "walrus",
        };
        let ItemPath::Entry(_, _, size) = &*found.path else {
            // Outside of trees: part of the head's history.
            self.nodes.extend(found.blobs());
            return;
        };
        let path = found.path.path();
        let facts = Facts {
            path: &path,
            class: Class::of(&path, &[]).name(),
            size: *size,
            tier,
            refs: self.refs,
            activity: Some(self.level),
        };
        let keep = self.context.policy.decide(&facts).keep;
        let until = keep.seconds().map(|it| self.since.saturating_add(it));
        self.longest = Some(match self.longest {
            Some(longest) => later(longest, until),
            None => until,
        });
        for blob in found.blobs() {
            self.keep(blob, until);
        }
    }

    fn keep(&mut self, blob: BlobId, until: Option<u64>) {
        if self.candidates.contains(&blob) {
            let known = self.retained.entry(blob).or_insert(until);
            *known = later(*known, until);
        }
    }

    fn finish(mut self) {
        // For a head without files, the default rule applies.
        let until = self.longest.unwrap_or_else(|| {
            let keep = self.context.policy.decide(&Facts {
                refs: self.refs,
                activity: Some(self.level),
                ..Facts::default()
            });
            keep.keep.seconds().map(|it| self.since.saturating_add(it))
        });
        for blob in std::mem::take(&mut self.nodes) {
            self.keep(blob, until);
        }
    }
}

/// Returns the later of two times; `None` is never.
fn later(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a?.max(b?))
}
