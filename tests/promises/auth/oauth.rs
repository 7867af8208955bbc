//! Signing in with an issuer, staying signed in, signing out.

use std::collections::HashMap;
use std::sync::Arc;

use reqwest::Url;
use serde_json::Value;
use walgit_fs::auth::{Grant, Held, SignIn, Upload};
use walgit_fs::clock::unix_seconds;

use super::browser::{Browser, Login, sign_in};
use super::{credentials, http, sign_ins, user, with_issuer};
use crate::support::{Server, Tree, World, block_on};

fn issuer() -> Server {
    Server::with(&["--require", "oauth"])
}

fn user_with_issuer(server: &Server) -> World {
    let url = &server.url;
    user(
        server,
        &format!("method = \"oauth\"\nissuer = \"{url}\"\nscopes = [\"publish\"]"),
    )
}

fn publish(world: &World, content: &str) -> Result<(), String> {
    let tree = Tree::new().file("a", content);
    let done = world.try_run(&["publish", tree.path().to_str().unwrap(), "--name", "it"]);
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8(done.stderr).unwrap()),
    }
}

/// What the user keeps.
fn kept(world: &World) -> (SignIn, Grant) {
    let (found, _) = sign_ins(world).get("mine").unwrap().unwrap();
    let Held::Oauth(grant) = found.held.clone() else {
        panic!("{found:?}")
    };
    (found, grant)
}

/// Makes the clock of the user's access token say that it ends in so many
/// seconds.
fn ends_in(world: &World, seconds: u64) {
    let (mut found, mut grant) = kept(world);
    grant.expires = Some(unix_seconds() + seconds);
    found.held = Held::Oauth(grant);
    sign_ins(world).put("mine", &found).unwrap();
}

const UPLOAD: Upload = Upload { size: 1, epochs: 1 };

fn publisher(server: &Server) -> Url {
    server.url.parse().unwrap()
}

#[test]
fn a_browser_signs_in_and_what_is_published_then_is_accepted() {
    let server = issuer();
    let world = user_with_issuer(&server);
    let said = publish(&world, "one").unwrap_err();
    assert!(said.contains("walgit-fs login --network mine"), "{said}");
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
    // Whoever is not signed in reads all the same.
    let reader = user(&server, "");
    let address = world.json(&["refs"])[0]["address"].clone();
    let dir = reader.mount(address.as_str().unwrap());
    assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"one");
}

