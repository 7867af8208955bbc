//! Generated hostile repositories: each is opened, listed, read, checked and exported,
//! and its history queried, within limits of memory and time.
//!
//! A few hundred seeds by default. `WALGIT_FS_HOSTILE_REPOSITORIES` sets the number,
//! `WALGIT_FS_HOSTILE_SEED` the first seed; `make fuzz-repositories` runs many.

pub(crate) mod generator;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use walgit_format::Kind;
use walgit_format::chunk::{BlobId, ByteRange};
use walgit_format::git::RawCommit;
use walgit_fs::cache::{Cache, CacheConfig};
use walgit_fs::lifecycle::fsck::{self, FsckOptions, HistoryCheck, ReadScope};
use walgit_fs::lifecycle::{ExportOptions, export};
use walgit_fs::repo::{Loader, LoaderConfig, Node, RepoError, Snapshot};
use walrus_client::{
    BlobLifetimes, BlobReader, BlobStore, BlobWriter, ReadRange, StoreError, StoreLayer, Verifier,
};

use generator::{GeneratedRepository, generate};

const COUNT_VARIABLE: &str = "WALGIT_FS_HOSTILE_REPOSITORIES";
const SEED_VARIABLE: &str = "WALGIT_FS_HOSTILE_SEED";
/// Set in the worker process.
const CHILD_VARIABLE: &str = "WALGIT_FS_HOSTILE_CHILD";
/// Address space of the worker, in KiB: beyond it allocations fail.
const ADDRESS_SPACE_KIB: u64 = 3 << 20;
/// Maximum memory for one repository, in KiB.
const MAX_MEMORY_KIB: u64 = 300 << 10;
/// Maximum time for one repository, on a loaded machine and without optimization.
const MAX_DURATION: Duration = Duration::from_secs(60);
/// Maximum number of visited nodes per repository.
const MAX_VISITED_NODES: usize = 60;

/// A store of one blob.
#[derive(Debug, Default)]
struct SingleBlobStore(Mutex<(Option<BlobId>, Bytes)>);

impl StoreLayer for SingleBlobStore {}

#[async_trait]
impl BlobReader for SingleBlobStore {
    async fn read(
        &self,
        blob: BlobId,
        read_range: ReadRange,
        accept: &mut Verifier<'_>,
    ) -> Result<(), StoreError> {
        let (known, bytes) = self.0.lock().unwrap().clone();
        if known != Some(blob) {
            return Err(StoreError::NotFound {
                blob,
                place: "memory".into(),
            });
        }
        let part = match read_range {
            ReadRange::Whole { .. } => bytes,
            ReadRange::Part(range) if range.end() <= bytes.len() as u64 => {
                bytes.slice(range.start() as usize..range.end() as usize)
            }
            ReadRange::Part(range) => return Err(StoreError::OutOfRange { blob, range }),
        };
        accept(part).map_err(|rejected| StoreError::Corrupt {
            blob,
            place: "memory".into(),
            why: rejected.0,
        })
    }

    async fn len(&self, _: BlobId) -> Result<Option<u64>, StoreError> {
        Ok(Some(self.0.lock().unwrap().1.len() as u64))
    }
}

impl BlobWriter for SingleBlobStore {}

impl BlobLifetimes for SingleBlobStore {}

/// Memory of this process, in KiB: `VmRSS`, or `VmHWM`, the peak since the last reset.
fn memory_kib(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|line| line.strip_prefix(what));
    let found = found.and_then(|found| found.trim_start_matches(':').split_whitespace().next());
    found.unwrap().parse().unwrap()
}

