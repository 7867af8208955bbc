//! The chunks required to decode another chunk: a dictionary, or the bases of a patch.

use std::ops::Deref;
use std::sync::Arc;

use super::ChunkRef;

/// Most bases of one chunk.
pub const MAX_BASES: usize = 64;
/// Most plain bytes of all bases of one chunk.
///
/// Together with [`MAX_DATA_CHUNK`](super::MAX_DATA_CHUNK) it bounds what a hostile
/// reference can make a reader fetch and hold for one read.
pub const MAX_BASE_BYTES: u64 = 4 << 20;

/// The bases of a chunk, in order. Most chunks have none; the chunks of a directory share
/// theirs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Bases<T = ChunkRef>(Option<Arc<[T]>>);

impl<T> Bases<T> {
    /// No bases: the chunk can be decoded by itself.
    pub const NONE: Self = Bases(None);

    /// Returns bases with one element.
    pub fn one(base: T) -> Self {
        Bases(Some(Arc::new([base])))
    }
}

impl<T> From<Vec<T>> for Bases<T> {
    fn from(bases: Vec<T>) -> Self {
        Bases((!bases.is_empty()).then(|| bases.into()))
    }
}

impl<T> Clone for Bases<T> {
    fn clone(&self) -> Self {
        Bases(self.0.clone())
    }
}

impl<T> Default for Bases<T> {
    fn default() -> Self {
        Bases::NONE
    }
}

impl<T> Deref for Bases<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}
