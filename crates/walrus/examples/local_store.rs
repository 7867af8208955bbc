//! Stores a blob in a directory, and reads it back verified.
//!
//! usage: local_store DIR

use bytes::Bytes;
use walrus_client::{
    BlobLifetimes as _, BlobReader as _, BlobWriter as _, LocalDir, PutOptions, ReadRange, Rejected,
};
use walrus_encoding::blob_id::blob_id;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: local_store DIR")?;
    let store = LocalDir::open(dir.as_ref(), 10 << 20)?;
    let body = Bytes::from_static(b"hello, walrus");
    let blob = blob_id(&body)?;
    store.put(blob, body, &PutOptions::default()).await?;
    store.flush().await?;

    let full_range = ReadRange::Whole { at_most: 1 << 20 };
    let mut verify = |bytes: Bytes| match blob_id(&bytes) {
        Ok(found) if found == blob => Ok(()),
        _ => Err(Rejected::because("the blob ID differs")),
    };
    store.read(blob, full_range, &mut verify).await?;
    println!(
        "{blob} is stored, until the end of {:?}",
        store.lifetime(blob).await?
    );
    Ok(())
}
