//! Marks the blobs that are needed, and those of unknown use.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde::Serialize;

use super::super::context::{GcOptions, MaintenanceContext};
use super::super::error::MaintenanceError;
use super::super::in_use::in_use;
use super::other_users;
use crate::leases::InUse;
use crate::lifecycle::LedgerEntry;
use crate::lifecycle::walk::{Dependency, Walk};
use crate::repo::Repository;
use crate::repo::refs::Generation;
use walgit_format::Address;
use walgit_format::chunk::{BlobId, ChunkHash};

/// The blob and the hash of a head.
type HeadId = (BlobId, Option<ChunkHash>);

/// A head that could not be read, completely or partly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableHead {
    /// Name or address of the head.
    pub head: String,
    /// The reason.
    pub why: String,
}

/// Number of reads of names and leases; they are read again only after changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScanCounts {
    /// Reads of all names.
    pub names: u64,
    /// Reads of all leases.
    pub leases: u64,
}

/// The marked blobs.
#[derive(Debug, Default)]
pub(in crate::maintenance) struct Marks {
    /// Needed blobs.
    pub(in crate::maintenance) live: HashSet<BlobId>,
    /// Heads that were walked.
    pub(in crate::maintenance) heads: u64,
    pub(in crate::maintenance) scans: ScanCounts,
    /// Heads that could not be read.
    pub(in crate::maintenance) unreadable: Vec<UnreadableHead>,
    /// Blobs that unreadable heads may need.
    unsure: HashSet<BlobId>,
    /// Whether an unreadable head may need any blob.
    all_unsure: bool,
    /// Blobs that this user's publishes stored, collected if a head is unreadable.
    ledgered: HashSet<BlobId>,
    /// Heads that are already marked.
    marked_heads: HashSet<HeadId>,
    /// Targets of the names when they were last read.
    pub(super) names: HashMap<String, HeadId>,
    /// Generation of the names at that time.
    names_generation: Option<Generation>,
    /// Generation of the leases that were marked.
    leases_generation: Option<u64>,
    /// Generations of the names of other publishers into the store, by their registration
    /// file.
    other_users_generations: HashMap<PathBuf, Generation>,
}

impl Marks {
    /// Marks the targets of names and the blobs that leases protect: those of `leased`,
    /// or a newer state, which is returned. Heads that are already marked cost nothing.
    pub(in crate::maintenance) async fn refresh(
        &mut self,
        context: &MaintenanceContext,
        options: &GcOptions,
        mut leased: InUse,
    ) -> Result<InUse, MaintenanceError> {
        loop {
            self.scans.leases += u64::from(self.leases_generation != Some(leased.generation));
            self.leases_generation = Some(leased.generation);
            // Names are read after leases: a publish sets its name before it releases its
            // lease.
            self.names(context).await?;
            self.others(context, &leased).await?;
            self.leased(context, &leased).await;
            if context.leases.generation()? == leased.generation {
                return Ok(leased);
            }
            leased = in_use(context, options).await?;
        }
    }

    /// Marks the targets of the names, unless they are unchanged.
    async fn names(&mut self, context: &MaintenanceContext) -> Result<(), MaintenanceError> {
        if self.names_generation == Some(context.refs.generation()?) {
            return Ok(());
        }
        self.scans.names += 1;
        let (generation, names) = context.refs.list_generation()?;
        for (name, named) in names {
            // A damaged name may refer to anything.
            if let Some(head) = self.target(context, &name, &named?.address).await {
                self.names.insert(name, head);
            }
        }
        self.names_generation = Some(generation);
        Ok(())
    }

    /// Marks the target of a name, and returns it.
    async fn target(
        &mut self,
        context: &MaintenanceContext,
        name: &str,
        address: &str,
    ) -> Option<HeadId> {
        match address.parse() {
            Ok(Address::Walrus { blob, root }) => {
                self.head(context, name, (blob, root)).await;
                Some((blob, root))
            }
            // Names have no other kinds of targets.
            Ok(_) => None,
            Err(why) => {
                self.add_unreadable(context, name, why);
                None
            }
        }
    }

