//! Analysis of a file: its class, whether it compresses, and the evidence.

use std::fmt;

use serde::Serialize;

use super::class::Class;
use super::language::Language;
use super::magic::magic;
use super::name::class_by_name;
use super::sample::Sample;

/// Result of analyzing a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// The class of the file.
    pub class: Class,
    /// Entropy of the byte values, sampled, in bits per byte: 0 to 8.
    pub entropy: f64,
    /// Ratio of stored to plain bytes, sampled at zstd level 1: above 0, about 1 for
    /// incompressible content. `None` if the entropy was conclusive.
    pub ratio: Option<f64>,
    /// Whether compression pays.
    pub compressible: bool,
    /// Evidence for the result.
    pub why: AnalysisEvidence,
}

/// Evidence for an [`Analysis`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AnalysisEvidence {
    /// Evidence for the class.
    pub class: ClassEvidence,
    /// Evidence for the compressibility.
    pub compressible: CompressionEvidence,
}

/// Evidence for a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "media")]
pub enum ClassEvidence {
    /// Magic bytes of this media type.
    Magic(&'static str),
    /// The file name, consistent with the content.
    Name,
    /// The interpreter in the first line.
    Interpreter,
    /// The content begins like text; no other evidence.
    Text,
    /// The content does not begin like text; no other evidence.
    NotText,
    /// The file is empty.
    Nothing,
}

impl fmt::Display for ClassEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassEvidence::Magic(media) => write!(f, "it begins like {media}"),
            ClassEvidence::Name => f.write_str("by its name, consistent with its content"),
            ClassEvidence::Interpreter => f.write_str("its first line names the interpreter"),
            ClassEvidence::Text => f.write_str("it begins like text"),
            ClassEvidence::NotText => f.write_str("it does not begin like text"),
            ClassEvidence::Nothing => f.write_str("it is empty"),
        }
    }
}

/// Evidence for the compressibility of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CompressionEvidence {
    /// The entropy is so low that any entropy coder compresses the file.
    Entropy,
    /// A sample was compressed.
    Sample,
    /// The file is empty.
    Nothing,
}

impl fmt::Display for CompressionEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CompressionEvidence::Entropy => "some byte values are far more frequent than others",
            CompressionEvidence::Sample => "a sample of it was compressed",
            CompressionEvidence::Nothing => "it is empty",
        })
    }
}

/// Below this many bits per byte, any entropy coder saves an eighth; above, possibly
/// nothing.
const MAX_CONCLUSIVE_ENTROPY: f64 = 7.0;
/// Below this many bytes, the entropy of 256 values is not meaningful; compressing so
/// little takes microseconds.
const MIN_CONCLUSIVE_BYTES: u64 = 512;
/// Minimum fraction that compression has to save, the same threshold as in
/// `chunk::seal`.
const MIN_SAVING: f64 = 1.0 / 32.0;

/// Determines the class and compressibility of a file, at several hundred MB/s. `name`
/// may include a path.
pub fn analyze(name: &[u8], content: &[u8]) -> Analysis {
    of_sample(name, &Sample::of(content), false)
}

/// Like [`analyze`], but always measures the ratio.
pub fn analyze_thoroughly(name: &[u8], sample: &Sample<'_>) -> Analysis {
    of_sample(name, sample, true)
}

fn of_sample(name: &[u8], sample: &Sample<'_>, thoroughly: bool) -> Analysis {
    let (class, by) = classify(name, sample.head());
    let entropy = sample.entropy();
    let empty = sample.file_len() == 0;
    let conclusive = entropy < MAX_CONCLUSIVE_ENTROPY && sample.file_len() >= MIN_CONCLUSIVE_BYTES;
    let ratio = (!empty && (thoroughly || !conclusive)).then(|| sample.ratio());
    let compressible = conclusive || ratio.is_some_and(|ratio| ratio < 1.0 - MIN_SAVING);
    let measured = match (empty, conclusive) {
        (true, _) => CompressionEvidence::Nothing,
        (false, true) => CompressionEvidence::Entropy,
        (false, false) => CompressionEvidence::Sample,
    };
    Analysis {
        class,
        entropy,
        ratio,
        compressible,
        why: AnalysisEvidence {
            class: by,
            compressible: measured,
        },
    }
}

