//! The network as it is: measured, and lived with.

use std::time::Duration;

use bytes::Bytes;
use walgit_fs::walrus::blob_id::blob_id;
use walgit_fs::walrus::{BlobStore as _, Extent, HttpConfig, HttpStore};

use crate::support::tree::noise;
use crate::support::{Server, block_on};

#[test]
fn the_way_to_an_aggregator_is_measured_from_what_is_read() {
    let server = Server::with(&["--latency-ms", "40", "--bandwidth-mbit", "80"]);
    let content = noise(1_000_000, 1);
    let blob = blob_id(&content).unwrap();
    std::fs::write(server.blobs().join(blob.to_string()), &content).unwrap();
    let store = HttpStore::new(HttpConfig {
        aggregators: vec![server.url.clone()],
        ..HttpConfig::default()
    })
    .unwrap();
    assert_eq!(store.conditions(), None, "nothing was read yet");
    block_on(async {
        for _ in 0..3 {
            let whole = Extent::Whole { at_most: 1_000_000 };
            let mut accept = |_: Bytes| Ok(());
            store.read(blob, whole, &mut accept).await.unwrap();
        }
    });
    // A busy machine is slower than the link, never faster.
    let found = store.conditions().unwrap();
    assert!(found.round_trip() >= Duration::from_millis(40), "{found:?}");
    let bandwidth = found.bandwidth.unwrap();
    assert!((1..=12_000_000).contains(&bandwidth), "{found:?}");
    assert_eq!(found.loss, 0.0);
    assert_eq!(store.health().endpoints[0].conditions, Some(found));
}
