//! `policy`: rules for how long unneeded content is retained.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, output};
use crate::config::{Level, Settings};
use crate::lifecycle::policy::{Decision, Facts, InvalidRule, Policy};
use crate::lifecycle::{Activity, Ledger};
use crate::publish::analyze::Class;
use crate::repo::{Node, Repository, Snapshot, Tier};
use walgit_format::{Address, RefKind};

/// Show, check and explain the retention of content that nothing needs any more
///
/// Rules are in the config file ([[retention.rules]]); the first match decides. Content
/// that the head of a name needs is always kept.
#[derive(Debug, Args)]
pub(super) struct PolicyCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        match self.action {
            Action::Show => show(context, &settings),
            Action::Check => check(context, &settings),
            Action::Explain { path, of, keys } => {
                explain(context, &settings, &path, of.as_ref(), &keys)
            }
        }
    }
}

fn show(context: &Context, settings: &Settings) -> Result<ExitCode, Failure> {
    let policy = Policy::in_force(settings)?;
    let retention = &settings.retention;
    if context.json {
        output::json(&json!({
            "origin": retention.origin,
            "rules": retention.value.rules,
            "default_days": retention.value.default_days,
            "activity": retention.value.activity,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line("what the head of a name needs: always")?;
    let mut rows: Vec<Vec<String>> = (policy.rules().iter().enumerate())
        .map(|(at, rule)| {
            let number = (at + 1).to_string();
            vec![number, rule.to_string(), rule.keep().to_string()]
        })
        .collect();
    let days = format!("{} days", retention.value.default_days);
    rows.push(vec!["-".into(), "anything else".into(), days]);
    output::table(&rows)?;
    let levels = retention.value.activity;
    output::line(&format!(
        "activity: commits, publishes and mounts in {} days; high from {}, medium from {}, low from {}",
        levels.window_days, levels.high, levels.medium, levels.low
    ))?;
    output::line(&format!("({})", retention.origin))?;
    Ok(ExitCode::SUCCESS)
}

fn check(context: &Context, settings: &Settings) -> Result<ExitCode, Failure> {
    let (bad, shadowed): (Vec<InvalidRule>, Vec<(usize, usize)>) =
        match Policy::of(&settings.retention.value) {
            Ok(policy) => (Vec::new(), policy.shadowed()),
            Err(bad) => (bad, Vec::new()),
        };
    let levels = settings.retention.value.activity;
    let rising = levels.low <= levels.medium && levels.medium <= levels.high;
    let ok = bad.is_empty() && shadowed.is_empty() && rising;
    if context.json {
        let shadowed: Vec<_> = (shadowed.iter())
            .map(|(rule, by)| json!({"rule": rule, "by": by}))
            .collect();
        output::json(&json!({
            "ok": ok,
            "bad": bad,
            "shadowed": shadowed,
            "activity_rises": rising,
        }))?;
    } else {
        for bad in &bad {
            output::line(&bad.to_string())?;
        }
        for (rule, by) in &shadowed {
            output::line(&format!(
                "retention rule {rule} never decides: rule {by} fits all that it fits; put it \
                 before that, or remove it"
            ))?;
        }
        if !rising {
            output::line("retention.activity: low, medium and high must not fall")?;
        }
        if ok {
            let rules = settings.retention.value.rules.len();
            output::line(&format!("{rules} rules, nothing wrong with them"))?;
        }
    }
    Ok(match ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Properties of a file in a repository.
struct Looked {
    size: u64,
    tier: &'static str,
    refs: Vec<String>,
    activity: Level,
    /// Whether the file exists in the head.
    there: bool,
}

fn explain(
    context: &Context,
    settings: &Settings,
    path: &str,
    of: Option<&Address>,
    keys: &Keys,
) -> Result<ExitCode, Failure> {
    let policy = Policy::in_force(settings)?;
    let looked = match of {
        None => None,
        Some(address) => {
            let cache = context::cache(settings)?;
            let loader = context::loader(&cache);
            Some(context.run(async {
                let repository = context::open(settings, &loader, address, keys).await?;
                look(settings, address, &repository, path).await
            })?)
        }
    };
    let class = Class::of(path.as_bytes(), &[]).name();
    let facts = Facts {
        path: path.as_bytes(),
        class,
        size: looked.as_ref().map_or(0, |it| it.size),
        tier: looked.as_ref().map_or("", |it| it.tier),
        refs: looked.as_ref().map_or(&[], |it| &it.refs),
        activity: looked.as_ref().map(|it| it.activity),
    };
    let decision = policy.decide(&facts);
    let needed = looked.as_ref().is_some_and(|it| it.there) && of.is_some_and(is_name);
    if context.json {
        output::json(&json!({
            "path": path,
            "class": class,
            "size": looked.as_ref().map(|it| it.size),
            "tier": looked.as_ref().map(|it| it.tier),
            "refs": looked.as_ref().map(|it| &it.refs),
            "activity": facts.activity,
            "needed": needed,
            "rule": decision.rule.map(|at| at + 1),
            "says": says(&policy, decision),
            "keep": decision.keep,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |key: &str, value: String| vec![format!("  {key}"), value];
    output::line(path)?;
    let mut rows = vec![row("class", format!("{class}, by its name"))];
    if let Some(looked) = &looked {
        if looked.there {
            rows.push(row("size", output::bytes(looked.size)));
            rows.push(row("stored", looked.tier.into()));
        } else {
            rows.push(row("size", "it is not there".into()));
        }
        if !looked.refs.is_empty() {
            rows.push(row("refs", looked.refs.join(", ")));
        }
        let level = format!("{:?}", looked.activity).to_lowercase();
        rows.push(row("activity", level));
    }
    rows.push(row(
        "now",
        match needed {
            true => "kept: the head of its name needs it, and no rule is asked".into(),
            false => "the rules are asked".into(),
        },
    ));
    let from = match decision.keep.seconds() {
        Some(_) => " after nothing needs it any more",
        None => "",
    };
    rows.push(row(
        "rules",
        format!("kept {}{from}: {}", decision.keep, says(&policy, decision)),
    ));
    output::table(&rows)?;
    Ok(ExitCode::SUCCESS)
}

fn is_name(address: &Address) -> bool {
    matches!(address, Address::Name(_))
}

/// Describes the deciding rule.
fn says(policy: &Policy, decision: Decision) -> String {
    match decision.rule {
        Some(at) => format!("rule {}, {}", at + 1, policy.rules()[at]),
        None => "no rule fits, so the default".into(),
    }
}

async fn look(
    settings: &Settings,
    address: &Address,
    repository: &Repository,
    path: &str,
) -> Result<Looked, Failure> {
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
            && same((&snapshot, node), (&there, found))
        {
            let name = String::from_utf8_lossy(&one.name);
            refs.push(match one.kind {
                RefKind::Branch => name.into_owned(),
                RefKind::Tag => format!("tags/{name}"),
            });
        }
    }
    Ok(Looked {
        size: node.as_ref().map_or(0, |node| node.size),
        tier: match node.as_ref().map(|node| snapshot.tier(node)) {
            Some(Tier::Inline) => "inline",
            Some(Tier::Chunked) => "chunked",
            Some(Tier::Walrus) => "walrus",
            None => "",
        },
        refs,
        activity: level,
        there: node.is_some(),
    })
}

/// Whether two nodes have the same content, according to their chunk hashes.
fn same((a, node): (&Snapshot, &Node), (b, other): (&Snapshot, &Node)) -> bool {
    let hashes = |snapshot: &Snapshot, node: &Node| -> Vec<_> {
        let chunks = snapshot.chunks_of(node);
        chunks.iter().map(|chunk| chunk.hash).collect()
    };
    node.size == other.size && hashes(a, node) == hashes(b, other)
}
