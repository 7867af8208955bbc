//! Builds the tree of an archived commit, in the same form as any other tree.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::reader::{Archive, ContentLocation};
use crate::offload::CooperativeYield;
use crate::repo::account::{Charge, MemoryAccount};
use crate::repo::derived_tree::DerivedTree;
use crate::repo::error::RepoError;
use walgit_format::archive::{StoredEntry, TreeTarget};
use walgit_format::chunk::{BlobId, Budget, ChunkHash, ChunkRef, budget};
use walgit_format::directory::{
    Directory, Entry, MAX_ENTRIES, MAX_NODES, MAX_SYMLINK_BYTES, PlannedContent, PlannedEntry,
    check_name,
};
use walgit_format::{Kind, MalformedNode};

/// Maximum number of notices; a hostile tree could cause one per entry.
const MAX_NOTICES: usize = 1000;

/// Overhead of an allocation in bytes.
const ALLOCATION_OVERHEAD: usize = 16;
/// Bytes per number in sets and maps, plus the allocations of a directory.
const BYTES_PER_TREE: usize = 128;

/// Memory budget of a tree, and its charge to the mount.
struct TreeMemory {
    tree: Budget,
    charge: Charge,
}

/// Objects that the trees still to be built may reference.
struct UnbuiltObjects {
    /// Symlink targets.
    targets: HashMap<u64, Bytes>,
    /// Directories.
    built: HashMap<u64, BuiltTree>,
}

/// A directory that is complete.
struct BuiltTree {
    node: ChunkRef,
    nodes: u64,
    bytes: u64,
}

impl Archive {
    /// Builds the tree with number `root` in memory. `blob` is the nominal location
    /// of its nodes.
    pub(crate) async fn tree_of(
        &self,
        account: &MemoryAccount,
        root: u64,
        blob: BlobId,
    ) -> Result<DerivedTree, RepoError> {
        let _turn = account.build_permit().await;
        let mut budget = TreeMemory {
            tree: Budget::fixed(budget::TREE_BYTES),
            charge: account.nothing(),
        };
        let (trees, links) = self.trees_below(root, &mut budget).await?;
        let targets = self.link_targets(&links, &mut budget).await?;
        let mut shown = DerivedTree {
            root: ChunkRef::nominal(blob, walgit_format::chunk::ChunkHash::of(&[])),
            nodes: 0,
            bytes: 0,
            directories: HashMap::new(),
            notices: Vec::new(),
            encrypted: false,
            charge: Charge::default(),
        };
        let mut below = UnbuiltObjects {
            targets,
            built: HashMap::new(),
        };
        let mut pace = CooperativeYield::default();
        // The objects in a tree have lower numbers than the tree.
        for number in trees {
            let entries = self.tree(number).await?;
            pace.steps(entries.len() + 1).await;
            let entries = self.entries(&entries, &below, &mut shown.notices, &mut budget)?;
            let bytes = (entries.iter()).fold(0u64, |sum, entry| sum.saturating_add(entry.size));
            let (directory, hash) = Directory::from_entries(entries);
            let nodes = directory.nodes();
            if nodes > MAX_NODES {
                return Err(self.malformed(MalformedNode::Sum("nodes of a tree")));
            }
            let node = ChunkRef::nominal(blob, hash);
            shown.directories.insert(hash, Arc::new(directory));
            below.built.insert(number, BuiltTree { node, nodes, bytes });
        }
        let top = below.built.remove(&root);
        let top = top.ok_or_else(|| self.missing(root))?;
        (shown.root, shown.nodes, shown.bytes) = (top.node, top.nodes, top.bytes);
        shown.charge = budget.charge;
        Ok(shown)
    }

    /// Numbers of every tree below `root`, including `root`, and of the symlink
    /// targets in them.
    async fn trees_below(
        &self,
        root: u64,
        budget: &mut TreeMemory,
    ) -> Result<(BTreeSet<u64>, BTreeSet<u64>), RepoError> {
        let (mut trees, mut links) = (BTreeSet::new(), BTreeSet::new());
        // Descending order, so that each group is read once.
        let mut pending = BTreeSet::from([root]);
        let mut pace = CooperativeYield::default();
        while let Some(number) = pending.pop_last() {
            let tree = self.tree(number).await?;
            pace.steps(tree.len() + 1).await;
            self.pay(
                budget,
                (size_of::<Directory>() + size_of::<BuiltTree>() + BYTES_PER_TREE) as u64,
            )?;
            for entry in &tree {
                match entry.target {
                    TreeTarget::Number(link) if entry.kind() == Some(Kind::Symlink) => {
                        if links.insert(link) {
                            self.pay(budget, BYTES_PER_TREE as u64)?;
                        }
                    }
                    TreeTarget::Number(below) if entry.is_tree() => {
                        if below >= number {
                            return Err(self.missing(below));
                        }
                        pending.insert(below);
                    }
                    TreeTarget::Number(_) | TreeTarget::Id(_) => {}
                };
            }
            trees.insert(number);
        }
        Ok((trees, links))
    }

