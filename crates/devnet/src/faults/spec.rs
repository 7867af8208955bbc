//! Syntax of faults: `WORD[=VALUE]`, separated by commas.
//!
//! | condition (default: every request) | |
//! |---|---|
//! | `method=GET` | requests with this method |
//! | `path=/v1/blobs` | requests whose path has this prefix |
//! | `after=N` | not the first N matching requests |
//! | `first=N` | only the first N matching requests |
//! | `flap=M/N` | the first M of every N matching requests: down, up, down, up |
//! | `rate=0.1` | this share of the matching requests, at random |
//!
//! | effect (at least one) | |
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
    condition: FaultCondition,
    effects: FaultEffects<bool>,
}

/// Parse error of a fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs)] // The messages name the fields.
pub enum BadFault {
    #[error(
        "`{0}` is not known; a fault is made of method=, path=, after=, first=, flap=, rate=, \
         status=, retry-after=, put=, delay-ms=, jitter-ms=, bandwidth-mbit=, drip-ms=, \
         wrong-blob, truncate=, cut=, flip, reset, hang"
    )]
    Word(String),
    #[error("`{value}` is no value for `{word}`")]
    Value { word: String, value: String },
    #[error("fault `{0}` has no effect; add for example status=503")]
    NoEffect(String),
}

/// Condition of a fault.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FaultCondition {
    method: Option<Method>,
    path: Option<String>,
    after: u64,
    first: Option<u64>,
    flap: Option<(u64, u64)>,
    pub(super) rate: f64,
}

impl FaultCondition {
    pub(super) fn matches(&self, method: &Method, path: &str) -> bool {
        let named = self.method.as_ref().is_none_or(|named| named == method);
        let begins = self
            .path
            .as_ref()
            .is_none_or(|begin| path.starts_with(begin));
        named && begins
    }

    /// Whether the fault applies to the `number`th matching request.
    pub(super) fn applies_to(&self, number: u64) -> bool {
        let Some(since) = number.checked_sub(self.after) else {
            return false;
        };
        self.first.is_none_or(|first| since < first)
            && self.flap.is_none_or(|(down, of)| since % of < down)
    }
}

/// Effects of a fault. `Random` is the type of the random effects: whether they happen,
/// or the number drawn for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FaultEffects<Random> {
    pub(crate) delay: Duration,
    /// Largest random addition to the delay.
    pub(crate) jitter: Duration,
    /// Megabits a second.
    pub(crate) bandwidth: Option<f64>,
    /// Pause before each byte.
    pub(crate) byte_delay: Option<Duration>,
    pub(crate) wrong_blob: Random,
    pub(crate) hang: bool,
    pub(crate) reset: bool,
    /// Status of the answer, which replaces the operation.
    pub(crate) status: Option<StatusCode>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) put: Option<PutFault>,
    /// Bytes of the body sent, as if it were complete.
    pub(crate) truncate: Option<u64>,
    /// Bytes of the body after which the connection breaks.
    pub(crate) cut: Option<u64>,
    pub(crate) flip: Random,
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

const PUT_FAULTS: [(&str, PutFault); 8] = [
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
    pub(super) fn condition(&self) -> &FaultCondition {
        &self.condition
    }

    pub(super) fn effects(&self) -> &FaultEffects<bool> {
        &self.effects
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
        let mut condition = FaultCondition {
            method: None,
            path: None,
            after: 0,
            first: None,
            flap: None,
            rate: 1.0,
        };
        let mut effects = FaultEffects::default();
        for word in text.split(',').map(str::trim) {
            let (word, value) = match word.split_once('=') {
                Some((word, value)) => (word, Some(value)),
                None => (word, None),
            };
            let parser = FaultOption { word, value };
            match word {
                "method" => condition.method = Some(parser.method()?),
                "path" => condition.path = Some(parser.parsed()?),
                "after" => condition.after = parser.parsed()?,
                "first" => condition.first = Some(parser.parsed()?),
                "flap" => condition.flap = Some(parser.ratio()?),
                "rate" => condition.rate = parser.parsed_if(|rate| (0.0..=1.0).contains(rate))?,
                "status" => effects.status = Some(parser.status()?),
                "retry-after" => effects.retry_after = Some(parser.parsed()?),
                "put" => effects.put = Some(parser.put()?),
                "delay-ms" => effects.delay = Duration::from_millis(parser.parsed()?),
                "jitter-ms" => effects.jitter = Duration::from_millis(parser.parsed()?),
                "bandwidth-mbit" => {
                    effects.bandwidth = Some(parser.parsed_if(|mbit| (1e-6..=1e6).contains(mbit))?)
                }
                "drip-ms" => {
                    effects.byte_delay =
                        Some(Duration::from_millis(parser.parsed_if(|ms| *ms > 0)?))
                }
                "wrong-blob" => effects.wrong_blob = parser.flag()?,
                "truncate" => effects.truncate = Some(parser.parsed()?),
                "cut" => effects.cut = Some(parser.parsed()?),
                "flip" => effects.flip = parser.flag()?,
                "reset" => effects.reset = parser.flag()?,
                "hang" => effects.hang = parser.flag()?,
                _ => return Err(BadFault::Word(word.into())),
            }
        }
        if effects == FaultEffects::default() {
            return Err(BadFault::NoEffect(text.into()));
        }
        Ok(Fault {
            text: text.into(),
            condition,
            effects,
        })
    }
}

