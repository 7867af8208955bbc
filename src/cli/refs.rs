//! `refs`: names of repositories, and the branches and tags in one.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::{Failure, output};
use crate::repo::refs::RefName;
use crate::repo::{Address, RefKind};

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
                let (blob, root) = context::locate(&settings, &address)?;
                refs.set(&name, &Address::Walrus { blob, root })?;
            }
            (Some(address), None) => list_inside(context, &address)?,
            (None, _) => {
                let names = refs.list()?;
                if context.json {
                    let rows: Vec<_> = (names.iter())
                        .map(|(name, r)| json!({"name": name.as_str(), "address": r.address, "updated": r.updated}))
                        .collect();
                    output::json(&rows)?;
                } else if names.is_empty() {
                    eprintln!(
                        "no names on network {} yet; walgit-fs publish PATH --name NAME makes one",
                        settings.network.value.name
                    );
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

fn list_inside(context: &Context, address: &Address) -> Result<(), Failure> {
    let settings = context.settings()?;
    let cache = context::cache(&settings)?;
    let repository = context.run(context::open(&settings, &context::loader(&cache), address))?;
    let head = repository.head();
    let rows: Vec<(&str, String, String, bool)> = (head.refs.iter())
        .map(|r| {
            let kind = match r.kind {
                RefKind::Branch => "branch",
                RefKind::Tag => "tag",
            };
            let name = String::from_utf8_lossy(&r.name).into_owned();
            let default = r.kind == RefKind::Branch && r.name == head.default_branch;
            (kind, name, head.commits[r.commit].id.to_string(), default)
        })
        .collect();
    if context.json {
        let rows: Vec<_> = (rows.iter())
            .map(|(kind, name, id, default)| json!({"kind": kind, "name": name, "commit": id, "default": default}))
            .collect();
        return output::json(&rows);
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
