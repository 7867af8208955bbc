//! Measurement of endpoints, failover, hedging, breakers and retries.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use walgit_format::chunk::BlobId;
use walrus_client::net::{BreakerState, Consequence, FailureHandling, FailureKind, Journal};
use walrus_client::network::NetPolicy;
use walrus_client::{
    BlobReader as _, BlobWriter as _, HttpConfig, HttpStore, PutOptions, ReadRange, Rejected,
    StoreError,
};
use walrus_encoding::blob_id::blob_id;

use crate::support::tree::noise;
use crate::support::{Lie, LyingGateway, Server, TcpProxy, block_on};

const BLOB_LEN: usize = 100_000;
/// A fault that only counts reads.
const COUNT_ONLY_FAULT: &str = "delay-ms=1,path=/v1/blobs";

/// Servers that hold the same blob.
struct Servers {
    servers: Vec<Server>,
    blob: BlobId,
    content: Vec<u8>,
    journal: tempfile::TempDir,
}

impl Servers {
    fn of(count: usize) -> Self {
        Servers::with(count, &[])
    }

    fn with(count: usize, args: &[&str]) -> Self {
        let content = noise(BLOB_LEN, 1);
        let blob = blob_id(&content).unwrap();
        let servers: Vec<_> = (0..count).map(|_| Server::with(args)).collect();
        for server in &servers {
            fs::write(server.blobs().join(blob.to_string()), &content).unwrap();
        }
        Servers {
            servers,
            blob,
            content,
            journal: tempfile::tempdir().unwrap(),
        }
    }

    fn urls(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|server| server.url.clone())
            .collect()
    }

    /// Configuration of a client of all servers with fast retries.
    fn config(&self) -> HttpConfig {
        HttpConfig {
            aggregators: self.urls(),
            publishers: self.urls(),
            policy: NetPolicy {
                retries: 5,
                first_pause_ms: 10,
                longest_pause_ms: 20,
                ..NetPolicy::default()
            },
            deadline: Duration::from_secs(30),
            journal: Some(Arc::new(Journal::new(self.journal_path()))),
            ..HttpConfig::default()
        }
    }

    fn store(&self) -> HttpStore {
        HttpStore::new(self.config()).unwrap()
    }

    /// A client that may hedge every read: on a busy machine, slow reads could use up
    /// the normal budget.
    fn hedging_store(&self, aggregators: Vec<String>) -> HttpStore {
        let mut config = self.config();
        config.aggregators = aggregators;
        config.policy.hedge_percent = 100;
        HttpStore::new(config).unwrap()
    }

    /// A client that soon probes a failed endpoint again.
    fn quick_probing_store(&self) -> HttpStore {
        let mut config = self.config();
        config.policy.breaker_open_ms = 200;
        HttpStore::new(config).unwrap()
    }

    fn journal_path(&self) -> std::path::PathBuf {
        self.journal.path().join("failures.jsonl")
    }

    async fn read(&self, store: &HttpStore) -> Result<(), StoreError> {
        let mut accept = |bytes: Bytes| match bytes == self.content {
            true => Ok(()),
            false => Err(Rejected::because("these are other bytes")),
        };
        let whole = ReadRange::Whole {
            at_most: BLOB_LEN as u64,
        };
        store.read(self.blob, whole, &mut accept).await
    }

    async fn set_faults(&self, server: usize, faults: &str) {
        let url = format!("{}/devnet/faults", self.servers[server].url);
        let http = walrus_client::net::http::client()
            .no_proxy()
            .build()
            .unwrap();
        let response = http.put(url).body(faults.to_owned()).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }

    /// Number of requests that matched the first fault.
    async fn fault_hits(&self, server: usize) -> u64 {
        let url = format!("{}/devnet/faults", self.servers[server].url);
        let http = walrus_client::net::http::client()
            .no_proxy()
            .build()
            .unwrap();
        let counted: Value = http.get(url).send().await.unwrap().json().await.unwrap();
        counted[0]["matched"].as_u64().unwrap()
    }
}

