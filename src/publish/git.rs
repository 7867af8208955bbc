//! Plans the publish of a git repository: tips of branches, their trees, all commits.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use gix::ObjectId;

use super::error::PublishError;
use super::git_objects::{self, blob_len, git_id, malformed_tree};
use super::history::commits::{self, History, HistoryCommit, HistoryDepth, TaggedObject};
use super::plan::{
    CommitPlan, ContentPlan, DirectoryIndex, DirectoryPlan, EntryPlan, FileJob, FileSource, Plan,
    TreePlan, check_entries, join,
};
use super::previous_publish::PreviousPublish;
use crate::repo::{Lineage, Tag};
use walgit_format::Kind;
use walgit_format::archive::{ArchivedRef, parse_tree};
use walgit_format::directory::{MAX_SYMLINK_BYTES, check_name};
use walgit_format::git::tag_target;
use walgit_format::head::{AttachmentKind, Ref, RefKind, check_ref_name};

/// Whether a path contains a git repository, bare or not.
pub(super) fn is_repository(path: &Path) -> bool {
    path.join(".git").exists() || (path.join("HEAD").is_file() && path.join("objects").is_dir())
}

/// Plans to publish the tips of `branches` (the current branch if empty) with the given
/// depth of history.
pub(super) fn plan(
    path: &Path,
    branches: &[String],
    depth: HistoryDepth,
    previous: &PreviousPublish,
) -> Result<Plan, PublishError> {
    let source = GitSource::open(path)?;
    let tips = source.tips(branches)?;
    let mut plan = Plan {
        git: Some(source.repo.clone().into_sync()),
        default_branch: tips[0].branch.clone().unwrap_or_default(),
        ..Plan::default()
    };
    let mut heads: Vec<ObjectId> = tips.iter().map(|tip| tip.commit).collect();
    heads.dedup();
    let history = commits::select(&source.repo, &heads, depth)?;
    let chunks = commits::encode_chunks(&source.repo, &history, &previous.commits)?;
    plan.attachments = vec![(AttachmentKind::GitCommits, chunks)];
    if depth != HistoryDepth::None {
        plan.history = Some(source.history(&tips, history, &mut plan.warnings)?);
    }
    let mut trees: HashMap<ObjectId, TreePlan> = HashMap::new();
    for tip in &tips {
        let id = git_id(tip.commit).into();
        if let Some(commit) = plan.commits.iter().position(|it| it.id == id) {
            plan.refs.extend(tip.as_ref(commit));
            continue;
        }
        let (commit, tree) = source.commit(tip.commit)?;
        // Branches may share a tree. It is planned once; otherwise its root would have
        // two hashes, because a directory records the distances to what is below it.
        let tree = match trees.get(&tree) {
            Some(planned) => planned.clone(),
            None => {
                let planned = source.tree(&mut plan, previous, tree);
                let planned = planned.map_err(|error| error.in_commit(tip.commit))?;
                trees.insert(tree, planned.clone());
                planned
            }
        };
        plan.refs.extend(tip.as_ref(plan.commits.len()));
        plan.commits.push(CommitPlan { tree, ..commit });
    }
    plan.refs.extend(source.tags(&plan.commits)?);
    Ok(plan)
}

/// A branch and its commit; a detached head has no name.
struct BranchTip {
    branch: Option<Vec<u8>>,
    commit: ObjectId,
}

impl BranchTip {
    fn as_ref(&self, commit: usize) -> Option<Ref> {
        self.branch.as_ref().map(|name| Ref {
            kind: RefKind::Branch,
            name: name.clone().into(),
            commit,
        })
    }
}

/// The target of a tag.
struct TagTarget {
    /// The annotated tags in between.
    tags: Vec<ObjectId>,
    id: ObjectId,
    kind: gix::objs::Kind,
}

/// A git repository, with its path for messages.
struct GitSource {
    repo: gix::Repository,
    path: std::path::PathBuf,
}

impl GitSource {
    fn open(path: &Path) -> Result<Self, PublishError> {
        Ok(GitSource {
            repo: git_objects::open(path)?,
            path: path.into(),
        })
    }

    fn error(&self, why: impl std::fmt::Display) -> PublishError {
        PublishError::Git(self.path.clone(), why.to_string())
    }

