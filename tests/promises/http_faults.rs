//! Servers that violate HTTP or the network's API: verifiable content is used,
//! everything else is refused with the reason.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use walgit_format::chunk::{BlobId, ByteRange};
use walrus_client::net::FailureKind;
use walrus_client::network::NetPolicy;
use walrus_client::{BlobReader as _, HttpConfig, HttpStore, ReadRange, Rejected, StoreError};
use walrus_encoding::blob_id::blob_id;

use crate::support::tree::noise;
use crate::support::{Server, TlsServer, Tree, World, block_on};

const BLOB_LEN: usize = 300_000;

/// The response of a server to a request, as raw bytes.
type ResponseFn = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// A server that answers each request and closes the connection.
struct ScriptedServer {
    url: String,
    request_count: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ScriptedServer {
    fn new(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (request_count, heads) = (Arc::<AtomicUsize>::default(), Arc::default());
        let server = ScriptedServer {
            url,
            request_count: request_count.clone(),
            heads: Arc::clone(&heads),
        };
        let answer: Arc<ResponseFn> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, request_count, heads) =
                    (answer.clone(), request_count.clone(), heads.clone());
                std::thread::spawn(move || serve(stream, &answer, &request_count, &heads));
            }
        });
        server
    }

    fn request_count(&self) -> usize {
        self.request_count.load(Ordering::SeqCst)
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &Arc<ResponseFn>,
    request_count: &AtomicUsize,
    heads: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    request_count.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8_lossy(&head).to_lowercase();
    heads.lock().unwrap().push(head.clone());
    stream.write_all(&answer(&head)).ok()?;
    stream.flush().ok()
}

fn response(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    let mut text = text.into_bytes();
    text.extend_from_slice(body);
    text
}

/// A response with a content length.
fn with_length(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}", body.len());
    let headers: Vec<&str> = headers.iter().copied().chain([&*length]).collect();
    response(status, &headers, body)
}

fn content() -> Vec<u8> {
    noise(BLOB_LEN, 7)
}

fn blob() -> BlobId {
    static BLOB: OnceLock<BlobId> = OnceLock::new();
    *BLOB.get_or_init(|| blob_id(&content()).unwrap())
}

fn store(urls: &[&str]) -> HttpStore {
    HttpStore::new(HttpConfig {
        aggregators: urls.iter().map(|url| (*url).to_owned()).collect(),
        policy: NetPolicy {
            retries: 2,
            first_pause_ms: 10,
            longest_pause_ms: 20,
            ..NetPolicy::default()
        },
        deadline: Duration::from_secs(20),
        ..HttpConfig::default()
    })
    .unwrap()
}

async fn read(store: &HttpStore, range: ByteRange) -> Result<(), StoreError> {
    let content = content();
    let part = &content[range.start() as usize..range.end() as usize];
    let mut accept = |bytes: Bytes| match bytes == part {
        true => Ok(()),
        false => Err(Rejected::because("these are other bytes")),
    };
    store
        .read(blob(), ReadRange::Part(range), &mut accept)
        .await
}

/// The error and failure kind that a client reports for this response.
#[track_caller]
fn client_error(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> (String, FailureKind) {
    let server = ScriptedServer::new(answer);
    let store = store(&[&server.url]);
    let started = Instant::now();
    let error = block_on(read(&store, ByteRange::new(1000, 5000))).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(15), "{error}");
    let failures = store.health().failures;
    let kinds = failures.iter().map(|failure| failure.kind);
    let kinds: Vec<_> = kinds
        .filter(|kind| *kind != FailureKind::NoRanges)
        .collect();
    assert_eq!(kinds.len(), 1, "{failures:?}");
    assert!(
        server.request_count() <= 6,
        "{} requests",
        server.request_count()
    );
    (error.to_string(), kinds[0])
}

