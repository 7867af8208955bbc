//! Quilts: many files in one blob, in the network's own encoding (version 1), so that
//! blob ID and patch IDs match those computed by the network.
//!
//! The network serves a column of a blob's matrix (see `blob_id`) as cheaply as a row. So
//! a quilt assigns whole columns to each member, and reading a member fetches only its
//! columns. The blob's bytes are the matrix row by row; a piece is written down its
//! columns:
//!
//! ```text
//! piece   columns              bytes
//! index   0 ..                 version 1 | u32 length | list of (end column, identifier, tags)
//! member  end of the one before .. end
//!                              version 1 | u32 length after the mask | mask
//!                              | u16 length | identifier | if mask & 1: u16 length, tags
//!                              | content
//! ```
//!
//! Numbers are little-endian; lists, strings and tags are in BCS, the serialization of
//! the Sui chain. Members are sorted by the bytes of their identifiers, and the symbol
//! size is the smallest even one with which all pieces fit.
//!
//! Quilts to be decoded are untrusted: every length is checked against the available
//! columns before anything is allocated.

mod encode;
mod layout;
mod read;

pub use encode::{blob_len, encode};
pub use layout::{MAX_MEMBERS, Member, Patch, PatchId, QuiltError, Tags};
pub use read::{Quilt, ReadAt};

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::layout::{IndexEntry, MAX_INDEX_LEN, VERSION, symbol_offset};
    use super::*;
    use crate::blob_id::{COLUMNS, ROWS, blob_id};

    fn noise(len: usize) -> Bytes {
        (0..len).map(|i| ((i * 31 + 7) % 251) as u8).collect()
    }

    fn member(identifier: &str, len: usize, tags: &[(&str, &str)]) -> Member {
        Member {
            identifier: identifier.into(),
            tags: tags
                .iter()
                .map(|&(key, value)| (key.into(), value.into()))
                .collect(),
            content: noise(len),
        }
    }

    fn open(blob: &[u8]) -> Quilt<&[u8]> {
        Quilt::open(blob, blob.len() as u64).unwrap()
    }

    /// IDs computed by the network's own encoder.
    #[test]
    fn a_quilt_has_the_id_the_network_gives_it() {
        let full = (0..MAX_MEMBERS).map(|i| member(&format!("file-{i}"), i * 3, &[]));
        let cases = [
            (
                vec![member("a", 1, &[])],
                "Yc0N84nt2KIXTJRQijik7_v0SYWMLAhmR8E9WaWEl14",
            ),
            (
                vec![member("empty", 0, &[])],
                "mtqOHgFkXm4daRjh4528x3pcZstuf9UsAYG2VIQmES0",
            ),
            (
                vec![
                    member("b.txt", 1000, &[("kind", "text"), ("lang", "en")]),
                    member("a.txt", 700, &[]),
                ],
                "j3PTffMa4TNamEiuS2jK2FTrKNsfZnDdddVJdsBoWng",
            ),
            (
                vec![
                    member("big", 3_000_000, &[]),
                    member("small", 10, &[]),
                    member("Mid", 200_000, &[("z", "1"), ("a", "2")]),
                ],
                "ttrxkALjuQHdfne7pP_Z2yTCHo3Et2HISx1wCiaoAcs",
            ),
            (
                full.collect(),
                "th_0JEiGUU1nwFEoQGBZrwmUF5w1nr8Z_yBQwrwYLt8",
            ),
        ];
        for (members, id) in cases {
            let (blob, patches) = encode(members.clone()).unwrap();
            assert_eq!(blob_id(&blob).unwrap().to_string(), id);
            let quilt = open(&blob);
            assert_eq!(quilt.index().unwrap(), patches);
            for member in members {
                let patch = patches.iter().find(|p| p.identifier == member.identifier);
                let patch = patch.unwrap();
                assert_eq!(patch.tags, member.tags);
                assert_eq!(quilt.content(patch).unwrap(), member.content);
            }
        }
    }

    #[test]
    fn a_patch_id_is_a_quilt_and_its_columns() {
        // The example of the network's API description.
        let text = "uIiEbhP2qgZYygEGxJX1GeB-rQATo2yufC2DCp7B4iABAQANAA";
        let id: PatchId = text.parse().unwrap();
        assert_eq!((id.start, id.end), (1, 13));
        assert_eq!(id.to_string(), text);
        assert!(
            "uIiEbhP2qgZYygEGxJX1GeB-rQATo2yufC2DCp7B4iA"
                .parse::<PatchId>()
                .is_err()
        );
    }

    #[test]
    fn invalid_quilts_are_refused() {
        let twice = vec![member("a", 1, &[]), member("a", 2, &[])];
        assert!(matches!(encode(twice), Err(QuiltError::Duplicate(_))));
        assert!(matches!(encode(Vec::new()), Err(QuiltError::Empty)));
        let many = (0..=MAX_MEMBERS).map(|i| member(&i.to_string(), 1, &[]));
        assert!(matches!(
            encode(many.collect()),
            Err(QuiltError::TooMany(667))
        ));
        for bad in ["", "ends with a space ", "a\nb", &"x".repeat(70_000)] {
            let bad = encode(vec![member(bad, 1, &[])]);
            assert!(matches!(bad, Err(QuiltError::Identifier(_))));
        }
    }

    /// Returns a blob whose index contains this encoded list of entries, in symbols of
    /// 1024 bytes.
    fn with_index(list: &[u8]) -> Vec<u8> {
        const SYMBOL_LEN: usize = 1024;
        let mut blob = vec![0; SYMBOL_LEN * ROWS * COLUMNS];
        let mut piece = vec![VERSION];
        piece.extend((list.len() as u32).to_le_bytes());
        piece.extend(list);
        for (at, byte) in piece.into_iter().enumerate() {
            blob[symbol_offset(0, at / SYMBOL_LEN, SYMBOL_LEN) + at % SYMBOL_LEN] = byte;
        }
        blob
    }

    fn entries(list: &[(u16, &str)]) -> Vec<u8> {
        let entry = |&(end, identifier): &(u16, &str)| IndexEntry {
            end,
            identifier: identifier.into(),
            tags: Tags::new(),
        };
        bcs::to_bytes(&list.iter().map(entry).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_hostile_index_is_refused() {
        let refused = |list: &[u8]| open(&with_index(list)).index().unwrap_err().to_string();
        // Any names are valid: they are keys, not paths.
        let fine = entries(&[(2, "../../etc/passwd"), (3, "a/b"), (4, "C:\\x")]);
        assert_eq!(open(&with_index(&fine)).index().unwrap().len(), 3);
        for names in [
            ["a", ""],
            ["a", "b\0"],
            ["a", "b\u{1b}[2J"],
            ["a", "b\n"],
            ["a", "b "],
        ] {
            let refusal = refused(&entries(&[(2, names[0]), (3, names[1])]));
            assert!(refusal.contains("not allowed"), "{refusal}");
        }
        assert!(refused(&entries(&[(2, "a"), (3, "a")])).contains("two files"));
        // Columns that overlap, are empty, go backwards, or exceed the quilt.
        for ends in [[2, 2], [3, 2], [2, 1], [2, 668], [0, 1], [2, u16::MAX]] {
            let refusal = refused(&entries(&[(ends[0], "a"), (ends[1], "b")]));
            assert!(refusal.contains("not in order"), "{ends:?}: {refusal}");
        }
        // Entries that would take gigabytes, and counts of missing entries.
        let many = [&[0xff, 0xff, 0x3f][..], &[1, 0, 0, 0].repeat(800_000)].concat();
        assert!(refused(&many).contains("too many entries"));
        for list in [
            &[][..],
            &[0xff; 100],
            &[0x80, 0x80, 0x80, 0x80, 1],
            &[5, 1, 0],
        ] {
            refused(list);
        }
        let tags = (0..5000)
            .map(|n| (format!("{n:05}"), String::new()))
            .collect();
        let entry = IndexEntry {
            end: 2,
            identifier: "a".into(),
            tags,
        };
        assert!(refused(&bcs::to_bytes(&[entry].to_vec()).unwrap()).contains("not allowed"));
        assert!(refused(&vec![0; MAX_INDEX_LEN + 1]).contains("too long"));
    }

    #[test]
    fn any_damage_of_a_quilt_is_an_error() {
        let members = vec![member("one", 700, &[("k", "v")]), member("two", 900, &[])];
        let (honest, patches) = encode(members).unwrap();
        // The bytes read to find a member: the first cells of each piece.
        let heads = [0, patches[0].start, patches[1].start];
        for column in heads {
            for byte in 0..40 {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut blob = honest.clone();
                    let at = symbol_offset(column.into(), byte / 2, 2) + byte % 2;
                    blob[at] = value;
                    let quilt = open(&blob);
                    for patch in quilt.index().unwrap_or_default().iter().chain(&patches) {
                        let _ = quilt.content(patch);
                    }
                }
            }
        }
        assert!(Quilt::open(&[0u8; 1000][..], 1000).is_err());
    }
}