    fn tips(&self, branches: &[String]) -> Result<Vec<BranchTip>, PublishError> {
        if branches.is_empty() {
            let head = self.repo.head().map_err(|e| self.error(e))?;
            if head.is_unborn() {
                return Err(PublishError::NoCommits(self.path.clone()));
            }
            let branch = (head.referent_name()).map(|name| name.shorten().to_vec());
            let commit = self.repo.head_id().map_err(|e| self.error(e))?.detach();
            return Ok(vec![BranchTip { branch, commit }]);
        }
        let mut tips: Vec<BranchTip> = Vec::new();
        for branch in branches {
            let tip = self.tip(branch)?;
            // Requested twice, or in two spellings.
            if tips.iter().all(|other| other.branch != tip.branch) {
                tips.push(tip);
            }
        }
        Ok(tips)
    }

    /// Finds a branch by name, as `NAME`, `heads/NAME` or `refs/heads/NAME`.
    fn tip(&self, branch: &str) -> Result<BranchTip, PublishError> {
        let spellings = ["refs/heads/", "heads/", ""].map(|prefix| branch.strip_prefix(prefix));
        // A branch literally named `heads/x` takes precedence.
        for name in spellings.into_iter().rev().flatten() {
            let full = format!("refs/heads/{name}");
            let found = self.repo.try_find_reference(full.as_str());
            if let Some(mut reference) = found.map_err(|e| self.error(e))? {
                check_ref_name(name.as_bytes()).map_err(|why| self.error(why))?;
                return Ok(BranchTip {
                    branch: Some(name.as_bytes().to_vec()),
                    commit: reference.peel_to_id().map_err(|e| self.error(e))?.detach(),
                });
            }
        }
        Err(PublishError::NoBranch {
            branch: branch.into(),
            existing: self.branch_names()?.join(", "),
        })
    }

    fn branch_names(&self) -> Result<Vec<String>, PublishError> {
        let references = self.repo.references().map_err(|e| self.error(e))?;
        let branches = references.local_branches().map_err(|e| self.error(e))?;
        Ok(branches
            .filter_map(|branch| Some(branch.ok()?.name().shorten().to_string()))
            .take(20)
            .collect())
    }

    /// Tags that lead to one of the commits.
    fn tags(&self, commits: &[CommitPlan]) -> Result<Vec<Ref>, PublishError> {
        let mut tags = Vec::new();
        for (name, id) in self.tag_refs()? {
            // Other tags are reported with the history.
            let Ok(Some(target)) = self.peel_tag(id) else {
                continue;
            };
            let id = git_id(target.id).into();
            let name = name.slice(b"refs/tags/".len()..);
            if let Some(commit) = commits.iter().position(|commit| commit.id == id)
                && check_ref_name(&name).is_ok()
            {
                let kind = RefKind::Tag;
                tags.push(Ref { kind, name, commit });
            }
        }
        Ok(tags)
    }

    /// Full names of all tags, with their objects.
    fn tag_refs(&self) -> Result<Vec<(Bytes, ObjectId)>, PublishError> {
        let references = self.repo.references().map_err(|e| self.error(e))?;
        let tags = references.tags().map_err(|e| self.error(e))?;
        let tags = tags.filter_map(|tag| {
            let tag = tag.ok()?;
            let name = Bytes::copy_from_slice(tag.name().as_bstr());
            Some((name, tag.try_id()?.detach()))
        });
        Ok(tags.collect())
    }

    /// Peels annotated tags; `None` if one is malformed.
    fn peel_tag(&self, mut id: ObjectId) -> Result<Option<TagTarget>, PublishError> {
        let mut tags = Vec::new();
        loop {
            let (kind, raw) = git_objects::read(&self.repo, id)?;
            if kind != gix::objs::Kind::Tag {
                return Ok(Some(TagTarget { tags, id, kind }));
            }
            let Some(target) = tag_target(&raw) else {
                return Ok(None);
            };
            tags.push(id);
            id = git_objects::object_id(&self.repo, &target)?;
        }
    }

    fn raw(&self, id: ObjectId, kind: gix::objs::Kind) -> Result<Vec<u8>, PublishError> {
        git_objects::read_as(&self.repo, id, kind)
    }

    /// Returns a commit without its tree, and the ID of the tree.
    fn commit(&self, id: ObjectId) -> Result<(CommitPlan, ObjectId), PublishError> {
        let commit = git_objects::commit(&self.repo, id)?;
        let plan = CommitPlan {
            id: git_id(id).into(),
            tree: TreePlan::New(0),
            author: commit.author(),
            committer: commit.committer(),
            message: commit.message().to_vec(),
            parents: commit.parents().iter().cloned().map(Into::into).collect(),
        };
        Ok((plan, git_objects::object_id(&self.repo, commit.tree())?))
    }

