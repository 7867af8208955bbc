//! Escaping of untrusted text for display.
//!
//! Names, messages and errors come from authors and servers. Unescaped, they could move
//! the cursor of a terminal, change the window title, reverse the order of the following
//! text, or add a line that looks like our output. So all text for terminals passes
//! through this module: output of the commands, the log of the daemon, and the virtual
//! files of a mount.
//!
//! A character that a terminal would not display as itself is written as its escape
//! sequence in Rust syntax: `\n`, `\u{1b}`, `\u{202e}`. A byte that is not UTF-8 is
//! written as `\xff`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

/// Longest line, in characters. The number of truncated characters is shown.
pub const MAX_LINE_CHARS: usize = 4096;
/// Longest field within a line, such as an author or a subject, in characters.
pub const MAX_FIELD_CHARS: usize = 256;
/// Longest text of several lines, in bytes before escaping.
pub const MAX_TEXT_BYTES: usize = 64 << 10;
/// Columns between the tab stops of a text of several lines.
const TAB_WIDTH: usize = 8;

/// Characters that are not displayed, or change the display of others, except controls:
/// the Unicode properties `Default_Ignorable_Code_Point`, `Bidi_Control` and the general
/// categories Cf, Zl and Zp.
const HIDDEN_RANGES: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a character must not reach a terminal: a C0 or C1 control, a bidirectional
/// control, a line or paragraph separator, or a character without a glyph.
pub fn is_unsafe(c: char) -> bool {
    if c < '\u{ad}' {
        return c.is_control();
    }
    let after = HIDDEN_RANGES.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= HIDDEN_RANGES[after - 1].1
}

/// Escapes text as one line, truncated to [`MAX_LINE_CHARS`] characters.
pub fn line(text: &str) -> Cow<'_, str> {
    bounded(text, MAX_LINE_CHARS)
}

/// Escapes text as part of a line, truncated to [`MAX_FIELD_CHARS`] characters.
pub fn field(text: &str) -> Cow<'_, str> {
    bounded(text, MAX_FIELD_CHARS)
}

/// Escapes bytes that should be text as part of a line.
pub fn bytes_field(bytes: &[u8]) -> String {
    let mut text = String::new();
    // Each byte becomes at most one character, so more bytes cannot be shown.
    let shown = &bytes[..bytes.len().min(4 * MAX_FIELD_CHARS)];
    push_utf8(&mut text, shown);
    if shown.len() < bytes.len() {
        let _ = write!(text, "… ({} bytes in all)", bytes.len());
    }
    field(&text).into_owned()
}

/// Escapes text of several lines: newlines stay, tabs become spaces, everything else is
/// escaped. Truncated to [`MAX_TEXT_BYTES`] bytes.
pub fn lines(text: &str) -> String {
    let cut = text.floor_char_boundary(MAX_TEXT_BYTES);
    let mut shown = String::with_capacity(cut);
    let mut column = 0;
    for c in text[..cut].chars() {
        match c {
            '\n' => {
                shown.push(c);
                column = 0;
            }
            '\t' => {
                let pad = TAB_WIDTH - column % TAB_WIDTH;
                shown.extend(std::iter::repeat_n(' ', pad));
                column += pad;
            }
            c => column += push(&mut shown, c),
        }
    }
    if cut < text.len() {
        let _ = writeln!(shown, "\n… ({} more bytes)", text.len() - cut);
    }
    shown
}

/// Like [`lines`], for bytes that should be text.
pub fn bytes_lines(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(MAX_TEXT_BYTES + 1)];
    let mut text = String::with_capacity(shown.len());
    push_utf8(&mut text, shown);
    lines(&text)
}

/// Escapes unsafe characters of JSON by JSON escape sequences, which preserves its value.
/// Newlines between tokens stay.
pub fn json(text: &str) -> Cow<'_, str> {
    let escaped = |c: char| is_unsafe(c) && c != '\n';
    if !text.contains(escaped) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// A writer of lines in which each `write` is one line, as in loggers.
#[derive(Debug)]
pub struct LineWriter<W>(pub W);

impl<W: io::Write> io::Write for LineWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = String::with_capacity(bytes.len());
        push_utf8(&mut text, bytes.strip_suffix(b"\n").unwrap_or(bytes));
        self.0.write_all(format!("{}\n", line(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn bounded(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit && !text.contains(is_unsafe) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len().min(2 * limit));
    let mut left = limit;
    for (at, c) in text.char_indices() {
        if left == 0 {
            let _ = write!(shown, "… ({} more bytes)", text.len() - at);
            break;
        }
        push(&mut shown, c);
        left -= 1;
    }
    shown.into()
}

/// Appends a character, escaped if necessary, and returns a lower bound of its columns.
fn push(shown: &mut String, c: char) -> usize {
    if !is_unsafe(c) {
        shown.push(c);
        return 1;
    }
    let escape: String = match c {
        '\n' | '\r' | '\t' => c.escape_default().collect(),
        c => c.escape_unicode().collect(),
    };
    shown.push_str(&escape);
    escape.len()
}

/// Appends bytes that should be UTF-8; invalid bytes become `\xff`.
fn push_utf8(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &str = "a\u{1b}]0;x\u{7}\n\r\t\u{9b}31m\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\
                           \u{200b}\u{2028}\u{feff}\u{ad}\u{e0041}z";

    #[test]
    fn controls_and_hidden_characters_are_escaped() {
        assert_eq!(
            line("a\u{1b}[31m\nb\u{202e}c\u{85}"),
            r"a\u{1b}[31m\nb\u{202e}c\u{85}"
        );
        assert_eq!(line("plain ü 日本 e\u{301}"), "plain ü 日本 e\u{301}");
        assert!(!line(HOSTILE).contains(is_unsafe));
        assert_eq!(bytes_field(b"a\xffb\x1b"), r"a\xffb\u{1b}");
    }

    #[test]
    fn escaped_texts_preserve_line_breaks_only() {
        assert_eq!(lines("a\n\tb\r\n"), "a\n        b\\r\n");
        assert_eq!(bytes_lines(b"\xc3(\n"), "\\xc3(\n");
        let long = lines(&"x".repeat(MAX_TEXT_BYTES + 5));
        assert!(long.ends_with("\n… (5 more bytes)\n"), "{}", long.len());
    }

    #[test]
    fn long_texts_are_truncated_with_a_note() {
        let long = "\u{202e}".repeat(MAX_LINE_CHARS + 2);
        let shown = line(&long);
        assert!(shown.ends_with("… (6 more bytes)"), "{}", shown.len());
        assert!(field(&"x".repeat(100_000)).len() < 2 * MAX_FIELD_CHARS);
        assert!(bytes_field(&[0xff; 100_000]).len() < 20 * MAX_FIELD_CHARS);
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"k\u{202e}": [HOSTILE, "\u{7f}"]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&text);
        assert!(!shown.replace('\n', "").contains(is_unsafe), "{shown}");
        let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn an_event_of_a_log_is_one_line() {
        let mut written = Vec::new();
        let event = "WARN a\nERROR forged\u{1b}[2J\n";
        LineWriter(&mut written)
            .write_all(event.as_bytes())
            .unwrap();
        assert_eq!(written, b"WARN a\\nERROR forged\\u{1b}[2J\n");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_escaped(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
            for shown in [line(&text), field(&text), bytes_field(&bytes).into()] {
                prop_assert!(!shown.contains(is_unsafe));
            }
            for shown in [lines(&text), bytes_lines(&bytes)] {
                prop_assert!(!shown.replace('\n', "").contains(is_unsafe));
            }
        }
    }
}
