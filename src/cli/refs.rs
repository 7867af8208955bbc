//! `refs`: lists and changes names; lists branches and tags.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::{self, Context};
use super::keys::{self, Keys};
use super::names::{self, Replaced};
use super::{Failure, output};
use crate::config::Settings;
use crate::leases::Lease;
use crate::repo::refs::{Expected, NamedRef, PastRef, RefStoreError};
use crate::repo::{Lineage, Repository, Target};
use walgit_format::chunk::SecretKey;
use walgit_format::ref_name::RefName;
use walgit_format::{Address, RefKind};

/// List published names, or the branches and tags of one repository
///
/// --set, --remove and --restore change names. Like `git push`, --set refuses to move a
/// name to a head that does not continue it, unless --force is given. Every change prints
/// the old address and the command that restores it.
#[derive(Debug, Args)]
pub(super) struct Refs {
    /// Repository [default: list all names]; with --restore, an earlier address of the
    /// name, or its number in --history
    address: Option<Address>,
    /// Set a name to an address: --set NAME ADDRESS
    #[arg(
        long,
        value_name = "NAME",
        requires = "address",
        conflicts_with_all = ["remove", "history", "restore"]
    )]
    set: Option<RefName>,
    /// Move the name even to a head that does not continue it
    #[arg(long, requires = "set")]
    force: bool,
    /// Remove this name; its content stays stored until garbage collection
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["address", "history", "restore"]
    )]
    remove: Option<RefName>,
    /// List earlier heads of this name, newest first, and whether they are still stored:
    /// a name does not protect them from garbage collection
    #[arg(long, value_name = "NAME", conflicts_with_all = ["address", "restore"])]
    history: Option<RefName>,
    /// Restore an earlier head of this name: the previous one, or ADDRESS
    #[arg(long, value_name = "NAME")]
    restore: Option<RefName>,
    #[command(flatten)]
    keys: Keys,
}

impl Refs {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let change = Change {
            context,
            settings: &settings,
            keys: &self.keys,
        };
        if let (Some(name), Some(address)) = (&self.set, &self.address) {
            change.set(name, address, self.force)?;
        } else if let Some(name) = &self.remove {
            change.remove(name)?;
        } else if let Some(name) = &self.history {
            list_history(context, &settings, name)?;
        } else if let Some(name) = &self.restore {
            change.restore(name, self.address.as_ref())?;
        } else if let Some(address) = &self.address {
            list_inside(context, &settings, address, &self.keys)?;
        } else {
            return list(context, &settings);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Changes names.
struct Change<'a> {
    context: &'a Context,
    settings: &'a Settings,
    keys: &'a Keys,
}

impl Change<'_> {
    fn set(&self, name: &RefName, address: &Address, force: bool) -> Result<(), Failure> {
        let refs = context::refs(self.settings);
        let named = match refs.get(name) {
            Err(RefStoreError::Damaged { .. }) if force => None,
            named => named?,
        };
        let address = self.stands_for(address)?;
        let _lease = self.lease(&address)?;
        let cache = context::cache(self.settings)?;
        let new = self.read(&cache, name, &address)?;
        let moves = named
            .as_ref()
            .filter(|it| it.address != address.to_string());
        let old = match moves {
            Some(named) => self.old(&cache, name, named, force)?,
            None => None,
        };
        if let (Some(old), false) = (&old, force) {
            self.context.run(async {
                match Lineage::of(&new).await?.continues(old) {
                    Err(why) if !has_ancestor(&new, old).await => {
                        Err(names::refusal(name, &why, &old.summary()))
                    }
                    _ => Ok(()),
                }
            })?;
        }
        let expected = match (&named, force) {
            (None, true) => Expected::Any,
            (named, _) => Expected::Address(named.as_ref().map(|it| it.address.as_str())),
        };
        let key = match new.key() {
            Some(key) => self.key_name(key)?,
            None => None,
        };
        let to = NamedRef {
            key,
            ..NamedRef::now(&address)
        };
        refs.update(name, expected, to, "refs --set")?;
        self.tell(name, &address, named.as_ref(), old.as_ref())
    }

    fn remove(&self, name: &RefName) -> Result<(), Failure> {
        let refs = context::refs(self.settings);
        let Some(old) = refs.remove(name, "refs --remove")? else {
            return Err(format!("no repository is called `{name}`").into());
        };
        let replaced = Replaced::of(self.context, name, Some(&old), None);
        if self.context.json {
            return output::json(&json!({"name": name.as_str(), "replaced": replaced}));
        }
        let stays = "what it stood for stays stored until it is collected";
        output::line(&format!("{name} is removed; {stays}"))?;
        names::print_replaced(replaced.as_ref())
    }

