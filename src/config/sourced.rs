//! Values and their origins.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Origin of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingOrigin {
    /// Not set.
    Default,
    /// The config file.
    File,
    /// An environment variable.
    Environment,
    /// A flag.
    Flag,
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SettingOrigin::Default => "default",
            SettingOrigin::File => "config file",
            SettingOrigin::Environment => "environment",
            SettingOrigin::Flag => "flag",
        })
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The effective value.
    pub value: T,
    /// Its origin.
    pub origin: SettingOrigin,
}

impl<T> Sourced<T> {
    /// The value in the config file, or the default.
    pub(super) fn from_file(value: Option<T>, default: T) -> Self {
        match value {
            Some(value) => Sourced {
                value,
                origin: SettingOrigin::File,
            },
            None => Sourced {
                value: default,
                origin: SettingOrigin::Default,
            },
        }
    }
}
