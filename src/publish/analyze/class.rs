//! Classes of content.

use std::fmt;

use serde::{Serialize, Serializer};

use super::language::Language;

/// Class of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Unknown, such as an empty file without a known name.
    Unknown,
    /// Programs, libraries, and other non-text content.
    Binary,
    /// Prose, and text of no known type.
    Text,
    /// Data in a structured format.
    Structured(Format),
    /// Raster images. An SVG drawing is structured data.
    Image,
    /// Archives and other compressed formats: audio, video, web fonts, office documents.
    Archive,
    /// Source code.
    Code(Language),
}

/// Format of structured data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Format {
    /// JSON, including JSON lines.
    Json = 0,
    /// YAML.
    Yaml = 1,
    /// TOML.
    Toml = 2,
    /// XML and formats based on it.
    Xml = 3,
    /// Delimiter-separated values.
    Table = 4,
    /// Key-value lines.
    Settings = 5,
    /// A binary database or columnar file.
    Database = 6,
}

impl Format {
    /// Display name.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "JSON",
            Format::Yaml => "YAML",
            Format::Toml => "TOML",
            Format::Xml => "XML",
            Format::Table => "table",
            Format::Settings => "settings",
            Format::Database => "database",
        }
    }
}

/// First number of the formats, and of the languages.
const FORMATS: u8 = 16;
const LANGUAGES: u8 = 64;

impl Class {
    /// A distinct number for each format and language, to group similar files. No
    /// repository stores it yet, but the numbers are fixed to permit it.
    pub fn number(self) -> u8 {
        match self {
            Class::Unknown => 0,
            Class::Binary => 1,
            Class::Text => 2,
            Class::Image => 3,
            Class::Archive => 4,
            Class::Structured(format) => FORMATS + format as u8,
            Class::Code(language) => LANGUAGES + language as u8,
        }
    }

    /// The class without format or language.
    pub fn name(self) -> &'static str {
        match self {
            Class::Unknown => "unknown",
            Class::Binary => "binary",
            Class::Text => "text",
            Class::Image => "image",
            Class::Archive => "archive",
            Class::Structured(_) => "structured",
            Class::Code(_) => "code",
        }
    }

    /// The format or language.
    pub fn kind(self) -> Option<&'static str> {
        match self {
            Class::Structured(format) => Some(format.name()),
            Class::Code(language) => Some(language.name()),
            _ => None,
        }
    }

    /// Whether the content is text for people.
    pub fn is_text(self) -> bool {
        match self {
            Class::Text | Class::Code(_) => true,
            Class::Structured(format) => format != Format::Database,
            _ => false,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{} ({kind})", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

impl Serialize for Class {
    /// Display form: `code (Rust)`.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn class_numbers_are_unique() {
        use Format::*;
        let formats = [Json, Yaml, Toml, Xml, Table, Settings, Database];
        let plain = [
            Class::Unknown,
            Class::Binary,
            Class::Text,
            Class::Image,
            Class::Archive,
        ];
        let all = (plain.into_iter())
            .chain(formats.map(Class::Structured))
            .chain(Language::ALL.iter().copied().map(Class::Code));
        let numbers: Vec<u8> = all.map(Class::number).collect();
        let different: HashSet<u8> = numbers.iter().copied().collect();
        assert_eq!(different.len(), numbers.len());
    }

    #[test]
    fn class_numbers_are_fixed() {
        assert_eq!(Class::Text.number(), 2);
        assert_eq!(Class::Structured(Format::Json).number(), 16);
        assert_eq!(Class::Code(Language::Rust).number(), 64);
        assert_eq!(Class::Code(Language::Python).number(), 68);
    }

    #[test]
    fn classes_display_their_name_and_kind() {
        assert_eq!(Class::Code(Language::Cpp).to_string(), "code (C++)");
        assert_eq!(Class::Archive.to_string(), "archive");
    }
}
