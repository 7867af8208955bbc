//! Which blobs are needed, and of which nobody knows.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::{GcError, Ground};
use crate::chunk::{BlobId, ChunkHash};
use crate::lifecycle::walk::{Need, Walk};
use crate::repo::{Address, RepoError, Repository};

/// A head that could not be read, in whole or in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its name or address.
    pub head: String,
    /// Why.
    pub why: String,
}

/// What heads need.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Blobs that are needed.
    pub(super) live: HashSet<BlobId>,
    /// Heads that were walked.
    pub(super) heads: u64,
    /// Those that could not be.
    pub(super) refused: Vec<Refused>,
    /// Blobs that those may need.
    unsure: HashSet<BlobId>,
    /// Whether that may be any.
    all_unsure: bool,
    /// Blobs that publishes of ours stored, where one could not be read.
    ledgered: HashSet<BlobId>,
    /// What was marked already, by what it is.
    done: HashSet<(BlobId, Option<ChunkHash>)>,
    /// What names stood for when they were looked at.
    pub(super) names: HashMap<String, (BlobId, Option<ChunkHash>)>,
}

impl Marks {
    /// Marks what the names stand for now; those that stand for what was marked
    /// before cost nothing.
    pub(super) async fn names(&mut self, ground: &Ground<'_>) -> Result<(), GcError> {
        for (name, named) in ground.refs.list_all()? {
            let named = named.map_err(|why| why.to_string());
            let address = named.and_then(|named| {
                let address = named.address.parse::<Address>();
                address.map_err(|why| why.to_string())
            });
            match address {
                Ok(Address::Walrus { blob, root }) => {
                    self.names.insert(name.clone(), (blob, root));
                    self.head(ground, &name, blob, root).await;
                }
                // A name stands for nothing else.
                Ok(_) => {}
                Err(why) => self.refuse(ground, &name, why),
            }
        }
        Ok(())
    }

    /// Marks what must stay beside what has a name.
    pub(super) async fn held(
        &mut self,
        ground: &Ground<'_>,
        claimed: &[(BlobId, Option<ChunkHash>)],
    ) {
        for address in ground.held {
            // What is on the chain is not ours to collect.
            if let Address::Walrus { blob, root } = address {
                self.head(ground, &address.to_string(), *blob, *root).await;
            }
        }
        for (blob, root) in claimed {
            let address = Address::Walrus {
                blob: *blob,
                root: *root,
            };
            self.head(ground, &address.to_string(), *blob, *root).await;
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
            // What is below is not known, but a head names all blobs.
            self.unsure.extend(repository.head().blobs.iter());
            self.refuse(ground, name, why.to_string());
        }
    }

    /// A head cannot be read: all that was ever stored under its name may be
    /// its, and where nothing is known of it, anything.
    pub(super) fn refuse(&mut self, ground: &Ground<'_>, name: &str, why: String) {
        let of_it = |it: &&crate::lifecycle::LedgerEntry| it.name == name || it.address == name;
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

    /// Whether a head that could not be read may need a blob. One that no
    /// publish of ours stored may be anybody's.
    pub(super) fn may_need(&self, blob: &BlobId) -> bool {
        self.all_unsure
            || self.unsure.contains(blob)
            || (!self.refused.is_empty() && !self.ledgered.contains(blob))
    }
}
