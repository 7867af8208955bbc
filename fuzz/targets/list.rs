//! Whatever the bytes: a chunk list covers each byte once, or is refused.
#![no_main]

use decoders::repo::list::ChunkList;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(list) = ChunkList::decode(data, &decoders::reference(data)) {
        for part in 0..list.parts().len() {
            assert_eq!(list.holding(list.start(part)), Some((part, list.start(part))));
        }
        assert_eq!(list.holding(list.len()), None);
    }
});
