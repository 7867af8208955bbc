//! File contents of a history, in solid groups or as chunks.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::objs::Kind;
use rayon::prelude::*;

use super::super::PublishError;
use super::super::content::pieces;
use super::super::objects::{failed, read_as};
use super::super::placed::{Placed, chunk_len};
use super::super::plan::ContentPlan;
use super::walk::{ContentFound, Found};
use super::{Desk, Encoded};
use walgit_format::archive::{ContentGroup, Run};
use walgit_format::chunk::{Bases, ChunkHash, Codec, MAX_BASE_BYTES, MAX_BASES, seal, seal_patch};
use walgit_format::head::GitId;

/// Plain bytes of a group: nearby versions of a file compress to almost nothing. A reader
/// decodes at most this much per content, and the memory cache retains it.
const GROUP: u64 = 8 << 20;
/// Larger contents are stored as separate chunks.
const MAX_GROUPED: u64 = 1 << 20;
/// Number of groups that are encoded concurrently.
const BATCH: usize = 4;
/// A patch must save at least this fraction (1/`WORTH`) of the group; otherwise fetching
/// its bases does not pay.
const WORTH: usize = 20;

/// Storage form of a content.
enum Home {
    /// Part of a group, with its size in bytes.
    Group(u64),
    /// Stored in the published trees.
    Published(Vec<Placed>),
    /// Cut into chunks.
    Cut,
}

/// Places the found contents and numbers them from `first`.
pub(super) fn place(
    desk: &mut Desk<'_>,
    repo: &gix::Repository,
    found: &Found,
    numbers: &mut HashMap<ObjectId, u64>,
    first: u64,
) -> Result<(), PublishError> {
    let published = Published::of(desk);
    let (mut grouped, mut others) = (Vec::new(), Vec::new());
    for content in &found.contents {
        match home(repo, &published, desk, content)? {
            Home::Group(len) => grouped.push((*content, len)),
            home => others.push((*content, home)),
        }
    }
    let in_order = grouped.iter().map(|(content, _)| content.id);
    let in_order = in_order.chain(others.iter().map(|(content, _)| content.id));
    for (number, id) in (first..).zip(in_order) {
        numbers.insert(id, number);
    }
    groups(desk, repo, found, &published, &grouped)?;
    for (content, home) in others {
        let chunks = match home {
            Home::Published(chunks) => chunks,
            _ => cut(desk, repo, found, &content)?,
        };
        desk.run(chunks);
        desk.told(1);
    }
    Ok(())
}

fn home(
    repo: &gix::Repository,
    published: &Published<'_>,
    desk: &Desk<'_>,
    content: &ContentFound,
) -> Result<Home, PublishError> {
    if let Some(chunks) = published.chunks(desk, content.id) {
        return Ok(Home::Published(chunks));
    }
    let header = repo.find_header(content.id);
    // Reading the object whole reports the error.
    let Ok(header) = header else {
        let len = read_as(repo, content.id, Kind::Blob)?.len() as u64;
        return Ok(Home::Group(len));
    };
    Ok(match header.size() {
        0 => Home::Published(Vec::new()),
        size if size <= MAX_GROUPED => Home::Group(size),
        _ => Home::Cut,
    })
}

impl Desk<'_> {
    /// Adds a content that consists of these chunks.
    fn run(&mut self, chunks: Vec<Placed>) {
        let run = Run {
            first: self.segment.chunks.len(),
            count: chunks.len(),
        };
        self.segment.chunks.extend(chunks);
        self.segment.files.push(run);
    }
}

/// Content of the published trees, by git ID.
struct Published<'a> {
    contents: HashMap<&'a [u8], &'a ContentPlan>,
    /// Root tree of the first commit.
    tip: Option<ObjectId>,
}

impl<'a> Published<'a> {
    fn of(desk: &Desk<'a>) -> Self {
        let entries = desk.plan.directories.iter().flat_map(|it| &it.entries);
        let contents =
            entries.filter_map(|entry| Some((&entry.git.as_ref()?.0[..], &entry.content)));
        let newest = (desk.plan.history.as_ref()).and_then(|history| {
            let tip = &desk.plan.commits.first()?.id.git();
            let mut commits = history.commits.iter().rev();
            commits.find(|commit| commit.id.as_slice() == &tip.0[..])
        });
        Published {
            contents: contents.collect(),
            tip: newest.map(|commit| commit.tree),
        }
    }

    /// The chunks of a content that the trees store as chunks.
    fn chunks(&self, desk: &Desk<'_>, id: ObjectId) -> Option<Vec<Placed>> {
        let known = || {
            let (_, content) = desk.known.file(&GitId(id.as_slice().to_vec()))?;
            Some(content)
        };
        match self.contents.get(id.as_slice()).copied().or_else(known)? {
            ContentPlan::Chunks(chunks) if !chunks.is_empty() => Some(chunks.clone()),
            ContentPlan::List(list) => desk.known.listed(&list.hash).map(<[Placed]>::to_vec),
            _ => None,
        }
    }

    /// The git ID and chunk of the newest tree's file at a path, if it is a single chunk
    /// that is not a patch.
    fn base(
        &self,
        desk: &Desk<'_>,
        repo: &gix::Repository,
        path: &[u8],
    ) -> Option<(ObjectId, Placed)> {
        let tree = repo.find_tree(self.tip?).ok()?;
        let path: &Path = path.to_path().ok()?;
        let id = tree.lookup_entry_by_path(path).ok()??.object_id();
        let mut chunks = self.chunks(desk, id)?;
        let chunk = chunks.pop().filter(|_| chunks.is_empty())?;
        (chunk.codec != Codec::Patch).then_some((id, chunk))
    }
}

