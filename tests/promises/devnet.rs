//! The embedded Walrus behaves like the network.

use std::fs;

use reqwest::{Response, StatusCode};
use serde_json::Value;
use walgit_format::chunk::BlobId;
use walrus_client::{BlobWriter as _, LocalDir, PutOptions, StoreError};

use crate::support::tree::noise;
use crate::support::{Server, World, block_on};

struct Client {
    http: reqwest::Client,
    server: Server,
}

impl Client {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            server: Server::start(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url)
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    async fn range(&self, path: &str, range: &str) -> Response {
        let request = self.http.get(self.url(path)).header("range", range);
        request.send().await.unwrap()
    }

    async fn put(&self, query: &str, body: Vec<u8>) -> Response {
        let request = self
            .http
            .put(self.url(&format!("/v1/blobs{query}")))
            .body(body);
        request.send().await.unwrap()
    }
}

async fn json(response: Response) -> Value {
    response.json().await.unwrap()
}

#[track_caller]
fn is_error(error: &Value, code: u16, reason: &str) {
    assert_eq!(error["error"]["code"], code, "{error}");
    assert_eq!(error["error"]["details"][0]["reason"], reason, "{error}");
    assert_eq!(error["error"]["details"][0]["@type"], "ErrorInfo");
    assert!(error["error"]["message"].is_string() && error["error"]["status"].is_string());
}

#[test]
fn blob_is_stored_once_and_readable_through_every_endpoint() {
    let client = Client::new();
    block_on(async {
        let body = noise(100_000, 5);
        let created = json(client.put("?epochs=3", body.clone()).await).await;
        let object = &created["newlyCreated"]["blobObject"];
        let id = object["blobId"].as_str().unwrap();
        assert_eq!(object["size"], 100_000);
        assert_eq!(object["encodingType"], "RS2");
        assert_eq!(object["deletable"], true);
        assert_eq!(object["storage"]["endEpoch"], 4);
        assert!(created["newlyCreated"]["resourceOperation"]["registerFromScratch"].is_object());
        let again = json(client.put("?epochs=2", body.clone()).await).await;
        assert_eq!(again["alreadyCertified"]["blobId"], id);
        assert_eq!(again["alreadyCertified"]["endEpoch"], 4);
        let extended = json(client.put("?epochs=9", body.clone()).await).await;
        assert_eq!(
            extended["newlyCreated"]["blobObject"]["storage"]["endEpoch"],
            10
        );

        let whole = client.get(&format!("/v1/blobs/{id}")).await;
        assert_eq!(whole.status(), StatusCode::OK);
        assert_eq!(whole.headers()["etag"], id);
        assert_eq!(
            whole.headers()["cache-control"],
            "public, max-age=86400, stale-while-revalidate=3600"
        );
        assert_eq!(whole.headers()["x-content-type-options"], "nosniff");
        assert_eq!(whole.bytes().await.unwrap(), body);

        let part = client
            .range(&format!("/v1/blobs/{id}"), "bytes=10-19")
            .await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()["content-range"], "bytes 10-19/100000");
        assert_eq!(part.bytes().await.unwrap(), body[10..20]);

        let path = format!("/v1/blobs/{id}/byte-range?start=10&length=10");
        let part = client.get(&path).await;
        assert_eq!(part.status(), StatusCode::OK);
        assert_eq!(part.bytes().await.unwrap(), body[10..20]);

        let object = object["id"].as_str().unwrap();
        let by_object = client
            .get(&format!("/v1/blobs/by-object-id/{object}"))
            .await;
        assert_eq!(by_object.bytes().await.unwrap(), body);

        let head = client
            .http
            .head(client.url(&format!("/v1/blobs/{id}")))
            .send()
            .await
            .unwrap();
        assert_eq!(head.headers()["content-length"], "100000");

        let twice = client
            .get(&format!("/v1alpha/blobs/concat?ids={id},{object}"))
            .await;
        assert_eq!(twice.bytes().await.unwrap().len(), 200_000);
        let posted = client.http.post(client.url("/v1alpha/blobs/concat"));
        let posted = posted
            .json(&serde_json::json!({"ids": [id]}))
            .send()
            .await
            .unwrap();
        assert_eq!(posted.bytes().await.unwrap(), body);
    });
}

