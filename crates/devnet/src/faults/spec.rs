//! Syntax of faults: `WORD[=VALUE]`, separated by commas.
//!
//! | when (default: every request) | |
//! |---|---|
//! | `method=GET` | requests with this method |
//! | `path=/v1/blobs` | requests whose path has this prefix |
//! | `after=N` | not the first N matching requests |
//! | `first=N` | only the first N matching requests |
//! | `flap=M/N` | the first M of every N matching requests: down, up, down, up |
//! | `rate=0.1` | this share of the matching requests, at random |
//!
//! | what (at least one) | |
//! |---|---|
//! | `status=503` | this status, with the network's error message |
//! | `retry-after=1` | with this header, in seconds |
//! | `put=WORD` | a PUT is answered 200 with `marked-invalid`, `error` or `error-early` (before there was an ID); or it stores, but is not yet certified (`uncertified`), or reports the storage operation `reuse-storage`, `reuse-registration`, `reuse-and-extend`, `reuse-and-extend-non-certified` |
//! | `delay-ms=N` | delay of N ms before any effect |
//! | `jitter-ms=N` | random additional delay of up to N ms |
//! | `bandwidth-mbit=N` | bandwidth limit of the body in both directions |
//! | `drip-ms=N` | slow-loris: N ms before every byte of the answer, including headers |
//! | `wrong-blob` | the bytes of another blob, if there is one |
//! | `truncate=N` | only the first N bytes, as if the answer were complete |
//! | `cut=N` | the connection ends after N bytes of the body |
//! | `flip` | one bit of the body is flipped |
//! | `reset` | the connection is reset instead of an answer |
//! | `hang` | no answer, and the connection stays open |

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::http::{Method, StatusCode};

/// A fault: its condition and its effects.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    text: String,
    when: When,
    what: Effects<bool>,
}

/// Parse error of a fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadFault {
    /// Unknown word.
    #[error(
        "`{0}` is not known; a fault is made of method=, path=, after=, first=, flap=, rate=, \
         status=, retry-after=, put=, delay-ms=, jitter-ms=, bandwidth-mbit=, drip-ms=, \
         wrong-blob, truncate=, cut=, flip, reset, hang"
    )]
    Word(String),
    /// Invalid value of a known word.
    #[error("`{value}` is no value for `{word}`")]
    Value {
        /// The word.
        word: String,
        /// The invalid value.
        value: String,
    },
    /// The fault has a condition but no effect.
    #[error("`{0}` says nothing that goes wrong; add status=503, say")]
    Nothing(String),
}

/// Condition of a fault.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct When {
    method: Option<Method>,
    path: Option<String>,
    after: u64,
    first: Option<u64>,
    flap: Option<(u64, u64)>,
    pub(super) rate: f64,
}

impl When {
    pub(super) fn matches(&self, method: &Method, path: &str) -> bool {
        let named = self.method.as_ref().is_none_or(|named| named == method);
        let begins = self
            .path
            .as_ref()
            .is_none_or(|begin| path.starts_with(begin));
        named && begins
    }

    /// Whether the fault applies to the `number`th matching request.
    pub(super) fn counts(&self, number: u64) -> bool {
        let Some(since) = number.checked_sub(self.after) else {
            return false;
        };
        self.first.is_none_or(|first| since < first)
            && self.flap.is_none_or(|(down, of)| since % of < down)
    }
}

/// Effects of a fault. `Chance` is the type of the random effects: whether they happen,
/// or the number drawn for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Effects<Chance> {
    pub(in super::super) delay: Duration,
    /// Largest random addition to the delay.
    pub(in super::super) jitter: Duration,
    /// Megabits a second.
    pub(in super::super) bandwidth: Option<f64>,
    /// Pause before each byte.
    pub(in super::super) drip: Option<Duration>,
    pub(in super::super) wrong_blob: Chance,
    pub(in super::super) hang: bool,
    pub(in super::super) reset: bool,
    /// Status of the answer, which replaces the operation.
    pub(in super::super) status: Option<StatusCode>,
    pub(in super::super) retry_after: Option<u64>,
    pub(in super::super) put: Option<PutFault>,
    /// Bytes of the body sent, as if it were complete.
    pub(in super::super) truncate: Option<u64>,
    /// Bytes of the body after which the connection breaks.
    pub(in super::super) cut: Option<u64>,
    pub(in super::super) flip: Chance,
}

