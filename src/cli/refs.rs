//! `refs`: lists and changes names; lists branches and tags.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::args::{Keys, stored_keys};
use super::context::{self, Context};
use super::names::{self, FormerTarget};
use super::output;
use super::session::Session;
use crate::config::Settings;
use crate::leases::{Leases, PublishLease};
use crate::repo::refs::{Expected, NamedRef, PastRef, RefStore, RefStoreError};
use crate::repo::{Lineage, Repository, Target};
use walgit_format::chunk::SecretKey;
use walgit_format::names::RefName;
use walgit_format::{Address, CommitId, RefKind};

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
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let settings = context.settings()?;
        let change = || RefChange::new(context, &settings, &self.keys);
        if let (Some(name), Some(address)) = (&self.set, &self.address) {
            change()?.set(name, address, self.force)?;
        } else if let Some(name) = &self.remove {
            remove(context, &settings, name)?;
        } else if let Some(name) = &self.history {
            list_history(context, &settings, name)?;
        } else if let Some(name) = &self.restore {
            change()?.restore(name, self.address.as_ref())?;
        } else if let Some(address) = &self.address {
            list_inside(context, &Session::new(&settings, &self.keys)?, address)?;
        } else {
            return list(context, &settings);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Moves names.
struct RefChange<'a> {
    context: &'a Context,
    session: Session<'a>,
    refs: RefStore,
}

impl<'a> RefChange<'a> {
    fn new(context: &'a Context, settings: &'a Settings, keys: &'a Keys) -> Result<Self> {
        Ok(RefChange {
            context,
            session: Session::new(settings, keys)?,
            refs: context::refs(settings),
        })
    }

