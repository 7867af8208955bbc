//! Writer for git packs: a sequence of complete objects.
//!
//! Objects are not written as deltas: finding deltas takes longer than everything else,
//! and `git repack -f` does it better.
//!
//! `fsck` builds the same objects only for their IDs, without compression or a file
//! ([`PackWriter::of_ids`]).

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::Hasher;
use gix::hashtable::HashMap;
use gix::objs::Kind;
use gix::odb::pack::data::{self, Version, entry::Header};
use gix::zlib::stream::deflate;
use gix::zlib::{Compression, Status};

use super::error::ExportError;
use super::index::{self, PackedObject};

/// Directory of the packs in a repository.
pub(super) const PACK_DIR: &str = "objects/pack";

/// Block size in bytes for hashing a file.
const BLOCK_SIZE: usize = 1 << 20;

/// Compression level. Level 1 of this library produces a third more output than level 3,
/// which takes a tenth longer; the further savings of level 6 are small compared with
/// those of deltas.
fn level() -> Compression {
    Compression::new(3).unwrap_or_default()
}

/// An object that is ready to be written.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) id: ObjectId,
    kind: Kind,
    len: u64,
    deflated: Vec<u8>,
}

/// How the objects of a pack are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    hash: gix::hash::Kind,
    /// Whether objects are written, not only hashed.
    is_written: bool,
}

/// Hashes objects, and compresses those that are written.
pub(super) struct Packer {
    hash: gix::hash::Kind,
    deflate: Option<deflate::Compress>,
}

impl Packer {
    pub(super) fn new(packing: Packing) -> Self {
        Packer {
            hash: packing.hash,
            deflate: packing.is_written.then(|| deflate::Compress::new(level())),
        }
    }

    /// Makes an object of these bytes.
    pub(super) fn pack(&mut self, kind: Kind, bytes: &[u8]) -> Result<Packed, ExportError> {
        let id = id(self.hash, kind, bytes)?;
        self.pack_as(id, kind, bytes)
    }

    /// Makes an object whose ID is known.
    pub(super) fn pack_as(
        &mut self,
        id: ObjectId,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<Packed, ExportError> {
        let mut deflated = Vec::new();
        if let Some(deflate) = &mut self.deflate {
            let failed = |why| ExportError::object(format!("{kind} {id}"), why);
            // Incompressible bytes take a little more space.
            deflated.resize(bytes.len() + bytes.len() / 8 + 64, 0);
            deflate.reset();
            let status = deflate.compress(bytes, &mut deflated, deflate::FlushCompress::Finish);
            match status.map_err(|why| failed(why.to_string()))? {
                Status::StreamEnd => deflated.truncate(deflate.total_out() as usize),
                _ => return Err(failed("the object cannot be compressed".into())),
            }
            deflated.shrink_to_fit();
        }
        Ok(Packed {
            id,
            kind,
            len: bytes.len() as u64,
            deflated,
        })
    }
}

/// Returns the git ID of an object of these bytes.
pub(super) fn id(hash: gix::hash::Kind, kind: Kind, bytes: &[u8]) -> Result<ObjectId, ExportError> {
    gix::objs::compute_hash(hash, kind, bytes)
        .map_err(|why| ExportError::object(format!("a {kind} of the history"), why))
}

/// Returns the total size of the packs in a folder, in bytes.
pub(super) fn bytes_in(dir: &Path) -> Result<u64, ExportError> {
    let count = || -> std::io::Result<u64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|it| it == "pack") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes)
    };
    count().map_err(ExportError::io(dir))
}

/// A pack that is being written.
pub(super) struct PackWriter {
    path: PathBuf,
    /// `None` if only IDs are needed.
    file: Option<BufWriter<File>>,
    hash: gix::hash::Kind,
    /// Bytes written.
    len: u64,
    objects: HashMap<ObjectId, PackedObject>,
    /// Plain bytes of the objects.
    bytes: u64,
}

