//! Plans the publish of a plain folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::PublishError;
use super::git::{check_entries, join};
use super::plan::{
    CommitPlan, ContentPlan, DirectoryNumber, EntryPlan, FileJob, FileSource, Plan,
    PlannedDirectory, TreePlan,
};
use super::source::{Folder, FolderFile, Found, Listed, Skip, SkipReason, Skipped};
use crate::repo::{Folder as FolderIdentity, Lineage, described};
use walgit_durable::fault_point;
use walgit_format::Kind;
use walgit_format::directory::check_name;
use walgit_format::head::{CommitId, Signature};
use walrus_client::clock::unix_seconds;

/// Number of skipped entries that a warning names.
const NAMED: usize = 5;

/// Plans to publish everything below a folder except git's own files. Unreadable entries
/// are errors, unless they are to be skipped.
pub(super) fn plan(root: &Path, skip_unreadable: bool) -> Result<Plan, PublishError> {
    let folder = Folder::open(root).map_err(|source| PublishError::Read {
        path: root.into(),
        source,
    })?;
    let mut plan = Plan {
        skip_unreadable,
        ..Plan::default()
    };
    let number = directory(&mut plan, &folder, Vec::new())?;
    let Ok(number) = number else {
        return Err(PublishError::Read {
            path: root.into(),
            source: std::io::ErrorKind::NotFound.into(),
        });
    };
    let mut pending = vec![number];
    while let Some(number) = pending.pop() {
        let mut below = Vec::new();
        for entry in 0..plan.directories[number].entries.len() {
            let directory_plan = &plan.directories[number];
            let found = &directory_plan.entries[entry];
            if found.kind != Kind::Directory {
                continue;
            }
            let at = join(&directory_plan.path, &found.name);
            match directory(&mut plan, &folder, at.clone())? {
                Ok(child) => {
                    plan.directories[number].entries[entry].content =
                        ContentPlan::Tree(TreePlan::New(child));
                    below.push(child);
                }
                Err(skip) => {
                    plan.skip(&folder, &at, skip)?;
                    plan.dropped.push((number, entry));
                }
            }
        }
        pending.extend(below.into_iter().rev());
    }
    plan.commits.push(commit(root, number));
    fault_point::reach("publish.folder_planned").map_err(|source| PublishError::Read {
        path: root.into(),
        source,
    })?;
    Ok(plan)
}

impl Plan {
    /// Skips an entry of a folder.
    ///
    /// # Errors
    /// [`PublishError::Unreadable`] if it is unreadable and unreadable entries are not to
    /// be skipped.
    pub(super) fn skip(
        &mut self,
        folder: &Folder,
        relative: &[u8],
        skip: Skip,
    ) -> Result<(), PublishError> {
        if skip.why == SkipReason::Unreadable && !self.skip_unreadable {
            return Err(PublishError::Unreadable {
                path: folder.path(relative),
                source: skip.error,
            });
        }
        self.skipped.push(Skipped {
            path: String::from_utf8_lossy(relative).into_owned(),
            why: skip.why,
        });
        Ok(())
    }

    /// Removes entries that turned out to be missing after planning.
    pub(super) fn take_out_dropped(&mut self) {
        let mut dropped = std::mem::take(&mut self.dropped);
        // From the last one, so that the other indices stay valid.
        dropped.sort_unstable_by(|a, b| b.cmp(a));
        dropped.dedup();
        for (directory, entry) in dropped {
            self.directories[directory].entries.remove(entry);
        }
    }

    /// Summary of the skipped entries.
    pub(super) fn skipped_warning(&self) -> Option<String> {
        let count = self.skipped.len();
        let named = self.skipped.iter().take(NAMED);
        let named = named.map(|it| format!("{} ({})", it.path, it.why.word()));
        let named = named.collect::<Vec<_>>().join(", ");
        match count {
            0 => None,
            1 => Some(format!("1 entry of the folder was skipped: {named}")),
            _ if count <= NAMED => Some(format!(
                "{count} entries of the folder were skipped: {named}"
            )),
            _ => Some(format!(
                "{count} entries of the folder were skipped: {named} and {} more; --json lists them",
                count - NAMED
            )),
        }
    }
}

/// Identity of the folder.
pub(super) fn lineage(root: &Path) -> Lineage {
    let commit = commit(root, 0);
    let path = fs::canonicalize(root).ok();
    Lineage {
        default_branch: Bytes::new(),
        branches: vec![(Bytes::new(), CommitId::None)],
        tags: Vec::new(),
        parents: Box::new(|_| None),
        depth: None,
        folder: Some(FolderIdentity {
            path: path.map(|path| path.to_string_lossy().into_owned()),
            described: described(&commit.author.person, &commit.message),
            at: commit.committer.seconds,
        }),
    }
}

/// The synthetic commit of a folder.
fn commit(root: &Path, tree: DirectoryNumber) -> CommitPlan {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".into());
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let name = fs::canonicalize(root)
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "a folder".into());
    let who = Signature {
        person: format!("{user} <{user}@{host}>").into(),
        seconds: unix_seconds() as i64,
        offset_minutes: 0,
    };
    CommitPlan {
        id: CommitId::None,
        tree: TreePlan::New(tree),
        author: who.clone(),
        committer: who,
        message: format!("Snapshot of {name}\n").into_bytes(),
        parents: Vec::new(),
    }
}

/// Adds a directory and its files to the plan; subdirectories stay pending. The inner
/// error means that the directory cannot be listed.
fn directory(
    plan: &mut Plan,
    folder: &Arc<Folder>,
    at: Vec<u8>,
) -> Result<Result<DirectoryNumber, Skip>, PublishError> {
    let listed = match folder.list(&at) {
        Ok(listed) => listed,
        Err(skip) if at.is_empty() => {
            return Err(PublishError::Read {
                path: folder.path(&at),
                source: skip.error,
            });
        }
        Err(skip) => return Ok(Err(skip)),
    };
    let number = plan.directories.len();
    let mut entries = Vec::new();
    for Listed { name, found } in listed {
        if name.eq_ignore_ascii_case(b".git") {
            continue;
        }
        let relative = join(&at, &name);
        check_name(&name).map_err(|why| PublishError::Name {
            path: folder.path(&relative).display().to_string(),
            why,
        })?;
        let (kind, size, content) = match found {
            Ok(Found::Directory) => (Kind::Directory, 0, ContentPlan::Pending),
            Ok(Found::Link(target)) => {
                let size = target.len() as u64;
                (Kind::Symlink, size, ContentPlan::Inline(target))
            }
            Ok(Found::File { size, executable }) => {
                (Kind::File { executable }, size, ContentPlan::Pending)
            }
            Err(skip) => {
                plan.skip(folder, &relative, skip)?;
                continue;
            }
        };
        entries.push(EntryPlan {
            name,
            kind,
            git: None,
            size,
            content,
        });
    }
    check_entries(&at, entries.len())?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for (entry, planned) in entries.iter().enumerate() {
        if let Kind::File { .. } = planned.kind {
            plan.files.push(FileJob {
                source: FileSource::Folder(FolderFile {
                    folder: folder.clone(),
                    relative: join(&at, &planned.name),
                }),
                directory: number,
                entry,
                size: planned.size,
            });
        }
    }
    plan.directories.push(PlannedDirectory {
        path: at,
        entries,
        git: None,
        same_as: None,
    });
    Ok(Ok(number))
}
