//! Plans the publish of a git repository: tips of branches, their trees, all commits.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use gix::ObjectId;

use super::PublishError;
use super::history::{self, CommitFound, History, HistoryDepth, Root};
use super::known::Known;
use super::objects::{self, git_id};
use super::plan::{
    CommitPlan, ContentPlan, DirectoryNumber, EntryPlan, FileJob, FileSource, Plan,
    PlannedDirectory, TreePlan,
};
use walgit_format::Kind;
use walgit_format::archive::{ArchivedRef, ModeKind, parse_tree};
use walgit_format::directory::{MAX_TARGET, check_count, check_name};
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
    let mut trees: HashMap<ObjectId, TreePlan> = HashMap::new();
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
        // Branches may share a tree. It is planned once; otherwise its root would have
        // two hashes, because a directory records the distances to what is below it.
        let tree = match trees.get(&tree) {
            Some(planned) => planned.clone(),
            None => {
                let planned = reader.tree(&mut plan, known, tree);
                let planned = planned.map_err(|error| error.in_commit(tip.commit))?;
                trees.insert(tree, planned.clone());
                planned
            }
        };
        plan.refs.extend(tip.as_ref(plan.commits.len()));
        plan.commits.push(CommitPlan { tree, ..commit });
    }
    plan.default_branch = tips[0].branch.clone().unwrap_or_default();
    plan.refs.extend(reader.tags(&plan.commits)?);
    Ok(plan)
}

/// A branch and its commit; a detached head has no name.
pub(super) struct Tip {
    pub(super) branch: Option<Vec<u8>>,
    pub(super) commit: ObjectId,
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

/// The target of a tag.
pub(super) struct Leads {
    /// The annotated tags in between.
    tags: Vec<ObjectId>,
    pub(super) to: ObjectId,
    pub(super) kind: gix::objs::Kind,
}

fn left_out(name: &[u8], why: &str) -> String {
    format!("{} is left out: {why}", String::from_utf8_lossy(name))
}

/// A git repository, with its path for messages.
pub(super) struct Reader {
    pub(super) repo: gix::Repository,
    path: std::path::PathBuf,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, PublishError> {
        Ok(Reader {
            repo: objects::open(path)?,
            path: path.into(),
        })
    }

