//! How hard content is compressed, and with what: by what it is.
//!
//! Text, code and data are compressed slowly, for they are read far more often
//! than published and are decoded at the same speed whatever the level; small
//! files of a kind with a dictionary of what they have in common; and what does
//! not shrink is found by samples and stored as it is, without another try.
//!
//! Everything depends on the content, its name and what was published before
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

/// How much time is spent on compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As fast as content can be had, well over 100 MB/s on two cores; of little
    /// content, as small as can be had in a second.
    #[default]
    Usual,
    /// As small as it gets, at a tenth of the speed; for those who publish
    /// rarely.
    Best,
}

/// A patch is stored where it takes at most one part in so many of what the chunk
/// would take alone: who reads it fetches and decodes its base first.
const PATCH_PART: usize = 2;
/// And what it takes to say against what it is.
const PATCH_REFERENCE: usize = 64;
/// A patch of at most one part in so many of the plain bytes is taken without
/// a look at what the chunk would be alone.
const SMALL_PATCH: usize = 12;
/// The shortest content that is worth it.
const LEAST_PATCHED: usize = 512;

/// Content that shrinks by so much with either; longer chunks are worth less.
const SLOW_CHUNK: usize = 256 << 10;

/// So many bytes of content are compressed thoroughly by default: it takes no
/// second, and they are read far more often than published.
const LITTLE: u64 = 8 << 20;

/// How hard the content of one publish is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Much, in no time.
    Fast,
    /// Little, in a second.
    Thorough,
    /// As long as it takes.
    Best,
}

impl Effort {
    /// The pace for so many bytes of content.
    fn pace(self, bytes: u64) -> Pace {
        match self {
            Effort::Best => Pace::Best,
            Effort::Usual if bytes <= LITTLE => Pace::Thorough,
            Effort::Usual => Pace::Fast,
        }
    }

    /// The zstd level for what is kept beside the trees.
    pub(super) fn beside(self) -> i32 {
        match self {
            Effort::Usual => 9,
            Effort::Best => 19,
        }
    }

    /// The zstd level for history, where the most is to be gained.
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
            // What shrinks there is its frame.
            (_, Class::Image | Class::Archive) => 3,
            (Pace::Thorough, _) => 15,
            (_, Class::Structured(Format::Database) | Class::Binary | Class::Unknown) => 6,
            (_, Class::Text | Class::Structured(_) | Class::Code(_)) if len <= SLOW_CHUNK => 9,
            (_, Class::Text | Class::Structured(_) | Class::Code(_)) => 7,
        }
    }

    /// The zstd level for a patch: most of it is told by what it is against.
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

/// How the content of one publish is compressed.
pub(super) struct Compression {
    effort: Effort,
    pace: Pace,
    dictionaries: Vec<Ready>,
}

/// How the chunks of one file are compressed.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    class: Class,
    /// Whether it is worth a try.
    shrinks: bool,
    pace: Pace,
    dictionary: Option<&'a Ready>,
}

impl Compression {
    /// Chooses dictionaries for the files of a plan: those of before while they
    /// help, new ones where they pay. New ones are placed.
    pub(super) fn prepare(
        plan: &Plan,
        known: &Known,
        packs: &mut Packs,
        effort: Effort,
    ) -> Result<Self, PublishError> {
        let pace = effort.pace(plan.files.iter().map(|file| file.size).sum());
        // What comes over the network is not fetched twice.
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

    /// How a file of this name and content is compressed. Of a large one the
    /// first part will do.
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

    /// The dictionaries to be carried along: attachments of the head.
    pub(super) fn attached(&self, known: &Known) -> Option<(AttachmentKind, Vec<Placed>)> {
        let chunks = dictionaries::carried(&self.dictionaries, known);
        (!chunks.is_empty()).then_some((AttachmentKind::Dictionaries, chunks))
    }
}

impl Manner<'_> {
    /// What the file is, and whether it shrinks at all.
    pub(super) fn found(&self) -> (Class, bool) {
        (self.class, self.shrinks)
    }

    /// Whether so many bytes of the file may be stored as a patch.
    pub(super) fn may_be_a_patch(&self, len: usize) -> bool {
        self.shrinks && len >= LEAST_PATCHED
    }

    /// Encodes a chunk of the file as a patch against `base`; where that does not
    /// pay, as [`Manner::seal`] does.
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

    /// Encodes a chunk of the file, and tells what it is decoded with.
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