    fn restore(&self, name: &RefName, which: Option<&Address>) -> Result<(), Failure> {
        let refs = context::refs(self.settings);
        let past = refs.history(name)?;
        let named = match refs.get(name) {
            Err(RefStoreError::Damaged { .. }) => None,
            named => named?,
        };
        let earlier = chosen(name, &past, which, named.as_ref())?;
        let address: Address = earlier.address.parse()?;
        let _lease = self.lease(&address)?;
        let cache = context::cache(self.settings)?;
        self.read(&cache, name, &address)?;
        let to = NamedRef {
            key: earlier.key.clone(),
            source: earlier.source.clone(),
            ..NamedRef::now(&address)
        };
        refs.update(name, Expected::Any, to, "refs --restore")?;
        self.tell(name, &address, named.as_ref(), None)
    }

    /// Protects a head from garbage collection until its name is set.
    fn lease(&self, address: &Address) -> Result<Lease, Failure> {
        let lease = context::leases(self.settings).take()?;
        if let Address::Walrus { blob, .. } = address {
            lease.needs(*blob)?;
        }
        Ok(lease)
    }

    /// Reads the new target of a name.
    fn read(
        &self,
        cache: &context::OpenCache,
        name: &RefName,
        address: &Address,
    ) -> Result<Repository, Failure> {
        let loader = context::loader(cache);
        let read = self.context.run(async {
            let opened = context::open(self.settings, &loader, address, self.keys).await?;
            Ok(names::open_stored(&loader, opened).await?)
        });
        read.map_err(|error| {
            format!("{name} stays as it is: {address} cannot be read ({error})").into()
        })
    }

    /// Branch positions of a name's target; `None` if it cannot be read and is to be
    /// replaced.
    fn old(
        &self,
        cache: &context::OpenCache,
        name: &RefName,
        named: &NamedRef,
        force: bool,
    ) -> Result<Option<Lineage>, Failure> {
        let loader = context::loader(cache);
        let read = self.context.run(async {
            let address: Address = named.address.parse()?;
            let old = context::open(self.settings, &loader, &address, self.keys).await?;
            let mut lineage = Lineage::of(&old).await?;
            if let Some(folder) = &mut lineage.folder {
                folder.path = named.source.clone();
            }
            Ok(lineage)
        });
        match read {
            Ok(lineage) => Ok(Some(lineage)),
            Err(_) if force => Ok(None),
            Err(error) => Err(format!(
                "{name} stays as it is: what it stands for cannot be read ({error}); --force \
                 replaces it all the same"
            )
            .into()),
        }
    }

    fn tell(
        &self,
        name: &RefName,
        address: &Address,
        old: Option<&NamedRef>,
        lineage: Option<&Lineage>,
    ) -> Result<(), Failure> {
        let replaced = Replaced::of(self.context, name, old, Some(address));
        let replaced = replaced.map(|replaced| replaced.at(lineage));
        if self.context.json {
            let (name, address) = (name.as_str(), address.to_string());
            return output::json(&json!({"name": name, "address": address, "replaced": replaced}));
        }
        let same = old.is_some_and(|old| old.address == address.to_string());
        let since = if same { "already" } else { "now" };
        output::line(&format!("{name} stands for {address} {since}"))?;
        names::print_replaced(replaced.as_ref())
    }

    /// Resolves an address to the immutable address that a name stores.
    fn stands_for(&self, address: &Address) -> Result<Address, Failure> {
        if let Address::Walrus { .. } = address {
            return Ok(address.clone());
        }
        let source = context::source(self.settings, address);
        let access = context::access(self.settings, self.keys)?;
        let located = async { Ok(source.locate(&access).await?) };
        match self.context.run(located)?.target {
            Target::Blob { blob, root } | Target::Archived { blob, root, .. } => {
                Ok(Address::Walrus { blob, root })
            }
            Target::Commit(_) => {
                let why = "is no blob on Walrus, which is what a name stands for";
                Err(format!("{address} {why}").into())
            }
        }
    }

