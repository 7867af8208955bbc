//! A git repository as a plan: tips of branches, their trees, all commits.

use std::collections::HashSet;
use std::path::Path;

use bytes::Bytes;
use gix::ObjectId;
use gix::objs::tree::EntryKind;

use super::PublishError;
use super::history::{self, CommitFound, History, HistoryDepth};
use super::known::Known;
use super::plan::{
    CommitPlan, ContentPlan, DirectoryNumber, EntryPlan, FileJob, FileSource, Plan,
    PlannedDirectory, TreePlan,
};
use crate::repo::archive::ArchivedRef;
use crate::repo::directory::{MAX_TARGET, check_count, check_name};
use crate::repo::head::{AttachmentKind, GitId, Ref, RefKind, Signature};
use crate::repo::{Kind, MalformedNode};

/// Whether there is a git repository at a path, bare or not.
pub(super) fn is_repository(path: &Path) -> bool {
    path.join(".git").exists() || (path.join("HEAD").is_file() && path.join("objects").is_dir())
}

/// Plans to publish the tips of `branches` (the current one when empty),
/// with so much of their history.
pub(super) fn plan(
    path: &Path,
    branches: &[String],
    depth: HistoryDepth,
    known: &Known,
) -> Result<Plan, PublishError> {
    let reader = Reader::open(path)?;
    let tips = reader.tips(branches)?;
    let mut plan = Plan {
        git: Some(reader.repo.clone().into_sync()),
        ..Plan::default()
    };
    let mut heads: Vec<ObjectId> = tips.iter().map(|tip| tip.commit).collect();
    heads.dedup();
    let commits = history::select(&reader.repo, &heads, depth)?;
    let chunks = history::in_chunks(&reader.repo, &commits, known.commits())?;
    plan.attachments = vec![(AttachmentKind::GitCommits, chunks)];
    if depth != HistoryDepth::None {
        plan.history = Some(reader.history(&tips, commits, &mut plan.warnings)?);
    }
    for tip in &tips {
        if let Some(commit) = plan
            .commits
            .iter()
            .position(|c| c.id == git_id(tip.commit).into())
        {
            plan.refs.extend(tip.as_ref(commit));
            continue;
        }
        let (commit, tree) = reader.commit(tip.commit)?;
        let tree = reader.tree(&mut plan, known, tree)?;
        plan.refs.extend(tip.as_ref(plan.commits.len()));
        plan.commits.push(CommitPlan { tree, ..commit });
    }
    plan.default_branch = tips[0].branch.clone().unwrap_or_default();
    plan.refs.extend(reader.tags(&plan.commits)?);
    Ok(plan)
}

fn git_id(id: ObjectId) -> GitId {
    GitId(id.as_slice().to_vec())
}

/// A branch and where it points; a detached head has no name.
struct Tip {
    branch: Option<Vec<u8>>,
    commit: ObjectId,
}

impl Tip {
    fn as_ref(&self, commit: usize) -> Option<Ref> {
        self.branch.as_ref().map(|name| Ref {
            kind: RefKind::Branch,
            name: name.clone().into(),
            commit,
        })
    }
}

/// A git repository, and its path for messages.
struct Reader {
    repo: gix::Repository,
    path: std::path::PathBuf,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, PublishError> {
        let repo = gix::open(path).map_err(|error| PublishError::Git {
            path: path.into(),
            why: error.to_string(),
        })?;
        Ok(Reader {
            repo,
            path: path.into(),
        })
    }

