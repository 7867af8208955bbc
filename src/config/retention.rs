//! Retention of unreferenced content: the section `[retention]`.
//!
//! Rules in the file replace the built-in ones ([`Retention::default`]).

use serde::{Deserialize, Serialize};

/// Section `[retention]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days to retain content that matches no rule.
    pub default_days: u32,
    /// Thresholds of activity.
    pub activity: ActivityLevels,
    /// The rules, in order of precedence.
    pub rules: Vec<RetentionRule>,
}

/// Thresholds of repository activity: the number of commits, publishes and mounts in a
/// time window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActivityLevels {
    /// Length of the window, in days.
    pub window_days: u32,
    /// Minimum for high activity.
    pub high: u64,
    /// Minimum for medium activity.
    pub medium: u64,
    /// Minimum for low activity.
    pub low: u64,
}

/// Activity level of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Fewer than [`ActivityLevels::low`].
    None,
    /// Fewer than [`ActivityLevels::medium`].
    Low,
    /// Fewer than [`ActivityLevels::high`].
    Medium,
    /// [`ActivityLevels::high`] or more.
    High,
}

/// A rule: its conditions, and how long matching content is retained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionRule {
    /// Content class, as in `analyze`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Activity level of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<Level>,
    /// Paths, as a `.gitignore` pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Branches, and tags as `tags/NAME`; supports `*` and `**`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Tier of a file: `inline`, `chunked` or `walrus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Files larger than this, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub larger_than: Option<u64>,
    /// Files smaller than this, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smaller_than: Option<u64>,
    /// Retention time.
    pub keep: Keep,
}

/// How long content is retained once it is unreferenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Keep {
    /// This many days.
    Days(u32),
    /// Forever.
    Forever(Forever),
}

/// The word `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forever {
    /// Until its storage expires.
    Forever,
}

impl Keep {
    /// Forever.
    pub const FOREVER: Keep = Keep::Forever(Forever::Forever);

    /// The time in seconds; `None` means forever.
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
            Keep::Forever(_) => f.write_str("forever"),
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
    /// Activity level for a number of events.
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
