//! Classification by magic bytes.

use infer::MatcherType;

use super::class::{Class, Format};
use super::language::Language;

/// A file type with known magic bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Magic {
    pub(super) class: Class,
    /// Media type.
    pub(super) media: &'static str,
    /// Whether the magic has only two bytes: one in 65,536 random files matches by
    /// chance.
    pub(super) weak: bool,
}

/// The type of a file that begins like this. `text` states whether its bytes look like
/// text: a sentence may begin with `BM` without being a bitmap.
pub(super) fn magic(head: &[u8], text: bool) -> Option<Magic> {
    let found = infer::get(head)?;
    let (media, kind) = (found.mime_type(), found.matcher_type());
    let class = match (kind, media) {
        (MatcherType::Text, "text/html") => Class::Code(Language::Html),
        (MatcherType::Text, "text/xml") => Class::Structured(Format::Xml),
        // A script; its first line is more specific.
        (MatcherType::Text, _) => Class::Code(Language::Shell),
        (MatcherType::Image, _) => Class::Image,
        (MatcherType::Audio | MatcherType::Video, _) => Class::Archive,
        (MatcherType::Font, "application/font-woff") => Class::Archive,
        (_, "application/pdf" | "application/octet-stream" | "application/x-ole-storage") => {
            Class::Binary
        }
        (MatcherType::Archive, "application/vnd.sqlite3") => Class::Structured(Format::Database),
        (MatcherType::Archive, "application/rtf" | "application/postscript") => Class::Text,
        (MatcherType::App, "application/x-x509-ca-cert") if text => Class::Text,
        // Old office formats are uncompressed, new ones are zip archives.
        (MatcherType::Doc, _) if head.starts_with(&[0xd0, 0xcf]) => Class::Binary,
        (MatcherType::Archive | MatcherType::Book | MatcherType::Doc, _) => Class::Archive,
        _ => Class::Binary,
    };
    let textual = class.is_text() || media == "application/pdf";
    if text && !textual {
        return None;
    }
    let weak = matches!(
        found.extension(),
        "exe" | "dll" | "bmp" | "crt" | "obj" | "aac" | "mp3" | "jxl" | "Z" | "jxr"
    );
    Some(Magic { class, media, weak })
}
