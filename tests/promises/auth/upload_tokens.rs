//! The embedded publisher accepts tokens as that of the network does.

use serde_json::{Value, json};
use walrus_client::auth::{Secret, SigningKey};

use super::http;
use crate::support::tree::noise;
use crate::support::{Server, block_on};

const SECRET: &str = "a secret of the publisher";

struct Publisher {
    server: Server,
    http: reqwest::Client,
    key: SigningKey,
}

impl Publisher {
    fn new(more: &[&str]) -> Self {
        let elsewhere = tempfile::tempdir().unwrap();
        let file = elsewhere.path().join("key");
        std::fs::write(&file, SECRET).unwrap();
        let mut args = vec![
            "--require",
            "jwt",
            "--jwt-secret-file",
            file.to_str().unwrap(),
        ];
        args.extend(more);
        Publisher {
            server: Server::with(&args),
            http: http(),
            key: SigningKey::parse(Default::default(), SECRET.as_bytes()).unwrap(),
        }
    }

    fn sign(&self, claims: &Value) -> Secret {
        self.key.sign(claims).unwrap()
    }

    /// Stores 100 bytes; returns the status, and the reason of a refusal.
    async fn put(&self, query: &str, token: Option<&str>) -> (u16, String) {
        let url = format!("{}/v1/blobs{query}", self.server.url);
        let mut request = self.http.put(url).body(noise(100, 5));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let output: Value = serde_json::from_str(&text).unwrap_or(json!(text));
        let reason = match output["error"]["details"][0]["reason"].as_str() {
            Some(reason) => {
                let domain = &output["error"]["details"][0]["domain"];
                assert_eq!(domain, "auth.publisher.walrus.space");
                reason.to_owned()
            }
            None => output.as_str().unwrap_or_default().to_owned(),
        };
        (status, reason)
    }
}

