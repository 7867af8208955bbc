//! Selection of the compression level and method by content.
//!
//! Text, code and data are compressed slowly, because they are read far more often than
//! published, and decoding is equally fast at every level. Small files use a dictionary
//! for their kind. Incompressible content is detected by sampling and stored
//! uncompressed.
//!
//! All decisions depend only on the content, its name and the previous publish: equal
//! input yields equal bytes.
//! alone: the same input gives the same bytes.

use super::PublishError;
use super::analyze::{Class, Format, analyze};
use super::content::Reading;
use super::dictionaries::{self, DICTIONARY_CHUNK, Ready};
use super::known::Known;
use super::packs::Packs;
use super::placed::Placed;
use super::plan::Plan;
use walgit_format::chunk::{Bases, Patcher, Sealed, seal};
use walgit_format::head::AttachmentKind;

/// Compression effort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As fast as content can be read, well over 100 MB/s on two cores; small inputs are
    /// compressed as well as is possible in a second.
    #[default]
    Usual,
    /// As small as possible, at a tenth of the speed, for rare publishes.
    Best,
}

/// A patch is used if its size is at most this fraction (as a divisor) of the chunk
/// compressed alone: readers have to fetch and decode the base first.
const PATCH_PART: usize = 2;
/// Bytes that a reference to a base takes.
const PATCH_REFERENCE: usize = 64;
/// A patch of at most this fraction (as a divisor) of the plain bytes is used without
/// compressing the chunk alone.
const SMALL_PATCH: usize = 12;
/// Minimum content size for patches.
const LEAST_PATCHED: usize = 512;

/// Maximum chunk size for the higher level; beyond it, the gain is not worth the time.
const SLOW_CHUNK: usize = 256 << 10;

/// Inputs of up to this many bytes are compressed thoroughly by default: this takes less
/// than a second, and they are read far more often than published.
const LITTLE: u64 = 8 << 20;

/// Compression pace of one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Fast, for large inputs.
    Fast,
    /// A second, for small inputs.
    Thorough,
    /// Unlimited.
    Best,
}

impl Effort {
    /// The pace for an input of this many bytes.
    fn pace(self, bytes: u64) -> Pace {
        match self {
            Effort::Best => Pace::Best,
            Effort::Usual if bytes <= LITTLE => Pace::Thorough,
            Effort::Usual => Pace::Fast,
        }
    }

    /// The zstd level for data beside the trees.
    pub(super) fn beside(self) -> i32 {
        match self {
            Effort::Usual => 9,
            Effort::Best => 19,
        }
    }

    /// The zstd level for history, which gains the most.
    pub(super) fn history(self) -> i32 {
        match self {
            Effort::Usual => 11,
            Effort::Best => 19,
        }
    }
}

impl Pace {
    /// The zstd level for a chunk of `len` bytes of a class.
    fn level(self, class: Class, len: usize) -> i32 {
        match (self, class) {
            (Pace::Best, _) => 19,
            // Only their framing compresses.
            (_, Class::Image | Class::Archive) => 3,
            (Pace::Thorough, _) => 15,
            (_, Class::Structured(Format::Database) | Class::Binary | Class::Unknown) => 6,
            (_, Class::Text | Class::Structured(_) | Class::Code(_)) if len <= SLOW_CHUNK => 9,
            (_, Class::Text | Class::Structured(_) | Class::Code(_)) => 7,
        }
    }

    /// The zstd level for a patch; most of its content comes from the base.
    fn patch(self) -> i32 {
        match self {
            Pace::Fast => 5,
            Pace::Thorough => 15,
            Pace::Best => 19,
        }
    }

    /// The zstd level that dictionaries are prepared for.
    pub(super) fn with_dictionary(self) -> i32 {
        match self {
            Pace::Fast => 9,
            Pace::Thorough => 15,
            Pace::Best => 19,
        }
    }
}

/// Compression state of one publish.
pub(super) struct Compression {
    effort: Effort,
    pace: Pace,
    dictionaries: Vec<Ready>,
}

/// Compression parameters for the chunks of one file.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    class: Class,
    /// Whether to try compression.
    shrinks: bool,
    pace: Pace,
    dictionary: Option<&'a Ready>,
}

impl Compression {
    /// Selects dictionaries for the files of a plan: stored ones while they help, new
    /// ones if they pay. Places the new ones.
    pub(super) fn prepare(
        plan: &Plan,
        known: &Known,
        packs: &mut Packs,
        effort: Effort,
    ) -> Result<Self, PublishError> {
        let pace = effort.pace(plan.files.iter().map(|file| file.size).sum());
        // Avoid fetching remote content twice.
        let dictionaries = match plan.remote {
            Some(_) => Vec::new(),
            None => dictionaries::choose(&Reading::of(plan), known, packs, pace)?,
        };
        Ok(Compression {
            effort,
            pace,
            dictionaries,
        })
    }

    /// Parameters for a file with this name and content. For a large file, its first part
    /// suffices.
    pub(super) fn manner(&self, name: &[u8], content: &[u8]) -> Manner<'_> {
        let analysis = analyze(name, content);
        let class = analysis.class;
        let dictionary = self.dictionaries.iter().find(|ready| ready.is_for(class));
        Manner {
            class,
            shrinks: analysis.compressible,
            pace: self.pace,
            dictionary,
        }
    }

    /// The zstd level for history.
    pub(super) fn history(&self) -> i32 {
        self.effort.history()
    }

    /// The dictionaries to attach to the head.
    pub(super) fn attached(&self, known: &Known) -> Option<(AttachmentKind, Vec<Placed>)> {
        let chunks = dictionaries::carried(&self.dictionaries, known);
        (!chunks.is_empty()).then_some((AttachmentKind::Dictionaries, chunks))
    }
}

impl Manner<'_> {
    /// The class of the file, and whether it compresses.
    pub(super) fn found(&self) -> (Class, bool) {
        (self.class, self.shrinks)
    }

    /// Whether `len` bytes of the file may be stored as a patch.
    pub(super) fn may_be_a_patch(&self, len: usize) -> bool {
        self.shrinks && len >= LEAST_PATCHED
    }

    /// Encodes a chunk of the file as a patch against `base`; if that does not pay, like
    /// [`Manner::seal`].
    pub(super) fn seal_against<'b>(
        &self,
        raw: &[u8],
        base: &'b [u8],
        patcher: &mut Patcher<'b>,
    ) -> Result<Sealed, (Sealed, Bases<Placed>)> {
        let patch = patcher.seal(raw, base, self.pace.patch());
        let patch = patch.map(|patch| (patch.bytes.len() + PATCH_REFERENCE, patch));
        match patch {
            Some((len, patch)) if len * SMALL_PATCH <= raw.len() => Ok(patch),
            Some((len, patch)) => {
                let alone = self.seal(raw);
                match len * PATCH_PART <= alone.0.bytes.len() {
                    true => Ok(patch),
                    false => Err(alone),
                }
            }
            None => Err(self.seal(raw)),
        }
    }

    /// Encodes a chunk of the file; also returns the bases for decoding.
    pub(super) fn seal(&self, raw: &[u8]) -> (Sealed, Bases<Placed>) {
        if !self.shrinks {
            return (Sealed::raw(raw), Bases::NONE);
        }
        match self.dictionary {
            Some(ready) if raw.len() <= DICTIONARY_CHUNK => ready.seal(raw),
            _ => {
                let level = self.pace.level(self.class, raw.len());
                (seal(raw, level), Bases::NONE)
            }
        }
    }
}
