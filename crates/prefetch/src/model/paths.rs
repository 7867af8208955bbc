//! Paths as small numbers.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::codec::fnv1a;

/// A path the model knows: its place in the table of names. Valid for as long
/// as the model is; a stored model numbers its paths anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub(super) u32);

/// The longest path that is remembered, in bytes: the kernel's own limit.
pub(super) const MAX_PATH: usize = 4096;

/// The table of names. Numbers of forgotten paths are given again.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    names: Vec<Option<Name>>,
    ids: HashMap<Arc<str>, PathId>,
    free: Vec<PathId>,
}

#[derive(Clone, Debug)]
struct Name {
    path: Arc<str>,
    hash: u64,
}

impl Paths {
    /// The number of a path, given now where it has none; `None` for a path
    /// longer than any file can have.
    pub(super) fn intern(&mut self, path: &str) -> Option<PathId> {
        if let Some(&id) = self.ids.get(path) {
            return Some(id);
        }
        if path.len() > MAX_PATH {
            return None;
        }
        let path: Arc<str> = path.into();
        let name = Name {
            hash: hash(path.as_bytes()),
            path: path.clone(),
        };
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = PathId(u32::try_from(self.names.len()).ok()?);
                self.names.push(None);
                id
            }
        };
        *self.names.get_mut(id.0 as usize)? = Some(name);
        self.ids.insert(path, id);
        Some(id)
    }

    /// The number of a path that has one.
    pub(super) fn find(&self, path: &str) -> Option<PathId> {
        self.ids.get(path).copied()
    }

    /// The path of a number.
    pub(super) fn name(&self, id: PathId) -> Option<&str> {
        Some(&*self.names.get(id.0 as usize)?.as_ref()?.path)
    }

    /// What stands for the path in contexts: the same for the same path in
    /// every process and on every machine. 0 for a path that is not known.
    pub(super) fn hash(&self, id: PathId) -> u64 {
        let name = self.names.get(id.0 as usize).and_then(Option::as_ref);
        name.map_or(0, |name| name.hash)
    }

    /// How many paths are known.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Every known path's number, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = PathId> + '_ {
        (0u32..)
            .zip(&self.names)
            .filter(|(_, name)| name.is_some())
            .map(|(id, _)| PathId(id))
    }

    /// Forgets every path but these.
    pub(super) fn keep(&mut self, wanted: impl Fn(PathId) -> bool) {
        let gone: Vec<PathId> = self.ids().filter(|&id| !wanted(id)).collect();
        for id in gone {
            if let Some(name) = self.names.get_mut(id.0 as usize).and_then(Option::take) {
                self.ids.remove(&name.path);
                self.free.push(id);
            }
        }
    }
}

/// FNV-1a, 64 bits, then mixed: stable for ever, since stored contexts are
/// made of it, and good enough where a collision costs one wrong guess.
fn hash(bytes: &[u8]) -> u64 {
    mix(fnv1a(bytes))
}

/// The finalizer of SplitMix64: every input bit reaches every output bit.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
