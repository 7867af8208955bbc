//! Contexts: the last opens of a sequence, from which the next one is predicted.

use super::paths::mix;

/// Maximum length of a context, in opens.
pub(super) const MAX_ORDER: usize = 3;

/// Sequence of opens that a context belongs to. The same files have a different
/// meaning in another kind of sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sequence {
    /// The opens of one process, in order.
    Process = 0,
    /// The first file of each new process: a build starts its compilers in nearly
    /// the same order each time, and no compiler lives long enough to predict the
    /// next.
    TaskStarts = 1,
    /// The first opens of each file in a session, by any process. Only these can
    /// stall, and their order is far more stable than that of all opens.
    FirstOpens = 2,
}

/// Number of kinds of streams.
pub(super) const SEQUENCES: usize = 3;

/// The last opens of a stream as path hashes, newest first. Shorter at the start of
/// a stream; the start itself is a context, so that the first open of a session can
/// be predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenHistory {
    last: [u64; MAX_ORDER],
    len: u8,
}

/// Key of a context in the transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct OpenContext(pub(super) u64);

/// Marker before the first open of a stream.
const SEQUENCE_START: u64 = 0x5745_4c43_4f4d_4521;

impl OpenHistory {
    /// Returns the history extended by an open.
    pub(super) fn then(mut self, path: u64) -> Self {
        self.last.rotate_right(1);
        self.last[0] = path;
        self.len = (self.len + 1).min(MAX_ORDER as u8);
        self
    }

    /// Returns the contexts with their orders, longest first.
    pub(super) fn contexts(
        &self,
        sequence: Sequence,
    ) -> impl Iterator<Item = (usize, OpenContext)> {
        let OpenHistory { last, len } = *self;
        // Before the oldest open is the start of the sequence, once.
        let longest = (usize::from(len) + 1).min(MAX_ORDER);
        (1..=longest).rev().map(move |order| {
            let seed = mix((sequence as u64) << 8 | order as u64);
            let context = (0..order).fold(seed, |context, at| {
                let opened = if at < usize::from(len) {
                    last[at]
                } else {
                    SEQUENCE_START
                };
                mix(context.rotate_left(7) ^ opened)
            });
            (order, OpenContext(context))
        })
    }
}
