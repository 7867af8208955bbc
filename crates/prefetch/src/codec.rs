//! Encoding of profiles: numbers, texts and lists, each with its bounds.
//!
//! A profile may be untrusted or come from a damaged disk, so the reader validates
//! everything: a list is never longer than the remaining bytes allow, a text has a
//! maximum length, a float is a number and not negative.

/// Reason why bytes are not a valid profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedProfile {
    /// Not a profile.
    #[error("not a prefetch profile")]
    NotAProfile,
    /// Created by a later version of the program.
    #[error("a prefetch profile of version {0}; this program supports up to 2; update it")]
    Version(u8),
    /// Longer than any profile.
    #[error("a prefetch profile of {0} bytes; at most 24 MiB are supported")]
    TooLong(usize),
    /// Bytes were changed or are missing.
    #[error("a damaged prefetch profile: its checksum is wrong")]
    Damaged,
    /// The checksum is right but the content is invalid: the encoder was wrong.
    #[error("a malformed prefetch profile: {0}")]
    Invalid(&'static str),
}

/// FNV-1a, 64 bits: stable forever and on every machine.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes numbers and texts in sequence.
#[derive(Debug, Default)]
pub(super) struct ProfileWriter {
    bytes: Vec<u8>,
}

impl ProfileWriter {
    /// Returns the written bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Writes raw bytes.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes a number in as few bytes as possible (LEB128).
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// Writes the number of following items.
    pub(super) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.raw(text.as_bytes());
    }

    pub(super) fn float(&mut self, float: f32) {
        self.raw(&float.to_le_bytes());
    }
}

/// Reads the output of a [`ProfileWriter`], or arbitrary bytes.
#[derive(Debug)]
pub(super) struct ProfileReader<'a> {
    rest: &'a [u8],
}

const TRUNCATED: MalformedProfile = MalformedProfile::Invalid("the profile is truncated");

impl<'a> ProfileReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        ProfileReader { rest: bytes }
    }

    pub(super) fn raw(&mut self, len: usize) -> Result<&'a [u8], MalformedProfile> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, MalformedProfile> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedProfile> {
        self.raw(N)?.try_into().map_err(|_| TRUNCATED)
    }

    pub(super) fn number(&mut self) -> Result<u64, MalformedProfile> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(MalformedProfile::Invalid("a number is too long"))
    }

    pub(super) fn number_u16(&mut self) -> Result<u16, MalformedProfile> {
        let number = self.number()?;
        u16::try_from(number).map_err(|_| MalformedProfile::Invalid("a number is too large"))
    }

    /// Reads the number of following items of at least `least` bytes each.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, MalformedProfile> {
        let count = usize::try_from(self.number()?).map_err(|_| TRUNCATED)?;
        if count > self.rest.len() / least.max(1) {
            return Err(TRUNCATED);
        }
        Ok(count)
    }

    pub(super) fn text(&mut self, max: usize) -> Result<&'a str, MalformedProfile> {
        let len = self.count(1)?;
        if len > max {
            return Err(MalformedProfile::Invalid("a name is too long"));
        }
        let text = std::str::from_utf8(self.raw(len)?);
        text.map_err(|_| MalformedProfile::Invalid("a name is not UTF-8"))
    }

    /// Reads a float that is a count.
    pub(super) fn float(&mut self) -> Result<f32, MalformedProfile> {
        let float = f32::from_le_bytes(self.array()?);
        if (0.0..1e15).contains(&float) {
            Ok(float)
        } else {
            Err(MalformedProfile::Invalid("a count is not a number"))
        }
    }

    /// Checks that everything has been read.
    pub(super) fn end(&self) -> Result<(), MalformedProfile> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(MalformedProfile::Invalid("extra bytes at the end"))
        }
    }
}
