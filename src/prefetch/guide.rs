//! The scheduler at work over a mount.
//!
//! A guide is told who begins to read which file. Somebody who has to wait for
//! it is noted at once, on their own thread: their request is made by the
//! scheduler, with the neighbours that are worth it, before the read itself
//! asks for it. Somebody who need not wait is noted by a worker, a little
//! later, so that a hit costs nothing; when too many come at once, some are
//! forgotten. The worker also reports what arrived, and puts away what was
//! learned: when the mount ends, and now and then before.
//!
//! One mount is one session. What is learned is kept under the repository's
//! identity, which its next commit shares, and is sealed where the repository
//! is encrypted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::catalogue::{Catalogue, FileId, PackId, Place};
use super::hints::{self, Hints};
use super::model::TaskId;
use super::scheduler::{Action, Config, Counts, Fetch, FetchId, Link, Scheduler};
use super::{Profile, requests};
use crate::chunk::{BlobId, ChunkRef, WholeBlob};
use crate::repo::{Coming, Content, Directory, Node, NodeIndex, Snapshot};

/// Events that wait for the worker; more are forgotten.
const WAITING: usize = 1024;
/// Directories of trees of up to this many nodes are fetched as soon as they are
/// mounted, a request or two: the model may foretell files in folders that nobody
/// has looked at yet, and who looks into one does not wait. Of larger trees the
/// folders that were looked at are known. About 300 bytes a file.
const KNOWN_WHOLE: u64 = 20_000;
/// Larger folders are not taken in whole.
const LARGE_FOLDER: usize = 10_000;
/// Stored bytes of the longest file that is fetched ahead.
const LARGE_FILE: u64 = 8 << 20;
/// How often what was learned is put away while the mount lives.
const SAVED_EVERY: Duration = Duration::from_secs(30);

/// Where a file lies that needs no request.
const NOWHERE: Place = Place {
    pack: PackId(u32::MAX),
    offset: 0,
    len: 0,
};

/// What may be used to foretell opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learning {
    /// Nothing: no guide.
    Off,
    /// What the repository itself tells: neighbours, folders, names.
    Related,
    /// That, and what earlier sessions opened.
    #[default]
    Learned,
}

/// Figures of prefetching in one mount since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrefetchStats {
    /// Requests made ahead.
    pub requests: u64,
    /// Files that were fetched ahead.
    pub files: u64,
    /// Those of them that were opened thereafter.
    pub hits: u64,
    /// Files somebody had to wait for although they were on their way.
    pub late: u64,
    /// First opens that had to wait for a request of their own.
    pub misses: u64,
    /// Stored bytes that were fetched ahead and opened.
    pub useful_bytes: u64,
    /// Stored bytes that were fetched ahead and not opened so far.
    pub unused_bytes: u64,
    /// Seconds that readers would have waited for what was there already.
    pub saved_s: f64,
    /// Transitions that the model has learned, earlier sessions included.
    pub transitions: u64,
    /// Part of the files fetched ahead that was opened thereafter; `None` where
    /// there were none.
    pub precision: Option<f64>,
    /// Part of the first opens that would have waited that did not, because the
    /// file was there already; `None` where none would have.
    pub coverage: Option<f64>,
}

/// Watches the opens of one mount.
#[derive(Debug)]
pub struct Guide {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    began: Instant,
    /// Empty where nothing is to be kept.
    identity: String,
}

#[derive(Debug)]
struct State {
    snapshot: Snapshot,
    scheduler: Scheduler,
    /// What each file of the catalogue consists of.
    contents: Vec<Stored>,
    packs: HashMap<BlobId, PackId>,
    /// Folders that were taken in, by number.
    folders: HashSet<NodeIndex>,
    /// Fetches under way, to be broken off when they are forgotten; what is
    /// reported of others comes too late.
    flying: HashMap<FetchId, Option<AbortOnDropHandle<()>>>,
    /// Files fetched ahead that nobody has opened.
    unopened: HashMap<FileId, u64>,
    /// What was done before the mount moved to the head it shows.
    earlier: Counts,
    /// Stored bytes that were fetched ahead and opened, and seconds saved.
    useful: (u64, f64),
    changed: bool,
}

#[derive(Clone, Debug)]
enum Stored {
    /// In the node of its folder, or empty.
    Inline,
    /// Chunks that follow each other in one blob.
    Chunks(Arc<[ChunkRef]>),
    /// A blob of its own.
    Whole(WholeBlob),
}

