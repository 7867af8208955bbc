//! Where secrets are stored and sent.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse as _;
use walrus_client::auth::SignInSecret;

use super::browser::{Login, sign_in};
use super::{piped, secret_file, sign_ins, user, user_of};
use crate::support::{Server, Tree, World};

/// A secret that no other file contains by chance.
const SECRET: &str = "hunter2-hunter2-hunter2";

fn publish(world: &World, more: &[&str]) -> std::process::Output {
    let tree = Tree::new().file("a", format!("{more:?}"));
    let mut args = vec![
        "publish",
        tree.path().to_str().unwrap(),
        "--name",
        "it",
        "--force",
    ];
    args.extend(more);
    world.try_run(&args)
}

fn server_requiring_api_key() -> (Server, tempfile::TempDir) {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("key");
    fs::write(&file, SECRET).unwrap();
    let args = [
        "--require",
        "api-key",
        "--api-key-file",
        file.to_str().unwrap(),
    ];
    (Server::with(&args), elsewhere)
}

fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap() {
            about if about.is_dir() => files.extend(files_under(&path)),
            about if about.is_file() => files.push(path),
            _ => {}
        }
    }
    files
}

#[track_caller]
fn assert_in_no_file(world: &World, secret: &str) {
    let (files, secret) = (files_under(world.path()), secret.as_bytes());
    assert!(files.len() > 3);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let found = bytes.windows(secret.len()).any(|part| part == secret);
        assert!(!found, "{}", path.display());
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn secrets_are_stored_in_sealed_private_files() {
    let (server, _elsewhere) = server_requiring_api_key();
    let world = user(&server, "method = \"api_key\"");
    assert!(piped(&world, &["login"], SECRET).status.success());
    assert!(publish(&world, &[]).status.success());
    assert_in_no_file(&world, SECRET);
    let dir = world.path().join("data/walgit-fs/auth");
    assert_eq!(mode(&dir), 0o700);
    for name in ["mine.key", "mine.lock", "sealing-key", "keys.json"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
    // With another sealing key it does not open.
    fs::write(dir.join("sealing-key"), [1; 32]).unwrap();
    let output = world.fail(&["whoami"]);
    assert!(output.contains("mine.key is damaged"), "{output}");
    world.run(&["logout"]);
    assert!(!dir.join("mine.key").exists() && !dir.join("sealing-key").exists());
}

#[test]
fn secrets_appear_in_no_output_log_argument_or_environment() {
    let (server, _elsewhere) = server_requiring_api_key();
    let loud = |auth: &str| user(&server, auth).with("WALGIT_FS_LOG", "trace");
    let world = loud("method = \"api_key\"");
    let file = secret_file(&world, SECRET);
    let login = world.try_run(&["login", "--json", "--api-key-file", &file]);
    fs::remove_file(file).unwrap();
    // While it waits for the secret, and after it has read it.
    let mut asking = world
        .command(&["login"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut typing = asking.stdin.take().unwrap();
    typing.write_all(SECRET.as_bytes()).unwrap();
    let proc = PathBuf::from(format!("/proc/{}", asking.id()));
    for what in ["cmdline", "environ"] {
        let shown = fs::read(proc.join(what)).unwrap();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(!shown.contains(SECRET), "{shown}");
    }
    drop(typing);
    assert!(asking.wait().unwrap().success());
    let outputs = [
        login,
        publish(&world, &["-vv", "--json"]),
        publish(
            &world,
            &[
                "-vv",
                "--network",
                "mine",
                "--publisher",
                "http://127.0.0.1:1",
            ],
        ),
        world.try_run(&["whoami", "--json"]),
        world.try_run(&["doctor", "--json"]),
        world.try_run(&["logout", "--json"]),
    ];
    for done in outputs {
        let output = [done.stdout, done.stderr].concat();
        let output = String::from_utf8(output).unwrap();
        assert!(!output.contains(SECRET), "{output}");
    }
    assert_in_no_file(&world, SECRET);

    // A token that is expired, but remains a secret.
    let issuer = Server::with(&["--require", "oauth"]);
    let auth = format!("method = \"oauth\"\nissuer = \"{}\"", issuer.url);
    let world = user(&issuer, &auth).with("WALGIT_FS_LOG", "trace");
    let waiting = Login::in_browser(&world);
    let proc = PathBuf::from(format!("/proc/{}", waiting.pid()));
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let figures: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(figures[4..6], ["0", "0"], "{core:?}");
    let arguments = fs::read(proc.join("cmdline")).unwrap();
    assert!(arguments.ends_with(b"\0login\0"), "{arguments:?}");
    let browser = super::browser::Browser::new();
    crate::support::block_on(browser.decide(&waiting.url, "ada", "allow"));
    let (code, output) = waiting.end();
    assert_eq!(code, Some(0), "{output}");
    let (found, _) = sign_ins(&world).get("mine").unwrap().unwrap();
    let SignInSecret::Oauth(grant) = &found.secret else {
        panic!("{found:?}")
    };
    let refresh = grant.refresh.as_ref().unwrap();
    let published = publish(&world, &["-vv"]);
    assert!(published.status.success());
    let mut output = output + &String::from_utf8_lossy(&published.stderr);
    output += &format!("{found:?}");
    output += &world.run(&["whoami", "--json"]);
    for secret in [grant.access.expose(), refresh.expose()] {
        assert!(!output.contains(secret), "{output}");
        assert_in_no_file(&world, secret);
    }
}

#[test]
fn secrets_on_the_command_line_are_refused() {
    let world = user_of("http://127.0.0.1:1", "method = \"api_key\"");
    for args in [
        ["login", "--api-key", SECRET],
        ["login", "--jwt-secret", SECRET],
        ["login", "mine", SECRET],
    ] {
        assert_eq!(world.try_run(&args).status.code(), Some(2), "{args:?}");
    }
    let output = world
        .config(&format!(
            "[networks.mine.auth]\nmethod = \"api_key\"\nkey = \"{SECRET}\"\n"
        ))
        .fail(&["whoami", "--network", "mine"]);
    assert!(
        output.contains("unknown field `key`") && !output.contains(SECRET),
        "{output}"
    );
}

#[test]
fn secrets_are_sent_only_to_their_publisher() {
    let (server, _elsewhere) = server_requiring_api_key();
    let thief = Server::start();
    let world = user(&server, "method = \"api_key\"");
    assert!(piped(&world, &["login"], SECRET).status.success());
    let done = publish(&world, &["--network", "mine", "--publisher", &thief.url]);
    let output = String::from_utf8(done.stderr).unwrap();
    assert!(
        output.contains("belongs to") && output.contains(&server.url),
        "{output}"
    );
    assert_eq!(thief.requests("PUT").len(), 0);
    // The first of two is down, and the second has no sign-in.
    let both = format!("http://127.0.0.1:1,{}", thief.url);
    assert!(
        !publish(&world, &["--network", "mine", "--publisher", &both])
            .status
            .success()
    );
    assert_eq!(thief.requests("PUT").len(), 0);
}

#[test]
fn secrets_are_never_sent_in_plaintext_to_another_machine() {
    let world = user_of("http://publisher.example", "method = \"api_key\"");
    let done = piped(&world, &["login"], SECRET);
    let output = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(output.contains("not sent over plain HTTP"), "{output}");
    let (server, _elsewhere) = server_requiring_api_key();
    let world = user(&server, "method = \"api_key\"");
    assert!(piped(&world, &["login"], SECRET).status.success());
    let done = publish(
        &world,
        &[
            "--network",
            "mine",
            "--publisher",
            "http://publisher.example",
        ],
    );
    let output = String::from_utf8(done.stderr).unwrap();
    assert!(output.contains("not sent over plain HTTP"), "{output}");
    let issuer = "method = \"oauth\"\nissuer = \"http://id.example\"";
    let output = user_of("https://publisher.example", issuer).fail(&["login"]);
    assert!(output.contains("must be https"), "{output}");
}

/// A publisher that redirects uploads, and the keys that it received.
fn redirecting_publisher(to: &str) -> (String, Arc<Mutex<Vec<String>>>, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let redirect = move |State((to, log)): State<(String, Arc<Mutex<Vec<String>>>)>,
                         request: Request| async move {
        if request.method() != Method::PUT {
            return StatusCode::NOT_FOUND.into_response();
        }
        let key = request.headers().get("x-api-key");
        let key = key.map(|key| key.to_str().unwrap().to_owned());
        log.lock().unwrap().push(key.unwrap_or_default());
        let to = format!("{to}{}", request.uri());
        (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
    };
    let routes = Router::new()
        .fallback(redirect)
        .with_state((to.to_owned(), log.clone()));
    runtime.spawn(async move { axum::serve(listener, routes).await });
    (url, log, runtime)
}

#[test]
fn secrets_do_not_follow_redirects() {
    let thief = Server::start();
    let (url, log, _runtime) = redirecting_publisher(&thief.url);
    let world = user_of(&url, "method = \"api_key\"");
    assert!(piped(&world, &["login"], SECRET).status.success());
    let done = publish(&world, &[]);
    assert!(!done.status.success());
    assert!(
        log.lock().unwrap().iter().any(|key| key == SECRET),
        "the key was sent to the publisher"
    );
    assert_eq!(
        thief.requests("").len(),
        0,
        "and not to the redirect target"
    );
}

#[test]
fn secrets_for_this_machine_bypass_the_proxy() {
    let (server, _elsewhere) = server_requiring_api_key();
    let proxy = Server::start();
    let mut world = user(&server, "method = \"api_key\"");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        world = world.with(name, &proxy.url);
    }
    let world = world.with("no_proxy", "").with("NO_PROXY", "");
    assert!(piped(&world, &["login"], SECRET).status.success());
    publish(&world, &[]);
    assert_eq!(proxy.requests("PUT").len(), 0);
    assert_eq!(server.requests("PUT").len(), 1);
}

#[test]
fn sign_in_is_bound_to_its_issuer_and_method() {
    let issuer = Server::with(&["--require", "oauth"]);
    let auth = format!("method = \"oauth\"\nissuer = \"{}\"", issuer.url);
    let world = user(&issuer, &auth);
    sign_in(&world, "ada");
    let url = &issuer.url;
    let profile = |auth: &str| {
        format!(
            "network = \"mine\"\n[networks.mine]\naggregators = [\"{url}\"]\n\
             publishers = [\"{url}\"]\n[networks.mine.auth]\n{auth}\n"
        )
    };
    let world = world.config(&profile("method = \"api_key\""));
    let output = publish(&world, &[]);
    let output = String::from_utf8(output.stderr).unwrap();
    assert!(output.contains("signed in to mine by oauth"), "{output}");
    let other = "method = \"oauth\"\nissuer = \"https://other.example\"";
    let world = world.config(&profile(other));
    let output = publish(&world, &[]);
    let output = String::from_utf8(output.stderr).unwrap();
    assert!(output.contains("login --network mine"), "{output}");
}
