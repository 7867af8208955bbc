//! Selection of the compression level and method by content.
//!
//! Text, code and data are compressed slowly, because they are read far more often than
//! published, and decoding is equally fast at every level. Small files use a dictionary
//! for their kind. Incompressible content is detected by sampling and stored
//! uncompressed.
//!
//! All decisions depend only on the content, its name and the previous publish: equal
//! input yields equal bytes.

use super::analyze::{Class, analyze};
use super::dictionaries::{self, MAX_DICTIONARY_CHUNK, PlacedDictionary};
use super::effort::{Effort, Speed};
use super::error::PublishError;
use super::packs::Packs;
use super::pending_chunk::PendingChunk;
use super::plan::Plan;
use super::previous_publish::PreviousPublish;
use walgit_format::chunk::{Bases, EncodedChunk, PatchEncoder, encode_chunk};
use walgit_format::head::AttachmentKind;

/// A patch is used if its size is at most this fraction (as a divisor) of the standalone
/// chunk: readers have to fetch and decode the base first.
const MIN_PATCH_RATIO: usize = 2;
/// Bytes that a reference to a base takes.
const BASE_REFERENCE_BYTES: usize = 64;
/// A patch of at most this fraction (as a divisor) of the plain bytes is used without
/// encoding the chunk standalone.
const SMALL_PATCH_DIVISOR: usize = 12;
/// Minimum content size for patches.
const MIN_PATCHED_BYTES: usize = 512;

/// Compression state of one publish.
pub(super) struct Compression {
    effort: Effort,
    speed: Speed,
    dictionaries: Vec<PlacedDictionary>,
}

/// Encoder for the chunks of one file.
#[derive(Clone, Copy)]
pub(super) struct FileCodec<'a> {
    pub(super) class: Class,
    /// Whether to try compression.
    pub(super) compressible: bool,
    speed: Speed,
    dictionary: Option<&'a PlacedDictionary>,
}

/// Stored bytes of a chunk, and the bases for decoding.
pub(super) type Encoded = (EncodedChunk, Bases<PendingChunk>);

impl Compression {
    /// Selects dictionaries for the files of a plan: stored ones while they help, new
    /// ones if they pay. Stores the new ones.
    pub(super) fn prepare(
        plan: &Plan,
        previous: &PreviousPublish,
        packs: &mut Packs,
        effort: Effort,
    ) -> Result<Self, PublishError> {
        let speed = effort.speed(plan.files.iter().map(|file| file.size).sum());
        // Avoid fetching remote content twice.
        let dictionaries = match plan.foreign {
            Some(_) => Vec::new(),
            None => dictionaries::choose(plan, &previous.dictionaries, packs, speed)?,
        };
        Ok(Compression {
            effort,
            speed,
            dictionaries,
        })
    }

    /// The encoder for a file with this name and content. For a large file, its first part
    /// suffices.
    pub(super) fn file_codec(&self, name: &[u8], content: &[u8]) -> FileCodec<'_> {
        let analysis = analyze(name, content);
        let class = analysis.class;
        FileCodec {
            class,
            compressible: analysis.compressible,
            speed: self.speed,
            dictionary: self.dictionaries.iter().find(|it| it.is_for(class)),
        }
    }

    /// The zstd level for history.
    pub(super) fn history_level(&self) -> i32 {
        self.effort.history_level()
    }

    /// The dictionaries to attach to the head.
    pub(super) fn attachment(
        &self,
        previous: &PreviousPublish,
    ) -> Option<(AttachmentKind, Vec<PendingChunk>)> {
        let chunks = dictionaries::attached(&self.dictionaries, &previous.dictionaries);
        (!chunks.is_empty()).then_some((AttachmentKind::Dictionaries, chunks))
    }
}

impl FileCodec<'_> {
    /// Whether `len` bytes of the file may be stored as a patch.
    pub(super) fn may_patch(&self, len: usize) -> bool {
        self.compressible && len >= MIN_PATCHED_BYTES
    }

    /// Encodes a chunk of the file as a patch against `base`; if that does not pay, like
    /// [`FileCodec::encode`].
    pub(super) fn encode_patch<'b>(
        &self,
        raw: &[u8],
        base: &'b [u8],
        patcher: &mut PatchEncoder<'b>,
    ) -> Result<EncodedChunk, Encoded> {
        let Some(patch) = patcher.encode(raw, base, self.speed.patch_level()) else {
            return Err(self.encode(raw));
        };
        let len = patch.bytes.len() + BASE_REFERENCE_BYTES;
        if len * SMALL_PATCH_DIVISOR <= raw.len() {
            return Ok(patch);
        }
        let standalone = self.encode(raw);
        if len * MIN_PATCH_RATIO <= standalone.0.bytes.len() {
            Ok(patch)
        } else {
            Err(standalone)
        }
    }

    /// Encodes a chunk of the file; also returns the bases for decoding.
    pub(super) fn encode(&self, raw: &[u8]) -> Encoded {
        match self.dictionary {
            _ if !self.compressible => (EncodedChunk::raw(raw), Bases::NONE),
            Some(dictionary) if raw.len() <= MAX_DICTIONARY_CHUNK => dictionary.encode(raw),
            _ => {
                let level = self.speed.level(self.class, raw.len());
                (encode_chunk(raw, level), Bases::NONE)
            }
        }
    }
}