#[derive(Debug)]
enum Event {
    Opened(TaskId, NodeIndex),
    Landed(FetchId, FileId, bool),
    /// All files of a fetch have landed.
    Ended(FetchId),
    /// Every directory of the tree is in memory now.
    Walked,
    /// What the repository carries along is here.
    Told(Box<Hints>),
}

impl Guide {
    /// A guide for a mount of `snapshot`, whose repository is called `identity`
    /// from session to session. Must be called within a runtime.
    pub fn new(snapshot: &Snapshot, identity: &str, learning: Learning) -> Option<Self> {
        let known = match learning {
            Learning::Off => return None,
            Learning::Related => None,
            Learning::Learned => hints::learned(snapshot.repository(), identity),
        };
        let begins = learning == Learning::Learned && known.is_none();
        let profile = known.unwrap_or_default();
        let config = Config::default();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                snapshot: snapshot.clone(),
                scheduler: Scheduler::new(Catalogue::default(), profile, Link::default(), config),
                contents: Vec::new(),
                packs: HashMap::new(),
                folders: HashSet::new(),
                flying: HashMap::new(),
                unopened: HashMap::new(),
                earlier: Counts::default(),
                useful: (0, 0.0),
                changed: false,
            }),
            began: Instant::now(),
            identity: match learning {
                Learning::Learned => identity.into(),
                _ => String::new(),
            },
        });
        let (events, received) = mpsc::channel(WAITING);
        let worker = Worker {
            shared: shared.clone(),
            events: events.downgrade(),
            begins,
        };
        tokio::spawn(worker.run(received));
        Some(Guide { shared, events })
    }

    /// Notes that a task begins to read a file of `snapshot`; `away` where it
    /// has to wait for the network. Must be called within a runtime; does not
    /// wait.
    pub fn opened(&self, task: u64, snapshot: &Snapshot, file: NodeIndex, away: bool) {
        let task = TaskId(task);
        if !away {
            let _ = self.events.try_send(Event::Opened(task, file));
            return;
        }
        let actions = {
            let mut state = self.shared.state();
            // After a move to another head, files lie elsewhere.
            state.move_to(snapshot);
            state.opened(task, file, self.shared.now())
        };
        self.shared.perform(actions, &self.events.downgrade());
    }

    /// What has been learned so far; `None` where nothing is kept.
    pub fn learned(&self) -> Option<Profile> {
        let kept = !self.shared.identity.is_empty();
        kept.then(|| self.shared.state().scheduler.profile())
    }

    /// Adds what somebody else learned, or puts it in the place of what is known;
    /// whether it is used from now on.
    pub fn teach(&self, profile: &Profile, replace: bool) -> bool {
        if self.shared.identity.is_empty() {
            return false;
        }
        let mut state = self.shared.state();
        match replace {
            true => state.scheduler.replace(profile.clone()),
            false => state.scheduler.merge(profile, 1.0),
        }
        state.changed = true;
        true
    }

    /// The figures now.
    pub fn stats(&self) -> PrefetchStats {
        let state = self.shared.state();
        let counts = state.counts();
        let (useful_bytes, saved_s) = state.useful;
        let part = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let in_time = counts.files_hit.saturating_sub(counts.files_late);
        PrefetchStats {
            requests: counts.prefetches,
            files: counts.files_ahead,
            hits: counts.files_hit,
            late: counts.files_late,
            misses: counts.demands,
            useful_bytes,
            unused_bytes: state.unopened.values().sum(),
            saved_s,
            transitions: state.scheduler.transitions() as u64,
            precision: part(counts.files_hit, counts.files_ahead),
            coverage: part(in_time, counts.files_hit + counts.demands),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Does what the scheduler decided.
    fn perform(&self, actions: Vec<Action>, events: &mpsc::WeakSender<Event>) {
        for action in actions {
            match action {
                Action::Fetch(fetch) => {
                    let (snapshot, contents) = self.state().depart(&fetch);
                    let coming = begin(&snapshot, &contents, &fetch);
                    let landing = land(snapshot, contents, coming, fetch.id, events.clone());
                    let landing = AbortOnDropHandle::new(tokio::spawn(landing));
                    if let Some(flying) = self.state().flying.get_mut(&fetch.id) {
                        *flying = Some(landing);
                    }
                }
                Action::Cancel(id) => {
                    self.state().flying.remove(&id);
                }
            }
        }
    }

    /// Puts away what was learned, where there is something new.
    fn save(&self) {
        let (profile, snapshot) = {
            let mut state = self.state();
            if self.identity.is_empty() || !std::mem::take(&mut state.changed) {
                return;
            }
            (state.scheduler.profile(), state.snapshot.clone())
        };
        (snapshot.repository()).set_learned(&self.identity, &profile.encode());
    }
}

/// Makes the request of a fetch, before whoever waits for it asks as well.
fn begin(snapshot: &Snapshot, contents: &[(FileId, Stored)], fetch: &Fetch) -> Vec<Coming> {
    let mut table: Vec<ChunkRef> = Vec::new();
    let mut demanded = None;
    for (file, content) in contents {
        if let Stored::Chunks(chunks) = content {
            if fetch.demanded == Some(*file) {
                demanded = chunks.first().map(|chunk| chunk.hash);
            }
            table.extend_from_slice(chunks);
        }
    }
    table.sort_unstable_by_key(|chunk| chunk.at.offset);
    let at = table.iter().position(|chunk| Some(chunk.hash) == demanded);
    let first = at.and_then(|at| snapshot.begin_chunks(&table, at, fetch.len));
    let missing = requests::missing(snapshot, table);
    let others = requests::begin(snapshot, &missing, fetch.len);
    first.into_iter().chain(others).collect()
}

/// Reports each file of a fetch as it arrives.
async fn land(
    snapshot: Snapshot,
    contents: Vec<(FileId, Stored)>,
    // Held to the end: what nobody holds is called off.
    _coming: Vec<Coming>,
    id: FetchId,
    events: mpsc::WeakSender<Event>,
) {
    for (file, content) in contents {
        let here = match &content {
            Stored::Inline => true,
            Stored::Whole(whole) => is_landed(snapshot.begin_whole(whole)).await,
            Stored::Chunks(chunks) => {
                let mut here = true;
                for at in 0..chunks.len() {
                    here &= is_landed(snapshot.begin_chunks(chunks, at, LARGE_FILE)).await;
                }
                here
            }
        };
        if !send(&events, Event::Landed(id, file, here)).await {
            return;
        }
    }
    send(&events, Event::Ended(id)).await;
}

/// Waits for something that is being fetched, unless it is here.
async fn is_landed(coming: Option<Coming>) -> bool {
    match coming {
        Some(coming) => coming.landed().await.is_ok(),
        None => true,
    }
}

/// Tells the worker, if there still is one.
async fn send(events: &mpsc::WeakSender<Event>, event: Event) -> bool {
    match events.upgrade() {
        Some(events) => events.send(event).await.is_ok(),
        None => false,
    }
}

/// Notes what can wait a moment.
struct Worker {
    shared: Arc<Shared>,
    events: mpsc::WeakSender<Event>,
    /// Nothing has been learned of the repository yet.
    begins: bool,
}

impl Worker {
    /// Runs until the mount is gone.
    async fn run(self, mut received: mpsc::Receiver<Event>) {
        let mut save_at = tokio::time::Instant::now() + SAVED_EVERY;
        self.walk_tree();
        let (mut opened, mut walked, mut told) = (false, false, false);
        loop {
            let wake = self.shared.state().scheduler.wake();
            let wait = wake.map_or(SAVED_EVERY.as_secs_f64(), |at| at - self.shared.now());
            let wait = Duration::from_secs_f64(wait.clamp(0.001, SAVED_EVERY.as_secs_f64()));
            let event = tokio::select! {
                event = received.recv() => match event {
                    Some(event) => Some(event),
                    None => break,
                },
                () = tokio::time::sleep(wait) => None,
                () = tokio::time::sleep_until(save_at) => {
                    self.save().await;
                    save_at = tokio::time::Instant::now() + SAVED_EVERY;
                    continue;
                }
            };
            opened |= matches!(event, Some(Event::Opened(..) | Event::Landed(..)));
            // Not before the first file is there: whoever reads it comes first.
            if opened && !std::mem::replace(&mut told, true) {
                self.read_hints();
            }
            let now = self.shared.now();
            let actions = {
                let mut state = self.shared.state();
                match event {
                    Some(Event::Opened(task, file)) => state.opened(task, file, now),
                    Some(Event::Landed(id, file, here)) => state.landed(id, file, here, now),
                    Some(Event::Ended(id)) => {
                        state.flying.remove(&id);
                        Vec::new()
                    }
                    Some(Event::Walked) => {
                        walked = true;
                        Vec::new()
                    }
                    Some(Event::Told(hints)) => {
                        state.told(*hints);
                        state.scheduler.tick(now)
                    }
                    None => state.scheduler.tick(now),
                }
            };
            // A mount of which nothing is read needs no catalogue.
            if opened && std::mem::take(&mut walked) {
                self.shared.state().take_in_all();
            }
            self.shared.perform(actions, &self.events);
        }
        self.save().await;
    }

    /// Reads what the repository carries along, in the background.
    fn read_hints(&self) {
        let repository = self.shared.state().snapshot.repository().clone();
        let (events, begins) = (self.events.clone(), self.begins);
        tokio::spawn(async move {
            let hints = Hints::of(&repository, begins).await;
            if let Some(events) = events.upgrade() {
                let _ = events.send(Event::Told(Box::new(hints))).await;
            }
        });
    }

    async fn save(&self) {
        let shared = self.shared.clone();
        // Only a runtime that shuts down loses this.
        let _ = tokio::task::spawn_blocking(move || shared.save()).await;
    }

    /// Reads all directories of a tree that is small enough, in the background.
    fn walk_tree(&self) {
        let snapshot = self.shared.state().snapshot.clone();
        let nodes = snapshot.commit().nodes;
        if nodes > KNOWN_WHOLE {
            return;
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            if snapshot.stretch(0..nodes + 1).await.is_ok()
                && let Some(events) = events.upgrade()
            {
                let _ = events.send(Event::Walked).await;
            }
        });
    }
}

