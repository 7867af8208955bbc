//! Injected faults occur as requested, and the client survives or reports them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use walgit_format::chunk::BlobId;
use walrus_client::network::NetPolicy;
use walrus_client::{
    BlobReader as _, BlobWriter as _, HttpConfig, HttpStore, PutOptions, ReadRange, Rejected,
    StoreError,
};
use walrus_encoding::blob_id::blob_id;

use crate::support::tree::noise;
use crate::support::{Server, World, block_on};

/// A server that holds one blob.
struct Devnet {
    server: Server,
    blob: BlobId,
    content: Vec<u8>,
}

impl Devnet {
    fn new() -> Self {
        let server = Server::start();
        let content = noise(100_000, 5);
        let blob = blob_id(&content).unwrap();
        for content in [&content, &noise(100_000, 6)] {
            let blob = blob_id(content).unwrap().to_string();
            std::fs::write(server.blobs().join(blob), content).unwrap();
        }
        Devnet {
            server,
            blob,
            content,
        }
    }

    /// A client configured with two aggregators, both this server.
    fn store(&self) -> HttpStore {
        HttpStore::new(HttpConfig {
            aggregators: vec![self.server.url.clone(), self.server.url.clone()],
            publishers: vec![self.server.url.clone()],
            policy: NetPolicy {
                retries: 3,
                first_pause_ms: 20,
                longest_pause_ms: 50,
                ..NetPolicy::default()
            },
            deadline: Duration::from_secs(10),
            read_timeout: Duration::from_millis(300),
            ..HttpConfig::default()
        })
        .unwrap()
    }

    async fn set_faults(&self, faults: &str) -> (u16, String) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/devnet/faults", self.server.url);
        let response = http.put(url).body(faults.to_owned()).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Reads and verifies the blob.
    async fn read(&self, store: &HttpStore) -> Result<(), StoreError> {
        let accept = |bytes: Bytes| match bytes == self.content {
            true => Ok(()),
            false => Err(Rejected::because("these are other bytes")),
        };
        let extent = ReadRange::Whole {
            at_most: self.content.len() as u64,
        };
        store.read(self.blob, extent, &mut { accept }).await
    }
}

#[test]
fn reads_survive_each_fault_but_not_all_at_once() {
    let devnet = Devnet::new();
    block_on(async {
        for (fault, times) in [
            ("status=503", 3),
            ("status=500", 3),
            ("status=429,retry-after=0", 3),
            // A lying server is not asked again, so the next one must be honest.
            ("flip", 1),
            ("wrong-blob", 1),
            ("truncate=1000", 1),
            ("cut=1000", 3),
            ("reset", 3),
            ("hang", 3),
            ("delay-ms=600", 3),
            ("drip-ms=600", 3),
        ] {
            let store = devnet.store();
            let (status, output) = devnet.set_faults(&format!("{fault},first={times}")).await;
            assert_eq!(status, 200, "{output}");
            let read = devnet.read(&store).await;
            assert!(read.is_ok(), "{fault}, {times} times: {read:?}");
            devnet.set_faults(fault).await;
            assert!(devnet.read(&store).await.is_err(), "{fault}, always");
            let (_, output) = devnet.set_faults("").await;
            assert_eq!(output, "[]");
        }
    });
}

#[test]
fn upload_errors_contain_the_publisher_response() {
    let devnet = Devnet::new();
    block_on(async {
        let store = devnet.store();
        let body = Bytes::from(noise(500, 6));
        let blob = blob_id(&body).unwrap();
        let put = || {
            store.put(
                blob,
                body.clone(),
                &PutOptions {
                    epochs: 1,
                    deletable: true,
                },
            )
        };
        devnet.set_faults("put=marked-invalid").await;
        let refused = put().await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
        assert!(refused.to_string().contains("invalid"), "{refused}");
        for word in ["error", "error-early"] {
            devnet.set_faults(&format!("put={word}")).await;
            let failed = put().await.unwrap_err();
            assert!(failed.to_string().contains("an injected fault"), "{failed}");
        }
        // The failed endpoint is skipped for a while.
        let store = devnet.store();
        let options = PutOptions::default();
        let put = || store.put(blob, body.clone(), &options);
        for word in ["uncertified", "reuse-storage", "reuse-registration"] {
            devnet.set_faults(&format!("put={word},first=1")).await;
            assert!(put().await.is_ok(), "{word}");
        }
    });
}

