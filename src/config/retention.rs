//! How long content is kept that nothing needs any more: the section
//! `[retention]`.
//!
//! ```toml
//! [retention]
//! default_days = 30              # what no rule says anything about
//!
//! [retention.activity]           # commits, publishes and mounts in the window
//! window_days = 90
//! high = 30                      # so many or more
//! medium = 10
//! low = 1
//!
//! [[retention.rules]]            # the first that fits decides; all that a rule
//! ref = "main"                   # says must be so
//! keep = "forever"
//!
//! [[retention.rules]]
//! path = "assets/**"             # as in a .gitignore
//! class = "image"                # as `analyze` calls it
//! larger_than = 1_000_000        # bytes
//! keep = 90                      # days
//! ```
//!
//! Rules in the file take the place of those that are built in
//! ([`Retention::default`]).

use serde::{Deserialize, Serialize};

/// What `[retention]` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days for what no rule fits.
    pub default_days: u32,
    /// What counts as active.
    pub activity: ActivityLevels,
    /// The rules, in order.
    pub rules: Vec<RetentionRule>,
}

/// From how many commits, publishes and mounts in a window on a repository
/// counts as active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActivityLevels {
    /// How far back they count, in days.
    pub window_days: u32,
    /// So many or more are much.
    pub high: u64,
    /// Some.
    pub medium: u64,
    /// Few.
    pub low: u64,
}

/// How active a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Fewer than [`ActivityLevels::low`].
    None,
    /// Fewer than [`ActivityLevels::medium`].
    Low,
    /// Fewer than [`ActivityLevels::high`].
    Medium,
    /// More.
    High,
}

/// One rule: what it is about, and how long that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionRule {
    /// A class of content, as `analyze` calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How active the repository is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Level>,
    /// Paths, as a line of a `.gitignore` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Branches, and tags as `tags/NAME`, with `*` and `**`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How a file is stored: `inline`, `chunked` or `walrus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Files of more bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub larger_than: Option<u64>,
    /// Files of fewer bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smaller_than: Option<u64>,
    /// How long.
    pub keep: Keep,
}

/// How long something is kept after nothing needs it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Keep {
    /// So many days.
    Days(u32),
    /// Always.
    Forever(Forever),
}

/// The word `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forever {
    /// As long as it is paid for.
    Forever,
}

impl Keep {
    /// Always.
    pub const FOREVER: Keep = Keep::Forever(Forever::Forever);

    /// In seconds; `None` for always.
    pub fn seconds(self) -> Option<u64> {
        match self {
            Keep::Days(days) => Some(u64::from(days) * 24 * 3600),
            Keep::Forever(_) => None,
        }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Keep::Days(30)
    }
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Keep::Days(1) => f.write_str("1 day"),
            Keep::Days(days) => write!(f, "{days} days"),
            Keep::Forever(_) => f.write_str("for ever"),
        }
    }
}

impl Default for ActivityLevels {
    fn default() -> Self {
        ActivityLevels {
            window_days: 90,
            high: 30,
            medium: 10,
            low: 1,
        }
    }
}

impl ActivityLevels {
    /// How active so many events make a repository.
    pub fn level(&self, events: u64) -> Level {
        match events {
            n if n >= self.high => Level::High,
            n if n >= self.medium => Level::Medium,
            n if n >= self.low => Level::Low,
            _ => Level::None,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        let rule = |keep| RetentionRule {
            keep,
            ..RetentionRule::default()
        };
        let of_ref = |name: &str| RetentionRule {
            reference: Some(name.into()),
            ..rule(Keep::FOREVER)
        };
        let of_activity = |level, days| RetentionRule {
            activity: Some(level),
            ..rule(Keep::Days(days))
        };
        Retention {
            default_days: 30,
            activity: ActivityLevels::default(),
            rules: vec![
                of_ref("main"),
                of_ref("tags/**"),
                RetentionRule {
                    class: Some("image".into()),
                    ..rule(Keep::Days(90))
                },
                of_activity(Level::High, 180),
                of_activity(Level::Medium, 90),
                of_activity(Level::Low, 30),
                of_activity(Level::None, 14),
            ],
        }
    }
}
