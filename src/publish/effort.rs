//! Compression effort, and the zstd levels that follow from it.

use super::analyze::{Class, Format};

/// Compression effort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As fast as content can be read, well over 100 MB/s on two cores; small inputs are
    /// compressed as well as is possible in a second.
    #[default]
    Default,
    /// As small as possible, at a tenth of the speed, for rare publishes.
    Best,
}

/// Maximum chunk size for the higher level; beyond it, the gain is not worth the time.
const MAX_HIGH_LEVEL_CHUNK: usize = 256 << 10;
/// Inputs of up to this many bytes are compressed thoroughly by default: this takes less
/// than a second, and they are read far more often than published.
const MAX_THOROUGH_INPUT: u64 = 8 << 20;

/// Compression speed of one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speed {
    /// For large inputs.
    Fast,
    /// About a second, for small inputs.
    Thorough,
    /// Unlimited time.
    Best,
}

impl Effort {
    /// The speed for an input of this many bytes.
    pub(super) fn speed(self, bytes: u64) -> Speed {
        match self {
            Effort::Best => Speed::Best,
            Effort::Default if bytes <= MAX_THOROUGH_INPUT => Speed::Thorough,
            Effort::Default => Speed::Fast,
        }
    }

    /// The zstd level for attachments.
    pub(super) fn attachment_level(self) -> i32 {
        match self {
            Effort::Default => 9,
            Effort::Best => 19,
        }
    }

    /// The zstd level for history, which gains the most.
    pub(super) fn history_level(self) -> i32 {
        match self {
            Effort::Default => 11,
            Effort::Best => 19,
        }
    }
}

impl Speed {
    /// The zstd level for a chunk of `len` bytes of a class.
    pub(super) fn level(self, class: Class, len: usize) -> i32 {
        match (self, class) {
            (Speed::Best, _) => 19,
            // Only their framing compresses.
            (_, Class::Image | Class::Archive) => 3,
            (Speed::Thorough, _) => 15,
            (_, Class::Structured(Format::Database) | Class::Binary | Class::Unknown) => 6,
            (_, Class::Text | Class::Structured(_) | Class::Code(_)) => {
                if len <= MAX_HIGH_LEVEL_CHUNK { 9 } else { 7 }
            }
        }
    }

    /// The zstd levels for patches, most of whose content comes from the base, and for
    /// chunks with a dictionary.
    fn levels(self) -> (i32, i32) {
        match self {
            Speed::Fast => (5, 9),
            Speed::Thorough => (15, 15),
            Speed::Best => (19, 19),
        }
    }

    /// The zstd level for a patch.
    pub(super) fn patch_level(self) -> i32 {
        self.levels().0
    }

    /// The zstd level that dictionaries are prepared for.
    pub(super) fn dictionary_level(self) -> i32 {
        self.levels().1
    }
}