impl State {
    /// The mount shows another head: its files lie elsewhere.
    fn move_to(&mut self, snapshot: &Snapshot) {
        let root = |snapshot: &Snapshot| snapshot.commit().root;
        if root(snapshot) == root(&self.snapshot) {
            return;
        }
        self.earlier = self.counts();
        let (profile, link) = (self.scheduler.profile(), self.scheduler.link());
        let config = Config::default();
        let prior = self.scheduler.prior().cloned();
        self.scheduler = Scheduler::new(Catalogue::default(), profile, link, config);
        prior.into_iter().for_each(|it| self.scheduler.tell(it));
        self.snapshot = snapshot.clone();
        self.contents.clear();
        self.packs.clear();
        self.folders.clear();
        self.flying.clear();
        self.unopened.clear();
    }

    fn opened(&mut self, task: TaskId, file: NodeIndex, now: f64) -> Vec<Action> {
        let Some(file) = self.find(file) else {
            return Vec::new();
        };
        self.changed = true;
        if self.is_here(file) {
            self.scheduler.held(file);
        }
        if let Some(bytes) = self.unopened.remove(&file) {
            let link = self.scheduler.link();
            self.useful.0 += bytes;
            self.useful.1 += link.rtt() + link.seconds(bytes);
        }
        self.scheduler.opened(task, file, now)
    }

