//! Checks whether one head continues another, like `git push` before it moves a
//! branch.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::diverges::Diverges;
use super::error::RepoError;
use super::repository::Repository;
use walgit_format::head::{AttachmentKind, CommitId, GitId, Head, RefKind};

/// Returns the parents of a commit; `None` if unknown.
pub(super) type Parents = Box<dyn Fn(&CommitId) -> Option<Vec<CommitId>>>;

/// The branches of a head, and the known part of their history.
pub struct Lineage {
    /// The default branch; empty for a plain folder and a detached commit.
    pub default_branch: Bytes,
    /// Branches and their commits; if there is none, one entry without a name.
    pub branches: Vec<(Bytes, CommitId)>,
    /// Tags. A publish may include only some of them.
    pub tags: Vec<Tag>,
    /// The parents of a commit; `None` if unknown.
    pub parents: Parents,
    /// Number of commits from the tip of a branch to the end of a truncated history;
    /// `None` if the published history is complete.
    pub depth: Option<u32>,
    /// Identity of a plain folder.
    pub folder: Option<PublishedFolder>,
}

/// A tag of a git repository. An annotated tag and its commit are different objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name without `refs/tags/`.
    pub name: Bytes,
    /// The tagged object, if known.
    pub object: Option<GitId>,
    /// The commit that the tag resolves to, if any and if known.
    pub commit: Option<GitId>,
}

/// The known properties of a plain folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedFolder {
    /// Its path, if it was published from this machine.
    pub path: Option<String>,
    /// Its title and its author, including the user and host.
    pub described: String,
    /// Time of the publish, in seconds since 1970.
    pub at: i64,
}

/// Whether a commit equals another one or is its descendant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Descent {
    Yes,
    No,
    Unknown,
}

impl Lineage {
    /// The lineage of a head, including its published history.
    pub async fn of(repository: &Repository) -> Result<Self, RepoError> {
        let mut parents: HashMap<CommitId, Vec<CommitId>> = HashMap::new();
        let head = repository.head();
        for commit in &head.commits {
            parents.insert(commit.id.clone(), commit.parents.clone());
        }
        if head.has_attachment(AttachmentKind::GitCommits) {
            for commit in repository.git_commits().await? {
                let of = commit.parents().iter().cloned().map(CommitId::from);
                parents.insert(commit.id.clone().into(), of.collect());
            }
        }
        let tags = match repository.archive().await? {
            // The tags of a head reference only the commits in the head.
            Some(archive) => {
                let commits: HashMap<Bytes, GitId> = archive.tags().await?.into_iter().collect();
                let tags = archive.refs().iter().filter_map(|it| {
                    let name = it.name.strip_prefix(b"refs/tags/")?;
                    Some(Tag {
                        name: it.name.slice_ref(name),
                        object: Some(it.id.clone()),
                        commit: commits.get(name).cloned(),
                    })
                });
                tags.collect()
            }
            None => tags_of(head),
        };
        let mut lineage = Lineage::of_head(head, tags, parents);
        if !repository.has_archive() && lineage.depth.is_none() && lineage.folder.is_none() {
            // Published without an archive, so the history may consist of this commit
            // only.
            lineage.depth = matches!(head.commits[0].id, CommitId::Git(_)).then_some(1);
        }
        Ok(lineage)
    }

    /// The lineage of a head, given the known part of its history.
    fn of_head(head: &Head, tags: Vec<Tag>, parents: HashMap<CommitId, Vec<CommitId>>) -> Self {
        let branches = head.refs.iter().filter(|it| it.kind == RefKind::Branch);
        let mut branches: Vec<(Bytes, CommitId)> = branches
            .map(|it| (it.name.clone(), head.commits[it.commit].id.clone()))
            .collect();
        let first = &head.commits[0];
        if branches.is_empty() {
            branches.push((Bytes::new(), first.id.clone()));
        }
        Lineage {
            default_branch: head.default_branch.clone(),
            depth: depth(&branches, &parents),
            branches,
            tags,
            parents: Box::new(move |id| parents.get(id).cloned()),
            folder: first.id.is_none().then(|| PublishedFolder {
                path: None,
                described: described(&first.author.person, &first.message),
                at: first.committer.seconds,
            }),
        }
    }