#[test]
fn latency_and_bandwidth_are_measured_from_reads() {
    let servers = Servers::with(1, &["--latency-ms", "40", "--bandwidth-mbit", "80"]);
    let store = servers.store();
    assert_eq!(store.conditions(), None, "no read yet");
    block_on(async {
        for _ in 0..4 {
            servers.read(&store).await.unwrap();
        }
    });
    // A busy machine is slower than the link, never faster.
    let found = store.conditions().unwrap();
    assert!(found.round_trip() >= Duration::from_millis(40), "{found:?}");
    let bandwidth = found.bandwidth.unwrap();
    assert!((1..=13_000_000).contains(&bandwidth), "{found:?}");
    assert_eq!(found.loss, 0.0);
    assert_eq!(store.health().endpoints[0].conditions, Some(found));
}

#[test]
fn slow_read_is_hedged() {
    let servers = Servers::of(2);
    let store = servers.hedging_store(servers.urls());
    block_on(async {
        for _ in 0..60 {
            servers.read(&store).await.unwrap();
        }
        let before = store.health().hedges_won;
        servers.set_faults(0, "hang,path=/v1/blobs").await;
        // The faster one is asked first, the other occasionally.
        for _ in 0..100 {
            servers.read(&store).await.unwrap();
            if store.health().hedges_won > before {
                break;
            }
        }
        let health = store.health();
        assert!(health.hedges_won > before, "{health:?}");
        let silent = health
            .failures
            .iter()
            .any(|f| f.kind == FailureKind::Timeout);
        assert!(!silent, "no read waited for the timeout: {health:?}");
    });
}

#[test]
fn hedging_is_bounded_if_all_endpoints_are_slow() {
    let servers = Servers::of(1);
    let store = servers.store();
    block_on(async {
        for _ in 0..25 {
            servers.read(&store).await.unwrap();
        }
        servers.set_faults(0, "delay-ms=150,path=/v1/blobs").await;
        for _ in 0..15 {
            servers.read(&store).await.unwrap();
        }
    });
    let health = store.health();
    assert!(health.hedges >= 1, "{health:?}");
    assert!(health.hedges <= 3, "one, plus 5 % of 40: {health:?}");
}

#[test]
fn dead_connection_costs_no_timeout() {
    let servers = Servers::of(1);
    let tunnel = TcpProxy::in_front_of(servers.servers[0].address());
    let store = servers.hedging_store(vec![tunnel.url.clone()]);
    block_on(async {
        for _ in 0..40 {
            servers.read(&store).await.unwrap();
        }
        let before = tunnel.connection_count();
        tunnel.blackhole_connections();
        servers.read(&store).await.unwrap();
        assert!(tunnel.connection_count() > before, "on a new connection");
        let failures = store.health().failures;
        assert!(
            !failures.iter().any(|f| f.kind == FailureKind::Timeout),
            "{failures:?}"
        );
    });
}

