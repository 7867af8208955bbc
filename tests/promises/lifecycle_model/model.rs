//! The components, and the model that knows which content must exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use walgit_format::Address;
use walgit_format::chunk::BlobId;
use walgit_format::names::RefName;
use walgit_fs::leases::Leases;
use walgit_fs::lifecycle::fsck::{self, ReadScope};
use walgit_fs::lifecycle::walk::Walk;
use walgit_fs::lifecycle::{Ledger, LedgerEntry};
use walgit_fs::maintenance::gc::{SweepOutcome, UnneededBlob};
use walgit_fs::publish::{NoProgress, PublishError, PublishOptions, publish};
use walgit_fs::repo::refs::{Expected, NamedRef, RefStore};
use walrus_client::{BlobStore, LocalDir};

use super::components::Components;
use super::interruptions::{InterruptedRenewal, KilledCollection, KilledPublish};
use super::{DAY, MAX_BODY, RETENTION_DAYS, Step, TREE_COUNT};
use crate::support::{Tree, loader};

/// A published head.
#[derive(Clone, Debug)]
pub(super) struct PublishedHead {
    pub(super) name: usize,
    pub(super) address: Address,
    pub(super) content: u64,
    pub(super) at: u64,
}

pub(super) struct Model {
    pub(super) components: Components,
    pub(super) _dirs: [tempfile::TempDir; 2],
    pub(super) trees: Vec<Tree>,
    pub(super) now: u64,
    // State of the model.
    pub(super) names: BTreeMap<usize, Address>,
    pub(super) entries: Vec<PublishedHead>,
    /// Time at which a collection first found an address unreferenced.
    pub(super) unreferenced_since: HashMap<String, u64>,
    pub(super) reclaimed: u64,
    pub(super) renewed: u64,
}

/// The last tree is a part of the first: published after it, it needs only new
/// directories.
pub(super) fn tree(content: u64) -> Tree {
    let tree = Tree::new().noise("common/all", 90_000, 1).noise(
        &format!("common/{}", content % 2),
        90_000,
        2 + content % 2,
    );
    match content + 1 < TREE_COUNT {
        true => tree
            .noise("own", 60_000, 10 + content)
            .file("small", format!("number {content}")),
        false => tree,
    }
}

pub(super) fn name(number: usize) -> RefName {
    format!("name-{number}").parse().unwrap()
}