    /// Symlink targets by number; omits invalid ones.
    async fn link_targets(
        &self,
        links: &BTreeSet<u64>,
        budget: &mut TreeMemory,
    ) -> Result<HashMap<u64, Bytes>, RepoError> {
        let mut targets = HashMap::new();
        // Ascending order, so that each group is read once: neighbours in a group are
        // extracted together.
        let mut group: Option<(ChunkHash, Bytes)> = None;
        let mut pace = CooperativeYield::default();
        for &number in links {
            pace.steps(1).await;
            let content = self.content(number)?;
            if content.is_empty() || content.len() > MAX_SYMLINK_BYTES as u64 {
                continue;
            }
            self.pay(budget, content.len())?;
            let target = match &content {
                ContentLocation::Part {
                    segment,
                    chunk,
                    part,
                } => {
                    let hash = segment.chunks[*chunk].hash;
                    let raw = match &group {
                        Some((known, raw)) if *known == hash => raw.clone(),
                        _ => {
                            let raw = self.chunk(&segment.chunks, *chunk).await?;
                            group.insert((hash, raw)).1.clone()
                        }
                    };
                    Bytes::copy_from_slice(&raw[part.start as usize..part.end as usize])
                }
                ContentLocation::Chunks { .. } => self.bytes(&content).await?,
            };
            if !target.contains(&0) {
                targets.insert(number, target);
            }
        }
        Ok(targets)
    }

    fn pay(&self, memory: &mut TreeMemory, bytes: u64) -> Result<(), RepoError> {
        memory.charge.more(bytes)?;
        memory.tree.charge(bytes).map_err(|_| {
            let max_size = budget::TREE_BYTES >> 20;
            RepoError::TooLarge(format!(
                "a commit whose tree takes more than {max_size} MiB of memory"
            ))
        })
    }

    /// The valid entries of a tree, sorted by name.
    fn entries(
        &self,
        stored: &[StoredEntry],
        below: &UnbuiltObjects,
        notices: &mut Vec<String>,
        budget: &mut TreeMemory,
    ) -> Result<Vec<PlannedEntry<ChunkRef>>, RepoError> {
        let mut entries: Vec<PlannedEntry<ChunkRef>> = Vec::new();
        for entry in stored {
            let each = size_of::<Entry>() + entry.name.len() + ALLOCATION_OVERHEAD;
            self.pay(budget, each as u64)?;
            let shown = match check_name(&entry.name) {
                Ok(()) => self.entry(entry, below, budget)?,
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
        // Of two entries with the same name, git checks out the last.
        entries.reverse();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name);
        entries.truncate(MAX_ENTRIES);
        Ok(entries)
    }

    /// Converts an entry of a tree; the inner error is the reason to omit it.
    fn entry(
        &self,
        entry: &StoredEntry,
        below: &UnbuiltObjects,
        budget: &mut TreeMemory,
    ) -> Result<Result<PlannedEntry<ChunkRef>, String>, RepoError> {
        let is = |kind, size, content| {
            Ok(Ok(PlannedEntry {
                // A copy, so that the name does not keep the whole group in memory.
                name: Bytes::copy_from_slice(&entry.name),
                kind,
                size,
                content,
            }))
        };
        let number = match &entry.target {
            TreeTarget::Number(number) => *number,
            TreeTarget::Id(id) => {
                return is(Kind::Submodule, 0, PlannedContent::Inline(id.clone()));
            }
        };
        if entry.is_tree() {
            let built = below
                .built
                .get(&number)
                .ok_or_else(|| self.missing(number))?;
            let (node, nodes) = (built.node.clone(), built.nodes);
            let content = PlannedContent::Directory { node, nodes };
            return is(Kind::Directory, built.bytes, content);
        }
        let content = self.content(number)?;
        let size = content.len();
        match entry.kind() {
            Some(Kind::Symlink) => match below.targets.get(&number) {
                Some(target) => is(Kind::Symlink, size, PlannedContent::Inline(target.clone())),
                None => Ok(Err("no symlink has such a target".into())),
            },
            Some(Kind::File { executable }) => {
                let chunks = match &content {
                    ContentLocation::Chunks { run, .. } => run.count,
                    ContentLocation::Part { .. } => 1,
                };
                self.pay(budget, (chunks * size_of::<ChunkRef>()) as u64)?;
                is(Kind::File { executable }, size, content.planned())
            }
            _ => Ok(Err("neither a file, a link nor a directory".into())),
        }
    }
}

impl ContentLocation {
    fn planned(&self) -> PlannedContent<ChunkRef> {
        match self {
            ContentLocation::Part {
                segment,
                chunk,
                part,
            } if !part.is_empty() => PlannedContent::Part {
                chunk: segment.chunks[*chunk].clone(),
                start: part.start,
            },
            ContentLocation::Part { .. } => PlannedContent::Inline(Bytes::new()),
            ContentLocation::Chunks { segment, run, .. } => {
                let run = &segment.chunks[run.first..run.first + run.count];
                PlannedContent::Chunks(run.to_vec())
            }
        }
    }
}