impl PackWriter {
    /// Creates a pack at `path`.
    pub(super) fn create(path: &Path, hash: gix::hash::Kind) -> Result<Self, ExportError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(ExportError::io(path))?;
        let mut pack = PackWriter {
            path: path.into(),
            file: Some(BufWriter::with_capacity(BLOCK_SIZE, file)),
            ..PackWriter::of_ids(hash)
        };
        // The object count is filled in at the end.
        pack.write(&data::header::encode(Version::V2, 0))?;
        Ok(pack)
    }

    /// Creates a pack without a file, which only records the IDs of its objects.
    pub(super) fn of_ids(hash: gix::hash::Kind) -> Self {
        PackWriter {
            path: PathBuf::new(),
            file: None,
            hash,
            len: 0,
            objects: HashMap::default(),
            bytes: 0,
        }
    }

    /// Returns how objects for this pack are made.
    pub(super) fn packing(&self) -> Packing {
        Packing {
            hash: self.hash,
            is_written: self.file.is_some(),
        }
    }

    /// Returns the path of the pack.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an object is in the pack.
    pub(super) fn holds(&self, id: &gix::oid) -> bool {
        self.objects.contains_key(id)
    }

    /// Returns the plain bytes of the objects in the pack.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        self.len += bytes.len() as u64;
        file.write_all(bytes).map_err(ExportError::io(&self.path))
    }

    /// Adds an object; returns whether it was new.
    pub(super) fn add(&mut self, object: &Packed) -> Result<bool, ExportError> {
        if self.holds(&object.id) {
            return Ok(false);
        }
        let offset = self.len;
        let header = header(object.kind, object.len);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header);
        crc.update(&object.deflated);
        self.write(&header)?;
        self.write(&object.deflated)?;
        let crc = crc.finalize();
        self.objects.insert(object.id, PackedObject { offset, crc });
        self.bytes += object.len;
        Ok(true)
    }

    /// Begins an object of `len` bytes that is streamed.
    pub(super) fn begin(&mut self, kind: Kind, len: u64) -> Result<Streamed<'_>, ExportError> {
        let offset = self.len;
        let header = header(kind, len);
        self.write(&header)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header);
        let mut hasher = gix::hash::hasher(self.hash);
        hasher.update(&gix::objs::encode::loose_header(kind, len));
        Ok(Streamed {
            kind,
            len,
            offset,
            hasher,
            compress: self.file.is_some(),
            deflate: deflate::Write::new(CountingWriter { pack: self, crc }, level()),
        })
    }

    /// Truncates the pack at `offset`.
    fn truncate(&mut self, offset: u64) -> std::io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.flush()?;
        file.get_mut().set_len(offset)?;
        file.seek(SeekFrom::Start(offset))?;
        self.len = offset;
        Ok(())
    }

    /// Completes the pack and writes its index beside it, both under the names that git
    /// uses; returns the length of the pack in bytes.
    pub(super) fn finish(mut self) -> Result<u64, ExportError> {
        let failed = |path: &Path| ExportError::io(path);
        let count = u32::try_from(self.objects.len()).map_err(|_| ExportError::TooMany)?;
        let Some(file) = &mut self.file else {
            return Ok(0);
        };
        file.flush().map_err(failed(&self.path))?;
        let file = file.get_mut();
        let hash = self.hash;
        let mut seal = || {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&data::header::encode(Version::V2, count))?;
            let checksum = checksum(file, hash)?;
            file.write_all(checksum.as_slice())?;
            Ok(checksum)
        };
        let checksum = seal().map_err(failed(&self.path))?;
        let name = |extension| {
            let name = format!("pack-{}.{extension}", checksum.to_hex());
            self.path.with_file_name(name)
        };
        let idx = name("idx");
        index::write(&idx, self.hash, &self.objects, &checksum).map_err(failed(&idx))?;
        let pack = name("pack");
        index::read_only(file).map_err(failed(&self.path))?;
        std::fs::rename(&self.path, &pack).map_err(failed(&pack))?;
        Ok(self.len + checksum.as_slice().len() as u64)
    }
}

/// Hashes a file from its start; the position is at the end afterwards.
fn checksum(file: &mut File, hash: gix::hash::Kind) -> std::io::Result<ObjectId> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = gix::hash::hasher(hash);
    let mut block = vec![0; BLOCK_SIZE];
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => hasher.update(&block[..read]),
        }
    }
    hasher.try_finalize().map_err(std::io::Error::other)
}

/// Returns the header of an object in a pack.
fn header(kind: Kind, len: u64) -> Vec<u8> {
    let header = match kind {
        Kind::Commit => Header::Commit,
        Kind::Tree => Header::Tree,
        Kind::Blob => Header::Blob,
        Kind::Tag => Header::Tag,
    };
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = header.write_to(len, &mut bytes);
    bytes
}

/// An object whose bytes are being streamed.
pub(super) struct Streamed<'p> {
    kind: Kind,
    len: u64,
    offset: u64,
    hasher: Hasher,
    compress: bool,
    deflate: deflate::Write<CountingWriter<'p>>,
}

/// A writer to a pack that counts its bytes.
struct CountingWriter<'p> {
    pack: &'p mut PackWriter,
    crc: crc32fast::Hasher,
}

