//! Whatever happens in whatever order, nothing that is needed is ever lost, though
//! epochs end that it was paid for; and nothing that is not survives a cycle of
//! collection.
//!
//! Random histories run against a reference model that knows what was published
//! under which name and when. They are replayed on a real store with the real
//! publisher, ledger, leases, collector and renewal; only the clock is the test's
//! own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use walgit_fs::chunk::BlobId;
use walgit_fs::config::{ActivityLevels, Price, Retention};
use walgit_fs::lifecycle::fsck::{self, Read};
use walgit_fs::lifecycle::gc::{
    Deletion, Fate, GcError, Ground, Options, Report, Shelf, Shelved, collect,
};
use walgit_fs::lifecycle::policy::Policy;
use walgit_fs::lifecycle::renew;
use walgit_fs::lifecycle::walk::Walk;
use walgit_fs::lifecycle::{Activity, Lease, Leases, Ledger, LedgerEntry};
use walgit_fs::publish::{Claims, PublishOptions, Unwatched, publish};
use walgit_fs::repo::refs::{RefName, RefStore};
use walgit_fs::repo::{Access, Address, Loader};
use walgit_fs::walrus::{
    Accept, BlobStore, Extent, Lifetime, LocalDir, PutOptions, StoreError, Stored,
};

use crate::support::{Tree, block_on, loader};

const DAY: u64 = 24 * 3600;
/// Days for which an old head is kept.
const KEEP: u64 = 2;
/// So small that a tree takes several blobs.
const MAX_BODY: u64 = 200 << 10;
const CONTENTS: u64 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// A tree is published under a name.
    Publish { name: usize, content: u64 },
    /// The same, with a whole collection after each blob that it claims.
    Beside { name: usize, content: u64 },
    /// The same, but it ends after so many blobs.
    Crash {
        name: usize,
        content: u64,
        after: u64,
    },
    /// A name is removed.
    Remove { name: usize },
    /// What a name stands for is read and compared.
    Read { name: usize },
    /// Time goes by.
    Wait { days: u64 },
    /// A collection.
    Collect,
    /// One that is killed at some deletion: before it, or after.
    Killed { at: u64, before: bool },
    /// What is needed is renewed, perhaps killed at some blob and begun again, and
    /// the epoch ends.
    Epoch { killed: Option<u64> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..2usize;
    let content = 0..CONTENTS;
    let step = prop_oneof![
        5 => (name.clone(), content.clone()).prop_map(|(name, content)| Step::Publish { name, content }),
        3 => (name.clone(), content.clone()).prop_map(|(name, content)| Step::Beside { name, content }),
        2 => (name.clone(), content, 0..3u64)
            .prop_map(|(name, content, after)| Step::Crash { name, content, after }),
        1 => name.clone().prop_map(|name| Step::Remove { name }),
        1 => name.prop_map(|name| Step::Read { name }),
        3 => (1..3u64).prop_map(|days| Step::Wait { days }),
        3 => Just(Step::Collect),
        2 => (0..4u64, any::<bool>()).prop_map(|(at, before)| Step::Killed { at, before }),
        3 => proptest::option::of(0..4u64).prop_map(|killed| Step::Epoch { killed }),
    ];
    let most = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => 40,
        None => 16,
    };
    proptest::collection::vec(step, 4..most)
}

/// Fails at some deletion, as a process that is killed there would end.
struct Mortal<'a> {
    dir: &'a LocalDir,
    /// Deletions until then; none for never.
    left: AtomicU64,
    before: bool,
}

#[async_trait]
impl Shelf for Mortal<'_> {
    async fn blobs(&self) -> Result<Option<Vec<Shelved>>, StoreError> {
        self.dir.blobs().await
    }

    async fn is_expired(&self, blob: BlobId) -> Result<Option<bool>, StoreError> {
        Shelf::is_expired(self.dir, blob).await
    }

    async fn delete(&self, blob: BlobId) -> Result<Deletion, StoreError> {
        let dies = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        let killed = || StoreError::Unavailable {
            place: "the test".into(),
            why: "killed".into(),
        };
        if dies && self.before {
            return Err(killed());
        }
        let deleted = Shelf::delete(self.dir, blob).await?;
        match dies {
            true => Err(killed()),
            false => Ok(deleted),
        }
    }
}