#[test]
fn only_one_closed_range_within_the_blob_is_satisfiable() {
    let client = Client::new();
    block_on(async {
        let created = json(client.put("", noise(1000, 1)).await).await;
        let id = created["newlyCreated"]["blobObject"]["blobId"]
            .as_str()
            .unwrap();
        let path = format!("/v1/blobs/{id}");
        for bad in [
            "bytes=0-",
            "bytes=-5",
            "bytes=0-1,3-4",
            "bytes=1000-1001",
            "bytes=5-1000",
            "bytes=9-5",
            "lines=1-2",
        ] {
            let response = client.range(&path, bad).await;
            assert_eq!(
                response.status(),
                StatusCode::RANGE_NOT_SATISFIABLE,
                "{bad}"
            );
            is_error(&json(response).await, 416, "INVALID_BYTE_RANGE");
        }
        for bad in [
            "start=0",
            "start=x&length=1",
            "start=999&length=2",
            "start=0&length=0",
        ] {
            let response = client.get(&format!("{path}/byte-range?{bad}")).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
        }
    });
}

#[test]
fn errors_have_the_format_of_the_network() {
    let client = Client::new();
    block_on(async {
        let unknown = format!("/v1/blobs/{}", "A".repeat(43));
        is_error(
            &json(client.get(&unknown).await).await,
            404,
            "BLOB_NOT_FOUND",
        );
        assert_eq!(
            client.get("/v1/blobs/short").await.status(),
            StatusCode::BAD_REQUEST
        );
        let both = "strict_consistency_check=true&skip_consistency_check=true";
        let response = client.get(&format!("{unknown}?{both}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        for bad in [
            "?epochs=0",
            "?epochs=54",
            "?epochs=x",
            "?deletable=true&permanent=true",
            "?send_object_to=0x1&share=true",
            "?encoding_type=RS1",
            "?nonsense=1",
        ] {
            let response = client.put(bad, vec![1]).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
        }
        let response = client.put("", vec![0; (10 << 20) + 1]).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let permanent = json(client.put("?permanent=true&share=true", vec![9]).await).await;
        assert_eq!(permanent["newlyCreated"]["blobObject"]["deletable"], false);
        assert!(permanent["newlyCreated"]["sharedBlobObject"].is_string());
        assert_eq!(client.get("/status").await.text().await.unwrap(), "OK");
        assert_eq!(json(client.get("/v1/api").await).await["openapi"], "3.1.0");
    });
}

#[test]
fn quilt_returns_its_patches() {
    let client = Client::new();
    block_on(async {
        let boundary = "frontier";
        let part = |name: &str, content: &str| {
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n"
            )
        };
        let tags = r#"[{"identifier": "two", "tags": {"kind": "text"}}]"#;
        let form = part("one", "first")
            + &part("two", "second")
            + &part("_metadata", tags)
            + &format!("--{boundary}--\r\n");
        let request = client.http.put(client.url("/v1/quilts?epochs=2"));
        let request = request.header(
            "content-type",
            format!("multipart/form-data; boundary={boundary}"),
        );
        let stored = json(request.body(form).send().await.unwrap()).await;
        let quilt = stored["blobStoreResult"]["newlyCreated"]["blobObject"]["blobId"]
            .as_str()
            .unwrap();
        let text = |response: Response| async { response.text().await.unwrap() };
        let by_name = client
            .get(&format!("/v1/blobs/by-quilt-id/{quilt}/two"))
            .await;
        assert_eq!(by_name.headers()["x-quilt-patch-identifier"], "two");
        assert_eq!(text(by_name).await, "second");
        let patch = stored["storedQuiltBlobs"][0]["quiltPatchId"]
            .as_str()
            .unwrap();
        assert_eq!(
            text(
                client
                    .get(&format!("/v1/blobs/by-quilt-patch-id/{patch}"))
                    .await
            )
            .await,
            "first"
        );
        let listed = json(client.get(&format!("/v1/quilts/{quilt}/patches")).await).await;
        assert_eq!(listed[1]["tags"]["kind"], "text");
        let missing = client
            .get(&format!("/v1/blobs/by-quilt-id/{quilt}/three"))
            .await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    });
}

#[test]
fn local_directory_can_be_served_unchanged() {
    let world = World::new();
    let tree = crate::support::Tree::new().noise("noise", 200_000, 4);
    let published = world.publish(tree.path(), "it");
    let server = Server::start();
    for blob in fs::read_dir(world.blobs()).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), server.blobs().join(blob.file_name())).unwrap();
    }
    let elsewhere = World::on(&server);
    let dir = elsewhere.mount(published["address"].as_str().unwrap());
    crate::support::tree::assert_same(tree.path(), &dir);
}

