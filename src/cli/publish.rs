//! `publish`: publishes a git repository or a folder to Walrus.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::context::{self, Context};
use super::encrypt::{Encrypt, KeptKey};
use super::keys::Keys;
use super::{Failure, fsck, learned, names, output};
use crate::config::Settings;
use crate::lifecycle::{Ledger, LedgerEntry};
use crate::publish::{
    Compared, Effort, HistoryDepth, HistoryReport, Input, Learned, Progress, PublishError,
    PublishOptions, Published, Replaced, compare, lineage, publish,
};
use crate::repo::refs::{Expected, NamedRef, RefStoreError};
use crate::repo::{Access, Lineage, Loader, Repository};
use walgit_durable::fault_point;
use walgit_format::Address;
use walgit_format::chunk::SecretKey;
use walgit_format::ref_name::RefName;
use walgit_prefetch::Profile;
use walgit_prefetch::model::Limits;
use walrus_client::network::MAX_EPOCHS;
use walrus_client::{BlobStore, DryStore, PutOptions};
use walrus_encoding::cost::Bill;

/// Publish a git repository or a plain folder; prints its address
///
/// Publishing an unchanged tree uploads nothing; publishing a changed tree uploads only
/// new content. If a publish is interrupted, the old head stays; run the same command
/// again to resume.
///
/// Like `git push`, it refuses to move a name to a head that does not continue it: a
/// different repository or folder, an older commit, a different default branch, a moved
/// tag, or less history than the name has. --force moves it anyway. Prints the old
/// address and the command that restores it.
///
/// With --encrypt, only holders of the key can read or identify the content.
///
/// With --from, a repository in the format of WalGit's own tools (one blob per file) is
/// rewritten with its entire history, read back and compared; the savings are reported.
/// The old repository stays unchanged.
#[derive(Debug, Args)]
pub(super) struct Publish {
    /// Git repository (bare or not) or folder
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    path: Option<PathBuf>,
    /// Rewrite this repository: walrus://MANIFEST_ID or sui://OBJECT_ID[/BRANCH]
    #[arg(long, value_name = "ADDRESS", requires = "name")]
    from: Option<Address>,
    #[command(flatten)]
    encrypt: Encrypt,
    /// Name to publish under, and to mount by [default: the folder's name]
    #[arg(long)]
    name: Option<RefName>,
    /// Publish this branch; may be repeated, a mount shows the first [default: the
    /// current one]
    #[arg(long = "branch", value_name = "BRANCH", conflicts_with = "from")]
    branches: Vec<String>,
    /// Move the name even to a head that does not continue it; if the old head cannot be
    /// read, store everything again
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    keys: Keys,
    /// Ship this profile, written by `prefetch export`, to users who mount the repository
    /// without one; later publishes keep it
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Ship the profile learned on this machine for the repository of this name
    #[arg(long, conflicts_with = "profile")]
    with_learned: bool,
    /// Ship no learned profile
    #[arg(long, conflicts_with_all = ["profile", "with_learned"])]
    without_profile: bool,
    /// History of a git repository to publish: all, the last N commits of each branch, or
    /// none
    #[arg(
        long,
        value_name = "all|N|none",
        default_value = "all",
        conflicts_with = "from"
    )]
    history: HistoryDepth,
    /// Skip unreadable entries of a plain folder, and report them. Entries that vanish or
    /// are not files, folders or links are always skipped
    #[arg(long, conflicts_with = "from")]
    skip_unreadable: bool,
    /// Compress as well as possible, at a tenth of the speed, for rare publishes
    #[arg(long)]
    best: bool,
    /// Store for this many epochs (1 to 53) [default: the profile's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EPOCHS)))]
    epochs: Option<u32>,
    /// Store blobs that cannot be deleted early, not even by their owner
    #[arg(long)]
    permanent: bool,
    /// Read everything back and verify it before setting the name
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    /// Store nothing; print what would be stored, and its cost
    #[arg(long, conflicts_with = "from")]
    dry_run: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    address: String,
    name: &'a str,
    network: &'a str,
    #[serde(flatten)]
    published: &'a Published,
    /// Former target of the name, if it moved.
    replaced: Option<&'a names::Replaced>,
    /// Result of comparing a rewritten repository with the original.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
    /// Result of reading back the stored content.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<&'a crate::lifecycle::fsck::Report>,
    dry_run: bool,
    encrypted: bool,
    /// Location of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeptKey>,
    /// Cost of storage, formatted.
    cost: String,
    seconds: f64,
}

