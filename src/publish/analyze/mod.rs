//! Classification of files, and prediction of whether they compress.
//!
//! [`Class::of`] determines the class of a file from its first bytes and its name. Magic
//! bytes take precedence over the name, and a name must be consistent with the content:
//! `movie.ts` is not TypeScript. Other files are text or binary, depending on how they
//! begin. Files of one class and language are similar, so the class groups files that
//! compress well together ([`Class::number`]).
//!
//! [`analyze`] also samples the content to predict whether it compresses. The entropy of
//! byte values is cheap to compute and usually conclusive: content of less than seven
//! bits per byte compresses under any entropy coder. Only other content is compressed on
//! trial, at most 64 KiB of it, so that incompressible content is detected before all of
//! it is compressed in vain. [`analyze_thoroughly`] always compresses the samples, to
//! report the ratio.
//!
//! Everything here is pure except [`census`], which reads files. Equal bytes and names
//! yield equal results on every machine, because the published bytes depend on them.

mod analysis;
mod census;
mod class;
mod language;
mod magic;
mod name;
mod sample;

pub use analysis::{
    Analysis, AnalysisEvidence, ClassEvidence, CompressionEvidence, analyze, analyze_thoroughly,
};
pub use census::{AnalyzedFile, CensusProgress, census};
pub use class::{Class, Format};
pub use language::Language;
pub use sample::Sample;