    /// Collects the history to archive for these commits, which lead to the tips.
    fn history(
        &self,
        tips: &[BranchTip],
        commits: Vec<HistoryCommit>,
        warnings: &mut Vec<String>,
    ) -> Result<History, PublishError> {
        let branches = tips.iter().filter_map(|tip| {
            let name = [b"refs/heads/", &tip.branch.as_ref()?[..]].concat();
            Some(ArchivedRef {
                name: name.into(),
                id: git_id(tip.commit),
            })
        });
        let mut refs: Vec<ArchivedRef> = branches.collect();
        let head = refs.first().map(|first| first.name.clone());
        let selected: HashSet<ObjectId> = commits.iter().map(|commit| commit.id).collect();
        let mut seen: HashSet<ObjectId> = HashSet::new();
        let (mut tags, mut roots) = (Vec::new(), Vec::new());
        for (name, id) in self.tag_refs()? {
            let target = match self.peel_tag(id) {
                Ok(Some(target)) => target,
                found => {
                    let why = match found {
                        Err(error) => error.to_string(),
                        Ok(_) => "the tag is malformed".into(),
                    };
                    let name = String::from_utf8_lossy(&name);
                    warnings.push(format!("{name} is left out: {why}"));
                    continue;
                }
            };
            if target.kind != gix::objs::Kind::Commit {
                roots.push(TaggedObject {
                    reference: id,
                    id: target.id,
                    is_tree: target.kind == gix::objs::Kind::Tree,
                    name: name.clone(),
                });
            } else if !selected.contains(&target.id) {
                // Belongs to a different branch.
                continue;
            }
            // Sort by distance to the target.
            tags.extend(
                target
                    .tags
                    .into_iter()
                    .rev()
                    .filter(|tag| seen.insert(*tag)),
            );
            refs.push(ArchivedRef {
                name,
                id: git_id(id),
            });
        }
        refs.sort();
        refs.dedup();
        let shallow = commits::shallow(&commits);
        Ok(History {
            commits,
            refs,
            tags,
            roots,
            head: head.unwrap_or_default(),
            shallow,
        })
    }

    /// Adds a tree and all its descendants to the plan.
    fn tree(
        &self,
        plan: &mut Plan,
        previous: &PreviousPublish,
        id: ObjectId,
    ) -> Result<TreePlan, PublishError> {
        if let Some(tree) = previous.trees.get(&git_id(id)) {
            return Ok(TreePlan::Stored(tree.clone()));
        }
        let root = self.directory(plan, previous, Vec::new(), id)?;
        let mut pending = vec![root];
        while let Some(parent) = pending.pop() {
            let mut children = Vec::new();
            for entry in 0..plan.directories[parent].entries.len() {
                let index = (parent, entry);
                let planned = plan.entry(index);
                let (Kind::Directory, ContentPlan::Pending, Some(id)) =
                    (planned.kind, &planned.content, &planned.git)
                else {
                    continue;
                };
                let id = ObjectId::from_bytes_or_panic(&id.0);
                let path = plan.path(index);
                let child = self.directory(plan, previous, path, id)?;
                plan.entry_mut(index).content = ContentPlan::Tree(TreePlan::New(child));
                children.push(child);
            }
            // Visit the first subdirectory next, so that packs follow tree order.
            pending.extend(children.into_iter().rev());
        }
        Ok(TreePlan::New(root))
    }