    fn set(&self, name: &RefName, address: &Address, force: bool) -> Result<()> {
        let named = names::current(&self.refs, name, force)?;
        let address = self.resolve(address)?;
        let _lease = self.lease(&address)?;
        let new = self.open(name, &address)?;
        let moves = named
            .as_ref()
            .filter(|it| it.address != address.to_string());
        let old = match moves {
            Some(named) => self.old_lineage(name, named, force)?,
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
        let expected = names::expected(named.as_ref(), force);
        let key = new.key().map(|key| self.key_name(key)).transpose()?;
        let to = NamedRef {
            key: key.flatten(),
            ..NamedRef::now(&address)
        };
        self.refs.update(name, expected, to, "refs --set")?;
        self.report(name, &address, named.as_ref(), old.as_ref())
    }

    fn restore(&self, name: &RefName, which: Option<&Address>) -> Result<()> {
        let past = self.refs.history(name)?;
        let named = names::current(&self.refs, name, true)?;
        let earlier = choose_earlier(name, &past, which, named.as_ref())?;
        let address: Address = earlier.address.parse()?;
        let _lease = self.lease(&address)?;
        self.open(name, &address)?;
        let to = NamedRef {
            key: earlier.key.clone(),
            source: earlier.source.clone(),
            ..NamedRef::now(&address)
        };
        self.refs
            .update(name, Expected::Any, to, "refs --restore")?;
        self.report(name, &address, named.as_ref(), None)
    }

    /// Protects a head from garbage collection until its name is set.
    fn lease(&self, address: &Address) -> Result<PublishLease> {
        let lease = Leases::of(self.session.settings).take()?;
        if let Address::Walrus { blob, .. } = address {
            lease.needs(*blob)?;
        }
        Ok(lease)
    }

    /// Opens the new target of a name.
    fn open(&self, name: &RefName, address: &Address) -> Result<Repository> {
        let opened = self.context.run(async {
            let opened = self.session.open(address).await?;
            Ok(names::open_stored(&self.session.loader, opened).await?)
        });
        opened.map_err(|error| {
            let why = output::message(error.as_ref());
            anyhow!("{name} is unchanged: {address} cannot be read ({why})")
        })
    }

    /// Branch positions of a name's target; `None` if it cannot be read and is to be
    /// replaced.
    fn old_lineage(
        &self,
        name: &RefName,
        named: &NamedRef,
        force: bool,
    ) -> Result<Option<Lineage>> {
        let read = self.context.run(async {
            let old = self.session.open(&named.address.parse()?).await?;
            Ok(names::lineage_of(&old, named).await?)
        });
        match read {
            Ok(lineage) => Ok(Some(lineage)),
            Err(_) if force => Ok(None),
            Err(error) => bail!(
                "{name} is unchanged: its current head cannot be read ({}); --force replaces it \
                 anyway",
                output::message(error.as_ref())
            ),
        }
    }

    fn report(
        &self,
        name: &RefName,
        address: &Address,
        old: Option<&NamedRef>,
        lineage: Option<&Lineage>,
    ) -> Result<()> {
        let former = FormerTarget::new(self.context, name, (old, lineage), Some(address));
        let report =
            json!({"name": name.as_str(), "address": address.to_string(), "replaced": former});
        self.context.report(&report, || {
            let same = old.is_some_and(|old| old.address == address.to_string());
            let since = if same { "already" } else { "now" };
            outln!("{name} stands for {address} {since}")?;
            output::details(former.iter().flat_map(FormerTarget::details))
        })
    }

    /// Resolves an address to the immutable address that a name stores.
    fn resolve(&self, address: &Address) -> Result<Address> {
        if let Address::Walrus { .. } = address {
            return Ok(address.clone());
        }
        let source = context::source(self.session.settings, address);
        let access = self.session.access()?;
        match self.context.wait(source.locate(&access))?.target {
            Target::Blob { blob, root } | Target::Archived { blob, root, .. } => {
                Ok(Address::Walrus { blob, root })
            }
            Target::Commit(_) => {
                bail!("{address} is not a blob on Walrus, and a name can refer only to a blob")
            }
        }
    }

    /// Name of a key among the user's keys.
    fn key_name(&self, key: &SecretKey) -> Result<Option<String>> {
        let keys = stored_keys(self.session.settings);
        for name in keys.list()?.into_keys() {
            if keys.get(&name)?.as_ref() == Some(key) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

fn remove(context: &Context, settings: &Settings, name: &RefName) -> Result<()> {
    let removed = context::refs(settings).remove(name, "refs --remove")?;
    let old = removed.with_context(|| format!("no repository is called `{name}`"))?;
    let former = FormerTarget::new(context, name, (Some(&old), None), None);
    let report = json!({"name": name.as_str(), "replaced": former});
    context.report(&report, || {
        outln!("{name} is removed; its content stays stored until it is collected")?;
        output::details(former.iter().flat_map(FormerTarget::details))
    })
}

/// Whether a repository in a foreign format, whose commits are linked, has the old commit
/// as an ancestor.
async fn has_ancestor(new: &Repository, old: &Lineage) -> bool {
    let Some((_, commit)) = old.branches.first().filter(|_| new.is_derived()) else {
        return false;
    };
    let name = commit.to_string();
    !name.is_empty() && new.snapshot_of(Some(&name)).await.is_ok()
}

/// The requested earlier head; by default the newest that is not the current target.
fn choose_earlier<'p>(
    name: &RefName,
    past: &'p [PastRef],
    which: Option<&Address>,
    now: Option<&NamedRef>,
) -> Result<&'p NamedRef> {
    let hint = format!("walgit-fs refs --history {name} lists them");
    let mut named = past.iter().filter_map(|it| it.named.as_ref());
    let found = match which {
        None => named.find(|it| now.is_none_or(|now| now.address != it.address)),
        Some(Address::Name(number)) => {
            let Ok(number) = number.as_str().parse::<usize>() else {
                bail!("{number} is neither an address nor a number of the history; {hint}");
            };
            past.get(number).and_then(|it| it.named.as_ref())
        }
        Some(address) => named.find(|it| it.address == address.to_string()),
    };
    found.with_context(|| format!("{name} has no such earlier head; {hint}"))
}

/// Lists readable names, and warns about each unreadable one.
fn list(context: &Context, settings: &Settings) -> Result<ExitCode> {
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
    let report = names.iter().map(|(name, target)| {
        json!({"name": name.as_str(), "address": target.address, "updated": target.updated})
    });
    context.report(&report.collect::<Vec<_>>(), || {
        if names.is_empty() && code == ExitCode::SUCCESS {
            errln!(
                "no names on network {} yet; walgit-fs publish PATH --name NAME makes one",
                settings.network.value.name
            );
        }
        output::table(
            (names.iter()).map(|(name, target)| [name.to_string(), target.address.clone()]),
        )
    })?;
    Ok(code)
}

/// Explains why a name cannot be read, with the commands that repair it.
fn damaged(name: &str, why: &str) -> String {
    let shown = names::quoted(name);
    format!(
        "{name} cannot be read: {why}; walgit-fs refs --restore {shown} restores its newest \
         known head, walgit-fs refs --set {shown} ADDRESS --force sets another"
    )
}

fn list_history(context: &Context, settings: &Settings, name: &RefName) -> Result<()> {
    let past = context::refs(settings).history(name)?;
    if past.is_empty() {
        bail!("no repository is or was called `{name}`");
    }
    let store = context::store(settings)?;
    let rows: Vec<HistoryRow> = context.run(async {
        let mut rows = Vec::with_capacity(past.len());
        for (number, entry) in past.into_iter().enumerate() {
            let address = entry.named.map(|named| named.address);
            let stored = match address.as_ref().and_then(|it| it.parse().ok()) {
                Some(Address::Walrus { blob, .. }) => Some(store.len(blob).await?.is_some()),
                _ => None,
            };
            rows.push(HistoryRow {
                number,
                at: entry.at,
                by: entry.by,
                address,
                stored,
            });
        }
        Ok(rows)
    })?;
    context.report(&rows, || output::table(rows.iter().map(HistoryRow::cells)))
}

/// An earlier target of a name.
#[derive(Serialize)]
struct HistoryRow {
    number: usize,
    at: u64,
    by: String,
    address: Option<String>,
    stored: Option<bool>,
}

impl HistoryRow {
    fn cells(&self) -> [String; 5] {
        let stored = match self.stored {
            Some(true) => "stored",
            Some(false) => "no longer stored",
            None => "-",
        };
        let by = if self.by.is_empty() { "-" } else { &self.by };
        [
            self.number.to_string(),
            output::time(self.at),
            by.into(),
            stored.into(),
            self.address.clone().unwrap_or_else(|| "removed".into()),
        ]
    }
}

/// A branch or tag of a repository.
#[derive(Serialize)]
struct RefRow {
    kind: &'static str,
    name: String,
    commit: String,
    default: bool,
}

fn list_inside(context: &Context, session: &Session<'_>, address: &Address) -> Result<()> {
    let (repository, refs) = context.run(async {
        let repository = session.open(address).await?;
        let refs = repository.all_refs().await?;
        Ok((repository, refs))
    })?;
    let row = |(kind, name, id): (RefKind, Bytes, CommitId)| RefRow {
        kind: match kind {
            RefKind::Branch => "branch",
            RefKind::Tag => "tag",
        },
        commit: id.to_string(),
        default: kind == RefKind::Branch && name == repository.head().default_branch,
        name: String::from_utf8_lossy(&name).into_owned(),
    };
    let rows: Vec<RefRow> = refs.into_iter().map(row).collect();
    context.report(&rows, || {
        if rows.is_empty() {
            errln!("{address} has no branches or tags, only its commit");
        }
        output::table(rows.iter().map(|row| {
            let mark = if row.default { "default" } else { "" };
            [
                row.kind.into(),
                row.name.clone(),
                row.commit.clone(),
                mark.into(),
            ]
        }))
    })
}