    fn landed(&mut self, id: FetchId, file: FileId, here: bool, now: f64) -> Vec<Action> {
        if !self.flying.contains_key(&id) {
            return Vec::new();
        }
        match here {
            true => self.scheduler.fetched(file, now),
            false => self.scheduler.failed(file, now),
        }
    }

    fn told(&mut self, hints: Hints) {
        if let Some(prior) = hints.prior {
            self.scheduler.tell(prior);
        }
        if let Some(profile) = hints.shipped {
            self.scheduler.merge(&profile, 0.5);
            self.changed = true;
        }
    }

    /// What has been done since the mount was made.
    fn counts(&self) -> Counts {
        self.earlier + self.scheduler.counts()
    }

    /// Notes that a fetch begins; what its files consist of.
    fn depart(&mut self, fetch: &Fetch) -> (Snapshot, Vec<(FileId, Stored)>) {
        self.flying.insert(fetch.id, None);
        let mut contents = Vec::with_capacity(fetch.files.len());
        for &file in &fetch.files {
            let Some(content) = self.contents.get(file.0 as usize) else {
                continue;
            };
            contents.push((file, content.clone()));
            if Some(file) != fetch.demanded {
                let len = self.scheduler.catalogue().place(file).len;
                self.unopened.insert(file, len);
            }
        }
        (self.snapshot.clone(), contents)
    }

