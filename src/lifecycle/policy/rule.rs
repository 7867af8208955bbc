//! A single retention rule.

use std::fmt;

use gix::bstr::{BStr, ByteSlice as _};
use gix::glob::Pattern;
use gix::glob::pattern::Case;
use gix::glob::wildmatch::Mode;
use serde::Serialize;

use crate::config::{Keep, Level, RetentionRule};

/// Content classes as reported by `analyze`.
const CLASSES: [&str; 7] = [
    "unknown",
    "binary",
    "text",
    "structured",
    "image",
    "archive",
    "code",
];
const TIERS: [&str; 3] = ["inline", "chunked", "walrus"];

/// Properties of some content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts<'a> {
    /// Path in the tree.
    pub path: &'a [u8],
    /// Class as reported by `analyze`.
    pub class: &'a str,
    /// Length in bytes.
    pub size: u64,
    /// Storage tier: `inline`, `chunked`, `walrus`.
    pub tier: &'a str,
    /// Branches, and tags as `tags/NAME`, that last referred to the content.
    pub refs: &'a [String],
    /// Activity level of the repository; `None` if unknown.
    pub activity: Option<Level>,
}

/// An invalid rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("retention rule {number}: {why}")]
pub struct InvalidRule {
    /// Number of the rule, from 1.
    pub number: usize,
    /// The reason.
    pub why: String,
}

/// A valid rule.
#[derive(Clone, Debug)]
pub struct Rule {
    settings: RetentionRule,
    path: Option<Pattern>,
}

impl Rule {
    pub(super) fn of(settings: &RetentionRule) -> Result<Self, String> {
        let known = |what: &str, value: &Option<String>, known: &[&str]| match value {
            Some(value) if !known.contains(&value.as_str()) => Err(format!(
                "there is no {what} `{value}`; there are: {}",
                known.join(", ")
            )),
            _ => Ok(()),
        };
        known("class", &settings.class, &CLASSES)?;
        known("tier", &settings.tier, &TIERS)?;
        if let (Some(above), Some(below)) = (settings.larger_than, settings.smaller_than)
            && above.saturating_add(1) >= below
        {
            return Err(format!(
                "no file is larger than {above} and smaller than {below} bytes"
            ));
        }
        if settings.reference.as_deref() == Some("") {
            return Err("`ref` is empty".into());
        }
        let path = match &settings.path {
            None => None,
            Some(text) if text.starts_with('!') => {
                return Err(format!(
                    "path `{text}`: a rule cannot exclude paths with `!`"
                ));
            }
            Some(text) => {
                let pattern = Pattern::from_bytes(text.as_bytes());
                Some(pattern.ok_or_else(|| format!("path `{text}` matches nothing"))?)
            }
        };
        Ok(Rule {
            settings: settings.clone(),
            path,
        })
    }

    /// Returns how long matching content is kept.
    pub fn keep(&self) -> Keep {
        self.settings.keep
    }

    /// Whether the rule matches this content.
    pub fn fits(&self, facts: &Facts<'_>) -> bool {
        let settings = &self.settings;
        settings.class.as_deref().is_none_or(|it| it == facts.class)
            && settings.tier.as_deref().is_none_or(|it| it == facts.tier)
            && settings.larger_than.is_none_or(|it| facts.size > it)
            && settings.smaller_than.is_none_or(|it| facts.size < it)
            && settings
                .activity
                .is_none_or(|it| facts.activity == Some(it))
            && (settings.reference.as_deref())
                .is_none_or(|glob| facts.refs.iter().any(|name| ref_fits(glob, name)))
            && self
                .path
                .as_ref()
                .is_none_or(|it| path_fits(it, facts.path))
    }

    /// Whether the rule certainly matches everything that `other` matches.
    pub(super) fn covers(&self, other: &Rule) -> bool {
        fn wider<T: PartialEq>(mine: &Option<T>, others: &Option<T>) -> bool {
            mine.is_none() || mine == others
        }
        let (mine, others) = (&self.settings, &other.settings);
        wider(&mine.class, &others.class)
            && wider(&mine.tier, &others.tier)
            && wider(&mine.activity, &others.activity)
            && wider(&mine.path, &others.path)
            && wider(&mine.reference, &others.reference)
            && mine
                .larger_than
                .is_none_or(|it| others.larger_than.is_some_and(|other| other >= it))
            && mine
                .smaller_than
                .is_none_or(|it| others.smaller_than.is_some_and(|other| other <= it))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        let mut parts = Vec::new();
        let mut part = |name: &str, value: Option<String>| {
            parts.extend(value.map(|value| format!("{name} {value}")));
        };
        part("ref", settings.reference.clone());
        part("class", settings.class.clone());
        part("path", settings.path.clone());
        let activity = settings.activity.map(|it| format!("{it:?}").to_lowercase());
        part("activity", activity);
        part("tier", settings.tier.clone());
        part("larger than", settings.larger_than.map(|it| it.to_string()));
        part(
            "smaller than",
            settings.smaller_than.map(|it| it.to_string()),
        );
        if parts.is_empty() {
            return f.write_str("everything");
        }
        f.write_str(&parts.join(", "))
    }
}

fn path_fits(pattern: &Pattern, path: &[u8]) -> bool {
    let base = path.rfind_byte(b'/').map(|at| at + 1);
    let mode = Mode::NO_MATCH_SLASH_LITERAL;
    let fits = |path: &[u8], base, is_dir| {
        pattern.matches_repo_relative_path(
            BStr::new(path),
            base,
            Some(is_dir),
            Case::Sensitive,
            mode,
        )
    };
    // A matching directory includes everything in it.
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut above = above.map(|(at, _)| &path[..at]);
    fits(path, base, false)
        || above.any(|dir| fits(dir, dir.rfind_byte(b'/').map(|at| at + 1), true))
}

fn ref_fits(glob: &str, name: &str) -> bool {
    let mode = Mode::NO_MATCH_SLASH_LITERAL;
    gix::glob::wildmatch(BStr::new(glob), BStr::new(name), mode)
}
