//! Whatever a profile says under a right checksum: it is read within its limits
//! and can be written and read again, or is refused.
#![no_main]

use decoders::prefetch::model::Limits;
use decoders::prefetch::{Profile, whole};

const LIMITS: Limits = Limits {
    transitions: 100,
    paths: 20,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(profile) = Profile::decode(&whole(data), LIMITS) {
        assert!(profile.model.transitions() <= LIMITS.transitions);
        assert!(profile.model.paths() <= LIMITS.paths);
        assert!(Profile::decode(&profile.encode(), LIMITS).is_ok());
    }
});
