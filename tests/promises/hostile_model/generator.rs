//! Hostile repositories generated from seeds: the model of the format with elements
//! occasionally enlarged, omitted, repeated or exchanged, and with correct hashes.

use bytes::Bytes;
use walgit_format::PlannedChunk;
use walgit_format::blob::BlobBuilder;
use walgit_format::chunk::{BlobId, ChunkHash};

use crate::support::raw_nodes::{self, EncodeFields as _, Segment};

/// A reproducible random number generator.
pub(super) struct SeededRng(u64);

impl SeededRng {
    pub(super) fn new(seed: u64) -> Self {
        SeededRng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A count: usually small, occasionally very large.
    fn count(&mut self) -> usize {
        match self.below(200) {
            0 => 10_000 + self.below(100_000),
            1..=4 => 500 + self.below(2000),
            5..=20 => 0,
            _ => 1 + self.below(6),
        }
    }

    /// A number that usually equals `right`.
    fn number(&mut self, right: u64) -> u64 {
        match self.below(60) {
            0 => self.next(),
            1 => u64::MAX >> self.below(64),
            2 => right + 1,
            3 => right.wrapping_sub(1),
            4 => 0,
            _ => right,
        }
    }

    fn name(&mut self, number: usize) -> Vec<u8> {
        match self.below(120) {
            0 => b"..".to_vec(),
            1 => vec![b'n'; self.below(400)],
            2 => b".git".to_vec(),
            3 => Vec::new(),
            _ => format!("{number:06}").into_bytes(),
        }
    }
}

/// A generated repository: its blob and the hash of its head.
pub(crate) struct GeneratedRepository {
    pub(crate) blob: BlobId,
    pub(crate) bytes: Bytes,
    pub(crate) root: ChunkHash,
}

/// A generated directory and its number of nodes.
struct GeneratedDirectory {
    node: PlannedChunk,
    nodes: u64,
}

struct Generator {
    rng: SeededRng,
    builder: BlobBuilder,
    data: Vec<PlannedChunk>,
    lists: Vec<(PlannedChunk, u64)>,
    folders: Vec<GeneratedDirectory>,
}

/// Generates the repository of this seed.
pub(crate) fn generate(seed: u64) -> GeneratedRepository {
    let mut generator = Generator {
        rng: SeededRng::new(seed),
        builder: BlobBuilder::new(),
        data: Vec::new(),
        lists: Vec::new(),
        folders: Vec::new(),
    };
    generator.contents();
    let history = generator.rng.once_in(2).then(|| generator.history());
    for _ in 0..generator.rng.below(3) {
        generator.list();
    }
    for _ in 0..=generator.rng.below(5) {
        generator.folder();
    }
    let head = generator.head(history);
    let head = generator.builder.push_node(&head);
    let bytes = Bytes::from(generator.builder.finish_with_head(&head).unwrap());
    let mut id = [0; 32];
    id[..8].copy_from_slice(&seed.to_le_bytes());
    id[8..].copy_from_slice(&head.hash.as_bytes()[8..]);
    GeneratedRepository {
        blob: BlobId::from_bytes(id),
        bytes,
        root: head.hash,
    }
}

impl Generator {
    /// Data: short noise, and zeros that compress well.
    fn contents(&mut self) {
        for _ in 0..=self.rng.below(5) {
            let len = match self.rng.below(60) {
                0 => 8 << 20,
                1..=3 => 1 << 20,
                _ => self.rng.below(300),
            };
            let mut raw = vec![self.rng.next() as u8; len];
            raw.truncate(len.max(1));
            let mut chunk = raw_nodes::push_data(&mut self.builder, &raw);
            if self.rng.once_in(60) {
                chunk.raw_len = self.rng.next() as u32 & (64 << 20);
            }
            self.data.push(chunk);
        }
    }

    /// Any chunk.
    fn any(&mut self) -> PlannedChunk {
        let nodes = self.folders.iter().map(|it| &it.node);
        let lists = self.lists.iter().map(|(list, _)| list);
        let all: Vec<_> = self.data.iter().chain(nodes).chain(lists).collect();
        let at = self.rng.below(all.len());
        all[at].clone()
    }

    /// A table of runs of chunks.
    fn table(&self, runs: &[(PlannedChunk, usize)]) -> Vec<u8> {
        let runs: Vec<_> = runs.iter().map(|(chunk, times)| (chunk, *times)).collect();
        raw_nodes::chunk_table(&runs, self.builder.next_node_end())
    }

