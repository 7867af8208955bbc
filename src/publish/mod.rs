//! Publishing of git repositories and folders.
//!
//! 1. **Plan** ([`git`], [`folder`], [`foreign`] for a repository in a foreign format):
//!    the tree as a list of directories, and the files whose content is needed.
//!    Content that an earlier publish stored ([`previous_publish`]) is reused ([`reuse`]):
//!    whole subtrees by git ID, files by git ID, directories by content, chunks by hash.
//!    The history yields statistics of files that change together ([`co_change`]), a hint
//!    for readers without a learned profile.
//! 2. **Content** ([`content`], [`chunk_writer`], [`packs`]): files are read in tree order,
//!    cut into chunks, hashed and compressed on all cores. A new version of stored
//!    content, or content that resembles it, is stored as a patch ([`delta`], [`sketch`]).
//!    Chunks are packed into blobs of at most the publisher's body limit. Full packs are
//!    uploaded while the next ones fill ([`upload`]). The remaining objects of a git
//!    history are stored likewise ([`history`]).
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
//! where they are stored. [`compact`] compacts a published head.
//!
//! May depend on: `repo`, `leases`, `config`.

pub mod analyze;
mod batch;
mod chunk_writer;
mod chunking;
mod co_change;
mod compact;
mod compare;
mod compress;
mod content;
mod delta;
mod dictionaries;
mod effort;
mod error;
mod file_reader;
mod folder;
mod foreign;
mod foreign_source;
mod git;
mod git_objects;
mod history;
mod node_blobs;
mod nodes;
mod options;
mod packed;
mod packs;
mod pending_chunk;
mod plan;
mod previous_publish;
mod reuse;
mod sketch;
mod source;
pub mod tier;
mod tree_reader;
mod upload;

pub use compact::{CompactionInput, Retiering, better_tier, verify_equal};
pub use compare::{Comparison, compare};
pub use effort::Effort;
pub use error::PublishError;
pub use foreign_source::FormerLayout;
pub use history::commits::{HistoryDepth, HistoryReport};
pub use options::{NoProgress, Progress, PublishOptions, ShippedProfile};
pub use packed::Published;
pub use source::{SkipReason, Skipped};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::repo::{Access, Lineage, Loader, Repository};
use compress::Compression;
use packed::PackedPlan;
use packs::Packs;
use previous_publish::PreviousPublish;
use upload::{Uploads, blocking, joined};
use walgit_format::head::AttachmentKind;
use walrus_client::{BlobStore, EncryptedHeaders, EncryptedStore, StoredBlob};
use walrus_encoding::cost;

/// Maximum number of packs that wait for their upload.
const MAX_WAITING_PACKS: usize = 2;

/// Input of a publish.
#[derive(Clone, Debug)]
pub enum Input {
    /// A git repository or a folder.
    Path(PathBuf),
    /// A repository in a foreign format, with its entire history.
    Repository(Repository),
    /// A head to compact.
    Compaction(CompactionInput),
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Input {
    fn from(path: &P) -> Self {
        Input::Path(path.as_ref().into())
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
        let headers = Arc::new(EncryptedHeaders::default());
        Arc::new(EncryptedStore::new(store.clone(), key, headers))
    });
    let store: Arc<dyn BlobStore> = match &private {
        Some(private) => private.clone(),
        None => store,
    };
    let mut previous = match options.previous {
        Some((blob, root)) => previous_publish::load(&loader, &access, blob, root).await?,
        None => PreviousPublish::default(),
    };
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(MAX_WAITING_PACKS);
    let chunks = std::mem::take(&mut previous.chunks);
    let mut packs = Packs::new(store.max_body(), sender, chunks);
    let uploads = Uploads {
        store: store.clone(),
        options: options.put.clone(),
        lease: options.lease.clone(),
        progress: progress.clone(),
        summary: Arc::default(),
    };
    let uploading = {
        let uploads = uploads.clone();
        tokio::spawn(async move { uploads.run(receiver).await })
    };
    let (input, pack_options) = (input.into(), options.clone());
    let planned = blocking(move || {
        let packed = plan_and_pack(&input, &pack_options, previous, &mut packs, &*progress)?;
        packs.end_uploads();
        Ok((packed, packs))
    })
    .await;
    // If both fail, report the upload's error: it caused the other.
    let ids = joined(uploading.await)?;
    let (packed, packs) = planned?;
    if let Some(unchanged) = packed.unchanged() {
        return Ok(unchanged);
    }
    let sealing = store.clone();
    let written = blocking(move || nodes::write(&packed, packs, &ids, sealing.as_ref()));
    let (blobs, report) = written.await?;
    for (id, body) in blobs {
        uploads.put(id, body).await?;
    }
    // A name must not survive a power loss without its target.
    store.flush().await?;
    let done = uploads.summary();
    let sum = |bytes: fn(&StoredBlob) -> u64| done.uploaded.iter().map(bytes).sum();
    Ok(Published {
        root: private.map_or(report.root, |private| private.root(&report.root)),
        bytes_stored: sum(|blob| blob.len),
        bytes_billed: sum(|blob| cost::encoded_size(blob.len)),
        blobs_uploaded: done.uploaded.len() as u64,
        blobs_present: done.present,
        blobs: done.all,
        ..report
    })
}

