//! The files that a guide knows: maps nodes to catalogue files and their content.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::state::State;
use crate::repo::{Node, NodeIndex};
use walgit_format::chunk::{BlobId, ChunkRef, WholeBlob};
use walgit_format::{Content, Directory};
use walgit_prefetch::catalogue::{FileId, PackId, Place};

/// Larger folders are not added as a whole.
const LARGE_FOLDER: usize = 10_000;
/// Maximum size of a prefetched file, in stored bytes.
pub(super) const LARGE_FILE: u64 = 8 << 20;

/// Memory budget in bytes for all files of a guide: some 80,000 files. Other files
/// are not prefetched.
const KNOWN: u64 = 24 << 20;
/// Maximum length of a folder's path in bytes: the kernel's limit.
const MAX_PATH: usize = 4096;
/// Memory of a file in bytes, in addition to its path and chunks.
const PER_FILE: usize = 256;

/// Returns the memory in bytes of a folder and all its ancestors, which may be new.
fn weight_of(folder: &str) -> usize {
    let depth = folder.bytes().filter(|&byte| byte == b'/').count();
    (depth + 1) * (PER_FILE + folder.len())
}

/// Place of a file that needs no request.
const NOWHERE: Place = Place {
    pack: PackId(u32::MAX),
    offset: 0,
    len: 0,
};

#[derive(Clone, Debug)]
pub(super) enum Stored {
    /// Inline in the node of its folder, or empty.
    Inline,
    /// Adjacent chunks of one blob.
    Chunks(Arc<[ChunkRef]>),
    /// A separate blob.
    Whole(WholeBlob),
}

impl State {
    pub(super) fn is_here(&self, file: FileId) -> bool {
        let cached = self.snapshot.cache();
        match &self.contents[file.index()] {
            Stored::Inline => true,
            Stored::Chunks(chunks) => chunks.iter().all(|chunk| cached.contains(&chunk.hash)),
            Stored::Whole(whole) => self.snapshot.pieces_of(whole).is_some(),
        }
    }

    /// Returns the catalogue file of a node; adds its folder if necessary. All
    /// nodes on the path are in memory, because the folder has just been read.
    pub(super) fn find(&mut self, index: NodeIndex) -> Option<FileId> {
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
            false if self.has_room(weight_of(&folder)) => self.add(&folder, &directory, at),
            false => {}
        }
        let name = String::from_utf8_lossy(&directory.entries()[at].name);
        self.scheduler.catalogue().find(&format!("{folder}{name}"))
    }

    /// Adds every folder that is in memory.
    pub(super) fn take_in_all(&mut self) {
        let snapshot = self.snapshot.clone();
        // Keep the parent's path and the name of a folder: full paths of many deep
        // folders would be long.
        let mut pending: Vec<(Arc<str>, String, Node)> =
            vec![("".into(), String::new(), snapshot.root())];
        while let Some((above, name, node)) = pending.pop() {
            let path: Arc<str> = format!("{above}{name}").into();
            if path.len() > MAX_PATH {
                continue;
            }
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
                    pending.push((path.clone(), format!("{name}/"), child));
                }
            }
        }
    }

    fn take_in(&mut self, path: &str, node: &Node, directory: &Directory) {
        if !self.folders.contains(&node.index) && self.has_room(weight_of(path)) {
            self.folders.insert(node.index);
            for at in 0..directory.entries().len() {
                self.add(path, directory, at);
            }
        }
    }

    /// Charges one more catalogue file to the budget; returns whether it fits.
    fn has_room(&mut self, bytes: usize) -> bool {
        self.charge.has_room(bytes as u64, KNOWN) && self.charge.more(bytes as u64).is_ok()
    }

    /// Adds entry `at` of a folder to the catalogue if it is a file and fits the
    /// budget.
    fn add(&mut self, path: &str, directory: &Directory, at: usize) {
        let entry = &directory.entries()[at];
        let path = format!("{path}{}", String::from_utf8_lossy(&entry.name));
        if self.scheduler.catalogue().find(&path).is_some() {
            return;
        }
        let (content, place) = match &entry.content {
            Content::Chunks { first, count } if *count > 0 => {
                let run = &directory.chunks()[*first as usize..(*first + *count) as usize];
                let (first, last) = (&run[0].location, &run[run.len() - 1]);
                let len = last.range().end().saturating_sub(first.offset);
                let stored: u64 = run.iter().map(|c| u64::from(c.stored_len)).sum();
                // Scattered or large files are not prefetched.
                if len != stored || len > LARGE_FILE || first.blob != last.location.blob {
                    return;
                }
                let place = self.place(first.blob, first.offset, len);
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
            Content::Part { .. } | Content::List { .. } | Content::Directory { .. } => return,
        };
        let chunks = match &content {
            Stored::Chunks(chunks) => chunks.len() * size_of::<ChunkRef>(),
            Stored::Inline | Stored::Whole(_) => 0,
        };
        // The name is kept in several orders besides the path.
        if !self.has_room(PER_FILE + path.len() + 3 * entry.name.len() + chunks) {
            return;
        }
        let id = (self.scheduler.catalogue_mut()).add(&path, place);
        // Names that are not UTF-8 may collide: the first one wins.
        if id.index() == self.contents.len() {
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
