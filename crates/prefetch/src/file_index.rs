//! Index of known files and their positions in the packs.
//!
//! The scheduler does not access the repository: a caller that reads a folder adds
//! its files here. Files that have not been added are not prefetched.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use walgit_format::prior::PathName;

/// ID of a file, numbered in order of insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(super) u32);

impl FileId {
    /// Returns the index: the number of files added before.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// ID of a folder, numbered in order of first appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FolderId(pub(super) u32);

/// Kind of files: the part of a name after its last dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindId(pub(super) u16);

/// ID of a blob of the repository, assigned by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackId(pub u32);

/// Position of the stored bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRange {
    /// Blob that contains the file.
    pub pack: PackId,
    /// Offset of the first byte.
    pub offset: u64,
    /// Number of bytes; 0 for an empty file.
    pub len: u64,
}

impl StoredRange {
    /// Returns the offset after the last byte.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// Maximum number of distinct kinds; all others share one.
const MAX_KINDS: u16 = 1024;

#[derive(Debug)]
struct IndexedFile {
    path: Arc<str>,
    place: StoredRange,
    folder: FolderId,
    kind: KindId,
}

#[derive(Debug)]
struct IndexedFolder {
    path: Arc<str>,
    parent: Option<FolderId>,
    folders: Vec<FolderId>,
    files: Vec<FileId>,
    depth: u16,
}

/// Files by path, by folder and by position.
#[derive(Debug, Default)]
pub struct FileIndex {
    files: Vec<IndexedFile>,
    folders: Vec<IndexedFolder>,
    kinds: Vec<Arc<str>>,
    by_path: HashMap<Arc<str>, FileId>,
    folder_by_path: HashMap<Arc<str>, FolderId>,
    kind_by_name: HashMap<Arc<str>, KindId>,
    by_place: BTreeSet<(PackId, u64, FileId)>,
    by_name: HashMap<Box<str>, Vec<FileId>>,
    by_short_name: HashMap<PathName, FileId>,
    by_stem: HashMap<Box<str>, Vec<FileId>>,
}

impl FileIndex {
    /// Adds a file; a known one keeps its ID and place.
    pub fn add(&mut self, path: &str, place: StoredRange) -> FileId {
        if let Some(&id) = self.by_path.get(path) {
            return id;
        }
        let id = self.add_isolated(path, place);
        let name = name_of(path);
        self.by_name.entry(name.into()).or_default().push(id);
        self.by_stem
            .entry(stem_of(name).into())
            .or_default()
            .push(id);
        self.by_short_name.insert(PathName::of(path.as_bytes()), id);
        self.by_place.insert((place.pack, place.offset, id));
        let folder = self.folder_of(id);
        self.folders[folder.0 as usize].files.push(id);
        id
    }

    /// Adds a file known only by path and place: it has no neighbours and no
    /// related files.
    pub fn add_isolated(&mut self, path: &str, place: StoredRange) -> FileId {
        if let Some(&id) = self.by_path.get(path) {
            return id;
        }
        let id = FileId(self.files.len() as u32);
        let folder = self.folder(super::model::folder_of(path));
        let kind = self.kind(kind_of(path));
        let path: Arc<str> = path.into();
        self.by_path.insert(path.clone(), id);
        self.files.push(IndexedFile {
            path,
            place,
            folder,
            kind,
        });
        id
    }

    /// Returns the ID of a path.
    pub fn find(&self, path: &str) -> Option<FileId> {
        self.by_path.get(path).copied()
    }

    /// Returns the file for a name in a prior.
    pub fn named(&self, name: PathName) -> Option<FileId> {
        self.by_short_name.get(&name).copied()
    }

    /// Returns the number of known files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns whether no file is known.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns the path of a file.
    pub fn path(&self, file: FileId) -> &str {
        &self.files[file.0 as usize].path
    }

    /// Returns the position of a file.
    pub fn range(&self, file: FileId) -> StoredRange {
        self.files[file.0 as usize].place
    }

    /// Returns the folder of a file.
    pub fn folder_of(&self, file: FileId) -> FolderId {
        self.files[file.0 as usize].folder
    }

    /// Returns the kind of a file.
    pub fn kind_of(&self, file: FileId) -> KindId {
        self.files[file.0 as usize].kind
    }

