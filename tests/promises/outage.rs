//! Outages under a mounted folder, and reports about them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::tree::assert_same;
use crate::support::{Lie, LyingGateway, Server, TcpProxy, TlsServer, Tree, World, eventually};

/// Short pauses and a short open breaker.
const FAST_RETRIES: &str =
    "[net]\nfirst_pause_ms = 20\nlongest_pause_ms = 50\nbreaker_open_ms = 1500\n";

fn sample() -> Tree {
    Tree::new()
        .file("a/text", "some text\n".repeat(20_000))
        .noise("b/noise", 500_000, 1)
        .noise("c/noise", 500_000, 2)
}

fn health(world: &World) -> Value {
    world.json(&["status"])["networks"][0]["health"].clone()
}

#[test]
fn outage_fails_only_uncached_reads_fast_and_recovers() {
    let mut server = Server::start();
    let world = World::on(&server).config(FAST_RETRIES);
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let known = fs::read(dir.join("a/text")).unwrap();
    server.stop();
    let failed = fs::read(dir.join("c/noise")).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(5), "EIO: {failed}");
    // No request is sent, and no read waits.
    eventually("reads fail without a request", || {
        assert!(fs::read(dir.join("c/noise")).is_err());
        health(&world)["not_asked"].as_u64() > Some(0)
    });
    assert_eq!(fs::read(dir.join("a/text")).unwrap(), known);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
    server.restart();
    eventually("reads recover", || fs::read(dir.join("c/noise")).is_ok());
    assert_same(tree.path(), &dir);
    assert_eq!(health(&world)["endpoints"][0]["breaker"], "closed");
}