#[test]
fn faults_can_be_changed_and_counted_at_run_time() {
    let devnet = Devnet::new();
    block_on(async {
        let store = devnet.store();
        let list = r#"["status=503,first=1,path=/v1/blobs", "delay-ms=1,path=/v1/quilts"]"#;
        let (status, output) = devnet.set_faults(list).await;
        assert_eq!(status, 200, "{output}");
        devnet.read(&store).await.unwrap();
        let url = format!("{}/devnet/faults", devnet.server.url);
        let counted: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        assert_eq!(counted[0]["fault"], "status=503,first=1,path=/v1/blobs");
        assert_eq!(
            (&counted[0]["matched"], &counted[0]["fired"]),
            (&2.into(), &1.into())
        );
        assert_eq!(counted[1]["matched"], 0);
        let (status, output) = devnet.set_faults("nonsense=1").await;
        assert_eq!(status, 400);
        assert!(output.contains("`nonsense` is not known"), "{output}");
    });
}

#[test]
fn equal_seeds_produce_equal_faults() {
    let statuses = |seed: &str| {
        let server = Server::with(&["--fault", "status=503,rate=0.5", "--seed", seed]);
        let url = format!("{}/status", server.url);
        block_on(async {
            let mut statuses = Vec::new();
            for _ in 0..40 {
                statuses.push(reqwest::get(&url).await.unwrap().status().as_u16());
            }
            statuses
        })
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let one = statuses("1");
    assert!(one.contains(&200) && one.contains(&503), "{one:?}");
    assert_eq!(one, statuses("1"));
    assert_ne!(one, statuses("2"));
}

#[test]
fn trickling_server_blocks_no_reader_indefinitely() {
    let devnet = Devnet::new();
    block_on(async {
        for fault in ["drip-ms=50", "bandwidth-mbit=0.001"] {
            let store = devnet.store();
            devnet.set_faults(fault).await;
            let read = devnet.read(&store);
            let read = tokio::time::timeout(Duration::from_secs(60), read).await;
            assert!(read.expect("it ends in time").is_err(), "{fault}");
            devnet.set_faults("").await;
            assert!(devnet.read(&store).await.is_ok(), "after {fault}");
        }
    });
}

#[test]
fn slow_response_is_correct_and_counted() {
    let devnet = Devnet::new();
    block_on(async {
        let store = devnet.store();
        for fault in [
            "delay-ms=20,jitter-ms=50",
            "bandwidth-mbit=8",
            // Down and up again, before any client gives up.
            "status=429,retry-after=0,flap=2/3",
        ] {
            devnet.set_faults(fault).await;
            assert!(devnet.read(&store).await.is_ok(), "{fault}");
            let met = devnet.server.set_faults("");
            assert!(met.iter().any(|(_, fired)| *fired > 0), "{fault}: {met:?}");
        }
    });
}

#[test]
fn reset_fault_is_reported_as_a_reset() {
    let devnet = Devnet::new();
    block_on(async { devnet.set_faults("reset").await });
    let mut stream = TcpStream::connect(devnet.server.url.trim_start_matches("http://")).unwrap();
    write!(
        stream,
        "GET /v1/blobs/{} HTTP/1.1\r\nhost: x\r\n\r\n",
        devnet.blob
    )
    .unwrap();
    let read = stream.read_to_end(&mut Vec::new());
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[test]
fn invalid_fault_is_a_usage_error() {
    let world = World::new();
    let dir = world.path().join("walrus");
    let args = [
        "devnet",
        "--dir",
        dir.to_str().unwrap(),
        "--fault",
        "rate=0.5",
    ];
    let done = world.try_run(&args);
    assert_eq!(done.status.code(), Some(2));
    let output = String::from_utf8(done.stderr).unwrap();
    assert!(output.contains("has no effect"), "{output}");
}