    fn is_here(&self, file: FileId) -> bool {
        match &self.contents[file.0 as usize] {
            Stored::Inline => true,
            Stored::Chunks(chunks) => chunks.iter().all(|chunk| self.snapshot.holds(chunk)),
            Stored::Whole(whole) => self.snapshot.knows(whole),
        }
    }

    /// The file of the catalogue that a node is; its folder is taken in where
    /// that is not done. Everything on the way is in memory: somebody has just
    /// read there.
    fn find(&mut self, index: NodeIndex) -> Option<FileId> {
        let snapshot = self.snapshot.clone();
        let mut folder = String::new();
        let mut last: Option<(Node, Arc<Directory>, usize)> = None;
        let step = |node: &Node, directory: &Arc<Directory>, at: usize| {
            if let Some((_, above, at)) = &last {
                folder.push_str(&String::from_utf8_lossy(&above.entries()[*at].name));
                folder.push('/');
            }
            last = Some((node.clone(), directory.clone(), at));
        };
        snapshot.descend(index, step).now_or_never()?.ok()?;
        let (node, directory, at) = last?;
        match directory.entries().len() <= LARGE_FOLDER {
            true => self.take_in(&folder, &node, &directory),
            false => self.add(&folder, &directory, at),
        }
        let name = String::from_utf8_lossy(&directory.entries()[at].name);
        self.scheduler.catalogue().find(&format!("{folder}{name}"))
    }

    /// Takes in every folder that is in memory.
    fn take_in_all(&mut self) {
        let snapshot = self.snapshot.clone();
        let mut pending: Vec<(String, Node)> = vec![(String::new(), snapshot.root())];
        while let Some((path, node)) = pending.pop() {
            let Some(Ok(directory)) = snapshot.directory(&node).now_or_never() else {
                continue;
            };
            if directory.entries().len() <= LARGE_FOLDER {
                self.take_in(&path, &node, &directory);
            }
            for (at, entry) in directory.entries().iter().enumerate() {
                if let Content::Directory { .. } = entry.content {
                    let name = String::from_utf8_lossy(&entry.name);
                    let child = snapshot.entry(&node, &directory, at);
                    pending.push((format!("{path}{name}/"), child));
                }
            }
        }
    }

    fn take_in(&mut self, path: &str, node: &Node, directory: &Directory) {
        if self.folders.insert(node.index) {
            for at in 0..directory.entries().len() {
                self.add(path, directory, at);
            }
        }
    }

    /// Adds entry `at` of a folder to the catalogue, if it is a file.
    fn add(&mut self, path: &str, directory: &Directory, at: usize) {
        let entry = &directory.entries()[at];
        let (content, place) = match &entry.content {
            Content::Chunks { first, count } if *count > 0 => {
                let run = &directory.chunks()[*first as usize..(*first + *count) as usize];
                let (one, last) = (&run[0].at, &run[run.len() - 1].at);
                let len = last.range().end().saturating_sub(one.offset);
                let stored: u64 = run.iter().map(|c| u64::from(c.at.stored_len)).sum();
                // What is strewn about, or large, is left to whoever reads it.
                if len != stored || len > LARGE_FILE || one.blob != last.blob {
                    return;
                }
                let place = self.place(one.blob, one.offset, len);
                (Stored::Chunks(run.into()), place)
            }
            Content::Whole { index } => {
                let whole = &directory.wholes()[*index as usize];
                match whole.size {
                    0 => (Stored::Inline, NOWHERE),
                    size if size > LARGE_FILE => return,
                    size => {
                        let place = self.place(whole.blob, 0, size);
                        (Stored::Whole(whole.clone()), place)
                    }
                }
            }
            Content::Chunks { .. } | Content::Inline(_) => (Stored::Inline, NOWHERE),
            Content::List { .. } | Content::Directory { .. } => return,
        };
        let name = String::from_utf8_lossy(&entry.name);
        let id = (self.scheduler.catalogue_mut()).add(&format!("{path}{name}"), place);
        // Names that are no text may look the same: the first one counts.
        if id.0 as usize == self.contents.len() {
            self.contents.push(content);
            if self.is_here(id) {
                self.scheduler.held(id);
            }
        }
    }

    fn place(&mut self, blob: BlobId, offset: u64, len: u64) -> Place {
        let next = PackId(self.packs.len() as u32);
        let pack = *self.packs.entry(blob).or_insert(next);
        Place { pack, offset, len }
    }
}
