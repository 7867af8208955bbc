//! Whatever the bytes: a prior is read, has one encoding and tells parts of a
//! whole, or is refused.
#![no_main]

use bytes::Bytes;
use decoders::repo::Prior;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(prior) = Prior::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(prior.encode(), data);
        assert!(prior.likeness(&prior) > 0.99);
    }
});
