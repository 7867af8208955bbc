//! Marks the blobs that are needed, and those of unknown use.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde::Serialize;

use super::{GcError, Ground, InUse, Options, Scans, others};
use crate::lifecycle::LedgerEntry;
use crate::lifecycle::walk::{Need, Walk};
use crate::repo::refs::Generation;
use crate::repo::{RepoError, Repository};
use walgit_format::Address;
use walgit_format::chunk::{BlobId, ChunkHash};

/// A head that could not be read, completely or partly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Name or address of the head.
    pub head: String,
    /// The reason.
    pub why: String,
}

/// The marked blobs.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Needed blobs.
    pub(super) live: HashSet<BlobId>,
    /// Heads that were walked.
    pub(super) heads: u64,
    pub(super) scans: Scans,
    /// Heads that could not be read.
    pub(super) refused: Vec<Refused>,
    /// Blobs that unreadable heads may need.
    unsure: HashSet<BlobId>,
    /// Whether an unreadable head may need any blob.
    all_unsure: bool,
    /// Blobs that this user's publishes stored, collected if a head is unreadable.
    ledgered: HashSet<BlobId>,
    /// Heads that are already marked.
    done: HashSet<(BlobId, Option<ChunkHash>)>,
    /// Targets of the names when they were last read.
    pub(super) names: HashMap<String, (BlobId, Option<ChunkHash>)>,
    /// Generation of the names at that time.
    names_generation: Option<Generation>,
    /// Generation of the leases that were marked.
    read: Option<u64>,
    /// Generations of the names of other publishers into the store, by their registration
    /// file.
    others_generations: HashMap<PathBuf, Generation>,
}

impl Marks {
    /// Marks the targets of names and the blobs that leases protect: those of `in_use`,
    /// or a newer state, which is returned. Heads that are already marked cost nothing.
    pub(super) async fn refresh(
        &mut self,
        ground: &Ground<'_>,
        options: &Options,
        mut in_use: InUse,
    ) -> Result<InUse, GcError> {
        loop {
            self.scans.leases += u64::from(self.read != Some(in_use.generation));
            self.read = Some(in_use.generation);
            // Names are read after leases: a publish sets its name before it releases its
            // lease.
            self.names(ground).await?;
            self.others(ground, &in_use).await?;
            self.leased(ground, &in_use).await;
            if ground.leases.generation()? == in_use.generation {
                return Ok(in_use);
            }
            in_use = super::in_use(ground, options).await?;
        }
    }

    /// Marks the targets of the names, unless they are unchanged.
    async fn names(&mut self, ground: &Ground<'_>) -> Result<(), GcError> {
        if self.names_generation == Some(ground.refs.generation()?) {
            return Ok(());
        }
        self.scans.names += 1;
        let (generation, names) = ground.refs.list_generation()?;
        for (name, named) in names {
            // A damaged name may refer to anything.
            let named = named?;
            match named.address.parse() {
                Ok(Address::Walrus { blob, root }) => {
                    self.names.insert(name.clone(), (blob, root));
                    self.head(ground, &name, blob, root).await;
                }
                // Names have no other kinds of targets.
                Ok(_) => {}
                Err(why) => self.refuse(ground, &name, why.to_string()),
            }
        }
        self.names_generation = Some(generation);
        Ok(())
    }

    /// Marks the targets of other users' names, unless they are unchanged.
    async fn others(&mut self, ground: &Ground<'_>, in_use: &InUse) -> Result<(), GcError> {
        for other in &in_use.others {
            let known = self.others_generations.get(&other.file);
            if known.is_some() && known.copied() == Some(others::generation(other)?) {
                continue;
            }
            let (generation, names) = others::names(other)?;
            for (name, named) in names {
                match named.address.parse() {
                    Ok(Address::Walrus { blob, root }) => {
                        self.head(ground, &name, blob, root).await;
                    }
                    Ok(_) => {}
                    Err(why) => self.refuse(ground, &name, why.to_string()),
                }
            }
            self.others_generations
                .insert(other.file.clone(), generation);
        }
        Ok(())
    }

    /// Marks the heads that mounts show and publishes build on.
    async fn leased(&mut self, ground: &Ground<'_>, in_use: &InUse) {
        for head in in_use.mounts.iter().flat_map(|mount| &mount.heads) {
            let Ok(Address::Walrus { blob, root }) = head.address.parse() else {
                // On-chain data is not collected by this program.
                continue;
            };
            if head.blobs.is_empty() {
                self.head(ground, &head.address, blob, root).await;
            } else if self.done.insert((blob, root)) {
                // No key is needed: the process that mounted it has read the head.
                self.heads += 1;
                self.live.insert(blob);
                self.live.extend(&head.blobs);
            }
        }
        let claimed: Vec<(BlobId, Option<ChunkHash>)> = (ground.ledger.iter())
            .filter_map(LedgerEntry::head)
            .filter(|(blob, _)| in_use.claimed.contains(blob))
            .collect();
        for (blob, root) in claimed {
            let address = Address::Walrus { blob, root };
            self.head(ground, &address.to_string(), blob, root).await;
        }
    }

    async fn head(
        &mut self,
        ground: &Ground<'_>,
        name: &str,
        blob: BlobId,
        root: Option<ChunkHash>,
    ) {
        if !self.done.insert((blob, root)) {
            return;
        }
        self.live.insert(blob);
        match ground.loader.open(ground.access.clone(), blob, root).await {
            Ok(repository) => self.walk(ground, name, &repository).await,
            Err(why) => self.refuse(ground, name, why.to_string()),
        }
    }

    async fn walk(&mut self, ground: &Ground<'_>, name: &str, repository: &Repository) {
        self.heads += 1;
        let mut failed: Option<RepoError> = None;
        let mut walk = Walk::of(repository);
        while let Some(stretch) = walk.next().await {
            for found in stretch {
                self.live.extend(found.blobs());
                if let Need::Unreadable(why) = found.need {
                    failed.get_or_insert(why);
                }
            }
        }
        if let Some(why) = failed {
            // Content below is unknown, but a head names all blobs.
            self.unsure.extend(repository.head().blobs.iter());
            self.refuse(ground, name, why.to_string());
        }
    }

    /// Records an unreadable head: it may need every blob ever stored under its name, or
    /// any blob if nothing is known about the name.
    pub(super) fn refuse(&mut self, ground: &Ground<'_>, name: &str, why: String) {
        let of_it = |it: &&LedgerEntry| it.name == name || it.address == name;
        let names: HashSet<&str> = (ground.ledger.iter())
            .filter(of_it)
            .map(|entry| entry.name.as_str())
            .collect();
        let entries = ground.ledger.iter();
        for entry in entries.filter(|entry| names.contains(entry.name.as_str())) {
            self.unsure.extend(entry.blobs.iter().map(|it| it.blob));
        }
        self.all_unsure |= names.is_empty();
        if self.refused.is_empty() {
            let entries = ground.ledger.iter();
            let blobs = entries.flat_map(|entry| entry.blobs.iter().map(|it| it.blob));
            self.ledgered = blobs.collect();
        }
        let head = name.to_owned();
        if !self.refused.iter().any(|it| it.head == head) {
            self.refused.push(Refused { head, why });
        }
    }

    /// Whether an unreadable head may need a blob. A blob that no publish of this user
    /// stored may belong to any head.
    pub(super) fn may_need(&self, blob: &BlobId) -> bool {
        self.all_unsure
            || self.unsure.contains(blob)
            || (!self.refused.is_empty() && !self.ledgered.contains(blob))
    }
}