    fn list(&mut self) {
        let level = if self.lists.is_empty() {
            0
        } else {
            self.rng.below(3) as u8
        };
        let (chunk, each) = match level {
            0 => {
                let chunk = self.any();
                let len = u64::from(chunk.raw_len);
                (chunk, len)
            }
            _ => self.lists[self.rng.below(self.lists.len())].clone(),
        };
        let times = self.rng.count();
        let mut raw = vec![b'L', 1, level];
        raw.raw(&self.table(&[(chunk, times)]));
        if level > 0 {
            for _ in 0..times {
                raw.uint(self.rng.number(each));
            }
        }
        let node = self.builder.push_node(&raw);
        self.lists.push((node, each.saturating_mul(times as u64)));
    }

    fn folder(&mut self) {
        let count = self.rng.count();
        let mut below: Vec<(PlannedChunk, usize)> = Vec::new();
        let mut runs: Vec<(PlannedChunk, usize)> = Vec::new();
        let (mut entries, mut nodes) = (Vec::new(), 1u64);
        // Kinds are chosen first, because nodes of subdirectories come first.
        let kinds: Vec<usize> = (0..count).map(|_| self.rng.below(10)).collect();
        let subfolders = match self.folders.is_empty() {
            true => 0,
            false => kinds.iter().filter(|&&kind| kind == 9).count(),
        };
        let (mut folder, mut next) = (0, subfolders as u64);
        let shared = self.rng.once_in(20);
        for (number, kind) in kinds.iter().enumerate() {
            let name = self.rng.name(number);
            entries.push(match kind {
                9 if subfolders > 0 => {
                    let found = &self.folders[self.rng.below(self.folders.len())];
                    let (node, own) = (found.node.clone(), found.nodes);
                    below.push((node, 1));
                    nodes = nodes.saturating_add(own);
                    folder += 1;
                    let index = if shared { 0 } else { folder - 1 };
                    raw_nodes::subdirectory(&name, self.rng.number(index), self.rng.number(own))
                }
                6..=8 => {
                    let chunk = self.any();
                    let times = if number < 50 { self.rng.count() } else { 1 };
                    let size = u64::from(chunk.raw_len).saturating_mul(times as u64);
                    let first = if shared { subfolders as u64 } else { next };
                    runs.push((chunk, times));
                    next += times as u64;
                    nodes += 1;
                    let (size, first) = (self.rng.number(size), self.rng.number(first));
                    raw_nodes::chunked_file(&name, size, first, self.rng.number(times as u64))
                }
                5 if !self.lists.is_empty() => {
                    let (list, size) = self.lists[self.rng.below(self.lists.len())].clone();
                    runs.push((list, 1));
                    next += 1;
                    nodes += 1;
                    let mut out = Vec::new();
                    out.string(&name)
                        .raw(&[0])
                        .uint(self.rng.number(size))
                        .uint(1);
                    out.uint(self.rng.number(next - 1));
                    out
                }
                4 => {
                    nodes += 1;
                    let mut out = Vec::new();
                    out.string(&name)
                        .raw(&[2])
                        .string(&b"../".repeat(self.rng.below(100) + 1));
                    out
                }
                _ => {
                    nodes += 1;
                    raw_nodes::inline_file(&name, b"hello")
                }
            });
        }
        below.extend(runs);
        let table = self.table(&below);
        let raw = raw_nodes::directory(&table, &entries);
        let node = self.builder.push_node(&raw);
        self.folders.push(GeneratedDirectory { node, nodes });
    }

