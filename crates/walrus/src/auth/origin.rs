//! Origin of a URL: the scope of a secret.

use std::fmt;

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Scheme, host and port: the parts of a URL that determine the receiver of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin(String);

impl Origin {
    /// Returns the origin of a URL.
    pub fn of(url: &Url) -> Self {
        Origin(url.origin().ascii_serialization())
    }

    /// Parses a URL and returns its origin.
    pub fn parse(url: &str) -> Option<Self> {
        Url::parse(url).ok().map(|url| Origin::of(&url))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a request to this URL is confidential: it is encrypted, or does not leave the
/// machine.
pub fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// Whether the host of a URL is this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_encrypted_or_local_origins_are_private() {
        for (url, private) in [
            ("https://publisher.example/x", true),
            ("http://127.0.0.1:31415/", true),
            ("http://[::1]:1/", true),
            ("http://localhost/", true),
            ("http://publisher.example/", false),
            ("http://localhost.example/", false),
            ("http://127.0.0.1.example/", false),
            ("http://10.0.0.1/", false),
            ("ftp://127.0.0.1/", false),
        ] {
            assert_eq!(is_private(&Url::parse(url).unwrap()), private, "{url}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a, b| Origin::parse(a) == Origin::parse(b);
        assert!(same("https://a.example", "https://A.example:443/deep/path"));
        for other in [
            "http://a.example",
            "https://a.example:8443",
            "https://b.example",
        ] {
            assert!(!same("https://a.example", other), "{other}");
        }
    }
}