#[test]
fn blob_expires_at_its_end_epoch() {
    let client = Client::new();
    block_on(async {
        let epoch = |path: &'static str| {
            let client = &client;
            async move {
                let sent = client.http.post(client.url(path)).send().await.unwrap();
                json(sent).await["epoch"].as_u64().unwrap()
            }
        };
        let created = json(client.put("?epochs=2", noise(5000, 1)).await).await;
        let object = &created["newlyCreated"]["blobObject"];
        let id = object["blobId"].as_str().unwrap().to_owned();
        assert_eq!(object["storage"]["endEpoch"], 3);
        let path = format!("/v1/blobs/{id}");
        assert_eq!(epoch("/devnet/epoch").await, 2);
        assert_eq!(client.get(&path).await.status(), StatusCode::OK);
        assert_eq!(epoch("/devnet/epoch?advance=1").await, 3);
        let gone = client.get(&path).await;
        assert_eq!(gone.status(), StatusCode::NOT_FOUND);
        is_error(&json(gone).await, 404, "BLOB_NOT_FOUND");
        // A blob that is stored again is new, from the present epoch on.
        let again = json(client.put("?epochs=1", noise(5000, 1)).await).await;
        let object = &again["newlyCreated"]["blobObject"];
        assert_eq!(object["registeredEpoch"], 3, "{again}");
        assert_eq!(object["storage"]["startEpoch"], 3);
        assert_eq!(object["storage"]["endEpoch"], 4);
        assert_eq!(client.get(&path).await.status(), StatusCode::OK);
    });
}

