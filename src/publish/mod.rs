//! Publishing of git repositories and folders.
//!
//! 1. **Plan** ([`git`], [`folder`], [`remote`] for a repository in a foreign format):
//!    the tree as a list of directories, and the files whose content is needed.
//!    Content that an earlier publish stored ([`known`]) is reused: whole subtrees by
//!    git ID, files by git ID, directories by content, chunks by hash. The history
//!    yields statistics of files that change together ([`together`]), a hint for
//!    readers without a learned profile.
//! 2. **Content** ([`content`], [`pieces`], [`packs`]): files are read in tree order,
//!    chunked, hashed and compressed on all cores, as patches if they are versions of
//!    stored content or resemble it ([`delta`], [`sketch`]), and packed into blobs of
//!    at most the publisher's body limit. Full packs are uploaded while the next ones
//!    fill ([`upload`]). The remaining objects of a git history are stored likewise
//!    ([`history`]).
//! 3. **Nodes** ([`nodes`]): chunk lists and directories are written, deepest first,
//!    then the head. They share the last pack, so a small change, or a small
//!    repository, is a single blob.
//!
//! The head's blob is uploaded last, once all blobs that it refers to are confirmed.
//! Equal input yields identical packs (encrypted or not, see [`upload`]). A publish after
//! an interrupted one therefore computes the same blob IDs, finds the stored blobs, and
//! resumes.
//!
//! [`analyze`] classifies files and determines whether they compress; [`tier`] decides
//! where they are stored. [`mod@rewrite`] compacts a published head.
//!
//! May depend on: `repo`, `leases`.

pub mod analyze;
mod blobs;
mod compare;
mod compress;
mod content;
mod delta;
mod dictionaries;
mod error;
mod folder;
mod git;
mod history;
mod known;
mod lineage;
mod nodes;
mod objects;
mod packs;
mod pieces;
mod placed;
mod plan;
mod remote;
mod rewrite;
mod sketch;
mod source;
pub mod tier;
mod together;
mod upload;

pub use compare::{Compared, compare};
pub use error::PublishError;
pub use history::{HistoryDepth, HistoryReport};
pub use lineage::lineage;
pub use remote::Replaced;
pub use rewrite::{Rewrite, TierMover, move_for, same};
pub use source::{SkipReason, Skipped};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::config::Tiers;
use crate::leases::Lease;
use crate::repo::{Access, Loader, Repository};
use compress::Compression;
pub use compress::Effort;
use history::Archived;
use known::Known;
use packs::Packs;
use placed::Placed;
use plan::Plan;
use upload::Uploads;
use walgit_format::chunk::{BlobId, ChunkHash, SecretKey};
use walgit_format::head::AttachmentKind;
use walrus_client::{BlobStore, PrivateHeaders, PrivateStore, PutOptions, StoredBlob};
use walrus_encoding::cost;

/// Maximum number of packs that wait for their upload.
const WAITING_PACKS: usize = 2;

/// Input of a publish.
#[derive(Clone, Debug)]
pub enum Input {
    /// A git repository or a folder.
    Path(PathBuf),
    /// A repository in a foreign format, with its entire history.
    Repository(Repository),
    /// A head to compact.
    Rewrite(Rewrite),
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Input {
    fn from(path: &P) -> Self {
        Input::Path(path.as_ref().into())
    }
}

/// Options of a publish.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Branches of a git repository, the default branch first; if empty, the current
    /// branch.
    pub branches: Vec<String>,
    /// Storage options of blobs.
    pub put: PutOptions,
    /// Compression effort.
    pub effort: Effort,
    /// Layout of files.
    pub tiers: Tiers,
    /// Depth of the git history to publish.
    pub history: HistoryDepth,
    /// Whether to skip unreadable files of a plain folder.
    pub skip_unreadable: bool,
    /// The previously published head, whose content is reused.
    pub previous: Option<(BlobId, Option<ChunkHash>)>,
    /// The learned profile to ship.
    pub learned: Learned,
    /// Encryption key; without one, the publish is public.
    pub key: Option<SecretKey>,
    /// Claims the blobs that are about to be created.
    pub lease: Option<Arc<Lease>>,
}

/// The learned profile of file opens that a repository ships.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Learned {
    /// The previous one.
    #[default]
    AsBefore,
    /// No profile.
    Nothing,
    /// This profile, of at most [`MAX_SHIPPED`](walgit_format::head::MAX_SHIPPED)
    /// bytes.
    This(Vec<u8>),
}