/// Branch positions of the content that would be published from a path, with the given
/// depth of history, for checking moves of its name.
///
/// # Errors
/// If anything cannot be read.
pub fn lineage(
    path: &Path,
    branches: &[String],
    depth: HistoryDepth,
) -> Result<Lineage, PublishError> {
    if git::is_repository(path) {
        git::lineage(path, branches, depth)
    } else {
        Ok(folder::lineage(path))
    }
}

/// Plans a publish, and stores its content in packs.
fn plan_and_pack(
    input: &Input,
    options: &PublishOptions,
    previous: PreviousPublish,
    packs: &mut Packs,
    progress: &dyn Progress,
) -> Result<PackedPlan, PublishError> {
    let mut plan = match input {
        Input::Compaction(compaction) => {
            return compact::pack(compaction, &options.tiers, packs, progress);
        }
        Input::Repository(from) => Handle::current().block_on(foreign::plan(from))?,
        Input::Path(path) if git::is_repository(path) => {
            git::plan(path, &options.branches, options.history, &previous)?
        }
        Input::Path(path) if !options.branches.is_empty() => {
            return Err(PublishError::NotGit(path.clone()));
        }
        Input::Path(path) => folder::plan(path, options.skip_unreadable)?,
    };
    plan.profile = options.profile.clone();
    let (effort, attachment_level) = (options.effort, options.effort.attachment_level());
    let mut bytes_read = 0;
    let (mut attachments, mut archived) = (Vec::new(), None);
    if !plan.is_published(&previous) {
        // Before all content, so that the first read includes it if space permits.
        if let Some(prior) = plan.prior(&previous, progress) {
            let stored = packs.add_raw(&prior, attachment_level)?;
            attachments.push((AttachmentKind::Prior, vec![stored]));
        }
        let compression = Compression::prepare(&plan, &previous, packs, effort)?;
        attachments.extend(compression.attachment(&previous));
        let tiers = &options.tiers;
        bytes_read = content::store(&mut plan, packs, &previous, &compression, tiers, progress)?;
        if let Some(history) = &plan.history {
            let stored =
                history::archive(history, &plan, &previous, &compression, packs, progress)?;
            archived = Some(stored);
        }
        if plan.foreign.is_none() {
            plan.reuse_directories(&previous);
        }
    }
    if plan.is_published(&previous) {
        packs.discard_open();
    } else {
        for (kind, chunks) in std::mem::take(&mut plan.attachments) {
            let level = effort.history_level();
            let stored = chunks.iter().map(|raw| packs.add_raw(raw, level));
            attachments.push((kind, stored.collect::<Result<_, _>>()?));
        }
        if let Some(profile) = plan.shipped_profile(&previous) {
            let stored = packs.add_raw(&profile, attachment_level)?;
            attachments.push((AttachmentKind::Learned, vec![stored]));
        }
    }
    Ok(PackedPlan {
        plan,
        previous,
        attachments,
        bytes_read,
        archived,
        effort,
    })
}