    fn kind(&self) -> &'static str {
        match self.branches.first().map(|(_, id)| id) {
            Some(CommitId::Git(_)) => "a git repository",
            Some(CommitId::Manifest(_) | CommitId::Object(_)) => "a repository of WalGit's tools",
            Some(CommitId::None) | None => "a plain folder",
        }
    }

    /// Whether this continues `old` from the view of its readers: nothing moves back,
    /// is dropped or replaced.
    ///
    /// # Errors
    /// The first difference that breaks continuity.
    pub fn continues(&self, old: &Lineage) -> Result<(), Diverges> {
        if self.kind() != old.kind() {
            return Err(Diverges::Kind {
                old: old.kind(),
                new: self.kind(),
            });
        }
        if let (Some(new), Some(old)) = (&self.folder, &old.folder) {
            return new.continues(old);
        }
        if self.default_branch != old.default_branch {
            return Err(Diverges::DefaultBranch {
                old: shown(&old.default_branch),
                new: shown(&self.default_branch),
            });
        }
        for (branch, from) in &old.branches {
            let Some((_, to)) = self.branches.iter().find(|(name, _)| name == branch) else {
                return Err(Diverges::Dropped(shown(branch)));
            };
            let descent = descends(to, from, |id| (self.parents)(id));
            if descent == Descent::Yes {
                continue;
            }
            let known = |id: &CommitId| (old.parents)(id).or_else(|| (self.parents)(id));
            let (branch, old, new) = (shown(branch), short(from), short(to));
            return Err(if descends(from, to, known) == Descent::Yes {
                Diverges::Older { branch, old, new }
            } else if descent == Descent::Unknown {
                Diverges::Unknown { branch, old, new }
            } else {
                Diverges::Unrelated { branch, old, new }
            });
        }
        for tag in &self.tags {
            tag.continues(old.tags.iter().find(|it| it.name == tag.name))?;
        }
        match (self.depth, old.depth) {
            (Some(new), old) if old.is_none_or(|old| new < old) => {
                Err(Diverges::History { old, new })
            }
            _ => Ok(()),
        }
    }

    /// A short description of the current commit.
    pub fn summary(&self) -> String {
        let first = self.branches.iter();
        let default = first.clone().find(|(name, _)| *name == self.default_branch);
        match default.or_else(|| self.branches.first()) {
            Some((_, CommitId::None)) | None => self.kind().into(),
            Some((name, id)) => format!("{} at {}", shown(name), short(id)),
        }
    }
}

impl Tag {
    /// Whether the tag is new or has not moved.
    fn continues(&self, old: Option<&Tag>) -> Result<(), Diverges> {
        let moved = |was: &Option<GitId>, is: &Option<GitId>| match (was, is) {
            (Some(was), Some(is)) if was != is => Some((was.clone(), is.clone())),
            _ => None,
        };
        let Some(old) = old else { return Ok(()) };
        // A moved commit is more informative than a changed tag object.
        let moved = moved(&old.commit, &self.commit).or_else(|| moved(&old.object, &self.object));
        let Some((was, is)) = moved else {
            return Ok(());
        };
        Err(Diverges::Tag {
            tag: shown(&self.name),
            old: short(&was.into()),
            new: short(&is.into()),
        })
    }
}

/// Tags that resolve to commits in the head.
fn tags_of(head: &Head) -> Vec<Tag> {
    let tags = head.refs.iter().filter(|it| it.kind == RefKind::Tag);
    let tags = tags.filter_map(|it| match &head.commits[it.commit].id {
        CommitId::Git(id) => Some(Tag {
            name: it.name.clone(),
            object: None,
            commit: Some(id.clone()),
        }),
        _ => None,
    });
    tags.collect()
}