#[test]
fn an_answer_that_was_not_asked_for_is_refused_and_the_right_one_still_taken() {
    let server = issuer();
    let world = user_with_issuer(&server);
    let login = Login::in_browser(&world);
    let asked: HashMap<_, _> = login.url.query_pairs().into_owned().collect();
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["response_type"], "code");
    assert_eq!(asked["scope"], "publish");
    let redirect: Url = asked["redirect_uri"].parse().unwrap();
    assert_eq!(redirect.host_str(), Some("127.0.0.1"));
    let browser = Browser::new();
    block_on(async {
        let state = asked["state"].clone();
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
    let (code, said) = login.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_user_who_says_no_is_not_signed_in() {
    let server = issuer();
    let world = user_with_issuer(&server);
    let login = Login::in_browser(&world);
    block_on(Browser::new().decide(&login.url, "", "deny"));
    let (code, said) = login.end();
    assert_eq!(code, Some(1));
    assert!(said.contains("access_denied"), "{said}");
    assert_eq!(world.try_run(&["whoami"]).status.code(), Some(1));
}

#[test]
fn without_a_browser_another_device_signs_in() {
    let server = issuer();
    for args in [&["login", "--device"][..], &["login"]] {
        let world = user_with_issuer(&server);
        let login = Login::on_another_device(&world, args);
        let page = block_on(Browser::new().decide(&login.url, "grace", "allow"));
        assert!(page.text.contains("Done"), "{}", page.text);
        let (code, said) = login.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("as grace"), "{said}");
        publish(&world, "by device").unwrap();
    }
    let world = user_with_issuer(&server);
    let login = Login::on_another_device(&world, &["login", "--device"]);
    block_on(Browser::new().decide(&login.url, "grace", "deny"));
    let (code, said) = login.end();
    assert_eq!(code, Some(1));
    assert!(said.contains("the user said no"), "{said}");
}

#[test]
fn one_request_renews_however_many_wait_for_it() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    // Good for longer than five minutes: nothing is renewed.
    ends_in(&world, 330);
    server.forget_requests();
    let (_, before) = kept(&world);
    block_on(async {
        let credentials = credentials(&world, &with_issuer(&server));
        credentials
            .for_upload(&publisher(&server), &UPLOAD)
            .await
            .unwrap();
    });
    assert_eq!(server.requests("POST /oauth/token").len(), 0);

    ends_in(&world, 290);
    block_on(async {
        let credentials = Arc::new(credentials(&world, &with_issuer(&server)));
        let url = publisher(&server);
        let waiting = (0..20).map(|_| {
            let (credentials, url) = (credentials.clone(), url.clone());
            tokio::spawn(async move { credentials.for_upload(&url, &UPLOAD).await.is_ok() })
        });
        let waiting: Vec<_> = waiting.collect();
        for done in waiting {
            assert!(done.await.unwrap());
        }
    });
    assert_eq!(server.requests("POST /oauth/token").len(), 1);
    let (_, after) = kept(&world);
    assert!(before.access != after.access && before.refresh != after.refresh);
    assert!(after.expires.unwrap() > unix_seconds() + 3000);
    // What was put away is what the next process needs.
    ends_in(&world, 0);
    publish(&world, "renewed").unwrap();
    assert_eq!(server.requests("POST /oauth/token").len(), 2);
}

#[test]
fn two_processes_that_renew_at_once_do_not_end_the_sign_in() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let trees = ["one", "two", "three"].map(|text| Tree::new().file("a", text));
    for _ in 0..2 {
        ends_in(&world, 0);
        server.forget_requests();
        let processes: Vec<_> = trees
            .iter()
            .enumerate()
            .map(|(number, tree)| {
                let name = format!("name{number}");
                let path = tree.path().to_str().unwrap();
                let mut command = world.command(&["publish", path, "--name", &name]);
                command.spawn().unwrap()
            })
            .collect();
        for mut process in processes {
            assert!(process.wait().unwrap().success());
        }
    }
    publish(&world, "still signed in").unwrap();
}

#[test]
fn a_token_that_ended_early_is_renewed_and_the_upload_sent_again() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let (_, grant) = kept(&world);
    block_on(revoke(&server, grant.access.expose()));
    publish(&world, "one").unwrap();
    let puts = server.requests("PUT");
    assert!(
        puts[0].contains(" 401 ") && puts[1].contains(" 200 "),
        "{puts:?}"
    );
}

#[test]
fn a_sign_in_that_is_over_says_so_and_reading_goes_on() {
    let mut server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    publish(&world, "one").unwrap();
    let dir = world.mount("it");
    // A new server knows nobody.
    server.restart();
    let said = publish(&world, "two").unwrap_err();
    assert!(said.contains("sign-in to mine is over"), "{said}");
    assert!(said.contains("walgit-fs login --network mine"), "{said}");
    ends_in(&world, 0);
    let said = publish(&world, "two").unwrap_err();
    assert!(said.contains("walgit-fs login --network mine"), "{said}");
    assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"one");
    sign_in(&world, "ada");
    publish(&world, "two").unwrap();
}