/// A store on which a renewal stops for ever at some blob, as a process that is
/// killed there would.
#[derive(Debug)]
struct Stopping {
    dir: LocalDir,
    left: AtomicU64,
    stopped: tokio::sync::Notify,
}

#[async_trait]
impl BlobStore for Stopping {
    async fn read(
        &self,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), StoreError> {
        self.dir.read(blob, extent, accept).await
    }

    async fn len(&self, blob: BlobId) -> Result<Option<u64>, StoreError> {
        self.dir.len(blob).await
    }

    async fn put(&self, _: BlobId, _: Bytes, _: &PutOptions) -> Result<Stored, StoreError> {
        panic!("what can be extended is not stored once more")
    }

    fn max_body(&self) -> u64 {
        MAX_BODY
    }

    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        self.dir.epoch().await
    }

    async fn lifetime(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        self.dir.lifetime(blob).await
    }

    async fn extend(&self, blob: BlobId, end: u32) -> Result<Option<Lifetime>, StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
        self.dir.extend(blob, end).await
    }
}

/// Claims so many blobs and then no more.
#[derive(Debug)]
struct Claiming {
    lease: Lease,
    left: AtomicU64,
    /// What is collected after each, and when.
    beside: Option<(Parts, u64)>,
    collected: AtomicU64,
}

impl Claims for Claiming {
    fn claim(&self, blob: BlobId) -> Result<(), String> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            0 => return Err("killed".into()),
            _ => self.lease.claim(blob).map_err(|error| error.to_string())?,
        }
        if let Some((parts, now)) = &self.beside {
            self.collected.fetch_add(1, Ordering::SeqCst);
            let (parts, now) = (parts.clone(), *now);
            let collector = std::thread::spawn(move || {
                block_on(async { parts.collect(&parts.store, now).await.unwrap() })
            });
            collector.join().unwrap();
        }
        Ok(())
    }
}

/// What a collector needs. Cheap to clone.
#[derive(Clone, Debug)]
struct Parts {
    dir: PathBuf,
    store: LocalDir,
    refs: RefStore,
    ledger: Ledger,
    leases: Leases,
    loader: Arc<Loader>,
}

