//! An archived commit as a tree that can be walked like any other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::reader::{Archive, Content};
use super::tree::{ModeKind, StoredEntry, Target};
use crate::chunk::{BlobId, ChunkRef};
use crate::repo::directory::{
    Directory, ImpliedContent, ImpliedEntry, MAX_ENTRIES, MAX_NODES, MAX_TARGET, check_name,
};
use crate::repo::implied::ImpliedTree;
use crate::repo::{Kind, MalformedNode, RepoError};

/// Most entries of all directories of a commit that is shown: it is kept in
/// memory while somebody looks at it.
const MAX_SHOWN: usize = 4 << 20;
/// Notices that are kept; a hostile tree could cause one an entry.
const MAX_NOTICES: usize = 1000;

/// A directory that is made: a reference, its nodes, its bytes.
struct Made {
    node: ChunkRef,
    nodes: u64,
    bytes: u64,
}

impl Archive {
    /// The tree with number `root`, in memory. `blob` is where its nodes are
    /// said to be.
    pub(in crate::repo) async fn tree_of(
        &self,
        root: u64,
        blob: BlobId,
    ) -> Result<ImpliedTree, RepoError> {
        let trees = self.trees_below(root).await?;
        let mut shown = ImpliedTree {
            root: ChunkRef::nominal(blob, crate::chunk::ChunkHash::of(&[])),
            nodes: 0,
            bytes: 0,
            directories: HashMap::new(),
            notices: Vec::new(),
            encrypted: false,
        };
        let mut made: HashMap<u64, Made> = HashMap::new();
        // What a tree holds has lower numbers than it.
        for (number, entries) in trees {
            let entries = self.entries(&entries, &made, &mut shown.notices).await?;
            let bytes = (entries.iter()).fold(0u64, |sum, entry| sum.saturating_add(entry.size));
            let (directory, hash) = Directory::implied(entries);
            let nodes = directory.nodes();
            if nodes > MAX_NODES {
                return Err(self.malformed(MalformedNode::Sum("nodes of a tree")));
            }
            let node = ChunkRef::nominal(blob, hash);
            shown.directories.insert(hash, Arc::new(directory));
            made.insert(number, Made { node, nodes, bytes });
        }
        let top = made.remove(&root).ok_or_else(|| self.missing(root))?;
        (shown.root, shown.nodes, shown.bytes) = (top.node, top.nodes, top.bytes);
        Ok(shown)
    }

    /// Every tree below `root`, itself included.
    async fn trees_below(&self, root: u64) -> Result<BTreeMap<u64, Vec<StoredEntry>>, RepoError> {
        let mut trees = BTreeMap::new();
        // From the highest number down, so that groups are read one by one.
        let mut pending = BTreeSet::from([root]);
        let mut entries = 0;
        while let Some(number) = pending.pop_last() {
            let tree = self.tree(number).await?;
            entries += tree.len();
            if entries > MAX_SHOWN {
                return Err(self.malformed(MalformedNode::Sum("entries of a tree")));
            }
            for entry in tree.iter().filter(|entry| entry.is_tree()) {
                match entry.target {
                    Target::Number(below) if below < number => pending.insert(below),
                    Target::Number(below) => return Err(self.missing(below)),
                    Target::Id(_) => continue,
                };
            }
            trees.insert(number, tree);
        }
        Ok(trees)
    }

    /// The entries of a tree that can be shown, in the order of their names.
    async fn entries(
        &self,
        stored: &[StoredEntry],
        made: &HashMap<u64, Made>,
        notices: &mut Vec<String>,
    ) -> Result<Vec<ImpliedEntry>, RepoError> {
        let mut entries: Vec<ImpliedEntry> = Vec::with_capacity(stored.len().min(MAX_ENTRIES));
        for entry in stored {
            let shown = match check_name(&entry.name) {
                Ok(()) => self.entry(entry, made).await?,
                Err(why) => Err(why.to_string()),
            };
            match shown {
                Ok(shown) => entries.push(shown),
                Err(why) if notices.len() < MAX_NOTICES => {
                    let name = String::from_utf8_lossy(&entry.name);
                    let name: String = name.escape_debug().take(300).collect();
                    notices.push(format!("{name}: left out: {why}"));
                }
                Err(_) => {}
            }
        }
        // Of two with the same name git checks out the last.
        entries.reverse();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name);
        entries.truncate(MAX_ENTRIES);
        Ok(entries)
    }

    /// An entry of a tree, or why it is not shown.
    async fn entry(
        &self,
        entry: &StoredEntry,
        made: &HashMap<u64, Made>,
    ) -> Result<Result<ImpliedEntry, String>, RepoError> {
        let is = |kind, size, content| {
            Ok(Ok(ImpliedEntry {
                name: entry.name.clone(),
                kind,
                size,
                content,
            }))
        };
        let number = match &entry.target {
            Target::Number(number) => *number,
            Target::Id(id) => {
                return is(Kind::Submodule, 0, ImpliedContent::Inline(id.clone()));
            }
        };
        if entry.is_tree() {
            let made = made.get(&number).ok_or_else(|| self.missing(number))?;
            let (node, nodes) = (made.node.clone(), made.nodes);
            let content = ImpliedContent::Directory { node, nodes };
            return is(Kind::Directory, made.bytes, content);
        }
        let content = self.content(number)?;
        let size = content.len();
        match entry.kind() {
            Some(ModeKind::Link) => {
                if size == 0 || size > MAX_TARGET as u64 {
                    return Ok(Err("no symlink has such a target".into()));
                }
                let target = self.bytes(&content).await?;
                match target.contains(&0) {
                    true => Ok(Err("no symlink has such a target".into())),
                    false => is(Kind::Symlink, size, ImpliedContent::Inline(target)),
                }
            }
            Some(ModeKind::File { executable }) => {
                is(Kind::File { executable }, size, content.implied())
            }
            _ => Ok(Err("it is neither file, link nor directory".into())),
        }
    }
}

impl Content {
    fn implied(&self) -> ImpliedContent {
        match self {
            Content::Part {
                segment,
                chunk,
                part,
            } if !part.is_empty() => ImpliedContent::Part {
                chunk: segment.chunks[*chunk].clone(),
                start: part.start,
            },
            Content::Part { .. } => ImpliedContent::Inline(Bytes::new()),
            Content::Chunks { segment, run } => {
                let run = &segment.chunks[run.first..run.first + run.count];
                ImpliedContent::Chunks(run.to_vec())
            }
        }
    }
}