    /// Adds one directory and its files to the plan. Unknown subdirectories stay pending.
    fn directory(
        &self,
        plan: &mut Plan,
        previous: &PreviousPublish,
        path: Vec<u8>,
        id: ObjectId,
    ) -> Result<DirectoryIndex, PublishError> {
        let raw = self.raw(id, gix::objs::Kind::Tree)?;
        let mut entries = Vec::new();
        let mut canonical = true;
        let mut last: Option<Vec<u8>> = None;
        for entry in parse_tree(&raw, self.repo.object_hash().len_in_bytes()) {
            let found = entry.and_then(|entry| Some((entry, entry.kind()?)));
            let (entry, kind) = found.ok_or_else(|| malformed_tree(&self.repo, id))?;
            let at = join(&path, entry.name);
            check_name(entry.name)
                .map_err(|why| PublishError::Name(String::from_utf8_lossy(&at).into(), why))?;
            // Git sorts directories as if their names ended with a slash.
            let slash: &[u8] = if kind == Kind::Directory { b"/" } else { b"" };
            let key = [entry.name, slash].concat();
            canonical &= entry.mode == kind.git_mode();
            canonical &= last.replace(key.clone()).is_none_or(|last| last < key);
            let child = ObjectId::from_bytes_or_panic(entry.id);
            entries.push(self.entry(previous, &at, kind, entry.name, child)?);
        }
        check_entries(&path, entries.len())?;
        // Of duplicate names, git checks out the last one.
        entries.reverse();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let all = entries.len();
        entries.dedup_by(|a, b| a.name == b.name);
        if entries.len() < all {
            canonical = false;
            plan.warnings.push(format!(
                "tree {id} at /{} has duplicate names; the last of each is shown",
                String::from_utf8_lossy(&path)
            ));
        }
        let index = plan.directories.len();
        for (entry, planned) in entries.iter().enumerate() {
            if let (Kind::File { .. }, ContentPlan::Pending, Some(id)) =
                (planned.kind, &planned.content, &planned.git)
            {
                plan.files.push(FileJob {
                    source: FileSource::Git(ObjectId::from_bytes_or_panic(&id.0)),
                    entry: (index, entry),
                    size: planned.size,
                });
            }
        }
        let raw_tree = if canonical { Bytes::new() } else { raw.into() };
        Ok(plan.push(DirectoryPlan {
            git: Some((git_id(id), raw_tree)),
            ..DirectoryPlan::new(path, entries)
        }))
    }

    fn entry(
        &self,
        previous: &PreviousPublish,
        at: &[u8],
        kind: Kind,
        name: &[u8],
        id: ObjectId,
    ) -> Result<EntryPlan, PublishError> {
        let git = git_id(id);
        let (kind, size, content) = match kind {
            Kind::File { executable } => {
                let (size, content) = match previous.files.get(&git) {
                    Some(file) => file.clone(),
                    None => (blob_len(&self.repo, id)?, ContentPlan::Pending),
                };
                (Kind::File { executable }, size, content)
            }
            Kind::Symlink => {
                let target = self.raw(id, gix::objs::Kind::Blob)?;
                if target.is_empty() || target.len() > MAX_SYMLINK_BYTES || target.contains(&0) {
                    let at = String::from_utf8_lossy(at).into_owned();
                    return Err(PublishError::Symlink(at));
                }
                let size = target.len() as u64;
                (Kind::Symlink, size, ContentPlan::Inline(target))
            }
            Kind::Submodule => (Kind::Submodule, 0, ContentPlan::Inline(git.0.clone())),
            Kind::Directory => match previous.trees.get(&git) {
                Some(tree) => {
                    let content = ContentPlan::Tree(TreePlan::Stored(tree.clone()));
                    (Kind::Directory, tree.bytes, content)
                }
                None => (Kind::Directory, 0, ContentPlan::Pending),
            },
        };
        Ok(EntryPlan {
            name: name.to_vec(),
            kind,
            git: Some(git),
            size,
            content,
        })
    }
}

/// Branch positions of the content that would be published, with the given depth of
/// history.
pub(super) fn lineage(
    path: &Path,
    branches: &[String],
    depth: HistoryDepth,
) -> Result<Lineage, PublishError> {
    let source = GitSource::open(path)?;
    let tips = source.tips(branches)?;
    let heads: Vec<ObjectId> = tips.iter().map(|tip| tip.commit).collect();
    let depth = commits::boundary_depth(&source.repo, &heads, depth)?;
    let tag = |(name, id): (Bytes, ObjectId)| {
        let target = source.peel_tag(id).ok().flatten();
        let target = target.filter(|target| target.kind == gix::objs::Kind::Commit);
        Tag {
            name: name.slice(b"refs/tags/".len()..),
            object: Some(git_id(id)),
            commit: target.map(|target| git_id(target.id)),
        }
    };
    let tags = source.tag_refs()?.into_iter().map(tag).collect();
    let name = |tip: &BranchTip| Bytes::from(tip.branch.clone().unwrap_or_default());
    let repo = source.repo;
    Ok(Lineage {
        default_branch: name(&tips[0]),
        branches: (tips.iter())
            .map(|tip| (name(tip), git_id(tip.commit).into()))
            .collect(),
        tags,
        depth,
        parents: Box::new(move |id| {
            let id = git_objects::object_id(&repo, &id.git()).ok()?;
            let commit = git_objects::commit(&repo, id).ok()?;
            Some(commit.parents().iter().cloned().map(Into::into).collect())
        }),
        folder: None,
    })
}
