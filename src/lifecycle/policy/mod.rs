//! Retention policy: how long unneeded content is kept.
//!
//! Rules are ordered, and the first match decides; if none matches, a default applies.
//! Rules apply only to unneeded content: content of a live head is kept without
//! consulting them ([`crate::maintenance::gc`]). The time counts from when the content became
//! unneeded.
//!
//! A rule about a branch or tag matches the last target of that ref, in the newest head
//! of its name that has it: so a tag that a later publish omits still protects its
//! target.

mod rule;

pub use rule::{Facts, InvalidRule, Rule};

use std::path::PathBuf;

use serde::Serialize;

use crate::config::{Keep, Retention, Settings};

/// Decision of a policy about some content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RetentionDecision {
    /// The rule that decided, from 0; `None` for the default.
    pub rule: Option<usize>,
    /// How long the content is kept.
    pub keep: Keep,
}

/// The retention rules of a config file are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("config file {}: {}", file.display(), list(rules))]
pub struct PolicyError {
    file: PathBuf,
    rules: Vec<InvalidRule>,
}

fn list(rules: &[InvalidRule]) -> String {
    let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
    rules.join("; ")
}

/// Ordered retention rules.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    default: Keep,
}

impl Policy {
    /// Creates the policy of `[retention]`.
    ///
    /// # Errors
    /// Lists every invalid rule.
    pub fn of(retention: &Retention) -> Result<Self, Vec<InvalidRule>> {
        let compiled = retention.rules.iter().enumerate().map(|(at, rule)| {
            let compiled = Rule::of(rule);
            compiled.map_err(|why| InvalidRule {
                number: at + 1,
                why,
            })
        });
        let (mut rules, mut bad) = (Vec::new(), Vec::new());
        for rule in compiled {
            match rule {
                Ok(rule) => rules.push(rule),
                Err(why) => bad.push(why),
            }
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        Ok(Policy {
            rules,
            default: Keep::Days(retention.default_days),
        })
    }

    /// Returns the policy in force.
    pub fn in_force(settings: &Settings) -> Result<Self, PolicyError> {
        let file = settings.file.clone();
        Policy::of(&settings.retention.value).map_err(|rules| PolicyError { file, rules })
    }

    /// Returns the rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Decides how long some content is kept.
    pub fn decide(&self, facts: &Facts<'_>) -> RetentionDecision {
        let rule = self.rules.iter().position(|rule| rule.fits(facts));
        let keep = rule.map_or(self.default, |at| self.rules[at].keep());
        RetentionDecision { rule, keep }
    }

    /// Returns rules that never decide, because an earlier rule matches everything that
    /// they match: their numbers, from 1, with those of the earlier rules.
    pub fn shadowed(&self) -> Vec<(usize, usize)> {
        let covered = |at: usize| {
            let before = &self.rules[..at];
            let by = before.iter().position(|it| it.covers(&self.rules[at]))?;
            Some((at + 1, by + 1))
        };
        (0..self.rules.len()).filter_map(covered).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Level, RetentionRule};

    fn facts<'a>(path: &'a str, class: &'a str) -> Facts<'a> {
        Facts {
            path: path.as_bytes(),
            class,
            size: 1000,
            tier: "chunked",
            refs: &[],
            activity: Some(Level::Low),
        }
    }

    fn rule(change: impl FnOnce(&mut RetentionRule), keep: u32) -> RetentionRule {
        let mut rule = RetentionRule {
            keep: Keep::Days(keep),
            ..RetentionRule::default()
        };
        change(&mut rule);
        rule
    }

    fn policy(rules: Vec<RetentionRule>) -> Policy {
        let retention = Retention {
            rules,
            ..Retention::default()
        };
        Policy::of(&retention).unwrap()
    }

    #[test]
    fn built_in_rules_keep_main_and_tags_forever_images_90_days_and_others_by_activity() {
        let policy = Policy::of(&Retention::default()).unwrap();
        let days = |facts: &Facts<'_>| policy.decide(facts).keep;
        assert_eq!(days(&facts("a/b.png", "image")), Keep::Days(90));
        for (level, expected) in [
            (Some(Level::High), 180),
            (Some(Level::Medium), 90),
            (Some(Level::Low), 30),
            (Some(Level::None), 14),
            (None, 30),
        ] {
            let one = Facts {
                activity: level,
                ..facts("a.rs", "code")
            };
            assert_eq!(days(&one), Keep::Days(expected), "{level:?}");
        }
        for name in ["main", "tags/v1", "tags/release/2"] {
            let refs = [name.to_owned()];
            let one = Facts {
                refs: &refs,
                ..facts("a.png", "image")
            };
            assert_eq!(days(&one), Keep::FOREVER, "{name}");
        }
        let refs = ["mainly".to_owned()];
        let one = Facts {
            refs: &refs,
            ..facts("a.png", "image")
        };
        assert_eq!(days(&one), Keep::Days(90));
        assert!(policy.shadowed().is_empty());
    }

    #[test]
    fn the_first_rule_whose_conditions_all_match_decides() {
        let policy = policy(vec![
            rule(
                |it| {
                    it.path = Some("assets/**".into());
                    it.larger_than = Some(500);
                    it.tier = Some("chunked".into());
                },
                1,
            ),
            rule(|it| it.path = Some("*.rs".into()), 2),
            rule(|it| it.smaller_than = Some(2000), 3),
        ]);
        let decided = |path: &str| policy.decide(&facts(path, "code")).rule;
        assert_eq!(decided("assets/x/y.rs"), Some(0));
        assert_eq!(decided("x/y.rs"), Some(1));
        assert_eq!(decided("x/assets/y"), Some(2));
        let small = Facts {
            size: 500,
            ..facts("assets/y", "code")
        };
        assert_eq!(policy.decide(&small).rule, Some(2));
        let large = Facts {
            size: 2000,
            ..facts("y", "code")
        };
        let decision = policy.decide(&large);
        assert_eq!((decision.rule, decision.keep), (None, Keep::Days(30)));
    }

    #[test]
    fn an_unreachable_rule_is_detected() {
        let policy = policy(vec![
            rule(|it| it.class = Some("image".into()), 1),
            rule(
                |it| {
                    it.class = Some("image".into());
                    it.larger_than = Some(9);
                },
                2,
            ),
            rule(|_| {}, 3),
            rule(|it| it.class = Some("code".into()), 4),
        ]);
        assert_eq!(policy.shadowed(), [(2, 1), (4, 3)]);
    }

    #[test]
    fn contradictory_rules_are_refused_by_number() {
        let bad = [
            rule(|it| it.class = Some("picture".into()), 1),
            rule(|it| it.tier = Some("cloud".into()), 1),
            rule(|it| it.path = Some(String::new()), 1),
            rule(|it| it.path = Some("!a".into()), 1),
            rule(
                |it| {
                    it.larger_than = Some(5);
                    it.smaller_than = Some(5);
                },
                1,
            ),
        ];
        for (at, one) in bad.into_iter().enumerate() {
            let mut rules = vec![rule(|_| {}, 1); at];
            rules.push(one);
            let retention = Retention {
                rules,
                ..Retention::default()
            };
            let found = Policy::of(&retention).unwrap_err();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].number, at + 1, "{found:?}");
        }
    }
}