#[test]
fn failures_are_reported_with_remedies_with_and_without_a_daemon() {
    let mut server = Server::start();
    let world = World::on(&server).config(FAST_RETRIES);
    assert_eq!(world.run(&["failures"]), "nothing failed\n");
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    server.stop();
    assert!(fs::read(dir.join("c/noise")).is_err());
    let failures = || world.json(&["failures", "--since", "1h", "--endpoint", &server.url]);
    eventually("the failure is reported", || {
        failures()["total"].as_u64() > Some(0)
    });
    world.crash();
    // Without a daemon; failures of the command itself are included.
    let before = failures()["total"].as_u64().unwrap();
    world.fail(&["publish", tree.path().to_str().unwrap(), "--name", "again"]);
    let report = failures();
    assert!(report["total"].as_u64().unwrap() > before, "{report}");
    let group = &report["groups"][0];
    assert_eq!(group["kind"], "connect");
    assert_eq!(group["severity"], "error");
    assert!(group["operations"]["read"].as_u64() > Some(0), "{report}");
    assert!(group["done"]["gave_up"].as_u64() > Some(0), "{report}");
    assert!(
        group["message"].as_str().unwrap().contains("refused"),
        "{report}"
    );
    let over_time = group["over_time"].as_array().unwrap();
    let sum: u64 = over_time.iter().filter_map(Value::as_u64).sum();
    assert_eq!(Some(sum), group["count"].as_u64());
    let output = world.run(&["failures"]);
    assert!(
        output.contains("what to do: ") && output.contains("HTTPS_PROXY"),
        "{output}"
    );
    let elsewhere = world.json(&["failures", "--endpoint", "elsewhere"]);
    assert_eq!(elsewhere["total"], 0);
    let file = world.path().join("state/walgit-fs/failures.jsonl");
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let usage = world.try_run(&["failures", "--since", "soon"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn lying_endpoint_is_shown_in_status_and_metrics() {
    // The honest one is slower, so the liar is preferred while it is trusted.
    let honest = Server::with(&["--latency-ms", "30"]);
    let publisher = World::on(&honest);
    let tree = sample();
    let published = publisher.publish(tree.path(), "it");
    let fast = honest.start_second();
    let liar = LyingGateway::in_front_of(&fast.url, Lie::Flip);
    let world = World::new().reading(&[&liar.url, &honest.url]);
    let address = published["address"].as_str().unwrap();
    let read = || {
        world.run(&["cache", "clear"]);
        let dir = world.mount(address);
        assert_same(tree.path(), &dir);
        health(&world)["endpoints"][0].clone()
    };
    let mut endpoint = read();
    assert!(endpoint["lies"].as_u64() > Some(0), "{endpoint}");
    // Two lies cause a quarantine; one tree may need fewer reads.
    for _ in 0..40 {
        if endpoint["lies"].as_u64() >= Some(2) {
            break;
        }
        endpoint = read();
    }
    assert!(endpoint["quarantined_s"].as_u64() > Some(0), "{endpoint}");
    let output = world.run(&["status"]);
    assert!(output.contains("sent corrupt data"), "{output}");
    let report = world.json(&["failures", "--endpoint", &liar.url]);
    assert_eq!(report["groups"][0]["kind"], "corrupt", "{report}");
}

#[test]
fn network_settings_are_applied_and_doctor_shows_their_source() {
    let world = World::new().config("[net]\nretries = 2\nhedge_percent = 0\n");
    let done = world.try_run(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let setting = |name: &str| {
        let mut all = report["settings"].as_array().unwrap().iter();
        let found = all.find(|s| s["name"] == name).unwrap();
        (found["value"].clone(), found["origin"].clone())
    };
    assert_eq!(setting("net.retries"), ("2".into(), "file".into()));
    assert_eq!(setting("net.hedge_percent"), ("0".into(), "file".into()));
    assert_eq!(
        setting("net.breaker_failures"),
        ("5".into(), "default".into())
    );
    for (wrong, says) in [
        (
            "[net]\nhedge_percentile = 100\n",
            "net.hedge_percentile must be 50 to 99",
        ),
        ("[net]\nretry = 1\n", "unknown field `retry`"),
    ] {
        let output = World::new().config(wrong).fail(&["refs"]);
        assert!(output.contains(says), "{output}");
    }
}

#[test]
fn proxy_is_used_and_a_configured_certificate_is_trusted() {
    let server = Server::start();
    let publisher = World::on(&server);
    let tree = sample();
    let published = publisher.publish(tree.path(), "it");
    let address = published["address"].as_str().unwrap();
    let tls = TlsServer::in_front_of(server.address());
    // The certificate is not trusted by default, and the error names the remedy.
    let stranger = World::new().reading(&[&tls.url()]);
    let dir = stranger.mountpoint();
    let output = stranger.fail(&["mount", address, dir.to_str().unwrap()]);
    assert!(output.contains("certificate"), "{output}");
    let failures = || stranger.json(&["failures"]);
    eventually("the failure is recorded", || failures()["total"] != 0);
    let report = failures();
    assert_eq!(report["groups"][0]["kind"], "untrusted", "{report}");
    // A certificate error is not retried.
    assert_eq!(report["total"], 1, "{report}");
    let proxy = TcpProxy::proxy_to(tls.address);
    let port = tls.address.port();
    let through = World::new()
        .reading(&[&format!("https://localhost:{port}")])
        .with("HTTPS_PROXY", &proxy.url)
        .with("NO_PROXY", "")
        .config("[net]\nca = \"company.pem\"\n");
    let beside = through.path().join("config/walgit-fs/company.pem");
    fs::copy(TlsServer::ca_certificate(), beside).unwrap();
    let dir = through.mount(address);
    assert_same(tree.path(), &dir);
    assert!(proxy.connection_count() > 0, "requests use the proxy");
    // With plain HTTP, the proxy receives the complete URL.
    let plain = LyingGateway::in_front_of(&server.url, Lie::None);
    let through = World::new()
        .reading(&["http://aggregator.invalid"])
        .with("HTTP_PROXY", &plain.url);
    let dir = through.mount(address);
    assert_same(tree.path(), &dir);
    // The standard variable adds authorities as well.
    let authority = TlsServer::ca_certificate();
    let trusting = World::new()
        .reading(&[&tls.url()])
        .with("SSL_CERT_FILE", authority.to_str().unwrap());
    let dir = trusting.mount(address);
    assert_same(tree.path(), &dir);
    let bad = World::new()
        .reading(&[&tls.url()])
        .config("[net]\nca = \"not-there.pem\"\n");
    let output = bad.fail(&["log", address]);
    assert!(
        output.contains("not-there.pem") && output.contains("[net] ca"),
        "{output}"
    );
}

#[test]
fn unresolvable_host_is_skipped_or_reported_if_it_is_the_only_one() {
    let server = Server::start();
    let tree = sample();
    let nowhere = "http://no-such-host.invalid";
    let published = World::on(&server).publish(tree.path(), "it");
    let address = published["address"].as_str().unwrap();
    let world = World::new()
        .reading(&[nowhere, &server.url])
        .config("[mount]\ndeadline_s = 20\n");
    assert_same(tree.path(), &world.mount(address));
    let alone = World::new()
        .reading(&[nowhere])
        .config("[mount]\ndeadline_s = 3\n");
    let dir = alone.mountpoint();
    let started = std::time::Instant::now();
    let output = alone.fail(&["mount", address, dir.to_str().unwrap()]);
    assert!(output.contains("no-such-host.invalid"), "{output}");
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}
