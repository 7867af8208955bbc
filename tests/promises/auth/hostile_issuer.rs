//! A lying issuer causes an error within limits of time and memory, and receives no
//! secret.

use std::time::{Duration, Instant};

use axum::response::Response;
use serde_json::{Value, json};

use super::{sign_ins, user_of};
use crate::support::World;
use crate::support::fake_server::{
    FakeServer, ReceivedRequest, endless_body, json as answer, with_status,
};

const EVIL_TOKENS: [&str; 6] = [
    "a\r\nx-admin: yes",
    "a\nb",
    "a\u{1b}[2J",
    "",
    "ünicode",
    "a\u{0}",
];

fn user(issuer: &FakeServer) -> World {
    let url = &issuer.url;
    user_of(url, &format!("method = \"oauth\"\nissuer = \"{url}\""))
}

/// The discovery document of a server, with some values replaced.
fn document(url: &str, other: &Value) -> Value {
    let mut document = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device"),
        "code_challenge_methods_supported": ["S256"],
    });
    for (name, value) in other.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}

/// An issuer with this document; `rest` makes the other responses.
fn issuer(
    other: Value,
    rest: impl Fn(&str, &ReceivedRequest, usize) -> Response + Send + Sync + 'static,
) -> FakeServer {
    let own: std::sync::Arc<std::sync::OnceLock<String>> = Default::default();
    let known = own.clone();
    let fake = FakeServer::with_handler(move |request, number| {
        let url = known.get().unwrap();
        if request.path.starts_with("/.well-known") {
            return answer(document(url, &other));
        }
        rest(url, request, number)
    });
    own.set(fake.url.clone()).unwrap();
    fake
}

/// The device authorization response, with some values replaced.
fn device(url: &str, other: &Value) -> Value {
    let mut report = json!({
        "device_code": "d", "user_code": "U", "verification_uri": format!("{url}/go"),
        "expires_in": 8, "interval": 1,
    });
    for (name, value) in other.as_object().unwrap() {
        report[name] = value.clone();
    }
    report
}

fn pending() -> Response {
    with_status(400, json!({"error": "authorization_pending"}))
}

#[track_caller]
fn login(world: &World) -> (bool, String) {
    let started = Instant::now();
    let done = world.run_after("ulimit -d 900000", &["login", "--device"]);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    let output = String::from_utf8(done.stderr).unwrap();
    assert!(
        !output.contains("panicked") && output.len() < 3000,
        "{output}"
    );
    (done.status.success(), output)
}

#[track_caller]
fn assert_refused(issuer: &FakeServer, why: &str) {
    let (fine, output) = login(&user(issuer));
    assert!(!fine && output.contains(why), "{output}");
}

#[test]
fn false_discovery_documents_are_refused() {
    let never = |_: &str, _: &ReceivedRequest, _: usize| with_status(500, "");
    for (other, why) in [
        (
            json!({"issuer": "https://other.example"}),
            "names another issuer",
        ),
        (json!({"issuer": ["x"]}), "no discovery document"),
        (
            json!({"device_authorization_endpoint": "http://other.example/d"}),
            "must be https",
        ),
        (
            json!({"device_authorization_endpoint": "file:///etc/passwd"}),
            "must be https",
        ),
        (
            json!({"device_authorization_endpoint": "javascript:alert(1)"}),
            "must be https",
        ),
        (
            json!({"device_authorization_endpoint": "nonsense"}),
            "no URL",
        ),
        (
            json!({"device_authorization_endpoint": null}),
            "device_authorization_endpoint",
        ),
        (
            json!({"code_challenge_methods_supported": ["plain"]}),
            "PKCE",
        ),
        (json!({"pad": "x".repeat(1 << 20)}), "longer than"),
    ] {
        assert_refused(&issuer(other, never), why);
    }
    assert_refused(
        &FakeServer::with_handler(|_, _| endless_body(None)),
        "longer than",
    );
    let drip = Duration::from_millis(100);
    assert_refused(
        &FakeServer::with_handler(move |_, _| endless_body(Some(drip))),
        "unavailable",
    );
    let deep = "[".repeat(200_000);
    assert_refused(
        &FakeServer::with_handler(move |_, _| answer(&deep)),
        "no discovery document",
    );
}

