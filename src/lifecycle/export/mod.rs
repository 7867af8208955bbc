//! Export of a published history as a git repository.
//!
//! An archive refers to objects by number instead of git ID, so an export computes all
//! IDs again: contents first, then trees, each after everything it holds ([`objects`]).
//! They are appended to one pack ([`pack`], [`index`]); only the ID of each stays in
//! memory ([`object_table`]). Then the tree of every reachable commit is compared with the ID
//! that the commit names ([`commits`]): an ID covers everything below, so this proves
//! that nothing was lost. Finally refs and `HEAD` are written ([`layout`]).
//!
//! The export is written to a temporary folder beside the destination, which is flushed
//! to disk and renamed when complete. No code that comes with the repository is executed
//! ([`git`]).

mod commits;
mod error;
mod git;
mod index;
mod layout;
mod modes;
mod object_table;
mod objects;
mod pack;
mod sizes;
mod verify;

pub use error::ExportError;
pub use git::{CheckoutOutcome, fsck};
pub(super) use objects::check_trees;
pub use sizes::CheckoutLimits;
pub(super) use verify::{RebuiltHistory, check_ref_names, hash_kind, hash_of};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::repo::Repository;
use crate::repo::archive::Archive;
use commits::{CommitGraph, ReachableObjects};
use pack::PackWriter;
use sizes::Size;
use walgit_format::archive::ArchivedRef;
use walgit_format::head::GitId;

/// Options of an export.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExportOptions {
    /// Skips the checkout: the folder itself becomes the repository.
    pub bare: bool,
    /// Lets `git` find deltas, which makes the pack several times smaller.
    pub repack: bool,
    /// The umask for files and folders; `None` keeps that of the process.
    pub umask: Option<u32>,
    /// Limits of the checkout.
    pub limits: CheckoutLimits,
}

/// Summary of an export.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exported {
    /// Number of commits.
    pub commits: u64,
    /// Number of trees.
    pub trees: u64,
    /// Number of file contents.
    pub contents: u64,
    /// Number of annotated tags.
    pub tags: u64,
    /// Number of branches and tags.
    pub refs: u64,
    /// Plain bytes of all objects.
    pub bytes: u64,
    /// Size of the pack in bytes.
    pub pack_bytes: u64,
    /// Whether commits are omitted: a shallow repository.
    pub shallow: bool,
    /// Result of the checkout.
    pub checkout: CheckoutOutcome,
    /// The reason why a requested repack failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_repacked: Option<String>,
}

