//! Plans the publish of a plain folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::error::PublishError;
use super::plan::{
    CommitPlan, ContentPlan, DirectoryIndex, DirectoryPlan, EntryPlan, FileJob, FileSource, Plan,
    TreePlan, check_entries, join,
};
use super::source::{EntryType, Folder, FolderFile, Listed};
use crate::repo::{Lineage, PublishedFolder as FolderIdentity, described};
use walgit_durable::fault_point;
use walgit_format::Kind;
use walgit_format::directory::check_name;
use walgit_format::head::{CommitId, Signature};
use walrus_client::clock::unix_seconds;

/// Plans to publish everything below a folder except git's own files. Unreadable entries
/// are errors, unless they are to be skipped.
pub(super) fn plan(root: &Path, skip_unreadable: bool) -> Result<Plan, PublishError> {
    let unreadable = PublishError::read(root);
    let folder = Folder::open(root).map_err(&unreadable)?;
    let mut plan = Plan {
        skip_unreadable,
        ..Plan::default()
    };
    let listed = folder.list(b"").map_err(|skip| unreadable(skip.error))?;
    let root_index = add_directory(&mut plan, &folder, Vec::new(), listed)?;
    let mut pending = vec![root_index];
    while let Some(parent) = pending.pop() {
        let mut children = Vec::new();
        for entry in 0..plan.directories[parent].entries.len() {
            let index = (parent, entry);
            if plan.entry(index).kind != Kind::Directory {
                continue;
            }
            let path = plan.path(index);
            match folder.list(&path) {
                Ok(listed) => {
                    let child = add_directory(&mut plan, &folder, path, listed)?;
                    plan.entry_mut(index).content = ContentPlan::Tree(TreePlan::New(child));
                    children.push(child);
                }
                Err(skip) => {
                    plan.skip(&folder, &path, skip)?;
                    plan.dropped.push(index);
                }
            }
        }
        pending.extend(children.into_iter().rev());
    }
    plan.commits.push(commit(root, root_index));
    fault_point::reach("publish.folder_planned").map_err(unreadable)?;
    Ok(plan)
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
fn commit(root: &Path, tree: DirectoryIndex) -> CommitPlan {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".into());
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let name = fs::canonicalize(root)
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "a folder".into());
    let author = Signature {
        person: format!("{user} <{user}@{host}>").into(),
        seconds: unix_seconds() as i64,
        offset_minutes: 0,
    };
    CommitPlan {
        id: CommitId::None,
        tree: TreePlan::New(tree),
        author: author.clone(),
        committer: author,
        message: format!("Snapshot of {name}\n").into_bytes(),
        parents: Vec::new(),
    }
}

/// Adds a directory and its files to the plan; subdirectories stay pending.
fn add_directory(
    plan: &mut Plan,
    folder: &Arc<Folder>,
    path: Vec<u8>,
    listed: Vec<Listed>,
) -> Result<DirectoryIndex, PublishError> {
    let mut entries = Vec::new();
    for Listed { name, found } in listed {
        if name.eq_ignore_ascii_case(b".git") {
            continue;
        }
        let relative = join(&path, &name);
        check_name(&name)
            .map_err(|why| PublishError::Name(folder.path(&relative).display().to_string(), why))?;
        let (kind, size, content) = match found {
            Ok(EntryType::Directory) => (Kind::Directory, 0, ContentPlan::Pending),
            Ok(EntryType::Link(target)) => {
                let size = target.len() as u64;
                (Kind::Symlink, size, ContentPlan::Inline(target))
            }
            Ok(EntryType::File { size, executable }) => {
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
    check_entries(&path, entries.len())?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let index = plan.directories.len();
    let files = entries.iter().enumerate();
    let files = files.filter(|(_, planned)| matches!(planned.kind, Kind::File { .. }));
    plan.files.extend(files.map(|(entry, planned)| FileJob {
        source: FileSource::Folder(FolderFile {
            folder: folder.clone(),
            relative: join(&path, &planned.name),
        }),
        entry: (index, entry),
        size: planned.size,
    }));
    Ok(plan.push(DirectoryPlan::new(path, entries)))
}