impl Publish {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        if let Some(path) = &self.path {
            context::folder_exists(path)?;
        }
        let settings = context.settings()?;
        let name = self.name()?;
        let refs = context::refs(&settings);
        let network = &settings.network.value;
        let cache = context::cache(&settings)?;
        // Before the name is read: its target must be protected until the end.
        let lease = match self.dry_run {
            true => None,
            false => Some(Arc::new(context::leases(&settings).take()?)),
        };
        let named = match refs.get(&name) {
            Err(RefStoreError::Damaged { .. }) if self.replaces_unreadable() => None,
            named => named?,
        };
        let (choice, old) = context.run(async {
            let loader = context::loader(&cache);
            let how = (self.from.is_some(), self.force);
            let choice =
                (self.encrypt).choose(&settings, &loader, (&name, named.clone()), &self.keys, how);
            let choice = choice.await?;
            let old = match (&choice.old, &named) {
                (Some(old), Some(named)) => Some(self.lineage(old, named).await?),
                _ => None,
            };
            Ok((choice, old))
        })?;
        if let (Some(old), Some(path)) = (&old, &self.path) {
            let new = lineage(path, &self.branches, self.history)?;
            self.check(&name, &new, old)?;
        }
        let kept = match &choice.key {
            Some(chosen) if !self.dry_run => Some(chosen.keep(&settings)?),
            _ => None,
        };
        let key = choice.key.map(|chosen| chosen.key);
        if let (Some(lease), Some((previous, _))) = (&lease, choice.previous) {
            lease.needs(previous)?;
        }
        let options = PublishOptions {
            branches: self.branches.clone(),
            put: PutOptions {
                epochs: self.epochs.unwrap_or(network.epochs),
                deletable: !self.permanent,
            },
            skip_unreadable: self.skip_unreadable,
            previous: choice.previous,
            effort: match self.best {
                true => Effort::Best,
                false => Effort::Usual,
            },
            tiers: settings.tiers.value,
            history: self.history,
            key: key.clone(),
            lease: lease.clone(),
            learned: self.learned(context, &settings, &name)?,
        };
        let started = std::time::Instant::now();
        let store = match self.dry_run {
            // A dry run needs no sign-in.
            true => Arc::new(DryStore::new(context::store(&settings)?)),
            false => context::store_to_write(&settings)?,
        };
        let bar = Arc::new(Bar::new("publishing"));
        let done = context.run(async {
            let loader = context::loader(&cache);
            let from = match &self.from {
                Some(address) => Some(self.open(&settings, &loader, address).await?),
                None => None,
            };
            let input = match (&from, &self.path) {
                (Some(from), _) => Input::Repository(from.clone()),
                (None, path) => Input::Path(path.clone().unwrap_or_default()),
            };
            let shown = bar.clone();
            let verifier = loader.clone();
            let published = publish(input, &options, store.clone(), loader, shown).await?;
            fault_point::reach("publish.stored")?;
            let epoch = store.epoch().await?;
            let compared = match &from {
                Some(from) if !published.unchanged => {
                    bar.0.set_message("comparing");
                    let store = store.clone();
                    Some(read_back(&settings, from, &published, store, key.clone()).await?)
                }
                _ => None,
            };
            let checked = match self.dry_run {
                true => Ok(None),
                false => {
                    let access = Access::with_key(store.clone(), key.clone());
                    let opened = verifier.open_stored(&access, published.blob, published.root);
                    opened.await.map(Some)
                }
            };
            let verified = match self.verify && !published.unchanged {
                true => {
                    let access = Access::with_key(store, key.clone());
                    Some(fsck::verify(&published, &verifier, access, &bar.0).await?)
                }
                false => None,
            };
            Ok((published, from, compared, checked, verified, epoch))
        });
        bar.end();
        let (published, from, compared, checked, verified, epoch) = done?;
        let address = Address::Walrus {
            blob: published.blob,
            root: Some(published.root),
        };
        for warning in &published.warnings {
            output::warning(warning);
        }
        let price = settings.price();
        let bill = Bill {
            blobs: published.blobs_uploaded,
            bytes: published.bytes_stored,
            billed: published.bytes_billed,
        };
        let cost = output::money(bill.price(&price, options.put.epochs), &price.currency);
        let epochs = options.put.epochs;
        if !published.unchanged && !self.dry_run {
            let ledger = Ledger::of(&settings);
            let entry = LedgerEntry::of(name.as_str(), &address.to_string(), &published.blobs);
            let epoch = epoch.or_else(|| published.epoch(options.put.epochs));
            ledger.append(&entry.stored_in(epoch, options.put.deletable))?;
        }
        // Before the name moves: open its new target as a reader does.
        let stored = checked.map_err(|error| {
            format!(
                "the new head cannot be read back ({error}); {name} stays as it was (the new head \
                 is {address})"
            )
        })?;
        if let (Some(old), Some(_), Some(stored)) = (&old, &from, &stored) {
            let new = context.run(async { Ok(Lineage::of(stored).await?) })?;
            self.check(&name, &new, old)?;
        }
        if let Some(wrong) = verified.as_ref().filter(|report| !report.is_sound()) {
            fsck::tell(wrong)?;
            return Err(format!(
                "what was stored reads back wrong; {name} stays as it was (the new head is {address})"
            )
            .into());
        }
        let mut replaced = None;
        if !self.dry_run {
            let to = NamedRef {
                key: kept.as_ref().map(|key| key.name.clone()),
                source: self.source(),
                ..NamedRef::now(&address)
            };
            let expected = match (&named, self.replaces_unreadable()) {
                (None, true) => Expected::Any,
                (named, _) => Expected::Address(named.as_ref().map(|it| it.address.as_str())),
            };
            refs.update(&name, expected, to, "publish")?;
            replaced = names::Replaced::of(context, &name, named.as_ref(), Some(&address));
            replaced = replaced.map(|replaced| replaced.at(old.as_ref()));
        }
        // From now on the name protects the stored blobs.
        drop(options);
        if let Some(lease) = lease.and_then(Arc::into_inner) {
            lease.finish()?;
        }
        let report = Report {
            address: address.to_string(),
            name: name.as_str(),
            network: &network.name,
            published: &published,
            replaced: replaced.as_ref(),
            compared,
            verified: verified.as_ref(),
            dry_run: self.dry_run,
            encrypted: key.is_some(),
            key: kept,
            cost: format!(
                "{cost} for {epochs} epoch{}",
                if epochs == 1 { "" } else { "s" }
            ),
            seconds: started.elapsed().as_secs_f64(),
        };
        if context.json {
            output::json(&report)?;
        } else {
            report.print()?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Publish {
    /// Whether to replace a name whose target is unreadable.
    fn replaces_unreadable(&self) -> bool {
        self.force || self.encrypt.fresh
    }

    /// Branch positions of the name's current target.
    async fn lineage(&self, old: &Repository, named: &NamedRef) -> Result<Lineage, Failure> {
        let mut lineage = match Lineage::of(old).await {
            Err(error) => return Err(PublishError::Previous(Box::new(error)).into()),
            Ok(lineage) => lineage,
        };
        if let Some(folder) = &mut lineage.folder {
            folder.path = named.source.clone();
        }
        Ok(lineage)
    }

    /// Refuses to move the name to a head that does not continue it, unless forced.
    fn check(&self, name: &RefName, new: &Lineage, old: &Lineage) -> Result<(), Failure> {
        match new.continues(old) {
            Err(why) if self.dry_run => {
                output::warning(&format!("{name} would not be moved: {why}"));
                Ok(())
            }
            Err(why) if !self.force => Err(names::refusal(name, &why, &old.summary())),
            _ => Ok(()),
        }
    }

    /// The published plain folder; `None` for a repository.
    fn source(&self) -> Option<String> {
        let path = self.path.as_ref()?;
        lineage(path, &self.branches, self.history)
            .ok()?
            .folder?
            .path
    }

    /// The name to publish under.
    fn name(&self) -> Result<RefName, Failure> {
        let Some(path) = &self.path else {
            return self
                .name
                .clone()
                .ok_or_else(|| "--from needs --name NAME".into());
        };
        if !path.exists() {
            return Err(format!("{}: there is nothing here to publish", path.display()).into());
        }
        let named = self.name.clone().or_else(|| context::name_for(path));
        named.ok_or_else(|| {
            let path = path.display();
            format!("{path}: its name cannot name a repository; choose one with --name NAME").into()
        })
    }

    /// The learned profile to ship.
    fn learned(
        &self,
        context: &Context,
        settings: &Settings,
        name: &RefName,
    ) -> Result<Learned, Failure> {
        let profile = match (&self.profile, self.with_learned) {
            (Some(file), _) => learned::read(file)?.0,
            (None, true) => {
                let bytes = learned::export(context, settings, name.as_str(), &self.keys)?;
                Profile::decode(&bytes, Limits::default())?
            }
            (None, false) => {
                return Ok(match self.without_profile {
                    true => Learned::Nothing,
                    false => Learned::AsBefore,
                });
            }
        };
        Ok(Learned::This(profile.encode_shipped()))
    }

    /// Opens the repository to rewrite.
    async fn open(
        &self,
        settings: &Settings,
        loader: &Arc<Loader>,
        address: &Address,
    ) -> Result<Repository, Failure> {
        let from = context::open(settings, loader, address, &self.keys).await?;
        if !from.is_implied() {
            let why = "is in the format of walgit-fs already; refs --set NAME ADDRESS names it";
            return Err(format!("{address} {why}").into());
        }
        if !self.encrypt.allows(&from) {
            let why = "is encrypted, and what is published can be read by everybody; add \
                       --encrypt, or --plaintext to publish it all the same";
            return Err(format!("{address} {why}").into());
        }
        Ok(from)
    }
}

/// Reads the published repository back through a private cache and compares it with its
/// source.
async fn read_back(
    settings: &Settings,
    from: &Repository,
    published: &Published,
    store: Arc<dyn BlobStore>,
    key: Option<SecretKey>,
) -> Result<Compared, Failure> {
    let fresh = context::private_cache(settings)?;
    let loader = context::loader(&fresh);
    let root = Some(published.root);
    let access = Access::with_key(store, key);
    let rewritten = loader.open(access, published.blob, root).await?;
    Ok(compare(from, &rewritten).await?)
}

impl Report<'_> {
    fn print(&self) -> Result<(), Failure> {
        let p = self.published;
        let (name, network) = (self.name, self.network);
        output::line(&match (p.unchanged, self.dry_run) {
            (true, _) => format!("{name} unchanged since it was last published on {network}"),
            (false, true) => format!("{name}, a trial: nothing was stored on {network}"),
            (false, false) => format!("{name} published on {network}"),
        })?;
        let row = |key: &str, value: String| vec![format!("  {key}"), value];
        let mut rows = vec![
            row("address", self.address.clone()),
            row(
                "content",
                format!("{} files, {} directories", p.files, p.directories),
            ),
            row(
                "read",
                format!("{} in {:.1} s", output::bytes(p.bytes_read), self.seconds),
            ),
            row(
                "stored",
                format!(
                    "{} in {} new blobs, {} were there",
                    output::bytes(p.bytes_stored),
                    p.blobs_uploaded,
                    p.blobs_present
                ),
            ),
            row(
                "billed",
                format!("{}, {}", output::bytes(p.bytes_billed), self.cost),
            ),
        ];
        if let Some(history) = p.history.as_ref().filter(|_| !p.unchanged) {
            rows.push(row("history", archived(history)));
        }
        if let Some(replaced) = self.replaced {
            rows.extend(replaced.rows());
        }
        if let Some(key) = &self.key {
            rows.push(row("key", format!("{}, in {}", key.name, key.kept)));
        }
        if let Some(before) = &p.replaced {
            rows.push(row("history", format!("{} commits", before.commits)));
            rows.push(row("before", self.before(before)));
        }
        output::table(&rows)?;
        if let Some(compared) = &self.compared {
            let same = format!("  read back: {} files, all the same", compared.files);
            output::line(&same)?;
        }
        if let Some(verified) = self.verified {
            output::line(&format!(
                "  read back: {} pieces of content and {} directories, all right",
                verified.sound, verified.nodes
            ))?;
        }
        if let Some(key) = self.key.as_ref().filter(|key| key.made) {
            output::line("")?;
            output::line(
                "It is encrypted with a new key, and nobody can read it without: keep a copy \
                 elsewhere.",
            )?;
            output::line(&format!("  walgit-fs key show {} -o FILE", key.name))?;
        }
        if std::io::stdout().is_terminal() && !self.dry_run {
            output::line("")?;
            output::line(&format!("next: walgit-fs mount {} DIR", self.name))?;
        }
        Ok(())
    }

    /// Storage cost of the repository in its former layout, compared with the new one.
    fn before(&self, before: &Replaced) -> String {
        let mut text = format!(
            "{} blobs, billed {}",
            before.blobs,
            output::bytes(before.bytes_billed)
        );
        let times = before.bytes_billed / self.published.bytes_billed.max(1);
        if !self.published.unchanged && times > 1 {
            text.push_str(&format!(" (now 1/{times})"));
        }
        text.push_str(&format!(
            "; {} requests to read the newest commit",
            before.requests
        ));
        if let Some(now) = &self.compared {
            text.push_str(&format!(" (now {})", now.requests));
        }
        text
    }
}

/// Summary of the archived history.
fn archived(history: &HistoryReport) -> String {
    let new = match history.new_commits == history.commits {
        true => String::new(),
        false => format!(", {} of them new", history.new_commits),
    };
    format!(
        "{} commits{new}, {} objects in {}",
        history.commits,
        history.new_objects,
        output::bytes(history.new_bytes)
    )
}

/// Shows a publish as a progress bar over bytes read.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new(what: &'static str) -> Self {
        Bar(output::byte_bar(what))
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn total(&self, _files: u64, bytes: u64) {
        self.0.set_message("publishing");
        self.0.set_length(bytes);
    }

    fn read(&self, _files: u64, bytes: u64) {
        self.0.inc(bytes);
    }

    fn uploading(&self, bytes: u64) {
        self.0
            .set_message(format!("publishing (uploading {})", output::bytes(bytes)));
    }

    fn compared(&self, commits: u64) {
        if commits.is_multiple_of(100) {
            self.0
                .set_message(format!("publishing (comparing {commits} commits)"));
        }
    }

    fn history(&self, objects: u64, of: u64) {
        let what = match objects {
            0 => format!("counting {of} objects of the history"),
            _ => format!("{objects} of {of} objects of the history"),
        };
        self.0.set_message(format!("publishing ({what})"));
    }
}
