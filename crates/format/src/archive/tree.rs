//! A git tree with object numbers in place of IDs.

use bytes::Bytes;

use crate::directory::Kind;
use crate::encode::{EncodeError, check_len};
use crate::malformed::MalformedNode;
use crate::wire::{Reader, Write};

/// Modes encoded in one byte; others are written out.
const MODES: [&[u8]; 6] = [
    b"100644", b"100755", b"40000", b"120000", b"160000", b"100664",
];
/// Longest mode, in bytes.
const MAX_MODE_BYTES: usize = 16;
/// Longest name, in bytes: more than any file system allows.
const MAX_NAME_BYTES: usize = 4096;
/// Longest ID, in bytes: SHA-256.
const MAX_ID_BYTES: usize = 32;

/// The target of a tree entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeTarget {
    /// An object of the archive.
    Number(u64),
    /// The ID of an object outside the archive, such as a submodule's commit.
    Id(Bytes),
}

/// An entry of a stored tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Mode as git writes it, in octal digits.
    pub mode: Bytes,
    /// Name of the entry.
    pub name: Bytes,
    /// Target of the entry.
    pub target: TreeTarget,
}

impl StoredEntry {
    /// Returns the kind of the entry.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of_git_mode(&self.mode)
    }

    /// Whether the entry is a directory.
    pub fn is_tree(&self) -> bool {
        self.kind() == Some(Kind::Directory)
    }
}

/// Encodes a tree.
///
/// # Errors
/// [`EncodeError::TooLong`] for a mode, a name or an ID that is too long.
pub fn encode_tree(entries: &[StoredEntry]) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(entries.len() * 24);
    for entry in entries {
        check_len("a file mode", entry.mode.len(), MAX_MODE_BYTES)?;
        check_len("a file name", entry.name.len(), MAX_NAME_BYTES)?;
        match MODES.iter().position(|mode| *mode == &entry.mode[..]) {
            Some(number) => out.push(number as u8 + 1),
            None => {
                out.push(0);
                out.string(&entry.mode);
            }
        }
        out.string(&entry.name);
        match &entry.target {
            TreeTarget::Number(number) => {
                out.uint(number.checked_add(1).ok_or(EncodeError::Offset)?);
            }
            TreeTarget::Id(id) => {
                check_len("a git ID", id.len(), MAX_ID_BYTES)?;
                out.uint(0);
                out.string(id);
            }
        }
    }
    Ok(out)
}

/// Decodes a tree; its names are slices of `raw`.
pub fn decode_tree(raw: &Bytes) -> Result<Vec<StoredEntry>, MalformedNode> {
    let mut reader = Reader::new(raw);
    let mut entries = Vec::new();
    while reader.position() < raw.len() {
        // Twice, because a growing vector doubles its capacity.
        reader.charge::<[StoredEntry; 2]>(1)?;
        let mode = match reader.byte()? {
            0 => reader.slice(raw, MAX_MODE_BYTES)?,
            number => {
                let mode = MODES.get(usize::from(number) - 1);
                Bytes::from_static(mode.ok_or(MalformedNode::Index(number.into()))?)
            }
        };
        let name = reader.slice(raw, MAX_NAME_BYTES)?;
        let target = match reader.uint()?.checked_sub(1) {
            Some(number) => TreeTarget::Number(number),
            None => TreeTarget::Id(reader.slice(raw, MAX_ID_BYTES)?),
        };
        entries.push(StoredEntry { mode, name, target });
    }
    Ok(entries)
}

/// An entry of a raw git tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// Mode, in octal digits.
    pub mode: &'a [u8],
    /// Name of the entry.
    pub name: &'a [u8],
    /// ID of the target.
    pub id: &'a [u8],
}

impl RawEntry<'_> {
    /// Returns the kind of the entry.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of_git_mode(self.mode)
    }

    /// Whether the entry is a directory.
    pub fn is_tree(&self) -> bool {
        self.kind() == Some(Kind::Directory)
    }

    /// Whether the entry is a commit of another repository.
    pub fn is_submodule(&self) -> bool {
        self.kind() == Some(Kind::Submodule)
    }
}

/// Parses a raw git tree with IDs of `id_len` bytes. The last item is `None` if the bytes
/// are not a tree.
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

/// Reconstructs the raw git tree; `id` returns the ID of an object number.
///
/// # Errors
/// [`MalformedNode::Index`] if it contains an unknown object.
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
            TreeTarget::Number(number) => {
                raw.extend_from_slice(id(*number).ok_or(MalformedNode::Index(*number))?);
            }
            TreeTarget::Id(id) => raw.extend_from_slice(id),
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
            any::<u32>().prop_map(|number| TreeTarget::Number(number.into())),
            any::<[u8; 20]>().prop_map(|id| TreeTarget::Id(Bytes::copy_from_slice(&id))),
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
            let raw = Bytes::from(encode_tree(&entries).unwrap());
            prop_assert_eq!(decode_tree(&raw).unwrap(), entries);
        }

        #[test]
        fn arbitrary_trees_decode_as_encoded_or_are_refused(
            mode in proptest::collection::vec(any::<u8>(), 0..20),
            name in prop_oneof![Just(3usize), Just(MAX_NAME_BYTES), Just(MAX_NAME_BYTES + 1)],
            target in prop_oneof![
                any::<u64>().prop_map(TreeTarget::Number),
                Just(TreeTarget::Number(u64::MAX)),
                (0usize..40).prop_map(|len| TreeTarget::Id(vec![1; len].into())),
            ],
        ) {
            let entries = [StoredEntry { mode: mode.into(), name: vec![b'n'; name].into(), target }];
            if let Ok(raw) = encode_tree(&entries) {
                prop_assert_eq!(decode_tree(&raw.into()).unwrap(), entries);
            }
        }

        #[test]
        fn arbitrary_bytes_never_decode_to_an_unbounded_tree(raw in proptest::collection::vec(any::<u8>(), 0..500)) {
            if let Ok(entries) = decode_tree(&Bytes::from(raw.clone())) {
                prop_assert!(entries.len() <= raw.len());
            }
        }
    }
}