/// Number of commits from a tip to the end of a truncated git history; `None` if the
/// history is complete.
fn depth(
    branches: &[(Bytes, CommitId)],
    parents: &HashMap<CommitId, Vec<CommitId>>,
) -> Option<u32> {
    let tips = branches.iter().map(|(_, id)| id);
    let mut level: Vec<&CommitId> = tips.filter(|id| matches!(id, CommitId::Git(_))).collect();
    let mut seen: HashSet<&CommitId> = level.iter().copied().collect();
    let mut depth = 1;
    while !level.is_empty() {
        let above: Vec<&CommitId> = level
            .iter()
            .filter_map(|id| parents.get(*id))
            .flatten()
            .collect();
        if above.iter().any(|id| !parents.contains_key(*id)) {
            return Some(depth);
        }
        level = above.into_iter().filter(|id| seen.insert(*id)).collect();
        depth += 1;
    }
    None
}

impl PublishedFolder {
    fn continues(&self, old: &PublishedFolder) -> Result<(), Diverges> {
        let same = match (&self.path, &old.path) {
            (Some(new), Some(old)) => new == old,
            _ => self.described == old.described,
        };
        if !same {
            let old = old.path.clone().unwrap_or_else(|| old.described.clone());
            return Err(Diverges::Folder { old });
        }
        if self.at < old.at {
            return Err(Diverges::OlderFolder);
        }
        Ok(())
    }
}

/// Identifies the folder that a snapshot was published from.
pub fn described(person: &[u8], message: &[u8]) -> String {
    let line = message.split(|&byte| byte == b'\n').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let person = String::from_utf8_lossy(person);
    format!("{line} by {person}")
}

fn shown(branch: &[u8]) -> String {
    if branch.is_empty() {
        return "a detached commit".into();
    }
    String::from_utf8_lossy(branch).into_owned()
}

fn short(id: &CommitId) -> String {
    id.to_string().chars().take(12).collect()
}

