//! A directory tree derived from the paths of a flat file list.
//!
//! The directories are built in memory as ordinary [`Directory`] values, so
//! [`super::Snapshot`] needs no special case. The name of each is a hash of its
//! complete content: two commits that share a subtree share its name.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use unicode_normalization::UnicodeNormalization as _;

use super::account::{Charge, MemoryAccount};
use super::error::RepoError;
use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef, WholeBlob, budget};
use walgit_format::directory::{Directory, MAX_ENTRIES, PlannedContent, PlannedEntry, check_name};
use walgit_format::head::{CommitId, Signature};
use walgit_format::{Commit, Entry, Head, Kind};

/// Maximum nesting depth of directories. A path that the kernel accepts has at most
/// half of its 4096 bytes as components.
pub const MAX_DEPTH: usize = 2048;
/// Longest path, in bytes: the kernel's `PATH_MAX`.
const MAX_PATH_LEN: usize = 4096;
/// Maximum number of notices; a hostile list could cause one per file.
const MAX_NOTICES: usize = 1000;

/// A file in the list.
#[derive(Clone, Debug)]
pub(super) struct TreeFile {
    /// Its path from the root, as listed.
    pub(super) path: Vec<u8>,
    /// Its kind; never a directory.
    pub(super) kind: Kind,
    /// Bytes of content.
    pub(super) size: u64,
    /// The content, or its location.
    pub(super) content: PlannedContent<ChunkRef>,
}

/// A directory tree in memory.
#[derive(Debug)]
pub(crate) struct DerivedTree {
    pub(super) root: ChunkRef,
    pub(super) nodes: u64,
    pub(super) bytes: u64,
    pub(super) directories: HashMap<ChunkHash, Arc<Directory>>,
    /// Messages about omitted entries and caveats, one per line.
    pub(super) notices: Vec<String>,
    /// Whether any of its content is encrypted in the store.
    pub(super) encrypted: bool,
    /// Memory charge for the tree.
    pub(super) charge: Charge,
}

/// The metadata of the commit of such a tree: one person, one time, and at most one
/// parent.
#[derive(Clone, Debug)]
pub(super) struct CommitMeta {
    pub(super) author: String,
    pub(super) seconds: i64,
    pub(super) message: String,
    pub(super) parent: Option<CommitId>,
}

impl DerivedTree {
    /// Bytes of memory that its directories occupy.
    pub(super) fn weight(&self) -> u64 {
        let directories = self.directories.values();
        let each = (size_of::<ChunkHash>() + 2 * size_of::<usize>()) as u64;
        directories.map(|it| it.weight() + each).sum()
    }

    /// Creates a head with this single commit and the ID `id`.
    pub(super) fn head(&self, id: CommitId, meta: CommitMeta) -> Head {
        let signature = Signature {
            person: meta.author.into(),
            seconds: meta.seconds,
            offset_minutes: 0,
        };
        let commit = Commit {
            id,
            root: self.root.clone(),
            nodes: self.nodes,
            bytes: self.bytes,
            author: signature.clone(),
            committer: signature,
            message: meta.message.into(),
            parents: meta.parent.into_iter().collect(),
        };
        Head {
            commits: vec![commit],
            ..Head::default()
        }
    }
}

/// A directory under construction.
#[derive(Default)]
struct OpenDirectory {
    name: Vec<u8>,
    entries: Vec<PlannedEntry<ChunkRef>>,
}

struct Builder {
    blob: BlobId,
    root: OpenDirectory,
    /// The open directories below the root, the innermost last.
    below: Vec<OpenDirectory>,
    directories: HashMap<ChunkHash, Arc<Directory>>,
    notices: Notices,
}

#[derive(Default)]
struct Notices(Vec<String>, usize);

