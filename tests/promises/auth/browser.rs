//! A browser with the features that signing in needs: it follows redirects and submits
//! forms.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, Url};

use super::http;
use crate::support::{World, block_on, eventually};

/// A loaded page.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) url: Url,
    pub(super) text: String,
}

pub(super) struct Browser(Client);

impl Browser {
    pub(super) fn new() -> Self {
        Browser(http())
    }

    /// Loads a page and follows redirects.
    pub(super) async fn load(&self, url: &Url) -> Page {
        let response = self.0.get(url.clone()).send().await.unwrap();
        self.follow(url, response).await
    }

    async fn follow(&self, url: &Url, mut response: Response) -> Page {
        let mut url = url.clone();
        while response.status().is_redirection() {
            let to = response.headers()[LOCATION].to_str().unwrap();
            url = url.join(to).unwrap();
            response = self.0.get(url.clone()).send().await.unwrap();
        }
        Page {
            status: response.status().as_u16(),
            url,
            text: response.text().await.unwrap(),
        }
    }

    /// Submits the form of a page without following redirects.
    pub(super) async fn submit(&self, page: &Page, user: &str, decision: &str) -> Response {
        let after = |text: &str, mark: &str| -> String {
            let at = text.find(mark).unwrap_or_else(|| panic!("{mark}: {text}"));
            let rest = &text[at + mark.len()..];
            rest[..rest.find('"').unwrap()].to_owned()
        };
        let action = after(&page.text, "method=\"post\" action=\"");
        let hidden = &page.text[page.text.find("type=\"hidden\"").unwrap()..];
        let [name, value] = ["name=\"", "value=\""].map(|mark| after(hidden, mark));
        let mut form = Url::parse("form:").unwrap();
        form.query_pairs_mut()
            .append_pair(&name, &value)
            .append_pair("user", user)
            .append_pair("decision", decision);
        self.0
            .post(page.url.join(&action).unwrap())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.query().unwrap().to_owned())
            .send()
            .await
            .unwrap()
    }

    /// Grants or denies consent on the page at `url`, and follows redirects.
    pub(super) async fn decide(&self, url: &Url, user: &str, decision: &str) -> Page {
        let page = self.load(url).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let response = self.submit(&page, user, decision).await;
        self.follow(&page.url, response).await
    }
}

/// A `login` that waits for its user.
pub(super) struct Login {
    child: Child,
    /// The URL that the user has to open.
    pub(super) url: Url,
    output: String,
}

impl Login {
    /// With a browser.
    pub(super) fn in_browser(world: &World) -> Self {
        let page = world.path().join("opened");
        let script = world.path().join("browser");
        let text = format!(
            "#!/bin/sh\nprintf %s \"$1\" > '{0}.new' && mv '{0}.new' '{0}'\n",
            page.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        let _ = fs::remove_file(&page);
        let mut command = world.command(&["login"]);
        let child = spawn(&mut command, script.as_os_str());
        eventually("the browser is opened", || page.exists());
        let url = fs::read_to_string(&page).unwrap().parse().unwrap();
        Login {
            child,
            url,
            output: String::new(),
        }
    }

    /// Without a browser: the user enters the code on another device.
    pub(super) fn on_another_device(world: &World, args: &[&str]) -> Self {
        let mut command = world.command(args);
        let mut child = spawn(&mut command, OsStr::new(""));
        let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
        let mut output = String::new();
        let url = loop {
            let line = lines.next().expect("the login prints a URL").unwrap();
            output.push_str(&line);
            if let Ok(url) = line.trim().parse::<Url>()
                && url.query().is_some()
            {
                break url;
            }
        };
        Login { child, url, output }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit code and its complete output.
    pub(super) fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut output = std::mem::take(&mut self.output);
        if let Some(mut out) = self.child.stdout.take() {
            out.read_to_string(&mut output).unwrap();
        }
        if let Some(mut err) = self.child.stderr.take() {
            err.read_to_string(&mut output).unwrap();
        }
        (status.code(), output)
    }
}

/// Signs in as `name` in the browser.
pub(super) fn sign_in(world: &World, name: &str) {
    let login = Login::in_browser(world);
    let page = block_on(Browser::new().decide(&login.url, name, "allow"));
    assert_eq!(page.status, 200, "{}", page.text);
    let (code, output) = login.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains(&format!("signed in to mine as {name}")),
        "{output}"
    );
}

/// Runs a command without a display and with this browser.
fn spawn(command: &mut Command, browser: &OsStr) -> Child {
    command
        .env("BROWSER", browser)
        .env("DISPLAY", "")
        .env("WAYLAND_DISPLAY", "")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}