impl Parts {
    /// Does something with all that a collector needs.
    async fn on_ground<T>(&self, shelf: &dyn Shelf, work: impl AsyncFnOnce(&Ground<'_>) -> T) -> T {
        let retention = Retention {
            default_days: KEEP as u32,
            rules: Vec::new(),
            ..Retention::default()
        };
        let ledger = self.ledger.entries().unwrap();
        let store: Arc<dyn BlobStore> = Arc::new(self.store.clone());
        let ground = Ground {
            shelf,
            loader: &self.loader,
            access: &Access::from(store),
            refs: &self.refs,
            held: &[],
            ledger: &ledger,
            leases: &self.leases,
            policy: &Policy::of(&retention).unwrap(),
            activity: &Activity::new(self.dir.join("activity")),
            levels: &ActivityLevels::default(),
            class_of: |_| "unknown",
            dir: &self.dir,
            price: &Price::mainnet(),
        };
        work(&ground).await
    }

    async fn collect(&self, shelf: &dyn Shelf, now: u64) -> Result<Report, GcError> {
        let options = Options {
            dry_run: false,
            unknown: false,
            grace: 0,
            now,
        };
        self.on_ground(shelf, async |ground| collect(ground, &options).await)
            .await
    }

    /// Renews what ends with this epoch.
    async fn renew(&self, store: Arc<dyn BlobStore>, now: u64) -> renew::Report {
        let options = renew::Options {
            dry_run: false,
            terms: renew::Terms {
                margin: 1,
                epochs: 2,
                budget: None,
            },
            epoch_length: None,
            now,
        };
        let shelf = self.store.clone();
        self.on_ground(&shelf, async |ground| {
            let payer = renew::Payer::default();
            let watch = |_, _| {};
            renew::renew(ground, &self.ledger, &store, &payer, &options, &watch).await
        })
        .await
        .unwrap()
    }
}

/// What was published once, as the model knows it.
#[derive(Clone, Debug)]
struct Entry {
    name: usize,
    address: Address,
    content: u64,
    at: u64,
}

struct Rig {
    parts: Parts,
    _dirs: [tempfile::TempDir; 2],
    trees: Vec<Tree>,
    now: u64,
    // The model.
    names: BTreeMap<usize, Address>,
    entries: Vec<Entry>,
    /// When a collection first saw that nothing stands for an address.
    seen: HashMap<String, u64>,
    reclaimed: u64,
    renewed: u64,
}

/// The last one is a part of the first: published after it, it needs nothing new
/// but its directories.
fn tree(content: u64) -> Tree {
    let tree = Tree::new().noise("common/all", 90_000, 1).noise(
        &format!("common/{}", content % 2),
        90_000,
        2 + content % 2,
    );
    match content + 1 < CONTENTS {
        true => tree
            .noise("own", 60_000, 10 + content)
            .file("small", format!("number {content}")),
        false => tree,
    }
}

fn name(number: usize) -> RefName {
    format!("name-{number}").parse().unwrap()
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (loader, cache) = loader();
        Rig {
            parts: Parts {
                dir: dir.path().into(),
                store: LocalDir::open(&dir.path().join("store"), MAX_BODY).unwrap(),
                refs: RefStore::new(&dir.path().join("refs")),
                ledger: Ledger::new(&dir.path().join("ledger"), "local"),
                leases: Leases::new(&dir.path().join("leases")),
                loader,
            },
            _dirs: [dir, cache],
            trees: (0..CONTENTS).map(tree).collect(),
            now: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
            names: BTreeMap::new(),
            entries: Vec::new(),
            seen: HashMap::new(),
            reclaimed: 0,
            renewed: 0,
        }
    }