#[test]
fn blob_can_be_extended_and_deleted_if_deletable() {
    let client = Client::new();
    block_on(async {
        let put = async |query: &str, seed| {
            let created = json(client.put(query, noise(5000, seed)).await).await;
            let id = created["newlyCreated"]["blobObject"]["blobId"].as_str();
            format!("/devnet/blobs/{}", id.unwrap())
        };
        let extend = async |path: &str, end: u32| {
            let url = client.url(&format!("{path}?end={end}"));
            client.http.post(url).send().await.unwrap()
        };
        let one = put("?epochs=2", 1).await;
        let forever = put("?epochs=2&permanent=true", 2).await;
        assert_eq!(json(extend(&one, 9).await).await["end_epoch"], 9);
        // Never shortened, and not beyond the network's limit.
        assert_eq!(json(extend(&one, 5).await).await["end_epoch"], 9);
        assert_eq!(json(extend(&one, 54).await).await["end_epoch"], 54);
        assert_eq!(extend(&one, 55).await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(json(client.get(&one).await).await["end_epoch"], 54);
        let delete = async |path: &str| {
            let sent = client.http.delete(client.url(path)).send().await.unwrap();
            json(sent).await["deleted"].clone()
        };
        assert_eq!(delete(&forever).await, false);
        assert_eq!(delete(&one).await, true);
        assert_eq!(client.get(&one).await.status(), StatusCode::NOT_FOUND);
        let listed = json(client.get("/devnet/blobs").await).await;
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(extend(&one, 9).await.status(), StatusCode::NOT_FOUND);
        // These paths are not part of the network's API.
        for path in ["/v1/devnet/epoch", "/v1/epoch"] {
            assert_eq!(client.get(path).await.status(), StatusCode::NOT_FOUND);
        }
        let api = client.get("/v1/api").await.text().await.unwrap();
        assert!(!api.contains("devnet"), "{api}");
    });
}

#[test]
fn debug_epoch_shows_and_advances_epochs() {
    let server = Server::start();
    let there = World::on(&server).with("WALGIT_FS_ADMIN", &server.url);
    let here = World::new();
    for world in [&there, &here] {
        assert_eq!(world.json(&["debug", "epoch"])["epoch"], 1);
        assert_eq!(
            world.json(&["debug", "epoch", "--advance", "3"])["epoch"],
            4
        );
        assert_eq!(world.json(&["debug", "epoch"])["epoch"], 4);
    }
    let output = World::on(&server).fail(&["debug", "epoch"]);
    assert!(output.contains("--admin URL"), "{output}");
}

#[test]
fn blob_lives_until_its_last_object_and_permanent_blobs_stay() {
    let client = Client::new();
    block_on(async {
        let long = json(client.put("?epochs=9&permanent=true", noise(5000, 1)).await).await;
        let id = long["newlyCreated"]["blobObject"]["blobId"].as_str();
        let id = id.unwrap().to_owned();
        // The response describes the new object.
        let short = json(client.put("?epochs=1&force=true", noise(5000, 1)).await).await;
        let object = &short["newlyCreated"]["blobObject"];
        assert_eq!(object["storage"]["endEpoch"], 2, "{short}");
        assert_eq!(object["deletable"], true, "{short}");
        let admin = format!("/devnet/blobs/{id}");
        let kept = json(client.get(&admin).await).await;
        assert_eq!(kept["end_epoch"], 10, "{kept}");
        assert_eq!(kept["deletable"], false, "{kept}");
        let url = client.url(&admin);
        let deleted = client.http.delete(url).send().await.unwrap();
        assert_eq!(json(deleted).await["deleted"], false);
        let url = client.url("/devnet/epoch?advance=5");
        client.http.post(url).send().await.unwrap();
        let read = client.get(&format!("/v1/blobs/{id}")).await;
        assert_eq!(read.status(), StatusCode::OK);
        // Storing for fewer epochs than already paid costs nothing.
        let again = json(client.put("?epochs=2", noise(5000, 1)).await).await;
        assert_eq!(again["alreadyCertified"]["endEpoch"], 10, "{again}");
    });
}

#[test]
fn web_page_cannot_advance_epochs_or_inject_faults() {
    let client = Client::new();
    block_on(async {
        let url = client.url("/devnet/epoch?advance=9");
        let request = client
            .http
            .post(url)
            .header("origin", "https://page.example");
        let refused = request.send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let url = client.url("/devnet/faults");
        let request = client.http.put(url).header("origin", "null").body("hang");
        let refused = request.send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        // With DNS rebinding, a page sends its own origin.
        for (name, value) in [
            ("host", "page.example"),
            ("host", "127.0.0.1.page.example"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let request = client.http.get(client.url("/devnet/blobs"));
            let refused = request.header(name, value).send().await.unwrap();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{name}: {value}");
        }
        let epoch = json(client.get("/devnet/epoch").await).await;
        assert_eq!(epoch["epoch"], 1);
    });
}

#[test]
fn other_users_cannot_administer_a_devnet() {
    use std::io::{Read as _, Write as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};
    let server = Server::start();
    let address = server.address();
    let ask = |command: &mut Command, close: bool| {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let request = "POST /devnet/epoch?advance=3 HTTP/1.1\r\nhost: localhost\r\n\
                       connection: close\r\ncontent-length: 0\r\n\r\n";
        stdin.write_all(request.as_bytes()).unwrap();
        if close {
            drop(stdin);
        }
        let mut output = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut output)
            .unwrap();
        child.wait().unwrap();
        output
    };
    // A connection of bash, which needs no other program.
    let script = format!(
        "exec 3<>/dev/tcp/{}/{}; cat >&3; cat <&3",
        address.ip(),
        address.port()
    );
    let output = ask(Command::new("bash").args(["-c", &script]).uid(65_534), true);
    assert!(output.starts_with("HTTP/1.1 403"), "{output}");
    assert!(output.contains("the user who runs the server"), "{output}");
    let output = ask(Command::new("bash").args(["-c", &script]), true);
    assert!(
        output.starts_with("HTTP/1.1 200") && output.contains("4"),
        "{output}"
    );
}

#[test]
fn shared_directory_keeps_the_longest_paid_lifetime() {
    let dir = tempfile::tempdir().unwrap();
    let open = || LocalDir::open(dir.path(), 1 << 20).unwrap();
    let (store, blob) = (open(), BlobId::from_bytes([7; 32]));
    let body = bytes::Bytes::from_static(b"ours");
    let put = |store: LocalDir, epochs: u32, deletable: bool| {
        let (options, body) = (PutOptions { epochs, deletable }, body.clone());
        block_on(async move { store.put(blob, body, &options).await.unwrap() })
    };
    put(open(), 1, true);
    std::thread::scope(|scope| {
        for end in 2..40 {
            let (store, put) = (open(), &put);
            scope.spawn(move || match end % 2 {
                0 => put(store, end - 1, true).end_epoch.unwrap(),
                _ => store.extend_blocking(blob, end).unwrap().end_epoch,
            });
        }
    });
    let lifetime = store.lifetime_blocking(blob).unwrap().unwrap();
    assert_eq!(lifetime.end_epoch, 39);
    assert!(store.extend_blocking(blob, 54).is_ok());
    let refused = store.extend_blocking(blob, 55).unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    // A permanent blob does not become deletable.
    put(open(), 1, false);
    put(open(), 1, true);
    assert!(!store.delete_blocking(blob).unwrap());
    // Losing the record does not lose the blob.
    for record in fs::read_dir(dir.path().join("meta")).unwrap() {
        fs::remove_file(record.unwrap().path()).unwrap();
    }
    store.advance(100).unwrap();
    let lifetime = store.lifetime_blocking(blob).unwrap();
    assert!(lifetime.is_some_and(|it| it.end_epoch > 101), "it is there");
    // A permanent blob can be removed after it has expired.
    put(open(), 1, false);
    store.advance(1).unwrap();
    assert!(store.lifetime_blocking(blob).unwrap().is_none());
    assert!(store.delete_blocking(blob).unwrap());
    assert!(store.list().unwrap().is_empty());
}