#[test]
fn whole_blob_response_to_a_range_is_used_and_the_server_reported() {
    let sends = |length: bool| {
        ScriptedServer::new(move |_| match length {
            true => with_length("200 OK", &[], &content()),
            false => response("200 OK", &[], &content()),
        })
    };
    for server in [sends(true), sends(false)] {
        let store = store(&[&server.url]);
        block_on(async {
            for (start, len) in [(0, 10), (1000, 50_000), (BLOB_LEN as u64 - 1, 1)] {
                read(&store, ByteRange::new(start, len)).await.unwrap();
            }
        });
        let health = store.health();
        let report: Vec<_> = health
            .failures
            .iter()
            .map(|it| (it.kind, it.count))
            .collect();
        assert_eq!(report, [(FailureKind::NoRanges, 1)]);
        assert_eq!(health.corrupt, 0);
        assert_eq!(health.received, 50_011, "the rest is discarded");
        let heads = server.heads.lock().unwrap();
        assert!(
            heads
                .iter()
                .all(|head| head.contains("accept-encoding: identity"))
        );
    }
}

#[test]
fn server_without_ranges_is_used_only_as_a_last_resort() {
    let wasteful = ScriptedServer::new(|_| with_length("200 OK", &[], &content()));
    let good = Server::start();
    std::fs::write(good.blobs().join(blob().to_string()), content()).unwrap();
    let store = store(&[&wasteful.url, &good.url]);
    block_on(async {
        for _ in 0..70 {
            read(&store, ByteRange::new(5, 100)).await.unwrap();
        }
    });
    assert_eq!(wasteful.request_count(), 1, "one probe");
}

#[test]
fn wrong_range_of_a_whole_blob_is_refused() {
    let (output, kind) = client_error(|_| {
        let mut other = content();
        other[3000] ^= 1;
        with_length("200 OK", &[], &other)
    });
    assert!(output.contains("corrupt"), "{output}");
    assert_eq!(kind, FailureKind::Corrupt);
}

#[test]
fn range_far_into_a_whole_blob_is_not_downloaded() {
    let server = ScriptedServer::new(|_| response("200 OK", &["content-length: 90000000"], b"x"));
    let store = store(&[&server.url]);
    let far = ReadRange::Part(ByteRange::new(80_000_000, 10));
    let error = block_on(store.read(blob(), far, &mut |_| Ok(()))).unwrap_err();
    let output = error.to_string();
    assert!(
        output.contains("ignores range requests") && output.contains("64 MiB"),
        "{output}"
    );
    assert_eq!(server.request_count(), 1);
}

#[test]
fn unexpected_responses_are_reported() {
    let part = || content()[1000..6000].to_vec();
    let range = "content-range: bytes 1000-5999/300000";
    for (says, answer) in [
        (
            "a different range",
            with_length(
                "206 Partial Content",
                &["content-range: bytes 0-4999/300000"],
                &part(),
            ),
        ),
        (
            "a different range",
            with_length("206 Partial Content", &[], &part()),
        ),
        (
            "several parts",
            with_length(
                "206 Partial Content",
                &["content-type: multipart/byteranges; boundary=x"],
                b"--x\r\n\r\n--x--",
            ),
        ),
        (
            "encoded (gzip)",
            with_length(
                "206 Partial Content",
                &[range, "content-encoding: gzip"],
                &part(),
            ),
        ),
        ("204 No Content", response("204 No Content", &[], b"")),
        (
            "redirects (302 Found) to http://127.0.0.1:1/loop",
            with_length("302 Found", &["location: http://127.0.0.1:1/loop"], b""),
        ),
    ] {
        let (output, kind) = client_error(move |_| answer.clone());
        assert!(output.contains(says), "{says}: {output}");
        assert_eq!(kind, FailureKind::Protocol, "{output}");
    }
}

#[test]
fn unavailable_range_is_reported() {
    for answer in [
        with_length(
            "416 Range Not Satisfiable",
            &["content-range: bytes */10"],
            b"",
        ),
        with_length("200 OK", &[], b""),
        with_length("200 OK", &[], b"a short page"),
    ] {
        let (output, kind) = client_error(move |_| answer.clone());
        assert!(output.contains("lies outside blob"), "{output}");
        assert_eq!(kind, FailureKind::Refused);
    }
}