impl Notices {
    fn add(&mut self, path: &[u8], why: &str) {
        self.1 += 1;
        if self.0.len() < MAX_NOTICES {
            let path = String::from_utf8_lossy(path);
            let path: String = path.escape_debug().take(300).collect();
            self.0.push(format!("{path}: {why}"));
        }
    }

    fn finish(mut self) -> Vec<String> {
        let more = self.1 - self.0.len();
        if more > 0 {
            self.0.push(format!("and {more} more"));
        }
        self.0
    }
}

/// Builds the tree. The result is a valid file system tree for any list of paths;
/// entries that do not fit are left out and reported in the notices.
///
/// # Errors
/// [`RepoError::TooLarge`] if the tree exceeds the memory limit for trees,
/// [`RepoError::Memory`] if it exceeds the limit of the account.
pub(super) fn build(
    account: &MemoryAccount,
    leaves: Vec<TreeFile>,
    refused: Vec<(String, &str)>,
    blob: BlobId,
) -> Result<DerivedTree, RepoError> {
    let mut builder = Builder {
        blob,
        root: OpenDirectory::default(),
        below: Vec::new(),
        directories: HashMap::new(),
        notices: Notices::default(),
    };
    for (path, why) in refused {
        let why = format!("left out: {why}");
        builder.notices.add(path.as_bytes(), &why);
    }
    let mut leaves: Vec<TreeFile> = leaves
        .into_iter()
        .filter(|leaf| match check_path(&leaf.path) {
            Ok(()) => true,
            Err(why) => {
                builder.notices.add(&leaf.path, &format!("left out: {why}"));
                false
            }
        })
        .collect();
    leaves.sort_by(|a, b| parts(&a.path).cmp(parts(&b.path)));
    let charge = account.charge(check_memory(&leaves)?)?;
    let mut leaves = leaves.into_iter().peekable();
    while let Some(leaf) = leaves.next() {
        // The paths are sorted by component, so descendants directly follow a path.
        let next = leaves.peek().map(|next| &next.path[..]);
        let below = next.and_then(|next| next.strip_prefix(&leaf.path[..]));
        match below {
            Some([]) => {
                builder
                    .notices
                    .add(&leaf.path, "left out: it is listed more than once");
                while leaves.next_if(|next| next.path == leaf.path).is_some() {}
            }
            Some([b'/', ..]) => builder
                .notices
                .add(&leaf.path, "left out as a file: it is a directory too"),
            _ => builder.add(leaf),
        }
    }
    Ok(builder.finish(charge))
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
}

/// Bytes of memory per file and per directory, without its name.
const BYTES_PER_FILE: usize = size_of::<Entry>() + size_of::<WholeBlob>();
const BYTES_PER_DIRECTORY: usize =
    BYTES_PER_FILE + size_of::<Directory>() + size_of::<ChunkRef>() + 128;

/// Returns the memory that the tree takes, in bytes. Rejects paths, sorted by
/// component, whose directories exceed the budget: a path of 4 KB can name 2,000
/// directories.
fn check_memory(leaves: &[TreeFile]) -> Result<u64, RepoError> {
    let (mut directories, mut bytes) = (0usize, 0usize);
    let mut before: &[u8] = &[];
    for leaf in leaves {
        let depth = leaf.path.iter().filter(|&&byte| byte == b'/').count();
        let same = parts(before).zip(parts(&leaf.path)).take(depth);
        let common = same.take_while(|(a, b)| a == b).count();
        directories += depth - common;
        bytes += (depth - common) * BYTES_PER_DIRECTORY + BYTES_PER_FILE + leaf.path.len();
        before = &leaf.path;
    }
    if bytes as u64 > budget::TREE_BYTES {
        return Err(RepoError::TooLarge(format!(
            "{} files in {directories} directories, which take more than the {} MiB of memory \
             allowed for one repository",
            leaves.len(),
            budget::TREE_BYTES >> 20
        )));
    }
    Ok(bytes as u64)
}