impl Class {
    /// Classifies a file by its name, with or without a path, and its first bytes, of
    /// which 512 suffice. Takes about a microsecond.
    pub fn of(name: &[u8], head: &[u8]) -> Class {
        classify(name, head).0
    }
}

/// Returns the class of the file, and the evidence.
fn classify(name: &[u8], head: &[u8]) -> (Class, ClassEvidence) {
    let by_name = class_by_name(name);
    if head.is_empty() {
        return match by_name {
            Some(class) => (class, ClassEvidence::Name),
            None => (Class::Unknown, ClassEvidence::Nothing),
        };
    }
    let text = is_text_start(head);
    let by_magic = magic(head, text);
    match (by_magic, by_name) {
        // For text, the name is more specific than the first line: XML may be a drawing
        // or a project file, a script anything.
        (_, Some(class)) if text && class.is_text() => (class, ClassEvidence::Name),
        (Some(it), Some(class)) if it.weak && !class.is_text() => (class, ClassEvidence::Name),
        (Some(it), _) if !it.class.is_text() => (it.class, ClassEvidence::Magic(it.media)),
        (by_magic, _) if text => match (Language::by_script(head), by_magic) {
            (Some(language), _) => (Class::Code(language), ClassEvidence::Interpreter),
            (None, Some(it)) => (it.class, ClassEvidence::Magic(it.media)),
            (None, None) => (Class::Text, ClassEvidence::Text),
        },
        // Text that is not Unicode, or a format that is partly text.
        (Some(it), _) => (it.class, ClassEvidence::Magic(it.media)),
        (None, Some(class)) if !class.is_text() => (class, ClassEvidence::Name),
        (None, _) => (Class::Binary, ClassEvidence::NotText),
    }
}

