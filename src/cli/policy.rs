//! `policy`: rules for how long unneeded content is retained.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Keys;
use super::context::Context;
use super::session::Session;
use super::{explain, output};
use crate::config::{Level, Settings, Sourced};
use crate::lifecycle::policy::{Facts, Policy, RetentionDecision};
use crate::lifecycle::{Activity, Ledger};
use crate::publish::analyze::Class;
use crate::repo::{Node, Repository};
use walgit_format::{Address, RefKind};

/// Show, check and explain the retention of unreferenced content
///
/// Rules are in the config file ([[retention.rules]]); the first match decides. Content
/// that the head of a name needs is always kept.
#[derive(Debug, Args)]
pub(super) struct PolicyCommand {
    #[command(subcommand)]
    action: PolicyAction,
}

#[derive(Debug, Subcommand)]
enum PolicyAction {
    /// List the rules in order
    Show,
    /// Report invalid rules, and rules that never match
    Check,
    /// Show which rule applies to a file, and why
    Explain {
        /// Path of a file in its tree; need not exist
        path: String,
        /// Repository of the file, to match by its size, references and activity as well
        #[arg(long, value_name = "ADDRESS")]
        of: Option<Address>,
        #[command(flatten)]
        keys: Keys,
    },
}

impl PolicyCommand {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let settings = context.settings()?;
        match self.action {
            PolicyAction::Show => show(context, &settings)?,
            PolicyAction::Check => return check(context, &settings),
            PolicyAction::Explain { path, of, keys } => {
                explain(context, &settings, &path, of.as_ref(), &keys)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(context: &Context, settings: &Settings) -> Result<()> {
    let policy = Policy::in_force(settings)?;
    let Sourced { value, origin } = &settings.retention;
    let report = json!({
        "origin": origin,
        "rules": value.rules,
        "default_days": value.default_days,
        "activity": value.activity,
    });
    context.report(&report, || {
        outln!("needed by the head of a name: always kept")?;
        let rules = policy.rules().iter().enumerate();
        let rows = rules.map(|(at, rule)| {
            [(at + 1).to_string(), rule.to_string(), rule.keep().to_string()]
        });
        let days = format!("{} days", value.default_days);
        output::table(rows.chain([["-".into(), "anything else".into(), days]]))?;
        let levels = value.activity;
        outln!(
            "activity: commits, publishes and mounts in {} days; high from {}, medium from {}, low from {}",
            levels.window_days,
            levels.high,
            levels.medium,
            levels.low
        )?;
        outln!("({origin})")
    })
}

fn check(context: &Context, settings: &Settings) -> Result<ExitCode> {
    let retention = &settings.retention.value;
    let (bad, shadowed) = match Policy::of(retention) {
        Ok(policy) => (Vec::new(), policy.shadowed()),
        Err(bad) => (bad, Vec::new()),
    };
    let levels = retention.activity;
    let rising = levels.low <= levels.medium && levels.medium <= levels.high;
    let ok = bad.is_empty() && shadowed.is_empty() && rising;
    let pairs = shadowed.iter();
    let report = json!({
        "ok": ok,
        "bad": bad,
        "shadowed": pairs.map(|(rule, by)| json!({"rule": rule, "by": by})).collect::<Vec<_>>(),
        "activity_rises": rising,
    });
    context.report(&report, || {
        for bad in &bad {
            output::line(&bad.to_string())?;
        }
        for (rule, by) in &shadowed {
            outln!(
                "retention rule {rule} never decides: rule {by} matches everything that it \
                 matches; put it before that rule, or remove it"
            )?;
        }
        if !rising {
            outln!("retention.activity: low, medium and high must not decrease")?;
        }
        if ok {
            outln!("{} rules, no problems", retention.rules.len())?;
        }
        Ok(())
    })?;
    Ok(output::exit_code(ok))
}

/// Properties of a file in a repository.
#[derive(Default)]
struct FileInRepository {
    size: u64,
    tier: &'static str,
    refs: Vec<String>,
    activity: Option<Level>,
    /// Whether the file exists in the head.
    exists: bool,
}

fn explain(
    context: &Context,
    settings: &Settings,
    path: &str,
    of: Option<&Address>,
    keys: &Keys,
) -> Result<()> {
    let policy = Policy::in_force(settings)?;
    let found = match of {
        None => None,
        Some(address) => {
            let session = Session::new(settings, keys)?;
            Some(context.run(async {
                let repository = session.open(address).await?;
                find(settings, address, &repository, path).await
            })?)
        }
    };
    let class = Class::of(path.as_bytes(), &[]).name();
    let default = FileInRepository::default();
    let file = found.as_ref().unwrap_or(&default);
    let decision = policy.decide(&Facts {
        path: path.as_bytes(),
        class,
        size: file.size,
        tier: file.tier,
        refs: &file.refs,
        activity: file.activity,
    });
    let needed = file.exists && matches!(of, Some(Address::Name(_)));
    let rule = describe_rule(&policy, decision);
    let report = json!({
        "path": path,
        "class": class,
        "size": found.as_ref().map(|it| it.size),
        "tier": found.as_ref().map(|it| it.tier),
        "refs": found.as_ref().map(|it| &it.refs),
        "activity": file.activity,
        "needed": needed,
        "rule": decision.rule.map(|at| at + 1),
        "says": rule,
        "keep": decision.keep,
    });
    context.report(&report, || {
        outln!("{path}")?;
        let mut rows = vec![("class", format!("{class}, by its name"))];
        if found.is_some() && file.exists {
            rows.push(("size", output::bytes(file.size)));
            rows.push(("stored", file.tier.into()));
        } else if found.is_some() {
            rows.push(("size", "no such file in the head".into()));
        }
        if !file.refs.is_empty() {
            rows.push(("refs", file.refs.join(", ")));
        }
        if let Some(level) = file.activity {
            rows.push(("activity", format!("{level:?}").to_lowercase()));
        }
        let now = if needed {
            "kept: the head of its name needs it, so no rule applies"
        } else {
            "the rules apply"
        };
        rows.push(("now", now.into()));
        let from = match decision.keep.seconds() {
            Some(_) => " after it is last needed",
            None => "",
        };
        rows.push(("rules", format!("kept {}{from}: {rule}", decision.keep)));
        output::details(rows)
    })
}

/// Describes the deciding rule.
fn describe_rule(policy: &Policy, decision: RetentionDecision) -> String {
    match decision.rule {
        Some(at) => format!("rule {}, {}", at + 1, policy.rules()[at]),
        None => "no rule matches, so the default".into(),
    }
}

async fn find(
    settings: &Settings,
    address: &Address,
    repository: &Repository,
    path: &str,
) -> Result<FileInRepository> {
    let ledger = Ledger::of(settings).entries()?;
    let activity = Activity::new(settings.activity());
    let levels = &settings.retention.value.activity;
    let now = walrus_client::clock::unix_seconds();
    let name = address.to_string();
    let level = activity.level(&name, levels, &ledger, Some(repository), now);
    let level = level.await?;
    let snapshot = repository.snapshot(0)?;
    let node = snapshot.walk(path.as_bytes()).await?;
    let mut refs = Vec::new();
    let head = repository.head();
    for one in &head.refs {
        let there = repository.snapshot(one.commit)?;
        let found = there.walk(path.as_bytes()).await?;
        if let (Some(node), Some(found)) = (&node, &found)
            && same(node, found)
        {
            let name = String::from_utf8_lossy(&one.name);
            refs.push(match one.kind {
                RefKind::Branch => name.into_owned(),
                RefKind::Tag => format!("tags/{name}"),
            });
        }
    }
    Ok(FileInRepository {
        size: node.as_ref().map_or(0, |node| node.size),
        tier: (node.as_ref()).map_or("", |node| explain::tier_name(snapshot.tier(node))),
        refs,
        activity: Some(level),
        exists: node.is_some(),
    })
}

/// Whether two nodes have the same content, according to their chunk hashes.
fn same(node: &Node, other: &Node) -> bool {
    let hashes = |node: &Node| -> Vec<_> { node.chunks().iter().map(|it| it.hash).collect() };
    node.size == other.size && hashes(node) == hashes(other)
}
