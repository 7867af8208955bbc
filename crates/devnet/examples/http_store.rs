//! Starts an embedded Walrus, stores a blob over HTTP, and reads it back, through a
//! gateway that fails the first two requests.

use walrus_client::{
    BlobReader as _, BlobWriter as _, HttpConfig, HttpStore, PutOptions, ReadRange, Rejected,
};
use walrus_devnet::{DevnetConfig, serve};
use walrus_encoding::blob_id::blob_id;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let server = serve(DevnetConfig {
        dir: dir.path().into(),
        faults: vec!["status=503,first=2".parse()?],
        ..DevnetConfig::default()
    })
    .await?;
    let url = format!("http://{}", server.address());
    let store = HttpStore::new(HttpConfig {
        aggregators: vec![url.clone()],
        publishers: vec![url.clone()],
        ..HttpConfig::default()
    })?;

    let body = &b"hello, walrus"[..];
    let blob = blob_id(body)?;
    let stored = store.put(blob, body.into(), &PutOptions::default()).await?;
    println!("stored {blob} at {url}: {stored:?}");

    let mut verify = |bytes: bytes::Bytes| match blob_id(&bytes) {
        Ok(found) if found == blob => {
            println!("read {} verified bytes", bytes.len());
            Ok(())
        }
        _ => Err(Rejected::because("the blob ID differs")),
    };
    let full_range = ReadRange::Whole { at_most: 1 << 20 };
    store.read(blob, full_range, &mut verify).await?;
    println!("retries hid: {:?}", store.health().failures);
    server.stop().await;
    Ok(())
}