/// Callbacks for the progress of a publish.
pub trait Progress: Send + Sync {
    /// Total files and bytes to read.
    fn total(&self, files: u64, bytes: u64);
    /// Additional files and bytes that were read.
    fn read(&self, files: u64, bytes: u64);
    /// An upload of this many bytes starts.
    fn uploading(&self, bytes: u64);
    /// Number of commits compared with their parents.
    fn compared(&self, commits: u64);
    /// Number of objects of the history stored, and their total; 0 while they are still
    /// being counted.
    fn history(&self, objects: u64, of: u64);
}

/// A [`Progress`] that does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn total(&self, _: u64, _: u64) {}
    fn read(&self, _: u64, _: u64) {}
    fn uploading(&self, _: u64) {}
    fn compared(&self, _: u64) {}
    fn history(&self, _: u64, _: u64) {}
}

/// Result of a publish.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    /// The blob that starts with the head.
    pub blob: BlobId,
    /// The hash of the head, or its keyed hash if encrypted: the `root` of its address.
    pub root: ChunkHash,
    /// Whether everything, including the head, was stored already.
    pub unchanged: bool,
    /// Files and symlinks in the published trees.
    pub files: u64,
    /// Directories in the published trees.
    pub directories: u64,
    /// Bytes of content read.
    pub bytes_read: u64,
    /// Bytes uploaded.
    pub bytes_stored: u64,
    /// Bytes that the network bills for them.
    pub bytes_billed: u64,
    /// Number of uploaded blobs.
    pub blobs_uploaded: u64,
    /// Number of blobs of this head that the store had already.
    pub blobs_present: u64,
    /// All blobs of the publish, the head's last.
    pub blobs: Vec<StoredBlob>,
    /// Omitted content, with reasons.
    pub warnings: Vec<String>,
    /// Skipped entries of a plain folder.
    pub skipped: Vec<Skipped>,
    /// Archived git history.
    pub history: Option<HistoryReport>,
    /// Cost of its former layout, if it had one.
    #[serde(rename = "former")]
    pub replaced: Option<Replaced>,
}

impl Published {
    /// The current epoch, derived from blobs that were just stored for `epochs` epochs.
    pub fn epoch(&self, epochs: u32) -> Option<u32> {
        let ends = self.blobs.iter().filter_map(|blob| blob.end_epoch);
        // Blobs that existed already may end later.
        let first = ends.min().filter(|_| self.blobs_uploaded > 0)?;
        first.checked_sub(epochs)
    }
}

