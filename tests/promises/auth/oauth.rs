//! Signing in with an issuer, with and without a browser.

use std::collections::HashMap;

use reqwest::Url;
use walrus_client::clock::unix_seconds;

use super::browser::{Browser, Login, sign_in};
use super::issuer::{issuer, publish, token, user_with_issuer};
use super::user;
use crate::support::{Server, block_on};

#[test]
fn browser_sign_in_allows_publishing() {
    let server = issuer();
    let world = user_with_issuer(&server);
    let output = publish(&world, "one").unwrap_err();
    assert!(
        output.contains("walgit-fs login --network mine"),
        "{output}"
    );
    sign_in(&world, "ada");
    publish(&world, "one").unwrap();
    let who = world.json(&["whoami"]);
    assert_eq!(
        (&who["who"], &who["method"]),
        (&"ada".into(), &"oauth".into())
    );
    assert_eq!(who["issuer"], server.url.as_str());
    let left = who["expires"].as_u64().unwrap() - unix_seconds();
    assert!((3000..=3600).contains(&left), "{left}");
    assert!(world.run(&["whoami"]).contains("ada on mine"));
    // Reading needs no sign-in.
    let reader = user(&server, "");
    let address = world.json(&["refs"])[0]["address"].clone();
    let dir = reader.mount(address.as_str().unwrap());
    assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"one");
}

#[test]
fn unsolicited_response_is_refused_and_the_genuine_one_accepted() {
    let server = issuer();
    let world = user_with_issuer(&server);
    let login = Login::in_browser(&world);
    let query: HashMap<_, _> = login.url.query_pairs().into_owned().collect();
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["scope"], "publish");
    let redirect: Url = query["redirect_uri"].parse().unwrap();
    assert_eq!(redirect.host_str(), Some("127.0.0.1"));
    let browser = Browser::new();
    block_on(async {
        let state = query["state"].clone();
        let another = "https://thief.example".to_owned();
        for wrong in [
            vec![("code", "x".to_owned()), ("state", "guessed".into())],
            vec![("code", "x".into())],
            vec![
                ("error", "access_denied".into()),
                ("state", "guessed".into()),
            ],
            vec![("code", "x".into()), ("state", state), ("iss", another)],
        ] {
            let mut url = redirect.clone();
            url.query_pairs_mut().extend_pairs(&wrong);
            let page = browser.load(&url).await;
            assert_eq!(page.status, 400, "{wrong:?}: {}", page.text);
        }
        let page = browser.decide(&login.url, "ada", "allow").await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("has got your sign-in"), "{}", page.text);
    });
    let (code, output) = login.end();
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn denied_consent_does_not_sign_in() {
    let server = issuer();
    let world = user_with_issuer(&server);
    let login = Login::in_browser(&world);
    block_on(Browser::new().decide(&login.url, "", "deny"));
    let (code, output) = login.end();
    assert_eq!(code, Some(1));
    assert!(output.contains("access_denied"), "{output}");
    assert_eq!(world.try_run(&["whoami"]).status.code(), Some(1));
}

#[test]
fn device_flow_signs_in_without_a_browser() {
    let server = issuer();
    for args in [&["login", "--device"][..], &["login"]] {
        let world = user_with_issuer(&server);
        let login = Login::on_another_device(&world, args);
        let page = block_on(Browser::new().decide(&login.url, "grace", "allow"));
        assert!(page.text.contains("Done"), "{}", page.text);
        let (code, output) = login.end();
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("as grace"), "{output}");
        publish(&world, "by device").unwrap();
    }
    let world = user_with_issuer(&server);
    let login = Login::on_another_device(&world, &["login", "--device"]);
    block_on(Browser::new().decide(&login.url, "grace", "deny"));
    let (code, output) = login.end();
    assert_eq!(code, Some(1));
    assert!(output.contains("the user denied the sign-in"), "{output}");
}

#[test]
fn profile_describes_an_issuer_without_discovery_document() {
    let server = issuer();
    let url = &server.url;
    let world = user(
        &server,
        &format!(
            "method = \"oauth\"\nissuer = \"{url}\"\nclient_id = \"another-name\"\n\
             authorization_endpoint = \"{url}/oauth/authorize\"\n\
             token_endpoint = \"{url}/oauth/token\""
        ),
    );
    let login = Login::in_browser(&world);
    assert!(
        login
            .url
            .query()
            .unwrap()
            .contains("client_id=another-name")
    );
    block_on(Browser::new().decide(&login.url, "ada", "allow"));
    let (code, output) = login.end();
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(server.requests("GET /.well-known").len(), 0);
    publish(&world, "one").unwrap();
    // Without a revocation endpoint, tokens are deleted only.
    assert_eq!(world.json(&["logout"])["revoked"], false);
}

#[test]
fn discovery_document_of_another_issuer_is_refused() {
    let server = issuer();
    // The same server under a name that differs from that of its document.
    let url = server.url.replace("127.0.0.1", "localhost");
    let output = user(&server, &format!("method = \"oauth\"\nissuer = \"{url}\"")).fail(&["login"]);
    assert!(output.contains("names another issuer"), "{output}");
    let plain = Server::start();
    let url = &plain.url;
    let output = user(&plain, &format!("method = \"oauth\"\nissuer = \"{url}\"")).fail(&["login"]);
    assert!(output.contains("no discovery document"), "{output}");
}

#[test]
fn intercepted_authorization_code_is_useless() {
    let server = issuer();
    let world = user_with_issuer(&server);
    let login = Login::in_browser(&world);
    let query: HashMap<_, _> = login.url.query_pairs().into_owned().collect();
    let browser = Browser::new();
    block_on(async {
        let page = browser.load(&login.url).await;
        let sent = browser.submit(&page, "ada", "allow").await;
        let back: Url = sent.headers()["location"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let code = back.query_pairs().find(|(name, _)| name == "code").unwrap();
        let verifier = "a".repeat(43);
        let (status, output) = token(
            &server,
            &[
                ("grant_type", "authorization_code"),
                ("client_id", "walgit-fs"),
                ("redirect_uri", &query["redirect_uri"]),
                ("code", &code.1),
                ("code_verifier", &verifier),
            ],
        )
        .await;
        assert_eq!((status, &output["error"]), (400, &"invalid_grant".into()));
        // The attempt consumes the code.
        browser.load(&back).await;
    });
    let (code, output) = login.end();
    assert_eq!(code, Some(1));
    assert!(output.contains("invalid_grant"), "{output}");
    // A redirect URI of another client is refused.
    let mut elsewhere = login_url(&server);
    elsewhere
        .query_pairs_mut()
        .append_pair("redirect_uri", "http://thief.example/callback");
    assert_eq!(block_on(browser.load(&elsewhere)).status, 400);
}

fn login_url(server: &Server) -> Url {
    let url = format!(
        "{}/oauth/authorize?response_type=code&client_id=x&code_challenge=y&code_challenge_method=S256",
        server.url
    );
    url.parse().unwrap()
}