    /// Returns the name of a kind: `rs`, or empty.
    pub fn kind_name(&self, kind: KindId) -> &str {
        &self.kinds[usize::from(kind.0)]
    }

    /// Returns the path of a folder with a trailing `/`; `/` for the root.
    pub fn folder_path(&self, folder: FolderId) -> &str {
        &self.folders[folder.0 as usize].path
    }

    /// Returns the parent of a folder; `None` for the root.
    pub fn parent(&self, folder: FolderId) -> Option<FolderId> {
        self.folders[folder.0 as usize].parent
    }

    /// Returns the depth of a folder; 0 for the root.
    pub fn depth(&self, folder: FolderId) -> u16 {
        self.folders[folder.0 as usize].depth
    }

    /// Returns the files directly in a folder, in order of insertion.
    pub fn files_in(&self, folder: FolderId) -> &[FileId] {
        &self.folders[folder.0 as usize].files
    }

    /// Returns the folders directly in a folder.
    pub fn folders_in(&self, folder: FolderId) -> &[FolderId] {
        &self.folders[folder.0 as usize].folders
    }

    /// Returns the files with the same name, in order of insertion.
    pub fn files_with_same_name(&self, file: FileId) -> &[FileId] {
        let found = self.by_name.get(name_of(self.path(file)));
        found.map_or(&[], Vec::as_slice)
    }

    /// Returns the files with the same stem: `apply.c` and `apply.h`.
    pub fn files_with_same_stem(&self, file: FileId) -> &[FileId] {
        let found = self.by_stem.get(stem_of(name_of(self.path(file))));
        found.map_or(&[], Vec::as_slice)
    }

    /// Returns the files after this one in its pack, in order.
    pub fn after(&self, file: FileId) -> impl Iterator<Item = FileId> + '_ {
        let StoredRange { pack, offset, .. } = self.range(file);
        let from = std::ops::Bound::Excluded((pack, offset, file));
        let to = std::ops::Bound::Included((pack, u64::MAX, FileId(u32::MAX)));
        self.by_place.range((from, to)).map(|&(_, _, id)| id)
    }

    /// Returns the files before this one in its pack, nearest first.
    pub fn before(&self, file: FileId) -> impl Iterator<Item = FileId> + '_ {
        let StoredRange { pack, offset, .. } = self.range(file);
        let all = (pack, 0, FileId(0))..(pack, offset, file);
        self.by_place.range(all).rev().map(|&(_, _, id)| id)
    }

    fn folder(&mut self, path: String) -> FolderId {
        if let Some(&id) = self.folder_by_path.get(&*path) {
            return id;
        }
        let parent = match &*path {
            "/" => None,
            _ => Some(self.folder(super::model::folder_of(&path[..path.len() - 1]))),
        };
        let id = FolderId(self.folders.len() as u32);
        let depth = parent.map_or(0, |parent| self.depth(parent).saturating_add(1));
        if let Some(parent) = parent {
            self.folders[parent.0 as usize].folders.push(id);
        }
        let path: Arc<str> = path.into();
        self.folder_by_path.insert(path.clone(), id);
        self.folders.push(IndexedFolder {
            path,
            parent,
            folders: Vec::new(),
            files: Vec::new(),
            depth,
        });
        id
    }

    fn kind(&mut self, name: &str) -> KindId {
        if let Some(&id) = self.kind_by_name.get(name) {
            return id;
        }
        if self.kinds.len() >= usize::from(MAX_KINDS) {
            return KindId(MAX_KINDS - 1);
        }
        let id = KindId(self.kinds.len() as u16);
        let name: Arc<str> = name.into();
        self.kinds.push(name.clone());
        self.kind_by_name.insert(name, id);
        id
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns the position of the dot at which the kind of a name starts; a leading
/// dot marks a hidden file and starts no kind.
fn kind_at(name: &str) -> Option<usize> {
    name.rfind('.').filter(|&at| at > 0)
}

fn stem_of(name: &str) -> &str {
    kind_at(name).map_or(name, |at| &name[..at])
}

fn kind_of(path: &str) -> &str {
    let name = name_of(path);
    kind_at(name).map_or("", |at| &name[at + 1..])
}