/// Publishes `input`.
///
/// # Errors
/// If anything cannot be read or stored; the previous head is unaffected.
pub async fn publish(
    input: impl Into<Input>,
    options: &PublishOptions,
    store: Arc<dyn BlobStore>,
    loader: Arc<Loader>,
    progress: Arc<dyn Progress>,
) -> Result<Published, PublishError> {
    let access = Access::with_key(store.clone(), options.key.clone());
    let private = options.key.as_ref().map(|key| {
        let headers = Arc::new(PrivateHeaders::default());
        Arc::new(PrivateStore::new(store.clone(), key, headers))
    });
    let store: Arc<dyn BlobStore> = match &private {
        Some(private) => private.clone(),
        None => store,
    };
    let known = match options.previous {
        Some((blob, root)) => known::load(&loader, &access, blob, root).await?,
        None => Known::default(),
    };
    let work = Work {
        input: input.into(),
        options: options.clone(),
        max_body: store.max_body(),
        progress: progress.clone(),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(WAITING_PACKS);
    let uploads = Uploads::new(store, options.put.clone(), options.lease.clone(), progress);
    let uploading = {
        let uploads = uploads.clone();
        tokio::spawn(async move { uploads.run(receiver).await })
    };
    let planned = blocking(move || work.plan_and_pack(known, sender)).await;
    let packs = uploading.await.map_err(|error| ended(&error))?;
    // If both fail, report the upload's error: it caused the other.
    let ids = packs?;
    let packed = planned?;
    if let Some(unchanged) = packed.unchanged() {
        return Ok(unchanged);
    }
    let store = uploads.store().clone();
    let sealing = store.clone();
    let written = blocking(move || nodes::write(packed, &ids, sealing.as_ref())).await?;
    for blob in written.spilled {
        uploads.put(blob.0, blob.1).await?;
    }
    uploads.put(written.blob, written.bytes).await?;
    // A name must not survive a power loss without its target.
    store.flush().await?;
    let done = uploads.finish();
    let stored = |f: fn(&StoredBlob) -> u64| done.uploaded.iter().map(f).sum();
    Ok(Published {
        blob: written.blob,
        root: private.map_or(written.head, |private| private.root(&written.head)),
        unchanged: false,
        files: written.files,
        directories: written.directories,
        bytes_read: written.bytes_read,
        bytes_stored: stored(|blob| blob.len),
        bytes_billed: stored(|blob| cost::encoded_size(blob.len)),
        blobs_uploaded: done.uploaded.len() as u64,
        blobs_present: done.present,
        blobs: done.all,
        warnings: written.warnings,
        skipped: written.skipped,
        history: written.history,
        replaced: written.replaced,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ended(&error))?
}

/// Reason why a task ended without a result.
fn ended(error: &tokio::task::JoinError) -> PublishError {
    match error.is_panic() {
        true => PublishError::Internal("a task panicked"),
        false => PublishError::Interrupted,
    }
}

/// Parameters of the thread that reads and packs.
struct Work {
    input: Input,
    options: PublishOptions,
    max_body: u64,
    progress: Arc<dyn Progress>,
}

/// A plan whose content is packed; all packs but the last are being uploaded.
struct Packed {
    plan: Plan,
    known: Known,
    packs: Packs,
    attached: Vec<(AttachmentKind, Vec<Placed>)>,
    bytes_read: u64,
    archived: Option<Archived>,
    effort: Effort,
}

impl Work {
    fn plan_and_pack(
        self,
        known: Known,
        sender: tokio::sync::mpsc::Sender<Bytes>,
    ) -> Result<Packed, PublishError> {
        if let Input::Rewrite(rewrite) = &self.input {
            let packs = Packs::new(self.max_body, sender);
            return rewrite::pack(rewrite, &self.options.tiers, packs, &*self.progress);
        }
        let mut plan = match &self.input {
            Input::Rewrite(_) => {
                return Err(PublishError::Internal("a rewrite is planned twice"));
            }
            Input::Repository(from) => {
                tokio::runtime::Handle::current().block_on(remote::plan(from))?
            }
            Input::Path(path) if git::is_repository(path) => {
                let options = &self.options;
                git::plan(path, &options.branches, options.history, &known)?
            }
            Input::Path(path) if !self.options.branches.is_empty() => {
                return Err(PublishError::NotGit(path.clone()));
            }
            Input::Path(path) => folder::plan(path, self.options.skip_unreadable)?,
        };
        plan.learned = self.options.learned.clone();
        let mut packs = Packs::new(self.max_body, sender);
        let mut bytes_read = 0;
        let (mut attached, mut archived) = (Vec::new(), None);
        if !plan.is_known(&known) {
            let (effort, progress) = (self.options.effort, &*self.progress);
            // Before all content, so that the first read includes it if space permits.
            if let Some(prior) = plan.prior(&known, progress) {
                let placed = packs.add_raw(&prior, effort.beside(), &known)?;
                attached.push((AttachmentKind::Prior, vec![placed]));
            }
            let how = Compression::prepare(&plan, &known, &mut packs, effort)?;
            attached.extend(how.attached(&known));
            bytes_read = content::fill(
                &mut plan,
                &mut packs,
                &known,
                &how,
                &self.options.tiers,
                progress,
            )?;
            if let Some(history) = &plan.history {
                let done = history.archive(&plan, &known, &how, &mut packs, progress)?;
                archived = Some(done);
            }
            if plan.remote.is_none() {
                plan.reuse_directories(&known);
            }
        }
        match plan.is_known(&known) {
            true => packs.abandon(),
            false => {
                for (kind, chunks) in std::mem::take(&mut plan.attachments) {
                    let level = self.options.effort.history();
                    let placed = chunks.iter().map(|raw| packs.add_raw(raw, level, &known));
                    attached.push((kind, placed.collect::<Result<_, _>>()?));
                }
                if let Some(learned) = plan.learned(&known) {
                    let placed = packs.add_raw(&learned, self.options.effort.beside(), &known)?;
                    attached.push((AttachmentKind::Learned, vec![placed]));
                }
            }
        }
        packs.hang_up();
        Ok(Packed {
            plan,
            known,
            packs,
            attached,
            bytes_read,
            archived,
            effort: self.options.effort,
        })
    }
}

impl Packed {
    /// Result if the previous head equals that of this plan.
    fn unchanged(&self) -> Option<Published> {
        let previous = self
            .known
            .previous()
            .filter(|_| self.plan.is_known(&self.known))?;
        let (files, directories) = self.plan.counts(&self.known);
        let (blob, root) = previous.blob().zip(previous.root())?;
        Some(Published {
            blob,
            root,
            unchanged: true,
            files,
            directories,
            bytes_read: self.bytes_read,
            bytes_stored: 0,
            bytes_billed: 0,
            blobs_uploaded: 0,
            blobs_present: previous.head().blobs.len() as u64 + 1,
            blobs: Vec::new(),
            history: (self.plan.history.as_ref()).map(|history| HistoryReport {
                commits: history.commits.len() as u64,
                ..HistoryReport::default()
            }),
            warnings: self.plan.all_warnings(),
            skipped: self.plan.skipped.clone(),
            replaced: self.plan.replaced(),
        })
    }
}
