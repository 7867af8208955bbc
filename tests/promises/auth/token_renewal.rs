//! Renewal of tokens, and signing out.

use std::process::Stdio;
use std::sync::Arc;

use reqwest::Url;
use walrus_client::auth::Upload;
use walrus_client::clock::unix_seconds;

use super::browser::sign_in;
use super::issuer::{
    expire_access_token_in, issuer, publish, refresh_with, revoke, stored_sign_in,
    user_with_issuer, userinfo,
};
use super::{credentials, http, with_issuer};
use crate::support::{Server, Tree, block_on};

const UPLOAD: Upload = Upload { size: 1, epochs: 1 };

fn publisher(server: &Server) -> Url {
    server.url.parse().unwrap()
}

#[test]
fn concurrent_renewals_share_one_request() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    // Valid for more than five minutes: no renewal.
    expire_access_token_in(&world, 330);
    server.clear_requests();
    let (_, before) = stored_sign_in(&world);
    block_on(async {
        let credentials = credentials(&world, &with_issuer(&server));
        credentials
            .for_upload(&publisher(&server), &UPLOAD)
            .await
            .unwrap();
    });
    assert_eq!(server.requests("POST /oauth/token").len(), 0);

    expire_access_token_in(&world, 290);
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
    let (_, after) = stored_sign_in(&world);
    assert!(before.access != after.access && before.refresh != after.refresh);
    assert!(after.expires.unwrap() > unix_seconds() + 3000);
    // The next process needs the stored token.
    expire_access_token_in(&world, 0);
    publish(&world, "renewed").unwrap();
    assert_eq!(server.requests("POST /oauth/token").len(), 2);
}

#[test]
fn concurrent_renewal_in_two_processes_keeps_the_sign_in() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    for round in ["first", "second"] {
        expire_access_token_in(&world, 0);
        let processes: Vec<_> = ["one", "two", "three"]
            .map(|name| {
                let tree = Tree::new().file(name, round);
                let path = tree.path().to_str().unwrap();
                let mut command = world.command(&["publish", path, "--name", name, "--force"]);
                (command.stdout(Stdio::null()).spawn().unwrap(), tree)
            })
            .into();
        for (mut process, _tree) in processes {
            assert!(process.wait().unwrap().success());
        }
    }
    publish(&world, "still signed in").unwrap();
}

#[test]
fn prematurely_expired_token_is_renewed_and_the_upload_repeated() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let (_, grant) = stored_sign_in(&world);
    block_on(revoke(&server, grant.access.expose()));
    publish(&world, "one").unwrap();
    let puts = server.requests("PUT");
    assert!(
        puts[0].contains(" 401 ") && puts[1].contains(" 200 "),
        "{puts:?}"
    );
}

#[test]
fn expired_sign_in_is_reported_and_reads_continue() {
    let mut server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    publish(&world, "one").unwrap();
    let dir = world.mount("it");
    // A new server knows no sign-in.
    server.restart();
    let output = publish(&world, "two").unwrap_err();
    assert!(output.contains("sign-in to mine is over"), "{output}");
    assert!(
        output.contains("walgit-fs login --network mine"),
        "{output}"
    );
    expire_access_token_in(&world, 0);
    let output = publish(&world, "two").unwrap_err();
    assert!(
        output.contains("walgit-fs login --network mine"),
        "{output}"
    );
    assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"one");
    sign_in(&world, "ada");
    publish(&world, "two").unwrap();
}

#[test]
fn unreachable_issuer_does_not_require_a_new_sign_in() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let fault = |spec: &'static str| {
        let url = format!("{}/devnet/faults", server.url);
        let set = block_on(async { http().put(url).body(spec).send().await.unwrap() });
        assert_eq!(set.status(), 200);
    };
    fault("status=503,path=/oauth/token");
    // Still valid, although it is due for renewal.
    expire_access_token_in(&world, 290);
    publish(&world, "one").unwrap();
    expire_access_token_in(&world, 0);
    fault("status=503,path=/oauth/token,first=1");
    publish(&world, "two").unwrap();
}

#[test]
fn logout_revokes_tokens() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let (_, grant) = stored_sign_in(&world);
    block_on(async {
        assert_eq!(userinfo(&server, grant.access.expose()).await, 200);
    });
    let output = world.json(&["logout"]);
    assert_eq!(
        (&output["signed_out"], &output["revoked"]),
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
fn issuer_accepts_a_refresh_token_once_and_revokes_a_stolen_sign_in() {
    let server = issuer();
    let world = user_with_issuer(&server);
    sign_in(&world, "ada");
    let (_, grant) = stored_sign_in(&world);
    block_on(async {
        let first = grant.refresh.unwrap();
        let (status, second) = refresh_with(&server, first.expose()).await;
        assert_eq!(status, 200, "{second}");
        let access = second["access_token"].as_str().unwrap();
        assert_eq!(userinfo(&server, access).await, 200);
        let (status, output) = refresh_with(&server, first.expose()).await;
        assert_eq!((status, &output["error"]), (400, &"invalid_grant".into()));
        assert_eq!(userinfo(&server, access).await, 401);
        let second = second["refresh_token"].as_str().unwrap();
        assert_eq!(refresh_with(&server, second).await.0, 400);
    });
}