/// Answer of a publisher that a directory would never return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutFault {
    /// The network knows the blob and rejects it.
    MarkedInvalid,
    /// Failure during certification.
    Error,
    /// Failure before the blob had an ID.
    ErrorEarly,
    /// Stored, and not yet certified.
    Uncertified,
    /// Stored, with this storage operation.
    Operation(&'static str),
}

const PUTS: [(&str, PutFault); 8] = [
    ("marked-invalid", PutFault::MarkedInvalid),
    ("error", PutFault::Error),
    ("error-early", PutFault::ErrorEarly),
    ("uncertified", PutFault::Uncertified),
    ("reuse-storage", PutFault::Operation("reuseStorage")),
    (
        "reuse-registration",
        PutFault::Operation("reuseRegistration"),
    ),
    ("reuse-and-extend", PutFault::Operation("reuseAndExtend")),
    (
        "reuse-and-extend-non-certified",
        PutFault::Operation("reuseAndExtendNonCertified"),
    ),
];

impl Fault {
    pub(super) fn when(&self) -> &When {
        &self.when
    }

    pub(super) fn what(&self) -> &Effects<bool> {
        &self.what
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let mut when = When {
            method: None,
            path: None,
            after: 0,
            first: None,
            flap: None,
            rate: 1.0,
        };
        let mut what = Effects::default();
        for word in text.split(',').map(str::trim) {
            let (word, value) = match word.split_once('=') {
                Some((word, value)) => (word, Some(value)),
                None => (word, None),
            };
            let read = Read { word, value };
            match word {
                "method" => when.method = Some(read.method()?),
                "path" => when.path = Some(read.parsed()?),
                "after" => when.after = read.parsed()?,
                "first" => when.first = Some(read.parsed()?),
                "flap" => when.flap = Some(read.part_of()?),
                "rate" => when.rate = read.that(|rate| (0.0..=1.0).contains(rate))?,
                "status" => what.status = Some(read.status()?),
                "retry-after" => what.retry_after = Some(read.parsed()?),
                "put" => what.put = Some(read.put()?),
                "delay-ms" => what.delay = Duration::from_millis(read.parsed()?),
                "jitter-ms" => what.jitter = Duration::from_millis(read.parsed()?),
                "bandwidth-mbit" => {
                    what.bandwidth = Some(read.that(|mbit| (1e-6..=1e6).contains(mbit))?)
                }
                "drip-ms" => what.drip = Some(Duration::from_millis(read.that(|ms| *ms > 0)?)),
                "wrong-blob" => what.wrong_blob = read.alone()?,
                "truncate" => what.truncate = Some(read.parsed()?),
                "cut" => what.cut = Some(read.parsed()?),
                "flip" => what.flip = read.alone()?,
                "reset" => what.reset = read.alone()?,
                "hang" => what.hang = read.alone()?,
                _ => return Err(BadFault::Word(word.into())),
            }
        }
        if what == Effects::default() {
            return Err(BadFault::Nothing(text.into()));
        }
        Ok(Fault {
            text: text.into(),
            when,
            what,
        })
    }
}

/// One word and its value.
struct Read<'a> {
    word: &'a str,
    value: Option<&'a str>,
}