#[test]
fn unreasonable_device_authorization_responses_are_refused() {
    for (other, why) in [
        (json!({"interval": 1_000_000_000}), "too long to sign in"),
        (json!({"interval": u64::MAX}), "too long to sign in"),
        (json!({"interval": -1}), "not that of an OAuth issuer"),
        (json!({"expires_in": -1}), "not that of an OAuth issuer"),
        (
            json!({"verification_uri": "javascript:alert(1)"}),
            "must be https",
        ),
        (
            json!({"verification_uri": "file:///etc/passwd"}),
            "must be https",
        ),
        (
            json!({"verification_uri_complete": "http://other.example"}),
            "must be https",
        ),
        (json!({"expires_in": 0}), "error: "),
        (
            json!({"expires_in": 2, "interval": 60}),
            "was not completed",
        ),
    ] {
        let issuer = issuer(json!({}), move |url, request, _| match &*request.path {
            "/device" => answer(device(url, &other)),
            _ => pending(),
        });
        assert_refused(&issuer, why);
    }
    // An interval of zero is raised.
    let patient = issuer(json!({}), |url, request, _| match &*request.path {
        "/device" => answer(device(url, &json!({"interval": 0, "expires_in": 3}))),
        _ => pending(),
    });
    assert_refused(&patient, "");
    let polls = patient
        .requests()
        .iter()
        .filter(|request| request.path == "/token")
        .count();
    assert!((1..=5).contains(&polls), "{polls}");
}

#[test]
fn tokens_that_do_not_fit_a_header_are_refused() {
    let with_token = |token: Value| {
        issuer(json!({}), move |url, request, _| match &*request.path {
            "/device" => answer(device(url, &json!({}))),
            _ => answer(&token),
        })
    };
    for evil in EVIL_TOKENS {
        let token = json!({"access_token": evil, "token_type": "Bearer"});
        assert_refused(&with_token(token), "invalid characters");
        let token = json!({"access_token": "a", "token_type": "Bearer", "refresh_token": evil});
        assert_refused(&with_token(token), "invalid characters");
    }
    for (token, why) in [
        (
            json!({"access_token": "a".repeat(100_000), "token_type": "Bearer"}),
            "too long",
        ),
        (
            json!({"access_token": "a", "token_type": "mac"}),
            "not bearer",
        ),
        (
            json!({"access_token": "a", "token_type": "Bearer", "expires_in": -1}),
            "not that of",
        ),
        (
            json!({"access_token": "a".repeat(1 << 20), "token_type": "Bearer"}),
            "answer is too long",
        ),
        (json!("a"), "not that of"),
    ] {
        assert_refused(&with_token(token), why);
    }
    // A very long lifetime is accepted.
    let issuer = with_token(
        json!({"access_token": "a", "token_type": "Bearer", "expires_in": u64::MAX, "refresh_token": "r"}),
    );
    let world = user(&issuer);
    let (fine, output) = login(&world);
    assert!(fine, "{output}");
    assert!(sign_ins(&world).get("mine").unwrap().is_some());
    world.run(&["whoami"]);
}

#[test]
fn issuer_redirects_receive_no_secret() {
    let elsewhere = std::sync::Arc::new(FakeServer::with_handler(|_, _| answer("{}")));
    for place in [
        format!("{}/stolen", elsewhere.url),
        "file:///etc/passwd".into(),
        "http://other.example/".into(),
    ] {
        for at in ["/device", "/token"] {
            let place = place.clone();
            let issuer = issuer(json!({}), move |url, request, _| {
                if request.path == at {
                    let redirect = Response::builder().status(307).header("location", &place);
                    return redirect.body(axum::body::Body::empty()).unwrap();
                }
                answer(device(url, &json!({})))
            });
            let (fine, output) = login(&user(&issuer));
            assert!(!fine, "{output}");
        }
    }
    assert!(
        elsewhere.requests().is_empty(),
        "{:?}",
        elsewhere.requests()
    );
}
