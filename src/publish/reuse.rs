//! Comparison of a plan with the previous publish: what is unchanged, and what is reused.

use bytes::Bytes;

use super::co_change;
use super::options::{Progress, ShippedProfile};
use super::plan::{CommitPlan, ContentPlan, DirectoryPlan, EntryPlan, Plan, TreePlan};
use super::previous_publish::{PreviousDirectory, PreviousPublish};
use walgit_format::head::AttachmentKind;
use walgit_format::{Commit, Content, Entry};

/// Minimum likeness of the old and the new prior for reusing the old one.
const MIN_PRIOR_LIKENESS: f64 = 0.75;

impl PreviousDirectory {
    /// Whether its content equals that of `new`, a directory of `plan`. Those below `new`
    /// have been compared already.
    fn equals(&self, new: &DirectoryPlan, plan: &Plan) -> bool {
        let old = self.directory.entries();
        let mut entries = old.iter().zip(&new.entries).enumerate();
        old.len() == new.entries.len()
            && entries.all(|(number, (old, new))| {
                old.name == new.name
                    && old.kind == new.kind
                    && self.has_content(number, old, new, plan)
            })
    }

    fn has_content(&self, number: usize, old: &Entry, new: &EntryPlan, plan: &Plan) -> bool {
        let chunks = self.directory.chunks();
        match (&old.content, &new.content) {
            (Content::Inline(old), ContentPlan::Inline(new)) => old == new,
            (Content::Chunks { first, count }, ContentPlan::Chunks(new)) => {
                let old = &chunks[*first as usize..(*first + *count) as usize];
                old.iter().map(|c| c.hash).eq(new.iter().map(|c| c.hash))
            }
            (Content::List { .. }, ContentPlan::Chunks(new)) => {
                let old = self.listed.get(&number);
                old.is_some_and(|old| old.iter().eq(new.iter().map(|c| &c.hash)))
            }
            (Content::List { index }, ContentPlan::List(new)) => {
                chunks[*index as usize].hash == new.hash
            }
            (Content::Directory { index, .. }, ContentPlan::Tree(tree)) => {
                let new = plan.stored(tree);
                new.is_some_and(|new| new.node.hash == chunks[*index as usize].hash)
            }
            _ => false,
        }
    }
}

impl Plan {
    /// Number of files and directories in the published trees; for a foreign repository,
    /// in the newest one.
    pub(super) fn counts(&self, previous: &PreviousPublish) -> (u64, u64) {
        if let Some(foreign) = &self.foreign {
            return foreign.counts;
        }
        let (mut files, mut directories) = (0, self.directories.len() as u64);
        let roots = self.commits.iter().map(|commit| &commit.tree);
        let entries = self.directories.iter().flat_map(|d| &d.entries);
        let below = entries.filter_map(|entry| match &entry.content {
            ContentPlan::Tree(tree) => Some(tree),
            _ => {
                files += 1;
                None
            }
        });
        let stored = roots.chain(below).filter_map(|tree| match tree {
            TreePlan::New(_) => None,
            TreePlan::Stored(stored) => Some(previous.counts(stored)),
        });
        let (stored_files, stored_directories) = stored
            .fold((0, 0), |sum, (files, directories)| {
                (sum.0 + files, sum.1 + directories)
            });
        directories += stored_directories;
        (files + stored_files, directories)
    }

    /// Whether the previous head equals the result of this plan.
    pub(super) fn is_published(&self, previous: &PreviousPublish) -> bool {
        let Some(head) = &previous.head else {
            return false;
        };
        let head = head.head();
        let same_commit = |(plan, commit): (&CommitPlan, &Commit)| {
            let tree = self.stored(&plan.tree);
            let same_tree = || tree.is_some_and(|tree| tree.node.hash == commit.root.hash);
            plan.id == commit.id && (self.foreign.is_some() || same_tree())
        };
        let mut refs = self.refs.clone();
        refs.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        self.shipped_profile(previous) == previous.profile
            && self.is_archived(previous)
            && self.commits.len() == head.commits.len()
            && self.commits.iter().zip(&head.commits).all(same_commit)
            && refs == head.refs
            && self.default_branch == head.default_branch
    }

    /// Whether the history is unchanged.
    fn is_archived(&self, previous: &PreviousPublish) -> bool {
        if self.git.is_none() {
            return true;
        }
        let kind = AttachmentKind::GitCommits;
        let commits = self.attachments.iter().filter(|(it, _)| *it == kind);
        let commits = commits.flat_map(|(_, chunks)| chunks);
        let same_commits = commits.eq(previous.commits.iter().map(|chunk| &chunk.raw));
        let same_history = match (&self.history, &previous.archive) {
            (Some(history), Some(archive)) => history.is_archived(archive),
            (new, old) => new.is_none() && old.is_none(),
        };
        same_commits && same_history
    }

    /// The learned profile to ship.
    pub(super) fn shipped_profile(&self, previous: &PreviousPublish) -> Option<Bytes> {
        match &self.profile {
            ShippedProfile::Inherit => previous.profile.clone(),
            ShippedProfile::Omit => None,
            ShippedProfile::Replace(profile) => Some(profile.clone().into()),
        }
    }

    /// The encoded prior of files that change together; `None` without a history. Reuses
    /// the old prior while it is nearly as good, so that small changes store nothing.
    pub(super) fn prior(
        &self,
        previous: &PreviousPublish,
        progress: &dyn Progress,
    ) -> Option<Vec<u8>> {
        let git = self.git.as_ref()?;
        let tips: Vec<gix::ObjectId> = (self.commits.iter())
            .map(|commit| gix::ObjectId::from_bytes_or_panic(&commit.id.git().0))
            .collect();
        let new = co_change::prior(git, &tips, progress);
        let old = previous.prior.as_ref();
        let old = old.filter(|old| old.likeness(&new) >= MIN_PRIOR_LIKENESS);
        let prior = old.unwrap_or(&new);
        (!prior.is_empty()).then(|| prior.encode())
    }

    /// Finds directories that are unchanged at the same path, deepest first, so that the
    /// result for a parent includes its children.
    pub(super) fn reuse_directories(&mut self, previous: &PreviousPublish) {
        for index in (0..self.directories.len()).rev() {
            let directory = &self.directories[index];
            let same = (previous.directories.get(&directory.path))
                .filter(|old| old.equals(directory, self));
            self.directories[index].same_as = same.map(|old| old.stored.clone());
        }
    }
}
