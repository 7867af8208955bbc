//! Analysis of every file of a folder or git repository.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use gix::objs::tree::EntryKind;
use rayon::prelude::*;

use super::sample::Sample;
use super::verdict::{Analysis, analyze_thoroughly};
use crate::publish::PublishError;
use crate::publish::{git, objects};
use walgit_durable::open_regular;

/// Number of files per batch of analysis.
const BATCH: usize = 256;

/// An analyzed file.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path, relative to the given folder.
    pub path: Vec<u8>,
    /// Its size, in bytes.
    pub size: u64,
    /// Result of the analysis.
    pub analysis: Analysis,
}

/// Callbacks for the progress of a census.
pub trait Watch {
    /// Total number of files found so far.
    fn known(&self, files: u64);
    /// Number of additional files analyzed.
    fn seen(&self, files: u64);
}

/// Analyzes a file, all files of a folder, or all files of the current commit of a git
/// repository: the files that `publish` would store. Samples large files of a folder.
/// Skips symlinks and devices.
///
/// # Errors
/// If anything cannot be read.
pub fn census(
    path: &Path,
    watch: &impl Watch,
    mut each: impl FnMut(Found),
) -> Result<(), PublishError> {
    if git::is_repository(path) {
        return of_commit(path, watch, each);
    }
    let metadata = std::fs::metadata(path).map_err(|source| failed(path, source))?;
    if !metadata.is_dir() {
        watch.known(1);
        let name = path.file_name().unwrap_or(path.as_os_str());
        each(look(path, name.as_bytes().to_vec())?);
        watch.seen(1);
        return Ok(());
    }
    let (mut pending, mut files, mut known) = (vec![path.to_owned()], Vec::new(), 0);
    loop {
        let next = pending.pop();
        if let Some(folder) = &next {
            let before = files.len();
            list(folder, &mut pending, &mut files)?;
            known += (files.len() - before) as u64;
            watch.known(known);
        }
        if files.len() < BATCH && next.is_some() {
            continue;
        }
        let found: Vec<Found> = (files.par_drain(..))
            .map(|file: PathBuf| {
                let below = file.strip_prefix(path).unwrap_or(&file);
                look(&file, below.as_os_str().as_bytes().to_vec())
            })
            .collect::<Result<_, _>>()?;
        watch.seen(found.len() as u64);
        found.into_iter().for_each(&mut each);
        if next.is_none() {
            return Ok(());
        }
    }
}

fn failed(path: &Path, source: std::io::Error) -> PublishError {
    PublishError::Read {
        path: path.into(),
        source,
    }
}

/// Adds the entries of a folder, sorted by name.
fn list(
    folder: &Path,
    folders: &mut Vec<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<(), PublishError> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| failed(folder, source))? {
        let entry = entry.map_err(|source| failed(folder, source))?;
        let kind = entry.file_type();
        let kind = kind.map_err(|source| failed(&entry.path(), source))?;
        entries.push((entry.file_name().into_vec(), entry.path(), kind));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let from = folders.len();
    for (name, path, kind) in entries {
        if kind.is_file() {
            files.push(path);
        } else if kind.is_dir() && !name.eq_ignore_ascii_case(b".git") {
            folders.push(path);
        }
    }
    folders[from..].reverse();
    Ok(())
}

/// Analyzes a file by sampling it.
fn look(file: &Path, path: Vec<u8>) -> Result<Found, PublishError> {
    let told = |source| failed(file, source);
    let opened = open_regular(file).map_err(told)?;
    let size = opened.metadata().map_err(told)?.len();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (at, len) in Sample::ranges(size) {
        let mut part = vec![0; len];
        opened.read_exact_at(&mut part, at).map_err(told)?;
        parts.push(part);
    }
    let sample = Sample::of_parts(size, parts.iter().map(Vec::as_slice).collect());
    let analysis = analyze_thoroughly(&path, &sample);
    Ok(Found {
        path,
        size,
        analysis,
    })
}

/// Analyzes every file of the current commit.
fn of_commit(
    path: &Path,
    watch: &impl Watch,
    mut each: impl FnMut(Found),
) -> Result<(), PublishError> {
    let broken = |why: &dyn std::fmt::Display| PublishError::Git {
        path: path.into(),
        why: why.to_string(),
    };
    let repo = objects::open(path)?;
    let head = repo.head().map_err(|error| broken(&error))?;
    if head.is_unborn() {
        return Err(PublishError::NoCommits(path.into()));
    }
    let root = repo.head_tree_id().map_err(|error| broken(&error))?;
    let (mut pending, mut files) = (vec![(Vec::new(), root.detach())], Vec::new());
    while let Some((at, id)) = pending.pop() {
        let tree = repo.find_tree(id).map_err(|error| broken(&error))?;
        let from = pending.len();
        for entry in tree.iter() {
            let entry = entry.map_err(|error| broken(&error))?;
            let path = git::join(&at, entry.filename());
            match entry.mode().kind() {
                EntryKind::Tree => pending.push((path, entry.oid().to_owned())),
                EntryKind::Blob | EntryKind::BlobExecutable => {
                    files.push((path, entry.oid().to_owned()));
                }
                EntryKind::Link | EntryKind::Commit => {}
            }
        }
        pending[from..].reverse();
        watch.known(files.len() as u64);
    }
    let repo = repo.into_sync();
    for batch in files.chunks(BATCH) {
        let found: Vec<Found> = (batch.par_iter())
            .map_init(
                || repo.to_thread_local(),
                |repo, (path, id)| {
                    let object = repo.find_object(*id).map_err(|error| broken(&error))?;
                    Ok(Found {
                        path: path.clone(),
                        size: object.data.len() as u64,
                        analysis: analyze_thoroughly(path, &Sample::of(&object.data)),
                    })
                },
            )
            .collect::<Result<_, PublishError>>()?;
        watch.seen(found.len() as u64);
        found.into_iter().for_each(&mut each);
    }
    Ok(())
}