    /// A segment of a history, and chunks of commits.
    fn history(&mut self) -> (PlannedChunk, PlannedChunk, Vec<u8>) {
        let count = self.rng.count().max(1);
        let each = self.rng.count();
        let mut trees = Vec::new();
        for number in 0..count {
            let mut tree = Vec::new();
            let entries = if number + 1 == count {
                each
            } else {
                1 + self.rng.below(3)
            };
            for at in 0..entries {
                let tree_below = number > 0 && self.rng.once_in(2);
                tree.push(if tree_below {
                    3
                } else {
                    [1, 2, 4, 5][self.rng.below(4)]
                });
                let right = match tree_below {
                    true => self.rng.below(number) as u64,
                    false => count as u64 + self.rng.below(2) as u64,
                };
                let name = self.rng.name(at);
                tree.string(&name).uint(self.rng.number(right + 1));
                if tree.ends_with(&[0]) {
                    tree.string(&[9; 20]);
                }
            }
            trees.push(tree);
        }
        let group = raw_nodes::push_data(&mut self.builder, &raw_nodes::group(&trees));
        let content = self.data[0].clone();
        let times = self.rng.count();
        let tags: Vec<Vec<u8>> = (0..self.rng.count())
            .map(|n| format!("object {n:040x}\ntype commit\ntag t\n").into_bytes())
            .collect();
        let tags = raw_nodes::push_data(&mut self.builder, &raw_nodes::group(&tags));
        let mut raws = Vec::new();
        for n in 0..self.rng.count().clamp(1, 3000) {
            raws.push(raw_nodes::raw_commit(&[n as u8; 20], &format!("{n}")));
        }
        let ids: Vec<_> = (raws.iter())
            .map(|raw| raw_nodes::git_id(gix::objs::Kind::Commit, raw))
            .collect();
        let mut commits = vec![b'C', 1];
        raws.iter().for_each(|raw| _ = commits.string(raw));
        if self.rng.once_in(20) {
            let count = self.rng.count() * 10;
            commits = vec![b'C', 2];
            commits.uint(count as u64);
            commits.resize(commits.len() + 3 * count, 0);
        }
        let commits = raw_nodes::push_data(&mut self.builder, &commits);
        let mut segment = Segment::default();
        let mut list = Vec::new();
        list.uint(1)
            .uint(self.rng.number(0))
            .uint(self.rng.number(count as u64));
        segment.trees = std::mem::take(&mut list);
        list.uint(1)
            .uint(1)
            .uint(1)
            .uint(self.rng.number(u64::from(content.raw_len)));
        segment.contents = std::mem::take(&mut list);
        let files = self.rng.count();
        list.uint(files as u64);
        for at in 0..files {
            let first = if at == 0 { 3 } else { 0 };
            list.sint(self.rng.number(first) as i64 >> 1)
                .uint(self.rng.number(0));
        }
        segment.files = std::mem::take(&mut list);
        let tag_chunks = if self.rng.once_in(10) {
            self.rng.count()
        } else {
            1
        };
        list.uint(tag_chunks as u64);
        (0..tag_chunks).for_each(|_| _ = list.uint(2));
        segment.tags = std::mem::take(&mut list);
        list.uint(ids.len() as u64);
        for id in &ids {
            list.raw(&id[..8]).uint(self.rng.number(count as u64 - 1));
        }
        segment.commits = std::mem::take(&mut list);
        let refs = self.rng.count();
        list.uint(refs as u64 + 1)
            .string(b"refs/heads/main")
            .string(&ids[0]);
        for n in 0..refs {
            let id = if self.rng.once_in(10) {
                Vec::new()
            } else {
                ids[0].clone()
            };
            list.string(format!("refs/tags/{n:06}").as_bytes())
                .string(&id);
        }
        segment.refs = std::mem::take(&mut list);
        if self.rng.once_in(20) {
            let count = self.rng.count();
            list.uint(count as u64);
            list.resize(list.len() + count, 0);
            segment.shallow = std::mem::take(&mut list);
        }
        let runs = [
            (group, 1),
            (content.clone(), 1),
            (tags, 1),
            (content, times),
        ];
        let raw = segment.encode(&self.table(&runs));
        let segment = self.builder.push_node(&raw);
        (segment, commits, ids[0].clone())
    }

    fn head(&mut self, history: Option<(PlannedChunk, PlannedChunk, Vec<u8>)>) -> Vec<u8> {
        let root = self.folders.len() - 1;
        let (node, nodes) = (self.folders[root].node.clone(), self.folders[root].nodes);
        let mut runs = vec![(node, 1)];
        let mut attached = Vec::new();
        let mut id = vec![7; 20];
        if let Some((segment, commits, own)) = history {
            let times = if self.rng.once_in(20) {
                self.rng.count()
            } else {
                1
            };
            runs.extend([(segment, 1), (commits, times)]);
            attached.extend([(7, 1, 1), (1, 2, times as u64)]);
            id = own;
        }
        if self.rng.once_in(8) {
            let first: usize = runs.iter().map(|(_, times)| times).sum();
            let times = self.rng.count();
            runs.push((self.any(), times));
            let kind = self.rng.below(10) as u64;
            attached.push((kind, self.rng.number(first as u64), times as u64));
        }
        if self.rng.once_in(20) {
            let times = self.rng.count();
            let (first, count) = (self.rng.number(0), self.rng.number(1));
            attached.extend(std::iter::repeat_n((99, first, count), times));
        }
        let commits = if self.rng.once_in(10) {
            self.rng.count().max(1)
        } else {
            1
        };
        let commit = raw_nodes::commit(&id, self.rng.number(0), self.rng.number(nodes), 5);
        let branches = if self.rng.once_in(5) {
            self.rng.count()
        } else {
            1
        };
        let branches: Vec<_> = (0..branches)
            .map(|n| format!("{n:06}/b").into_bytes())
            .collect();
        let table = self.table(&runs);
        raw_nodes::head(&table, &vec![commit; commits], &branches, &attached)
    }
}