/// One word and its value.
struct FaultOption<'a> {
    word: &'a str,
    value: Option<&'a str>,
}

impl FaultOption<'_> {
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

    fn parsed_if<T: FromStr>(&self, fits: impl Fn(&T) -> bool) -> Result<T, BadFault> {
        let parsed = self.parsed()?;
        if fits(&parsed) {
            return Ok(parsed);
        }
        Err(self.bad())
    }

    /// Parses `M/N`, both non-zero.
    fn ratio(&self) -> Result<(u64, u64), BadFault> {
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
        self.parsed_if(|status: &StatusCode| status.as_u16() >= 300)
    }

    fn put(&self) -> Result<PutFault, BadFault> {
        let known = PUT_FAULTS
            .iter()
            .find(|(word, _)| Some(*word) == self.value);
        known.map(|(_, put)| *put).ok_or_else(|| self.bad())
    }

    fn flag(&self) -> Result<bool, BadFault> {
        self.value
            .is_none()
            .then_some(true)
            .ok_or_else(|| self.bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_parses_as_a_fault_or_an_error(text in "([a-z-]{1,14}(=[0-9a-z/.-]{0,8})?,?){0,4}") {
            if let Ok(fault) = text.parse::<Fault>() {
                prop_assert_eq!(fault.to_string(), text);
                for number in [0, 1, u64::MAX] {
                    let _ = fault.condition.applies_to(number);
                }
            }
        }

        #[test]
        fn any_options_parse_as_a_fault_or_an_error(
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
                let _ = fault.condition.applies_to(u64::MAX);
                prop_assert!((0.0..=1.0).contains(&fault.condition.rate));
                prop_assert!(fault.effects.bandwidth.is_none_or(|mbit| mbit > 0.0));
            }
        }
    }

    #[test]
    fn a_fault_is_shown_as_written() {
        let text = "status=503,rate=0.5,path=/v1/blobs,method=get,retry-after=1,first=9";
        let fault: Fault = text.parse().unwrap();
        assert_eq!(fault.to_string(), text);
        assert!(fault.condition.matches(&Method::GET, "/v1/blobs/x"));
        assert!(!fault.condition.matches(&Method::GET, "/v1/quilts"));
        assert!(!fault.condition.matches(&Method::PUT, "/v1/blobs"));
        assert_eq!(fault.effects.status, Some(StatusCode::SERVICE_UNAVAILABLE));
    }

    #[test]
    fn a_fault_applies_to_some_requests() {
        let turns = |text: &str| -> Vec<u64> {
            let fault: Fault = text.parse().unwrap();
            (0..10).filter(|&n| fault.condition.applies_to(n)).collect()
        };
        assert_eq!(turns("hang,after=3,first=2"), [3, 4]);
        assert_eq!(turns("hang,flap=1/4"), [0, 4, 8]);
        assert_eq!(turns("hang,flap=2/3,after=1"), [1, 2, 4, 5, 7, 8]);
    }

    #[test]
    fn errors_name_the_option() {
        for (text, says) in [
            ("", "`` is not known"),
            ("nonsense", "`nonsense` is not known"),
            ("rate=0.5", "has no effect"),
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