    fn store(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.parts.store.clone())
    }

    fn stored(&self) -> BTreeSet<BlobId> {
        self.parts.store.list().unwrap().into_iter().collect()
    }

    async fn publish(&mut self, number: usize, content: u64, claims: u64, beside: bool) {
        // Moments apart, as publishes are.
        self.now += 1;
        let seen = self.seen_now();
        let lease = Arc::new(Claiming {
            lease: self.parts.leases.take().unwrap(),
            left: AtomicU64::new(claims),
            beside: beside.then(|| (self.parts.clone(), self.now)),
            collected: AtomicU64::new(0),
        });
        let previous = match self.names.get(&number) {
            Some(Address::Walrus { blob, root }) => {
                lease.lease.needs(*blob).unwrap();
                Some((*blob, *root))
            }
            _ => None,
        };
        let options = PublishOptions {
            previous,
            claims: Some(lease.clone() as Arc<dyn Claims>),
            ..PublishOptions::default()
        };
        let path: PathBuf = self.trees[content as usize].path().into();
        let (store, loader) = (self.store(), self.parts.loader.clone());
        let done = publish(&path, &options, store, loader, Arc::new(Unwatched)).await;
        drop(options);
        if lease.collected.load(Ordering::SeqCst) > 0 {
            self.seen = seen;
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
            self.parts.ledger.append(&entry).unwrap();
            self.entries.push(Entry {
                name: number,
                address: address.clone(),
                content,
                at: self.now,
            });
        }
        self.parts.refs.set(&name(number), &address).unwrap();
        self.names.insert(number, address);
        let lease = Arc::into_inner(lease).unwrap();
        lease.lease.finish().unwrap();
    }

    /// Since when collections, one of them now, have seen that nothing stands for
    /// what was published last under its name.
    fn seen_now(&self) -> HashMap<String, u64> {
        let last = self.old().into_iter().filter(|(_, next)| next.is_none());
        last.map(|(address, _)| {
            let address = address.to_string();
            let since = self.seen.get(&address).copied();
            (address, since.unwrap_or(self.now))
        })
        .collect()
    }

    async fn collect(&mut self, shelf: &dyn Shelf) -> bool {
        let done = self.parts.collect(shelf, self.now).await;
        // It saw what nothing stands for, however it ended.
        self.seen = self.seen_now();
        match done {
            Ok(report) => {
                assert!(report.refused.is_empty(), "{:?}", report.refused);
                self.reclaimed += report.reclaimed.bytes;
                let met = |it: &&walgit_fs::lifecycle::gc::Unneeded| it.fate == Fate::Forgotten;
                assert_eq!(report.unneeded.iter().filter(met).count(), 0);
                true
            }
            Err(error) => {
                assert!(error.to_string().contains("killed"), "{error}");
                false
            }
        }
    }

    /// What was published and nothing stands for, with the time of the next
    /// publish under its name.
    fn old(&self) -> Vec<(Address, Option<u64>)> {
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

    /// Heads that must be whole after a collection now: those of names, and old
    /// ones whose time is not over and that were not collected before.
    fn needed(&self) -> Vec<Address> {
        let mut needed: Vec<Address> = self.names.values().cloned().collect();
        for (address, next) in self.old() {
            let since = next.or_else(|| self.seen.get(&address.to_string()).copied());
            let until = since.unwrap_or(self.now) + KEEP * DAY;
            if until > self.now && !needed.contains(&address) {
                needed.push(address);
            }
        }
        needed
    }

    fn content_of(&self, address: &Address) -> u64 {
        let of_it = self.entries.iter().find(|it| it.address == *address);
        of_it.unwrap().content
    }

    /// Every byte of a head is read from the store and compared.
    async fn assert_whole(&self, address: &Address) {
        let Address::Walrus { blob, root } = address else {
            panic!("{address}")
        };
        let (fresh, _dir) = loader();
        let repository = fresh.open(self.store(), *blob, *root).await.unwrap();
        let everything = fsck::Options::reading(Read::Everything);
        let report = fsck::check(&repository, &everything, &()).await.unwrap();
        assert!(report.is_sound(), "{address}: {:?}", report.faults);
        let expected = self.trees[self.content_of(address) as usize].path();
        let snapshot = repository.snapshot(0).unwrap();
        for path in files(expected) {
            let node = snapshot.walk(path.to_str().unwrap().as_bytes()).await;
            let node = node.unwrap().unwrap();
            let all = walgit_fs::chunk::ByteRange::new(0, node.size);
            let found = snapshot.read(&node, all, 0).await.unwrap();
            assert!(found == std::fs::read(expected.join(&path)).unwrap());
        }
    }

    /// Blobs that these heads need.
    async fn blobs_of(&self, heads: &[Address]) -> BTreeSet<BlobId> {
        let mut blobs = BTreeSet::new();
        for address in heads {
            let Address::Walrus { blob, root } = address else {
                continue;
            };
            let loader = &self.parts.loader;
            let repository = loader.open(self.store(), *blob, *root).await.unwrap();
            let mut walk = Walk::of(&repository);
            while let Some(stretch) = walk.next().await {
                blobs.extend(stretch.iter().flat_map(|found| found.blobs()));
            }
        }
        blobs
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { name, content } => self.publish(name, content, u64::MAX, false).await,
            Step::Beside { name, content } => self.publish(name, content, u64::MAX, true).await,
            Step::Crash {
                name,
                content,
                after,
            } => self.publish(name, content, after, false).await,
            Step::Remove { name: number } => {
                self.parts.refs.remove(&name(number)).unwrap();
                self.names.remove(&number);
            }
            Step::Read { name } => {
                if let Some(address) = self.names.get(&name) {
                    self.assert_whole(address).await;
                }
            }
            Step::Wait { days } => self.now += days * DAY,
            Step::Collect => {
                let dir = self.parts.store.clone();
                let gone = self.lost();
                let expired = self.expired().await;
                assert!(self.collect(&dir).await);
                let needed: Vec<Address> = self.needed();
                let needed: Vec<Address> =
                    needed.into_iter().filter(|it| !gone.contains(it)).collect();
                // A head whose time was over, and begins anew with the next publish
                // under its name, may have ended in part by then.
                let (broken, needed): (Vec<_>, Vec<_>) =
                    needed.into_iter().partition(|it| expired.contains(it));
                let (stored, whole) = (self.stored(), self.blobs_of(&needed).await);
                assert!(stored.is_superset(&whole));
                // Nothing else survives, and nothing that has expired.
                let rest: BTreeSet<BlobId> = stored.difference(&whole).copied().collect();
                assert!(rest.is_subset(&self.blobs_of(&broken).await), "{rest:?}");
                for blob in stored {
                    assert!(self.parts.store.stat(blob).unwrap().is_some());
                }
                for address in &needed {
                    self.assert_whole(address).await;
                }
            }
            Step::Epoch { killed } => {
                if let Some(at) = killed {
                    let stopping = Arc::new(Stopping {
                        dir: self.parts.store.clone(),
                        left: AtomicU64::new(at),
                        stopped: tokio::sync::Notify::new(),
                    });
                    tokio::select! {
                        _ = self.parts.renew(stopping.clone(), self.now) => {}
                        () = stopping.stopped.notified() => {}
                    }
                }
                let report = self.parts.renew(self.store(), self.now).await;
                assert!(
                    report.failed.is_empty() && report.plan.gone.is_empty(),
                    "{report:?}"
                );
                self.renewed += report.renewed;
                let again = self.parts.renew(self.store(), self.now).await;
                assert_eq!(again.renewed, 0, "nothing is paid for twice");
                self.parts.store.advance(1).unwrap();
            }
            Step::Killed { at, before } => {
                let dir = self.parts.store.clone();
                let mortal = Mortal {
                    dir: &dir,
                    left: AtomicU64::new(at),
                    before,
                };
                self.collect(&mortal).await;
            }
        }
        // At any time, whatever was killed: what has a name is whole.
        let there = self.stored();
        for address in self.names.values() {
            for blob in self.blobs_of(std::slice::from_ref(address)).await {
                assert!(there.contains(&blob), "{address} lost {blob}");
                let paid = self.parts.store.stat(blob).unwrap();
                assert!(paid.is_some(), "{blob} of {address} has expired");
            }
        }
    }

    /// Old heads of which something has expired.
    async fn expired(&self) -> Vec<Address> {
        let mut expired = Vec::new();
        let there = self.stored();
        for (address, _) in self.old() {
            let Address::Walrus { blob, .. } = address else {
                continue;
            };
            if there.contains(&blob) {
                let blobs = self.blobs_of(std::slice::from_ref(&address)).await;
                let gone = |blob: &BlobId| self.parts.store.stat(*blob).unwrap().is_none();
                if blobs.iter().any(gone) {
                    expired.push(address);
                }
            }
        }
        expired
    }

    /// Old heads that an earlier collection has taken: their time was over.
    fn lost(&self) -> Vec<Address> {
        let there = self.stored();
        let old = self.old().into_iter().map(|(address, _)| address);
        old.filter(|address| match address {
            Address::Walrus { blob, .. } => !there.contains(blob),
            _ => false,
        })
        .collect()
    }
}

/// Files below a folder, by their paths in it.
fn files(root: &Path) -> Vec<PathBuf> {
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

proptest! {
    #![proptest_config(ProptestConfig {
        // Blob IDs take their time; PROPTEST_CASES asks for more.
        cases: std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(6),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_needed_is_lost_and_nothing_else_survives_a_cycle(steps in steps()) {
        block_on(async {
            let mut rig = Rig::new();
            for step in &steps {
                rig.step(step).await;
            }
            rig.step(&Step::Collect).await;
            eprintln!(
                "{} steps, {} bytes reclaimed, {} blobs renewed",
                steps.len() + 1,
                rig.reclaimed,
                rig.renewed
            );
        });
    }
}