#[test]
fn client_recovers_when_a_server_returns() {
    let mut servers = Servers::of(1);
    let store = servers.quick_probing_store();
    block_on(async {
        servers.read(&store).await.unwrap();
        servers.servers[0].stop();
        for _ in 0..5 {
            assert!(servers.read(&store).await.is_err());
        }
        assert!(store.health().skipped > 0);
        servers.servers[0].restart();
        let mut tries = 0;
        while servers.read(&store).await.is_err() {
            tries += 1;
            assert!(tries < 500, "the endpoint was never used again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Both probes succeeded, and it is used as before.
        servers.read(&store).await.unwrap();
        assert_eq!(store.health().endpoints[0].breaker, BreakerState::Closed);
    });
}

#[test]
fn open_breaker_fails_fast_and_reports_its_end() {
    let servers = Servers::of(1);
    let store = servers.store();
    block_on(async {
        servers.set_faults(0, "status=500,path=/v1/blobs").await;
        let first = servers.read(&store).await.unwrap_err();
        assert!(first.to_string().contains("500"), "{first}");
        assert_eq!(servers.fault_hits(0).await, 5);
        let then = servers.read(&store).await.unwrap_err().to_string();
        assert!(then.contains("is not asked for the next"), "{then}");
        assert!(then.contains("500"), "the cause: {then}");
        assert_eq!(servers.fault_hits(0).await, 5, "no request was sent");
        let health = store.health();
        assert_eq!(health.endpoints[0].breaker, BreakerState::Open);
        assert!(health.endpoints[0].probe_in_s.is_some() && health.skipped == 1);
    });
    drop(store);
    let kept = Journal::read(&servers.journal_path()).unwrap();
    let did: Vec<_> = kept
        .iter()
        .map(|f| (f.attempt, f.handling, f.consequence))
        .collect();
    let opened = Some(Consequence::BreakerOpened);
    assert_eq!(
        did,
        [
            (1, FailureHandling::Retried, None),
            (2, FailureHandling::Retried, None),
            (3, FailureHandling::Retried, None),
            (4, FailureHandling::Retried, None),
            (5, FailureHandling::GaveUp, opened)
        ]
    );
}

#[test]
fn client_errors_do_not_open_the_breaker() {
    let servers = Servers::of(1);
    let store = servers.store();
    let absent = blob_id(b"never stored").unwrap();
    block_on(async {
        for _ in 0..10 {
            let mut accept = |_: Bytes| Ok(());
            let whole = ReadRange::Whole { at_most: 1 };
            let missing = store.read(absent, whole, &mut accept).await.unwrap_err();
            assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
            let beyond = ReadRange::Part(walgit_format::chunk::ByteRange::new(BLOB_LEN as u64, 10));
            let outside = store
                .read(servers.blob, beyond, &mut accept)
                .await
                .unwrap_err();
            assert!(
                matches!(outside, StoreError::OutOfRange { .. }),
                "{outside}"
            );
        }
        servers.read(&store).await.unwrap();
    });
}

#[test]
fn failing_endpoint_is_skipped_and_used_again_when_it_is_better() {
    let servers = Servers::of(2);
    let store = servers.quick_probing_store();
    block_on(async {
        servers.set_faults(0, "status=500,path=/v1/blobs").await;
        for _ in 0..100 {
            servers.read(&store).await.unwrap();
        }
        let hits = servers.fault_hits(0).await;
        assert!((1..=20).contains(&hits), "{hits} of 100 reads");
        servers.set_faults(0, COUNT_ONLY_FAULT).await;
        servers.set_faults(1, "delay-ms=100,path=/v1/blobs").await;
        let mut reads = 0;
        while servers.fault_hits(0).await < 20 {
            servers.read(&store).await.unwrap();
            reads += 1;
            assert!(reads < 1000, "the endpoint was never used again");
        }
    });
}

#[test]
fn endpoint_that_lies_twice_is_quarantined_and_reported() {
    let servers = Servers::of(2);
    let liar = LyingGateway::in_front_of(&servers.servers[0].url, Lie::Flip);
    let store = HttpStore::new(HttpConfig {
        aggregators: vec![liar.url.clone(), servers.servers[1].url.clone()],
        ..servers.config()
    })
    .unwrap();
    block_on(async {
        let mut reads = 0;
        while store.health().endpoints[0].quarantined_s.is_none() {
            servers.read(&store).await.unwrap();
            reads += 1;
            assert!(reads < 200, "never quarantined");
        }
        servers.set_faults(0, COUNT_ONLY_FAULT).await;
        for _ in 0..70 {
            servers.read(&store).await.unwrap();
        }
        assert_eq!(servers.fault_hits(0).await, 0, "the endpoint is skipped");
        let health = store.health();
        assert_eq!(
            (health.corrupt, health.endpoints[0].integrity_violations),
            (2, 2)
        );
        assert_eq!(health.endpoints[1].integrity_violations, 0);
        let report = health
            .failures
            .iter()
            .find(|f| f.kind == FailureKind::Corrupt);
        assert!(report.is_some_and(|report| report.count == 2), "{health:?}");
        // It is asked if no other endpoint remains.
        servers.set_faults(1, "status=500,path=/v1/blobs").await;
        liar.set_lie(Lie::None);
        servers.read(&store).await.unwrap();
    });
    drop(store);
    let kept = Journal::read(&servers.journal_path()).unwrap();
    let convicted =
        |f: &&walrus_client::net::Failure| f.consequence == Some(Consequence::Quarantined);
    assert_eq!(kept.iter().filter(convicted).count(), 1);
}

#[test]
fn wrong_reference_quarantines_no_endpoint() {
    let servers = Servers::of(2);
    let store = servers.store();
    block_on(async {
        for _ in 0..5 {
            let mut accept = |_: Bytes| Err(Rejected::because("the hash is another"));
            let whole = ReadRange::Whole {
                at_most: BLOB_LEN as u64,
            };
            let refused = store
                .read(servers.blob, whole, &mut accept)
                .await
                .unwrap_err();
            assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
        }
    });
    let health = store.health();
    assert!(
        health
            .endpoints
            .iter()
            .all(|e| e.quarantined_s.is_none() && e.integrity_violations == 0)
    );
    assert!(health.corrupt >= 10);
}

#[test]
fn overloaded_server_gets_fewer_requests_and_its_retry_after() {
    let servers = Servers::of(1);
    let store = servers.store();
    block_on(async {
        servers
            .set_faults(0, "status=429,retry-after=1,first=1,path=/v1/blobs")
            .await;
        servers.read(&store).await.unwrap();
        let endpoint = &store.health().endpoints[0];
        assert!(endpoint.concurrency_limit < 32, "{endpoint:?}");
        assert_eq!(endpoint.breaker, BreakerState::Closed);
        assert_eq!(servers.fault_hits(0).await, 2);
        // A pause beyond the deadline is not waited for, and the next read respects it.
        servers
            .set_faults(0, "status=429,retry-after=60,first=1,path=/v1/blobs")
            .await;
        for _ in 0..3 {
            assert!(servers.read(&store).await.is_err());
        }
        assert_eq!(servers.fault_hits(0).await, 1);
    });
}

#[test]
fn certified_blob_is_not_uploaded_twice() {
    let servers = Servers::of(1);
    let store = servers.store();
    let body = Bytes::from(noise(5000, 2));
    let blob = blob_id(&body).unwrap();
    block_on(async {
        // It is stored, and the response is lost.
        servers
            .set_faults(0, "cut=10,method=PUT,path=/v1/blobs,first=1")
            .await;
        let options = PutOptions::default();
        let stored = store.put(blob, body.clone(), &options).await.unwrap();
        assert!(stored.uploaded);
        assert_eq!(servers.fault_hits(0).await, 1);
        // A blob that was not stored is sent again.
        let body = Bytes::from(noise(5000, 3));
        let blob = blob_id(&body).unwrap();
        servers
            .set_faults(0, "status=500,method=PUT,path=/v1/blobs,first=1")
            .await;
        store.put(blob, body, &options).await.unwrap();
        assert_eq!(servers.fault_hits(0).await, 2);
    });
    drop(store);
    let kept = Journal::read(&servers.journal_path()).unwrap();
    assert!(
        kept.iter()
            .any(|f| f.operation == "put" && f.kind == FailureKind::Connect)
    );
}

#[test]
fn unresolved_host_name_is_a_connection_failure() {
    let store = HttpStore::new(HttpConfig {
        aggregators: vec!["http://nowhere.invalid".into()],
        policy: NetPolicy {
            retries: 0,
            ..NetPolicy::default()
        },
        ..HttpConfig::default()
    })
    .unwrap();
    let servers = Servers::of(0);
    let failed = block_on(servers.read(&store)).unwrap_err().to_string();
    assert!(failed.contains("nowhere.invalid"), "{failed}");
    assert_eq!(store.health().failures[0].kind, FailureKind::Connect);
}

#[test]
fn passwords_in_urls_are_not_shown() {
    let server = Server::start();
    let url = server.url.replace("http://", "http://me:secret@");
    let servers = Servers::of(0);
    let store = HttpStore::new(HttpConfig {
        aggregators: vec![url],
        ..servers.config()
    })
    .unwrap();
    let output = block_on(servers.read(&store)).unwrap_err().to_string();
    let health = serde_json::to_value(store.health()).unwrap();
    assert_ne!(health["endpoints"], Value::Null);
    drop(store);
    let kept = fs::read_to_string(servers.journal_path()).unwrap();
    for text in [output, health.to_string(), kept] {
        assert!(!text.contains("secret"), "{text}");
    }
}
