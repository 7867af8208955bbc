//! A plain folder as a plan.

use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::PublishError;
use super::git::{check_entries, join};
use super::plan::{
    CommitPlan, ContentPlan, DirectoryNumber, EntryPlan, FileJob, FileSource, Plan,
    PlannedDirectory, TreePlan,
};
use crate::clock::unix_seconds;
use crate::repo::Kind;
use crate::repo::directory::check_name;
use crate::repo::head::{CommitId, Signature};

/// Plans to publish everything below a folder but what is git's own.
pub(super) fn plan(root: &Path) -> Result<Plan, PublishError> {
    let mut plan = Plan::default();
    let number = directory(&mut plan, root, Vec::new())?;
    let mut pending = vec![(number, root.to_owned())];
    while let Some((number, path)) = pending.pop() {
        let mut below = Vec::new();
        for entry in 0..plan.directories[number].entries.len() {
            let directory_plan = &plan.directories[number];
            let found = &directory_plan.entries[entry];
            if found.kind != Kind::Directory {
                continue;
            }
            let child_path = path.join(std::ffi::OsStr::from_bytes(&found.name));
            let at = join(&directory_plan.path, &found.name);
            let child = directory(&mut plan, &child_path, at)?;
            plan.directories[number].entries[entry].content =
                ContentPlan::Tree(TreePlan::New(child));
            below.push((child, child_path));
        }
        pending.extend(below.into_iter().rev());
    }
    plan.commits.push(commit(root, number));
    Ok(plan)
}

/// The commit that a folder has none of.
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

fn directory(plan: &mut Plan, path: &Path, at: Vec<u8>) -> Result<DirectoryNumber, PublishError> {
    let failed = |path: &Path| {
        let path: PathBuf = path.into();
        move |source| PublishError::Read { path, source }
    };
    let number = plan.directories.len();
    let mut entries = Vec::new();
    for found in fs::read_dir(path).map_err(failed(path))? {
        let found = found.map_err(failed(path))?;
        let name = found.file_name().into_vec();
        if name.eq_ignore_ascii_case(b".git") {
            continue;
        }
        check_name(&name).map_err(|why| PublishError::Name {
            path: found.path().display().to_string(),
            why,
        })?;
        let metadata = found.metadata().map_err(failed(&found.path()))?;
        let file_type = metadata.file_type();
        let (kind, size, content) = if file_type.is_dir() {
            (Kind::Directory, 0, ContentPlan::Pending)
        } else if file_type.is_symlink() {
            let target = fs::read_link(found.path()).map_err(failed(&found.path()))?;
            let target = target.into_os_string().into_vec();
            let size = target.len() as u64;
            (Kind::Symlink, size, ContentPlan::Inline(target))
        } else if file_type.is_file() {
            let executable = metadata.permissions().mode() & 0o111 != 0;
            (
                Kind::File { executable },
                metadata.len(),
                ContentPlan::Pending,
            )
        } else {
            plan.warnings.push(format!(
                "{} is a socket, pipe or device and was left out",
                found.path().display()
            ));
            continue;
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
            let source = path.join(std::ffi::OsStr::from_bytes(&planned.name));
            plan.files.push(FileJob {
                source: FileSource::Path(source),
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
    Ok(number)
}