/// An encoded group, ready to be placed.
struct Made {
    hash: ChunkHash,
    len: usize,
    ends: Vec<u32>,
    sealed: Encoded,
}

fn groups(
    desk: &mut Desk<'_>,
    repo: &gix::Repository,
    found: &Found,
    published: &Published<'_>,
    contents: &[(ContentFound, u64)],
) -> Result<(), PublishError> {
    let mut groups: Vec<&[(ContentFound, u64)]> = Vec::new();
    let mut rest = contents;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, len)| {
            bytes += len;
            bytes <= GROUP
        });
        let (group, later) = rest.split_at(fits.count().max(1));
        groups.push(group);
        rest = later;
    }
    let shared = repo.clone().into_sync();
    for batch in groups.chunks(BATCH) {
        let bases: Vec<Vec<(ObjectId, Placed)>> = (batch.iter())
            .map(|group| bases(desk, repo, found, published, group))
            .collect();
        let level = desk.how.history();
        let made: Vec<Made> = (batch.par_iter().zip(bases))
            .map_init(
                || shared.to_thread_local(),
                |repo, (group, bases)| make(repo, group, bases, level),
            )
            .collect::<Result<_, _>>()?;
        for (group, made) in batch.iter().zip(made) {
            let len = made.len;
            let chunk = desk.chunk(made.hash, len, made.sealed)?;
            desk.segment.contents.push(ContentGroup {
                chunk,
                ends: made.ends,
            });
            desk.told(group.len() as u64);
        }
    }
    Ok(())
}

/// Possible bases of a group: the newest tree's files at its paths.
fn bases(
    desk: &Desk<'_>,
    repo: &gix::Repository,
    found: &Found,
    published: &Published<'_>,
    group: &[(ContentFound, u64)],
) -> Vec<(ObjectId, Placed)> {
    let mut bases: Vec<(ObjectId, Placed)> = Vec::new();
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    let mut path = None;
    for (content, _) in group {
        if path.replace(content.path) == Some(content.path) {
            continue;
        }
        let Some((id, chunk)) = published.base(desk, repo, &found.paths[content.path as usize])
        else {
            continue;
        };
        bytes += u64::from(chunk.raw_len);
        if bases.len() == MAX_BASES || bytes > MAX_BASE_BYTES {
            break;
        }
        if seen.insert(chunk.hash) {
            bases.push((id, chunk));
        } else {
            bytes -= u64::from(chunk.raw_len);
        }
    }
    bases
}

fn make(
    repo: &gix::Repository,
    group: &[(ContentFound, u64)],
    bases: Vec<(ObjectId, Placed)>,
    level: i32,
) -> Result<Made, PublishError> {
    let mut bytes = Vec::with_capacity(group.iter().map(|(_, len)| *len as usize).sum());
    let mut ends = Vec::with_capacity(group.len());
    for (content, len) in group {
        let content_bytes = read_as(repo, content.id, Kind::Blob)?;
        if content_bytes.len() as u64 != *len {
            return Err(failed(repo, format!("object {} changed", content.id)));
        }
        bytes.extend_from_slice(&content_bytes);
        ends.push(chunk_len(bytes.len())?);
    }
    let alone = seal(&bytes, level);
    let raw_bases = (bases.iter()).map(|(id, _)| read_as(repo, *id, Kind::Blob));
    let raw_bases: Vec<Vec<u8>> = raw_bases.collect::<Result<_, _>>()?;
    let parts: Vec<&[u8]> = raw_bases.iter().map(|base| &base[..]).collect();
    let patch = match parts.is_empty() {
        true => None,
        false => seal_patch(&bytes, &parts, level),
    };
    let worth = alone.bytes.len() - alone.bytes.len() / WORTH;
    let sealed = match patch.filter(|patch| patch.bytes.len() < worth) {
        Some(patch) => {
            let bases: Vec<Placed> = bases.into_iter().map(|(_, chunk)| chunk).collect();
            (patch, bases.into())
        }
        None => (alone, Bases::NONE),
    };
    Ok(Made {
        hash: ChunkHash::of(&bytes),
        len: bytes.len(),
        ends,
        sealed,
    })
}

/// Cuts a large content into content-defined chunks, so that versions share them.
fn cut(
    desk: &mut Desk<'_>,
    repo: &gix::Repository,
    found: &Found,
    content: &ContentFound,
) -> Result<Vec<Placed>, PublishError> {
    let bytes: Bytes = read_as(repo, content.id, Kind::Blob)?.into();
    let path = &found.paths[content.path as usize];
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let manner = desk.how.manner(name, &bytes);
    let pieces = pieces(&bytes);
    let (packs, known) = (&*desk.packs, desk.known);
    let sealed: Vec<(ChunkHash, Option<Encoded>)> = (pieces.par_iter())
        .map(|piece| {
            let hash = ChunkHash::of(piece);
            let new = packs.find(&hash, known).is_none();
            (hash, new.then(|| manner.seal(piece)))
        })
        .collect();
    let mut chunks = Vec::with_capacity(pieces.len());
    for (piece, (hash, sealed)) in pieces.iter().zip(sealed) {
        // A piece may occur twice.
        let placed = match (desk.packs.find(&hash, desk.known), sealed) {
            (Some(placed), _) => placed,
            (None, Some((sealed, bases))) => {
                desk.bytes += sealed.bytes.len() as u64;
                (desk.packs).add(hash, chunk_len(piece.len())?, &sealed, bases)?
            }
            (None, None) => {
                return Err(PublishError::Internal("a chunk is not where it was found"));
            }
        };
        chunks.push(placed);
    }
    Ok(chunks)
}
