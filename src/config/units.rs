//! Parsing of sizes, durations and ranges.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Units of sizes in lower case, in bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
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
    let (_, factor) = (SIZE_UNITS.iter())
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    number.checked_mul(*factor).ok_or_else(wrong)
}

/// Deserializes a size from an integer or a string.
pub(super) fn optional_size<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a size: bytes, or a text such as \"10G\""
    )]
    enum SizeInput {
        Bytes(u64),
        Text(String),
    }
    match SizeInput::deserialize(input)? {
        SizeInput::Bytes(bytes) => Ok(Some(bytes)),
        SizeInput::Text(text) => size(&text).map(Some).map_err(serde::de::Error::custom),
    }
}

/// Parses a number with suffix `s`, `m`, `h`, `d` or `w`.
///
/// # Errors
/// A sentence that describes the mistake.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write 90s, 30m, 12h, 7d or 2w");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(unit).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Checks the key `schedule` of a section: a duration above zero, or `off`.
pub(super) fn check_schedule(section: &str, schedule: &str) -> Result<(), String> {
    match duration(schedule) {
        _ if schedule == "off" => Ok(()),
        Ok(every) if every.is_zero() => Err(format!(
            "schedule in [{section}] must be longer than 0, or \"off\""
        )),
        Ok(_) => Ok(()),
        Err(why) => Err(format!("schedule in [{section}]: {why}, or \"off\"")),
    }
}

/// Checks that the value of a key is within a range.
pub(super) fn check_range<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{key} must be from {} to {}",
        range.start(),
        range.end()
    ))
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

    #[test]
    fn durations_are_read_with_their_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("2w"), Ok(Duration::from_secs(14 * 24 * 3600)));
        for bad in ["", "7", "d", "7 d", "-1d", "7x", "99999999999999999w"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
