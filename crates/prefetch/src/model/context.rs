//! What the next open is predicted from: the last opens of a stream.

use super::paths::mix;

/// The longest context, in opens.
pub(super) const MAX_ORDER: usize = 3;

/// Which sequence of opens a context belongs to. The same files in another
/// kind of sequence mean something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stream {
    /// What one process opens, one after the other.
    Process = 0,
    /// The first file of each new process, whichever it is: a build starts its
    /// compilers in nearly the same order each time, and no compiler lives
    /// long enough to say who comes next.
    Births = 1,
    /// What anyone opens for the first time in a session. Only these can
    /// stall, and their order is far steadier than that of all opens.
    Firsts = 2,
}

/// How many kinds of streams there are.
pub(super) const STREAMS: usize = 3;

/// The last opens of a stream, newest first, as what stands for their paths.
/// Shorter at the beginning of a stream; the beginning itself is a context, so
/// that the first open of a session can be predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    last: [u64; MAX_ORDER],
    len: u8,
}

/// A context by which transitions are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Context(pub(super) u64);

/// Stands before the first open of a stream.
const BEGINNING: u64 = 0x5745_4c43_4f4d_4521;

impl History {
    /// The history once this has been opened too.
    pub(super) fn then(mut self, path: u64) -> Self {
        self.last.rotate_right(1);
        self.last[0] = path;
        self.len = (self.len + 1).min(MAX_ORDER as u8);
        self
    }

    /// The contexts to look in with their orders, the longest first.
    pub(super) fn contexts(&self, stream: Stream) -> impl Iterator<Item = (usize, Context)> {
        let History { last, len } = *self;
        // Beyond what has been opened lies the beginning, once.
        let longest = (usize::from(len) + 1).min(MAX_ORDER);
        (1..=longest).rev().map(move |order| {
            let seed = mix((stream as u64) << 8 | order as u64);
            let context = (0..order).fold(seed, |context, at| {
                let opened = match at < usize::from(len) {
                    true => last[at],
                    false => BEGINNING,
                };
                mix(context.rotate_left(7) ^ opened)
            });
            (order, Context(context))
        })
    }
}
