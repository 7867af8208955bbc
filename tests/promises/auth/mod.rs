//! Sign-ins to publishers, and protection of their secrets.
//!
//! - [`methods`]: each method against a devnet that requires it;
//! - [`upload_tokens`]: tokens for uploads, as the network's publisher accepts them;
//! - [`oauth`]: signing in with an issuer;
//! - [`token_renewal`]: renewal of tokens, and signing out;
//! - [`secrets`]: where secrets are stored and sent;
//! - [`hostile_issuer`]: issuers that lie.

mod browser;
mod hostile_issuer;
mod issuer;
mod methods;
mod oauth;
mod secrets;
mod token_renewal;
mod upload_tokens;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::process::{Output, Stdio};
use std::time::Duration;

use walrus_client::auth::{Credentials, SignIns};
use walrus_client::network::{AuthMethod, Network, NetworkPlace};

use crate::support::{Server, World};

/// A user of the network `mine`, whose publishers require `auth`, a section of the
/// config file. There is no keyring.
fn user(server: &Server, auth: &str) -> World {
    user_of(&server.url, auth)
}

fn user_of(url: &str, auth: &str) -> World {
    let auth = match auth {
        "" => String::new(),
        auth => format!("[networks.mine.auth]\n{auth}\n"),
    };
    World::new()
        .config(&format!(
            "network = \"mine\"\n[networks.mine]\naggregators = [\"{url}\"]\n\
             publishers = [\"{url}\"]\n{auth}"
        ))
        .with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
}

/// A file that contains a secret.
fn secret_file(world: &World, text: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = world.path().join(format!("given-{}", text.len()));
    let mut file = fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs walgit-fs with `input` on its standard input.
fn piped(world: &World, args: &[&str], input: &str) -> Output {
    let mut child = world
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    match stdin.write_all(input.as_bytes()) {
        // It may fail before it reads.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The user's sign-ins, as the library reads them.
fn sign_ins(world: &World) -> SignIns {
    SignIns::new(&world.path().join("data/walgit-fs/auth"))
}

/// The network `mine`.
fn network(url: &str, auth: AuthMethod) -> Network {
    Network {
        name: "mine".into(),
        place: NetworkPlace::Http {
            aggregators: vec![url.into()],
            publishers: vec![url.into()],
        },
        max_body: 10 << 20,
        epochs: 1,
        sui: None,
        admin: None,
        epoch_s: None,
        auth,
        policy: Default::default(),
    }
}

/// The network of a devnet that is also an issuer.
fn with_issuer(server: &Server) -> Network {
    let auth = format!("method = \"oauth\"\nissuer = \"{}\"", server.url);
    network(&server.url, toml::from_str(&auth).unwrap())
}

/// The credentials of the user's uploads.
fn credentials(world: &World, network: &Network) -> Credentials {
    Credentials::load(&sign_ins(world), network).unwrap()
}

/// A client that follows no redirects.
fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}
