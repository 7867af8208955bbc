//! Each method allows publishing; without a sign-in, publishing fails with the remedy.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};

use walrus_client::{self, PutOptions};
use walrus_encoding::blob_id::blob_id;

use super::{credentials, network, piped, secret_file, user};
use crate::support::{Server, Tree, World, block_on};

const RSA: &str = include_str!("../../data/test-only-rsa.pem");

#[track_caller]
fn publish_fails(world: &World, tree: &Tree) -> String {
    world.fail(&["publish", tree.path().to_str().unwrap(), "--name", "it"])
}

#[test]
fn only_the_correct_api_key_is_accepted() {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("key");
    std::fs::write(&file, "correct-horse\n").unwrap();
    let server = Server::with(&[
        "--require",
        "api-key",
        "--api-key-file",
        file.to_str().unwrap(),
        "--api-key-header",
        "x-walrus-key",
    ]);
    let tree = Tree::new().file("a", "hello");

    // A profile without sign-in.
    let output = publish_fails(&user(&server, ""), &tree);
    assert!(
        output.contains("401") && output.contains("[networks.mine.auth]"),
        "{output}"
    );

    let world = user(&server, "method = \"api_key\"\nheader = \"x-walrus-key\"");
    let output = publish_fails(&world, &tree);
    assert!(
        output.contains("walgit-fs login --network mine"),
        "{output}"
    );
    assert_eq!(world.try_run(&["whoami"]).status.code(), Some(1));
    assert_eq!(server.requests("PUT").len(), 1, "no upload without a key");

    assert!(piped(&world, &["login"], "wrong-horse\n").status.success());
    let output = publish_fails(&world, &tree);
    assert!(
        output.contains("401") && output.contains("sign in again"),
        "{output}"
    );

    let key = secret_file(&world, "correct-horse\n");
    let output = world.json(&["login", "--api-key-file", &key]);
    assert_eq!(
        (&output["method"], &output["kept"]),
        (&"api_key".into(), &"file".into())
    );
    world.publish(tree.path(), "it");
    // Reading needs no key.
    let reader = user(&server, "");
    let address = world.json(&["refs"])[0]["address"].clone();
    let dir = reader.mount(address.as_str().unwrap());
    assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"hello");

    let who = world.json(&["whoami"]);
    assert_eq!(who["signed_in"], true);
    assert_eq!(who["origins"][0], server.url.as_str());
    assert!(world.run(&["logout"]).contains("signed out of mine"));
    assert!(publish_fails(&world, &tree).contains("not signed in"));
}

/// A private key in PEM.
fn pem(pkcs8: &[u8]) -> String {
    let text = STANDARD.encode(pkcs8);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

#[test]
fn publisher_key_signs_uploads_with_every_algorithm() {
    let random = SystemRandom::new();
    let ecdsa = |algorithm| {
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        pem(made.as_ref())
    };
    let ed = pem(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref());
    let keys = [
        ("HS256", "a shared secret in plain text".to_owned()),
        ("HS384", format!("0x{}", "5a".repeat(48))),
        ("HS512", format!("base64:{}", STANDARD.encode([7; 64]))),
        ("ES256", ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING)),
        ("ES384", ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING)),
        ("EdDSA", ed),
        ("RS256", RSA.to_owned()),
        ("RS384", RSA.to_owned()),
        ("RS512", RSA.to_owned()),
        ("PS256", RSA.to_owned()),
        ("PS384", RSA.to_owned()),
        ("PS512", RSA.to_owned()),
    ];
    let owner = format!("0x{}", "ab".repeat(32));
    for (algorithm, key) in keys {
        let elsewhere = tempfile::tempdir().unwrap();
        let file = elsewhere.path().join("key");
        std::fs::write(&file, &key).unwrap();
        let server = Server::with(&[
            "--require",
            "jwt",
            "--jwt-algorithm",
            algorithm,
            "--jwt-secret-file",
            file.to_str().unwrap(),
            "--jwt-expiring-s",
            "90",
        ]);
        let auth = format!(
            "method = \"jwt\"\nalgorithm = \"{algorithm}\"\nlifetime_s = 90\n\
             send_object_to = \"{owner}\""
        );
        let world = user(&server, &auth);
        let given = secret_file(&world, &key);
        world.run(&["login", "--jwt-secret-file", &given]);
        let network = network(&server.url, toml::from_str(&auth).unwrap());
        let signed = credentials(&world, &network);
        let store =
            walrus_client::open_as(signed, &network, Duration::from_secs(20), None).unwrap();
        block_on(async {
            // Two uploads need two tokens.
            for content in ["one", "two"] {
                let body = Bytes::from(content);
                let blob = blob_id(&body).unwrap();
                let stored = store.put(blob, body, &PutOptions::default()).await;
                assert!(stored.is_ok(), "{algorithm}: {stored:?}");
            }
        });
        if algorithm == "HS256" {
            world.publish(Tree::new().file("a", "hello").path(), "it");
        }
    }
}

#[test]
fn missing_token_is_reported_with_the_remedy() {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("key");
    std::fs::write(&file, "the secret").unwrap();
    let args = [
        "--require",
        "jwt",
        "--jwt-secret-file",
        file.to_str().unwrap(),
    ];
    let server = Server::with(&args);
    let tree = Tree::new().file("a", "hello");
    let output = publish_fails(&user(&server, ""), &tree);
    assert!(
        output.contains("[networks.mine.auth]") && output.contains("login"),
        "{output}"
    );
    let world = user(&server, "method = \"jwt\"");
    assert!(publish_fails(&world, &tree).contains("not signed in"));
    assert!(piped(&world, &["login"], "another secret").status.success());
    let output = publish_fails(&world, &tree);
    assert!(
        output.contains("401") && output.contains("sign in again"),
        "{output}"
    );
}

#[test]
fn login_refuses_a_key_that_cannot_sign() {
    let server = Server::start();
    let refused = |auth: &str, key: &str| {
        let world = user(&server, auth);
        let done = piped(&world, &["login"], key);
        assert_eq!(done.status.code(), Some(1));
        let output = String::from_utf8(done.stderr).unwrap();
        assert!(!output.contains("hunter2"), "{output}");
        output
    };
    let hs = "method = \"jwt\"";
    assert!(refused(hs, "").contains("empty"));
    assert!(refused(hs, "0xhunter2").contains("hexadecimal"));
    assert!(refused(hs, RSA).contains("shared secret"));
    assert!(refused("method = \"jwt\"\nalgorithm = \"RS256\"", "hunter2").contains("PEM"));
    assert!(refused("method = \"jwt\"\nalgorithm = \"ES256\"", RSA).contains("ES256"));
    assert!(refused("method = \"api_key\"", "hunter2\nhunter2").contains("header"));
    assert!(refused("", "hunter2").contains("requires no sign-in"));
}
