//! A git tree with numbers for IDs.

use bytes::Bytes;

use crate::repo::malformed::MalformedNode;
use crate::repo::wire::{Reader, Write};

/// Modes that have a number of one byte; others are written out.
const MODES: [&[u8]; 6] = [
    b"100644", b"100755", b"40000", b"120000", b"160000", b"100664",
];
/// Longest mode, in bytes.
const MAX_MODE: usize = 16;
/// Longest name, in bytes: longer than any file system has.
const MAX_NAME: usize = 4096;

/// What an entry of a tree leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An object of the archive.
    Number(u64),
    /// One that is not in it, such as a submodule's commit: its ID.
    Id(Bytes),
}

/// An entry of a stored tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its mode as git has it, in octal digits.
    pub mode: Bytes,
    /// Its name.
    pub name: Bytes,
    /// What it leads to.
    pub target: Target,
}

impl StoredEntry {
    /// Whether it is a directory.
    pub fn is_tree(&self) -> bool {
        &self.mode[..] == b"40000" || &self.mode[..] == b"040000"
    }
}

/// Writes a tree.
pub fn encode_tree(entries: &[StoredEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 24);
    for entry in entries {
        match MODES.iter().position(|mode| *mode == &entry.mode[..]) {
            Some(number) => out.push(number as u8 + 1),
            None => {
                out.push(0);
                out.string(&entry.mode);
            }
        }
        out.string(&entry.name);
        match &entry.target {
            Target::Number(number) => out.uint(number + 1),
            Target::Id(id) => {
                out.uint(0);
                out.string(id);
            }
        }
    }
    out
}

/// Reads a tree, its names as parts of `raw`.
///
/// # Errors
/// When the bytes are not a tree.
pub fn decode_tree(raw: &Bytes) -> Result<Vec<StoredEntry>, MalformedNode> {
    let mut reader = Reader::new(raw);
    let mut entries = Vec::new();
    while reader.position() < raw.len() {
        let mode = match reader.byte()? {
            0 => raw.slice_ref(reader.bytes(MAX_MODE)?),
            number => {
                let mode = MODES.get(usize::from(number) - 1);
                Bytes::from_static(mode.ok_or(MalformedNode::Index(number.into()))?)
            }
        };
        let name = raw.slice_ref(reader.bytes(MAX_NAME)?);
        let target = match reader.uint()?.checked_sub(1) {
            Some(number) => Target::Number(number),
            None => Target::Id(raw.slice_ref(reader.bytes(32)?)),
        };
        entries.push(StoredEntry { mode, name, target });
    }
    Ok(entries)
}

/// An entry of a tree as git has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// Its mode, in octal digits.
    pub mode: &'a [u8],
    /// Its name.
    pub name: &'a [u8],
    /// The ID of what it leads to.
    pub id: &'a [u8],
}

impl RawEntry<'_> {
    /// Whether it is a directory.
    pub fn is_tree(&self) -> bool {
        matches!(self.mode, b"40000" | b"040000")
    }

    /// Whether it is a commit of another repository.
    pub fn is_submodule(&self) -> bool {
        self.mode == b"160000"
    }
}

/// The entries of a tree as git has it, whose IDs are of `id_len` bytes. The
/// last item is `None` where the bytes are not a tree.
pub fn parse_tree(raw: &[u8], id_len: usize) -> impl Iterator<Item = Option<RawEntry<'_>>> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = split_entry(rest, id_len);
        rest = entry.map_or(&[], |(_, rest)| rest);
        Some(entry.map(|(entry, _)| entry))
    })
}

fn split_entry(raw: &[u8], id_len: usize) -> Option<(RawEntry<'_>, &[u8])> {
    let space = raw.iter().position(|&byte| byte == b' ')?;
    let (mode, raw) = (&raw[..space], &raw[space + 1..]);
    let end = raw.iter().position(|&byte| byte == 0)?;
    let (name, raw) = (&raw[..end], &raw[end + 1..]);
    let (id, rest) = raw.split_at_checked(id_len)?;
    Some((RawEntry { mode, name, id }, rest))
}

/// The tree as git has it; `id` tells the ID of an object by its number.
///
/// # Errors
/// [`MalformedNode::Index`] when it holds an object that is not known.
pub fn raw_tree<'i>(
    entries: &[StoredEntry],
    id: impl Fn(u64) -> Option<&'i [u8]>,
) -> Result<Vec<u8>, MalformedNode> {
    let mut raw = Vec::with_capacity(entries.len() * 40);
    for entry in entries {
        raw.extend_from_slice(&entry.mode);
        raw.push(b' ');
        raw.extend_from_slice(&entry.name);
        raw.push(0);
        match &entry.target {
            Target::Number(number) => {
                raw.extend_from_slice(id(*number).ok_or(MalformedNode::Index(*number))?);
            }
            Target::Id(id) => raw.extend_from_slice(id),
        }
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<StoredEntry>> {
        let mode = prop_oneof![
            proptest::sample::select(&MODES[..]).prop_map(Bytes::from_static),
            Just(Bytes::from_static(b"040000")),
        ];
        let target = prop_oneof![
            any::<u32>().prop_map(|number| Target::Number(number.into())),
            any::<[u8; 20]>().prop_map(|id| Target::Id(Bytes::copy_from_slice(&id))),
        ];
        let name = "[^\0/]{1,20}".prop_map(Bytes::from);
        let entry = (mode, name, target).prop_map(|(mode, name, target)| StoredEntry {
            mode,
            name,
            target,
        });
        proptest::collection::vec(entry, 0..30)
    }

    proptest! {
        #[test]
        fn a_tree_is_read_as_it_was_written(entries in entries()) {
            let raw = Bytes::from(encode_tree(&entries));
            prop_assert_eq!(decode_tree(&raw).unwrap(), entries);
        }

        #[test]
        fn whatever_the_bytes_a_tree_is_bounded(raw in proptest::collection::vec(any::<u8>(), 0..500)) {
            if let Ok(entries) = decode_tree(&Bytes::from(raw.clone())) {
                prop_assert!(entries.len() <= raw.len());
            }
        }
    }
}
