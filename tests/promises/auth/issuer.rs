//! A devnet that is also an issuer, its users, and requests of a client.

use reqwest::Url;
use serde_json::Value;
use walrus_client::auth::{Grant, SignIn, SignInSecret};
use walrus_client::clock::unix_seconds;

use super::{http, sign_ins, user};
use crate::support::{Server, Tree, World};

pub(super) fn issuer() -> Server {
    Server::with(&["--require", "oauth"])
}

pub(super) fn user_with_issuer(server: &Server) -> World {
    let url = &server.url;
    user(
        server,
        &format!("method = \"oauth\"\nissuer = \"{url}\"\nscopes = [\"publish\"]"),
    )
}

pub(super) fn publish(world: &World, content: &str) -> Result<(), String> {
    let tree = Tree::new().file("a", content);
    let done = world.try_run(&[
        "publish",
        tree.path().to_str().unwrap(),
        "--name",
        "it",
        "--force",
    ]);
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8(done.stderr).unwrap()),
    }
}

/// The sign-in that the user stores.
pub(super) fn stored_sign_in(world: &World) -> (SignIn, Grant) {
    let (found, _) = sign_ins(world).get("mine").unwrap().unwrap();
    let SignInSecret::Oauth(grant) = found.secret.clone() else {
        panic!("{found:?}")
    };
    (found, grant)
}

/// Sets the expiry of the user's access token to `seconds` from now.
pub(super) fn expire_access_token_in(world: &World, seconds: u64) {
    let (mut found, mut grant) = stored_sign_in(world);
    grant.expires = Some(unix_seconds() + seconds);
    found.secret = SignInSecret::Oauth(grant);
    sign_ins(world).put("mine", &found).unwrap();
}

pub(super) async fn token(server: &Server, form: &[(&str, &str)]) -> (u16, Value) {
    let response = post(server, "token", form).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

pub(super) async fn refresh_with(server: &Server, refresh: &str) -> (u16, Value) {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "walgit-fs"),
        ("refresh_token", refresh),
    ];
    token(server, &form).await
}

pub(super) async fn revoke(server: &Server, token: &str) {
    let response = post(server, "revoke", &[("token", token)]).await;
    assert_eq!(response.status(), 200);
}

pub(super) async fn userinfo(server: &Server, token: &str) -> u16 {
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
