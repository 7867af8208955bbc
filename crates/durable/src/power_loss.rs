//! Simulated power loss, for tests.
//!
//! A [`Recording`] observes every operation of [`ops`](super::ops) below a directory. For
//! each moment of the recording, [`Recording::check_all`] creates and checks every state
//! in which power loss at that moment may leave the disk. Unflushed changes may be
//! present or missing: each new, renamed or removed name independently; the content of a
//! file may be missing, complete, truncated or zeros.
//!
//! The program itself never creates a [`Recording`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

/// A change of a file or directory.
#[derive(Clone, Debug)]
pub(super) enum DiskEvent {
    CreateDir(PathBuf),
    /// Path and inode number.
    CreateFile(PathBuf, u64),
    Write(u64, Vec<u8>),
    Truncate(u64, usize),
    SyncFile(u64),
    SyncDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// An operation under test reported success.
    Reported,
}

/// The operations below a directory since the start of the recording.
pub struct Recording {
    root: PathBuf,
    /// State at the start of the recording, assumed to be durable.
    before: SimulatedDisk,
    state: Arc<Mutex<RecordingState>>,
}

#[derive(Default)]
struct RecordingState {
    events: Vec<DiskEvent>,
    /// Number of steps reached.
    steps: usize,
    /// Number of the failing step, and its error.
    fails: Option<(usize, Errno)>,
}

/// Whether a recording exists: without one, an operation costs one atomic load.
static RECORDING: AtomicBool = AtomicBool::new(false);
static RECORDINGS: Mutex<Vec<(PathBuf, Arc<Mutex<RecordingState>>)>> = Mutex::new(Vec::new());

fn with_state<T>(path: &Path, work: impl FnOnce(&mut RecordingState) -> T) -> Option<T> {
    if !RECORDING.load(Ordering::Acquire) {
        return None;
    }
    let recordings = RECORDINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, state) = recordings.iter().find(|(root, _)| path.starts_with(root))?;
    Some(work(&mut state.lock().unwrap()))
}

pub(super) fn step(path: &Path) -> io::Result<()> {
    let failed = with_state(path, |state| {
        state.steps += 1;
        state.fails.filter(|(step, _)| *step == state.steps)
    });
    match failed.flatten() {
        Some((_, error)) => Err(error.into()),
        None => Ok(()),
    }
}

pub(super) fn record(path: &Path, event: impl FnOnce() -> DiskEvent) {
    with_state(path, |state| state.events.push(event()));
}

impl Recording {
    /// Starts recording below `root`.
    pub fn of(root: &Path) -> Self {
        let state = Arc::default();
        let mut recordings = RECORDINGS.lock().unwrap_or_else(PoisonError::into_inner);
        recordings.push((root.into(), Arc::clone(&state)));
        RECORDING.store(true, Ordering::Release);
        Recording {
            root: root.into(),
            before: SimulatedDisk::read(root),
            state,
        }
    }

    /// Makes step number `step` (from 1) fail.
    pub fn fail_at(&self, step: usize, error: Errno) {
        let mut state = self.state.lock().unwrap();
        state.fails = Some((state.steps + step, error));
    }

    /// Returns the number of steps reached.
    pub fn steps(&self) -> usize {
        self.state.lock().unwrap().steps
    }

    /// Records that the operation under test reported success.
    pub fn reported(&self) {
        self.state.lock().unwrap().events.push(DiskEvent::Reported);
    }

    /// Calls `check` for every state that power loss may leave, at every moment, with the
    /// directory of the state and the number of operations reported by then. Returns the
    /// number of states.
    pub fn check_all(&self, mut check: impl FnMut(&Path, usize)) -> usize {
        let events = self.state.lock().unwrap().events.clone();
        let mut seen = BTreeSet::new();
        for end in 0..=events.len() {
            let mut disk = self.before.clone();
            let mut reported = 0;
            for event in &events[..end] {
                reported += usize::from(matches!(event, DiskEvent::Reported));
                disk.apply(&self.root, event);
            }
            for state in disk.after_power_loss() {
                let mut content = Vec::new();
                state.describe(0, Path::new(""), &mut content);
                if !seen.insert((reported, content)) {
                    continue;
                }
                let dir = tempfile::tempdir().unwrap();
                state.write(0, dir.path());
                check(dir.path(), reported);
            }
        }
        seen.len()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut recordings = RECORDINGS.lock().unwrap_or_else(PoisonError::into_inner);
        recordings.retain(|(_, state)| !Arc::ptr_eq(state, &self.state));
    }
}

#[derive(Clone, Copy, Debug)]
enum Node {
    Dir(usize),
    File(usize),
}

/// An atomic change of names.
type Change = Vec<(String, Option<Node>)>;

#[derive(Clone, Debug, Default)]
struct Dir {
    durable: BTreeMap<String, Node>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    /// Content in the running system.
    live: Vec<u8>,
}

/// A file system: directory 0 is the root.
#[derive(Clone, Debug, Default)]
struct SimulatedDisk {
    dirs: Vec<Dir>,
    files: Vec<File>,
    inodes: BTreeMap<u64, usize>,
}

impl Dir {
    fn live(&self) -> BTreeMap<String, Node> {
        let mut names = self.durable.clone();
        self.pending
            .iter()
            .for_each(|change| apply(&mut names, change));
        names
    }
}

fn apply(names: &mut BTreeMap<String, Node>, change: &Change) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().into()
}

impl SimulatedDisk {
    fn read(root: &Path) -> Self {
        let mut disk = SimulatedDisk::default();
        disk.read_dir(root);
        disk
    }