    /// Name of a key among the user's keys.
    fn key_name(&self, key: &SecretKey) -> Result<Option<String>, Failure> {
        let chest = keys::chest(self.settings);
        for name in chest.list()?.into_keys() {
            if chest.get(&name)?.as_ref() == Some(key) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// Whether a repository in a foreign format, whose commits are linked, has the old commit
/// as an ancestor.
async fn has_ancestor(new: &Repository, old: &Lineage) -> bool {
    let Some((_, commit)) = old.branches.first().filter(|_| new.is_implied()) else {
        return false;
    };
    let name = commit.to_string();
    !name.is_empty() && new.snapshot_of(Some(&name)).await.is_ok()
}

/// The requested earlier head; by default the newest that is not the current target.
fn chosen<'p>(
    name: &RefName,
    past: &'p [PastRef],
    which: Option<&Address>,
    now: Option<&NamedRef>,
) -> Result<&'p NamedRef, Failure> {
    let list = format!("walgit-fs refs --history {name} lists what there is");
    let mut named = past.iter().filter_map(|it| it.named.as_ref());
    let found = match which {
        None => named.find(|it| now.is_none_or(|now| now.address != it.address)),
        Some(Address::Name(number)) => match number.as_str().parse::<usize>() {
            Ok(number) => past.get(number).and_then(|it| it.named.as_ref()),
            Err(_) => {
                let why = "is neither an address nor a number of the history";
                return Err(format!("{number} {why}; {list}").into());
            }
        },
        Some(address) => named.find(|it| it.address == address.to_string()),
    };
    found.ok_or_else(|| format!("{name} has no such earlier head; {list}").into())
}

/// Lists readable names, and warns about each unreadable one.
fn list(context: &Context, settings: &Settings) -> Result<ExitCode, Failure> {
    let mut names = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for (text, named) in context::refs(settings).list_all()? {
        let why = match (text.parse::<RefName>(), named) {
            (Ok(name), Ok(named)) => match named.address.parse::<Address>() {
                Ok(_) => {
                    names.push((name, named));
                    continue;
                }
                Err(error) => damaged(&text, &format!("its file is damaged ({error})")),
            },
            (Ok(_), Err(RefStoreError::Damaged { path, why })) => {
                damaged(&text, &format!("{} is damaged ({why})", path.display()))
            }
            (_, Err(RefStoreError::Damaged { path, why })) => {
                format!("{} names nothing ({why}); move it away", path.display())
            }
            (_, Err(error)) => damaged(&text, &error.to_string()),
            (Err(error), Ok(_)) => format!("{text}: {error}"),
        };
        output::warning(&why);
        code = ExitCode::FAILURE;
    }
    if context.json {
        let rows: Vec<_> = (names.iter())
            .map(|(name, r)| json!({"name": name.as_str(), "address": r.address, "updated": r.updated}))
            .collect();
        output::json(&rows)?;
        return Ok(code);
    }
    if names.is_empty() && code == ExitCode::SUCCESS {
        output::note(&format!(
            "no names on network {} yet; walgit-fs publish PATH --name NAME makes one",
            settings.network.value.name
        ));
    }
    let row = |(name, r): (RefName, NamedRef)| vec![name.to_string(), r.address];
    output::table(&names.into_iter().map(row).collect::<Vec<_>>())?;
    Ok(code)
}

/// Explains why a name cannot be read, with the commands that repair it.
fn damaged(name: &str, why: &str) -> String {
    let shown = names::quoted(name);
    format!(
        "{name} cannot be read: {why}; walgit-fs refs --restore {shown} brings its newest known \
         head back, walgit-fs refs --set {shown} ADDRESS --force sets another"
    )
}

fn list_history(context: &Context, settings: &Settings, name: &RefName) -> Result<(), Failure> {
    let past = context::refs(settings).history(name)?;
    if past.is_empty() {
        return Err(format!("no repository is or was called `{name}`").into());
    }
    let store = context::store(settings)?;
    let stored: Vec<Option<bool>> = context.run(async {
        let mut stored = Vec::with_capacity(past.len());
        for entry in &past {
            let address = entry.named.as_ref().and_then(|it| it.address.parse().ok());
            stored.push(match address {
                Some(Address::Walrus { blob, .. }) => Some(store.len(blob).await?.is_some()),
                _ => None,
            });
        }
        Ok(stored)
    })?;
    let lines = past.iter().zip(&stored).enumerate();
    let address = |entry: &PastRef| entry.named.as_ref().map(|it| it.address.clone());
    if context.json {
        let rows = lines.map(|(number, (entry, stored))| {
            json!({
                "number": number,
                "at": entry.at,
                "by": entry.by,
                "address": address(entry),
                "stored": stored,
            })
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    let rows = lines.map(|(number, (entry, stored))| {
        let stored = match stored {
            Some(true) => "stored",
            Some(false) => "not stored any more",
            None => "-",
        };
        let by = if entry.by.is_empty() { "-" } else { &entry.by };
        vec![
            number.to_string(),
            output::time(entry.at),
            by.into(),
            stored.into(),
            address(entry).unwrap_or_else(|| "removed".into()),
        ]
    });
    output::table(&rows.collect::<Vec<_>>())
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