    fn error(&self, why: impl std::fmt::Display) -> PublishError {
        PublishError::Git {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }

    fn tips(&self, branches: &[String]) -> Result<Vec<Tip>, PublishError> {
        if branches.is_empty() {
            let head = self.repo.head().map_err(|e| self.error(e))?;
            if head.is_unborn() {
                return Err(PublishError::NoCommits(self.path.clone()));
            }
            let branch = (head.referent_name()).map(|name| name.shorten().to_vec());
            let commit = self.repo.head_id().map_err(|e| self.error(e))?.detach();
            return Ok(vec![Tip { branch, commit }]);
        }
        branches.iter().map(|branch| self.tip(branch)).collect()
    }

    fn tip(&self, branch: &str) -> Result<Tip, PublishError> {
        let name = format!("refs/heads/{branch}");
        let found = self.repo.try_find_reference(name.as_str());
        match found.map_err(|e| self.error(e))? {
            Some(mut reference) => Ok(Tip {
                branch: Some(branch.as_bytes().to_vec()),
                commit: reference.peel_to_id().map_err(|e| self.error(e))?.detach(),
            }),
            None => Err(PublishError::NoBranch {
                branch: branch.into(),
                known: self.branch_names()?.join(", "),
            }),
        }
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
        let references = self.repo.references().map_err(|e| self.error(e))?;
        let tags = references.tags().map_err(|e| self.error(e))?;
        Ok(tags
            .filter_map(|tag| {
                let mut tag = tag.ok()?;
                let id = git_id(tag.peel_to_id().ok()?.detach()).into();
                Some(Ref {
                    kind: RefKind::Tag,
                    name: tag.name().shorten().to_vec().into(),
                    commit: commits.iter().position(|commit| commit.id == id)?,
                })
            })
            .collect())
    }

    fn raw(&self, id: ObjectId) -> Result<Vec<u8>, PublishError> {
        let object = self.repo.find_object(id).map_err(|e| self.error(e))?;
        Ok(object.detach().data)
    }

    /// A commit without its tree, and the tree's ID.
    fn commit(&self, id: ObjectId) -> Result<(CommitPlan, ObjectId), PublishError> {
        let raw = self.raw(id)?;
        let commit = gix::objs::CommitRef::from_bytes(&raw, self.repo.object_hash())
            .map_err(|e| self.error(format!("commit {id}: {e}")))?;
        let plan = CommitPlan {
            id: git_id(id).into(),
            tree: TreePlan::New(0),
            author: Signature::of(&commit.author().map_err(|e| self.error(e))?),
            committer: Signature::of(&commit.committer().map_err(|e| self.error(e))?),
            message: commit.message.to_vec(),
            parents: commit.parents().map(|id| git_id(id).into()).collect(),
        };
        Ok((plan, commit.tree()))
    }

    /// What is archived of these commits, which lead to the tips.
    fn history(
        &self,
        tips: &[Tip],
        commits: Vec<CommitFound>,
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
        let here: HashSet<ObjectId> = commits.iter().map(|commit| commit.id).collect();
        let mut tags = Vec::new();
        let references = self.repo.references().map_err(|e| self.error(e))?;
        for tag in references.tags().map_err(|e| self.error(e))? {
            let Ok(mut tag) = tag else { continue };
            let name = Bytes::copy_from_slice(tag.name().as_bstr());
            let Some(id) = tag.try_id().map(gix::Id::detach) else {
                continue;
            };
            let commit = tag.peel_to_id().map_err(|e| self.error(e))?.detach();
            if !here.contains(&commit) {
                if self.repo.find_commit(commit).is_err() {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    warnings.push(format!("{name} leads to no commit and is left out"));
                }
                continue;
            }
            self.tag_objects(id, &mut tags)?;
            refs.push(ArchivedRef {
                name,
                id: git_id(id),
            });
        }
        refs.sort();
        refs.dedup();
        let shallow = history::shallow(&commits);
        Ok(History {
            commits,
            refs,
            tags,
            head: head.unwrap_or_default(),
            shallow,
        })
    }

    /// Adds the tag objects that lead from `id` to a commit, those nearest to it
    /// first.
    fn tag_objects(&self, id: ObjectId, tags: &mut Vec<ObjectId>) -> Result<(), PublishError> {
        let (mut chain, mut at) = (Vec::new(), id);
        loop {
            let object = self.repo.find_object(at).map_err(|e| self.error(e))?;
            if object.kind != gix::objs::Kind::Tag {
                break;
            }
            chain.push(at);
            let tag = gix::objs::TagRef::from_bytes(&object.data, self.repo.object_hash());
            at = tag
                .map_err(|e| self.error(format!("tag {at}: {e}")))?
                .target();
        }
        let new: Vec<ObjectId> = (chain.into_iter().rev())
            .filter(|tag| !tags.contains(tag))
            .collect();
        tags.extend(new);
        Ok(())
    }

    /// Adds a tree and everything below it to the plan.
    fn tree(&self, plan: &mut Plan, known: &Known, id: ObjectId) -> Result<TreePlan, PublishError> {
        if let Some(tree) = known.tree(&git_id(id)) {
            return Ok(TreePlan::Known(tree.clone()));
        }
        let root = self.directory(plan, known, Vec::new(), id)?;
        let mut pending = vec![root];
        while let Some(number) = pending.pop() {
            let mut below = Vec::new();
            for entry in 0..plan.directories[number].entries.len() {
                let directory = &plan.directories[number];
                let found = &directory.entries[entry];
                let (Kind::Directory, ContentPlan::Pending, Some(id)) =
                    (found.kind, &found.content, &found.git)
                else {
                    continue;
                };
                let id = ObjectId::from_bytes_or_panic(&id.0);
                let path = join(&directory.path, &found.name);
                let child = self.directory(plan, known, path, id)?;
                plan.directories[number].entries[entry].content =
                    ContentPlan::Tree(TreePlan::New(child));
                below.push(child);
            }
            // The first subdirectory next, so that packs follow the tree.
            pending.extend(below.into_iter().rev());
        }
        Ok(TreePlan::New(root))
    }

    /// Adds one directory and its files to the plan. Subdirectories that are
    /// not known stay pending.
    fn directory(
        &self,
        plan: &mut Plan,
        known: &Known,
        path: Vec<u8>,
        id: ObjectId,
    ) -> Result<DirectoryNumber, PublishError> {
        let raw = self.raw(id)?;
        let number = plan.directories.len();
        let mut entries = Vec::new();
        let mut canonical = true;
        for entry in gix::objs::TreeRefIter::from_bytes(&raw, self.repo.object_hash()) {
            let entry = entry.map_err(|e| self.error(format!("tree {id}: {e}")))?;
            let at = join(&path, entry.filename);
            check_name(entry.filename).map_err(|why| PublishError::Name {
                path: String::from_utf8_lossy(&at).into_owned(),
                why,
            })?;
            let kind = entry.mode.kind();
            canonical &= entry.mode.value() == gix::objs::tree::EntryMode::from(kind).value();
            entries.push(self.entry(known, &at, kind, entry.filename, entry.oid.to_owned())?);
        }
        check_entries(&path, entries.len())?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(twice) = entries.windows(2).find(|w| w[0].name == w[1].name) {
            let at = join(&path, &twice[0].name);
            return Err(PublishError::Name {
                path: String::from_utf8_lossy(&at).into_owned(),
                why: MalformedNode::Order(String::from_utf8_lossy(&twice[0].name).into_owned()),
            });
        }
        for (entry, planned) in entries.iter().enumerate() {
            if let (Kind::File { .. }, ContentPlan::Pending, Some(id)) =
                (planned.kind, &planned.content, &planned.git)
            {
                plan.files.push(FileJob {
                    source: FileSource::Git(ObjectId::from_bytes_or_panic(&id.0)),
                    directory: number,
                    entry,
                    size: planned.size,
                });
            }
        }
        plan.directories.push(PlannedDirectory {
            path,
            entries,
            git: Some((
                git_id(id),
                match canonical {
                    true => Bytes::new(),
                    false => raw.into(),
                },
            )),
            same_as: None,
        });
        Ok(number)
    }

    fn entry(
        &self,
        known: &Known,
        at: &[u8],
        kind: EntryKind,
        name: &[u8],
        id: ObjectId,
    ) -> Result<EntryPlan, PublishError> {
        let git = git_id(id);
        let (kind, size, content) = match kind {
            EntryKind::Blob | EntryKind::BlobExecutable => {
                let executable = kind == EntryKind::BlobExecutable;
                let (size, content) = match known.file(&git) {
                    Some(file) => file.clone(),
                    None => {
                        let header = self.repo.find_header(id).map_err(|e| self.error(e))?;
                        (header.size(), ContentPlan::Pending)
                    }
                };
                (Kind::File { executable }, size, content)
            }
            EntryKind::Link => {
                let target = self.raw(id)?;
                if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                    let at = String::from_utf8_lossy(at).into_owned();
                    return Err(PublishError::Symlink(at));
                }
                let size = target.len() as u64;
                (Kind::Symlink, size, ContentPlan::Inline(target))
            }
            EntryKind::Commit => (Kind::Submodule, 0, ContentPlan::Inline(git.0.clone())),
            EntryKind::Tree => match known.tree(&git) {
                Some(tree) => {
                    let content = ContentPlan::Tree(TreePlan::Known(tree.clone()));
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

pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path.is_empty() {
        true => name.to_vec(),
        false => [path, b"/", name].concat(),
    }
}

/// Refuses a directory that no reader would accept.
pub(super) fn check_entries(path: &[u8], count: usize) -> Result<(), PublishError> {
    check_count(count).map_err(|why| PublishError::Name {
        path: format!("./{}", String::from_utf8_lossy(path)),
        why,
    })
}