fn descends(
    from: &CommitId,
    to: &CommitId,
    parents: impl Fn(&CommitId) -> Option<Vec<CommitId>>,
) -> Descent {
    let mut seen: HashSet<CommitId> = HashSet::from([from.clone()]);
    let mut queue = VecDeque::from([from.clone()]);
    let mut complete = true;
    while let Some(at) = queue.pop_front() {
        if at == *to {
            return Descent::Yes;
        }
        match parents(&at) {
            Some(parents) => {
                let new = parents
                    .into_iter()
                    .filter(|parent| seen.insert(parent.clone()));
                queue.extend(new);
            }
            None => complete = false,
        }
    }
    if complete {
        Descent::No
    } else {
        Descent::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walgit_format::head::GitId;

    fn id(number: u8) -> CommitId {
        CommitId::Git(GitId(vec![number; 20]))
    }

    /// Commits 1 ← 2 ← 3, and 4 ← 5 where 4 is missing.
    fn lineage(branches: &[(&'static str, u8)]) -> Lineage {
        Lineage {
            default_branch: branches[0].0.into(),
            branches: branches
                .iter()
                .map(|(name, at)| (Bytes::from(*name), id(*at)))
                .collect(),
            parents: Box::new(|at| match at {
                at if *at == id(1) => Some(vec![]),
                at if *at == id(2) => Some(vec![id(1)]),
                at if *at == id(3) => Some(vec![id(2)]),
                at if *at == id(5) => Some(vec![id(4)]),
                _ => None,
            }),
            tags: Vec::new(),
            depth: None,
            folder: None,
        }
    }

    #[test]
    fn a_tag_must_not_move_and_a_history_must_not_shrink() {
        let git = |number: u8| Some(GitId(vec![number; 20]));
        let with = |object, commit, depth| Lineage {
            tags: vec![Tag {
                name: "v1".into(),
                object,
                commit,
            }],
            depth,
            ..lineage(&[("main", 2)])
        };
        let old = with(git(9), git(1), Some(5));
        for new in [
            with(git(9), git(1), Some(5)),
            with(None, git(1), Some(6)),
            with(git(9), None, None),
            lineage(&[("main", 3)]),
        ] {
            assert_eq!(new.continues(&old), Ok(()));
        }
        for (new, why) in [
            (with(git(9), git(2), Some(5)), "would move from 0101"),
            (with(git(8), git(1), Some(5)), "would move from 0909"),
            (with(git(9), git(1), Some(4)), "last 4 commits"),
            (with(git(9), git(1), Some(1)), "no history"),
        ] {
            let reason = new.continues(&old).unwrap_err().to_string();
            assert!(reason.contains(why), "{reason}");
        }
        let full = with(git(9), git(1), None);
        let reason = old.continues(&full).unwrap_err().to_string();
        assert!(reason.contains("all of its history"), "{reason}");
    }

    #[test]
    fn a_history_has_the_depth_of_its_shortest_branch() {
        let parents = |pairs: &[(u8, &[u8])]| -> HashMap<CommitId, Vec<CommitId>> {
            let pairs = pairs.iter();
            pairs
                .map(|(at, of)| (id(*at), of.iter().map(|of| id(*of)).collect()))
                .collect()
        };
        let tips = [(Bytes::new(), id(5))];
        let all = parents(&[(5, &[4, 3]), (4, &[3]), (3, &[1]), (1, &[])]);
        assert_eq!(depth(&tips, &all), None);
        let cut = parents(&[(5, &[4, 3]), (4, &[3]), (3, &[1])]);
        assert_eq!(depth(&tips, &cut), Some(2));
        assert_eq!(depth(&tips, &parents(&[(5, &[4])])), Some(1));
        assert_eq!(
            depth(&[(Bytes::new(), CommitId::None)], &HashMap::new()),
            None
        );
    }

    #[test]
    fn a_head_continues_another_if_its_branches_only_advance() {
        let old = lineage(&[("main", 2)]);
        for new in [
            lineage(&[("main", 2)]),
            lineage(&[("main", 3)]),
            lineage(&[("main", 3), ("more", 1)]),
        ] {
            assert_eq!(new.continues(&old), Ok(()));
        }
        // The tip of the old head is known only as a parent.
        assert_eq!(
            lineage(&[("main", 5)]).continues(&lineage(&[("main", 4)])),
            Ok(())
        );
        let refused = |new: Lineage| new.continues(&old).unwrap_err().to_string();
        assert!(refused(lineage(&[("main", 1)])).contains("go back"));
        assert!(refused(lineage(&[("main", 5)])).contains("incomplete"));
        assert!(refused(lineage(&[("other", 3)])).contains("default branch"));
        let two = lineage(&[("main", 2), ("x", 1)]);
        let dropped = lineage(&[("main", 3)]).continues(&two).unwrap_err();
        assert_eq!(dropped, Diverges::Dropped("x".into()));
    }

    #[test]
    fn folders_are_distinguished_by_path_or_else_by_description() {
        let folder = |path: Option<&str>, described: &str, at| Lineage {
            default_branch: Bytes::new(),
            branches: vec![(Bytes::new(), CommitId::None)],
            tags: Vec::new(),
            parents: Box::new(|_| None),
            depth: None,
            folder: Some(PublishedFolder {
                path: path.map(Into::into),
                described: described.into(),
                at,
            }),
        };
        let old = folder(Some("/a"), "x", 5);
        assert_eq!(folder(Some("/a"), "y", 6).continues(&old), Ok(()));
        assert_eq!(folder(None, "x", 6).continues(&old), Ok(()));
        for (other, why) in [
            (folder(Some("/b"), "x", 6), "another folder"),
            (folder(None, "y", 6), "another folder"),
            (folder(Some("/a"), "x", 4), "older"),
            (lineage(&[("main", 1)]), "a plain folder"),
        ] {
            let reason = other.continues(&old).unwrap_err().to_string();
            assert!(reason.contains(why), "{reason}");
        }
    }
}
