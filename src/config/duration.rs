//! Parsing of durations.

use std::time::Duration;

/// Parses a number with suffix `s`, `m`, `h`, `d` or `w`.
///
/// # Errors
/// A sentence that describes the mistake.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 90s, 30m, 12h, 7d or 2w");
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

#[cfg(test)]
mod tests {
    use super::*;

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