    fn read_dir(&mut self, path: &Path) -> usize {
        use std::os::unix::fs::MetadataExt as _;
        let at = self.dirs.len();
        self.dirs.push(Dir::default());
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let node = if path.is_dir() {
                Node::Dir(self.read_dir(&path))
            } else {
                let bytes = fs::read(&path).unwrap();
                let inode = fs::metadata(&path).unwrap().ino();
                self.inodes.insert(inode, self.files.len());
                self.files.push(File {
                    durable: bytes.clone(),
                    live: bytes,
                });
                Node::File(self.files.len() - 1)
            };
            self.dirs[at].durable.insert(name(&path), node);
        }
        at
    }

    /// Returns the directory at `path` in the running system.
    fn dir(&self, root: &Path, path: &Path) -> usize {
        let relative = path.strip_prefix(root).unwrap();
        relative.iter().fold(0, |at, part| {
            match self.dirs[at].live().get(part.to_str().unwrap()) {
                Some(Node::Dir(dir)) => *dir,
                other => panic!("{}: {other:?}", path.display()),
            }
        })
    }

    fn change(&mut self, root: &Path, path: &Path, change: Change) {
        let parent = path.parent().unwrap();
        // Changes above the root are ignored.
        if parent.starts_with(root) {
            let dir = self.dir(root, parent);
            self.dirs[dir].pending.push(change);
        }
    }

    fn apply(&mut self, root: &Path, event: &DiskEvent) {
        match event {
            DiskEvent::CreateDir(path) => {
                self.dirs.push(Dir::default());
                let node = Node::Dir(self.dirs.len() - 1);
                self.change(root, path, vec![(name(path), Some(node))]);
            }
            DiskEvent::CreateFile(path, inode) => {
                self.files.push(File::default());
                self.inodes.insert(*inode, self.files.len() - 1);
                let node = Node::File(self.files.len() - 1);
                self.change(root, path, vec![(name(path), Some(node))]);
            }
            DiskEvent::Write(inode, bytes) => {
                let file = self.inodes[inode];
                self.files[file].live.extend_from_slice(bytes);
            }
            DiskEvent::Truncate(inode, len) => {
                let file = self.inodes[inode];
                self.files[file].live.truncate(*len);
            }
            DiskEvent::SyncFile(inode) => {
                let file = &mut self.files[self.inodes[inode]];
                file.durable.clone_from(&file.live);
            }
            DiskEvent::SyncDir(path) => {
                if path.starts_with(root) {
                    let dir = self.dir(root, path);
                    let dir = &mut self.dirs[dir];
                    dir.durable = dir.live();
                    dir.pending.clear();
                }
            }
            DiskEvent::Rename(from, to) => {
                assert_eq!(from.parent(), to.parent(), "between directories");
                let dir = self.dir(root, from.parent().unwrap());
                let node = self.dirs[dir].live()[&name(from)];
                let change = vec![(name(from), None), (name(to), Some(node))];
                self.change(root, to, change);
            }
            DiskEvent::Remove(path) => self.change(root, path, vec![(name(path), None)]),
            DiskEvent::Reported => {}
        }
    }

    /// Returns every state that power loss may leave.
    fn after_power_loss(&self) -> Vec<SimulatedDisk> {
        let mut states = vec![self.clone()];
        for dir in 0..self.dirs.len() {
            let pending = &self.dirs[dir].pending;
            assert!(pending.len() < 12, "too much for every subset");
            let subsets = 0..1_u32 << pending.len();
            let found: Vec<_> = subsets
                .map(|subset| {
                    let mut names = self.dirs[dir].durable.clone();
                    let applied =
                        (pending.iter().enumerate()).filter(|(at, _)| subset >> at & 1 == 1);
                    applied.for_each(|(_, change)| apply(&mut names, change));
                    names
                })
                .collect();
            states = (states.iter())
                .flat_map(|state| {
                    found.iter().map(move |names| {
                        let mut state = state.clone();
                        state.dirs[dir].durable.clone_from(names);
                        state
                    })
                })
                .collect();
        }
        for file in 0..self.files.len() {
            let contents = self.files[file].after_power_loss();
            states = (states.iter())
                .flat_map(|state| {
                    contents.iter().map(move |bytes| {
                        let mut state = state.clone();
                        state.files[file].durable.clone_from(bytes);
                        state
                    })
                })
                .collect();
        }
        states
    }

    fn describe(&self, dir: usize, path: &Path, content: &mut Vec<(PathBuf, Option<Vec<u8>>)>) {
        for (name, node) in &self.dirs[dir].durable {
            let path = path.join(name);
            match node {
                Node::File(file) => content.push((path, Some(self.files[*file].durable.clone()))),
                Node::Dir(dir) => {
                    content.push((path.clone(), None));
                    self.describe(*dir, &path, content);
                }
            }
        }
    }

    fn write(&self, dir: usize, path: &Path) {
        for (name, node) in &self.dirs[dir].durable {
            let path = path.join(name);
            match node {
                Node::File(file) => fs::write(path, &self.files[*file].durable).unwrap(),
                Node::Dir(dir) => {
                    fs::create_dir(&path).unwrap();
                    self.write(*dir, &path);
                }
            }
        }
    }
}

impl File {
    fn after_power_loss(&self) -> Vec<Vec<u8>> {
        if self.durable == self.live {
            return vec![self.durable.clone()];
        }
        let both = self.durable.len().min(self.live.len());
        let middle = (both + self.live.len()).div_ceil(2);
        // The length is on disk, but not the bytes.
        let mut zeros = self.live[..both].to_vec();
        zeros.resize(self.live.len(), 0);
        // The last block is on disk, but not the first.
        let mut holed = self.live.clone();
        holed[both..middle].fill(0);
        let torn = self.live[..middle].to_vec();
        vec![self.durable.clone(), self.live.clone(), torn, zeros, holed]
    }
}
