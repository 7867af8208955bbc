//! Whatever the bytes: a head and a header are read or refused.
#![no_main]

use bytes::Bytes;
use decoders::repo::blob::Header;
use decoders::repo::head::Head;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = Header::decode(data);
    let raw = Bytes::copy_from_slice(data);
    if let Ok(head) = Head::decode(&raw, &decoders::reference(data)) {
        assert!(head.refs.iter().all(|r| r.commit < head.commits.len()));
        let _ = (head.ref_names(), head.commits[0].author.date());
    }
});
