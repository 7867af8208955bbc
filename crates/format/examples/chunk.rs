//! Compresses a file into a chunk, and opens the chunk again.
//!
//! usage: chunk FILE

use walgit_format::chunk::{BlobId, Chunk, Location, encode_chunk};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: chunk FILE")?;
    let plain = std::fs::read(file)?;
    let sealed = encode_chunk(&plain, 3);
    let location = Location {
        blob: BlobId::from_bytes([0; 32]),
        offset: 0,
    };
    let reference = Chunk::encoded(&plain, &sealed, location);
    println!("{}", reference.hash);
    println!("{} bytes, stored in {}", plain.len(), sealed.bytes.len());

    let mut damaged = sealed.bytes.clone();
    let opened = reference.open(sealed.bytes.into(), &[])?;
    assert_eq!(opened, plain);
    if let Some(byte) = damaged.last_mut() {
        *byte ^= 1;
        let error = reference.open(damaged.into(), &[]).unwrap_err();
        println!("with one bit changed: {error}");
    }
    Ok(())
}
