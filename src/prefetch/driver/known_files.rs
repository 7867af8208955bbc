//! The files that a driver knows: maps nodes to files of the index and their content.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::state::{DriverState, FileContent};
use crate::repo::{Node, NodeIndex};
use walgit_format::chunk::{BlobId, ChunkRef};
use walgit_format::{Content, Directory};
use walgit_prefetch::file_index::{FileId, PackId, StoredRange};

/// Maximum number of entries of a folder that is added as a whole.
const MAX_FOLDER_FILES: usize = 10_000;
/// Maximum size of a prefetched file, in stored bytes.
pub(super) const MAX_FILE_BYTES: u64 = 8 << 20;

/// Memory budget in bytes for all files of a mount: some 80,000 files. Other files
/// are not prefetched.
const MAX_INDEX_BYTES: u64 = 24 << 20;
/// Maximum length of a folder's path in bytes: the kernel's limit.
const MAX_PATH_LEN: usize = 4096;
/// Memory of a file in bytes, in addition to its path and chunks.
const FILE_OVERHEAD_BYTES: usize = 256;

/// Returns the memory in bytes of a folder and all its ancestors, which may be new.
fn weight_of(folder: &str) -> usize {
    let depth = folder.bytes().filter(|&byte| byte == b'/').count();
    (depth + 1) * (FILE_OVERHEAD_BYTES + folder.len())
}

/// Range of a file that needs no request.
const EMPTY_RANGE: StoredRange = StoredRange {
    pack: PackId(u32::MAX),
    offset: 0,
    len: 0,
};

impl DriverState {
    pub(super) fn is_cached(&self, file: FileId) -> bool {
        let cached = self.snapshot.cache();
        match &self.contents[file.index()] {
            FileContent::Inline => true,
            FileContent::Chunks(chunks) => chunks.iter().all(|chunk| cached.contains(&chunk.hash)),
            FileContent::Whole(whole) => self.snapshot.pieces_of(whole).is_some(),
        }
    }

    /// Returns the file of the index for a node; adds its folder if necessary. All
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
        if directory.entries().len() <= MAX_FOLDER_FILES {
            self.add_folder(&folder, &node, &directory);
        } else if self.try_charge(weight_of(&folder)) {
            self.add(&folder, &directory, at);
        }
        let name = String::from_utf8_lossy(&directory.entries()[at].name);
        self.scheduler.file_index().find(&format!("{folder}{name}"))
    }

    /// Adds every folder that is in memory.
    pub(super) fn add_all(&mut self) {
        let snapshot = self.snapshot.clone();
        // Keep the parent's path and the name of a folder: full paths of many deep
        // folders would be long.
        let mut pending: Vec<(Arc<str>, String, Node)> =
            vec![("".into(), String::new(), snapshot.root())];
        while let Some((above, name, node)) = pending.pop() {
            let path: Arc<str> = format!("{above}{name}").into();
            if path.len() > MAX_PATH_LEN {
                continue;
            }
            let Some(Ok(directory)) = snapshot.directory(&node).now_or_never() else {
                continue;
            };
            if directory.entries().len() <= MAX_FOLDER_FILES {
                self.add_folder(&path, &node, &directory);
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

    fn add_folder(&mut self, path: &str, node: &Node, directory: &Directory) {
        if !self.folders.contains(&node.index) && self.try_charge(weight_of(path)) {
            self.folders.insert(node.index);
            for at in 0..directory.entries().len() {
                self.add(path, directory, at);
            }
        }
    }

    /// Charges one more file of the index to the budget; returns whether it fits.
    fn try_charge(&mut self, bytes: usize) -> bool {
        self.charge.can_charge(bytes as u64, MAX_INDEX_BYTES)
            && self.charge.more(bytes as u64).is_ok()
    }

    /// Adds entry `at` of a folder to the file index if it is a file and fits the
    /// budget.
    fn add(&mut self, path: &str, directory: &Directory, at: usize) {
        let entry = &directory.entries()[at];
        let path = format!("{path}{}", String::from_utf8_lossy(&entry.name));
        if self.scheduler.file_index().find(&path).is_some() {
            return;
        }
        let (content, place) = match &entry.content {
            Content::Chunks { first, count } if *count > 0 => {
                let run = &directory.chunks()[*first as usize..(*first + *count) as usize];
                let (first, last) = (&run[0].location, &run[run.len() - 1]);
                let len = last.range().end().saturating_sub(first.offset);
                let stored: u64 = run.iter().map(|c| u64::from(c.stored_len)).sum();
                // Scattered or large files are not prefetched.
                if len != stored || len > MAX_FILE_BYTES || first.blob != last.location.blob {
                    return;
                }
                let place = self.range(first.blob, first.offset, len);
                (FileContent::Chunks(run.into()), place)
            }
            Content::Whole { index } => {
                let whole = &directory.wholes()[*index as usize];
                match whole.size {
                    0 => (FileContent::Inline, EMPTY_RANGE),
                    size if size > MAX_FILE_BYTES => return,
                    size => {
                        let place = self.range(whole.blob, 0, size);
                        (FileContent::Whole(whole.clone()), place)
                    }
                }
            }
            Content::Chunks { .. } | Content::Inline(_) => (FileContent::Inline, EMPTY_RANGE),
            Content::Part { .. } | Content::List { .. } | Content::Directory { .. } => return,
        };
        let chunks = match &content {
            FileContent::Chunks(chunks) => chunks.len() * size_of::<ChunkRef>(),
            FileContent::Inline | FileContent::Whole(_) => 0,
        };
        // The name is kept in several orders besides the path.
        if !self.try_charge(FILE_OVERHEAD_BYTES + path.len() + 3 * entry.name.len() + chunks) {
            return;
        }
        let id = (self.scheduler.file_index_mut()).add(&path, place);
        // Names that are not UTF-8 may collide: the first one wins.
        if id.index() == self.contents.len() {
            self.contents.push(content);
            if self.is_cached(id) {
                self.scheduler.mark_cached(id);
            }
        }
    }

    fn range(&mut self, blob: BlobId, offset: u64, len: u64) -> StoredRange {
        let next = PackId(self.packs.len() as u32);
        let pack = *self.packs.entry(blob).or_insert(next);
        StoredRange { pack, offset, len }
    }
}
