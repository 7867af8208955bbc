//! Whatever the JSON: a manifest has no more files than it may, each of a size
//! that a file can have, or is refused.
#![no_main]

use decoders::repo::manifest::{MAX_FILES, Manifest, ManifestFile};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = Manifest::decode(data) {
        assert!(Manifest::is_likely(data));
        assert!(manifest.files.len() <= MAX_FILES);
        for (_, file) in manifest.files {
            if let ManifestFile::Blob(whole) = file {
                assert!(whole.size <= i64::MAX as u64);
            }
        }
    }
});