impl std::io::Write for CountingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = match &mut self.pack.file {
            Some(file) => file.write(bytes)?,
            None => bytes.len(),
        };
        self.crc.update(&bytes[..written]);
        self.pack.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Streamed<'_> {
    /// Hashes and compresses the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let (hasher, deflate) = (&mut self.hasher, &mut self.deflate);
        if !self.compress {
            hasher.update(bytes);
            return Ok(());
        }
        let (_, written) = rayon::join(|| hasher.update(bytes), || deflate.write_all(bytes));
        written
    }

    /// Completes the object; returns its ID, and whether it was new.
    pub(super) fn finish(mut self) -> Result<(ObjectId, bool), ExportError> {
        let flushed = self.deflate.flush();
        let CountingWriter { pack, crc } = self.deflate.into_inner();
        flushed.map_err(ExportError::io(&pack.path))?;
        let id = self.hasher.try_finalize();
        let id = id.map_err(|why| ExportError::object(format!("a large {}", self.kind), why))?;
        if pack.holds(&id) {
            pack.truncate(self.offset)
                .map_err(ExportError::io(&pack.path))?;
            return Ok((id, false));
        }
        let (offset, crc) = (self.offset, crc.finalize());
        pack.objects.insert(id, PackedObject { offset, crc });
        pack.bytes += self.len;
        Ok((id, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gix::odb::pack::{Bundle, cache::Never};
    use proptest::prelude::*;

    fn objects() -> impl Strategy<Value = Vec<(Kind, Vec<u8>, bool)>> {
        let kind = proptest::sample::select(vec![Kind::Blob, Kind::Tree, Kind::Commit, Kind::Tag]);
        let bytes = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..2000),
            (any::<u8>(), 0..100_000usize).prop_map(|(byte, len)| vec![byte; len]),
        ];
        let object = (kind, bytes, any::<bool>());
        proptest::collection::vec(object, 0..20).prop_map(|objects| {
            // Some are duplicates.
            let again: Vec<_> = objects.iter().step_by(3).cloned().collect();
            [objects, again].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_pack_is_read_as_it_was_written(objects in objects(), sha256 in any::<bool>()) {
            let hash = if sha256 { gix::hash::Kind::Sha256 } else { gix::hash::Kind::Sha1 };
            let dir = tempfile::tempdir().unwrap();
            let mut pack = PackWriter::create(&dir.path().join("tmp"), hash).unwrap();
            let mut packer = Packer::new(pack.packing());
            // A pack without a file has the same IDs.
            let mut ids = PackWriter::of_ids(hash);
            let mut hasher = Packer::new(ids.packing());
            let mut wanted = std::collections::BTreeMap::new();
            for (kind, bytes, streamed) in &objects {
                let (id, new) = if *streamed {
                    let mut stream = pack.begin(*kind, bytes.len() as u64).unwrap();
                    for part in bytes.chunks(30_000) {
                        stream.write(part).unwrap();
                    }
                    stream.finish().unwrap()
                } else {
                    let packed = packer.pack(*kind, bytes).unwrap();
                    (packed.id, pack.add(&packed).unwrap())
                };
                prop_assert_eq!(new, wanted.insert(id, (*kind, bytes)).is_none());
                let same = if *streamed {
                    let mut stream = ids.begin(*kind, bytes.len() as u64).unwrap();
                    stream.write(bytes).unwrap();
                    stream.finish().unwrap()
                } else {
                    let packed = hasher.pack(*kind, bytes).unwrap();
                    (packed.id, ids.add(&packed).unwrap())
                };
                prop_assert_eq!(same, (id, new));
            }
            prop_assert_eq!(ids.bytes(), pack.bytes());
            prop_assert_eq!(ids.finish().unwrap(), 0);
            let plain: usize = wanted.values().map(|(_, bytes)| bytes.len()).sum();
            prop_assert_eq!(pack.bytes(), plain as u64);
            let len = pack.finish().unwrap();
            prop_assert_eq!(bytes_in(dir.path()).unwrap(), len);
            let index = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path());
            let index = index.into_iter().find(|it| it.extension().unwrap() == "idx").unwrap();
            let bundle = Bundle::at(index, hash).unwrap();
            let interrupt = std::sync::atomic::AtomicBool::new(false);
            bundle.pack.verify_checksum(&mut gix::progress::Discard, &interrupt).unwrap();
            prop_assert_eq!(bundle.index.num_objects() as usize, wanted.len());
            let mut inflate = gix::zlib::Inflate::default();
            let mut out = Vec::new();
            for (id, (kind, bytes)) in wanted {
                let found = bundle.find(&id, &mut out, &mut inflate, &mut Never).unwrap();
                let (data, place) = found.unwrap();
                prop_assert_eq!((data.kind, data.data), (kind, &bytes[..]));
                let at = bundle.index.lookup(id).unwrap();
                prop_assert_eq!(bundle.index.pack_offset_at_index(at), place.pack_offset);
                let end = place.pack_offset + place.entry_size as u64;
                let crc = bundle.pack.entry_crc32(place.pack_offset, (end - place.pack_offset) as usize);
                prop_assert_eq!(bundle.index.crc32_at_index(at), Some(crc));
            }
        }
    }
}