    /// Marks the targets of other users' names, unless they are unchanged.
    async fn others(
        &mut self,
        context: &MaintenanceContext,
        in_use: &InUse,
    ) -> Result<(), MaintenanceError> {
        for other in &in_use.others {
            let known = self.other_users_generations.get(&other.file);
            if known.is_some() && known.copied() == Some(other_users::generation(other)?) {
                continue;
            }
            let (generation, names) = other_users::names(other)?;
            for (name, named) in names {
                self.target(context, &name, &named.address).await;
            }
            self.other_users_generations
                .insert(other.file.clone(), generation);
        }
        Ok(())
    }

    /// Marks the heads that mounts show and publishes build on.
    async fn leased(&mut self, context: &MaintenanceContext, in_use: &InUse) {
        for head in in_use.mounts.iter().flat_map(|mount| &mount.heads) {
            let Ok(Address::Walrus { blob, root }) = head.address.parse() else {
                // On-chain data is not collected by this program.
                continue;
            };
            if head.blobs.is_empty() {
                self.head(context, &head.address, (blob, root)).await;
            } else if self.marked_heads.insert((blob, root)) {
                // No key is needed: the process that mounted it has read the head.
                self.heads += 1;
                self.live.insert(blob);
                self.live.extend(&head.blobs);
            }
        }
        let claimed: Vec<HeadId> = (context.entries.iter())
            .filter_map(LedgerEntry::head)
            .filter(|(blob, _)| in_use.claimed.contains(blob))
            .collect();
        for (blob, root) in claimed {
            let address = Address::Walrus { blob, root }.to_string();
            self.head(context, &address, (blob, root)).await;
        }
    }

    async fn head(&mut self, context: &MaintenanceContext, name: &str, (blob, root): HeadId) {
        if !self.marked_heads.insert((blob, root)) {
            return;
        }
        self.live.insert(blob);
        match (context.loader)
            .open(context.access.clone(), blob, root)
            .await
        {
            Ok(repository) => self.walk(context, name, &repository).await,
            Err(why) => self.add_unreadable(context, name, why),
        }
    }

    async fn walk(&mut self, context: &MaintenanceContext, name: &str, repository: &Repository) {
        self.heads += 1;
        let mut failed = None;
        let mut walk = Walk::of(repository);
        while let Some(batch) = walk.next().await {
            for found in batch {
                self.live.extend(found.blobs());
                if let Dependency::Unreadable(why) = found.dependency {
                    failed.get_or_insert(why);
                }
            }
        }
        if let Some(why) = failed {
            // Content below is unknown, but a head names all blobs.
            self.unsure.extend(repository.head().blobs.iter());
            self.add_unreadable(context, name, why);
        }
    }

    /// Records an unreadable head: it may need every blob ever stored under its name, or
    /// any blob if nothing is known about the name.
    pub(super) fn add_unreadable(
        &mut self,
        context: &MaintenanceContext,
        name: &str,
        why: impl std::fmt::Display,
    ) {
        let names: HashSet<&str> = (context.entries.iter())
            .filter(|entry| entry.name == name || entry.address == name)
            .map(|entry| entry.name.as_str())
            .collect();
        for entry in &context.entries {
            let blobs = entry.blobs.iter().map(|stored| stored.blob);
            if names.contains(entry.name.as_str()) {
                self.unsure.extend(blobs.clone());
            }
            self.ledgered.extend(blobs);
        }
        self.all_unsure |= names.is_empty();
        if !self.unreadable.iter().any(|known| known.head == name) {
            let (head, why) = (name.to_owned(), why.to_string());
            self.unreadable.push(UnreadableHead { head, why });
        }
    }

    /// Whether an unreadable head may need a blob. A blob that no publish of this user
    /// stored may belong to any head.
    pub(in crate::maintenance) fn may_need(&self, blob: &BlobId) -> bool {
        self.all_unsure
            || self.unsure.contains(blob)
            || (!self.unreadable.is_empty() && !self.ledgered.contains(blob))
    }
}