impl Read<'_> {
    fn bad(&self) -> BadFault {
        BadFault::Value {
            word: self.word.into(),
            value: self.value.unwrap_or_default().into(),
        }
    }

    fn parsed<T: FromStr>(&self) -> Result<T, BadFault> {
        let value = self.value.filter(|value| !value.is_empty());
        let parsed = value.and_then(|value| value.parse().ok());
        parsed.ok_or_else(|| self.bad())
    }

    fn that<T: FromStr>(&self, fits: impl Fn(&T) -> bool) -> Result<T, BadFault> {
        let parsed = self.parsed()?;
        match fits(&parsed) {
            true => Ok(parsed),
            false => Err(self.bad()),
        }
    }

    /// Parses `M/N`, both non-zero.
    fn part_of(&self) -> Result<(u64, u64), BadFault> {
        let both = self.value.and_then(|value| value.split_once('/'));
        let both = both.and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        let both = both.filter(|&(part, of)| 0 < part && part <= of);
        both.ok_or_else(|| self.bad())
    }

    fn method(&self) -> Result<Method, BadFault> {
        let value = self.value.unwrap_or_default().to_ascii_uppercase();
        value.parse().map_err(|_| self.bad())
    }

    fn status(&self) -> Result<StatusCode, BadFault> {
        self.that(|status: &StatusCode| status.as_u16() >= 300)
    }

    fn put(&self) -> Result<PutFault, BadFault> {
        let known = PUTS.iter().find(|(word, _)| Some(*word) == self.value);
        known.map(|(_, put)| *put).ok_or_else(|| self.bad())
    }

    fn alone(&self) -> Result<bool, BadFault> {
        match self.value {
            None => Ok(true),
            Some(_) => Err(self.bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_a_fault_or_a_mistake(text in "([a-z-]{1,14}(=[0-9a-z/.-]{0,8})?,?){0,4}") {
            if let Ok(fault) = text.parse::<Fault>() {
                prop_assert_eq!(fault.to_string(), text);
                for number in [0, 1, u64::MAX] {
                    let _ = fault.when.counts(number);
                }
            }
        }

        #[test]
        fn any_words_of_the_language_are_a_fault_or_a_mistake(
            words in proptest::collection::vec(0usize..16, 1..5),
            value in "[0-9]{0,20}(/[0-9]{0,20})?|-1|1e9|0[.]5|NaN|inf",
        ) {
            const WORDS: [&str; 16] = [
                "method", "path", "after", "first", "flap", "rate", "status", "retry-after",
                "delay-ms", "jitter-ms", "bandwidth-mbit", "drip-ms", "truncate", "cut", "flip",
                "hang",
            ];
            let text: Vec<_> = words.iter().map(|&word| format!("{}={value}", WORDS[word])).collect();
            if let Ok(fault) = text.join(",").parse::<Fault>() {
                let _ = fault.when.counts(u64::MAX);
                prop_assert!((0.0..=1.0).contains(&fault.when.rate));
                prop_assert!(fault.what.bandwidth.is_none_or(|mbit| mbit > 0.0));
            }
        }
    }

    #[test]
    fn a_fault_reads_as_it_is_written() {
        let text = "status=503,rate=0.5,path=/v1/blobs,method=get,retry-after=1,first=9";
        let fault: Fault = text.parse().unwrap();
        assert_eq!(fault.to_string(), text);
        assert!(fault.when.matches(&Method::GET, "/v1/blobs/x"));
        assert!(!fault.when.matches(&Method::GET, "/v1/quilts"));
        assert!(!fault.when.matches(&Method::PUT, "/v1/blobs"));
        assert_eq!(fault.what.status, Some(StatusCode::SERVICE_UNAVAILABLE));
    }

    #[test]
    fn a_fault_has_its_turns() {
        let turns = |text: &str| -> Vec<u64> {
            let fault: Fault = text.parse().unwrap();
            (0..10).filter(|&n| fault.when.counts(n)).collect()
        };
        assert_eq!(turns("hang,after=3,first=2"), [3, 4]);
        assert_eq!(turns("hang,flap=1/4"), [0, 4, 8]);
        assert_eq!(turns("hang,flap=2/3,after=1"), [1, 2, 4, 5, 7, 8]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("", "`` is not known"),
            ("nonsense", "`nonsense` is not known"),
            ("rate=0.5", "says nothing"),
            ("status=503,rate=2", "`2` is no value for `rate`"),
            ("status=200", "`200` is no value for `status`"),
            ("status=x", "`x` is no value for `status`"),
            ("status=429,flap=3", "`3` is no value for `flap`"),
            ("status=429,flap=3/2", "`3/2` is no value for `flap`"),
            ("status=429,flap=1/0", "`1/0` is no value for `flap`"),
            ("bandwidth-mbit=0", "`0` is no value for `bandwidth-mbit`"),
            ("drip-ms=0", "`0` is no value for `drip-ms`"),
            ("put=nonsense", "`nonsense` is no value for `put`"),
            ("hang=1", "`1` is no value for `hang`"),
            ("truncate", "`` is no value for `truncate`"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
