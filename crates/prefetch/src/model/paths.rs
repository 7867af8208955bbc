//! Path interning: paths as small numbers.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::codec::fnv1a;

/// ID of a path in the model's table. Valid as long as the model exists; a stored
/// model renumbers its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub(super) u32);

/// Maximum length of a path in bytes: the kernel's limit.
pub(super) const MAX_PATH_BYTES: usize = 4096;

/// Table of paths. IDs of forgotten paths are reused.
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
    /// Returns the ID of a path, assigning one if necessary; `None` if the path is
    /// longer than any file's can be.
    pub(super) fn intern(&mut self, path: &str) -> Option<PathId> {
        if let Some(&id) = self.ids.get(path) {
            return Some(id);
        }
        if path.len() > MAX_PATH_BYTES {
            return None;
        }
        let path: Arc<str> = path.into();
        let name = Name {
            // Stable forever, since stored contexts contain it, and sufficient because
            // a collision costs one wrong guess.
            hash: mix(fnv1a(path.as_bytes())),
            path: path.clone(),
        };
        let id = match self.free.pop() {
            Some(id) => id,
            None => PathId(u32::try_from(self.names.len()).ok()?),
        };
        match self.names.get_mut(id.0 as usize) {
            Some(free) => *free = Some(name),
            None => self.names.push(Some(name)),
        }
        self.ids.insert(path, id);
        Some(id)
    }

    /// Returns the ID of a known path.
    pub(super) fn find(&self, path: &str) -> Option<PathId> {
        self.ids.get(path).copied()
    }

    /// Returns the path of an ID.
    pub(super) fn name(&self, id: PathId) -> Option<&str> {
        Some(&*self.names.get(id.0 as usize)?.as_ref()?.path)
    }

    /// Returns the hash of the path for contexts: the same in every process and on
    /// every machine. 0 for an unknown path.
    pub(super) fn hash(&self, id: PathId) -> u64 {
        let name = self.names.get(id.0 as usize).and_then(Option::as_ref);
        name.map_or(0, |name| name.hash)
    }

    /// Returns the number of paths.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns the IDs of all paths in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = PathId> + '_ {
        let ids = (0u32..).zip(&self.names);
        ids.filter_map(|(id, name)| name.is_some().then_some(PathId(id)))
    }

    /// Removes all other paths.
    pub(super) fn retain(&mut self, is_kept: impl Fn(PathId) -> bool) {
        let removed: Vec<PathId> = self.ids().filter(|&id| !is_kept(id)).collect();
        for id in removed {
            if let Some(name) = self.names.get_mut(id.0 as usize).and_then(Option::take) {
                self.ids.remove(&name.path);
                self.free.push(id);
            }
        }
    }
}

/// The finalizer of SplitMix64: every input bit reaches every output bit.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
