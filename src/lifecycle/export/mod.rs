//! A published history becomes a git repository again.
//!
//! An archive has numbers where git has IDs, so all of them are computed anew:
//! contents first, then trees, each after all that it holds ([`objects`]). They
//! go into one pack as they come ([`pack`], [`index`]); of each only its ID
//! stays in memory ([`numbers`]). Then it is checked that the tree of every
//! commit that a ref leads to is the one that the commit itself names
//! ([`commits`]): as an ID covers all below it, this proves that nothing was
//! lost. At last come refs and `HEAD` ([`layout`]).
//!
//! All this is done in a folder beside the one that was asked for, which is
//! flushed to the disk and renamed when it is complete. Nothing that the repository brings along is run
//! ([`git`]).

mod commits;
mod error;
mod git;
mod index;
mod layout;
mod modes;
mod numbers;
mod objects;
mod pack;
mod sizes;
mod verify;

pub use error::ExportError;
pub use git::{Checkout, fsck};
pub(super) use objects::check_trees;
pub use sizes::Limits;
pub(super) use verify::{Rebuilt, check_names, hash_of};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::repo::Repository;
use crate::repo::archive::Archive;
use commits::{Lines, Reached};
use pack::PackWriter;
use sizes::Size;
use walgit_format::archive::ArchivedRef;
use walgit_format::archive::Segment;
use walgit_format::head::CommitId;
use walgit_format::head::GitId;

/// Where a repository has its packs.
const PACKS: &str = "objects/pack";

/// How to export.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExportOptions {
    /// Without a checkout: the folder itself is the repository.
    pub bare: bool,
    /// Have the `git` program look for deltas: a pack several times smaller.
    pub repack: bool,
    /// The umask that files and folders are to have; `None` leaves them to the
    /// process.
    pub umask: Option<u32>,
    /// Most that is checked out.
    pub limits: Limits,
}

/// What was exported.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// Commits.
    pub commits: u64,
    /// Trees.
    pub trees: u64,
    /// Contents of files.
    pub contents: u64,
    /// Annotated tags.
    pub tags: u64,
    /// Branches and tags.
    pub refs: u64,
    /// Plain bytes of all objects.
    pub bytes: u64,
    /// Bytes of the pack.
    pub pack_bytes: u64,
    /// Whether commits are left out: a shallow repository.
    pub shallow: bool,
    /// What became of the checkout.
    pub checkout: Checkout,
    /// Why the pack is as large as it was written, where it was to be repacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_repacked: Option<String>,
}

/// Tells how many bytes are done, of how many.
struct Progress<'a> {
    tell: &'a (dyn Fn(u64, u64) + Sync),
    done: u64,
    total: u64,
}

impl<'a> Progress<'a> {
    fn new(archive: &Archive, tell: &'a (dyn Fn(u64, u64) + Sync)) -> Self {
        let bytes = archive.segments().iter().map(|it| bytes(it));
        Progress {
            tell,
            done: 0,
            total: bytes.fold(0, u64::saturating_add),
        }
    }

    fn more(&mut self, bytes: u64) {
        self.done += bytes;
        (self.tell)(self.done, self.total);
    }
}