    fn error(&self, why: impl std::fmt::Display) -> PublishError {
        PublishError::Git {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }

    pub(super) fn tips(&self, branches: &[String]) -> Result<Vec<Tip>, PublishError> {
        if branches.is_empty() {
            let head = self.repo.head().map_err(|e| self.error(e))?;
            if head.is_unborn() {
                return Err(PublishError::NoCommits(self.path.clone()));
            }
            let branch = (head.referent_name()).map(|name| name.shorten().to_vec());
            let commit = self.repo.head_id().map_err(|e| self.error(e))?.detach();
            return Ok(vec![Tip { branch, commit }]);
        }
        let mut tips: Vec<Tip> = Vec::new();
        for branch in branches {
            let tip = self.tip(branch)?;
            // Requested twice, or in two spellings.
            if tips.iter().all(|known| known.branch != tip.branch) {
                tips.push(tip);
            }
        }
        Ok(tips)
    }

    /// Finds a branch by name, as `NAME`, `heads/NAME` or `refs/heads/NAME`.
    fn tip(&self, branch: &str) -> Result<Tip, PublishError> {
        let spellings = ["refs/heads/", "heads/", ""].map(|prefix| branch.strip_prefix(prefix));
        // A branch literally named `heads/x` takes precedence.
        for name in spellings.into_iter().rev().flatten() {
            let full = format!("refs/heads/{name}");
            let found = self.repo.try_find_reference(full.as_str());
            if let Some(mut reference) = found.map_err(|e| self.error(e))? {
                check_ref_name(name.as_bytes()).map_err(|why| self.error(why))?;
                return Ok(Tip {
                    branch: Some(name.as_bytes().to_vec()),
                    commit: reference.peel_to_id().map_err(|e| self.error(e))?.detach(),
                });
            }
        }
        Err(PublishError::NoBranch {
            branch: branch.into(),
            known: self.branch_names()?.join(", "),
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
            let Ok(Some(Leads { to, .. })) = self.follow(id) else {
                continue;
            };
            let id = git_id(to).into();
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
    pub(super) fn tag_refs(&self) -> Result<Vec<(Bytes, ObjectId)>, PublishError> {
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
    pub(super) fn follow(&self, id: ObjectId) -> Result<Option<Leads>, PublishError> {
        let (mut tags, mut at) = (Vec::new(), id);
        loop {
            let (kind, raw) = objects::read(&self.repo, at)?;
            if kind != gix::objs::Kind::Tag {
                return Ok(Some(Leads { tags, to: at, kind }));
            }
            let Some(target) = tag_target(&raw) else {
                return Ok(None);
            };
            tags.push(at);
            at = objects::object_id(&self.repo, &target)?;
        }
    }

    fn raw(&self, id: ObjectId, kind: gix::objs::Kind) -> Result<Vec<u8>, PublishError> {
        objects::read_as(&self.repo, id, kind)
    }

    /// Returns a commit without its tree, and the ID of the tree.
    fn commit(&self, id: ObjectId) -> Result<(CommitPlan, ObjectId), PublishError> {
        let commit = objects::commit(&self.repo, id)?;
        let plan = CommitPlan {
            id: git_id(id).into(),
            tree: TreePlan::New(0),
            author: commit.author(),
            committer: commit.committer(),
            message: commit.message().to_vec(),
            parents: commit.parents().iter().cloned().map(Into::into).collect(),
        };
        Ok((plan, objects::object_id(&self.repo, commit.tree())?))
    }

    /// Collects the history to archive for these commits, which lead to the tips.
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
        let mut seen: HashSet<ObjectId> = HashSet::new();
        let (mut tags, mut roots) = (Vec::new(), Vec::new());
        for (name, id) in self.tag_refs()? {
            let leads = match self.follow(id) {
                Ok(Some(leads)) => leads,
                Ok(None) => {
                    warnings.push(left_out(&name, "it is malformed"));
                    continue;
                }
                Err(error) => {
                    warnings.push(left_out(&name, &error.to_string()));
                    continue;
                }
            };
            if leads.kind != gix::objs::Kind::Commit {
                roots.push(Root {
                    reference: id,
                    id: leads.to,
                    is_tree: leads.kind == gix::objs::Kind::Tree,
                    name: name.clone(),
                });
            } else if !here.contains(&leads.to) {
                // Belongs to a different branch.
                continue;
            }
            // Sort by distance to the target.
            for tag in leads.tags.into_iter().rev() {
                if seen.insert(tag) {
                    tags.push(tag);
                }
            }
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
            roots,
            head: head.unwrap_or_default(),
            shallow,
        })
    }

    /// Adds a tree and all its descendants to the plan.
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
            // Visit the first subdirectory next, so that packs follow tree order.
            pending.extend(below.into_iter().rev());
        }
        Ok(TreePlan::New(root))
    }

    /// Adds one directory and its files to the plan. Unknown subdirectories stay pending.
    fn directory(
        &self,
        plan: &mut Plan,
        known: &Known,
        path: Vec<u8>,
        id: ObjectId,
    ) -> Result<DirectoryNumber, PublishError> {
        let raw = self.raw(id, gix::objs::Kind::Tree)?;
        let number = plan.directories.len();
        let mut entries = Vec::new();
        let mut canonical = true;
        let mut last: Option<Vec<u8>> = None;
        for entry in parse_tree(&raw, self.repo.object_hash().len_in_bytes()) {
            let found = entry.and_then(|entry| Some((entry, entry.kind()?)));
            let (entry, kind) =
                found.ok_or_else(|| self.error(format!("tree {id} is malformed")))?;
            let at = join(&path, entry.name);
            check_name(entry.name).map_err(|why| PublishError::Name {
                path: String::from_utf8_lossy(&at).into_owned(),
                why,
            })?;
            // Git sorts directories as if their names ended with a slash.
            let slash: &[u8] = if kind == ModeKind::Tree { b"/" } else { b"" };
            let key = [entry.name, slash].concat();
            canonical &= entry.mode == kind.canonical();
            canonical &= last.replace(key.clone()).is_none_or(|last| last < key);
            let child = ObjectId::from_bytes_or_panic(entry.id);
            entries.push(self.entry(known, &at, kind, entry.name, child)?);
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
                "tree {id} at /{} has names twice; the last of each is shown",
                String::from_utf8_lossy(&path)
            ));
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
        kind: ModeKind,
        name: &[u8],
        id: ObjectId,
    ) -> Result<EntryPlan, PublishError> {
        let git = git_id(id);
        let (kind, size, content) = match kind {
            ModeKind::File { executable } => {
                let (size, content) = match known.file(&git) {
                    Some(file) => file.clone(),
                    None => {
                        // The reader of the object reports it if it is missing.
                        let size = match self.repo.find_header(id) {
                            Ok(header) => header.size(),
                            Err(_) => self.raw(id, gix::objs::Kind::Blob)?.len() as u64,
                        };
                        (size, ContentPlan::Pending)
                    }
                };
                (Kind::File { executable }, size, content)
            }
            ModeKind::Link => {
                let target = self.raw(id, gix::objs::Kind::Blob)?;
                if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                    let at = String::from_utf8_lossy(at).into_owned();
                    return Err(PublishError::Symlink(at));
                }
                let size = target.len() as u64;
                (Kind::Symlink, size, ContentPlan::Inline(target))
            }
            ModeKind::Submodule => (Kind::Submodule, 0, ContentPlan::Inline(git.0.clone())),
            ModeKind::Tree => match known.tree(&git) {
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

/// Rejects a directory that readers would not accept.
pub(super) fn check_entries(path: &[u8], count: usize) -> Result<(), PublishError> {
    check_count(count).map_err(|why| PublishError::Name {
        path: format!("./{}", String::from_utf8_lossy(path)),
        why,
    })
}
