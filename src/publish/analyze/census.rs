//! Analysis of every file of a folder or git repository.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use gix::objs::tree::EntryKind;
use rayon::prelude::*;

use super::analysis::{Analysis, analyze_thoroughly};
use super::sample::Sample;
use crate::publish::error::PublishError;
use crate::publish::plan::join;
use crate::publish::{git, git_objects};
use walgit_durable::open_regular;

/// Number of files per batch of analysis.
const BATCH_FILES: usize = 256;

/// An analyzed file.
#[derive(Clone, Debug)]
pub struct AnalyzedFile {
    /// Its path, relative to the given folder.
    pub path: Vec<u8>,
    /// Its size, in bytes.
    pub size: u64,
    /// Result of the analysis.
    pub analysis: Analysis,
}

/// Callbacks for the progress of a census.
pub trait CensusProgress {
    /// Total number of files found so far.
    fn found(&self, _files: u64) {}
    /// Number of additional files analyzed.
    fn analyzed(&self, _files: u64) {}
}

/// Analyzes a file, all files of a folder, or all files of the current commit of a git
/// repository: the files that `publish` would store. Samples large files of a folder.
/// Skips symlinks and devices.
///
/// # Errors
/// If anything cannot be read.
pub fn census(
    path: &Path,
    progress: &impl CensusProgress,
    mut each: impl FnMut(AnalyzedFile),
) -> Result<(), PublishError> {
    if git::is_repository(path) {
        return of_commit(path, progress, each);
    }
    let metadata = std::fs::metadata(path).map_err(PublishError::read(path))?;
    if !metadata.is_dir() {
        progress.found(1);
        let name = path.file_name().unwrap_or(path.as_os_str());
        each(analyze_file(path, name.as_bytes().to_vec())?);
        progress.analyzed(1);
        return Ok(());
    }
    let (mut pending, mut files, mut known) = (vec![path.to_owned()], Vec::new(), 0);
    loop {
        let next = pending.pop();
        if let Some(folder) = &next {
            let before = files.len();
            list(folder, &mut pending, &mut files)?;
            known += (files.len() - before) as u64;
            progress.found(known);
        }
        if files.len() < BATCH_FILES && next.is_some() {
            continue;
        }
        let found: Vec<AnalyzedFile> = (files.par_drain(..))
            .map(|file: PathBuf| {
                let below = file.strip_prefix(path).unwrap_or(&file);
                analyze_file(&file, below.as_os_str().as_bytes().to_vec())
            })
            .collect::<Result<_, _>>()?;
        progress.analyzed(found.len() as u64);
        found.into_iter().for_each(&mut each);
        if next.is_none() {
            return Ok(());
        }
    }
}

/// Adds the entries of a folder, sorted by name.
fn list(
    folder: &Path,
    folders: &mut Vec<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<(), PublishError> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(PublishError::read(folder))? {
        let entry = entry.map_err(PublishError::read(folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(PublishError::read(&path))?;
        entries.push((entry.file_name().into_vec(), path, kind));
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
fn analyze_file(file: &Path, path: Vec<u8>) -> Result<AnalyzedFile, PublishError> {
    let unreadable = PublishError::read(file);
    let opened = open_regular(file).map_err(&unreadable)?;
    let size = opened.metadata().map_err(&unreadable)?.len();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (at, len) in Sample::ranges(size) {
        let mut part = vec![0; len];
        opened.read_exact_at(&mut part, at).map_err(&unreadable)?;
        parts.push(part);
    }
    let sample = Sample::of_parts(size, parts.iter().map(Vec::as_slice).collect());
    let analysis = analyze_thoroughly(&path, &sample);
    Ok(AnalyzedFile {
        path,
        size,
        analysis,
    })
}

/// Analyzes every file of the current commit.
fn of_commit(
    path: &Path,
    progress: &impl CensusProgress,
    mut each: impl FnMut(AnalyzedFile),
) -> Result<(), PublishError> {
    let failed = |why: &dyn std::fmt::Display| PublishError::Git(path.into(), why.to_string());
    let repo = git_objects::open(path)?;
    let head = repo.head().map_err(|error| failed(&error))?;
    if head.is_unborn() {
        return Err(PublishError::NoCommits(path.into()));
    }
    let root = repo.head_tree_id().map_err(|error| failed(&error))?;
    let (mut pending, mut files) = (vec![(Vec::new(), root.detach())], Vec::new());
    while let Some((at, id)) = pending.pop() {
        let tree = repo.find_tree(id).map_err(|error| failed(&error))?;
        let from = pending.len();
        for entry in tree.iter() {
            let entry = entry.map_err(|error| failed(&error))?;
            let path = join(&at, entry.filename());
            match entry.mode().kind() {
                EntryKind::Tree => pending.push((path, entry.oid().to_owned())),
                EntryKind::Blob | EntryKind::BlobExecutable => {
                    files.push((path, entry.oid().to_owned()));
                }
                EntryKind::Link | EntryKind::Commit => {}
            }
        }
        pending[from..].reverse();
        progress.found(files.len() as u64);
    }
    let repo = repo.into_sync();
    for batch in files.chunks(BATCH_FILES) {
        let found: Vec<AnalyzedFile> = (batch.par_iter())
            .map_init(
                || repo.to_thread_local(),
                |repo, (path, id)| {
                    let object = repo.find_object(*id).map_err(|error| failed(&error))?;
                    Ok(AnalyzedFile {
                        path: path.clone(),
                        size: object.data.len() as u64,
                        analysis: analyze_thoroughly(path, &Sample::of(&object.data)),
                    })
                },
            )
            .collect::<Result<_, PublishError>>()?;
        progress.analyzed(found.len() as u64);
        found.into_iter().for_each(&mut each);
    }
    Ok(())
}