/// Writes the git repository that was published to `dir`, which is not there
/// yet, or empty. Tells `progress` how many bytes are done, of how many.
///
/// Must be called within a runtime of several threads.
///
/// # Errors
/// Whatever kept it from being read or written, or is wrong with it; nothing is
/// left then, nor when the future is dropped.
pub async fn export(
    repository: &Repository,
    dir: &Path,
    options: ExportOptions,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Exported, ExportError> {
    let tip = tip(repository)?;
    let archive = repository.archive().await?;
    let archive = archive.ok_or(ExportError::NoHistory)?;
    let target = Target::new(dir)?;
    let git = match options.bare {
        true => target.path().to_owned(),
        false => target.path().join(".git"),
    };
    let mut done = Exported {
        commits: 0,
        trees: 0,
        contents: 0,
        tags: 0,
        refs: archive.refs().len() as u64,
        bytes: 0,
        pack_bytes: 0,
        shallow: false,
        checkout: Checkout::Bare,
        not_repacked: None,
    };
    layout::begin(&git, hash(&tip), options.bare, &repository.address())?;
    let size = write(repository, archive, &tip, &git, &mut done, progress).await?;
    if !options.bare {
        let commit = &repository.head().commits[0];
        let declared = size.declared.then_some(commit.nodes);
        if let Some(most) = declared.filter(|&nodes| size.tree.entries >= nodes) {
            let found = size.tree.entries;
            return Err(ExportError::Undeclared { found, most });
        }
        size.tree.check(options.limits, target.path())?;
    }
    if options.repack {
        done.not_repacked = git::repack(&git).await.err();
        done.pack_bytes = pack::bytes_in(&git.join(PACKS))?;
    }
    if !options.bare {
        done.checkout = git::check_out(target.path()).await;
    }
    if let Some(umask) = options.umask {
        modes::apply(target.path(), umask).map_err(ExportError::io(target.path()))?;
    }
    target.keep().await?;
    Ok(done)
}

/// The commit that is checked out.
fn tip(repository: &Repository) -> Result<GitId, ExportError> {
    match repository.head().commits.first().map(|commit| &commit.id) {
        Some(CommitId::Git(id)) if !repository.is_implied() => Ok(id.clone()),
        _ => Err(ExportError::NotGit),
    }
}

/// By which hash an ID was made.
fn hash(id: &GitId) -> gix::hash::Kind {
    match id.0.len() {
        32 => gix::hash::Kind::Sha256,
        _ => gix::hash::Kind::Sha1,
    }
}

/// Writes objects and refs into `git`.
async fn write(
    repository: &Repository,
    archive: Arc<Archive>,
    tip: &GitId,
    git: &Path,
    done: &mut Exported,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<TipSize, ExportError> {
    let hash = hash(tip);
    let refs = layout::check_refs(archive.refs())?;
    let head = layout::head(&archive, tip)?;
    let mut pack = PackWriter::create(&git.join(PACKS).join("tmp_pack"), hash)?;
    let unpacked = objects::unpack(&archive, hash, &mut pack, progress).await?;
    (done.trees, done.contents) = (unpacked.trees, unpacked.contents);
    let mut tags = Vec::new();
    for segment in archive.segments() {
        for chunk in &segment.tags {
            tags.extend(objects::tags(&archive, segment, *chunk).await?);
        }
    }
    let checked_out = checked_out(&head, &refs, tip);
    let tree = archive.root_of(&checked_out.0);
    let size = TipSize {
        tree: tree
            .and_then(|root| unpacked.sizes.of(root))
            .unwrap_or_default(),
        declared: checked_out == *tip,
    };
    let stored = repository.git_commits().await?;
    let lines = Lines::new(&archive, hash, &stored, tags)?;
    let mut reached = Reached::default();
    lines.reach("HEAD", tip, &pack, &mut reached)?;
    for reference in &refs {
        let name = String::from_utf8_lossy(&reference.name);
        lines.reach(&name, &reference.id, &pack, &mut reached)?;
    }
    lines.write(
        &archive,
        &stored,
        &reached,
        &unpacked.numbers,
        &mut pack,
        done,
    )?;
    layout::refs(git, &refs, &head, archive.shallow(), &reached)?;
    done.shallow = archive.shallow().iter().any(|it| reached.holds(it));
    done.bytes = pack.bytes();
    done.pack_bytes = pack.finish()?;
    Ok(size)
}

/// What a checkout of `HEAD` would write.
struct TipSize {
    tree: Size,
    /// Whether it is the commit of which the head says how many files it has.
    declared: bool,
}

/// The commit that `HEAD` leads to.
fn checked_out(head: &str, refs: &[&ArchivedRef], tip: &GitId) -> GitId {
    let branch = head.strip_prefix("ref: ");
    let found = branch.and_then(|name| refs.iter().find(|it| it.name == name.as_bytes()));
    found.map_or_else(|| tip.clone(), |found| found.id.clone())
}

/// Plain bytes of a segment's contents and trees.
fn bytes(segment: &Segment) -> u64 {
    let trees = segment.trees.iter().map(|group| group.chunk);
    let groups = trees.chain(segment.contents.iter().map(|group| group.chunk));
    let grouped: u64 = groups
        .map(|chunk| u64::from(segment.chunks[chunk].raw_len))
        .sum();
    let runs = segment.files.iter().map(|run| objects::len(segment, *run));
    grouped.saturating_add(runs.fold(0, u64::saturating_add))
}

/// A folder that appears whole or not at all.
struct Target {
    dir: PathBuf,
    temporary: tempfile::TempDir,
}

impl Target {
    fn new(dir: &Path) -> Result<Self, ExportError> {
        // Where it is a link to an empty folder, that folder is meant.
        let dir = match dir.canonicalize() {
            Ok(found) => found,
            Err(_) if dir.is_symlink() => return Err(ExportError::Exists(dir.into())),
            Err(_) => dir.to_owned(),
        };
        match std::fs::read_dir(&dir) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(ExportError::Exists(dir));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(ExportError::Exists(dir));
            }
            Err(error) => return Err(ExportError::io(&dir)(error)),
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        std::fs::create_dir_all(&parent).map_err(ExportError::io(&parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(".walgit-fs-export-")
            .tempdir_in(&parent)
            .map_err(ExportError::io(&parent))?;
        Ok(Target { dir, temporary })
    }

    fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// It is complete: gives it its name.
    async fn keep(self) -> Result<(), ExportError> {
        // A folder that was there keeps its permissions.
        if let Ok(there) = std::fs::metadata(&self.dir) {
            let set = std::fs::set_permissions(self.path(), there.permissions());
            set.map_err(ExportError::io(self.path()))?;
        }
        let (from, to) = (self.path().to_owned(), self.dir.clone());
        let placed =
            tokio::task::spawn_blocking(move || walgit_durable::place_dir(&from, &to)).await;
        placed
            .map_err(|_| ExportError::Interrupted)?
            .map_err(ExportError::io(&self.dir))?;
        // It is not there any more to be removed.
        let _ = self.temporary.keep();
        Ok(())
    }
}
