//! The classes of content.

use std::fmt;

use serde::{Serialize, Serializer};

use super::language::Language;
use super::verdict::told;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Nothing tells, as of an empty file without a telling name.
    Unknown,
    /// Programs, libraries, and whatever else is no text.
    Binary,
    /// Prose, and text of no known kind.
    Text,
    /// Data that follows a grammar.
    Structured(Format),
    /// Pixels. A drawing in SVG is structured data.
    Image,
    /// Archives, and whatever is compressed by its own format: sound, video,
    /// web fonts, office documents.
    Archive,
    /// Source code.
    Code(Language),
}

/// The grammar of structured data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Format {
    /// JSON, also by the line.
    Json = 0,
    /// YAML.
    Yaml = 1,
    /// TOML.
    Toml = 2,
    /// XML and what is written in it.
    Xml = 3,
    /// Values separated by commas, tabs or such.
    Table = 4,
    /// Keys and values, a line each.
    Settings = 5,
    /// A database, or columns of values, in binary.
    Database = 6,
}

impl Format {
    /// Its name for people.
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

/// The first number of a format, and of a language.
const FORMATS: u8 = 16;
const LANGUAGES: u8 = 64;

impl Class {
    /// Tells the class of a file from its name, with or without a path, and its
    /// first bytes, of which 512 are enough. Takes about a microsecond.
    pub fn of(name: &[u8], head: &[u8]) -> Class {
        told(name, head).0
    }

    /// A number, distinct for each format and language: the group of files that
    /// look alike. No repository holds one yet; they are fixed all the same, so
    /// that one can.
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

    /// The class alone, without format or language.
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

    /// Format or language.
    pub fn kind(self) -> Option<&'static str> {
        match self {
            Class::Structured(format) => Some(format.name()),
            Class::Code(language) => Some(language.name()),
            _ => None,
        }
    }

    /// Whether people read and write it.
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
    /// As people read it: `code (Rust)`.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_class_has_a_number_of_its_own() {
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
    fn numbers_stay_what_they_are() {
        assert_eq!(Class::Text.number(), 2);
        assert_eq!(Class::Structured(Format::Json).number(), 16);
        assert_eq!(Class::Code(Language::Rust).number(), 64);
        assert_eq!(Class::Code(Language::Python).number(), 68);
    }

    #[test]
    fn a_class_reads_like_words() {
        assert_eq!(Class::Code(Language::Cpp).to_string(), "code (C++)");
        assert_eq!(Class::Archive.to_string(), "archive");
    }
}