/// Writes the published git repository to `dir`, which must be empty or not exist.
/// Reports to `progress` the bytes that are done, and the total.
///
/// Must be called within a multi-threaded runtime.
///
/// # Errors
/// When something cannot be read or written, or the repository is damaged; nothing
/// remains then, nor when the future is dropped.
pub async fn export(
    repository: &Repository,
    dir: &Path,
    options: ExportOptions,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Exported, ExportError> {
    let tip = verify::tip(repository)?;
    let archive = repository.archive().await?;
    let archive = archive.ok_or(ExportError::NoHistory)?;
    let target = ExportDir::new(dir)?;
    let mut git = target.path().to_owned();
    if !options.bare {
        git.push(".git");
    }
    let mut done = Exported {
        refs: archive.refs().len() as u64,
        ..Exported::default()
    };
    layout::begin(
        &git,
        verify::hash_kind(&tip),
        options.bare,
        &repository.address(),
    )?;
    let size = write(repository, archive, &tip, &git, &mut done, progress).await?;
    if !options.bare {
        let commit = &repository.head().commits[0];
        let declared = size.declared.then_some(commit.nodes);
        if let Some(limit) = declared.filter(|&nodes| size.tree.entries >= nodes) {
            let found = size.tree.entries;
            return Err(ExportError::Undeclared { found, limit });
        }
        size.tree.check(options.limits, target.path())?;
    }
    if options.repack {
        done.not_repacked = git::repack(&git).await.err();
        done.pack_bytes = pack::bytes_in(&git.join(pack::PACK_DIR))?;
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

/// Writes objects and refs into `git`.
async fn write(
    repository: &Repository,
    archive: Arc<Archive>,
    tip: &GitId,
    git: &Path,
    done: &mut Exported,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<TipSize, ExportError> {
    let hash = verify::hash_kind(tip);
    let refs = layout::check_refs(archive.refs())?;
    let head = layout::head(&archive, tip)?;
    let mut pack = PackWriter::create(&git.join(pack::PACK_DIR).join("tmp_pack"), hash)?;
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
        tree: (tree.and_then(|root| unpacked.objects.tree_size(root))).unwrap_or_default(),
        declared: checked_out == *tip,
    };
    let stored = repository.git_commits().await?;
    let graph = CommitGraph::new(&archive, hash, &stored, tags)?;
    let mut reached = ReachableObjects::default();
    graph.reach("HEAD", tip, &pack, &mut reached)?;
    for reference in &refs {
        let name = String::from_utf8_lossy(&reference.name);
        graph.reach(&name, &reference.id, &pack, &mut reached)?;
    }
    (done.commits, done.tags) =
        graph.write(&archive, &stored, &reached, &unpacked.objects, &mut pack)?;
    layout::refs(git, &refs, &head, archive.shallow(), &reached)?;
    done.shallow = archive.shallow().iter().any(|it| reached.holds(it));
    done.bytes = pack.bytes();
    done.pack_bytes = pack.finish()?;
    Ok(size)
}

/// Size of a checkout of `HEAD`.
struct TipSize {
    tree: Size,
    /// Whether this is the commit for which the head declares a file count.
    declared: bool,
}

/// Returns the commit that `HEAD` resolves to.
fn checked_out(head: &str, refs: &[&ArchivedRef], tip: &GitId) -> GitId {
    let branch = head.strip_prefix("ref: ");
    let found = branch.and_then(|name| refs.iter().find(|it| it.name == name.as_bytes()));
    found.map_or_else(|| tip.clone(), |found| found.id.clone())
}

/// A folder that appears atomically.
struct ExportDir {
    dir: PathBuf,
    temporary: tempfile::TempDir,
}

impl ExportDir {
    fn new(dir: &Path) -> Result<Self, ExportError> {
        // A link to an empty folder stands for that folder.
        let dir = match dir.canonicalize() {
            Ok(found) => found,
            Err(_) if dir.is_symlink() => return Err(ExportError::Exists(dir.into())),
            Err(_) => dir.to_owned(),
        };
        match std::fs::read_dir(&dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(ExportError::Exists(dir)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(ExportError::Exists(dir));
            }
            Err(error) => return Err(ExportError::io(&dir)(error)),
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).to_owned();
        std::fs::create_dir_all(&parent).map_err(ExportError::io(&parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(".walgit-fs-export-")
            .tempdir_in(&parent)
            .map_err(ExportError::io(&parent))?;
        Ok(ExportDir { dir, temporary })
    }

    fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Renames the complete folder to its final name.
    async fn keep(self) -> Result<(), ExportError> {
        // An existing folder keeps its permissions.
        if let Ok(there) = std::fs::metadata(&self.dir) {
            let set = std::fs::set_permissions(self.path(), there.permissions());
            set.map_err(ExportError::io(self.path()))?;
        }
        let (from, to) = (self.path().to_owned(), self.dir.clone());
        let place = tokio::task::spawn_blocking(move || walgit_durable::place_dir(&from, &to));
        let placed = place.await.map_err(|_| ExportError::Interrupted)?;
        placed.map_err(ExportError::io(&self.dir))?;
        // The folder has been renamed, so there is nothing to remove.
        let _ = self.temporary.keep();
        Ok(())
    }
}