#[test]
fn an_issuer_that_is_down_is_no_reason_to_sign_in_again() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let fault = |spec: &'static str| {
        let url = format!("{}/devnet/faults", server.url);
        let set = block_on(async { http().put(url).body(spec).send().await.unwrap() });
        assert_eq!(set.status(), 200);
    };
    fault("status=503,path=/oauth/token");
    // Still good, although it should be renewed.
    ends_in(&world, 290);
    publish(&world, "one").unwrap();
    ends_in(&world, 0);
    fault("status=503,path=/oauth/token,first=1");
    publish(&world, "two").unwrap();
}

#[test]
fn signing_out_ends_the_tokens_too() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let (_, grant) = kept(&world);
    block_on(async {
        assert_eq!(userinfo(&server, grant.access.expose()).await, 200);
    });
    let said = world.json(&["logout"]);
    assert_eq!(
        (&said["signed_out"], &said["revoked"]),
        (&true.into(), &true.into())
    );
    block_on(async {
        assert_eq!(userinfo(&server, grant.access.expose()).await, 401);
        let refresh = grant.refresh.unwrap();
        let (status, _) = refresh_with(&server, refresh.expose()).await;
        assert_eq!(status, 400);
    });
    assert!(
        publish(&world, "one")
            .unwrap_err()
            .contains("not signed in")
    );
    assert!(world.run(&["logout"]).contains("not signed in"));
}

#[test]
fn the_issuer_takes_a_refresh_token_once_and_ends_a_sign_in_that_was_stolen() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let (_, grant) = kept(&world);
    block_on(async {
        let first = grant.refresh.unwrap();
        let (status, second) = refresh_with(&server, first.expose()).await;
        assert_eq!(status, 200, "{second}");
        let access = second["access_token"].as_str().unwrap();
        assert_eq!(userinfo(&server, access).await, 200);
        let (status, said) = refresh_with(&server, first.expose()).await;
        assert_eq!((status, &said["error"]), (400, &"invalid_grant".into()));
        assert_eq!(userinfo(&server, access).await, 401);
        let second = second["refresh_token"].as_str().unwrap();
        assert_eq!(refresh_with(&server, second).await.0, 400);
    });
}

#[test]
fn a_code_is_worth_nothing_to_whoever_did_not_ask_for_it() {
    let server = issuer();
    let world = user_with_issuer(&server);
    let login = Login::in_browser(&world);
    let asked: HashMap<_, _> = login.url.query_pairs().into_owned().collect();
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
        let (status, said) = token(
            &server,
            &[
                ("grant_type", "authorization_code"),
                ("client_id", "walgit-fs"),
                ("redirect_uri", &asked["redirect_uri"]),
                ("code", &code.1),
                ("code_verifier", &verifier),
            ],
        )
        .await;
        assert_eq!((status, &said["error"]), (400, &"invalid_grant".into()));
        // And is used up by the attempt.
        browser.load(&back).await;
    });
    let (code, said) = login.end();
    assert_eq!(code, Some(1));
    assert!(said.contains("invalid_grant"), "{said}");
    // Nobody else's address is answered to.
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

async fn token(server: &Server, form: &[(&str, &str)]) -> (u16, Value) {
    let response = post(server, "token", form).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn refresh_with(server: &Server, refresh: &str) -> (u16, Value) {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "walgit-fs"),
        ("refresh_token", refresh),
    ];
    token(server, &form).await
}

async fn revoke(server: &Server, token: &str) {
    let response = post(server, "revoke", &[("token", token)]).await;
    assert_eq!(response.status(), 200);
}

async fn userinfo(server: &Server, token: &str) -> u16 {
    let url = format!("{}/oauth/userinfo", server.url);
    let sent = http().get(url).bearer_auth(token).send().await;
    sent.unwrap().status().as_u16()
}

async fn post(server: &Server, what: &str, form: &[(&str, &str)]) -> reqwest::Response {
    let mut encoded = Url::parse("form:").unwrap();
    encoded.query_pairs_mut().extend_pairs(form);
    http()
        .post(format!("{}/oauth/{what}", server.url))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(encoded.query().unwrap().to_owned())
        .send()
        .await
        .unwrap()
}