fn reset_peak() {
    // Not permitted everywhere: then the peak is that of all repositories so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

#[test]
fn generated_hostile_repositories_are_read_or_refused_within_limits() {
    let count = std::env::var(COUNT_VARIABLE).unwrap_or_else(|_| "300".into());
    let child = std::env::current_exe().unwrap();
    let test = "hostile_model::hostile_repository_worker";
    let run = format!("ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" --exact {test} --nocapture");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &run])
        .arg(child)
        .env(CHILD_VARIABLE, "1")
        .env(COUNT_VARIABLE, count);
    let done = shell.output().unwrap();
    let output = String::from_utf8_lossy(&done.stdout);
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {output}\n{why}", done.status);
    let figures = output.lines().find(|line| line.contains("worst memory"));
    println!("{}", figures.expect("the worker prints its figures"));
}

/// Runs in a separate process with limited, measured memory.
#[test]
fn hostile_repository_worker() {
    if std::env::var_os(CHILD_VARIABLE).is_none() {
        return;
    }
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|it| it.parse::<u64>().ok())
    };
    let (first, count) = (
        number(SEED_VARIABLE).unwrap_or(1),
        number(COUNT_VARIABLE).unwrap_or(1),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = CacheConfig {
        dir: dir.path().join("cache"),
        disk_bytes: 16 << 20,
        memory_bytes: 8 << 20,
    };
    let cache = Cache::open(&config).unwrap();
    let store = Arc::new(SingleBlobStore::default());
    let (mut memory, mut time) = ((0, 0), (Duration::ZERO, 0));
    let mut opened = 0;
    for seed in first..first + count {
        let generated = generate(seed);
        *store.0.lock().unwrap() = (Some(generated.blob), generated.bytes.clone());
        let loader = Loader::new(cache.clone(), LoaderConfig::default());
        reset_peak();
        let before = memory_kib("VmRSS");
        let started = Instant::now();
        let blobs: Arc<dyn BlobStore> = store.clone();
        opened += u64::from(runtime.block_on(exercise(&loader, blobs, &generated, dir.path())));
        let took = started.elapsed();
        // Memory that the allocator retains is not counted for the next one.
        let peak = memory_kib("VmHWM").saturating_sub(before);
        memory = memory.max((peak, seed));
        time = time.max((took, seed));
        assert!(peak < MAX_MEMORY_KIB, "seed {seed}: {peak} KiB");
        assert!(took < MAX_DURATION, "seed {seed}: {took:?}");
    }
    println!(
        "{count} repositories from seed {first}, {opened} of them opened; worst memory {} MiB \
         (seed {}), worst time {:.2} s (seed {}); {} MiB taken in the end",
        memory.0 >> 10,
        memory.1,
        time.0.as_secs_f64(),
        time.1,
        memory_kib("VmRSS") >> 10
    );
}

/// Uses everything that reads a repository. Errors are fine; returns whether it could
/// be opened.
async fn exercise(
    loader: &Arc<Loader>,
    store: Arc<dyn BlobStore>,
    generated: &GeneratedRepository,
    dir: &Path,
) -> bool {
    let Ok(repository) = loader
        .open(store, generated.blob, Some(generated.root))
        .await
    else {
        return false;
    };
    let check = |history| {
        let repository = &repository;
        async move {
            let options = FsckOptions {
                history,
                ..FsckOptions::reading(ReadScope::Everything)
            };
            let checked = fsck::check(repository, &options, &()).await;
            checked.is_ok_and(|report| report.is_sound())
        }
    };
    let decoded = check(HistoryCheck::Decoded).await;
    let hashed = check(HistoryCheck::Hashed).await;
    assert!(decoded || !hashed, "{}", generated.root);
    let Ok(snapshot) = repository.snapshot(0) else {
        return true;
    };
    let _ = list(&snapshot).await;
    let _ = snapshot.scan(0..200).await;
    repository.fetch_dictionaries().await;
    let _ = repository.prior().await;
    if let Ok(commits) = repository.git_commits().await {
        let id = snapshot.commit().id.git();
        RawCommit::ancestry(&commits, &id).take(10).for_each(drop);
    }
    let _ = repository.all_refs().await;
    if let Ok(Some(archive)) = repository.archive().await {
        let named: Vec<_> = match archive.commits().await {
            Ok(commits) => commits.take(3).collect(),
            Err(why) => {
                assert!(!decoded, "{}: {why}", generated.root);
                Vec::new()
            }
        };
        for (id, _) in named {
            if let Ok(past) = repository.snapshot_of(Some(&id.to_string())).await {
                let _ = list(&past).await;
            }
        }
        let target = dir.join("export");
        let options = ExportOptions {
            bare: true,
            ..ExportOptions::default()
        };
        if export(&repository, &target, options, &|_, _| {})
            .await
            .is_ok()
        {
            fs::remove_dir_all(&target).unwrap();
        } else {
            assert!(
                !hashed,
                "{}: an intact history can be exported",
                generated.root
            );
        }
        assert!(!target.exists(), "a failed export leaves nothing");
    }
    true
}

/// As `ls -R` and `cat` do, up to a limit.
async fn list(snapshot: &Snapshot) -> Result<(), RepoError> {
    let mut pending: Vec<Node> = vec![snapshot.root()];
    let mut visited = 0;
    while let Some(node) = pending.pop() {
        visited += 1;
        if visited > MAX_VISITED_NODES {
            break;
        }
        match node.kind {
            Kind::Directory => {
                let Ok(directory) = snapshot.directory(&node).await else {
                    continue;
                };
                let count = directory.entries().len();
                let some = (0..count.min(20)).chain(count.saturating_sub(2)..count);
                pending.extend(some.map(|at| snapshot.entry(&node, &directory, at)));
            }
            Kind::File { .. } => {
                let _ = snapshot
                    .read(&node, ByteRange::new(0, 1 << 17), 1 << 17)
                    .await;
                let _ = snapshot.file_chunks(&node).await;
                let _ = snapshot.cached_share(&node).await;
            }
            Kind::Symlink => _ = snapshot.target(&node),
            Kind::Submodule => {}
        }
    }
    Ok(())
}
