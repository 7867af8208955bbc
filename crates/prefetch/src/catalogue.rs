//! The files a repository is known to hold, and where each lies in its pack.
//!
//! The scheduler asks nothing of the repository itself: whoever reads a folder
//! adds its files here. What has not been added is not fetched ahead.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use walgit_format::prior::PathName;

/// A file, numbered in the order in which it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(super) u32);

impl FileId {
    /// Its number: how many files were added before it.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A folder, numbered in the order in which it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FolderId(pub(super) u32);

/// A sort of files: what stands behind the last dot of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindId(pub(super) u16);

/// One of the blobs that hold the repository, as the caller numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackId(pub u32);

/// Where the stored bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which blob.
    pub pack: PackId,
    /// From which of its bytes on.
    pub offset: u64,
    /// How many bytes; 0 for an empty file.
    pub len: u64,
}

impl Place {
    /// Offset just past the last byte.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// Kinds that are told apart; the rest counts as one.
const MAX_KINDS: u16 = 1024;

#[derive(Debug)]
struct File {
    path: Arc<str>,
    place: Place,
    folder: FolderId,
    kind: KindId,
}

#[derive(Debug)]
struct Folder {
    path: Arc<str>,
    parent: Option<FolderId>,
    folders: Vec<FolderId>,
    files: Vec<FileId>,
    depth: u16,
}

/// Files by path, by folder and by place.
#[derive(Debug, Default)]
pub struct Catalogue {
    files: Vec<File>,
    folders: Vec<Folder>,
    kinds: Vec<Arc<str>>,
    by_path: HashMap<Arc<str>, FileId>,
    folder_by_path: HashMap<Arc<str>, FolderId>,
    kind_by_name: HashMap<Arc<str>, KindId>,
    by_place: BTreeSet<(PackId, u64, FileId)>,
    by_name: HashMap<Box<str>, Vec<FileId>>,
    by_short_name: HashMap<PathName, FileId>,
    by_stem: HashMap<Box<str>, Vec<FileId>>,
}

impl Catalogue {
    /// Adds a file; one that is known already keeps its number and place.
    pub fn add(&mut self, path: &str, place: Place) -> FileId {
        if let Some(&id) = self.by_path.get(path) {
            return id;
        }
        let id = self.add_alone(path, place);
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

    /// Adds a file of which nothing but its path and its place is known: it has
    /// no neighbours and no kin.
    pub fn add_alone(&mut self, path: &str, place: Place) -> FileId {
        if let Some(&id) = self.by_path.get(path) {
            return id;
        }
        let id = FileId(self.files.len() as u32);
        let folder = self.folder(super::model::folder_of(path));
        let kind = self.kind(kind_of(path));
        let path: Arc<str> = path.into();
        self.by_path.insert(path.clone(), id);
        self.files.push(File {
            path,
            place,
            folder,
            kind,
        });
        id
    }

    /// The number of a path.
    pub fn find(&self, path: &str) -> Option<FileId> {
        self.by_path.get(path).copied()
    }

    /// The file that a prior means by a name.
    pub fn named(&self, name: PathName) -> Option<FileId> {
        self.by_short_name.get(&name).copied()
    }

    /// How many files are known.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The path of a file.
    pub fn path(&self, file: FileId) -> &str {
        &self.files[file.0 as usize].path
    }

    /// Where a file lies.
    pub fn place(&self, file: FileId) -> Place {
        self.files[file.0 as usize].place
    }

    /// The folder a file is in.
    pub fn folder_of(&self, file: FileId) -> FolderId {
        self.files[file.0 as usize].folder
    }

    /// The kind of a file.
    pub fn kind_of(&self, file: FileId) -> KindId {
        self.files[file.0 as usize].kind
    }

    /// The name of a kind: `rs`, or nothing.
    pub fn kind_name(&self, kind: KindId) -> &str {
        &self.kinds[usize::from(kind.0)]
    }

    /// The path of a folder, ending in `/`; `/` for the top.
    pub fn folder_path(&self, folder: FolderId) -> &str {
        &self.folders[folder.0 as usize].path
    }

    /// The folder a folder is in; the top has none.
    pub fn parent(&self, folder: FolderId) -> Option<FolderId> {
        self.folders[folder.0 as usize].parent
    }

    /// Folders between a folder and the top, itself included; 0 for the top.
    pub fn depth(&self, folder: FolderId) -> u16 {
        self.folders[folder.0 as usize].depth
    }

    /// The files directly in a folder, in the order they were added.
    pub fn files_in(&self, folder: FolderId) -> &[FileId] {
        &self.folders[folder.0 as usize].files
    }

    /// The folders directly in a folder.
    pub fn folders_in(&self, folder: FolderId) -> &[FolderId] {
        &self.folders[folder.0 as usize].folders
    }

    /// The files called the same, in the order they were added.
    pub fn namesakes(&self, file: FileId) -> &[FileId] {
        let found = self.by_name.get(name_of(self.path(file)));
        found.map_or(&[], Vec::as_slice)
    }

    /// The files called the same but for the kind: `apply.c` and `apply.h`.
    pub fn stem_mates(&self, file: FileId) -> &[FileId] {
        let found = self.by_stem.get(stem_of(name_of(self.path(file))));
        found.map_or(&[], Vec::as_slice)
    }

    /// The files behind this one in its pack, in order.
    pub fn after(&self, file: FileId) -> impl Iterator<Item = FileId> + '_ {
        let Place { pack, offset, .. } = self.place(file);
        let from = std::ops::Bound::Excluded((pack, offset, file));
        let to = std::ops::Bound::Included((pack, u64::MAX, FileId(u32::MAX)));
        self.by_place.range((from, to)).map(|&(_, _, id)| id)
    }

    /// The files before this one in its pack, the nearest first.
    pub fn before(&self, file: FileId) -> impl Iterator<Item = FileId> + '_ {
        let Place { pack, offset, .. } = self.place(file);
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
        self.folders.push(Folder {
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

/// Where the kind begins in a name, at its dot; a dot in front hides a file
/// and begins no kind.
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
