//! `refs`: names of repositories, and the branches and tags in one.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::keys::Keys;
use super::{Failure, output};
use crate::config::Settings;
use crate::repo::refs::RefName;
use crate::repo::{Address, RefKind, Target};

/// List published names, or the branches and tags of one repository
#[derive(Debug, Args)]
pub(super) struct Refs {
    /// A repository [default: list all names]
    address: Option<Address>,
    /// Give this name to an address: --set NAME ADDRESS
    #[arg(
        long,
        value_name = "NAME",
        requires = "address",
        conflicts_with = "remove"
    )]
    set: Option<RefName>,
    /// Forget this name; what it stood for stays stored
    #[arg(long, value_name = "NAME", conflicts_with = "address")]
    remove: Option<RefName>,
    #[command(flatten)]
    keys: Keys,
}

/// The immutable address that a name is to stand for.
fn stands_for(
    context: &Context,
    settings: &Settings,
    address: &Address,
) -> Result<Address, Failure> {
    if let Address::Walrus { .. } = address {
        return Ok(address.clone());
    }
    let source = context::source(settings, address);
    let access = context::access(settings, &Keys::default())?;
    match context
        .run(async { Ok(source.locate(&access).await?) })?
        .target
    {
        Target::Blob { blob, root } | Target::Archived { blob, root, .. } => {
            Ok(Address::Walrus { blob, root })
        }
        Target::Commit(_) => {
            Err(format!("{address} is no blob on Walrus, which is what a name stands for").into())
        }
    }
}

impl Refs {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let refs = context::refs(&settings);
        if let Some(name) = self.remove {
            if !refs.remove(&name)? {
                return Err(format!("no repository is called `{name}`").into());
            }
            return Ok(ExitCode::SUCCESS);
        }
        match (self.address, self.set) {
            (Some(address), Some(name)) => {
                let stands_for = stands_for(context, &settings, &address)?;
                // No collector takes it before the name is set.
                let lease = context::leases(&settings).take()?;
                if let Address::Walrus { blob, .. } = &stands_for {
                    lease.needs(*blob)?;
                }
                refs.set(&name, &stands_for)?;
            }
            (Some(address), None) => list_inside(context, &settings, &address, &self.keys)?,
            (None, _) => {
                let names = refs.list()?;
                if context.json {
                    let rows: Vec<_> = (names.iter())
                        .map(|(name, r)| json!({"name": name.as_str(), "address": r.address, "updated": r.updated}))
                        .collect();
                    output::json(&rows)?;
                } else if names.is_empty() {
                    output::note(&format!(
                        "no names on network {} yet; walgit-fs publish PATH --name NAME makes one",
                        settings.network.value.name
                    ));
                } else {
                    let row = |(name, r): (RefName, crate::repo::refs::NamedRef)| {
                        vec![name.to_string(), r.address]
                    };
                    output::table(&names.into_iter().map(row).collect::<Vec<_>>())?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list_inside(
    context: &Context,
    settings: &Settings,
    address: &Address,
    keys: &Keys,
) -> Result<(), Failure> {
    let cache = context::cache(settings)?;
    let loader = context::loader(&cache);
    let (repository, refs) = context.run(async {
        let repository = context::open(settings, &loader, address, keys).await?;
        let refs = repository.all_refs().await?;
        Ok((repository, refs))
    })?;
    let head = repository.head();
    let rows: Vec<(&str, String, String, bool)> = (refs.into_iter())
        .map(|(kind, name, id)| {
            let default = kind == RefKind::Branch && name == head.default_branch;
            let kind = match kind {
                RefKind::Branch => "branch",
                RefKind::Tag => "tag",
            };
            let name = String::from_utf8_lossy(&name).into_owned();
            (kind, name, id.to_string(), default)
        })
        .collect();
    if context.json {
        let rows: Vec<_> = (rows.iter())
            .map(|(kind, name, id, default)| json!({"kind": kind, "name": name, "commit": id, "default": default}))
            .collect();
        return output::json(&rows);
    }
    if rows.is_empty() {
        output::note(&format!(
            "{address} has no branches or tags, only its commit"
        ));
    }
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(kind, name, id, default)| {
            let mark = if default { "default" } else { "" };
            vec![kind.into(), name, id, mark.into()]
        })
        .collect();
    output::table(&rows)
}