fn check_path(path: &[u8]) -> Result<(), String> {
    if path.len() > MAX_PATH_LEN {
        return Err("the path is too long".into());
    }
    if path.first() == Some(&b'/') {
        return Err("the path is absolute".into());
    }
    let mut depth = 0;
    for name in path.split(|&byte| byte == b'/') {
        if name.is_empty() {
            return Err("the path has an empty component".into());
        }
        check_name(name).map_err(|why| why.to_string())?;
        depth += 1;
    }
    if depth < MAX_DEPTH {
        Ok(())
    } else {
        Err("the path is too deep".into())
    }
}

impl Builder {
    fn add(&mut self, leaf: TreeFile) {
        let mut parts: Vec<&[u8]> = leaf.path.split(|&byte| byte == b'/').collect();
        let name = parts.pop().unwrap_or_default();
        let common = (self.below.iter().zip(&parts))
            .take_while(|(open, part)| open.name == **part)
            .count();
        self.close_to(common);
        self.below
            .extend(parts[common..].iter().map(|part| OpenDirectory {
                name: part.to_vec(),
                entries: Vec::new(),
            }));
        let directory = self.innermost();
        if directory.entries.len() >= MAX_ENTRIES {
            self.notices
                .add(&leaf.path, "left out: its directory has too many entries");
            return;
        }
        directory.entries.push(PlannedEntry {
            name: Bytes::copy_from_slice(name),
            kind: leaf.kind,
            size: leaf.size,
            content: leaf.content,
        });
    }

    fn innermost(&mut self) -> &mut OpenDirectory {
        self.below.last_mut().unwrap_or(&mut self.root)
    }

    /// Completes the innermost directories until `depth` are left below the root, and
    /// adds each to its parent.
    fn close_to(&mut self, depth: usize) {
        while self.below.len() > depth {
            let Some(done) = self.below.pop() else {
                return;
            };
            let name = Bytes::copy_from_slice(&done.name);
            let (node, nodes, bytes) = self.complete(done);
            self.innermost().entries.push(PlannedEntry {
                name,
                kind: Kind::Directory,
                size: bytes,
                content: PlannedContent::Directory { node, nodes },
            });
        }
    }

    /// Builds a directory; returns a reference to it, its number of nodes, and its
    /// bytes of content.
    fn complete(&mut self, done: OpenDirectory) -> (ChunkRef, u64, u64) {
        self.report_lookalikes(&done);
        let bytes = done.entries.iter().map(|entry| entry.size).sum();
        let (directory, hash) = Directory::from_entries(done.entries);
        let nodes = directory.nodes();
        self.directories.insert(hash, Arc::new(directory));
        (ChunkRef::nominal(self.blob, hash), nodes, bytes)
    }

    /// Reports names in a directory that look identical to people.
    fn report_lookalikes(&mut self, done: &OpenDirectory) {
        let mut seen: HashMap<String, &Bytes> = HashMap::new();
        for entry in &done.entries {
            let Ok(name) = std::str::from_utf8(&entry.name) else {
                continue;
            };
            // Fast path: ASCII names are already normalized.
            if name.is_ascii() {
                continue;
            }
            let normal: String = name.nfc().collect();
            if let Some(other) = seen.insert(normal, &entry.name) {
                let mut path: Vec<u8> = Vec::new();
                for above in self.below.iter().chain([done]) {
                    // The root has no name.
                    if !above.name.is_empty() {
                        path.extend_from_slice(&above.name);
                        path.push(b'/');
                    }
                }
                path.extend_from_slice(&entry.name);
                let why = format!(
                    "looks the same as another name here and is written otherwise (Unicode normalisation, {} bytes against {}); both are shown",
                    entry.name.len(),
                    other.len()
                );
                self.notices.add(&path, &why);
            }
        }
    }