impl Model {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (loader, cache) = loader();
        Model {
            components: Components {
                dir: dir.path().into(),
                store: LocalDir::open(&dir.path().join("store"), MAX_BODY).unwrap(),
                refs: RefStore::new(&dir.path().join("refs")),
                ledger: Ledger::new(&dir.path().join("ledger"), "local"),
                leases: Leases::new(&dir.path().join("leases")),
                loader,
            },
            _dirs: [dir, cache],
            trees: (0..TREE_COUNT).map(tree).collect(),
            now: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
            names: BTreeMap::new(),
            entries: Vec::new(),
            unreferenced_since: HashMap::new(),
            reclaimed: 0,
            renewed: 0,
        }
    }

    pub(super) fn store(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.components.store.clone())
    }

    pub(super) fn stored(&self) -> BTreeSet<BlobId> {
        self.components.store.list().unwrap().into_iter().collect()
    }

    pub(super) async fn publish(&mut self, number: usize, content: u64, claims: u64, beside: bool) {
        // Publishes are at different times.
        self.now += 1;
        let seen = self.unreferenced_now();
        let lease = Arc::new(self.components.leases.take().unwrap());
        let store = Arc::new(KilledPublish {
            dir: self.components.store.clone(),
            left: AtomicU64::new(claims),
            collection: beside.then(|| (self.components.clone(), self.now)),
            collected: AtomicU64::new(0),
        });
        let previous = match self.names.get(&number) {
            Some(Address::Walrus { blob, root }) => {
                lease.needs(*blob).unwrap();
                Some((*blob, *root))
            }
            _ => None,
        };
        let mut options = PublishOptions {
            previous,
            lease: Some(lease.clone()),
            ..PublishOptions::default()
        };
        let path: PathBuf = self.trees[content as usize].path().into();
        let loader = self.components.loader.clone();
        let mut done = publish(
            &path,
            &options,
            store.clone(),
            loader.clone(),
            Arc::new(NoProgress),
        )
        .await;
        // Expired content is stored again, as `--fresh` does.
        if let Err(PublishError::Previous(why)) = &done
            && why.is_missing()
        {
            options.previous = None;
            done = publish(&path, &options, store.clone(), loader, Arc::new(NoProgress)).await;
        }
        drop(options);
        if store.collected.load(Ordering::SeqCst) > 0 {
            self.unreferenced_since = seen;
        }
        let Ok(published) = done else {
            assert!(claims < u64::MAX, "{done:?}");
            return;
        };
        let address = Address::Walrus {
            blob: published.blob,
            root: Some(published.root),
        };
        if !published.unchanged {
            let entry = LedgerEntry {
                at: self.now,
                ..LedgerEntry::of(
                    name(number).as_str(),
                    &address.to_string(),
                    &published.blobs,
                )
            };
            self.components.ledger.append(&entry).unwrap();
            self.entries.push(PublishedHead {
                name: number,
                address: address.clone(),
                content,
                at: self.now,
            });
        }
        let to = NamedRef::now(&address);
        (self.components.refs)
            .update(&name(number), Expected::Any, to, "publish")
            .unwrap();
        self.names.insert(number, address);
        Arc::into_inner(lease).unwrap().finish().unwrap();
    }

    /// Since when collections, including one now, have found the last publish of each
    /// name unreferenced.
    pub(super) fn unreferenced_now(&self) -> HashMap<String, u64> {
        let last = self
            .unreferenced()
            .into_iter()
            .filter(|(_, next)| next.is_none());
        last.map(|(address, _)| {
            let address = address.to_string();
            let since = self.unreferenced_since.get(&address).copied();
            (address, since.unwrap_or(self.now))
        })
        .collect()
    }

    pub(super) async fn collect(&mut self, store: Arc<dyn BlobStore>) -> bool {
        let done = self.components.collect(store, self.now).await;
        // It found unreferenced heads, however it ended.
        self.unreferenced_since = self.unreferenced_now();
        match done {
            Ok(report) => {
                assert!(report.unreadable.is_empty(), "{:?}", report.unreadable);
                self.reclaimed += report.reclaimed.bytes;
                let met = |it: &&UnneededBlob| it.outcome == SweepOutcome::Forgotten;
                assert_eq!(report.unneeded.iter().filter(met).count(), 0);
                true
            }
            Err(error) => {
                assert!(error.to_string().contains("killed"), "{error}");
                false
            }
        }
    }

    /// Unreferenced heads, with the time of the next publish under their name.
    pub(super) fn unreferenced(&self) -> Vec<(Address, Option<u64>)> {
        let live: Vec<&Address> = self.names.values().collect();
        let with_next = self.entries.iter().enumerate().map(|(at, entry)| {
            let later = self.entries[at + 1..].iter();
            let next = later
                .filter(|it| it.name == entry.name)
                .map(|it| it.at)
                .next();
            (entry.address.clone(), next)
        });
        with_next
            .filter(|(address, _)| !live.contains(&address))
            .collect()
    }

    /// Heads that must be complete after a collection now: those of names, and old ones
    /// within retention that were not collected before.
    pub(super) fn needed(&self) -> Vec<Address> {
        let mut needed: Vec<Address> = self.names.values().cloned().collect();
        for (address, next) in self.unreferenced() {
            let since = next.or_else(|| self.unreferenced_since.get(&address.to_string()).copied());
            let until = since.unwrap_or(self.now) + RETENTION_DAYS * DAY;
            if until > self.now && !needed.contains(&address) {
                needed.push(address);
            }
        }
        needed
    }

    pub(super) fn content_of(&self, address: &Address) -> u64 {
        let of_it = self.entries.iter().find(|it| it.address == *address);
        of_it.unwrap().content
    }

    /// Reads every byte of a head from the store and compares it.
    pub(super) async fn assert_whole(&self, address: &Address) {
        let Address::Walrus { blob, root } = address else {
            panic!("{address}")
        };
        let (fresh, _dir) = loader();
        let repository = fresh.open(self.store(), *blob, *root).await.unwrap();
        let everything = fsck::FsckOptions::reading(ReadScope::Everything);
        let report = fsck::check(&repository, &everything, &()).await.unwrap();
        assert!(report.is_sound(), "{address}: {:?}", report.faults);
        let expected = self.trees[self.content_of(address) as usize].path();
        let snapshot = repository.snapshot(0).unwrap();
        for path in files(expected) {
            let node = snapshot.walk(path.to_str().unwrap().as_bytes()).await;
            let node = node.unwrap().unwrap();
            let all = walgit_format::chunk::ByteRange::new(0, node.size);
            let found = snapshot.read(&node, all, 0).await.unwrap();
            assert!(found == std::fs::read(expected.join(&path)).unwrap());
        }
    }

    /// Blobs that these heads need.
    pub(super) async fn blobs_of(&self, heads: &[Address]) -> BTreeSet<BlobId> {
        let mut blobs = BTreeSet::new();
        for address in heads {
            let Address::Walrus { blob, root } = address else {
                continue;
            };
            let loader = &self.components.loader;
            let repository = loader.open(self.store(), *blob, *root).await.unwrap();
            let mut walk = Walk::of(&repository);
            while let Some(stretch) = walk.next().await {
                blobs.extend(stretch.iter().flat_map(|found| found.blobs()));
            }
        }
        blobs
    }

    pub(super) async fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { name, content } => self.publish(name, content, u64::MAX, false).await,
            Step::PublishDuringCollection { name, content } => {
                self.publish(name, content, u64::MAX, true).await
            }
            Step::InterruptedPublish {
                name,
                content,
                after,
            } => self.publish(name, content, after, false).await,
            Step::Remove { name: number } => {
                self.components
                    .refs
                    .remove(&name(number), "remove")
                    .unwrap();
                self.names.remove(&number);
            }
            Step::Read { name } => {
                if let Some(address) = self.names.get(&name) {
                    self.assert_whole(address).await;
                }
            }
            Step::Wait { days } => self.now += days * DAY,
            Step::Collect => {
                let gone = self.collected_heads();
                let expired = self.expired().await;
                assert!(self.collect(self.store()).await);
                let needed: Vec<Address> = self.needed();
                let needed: Vec<Address> =
                    needed.into_iter().filter(|it| !gone.contains(it)).collect();
                // A head whose retention ended, and restarts with the next publish
                // under its name, may have lost blobs in between.
                let (broken, needed): (Vec<_>, Vec<_>) =
                    needed.into_iter().partition(|it| expired.contains(it));
                let (stored, whole) = (self.stored(), self.blobs_of(&needed).await);
                assert!(stored.is_superset(&whole));
                // No other blob survives, and no expired one.
                let rest: BTreeSet<BlobId> = stored.difference(&whole).copied().collect();
                assert!(rest.is_subset(&self.blobs_of(&broken).await), "{rest:?}");
                for blob in stored {
                    assert!(self.components.store.stat(blob).unwrap().is_some());
                }
                for address in &needed {
                    self.assert_whole(address).await;
                }
            }
            Step::Epoch { killed } => {
                if let Some(at) = killed {
                    let stopping = Arc::new(InterruptedRenewal {
                        dir: self.components.store.clone(),
                        left: AtomicU64::new(at),
                        stopped: tokio::sync::Notify::new(),
                    });
                    tokio::select! {
                        _ = self.components.renew(stopping.clone(), self.now) => {}
                        () = stopping.stopped.notified() => {}
                    }
                }
                let report = self.components.renew(self.store(), self.now).await;
                assert!(
                    report.failed.is_empty() && report.plan.expired.is_empty(),
                    "{report:?}"
                );
                self.renewed += report.renewed;
                let again = self.components.renew(self.store(), self.now).await;
                assert_eq!(again.renewed, 0, "blobs are paid for once");
                self.components.store.advance(1).unwrap();
            }
            Step::InterruptedCollection { at, before } => {
                let collection = KilledCollection {
                    dir: self.components.store.clone(),
                    left: AtomicU64::new(at),
                    before,
                };
                self.collect(Arc::new(collection)).await;
            }
        }
        // After any interruption, heads of names are complete.
        let there = self.stored();
        for address in self.names.values() {
            for blob in self.blobs_of(std::slice::from_ref(address)).await {
                assert!(there.contains(&blob), "{address} lost {blob}");
                let paid = self.components.store.stat(blob).unwrap();
                assert!(paid.is_some(), "{blob} of {address} has expired");
            }
        }
    }

    /// Old heads of which a blob has expired.
    pub(super) async fn expired(&self) -> Vec<Address> {
        let mut expired = Vec::new();
        let there = self.stored();
        for (address, _) in self.unreferenced() {
            let Address::Walrus { blob, .. } = address else {
                continue;
            };
            if there.contains(&blob) {
                let blobs = self.blobs_of(std::slice::from_ref(&address)).await;
                let gone = |blob: &BlobId| self.components.store.stat(*blob).unwrap().is_none();
                if blobs.iter().any(gone) {
                    expired.push(address);
                }
            }
        }
        expired
    }

    /// Old heads that an earlier collection deleted after their retention.
    pub(super) fn collected_heads(&self) -> Vec<Address> {
        let there = self.stored();
        let old = self.unreferenced().into_iter().map(|(address, _)| address);
        old.filter(|address| match address {
            Address::Walrus { blob, .. } => !there.contains(blob),
            _ => false,
        })
        .collect()
    }
}

/// Files below a directory, by relative path.
pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    let mut pending = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => pending.push(path),
                false => found.push(path.strip_prefix(root).unwrap().to_owned()),
            }
        }
    }
    found
}
