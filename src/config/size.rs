//! Parsing of sizes.

use serde::{Deserialize, Deserializer};

/// Units in lower case, with their sizes in bytes.
const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
];

/// Parses a number of bytes, or a number with a unit: `500M` and `500MB` are 500,000,000
/// bytes, `500Mi` and `500MiB` are 524,288,000.
///
/// # Errors
/// A sentence that describes the mistake.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write bytes, or 500M, 10G or 512MiB");
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_');
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: u64 = digits.replace('_', "").parse().map_err(|_| wrong())?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (_, factor) = (UNITS.iter())
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    number.checked_mul(*factor).ok_or_else(wrong)
}

/// Deserializes a size from an integer or a string.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a size: bytes, or a text such as \"10G\""
    )]
    enum Written {
        Bytes(u64),
        Text(String),
    }
    match Written::deserialize(input)? {
        Written::Bytes(bytes) => Ok(Some(bytes)),
        Written::Text(text) => size(&text).map(Some).map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("500_000_000", 500_000_000),
            ("10G", 10_000_000_000),
            ("10 GB", 10_000_000_000),
            ("64MiB", 64 << 20),
            ("64mi", 64 << 20),
            ("7b", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "-1", "1.5G", "10X", "10GG", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