#[test]
fn body_of_unannounced_length_gives_no_wrong_bytes() {
    let range = "content-range: bytes 1000-5999/300000";
    let part = || content()[1000..6000].to_vec();
    let ok = "206 Partial Content";
    let (output, kind) =
        client_error(move |_| response(ok, &[range, "content-length: 9000"], &part()));
    assert!(output.contains("longer than it may be"), "{output}");
    assert_eq!(kind, FailureKind::Corrupt);
    let (_, kind) =
        client_error(move |_| response(ok, &[range, "content-length: 5000"], &part()[..9]));
    assert_eq!(kind, FailureKind::Connect);
    let (output, kind) =
        client_error(move |_| response(ok, &[range, "content-length: 9"], &part()));
    assert!(output.contains("9 bytes where 5000"), "{output}");
    assert_eq!(kind, FailureKind::Corrupt);
    let (output, kind) = client_error(|_| response("200 OK", &[], &content()[..3000]));
    assert!(output.contains("ends before"), "{output}");
    assert_eq!(kind, FailureKind::Corrupt);
}

#[test]
fn static_file_server_works_as_an_aggregator_and_doctor_names_it() {
    let world = World::new();
    let tree = Tree::new()
        .file("a", "a".repeat(50_000))
        .noise("b", 200_000, 1);
    let published = world.publish(tree.path(), "it");
    let blobs = world.blobs();
    let server = ScriptedServer::new(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let all = std::fs::read_dir(&blobs)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        // Names were converted to lower case with the rest of the head.
        let name = path.rsplit('/').next().unwrap_or_default();
        let lower = |path: &std::path::PathBuf| {
            path.file_name().unwrap().to_string_lossy().to_lowercase() == name
        };
        match all.into_iter().find(lower) {
            Some(path) => with_length("200 OK", &[], &std::fs::read(path).unwrap()),
            None => with_length("404 Not Found", &[], b"no such file"),
        }
    });
    let world = world.reading(&[&server.url]);
    let dir = world.mount(published["address"].as_str().unwrap());
    crate::support::tree::assert_same(tree.path(), &dir);
    world.unmount(&dir);
    let output = world.run(&["failures"]);
    assert!(output.contains("ignores range requests"), "{output}");
    let output = world.run(&["doctor"]);
    assert!(output.contains("ignores range requests"), "{output}");
}

#[test]
fn missing_ca_certificates_fail_only_https_immediately() {
    let server = Server::start();
    let tls = TlsServer::in_front_of(server.address());
    let tree = Tree::new().file("a", "a");
    let empty = tempfile::tempdir().unwrap();
    let nothing = empty.path().join("nothing.pem");
    std::fs::write(&nothing, "").unwrap();
    for (file, dir) in [
        ("/nonexistent", ""),
        (nothing.to_str().unwrap(), ""),
        ("", empty.path().to_str().unwrap()),
    ] {
        let without = |world: World| {
            let world = world.with("SSL_CERT_FILE", file).with("SSL_CERT_DIR", dir);
            let vars = [("SSL_CERT_FILE", file), ("SSL_CERT_DIR", dir)];
            vars.iter()
                .filter(|it| it.1.is_empty())
                .fold(world, |world, it| world.without(it.0))
        };
        let local = without(World::new());
        local.publish(tree.path(), "it");
        crate::support::tree::assert_same(tree.path(), &local.mount("it"));
        let plain = without(World::on(&server));
        let published = plain.publish(tree.path(), "it");
        crate::support::tree::assert_same(tree.path(), &plain.mount("it"));
        // One that responds, and one that is unreachable.
        for url in [&tls.url(), "https://192.0.2.1:9"] {
            let world = without(World::new().reading(&[url]));
            let at = world.mountpoint();
            let started = Instant::now();
            let address = published["address"].as_str().unwrap();
            let output = world.fail(&["mount", address, at.to_str().unwrap()]);
            assert!(
                output.contains("no CA certificates: install ca-certificates"),
                "{output}"
            );
            assert!(output.contains("SSL_CERT_FILE"), "{output}");
            assert!(started.elapsed() < Duration::from_secs(10), "{output}");
        }
    }
}
