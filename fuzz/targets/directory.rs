//! Whatever the bytes: a directory keeps its promises, or is refused.
#![no_main]

use bytes::Bytes;
use decoders::repo::directory::{Directory, check_name};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let raw = Bytes::copy_from_slice(data);
    let Ok(directory) = Directory::decode(&raw, &decoders::reference(data)) else {
        return;
    };
    let mut last: Option<&[u8]> = None;
    for (number, entry) in directory.entries().iter().enumerate() {
        assert!(check_name(&entry.name).is_ok());
        assert!(last.replace(&entry.name).is_none_or(|before| before < &entry.name[..]));
        assert_eq!(directory.holding(entry.offset), Some(number));
        assert_eq!(directory.holding(entry.offset + entry.nodes() - 1), Some(number));
    }
});