    fn finish(mut self, charge: Charge) -> DerivedTree {
        self.close_to(0);
        let root = std::mem::take(&mut self.root);
        let (root, nodes, bytes) = self.complete(root);
        DerivedTree {
            root,
            nodes,
            bytes,
            directories: self.directories,
            notices: self.notices.finish(),
            encrypted: false,
            charge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf(path: &str) -> TreeFile {
        TreeFile {
            path: path.into(),
            kind: Kind::File { executable: false },
            size: 1,
            content: PlannedContent::Inline(Bytes::from_static(b"x")),
        }
    }

    fn tree(paths: &[&str]) -> DerivedTree {
        let leaves = paths.iter().map(|path| leaf(path)).collect();
        let account = MemoryAccount::unlimited();
        build(&account, leaves, Vec::new(), BlobId::from_bytes([1; 32])).unwrap()
    }

    fn paths(tree: &DerivedTree) -> Vec<String> {
        fn walk(tree: &DerivedTree, hash: &ChunkHash, above: &str, out: &mut Vec<String>) {
            let directory = &tree.directories[hash];
            for entry in directory.entries() {
                let path = format!("{above}{}", String::from_utf8_lossy(&entry.name));
                match entry.content {
                    walgit_format::Content::Directory { index, .. } => {
                        let below = directory.chunks()[index as usize].hash;
                        walk(tree, &below, &format!("{path}/"), out);
                    }
                    _ => out.push(path),
                }
            }
        }
        let mut out = Vec::new();
        walk(tree, &tree.root.hash, "", &mut out);
        out
    }

    #[test]
    fn directories_derive_from_paths() {
        let tree = tree(&["b", "a/c/d", "a.txt", "a/b", "z/z/z"]);
        assert_eq!(paths(&tree), ["a/b", "a/c/d", "a.txt", "b", "z/z/z"]);
        assert_eq!((tree.nodes, tree.bytes), (10, 5));
        assert!(tree.notices.is_empty());
    }

    #[test]
    fn invalid_manifest_entries_are_omitted_and_reported() {
        let bad = [
            "..",
            "../up",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "",
            ".",
            "a/.",
            "a\0b",
            ".git/config",
            "x/.GIT",
            "trailing/",
        ];
        for bad in bad {
            let tree = tree(&["good", bad]);
            assert_eq!(paths(&tree), ["good"], "{bad:?}");
            assert_eq!(tree.notices.len(), 1, "{bad:?}");
        }
        assert_eq!(paths(&tree(&["a", "a/b", "a"])), ["a/b"]);
        assert_eq!(paths(&tree(&["a", "a", "b"])), ["b"]);
        let long = format!("{}/x", "d".repeat(256));
        assert_eq!(tree(&[&long]).notices.len(), 1);
    }

    #[test]
    fn lookalike_names_are_shown_and_reported() {
        let tree = tree(&["d/\u{fc}", "d/u\u{308}"]);
        assert_eq!(paths(&tree).len(), 2);
        assert_eq!(tree.notices.len(), 1);
        assert!(tree.notices[0].starts_with("d/"), "{:?}", tree.notices);
    }

    #[test]
    fn the_same_subtree_has_the_same_name() {
        let (one, two) = (tree(&["a/b", "c"]), tree(&["a/b", "d"]));
        assert_ne!(one.root.hash, two.root.hash);
        let shared = one
            .directories
            .keys()
            .filter(|hash| two.directories.contains_key(hash));
        assert_eq!(shared.count(), 1);
    }

    proptest! {
        #[test]
        fn any_list_of_paths_gives_a_tree_of_those_that_fit(list in proptest::collection::vec("[a-c./]{0,6}", 0..12)) {
            let tree = tree(&list.iter().map(|path| &**path).collect::<Vec<_>>());
            for path in paths(&tree) {
                prop_assert!(list.contains(&path));
                let good = |name: &str| !matches!(name, "" | "." | "..");
                prop_assert!(path.split('/').all(good));
            }
        }
    }
}
