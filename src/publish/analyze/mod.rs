//! What a file is, and whether it shrinks.
//!
//! Two questions are asked of a file before it is stored.
//!
//! *What is it?* [`Class::of`] answers from its first bytes and its name
//! alone. Magic bytes are believed first, then a name, and a name only where
//! the content does not belie it: `movie.ts` is no TypeScript. What is neither
//! is text or binary by how it begins. Files of one class, and of one language,
//! look alike, so the class groups what can be compressed together
//! ([`Class::number`]).
//!
//! *Does it shrink?* [`analyze`] also looks at samples of the content. The
//! spread of byte values costs little to count and settles most cases: what
//! takes less than seven bits a byte shrinks under any entropy coder. Only what
//! is above is compressed on trial, at most 64 KiB of it, so that content that
//! does not shrink is known before the whole of it is compressed in vain.
//! [`analyze_thoroughly`] compresses the samples in every case, for somebody
//! who wants to see the ratio.
//!
//! Everything here is pure but [`census`], which reads what it is shown. The
//! same bytes under the same name give the same answer on every machine, for
//! what is published depends on it.

mod census;
mod class;
mod entropy;
mod language;
mod magic;
mod name;
mod sample;
mod verdict;

pub use census::{Found, Watch, census};
pub use class::{Class, Format};
pub use language::Language;
pub use sample::Sample;
pub use verdict::{Analysis, Evidence, Measured, Why, analyze, analyze_thoroughly};
