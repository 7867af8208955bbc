//! Pack index, version 2 (`gitformat-pack(5)`).

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gix::ObjectId;
use gix::hashtable::HashMap;

const MAGIC: &[u8] = b"\xfftOc\0\0\0\x02";
/// Offsets from here on are stored in a separate table.
const MIN_LARGE_OFFSET: u64 = 1 << 31;

/// Location of an object in the pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedObject {
    /// Offset from the start of the pack.
    pub(super) offset: u64,
    /// CRC of the stored bytes.
    pub(super) crc: u32,
}

/// Writes the index of the pack that holds `objects` and has this checksum.
pub(super) fn write(
    path: &Path,
    hash: gix::hash::Kind,
    objects: &HashMap<ObjectId, PackedObject>,
    checksum: &gix::oid,
) -> std::io::Result<()> {
    let mut sorted: Vec<(&ObjectId, &PackedObject)> = objects.iter().collect();
    sorted.sort_unstable_by_key(|(id, _)| *id);
    let file = File::create_new(path)?;
    let mut out = gix::hash::io::Write::new(BufWriter::new(file), hash);
    out.write_all(MAGIC)?;
    for byte in 0..=255 {
        let upto = sorted.partition_point(|(id, _)| id.first_byte() <= byte);
        out.write_all(&(upto as u32).to_be_bytes())?;
    }
    for (id, _) in &sorted {
        out.write_all(id.as_slice())?;
    }
    for (_, placed) in &sorted {
        out.write_all(&placed.crc.to_be_bytes())?;
    }
    let mut large: Vec<u64> = Vec::new();
    for (_, placed) in &sorted {
        let word = if placed.offset < MIN_LARGE_OFFSET {
            placed.offset
        } else {
            large.push(placed.offset);
            MIN_LARGE_OFFSET | (large.len() as u64 - 1)
        };
        out.write_all(&(word as u32).to_be_bytes())?;
    }
    for offset in large {
        out.write_all(&offset.to_be_bytes())?;
    }
    out.write_all(checksum.as_bytes())?;
    let own_checksum = out.hash.try_finalize().map_err(std::io::Error::other)?;
    let mut file = out.inner;
    file.write_all(own_checksum.as_slice())?;
    let file = file.into_inner().map_err(|error| error.into_error())?;
    read_only(&file)
}

/// Marks a file read-only, as git does for packs, which never change.
pub(super) fn read_only(file: &File) -> std::io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o444))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gix::odb::pack::index;

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        for hash in [gix::hash::Kind::Sha1, gix::hash::Kind::Sha256] {
            let path = dir.path().join(format!("{hash}.idx"));
            let objects: HashMap<ObjectId, PackedObject> = (0..1000u64)
                .map(|n| {
                    let blob = gix::objs::Kind::Blob;
                    let id = gix::objs::compute_hash(hash, blob, &n.to_le_bytes()).unwrap();
                    // Some offsets exceed 31 bits.
                    let offset = 12 + n * (8 << 20);
                    let crc = n as u32;
                    (id, PackedObject { offset, crc })
                })
                .collect();
            assert!(
                objects
                    .values()
                    .any(|placed| placed.offset > MIN_LARGE_OFFSET)
            );
            write(&path, hash, &objects, &hash.null()).unwrap();
            let read = index::File::at(&path, hash).unwrap();
            assert_eq!(read.num_objects(), 1000);
            assert_eq!(read.pack_checksum(), hash.null());
            for entry in read.iter() {
                let placed = objects[&entry.oid];
                assert_eq!(entry.pack_offset, placed.offset);
                assert_eq!(entry.crc32, Some(placed.crc));
                assert!(read.lookup(entry.oid).is_some());
            }
            let interrupt = std::sync::atomic::AtomicBool::new(false);
            read.verify_checksum(&mut gix::progress::Discard, &interrupt)
                .unwrap();
        }
    }
}