/// Claims of a token that expires in an hour.
fn claims(more: Value) -> Value {
    let now = walrus_client::clock::unix_seconds();
    let jti = Secret::random().unwrap();
    let mut claims = json!({"iat": now, "exp": now + 3600, "jti": jti.expose()});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn token_is_valid_only_for_the_upload_it_describes() {
    let publisher = Publisher::new(&[]);
    let owner = format!("0x{}", "1".repeat(64));
    let other = format!("0x{}", "2".repeat(64));
    let to = |who: &str| format!("?send_object_to={who}");
    let cases = [
        (json!({}), "", 200, ""),
        (
            json!({"max_size": 100, "max_epochs": 2}),
            "?epochs=2",
            200,
            "",
        ),
        (json!({"size": 100, "epochs": 2}), "?epochs=2", 200, ""),
        (json!({"max_size": 99}), "", 400, "MAX_SIZE_EXCEEDED"),
        (json!({"size": 99}), "", 400, "SIZE_INCORRECT"),
        (json!({"size": 101}), "", 400, "SIZE_INCORRECT"),
        (
            json!({"size": 100, "max_size": 100}),
            "",
            400,
            "iNVALID_SIZES",
        ),
        (
            json!({"max_epochs": 2}),
            "?epochs=3",
            400,
            "EPOCHS_ABOVE_MAX",
        ),
        (json!({"epochs": 2}), "?epochs=1", 400, "INVALID_EPOCHS"),
        (
            json!({"epochs": 1, "max_epochs": 1}),
            "",
            400,
            "INVALID_EPOCHS",
        ),
        (json!({"send_object_to": owner}), &to(&owner), 200, ""),
        (
            json!({"send_object_to": owner}),
            "",
            400,
            "MISSING_SEND_OBJECT_TO",
        ),
        (
            json!({"send_object_to": owner}),
            &to(&other),
            400,
            "INVALID_SEND_OBJECT_TO",
        ),
        (json!({"exp": 1_000_000}), "", 504, "EXPIRED_SIGNATURE"),
        (json!({"exp": null}), "", 400, "INVALID_TOKEN"),
        (json!({"jti": null}), "", 400, "INVALID_TOKEN"),
    ];
    block_on(async {
        for (more, query, status, reason) in cases {
            let token = publisher.sign(&claims(more.clone()));
            let output = publisher.put(query, Some(token.expose())).await;
            assert_eq!(output, (status, reason.to_owned()), "{more} {query}");
        }
    });
}

#[test]
fn token_is_accepted_once_and_not_consumed_by_a_refusal() {
    let publisher = Publisher::new(&[]);
    block_on(async {
        let token = publisher.sign(&claims(json!({"max_epochs": 1})));
        let token = Some(token.expose());
        assert_eq!(
            publisher.put("?epochs=2", token).await.1,
            "EPOCHS_ABOVE_MAX"
        );
        assert_eq!(publisher.put("", token).await.0, 200);
        let replayed = (429, "TOKEN_ALREADY_USED".to_owned());
        assert_eq!(publisher.put("", token).await, replayed);
        // The same `jti` under another signature is the same token.
        let again = claims(json!({"jti": "chosen"}));
        let [one, two] = [publisher.sign(&again), publisher.sign(&again)];
        assert_eq!(publisher.put("", Some(one.expose())).await.0, 200);
        assert_eq!(publisher.put("", Some(two.expose())).await, replayed);
    });
}

#[test]
fn missing_or_foreign_token_stores_nothing() {
    let publisher = Publisher::new(&[]);
    block_on(async {
        let (status, output) = publisher.put("", None).await;
        assert_eq!(status, 400);
        assert!(output.contains("authorization"), "{output}");
        let other = SigningKey::parse(Default::default(), b"another secret").unwrap();
        let forged = other.sign(&claims(json!({}))).unwrap();
        assert_eq!(publisher.put("", Some(forged.expose())).await.0, 401);
        let unsigned = "eyJhbGciOiJub25lIn0.eyJleHAiOjQwMDAwMDAwMDAsImp0aSI6IjEifQ.";
        assert_eq!(publisher.put("", Some(unsigned)).await.0, 400);
        assert_eq!(publisher.put("", Some("nonsense")).await.0, 400);
    });
    let blobs = std::fs::read_dir(publisher.server.blobs()).unwrap();
    assert_eq!(blobs.count(), 0);
}

#[test]
fn publisher_can_limit_token_lifetime() {
    let publisher = Publisher::new(&["--jwt-expiring-s", "3600"]);
    block_on(async {
        let right = publisher.sign(&claims(json!({})));
        assert_eq!(publisher.put("", Some(right.expose())).await.0, 200);
        let wrong = publisher.sign(&claims(json!({"iat": 0})));
        let output = publisher.put("", Some(wrong.expose())).await;
        assert_eq!(output, (400, "INVALID_EXPIRATION".to_owned()));
    });
}

/// A token built from a header, claims and a signature.
fn forged(header: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let claims = json!({"exp": 4_000_000_000u64, "iat": 1, "jti": "forged"});
    let [header, claims] = [header, &claims].map(|part| encode(part.to_string().as_bytes()));
    let message = format!("{header}.{claims}");
    let signature = encode(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

#[test]
fn token_with_another_algorithm_is_refused() {
    use base64::Engine as _;
    use ring::hmac;
    use ring::signature::{KeyPair as _, RsaKeyPair};
    let pem = include_str!("../../data/test-only-rsa.pem");
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("key.pem");
    std::fs::write(&file, pem).unwrap();
    let server = Server::with(&[
        "--require",
        "jwt",
        "--jwt-algorithm",
        "RS256",
        "--jwt-secret-file",
        file.to_str().unwrap(),
    ]);
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap();
    let public = RsaKeyPair::from_pkcs8(&der).unwrap();
    let public = public.public_key().as_ref().to_vec();
    // The public key, used as a shared secret.
    let with_public = |message: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
        hmac::sign(&key, message).as_ref().to_vec()
    };
    let tokens = [
        forged(&json!({"alg": "none", "typ": "JWT"}), |_| Vec::new()),
        forged(&json!({"alg": "NONE"}), |_| Vec::new()),
        forged(&json!({"alg": "HS256", "typ": "JWT"}), with_public),
        forged(&json!({"alg": "RS256", "typ": "JWT"}), |_| vec![0; 256]),
        forged(&json!({"alg": "RS256", "jwk": {"kty": "RSA"}}), |_| {
            Vec::new()
        }),
    ];
    block_on(async {
        for token in tokens {
            let url = format!("{}/v1/blobs", server.url);
            let request = http().put(url).body("x").bearer_auth(&token);
            let status = request.send().await.unwrap().status().as_u16();
            assert!((400..500).contains(&status), "{status}: {token}");
        }
    });
}