/// Whether a file begins like text: no NUL (or a byte order mark first), and no more
/// control characters than a file in a legacy encoding contains.
fn is_text_start(head: &[u8]) -> bool {
    let start = &head[..head.len().min(1024)];
    let seen = content_inspector::inspect(start);
    if seen.is_binary() {
        return false;
    }
    if seen != content_inspector::ContentType::UTF_8 {
        return true;
    }
    let control = |byte: &&u8| matches!(byte, 0..=8 | 14..=26 | 28..=31 | 127);
    start.iter().filter(control).count() * 50 <= start.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Format;
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn prose(len: usize) -> Vec<u8> {
        let words = (0u32..)
            .flat_map(|n| format!("word{} ", n.wrapping_mul(2_654_435_761) % 5000).into_bytes());
        words.take(len).collect()
    }

    #[test]
    fn the_name_counts_unless_the_content_contradicts_it() {
        let rust = Class::Code(Language::Rust);
        assert_eq!(Class::of(b"src/lib.rs", b"//! Words.\n"), rust);
        assert_eq!(
            Class::of(b"lib.rs", b"\x7fELF\x02\x01\x01\0\0\0\0"),
            Class::Binary
        );
        let mut stream = vec![0x47, 0x40, 0x11, 0x10, 0, 0x42];
        stream.extend(noise(500));
        assert_eq!(Class::of(b"movie.ts", &stream), Class::Binary);
        assert_eq!(
            Class::of(b"app.ts", b"export const a = 1;"),
            Class::Code(Language::TypeScript)
        );
        assert_eq!(
            Class::of(b"photo.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
            Class::Image
        );
        assert_eq!(Class::of(b"data.png", b"words, nothing else"), Class::Text);
        assert_eq!(
            Class::of(b"a.svg", b"<svg xmlns='x'/>"),
            Class::Structured(Format::Xml)
        );
    }

    #[test]
    fn classifies_content_without_a_name() {
        for (head, class) in [
            (
                &b"#!/usr/bin/env python\n"[..],
                Class::Code(Language::Python),
            ),
            (b"<?xml version='1.0'?><a/>", Class::Structured(Format::Xml)),
            (b"<!DOCTYPE html><html>", Class::Code(Language::Html)),
            (b"PK\x03\x04\x14\0\0\0\x08\0", Class::Archive),
            (b"\x1f\x8b\x08\0\0\0\0\0", Class::Archive),
            (b"\x28\xb5\x2f\xfd\x04\0", Class::Archive),
            (
                b"SQLite format 3\0\x10\0",
                Class::Structured(Format::Database),
            ),
            (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", Class::Binary),
            (b"\0asm\x01\0\0\0", Class::Binary),
            (b"BM is how this sentence begins", Class::Text),
            (b"MZ too, and not a program", Class::Text),
            ("Grüße".as_bytes(), Class::Text),
            (b"Gr\xfc\xdfe in an old encoding", Class::Text),
            (b"\xff\xfeH\0i\0", Class::Text),
            (b"\x01\x02\x03\x04", Class::Binary),
            (b"", Class::Unknown),
        ] {
            assert_eq!(Class::of(b"", head), class, "{head:?}");
        }
        assert_eq!(Class::of(b"empty.rs", b""), Class::Code(Language::Rust));
    }

    #[test]
    fn detects_incompressible_content_and_compresses_only_inconclusive_samples() {
        for len in [300, 5_000, 70_000, 3_000_000] {
            let found = analyze(b"x", &noise(len));
            assert!(
                !found.compressible && found.why.compressible == CompressionEvidence::Sample,
                "{len}"
            );
            assert!(found.ratio.is_some_and(|ratio| ratio > 0.99), "{found:?}");
            let found = analyze(b"x", &prose(len));
            assert!(found.compressible, "{len}: {found:?}");
            assert_eq!(found.ratio.is_none(), len >= 512, "{len}: {found:?}");
        }
        // Uniform byte values, but pure repetition.
        let again = noise(1000).repeat(100);
        let found = analyze(b"x", &again);
        assert!(
            found.entropy > MAX_CONCLUSIVE_ENTROPY && found.compressible,
            "{found:?}"
        );
        // A file whose middle compresses is worth compressing.
        let mixed = [noise(400_000), prose(400_000), noise(400_000)].concat();
        assert!(analyze(b"x", &mixed).compressible);
        assert!(!analyze(b"x", b"").compressible);
    }

    #[test]
    fn a_thorough_analysis_always_measures_the_ratio() {
        let found = analyze_thoroughly(b"x", &Sample::of(&prose(5000)));
        assert!(
            found.ratio.is_some_and(|ratio| (0.1..0.8).contains(&ratio)),
            "{found:?}"
        );
        assert_eq!(found.compressible, analyze(b"x", &prose(5000)).compressible);
    }

    proptest! {
        #[test]
        fn classifies_arbitrary_bytes_and_names(
            name in proptest::collection::vec(any::<u8>(), 0..40),
            start in proptest::sample::select(vec![
                &b""[..], b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"!<arch>\n",
                b"\x30\x82", b"BM", b"RIFF", b"\0\0\0\x18ftyp", b"#!", b"<?xml", b"\x1aE\xdf\xa3",
            ]),
            rest in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let content = [start, &rest].concat();
            let found = analyze(&name, &content);
            prop_assert!((0.0..=8.0).contains(&found.entropy));
            prop_assert!(found.ratio.is_none_or(|ratio| ratio > 0.0));
            prop_assert_eq!(found.class, Class::of(&name, &content));
            prop_assert_eq!(found, analyze(&name, &content));
        }
    }
}
