//! `publish`: a git repository or a folder goes to Walrus.

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
use crate::daemon::Claimed;
use crate::lifecycle::{Ledger, LedgerEntry};
use crate::publish::{
    Claims, Compared, Effort, HistoryDepth, HistoryReport, Input, Learned, Progress, PublishError,
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
/// Publishing the same again uploads nothing, publishing a changed tree only
/// what is new. Interrupted at any point, the old head stays as it was; run the
/// same command again to go on.
///
/// Like `git push`, it refuses to move a name to what does not continue it:
/// another repository or folder, an older commit, another default branch, a tag
/// that has moved, less history than the name carries. --force moves it; the old address and the command that brings it back are
/// printed.
///
/// With --encrypt only those who have the key can read it, and tell what it is.
///
/// With --from, a repository of WalGit's own tools (one blob a file) is
/// rewritten with all of its history, read back and compared, and what that
/// saves is told. The old one stays as it is.
#[derive(Debug, Args)]
pub(super) struct Publish {
    /// A git repository (bare or not) or a folder
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    path: Option<PathBuf>,
    /// Rewrite this repository: walrus://MANIFEST_ID or sui://OBJECT_ID[/BRANCH]
    #[arg(long, value_name = "ADDRESS", requires = "name")]
    from: Option<Address>,
    #[command(flatten)]
    encrypt: Encrypt,
    /// Name it is mounted by afterwards [default: the folder's name]
    #[arg(long)]
    name: Option<RefName>,
    /// Publish this branch; may be repeated, the first is what a mount shows
    /// [default: the current one]
    #[arg(long = "branch", value_name = "BRANCH", conflicts_with = "from")]
    branches: Vec<String>,
    /// Move the name even to what does not continue it; with a head that cannot be
    /// read, store everything again
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    keys: Keys,
    /// Carry along what `prefetch export` wrote to this file, for those who mount
    /// it and have learned nothing yet; kept when it is published again
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Carry along what was learned here about the repository of this name
    #[arg(long, conflicts_with = "profile")]
    with_learned: bool,
    /// Carry along nothing that was learned
    #[arg(long, conflicts_with_all = ["profile", "with_learned"])]
    without_profile: bool,
    /// How much of a git repository's history to publish: all, the last so many
    /// commits of each branch, or none
    #[arg(
        long,
        value_name = "all|N|none",
        default_value = "all",
        conflicts_with = "from"
    )]
    history: HistoryDepth,
    /// Leave out what cannot be read of a plain folder, and say so. What vanishes or
    /// is no file, folder or link is left out in any case
    #[arg(long, conflicts_with = "from")]
    skip_unreadable: bool,
    /// Compress as well as possible, at a tenth of the speed: for what is
    /// published rarely
    #[arg(long)]
    best: bool,
    /// Store for this many epochs (1 to 53) [default: the profile's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EPOCHS)))]
    epochs: Option<u32>,
    /// Store so that nobody, not even the owner, can delete it early
    #[arg(long)]
    permanent: bool,
    /// Read everything that was stored back and check it, before the name is
    /// set
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    /// Store nothing; tell what would be stored, and what that costs
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
    /// What the name stood for before, where it moved.
    replaced: Option<&'a names::Replaced>,
    /// What reading a rewritten repository back found.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
    /// What reading back what was stored found.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<&'a crate::lifecycle::fsck::Report>,
    dry_run: bool,
    encrypted: bool,
    /// Where its key is.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeptKey>,
    /// What storing it costs, in words.
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
        // Before the name is looked at: what it stands for is needed until the end.
        let lease = match self.dry_run {
            true => None,
            false => Some(Arc::new(Claimed::new(context::leases(&settings).take()?))),
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
            claims: match (&lease, choice.previous) {
                (Some(lease), previous) => {
                    if let Some((before, _)) = previous {
                        lease.needs(before)?;
                    }
                    Some(lease.clone() as Arc<dyn Claims>)
                }
                (None, _) => None,
            },
            learned: self.learned(context, &settings, &name)?,
        };
        let started = std::time::Instant::now();
        let store = match self.dry_run {
            // Nobody has to be signed in for that.
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
        // Before the name moves: what it is to stand for is read as a reader would.
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
        // From here on the name protects what was stored.
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
    /// Whether a name that leads to nothing readable may be replaced.
    fn replaces_unreadable(&self) -> bool {
        self.force || self.encrypt.anew
    }

    /// Where the branches of what the name stands for are.
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

    /// Refuses to move the name to what does not continue it, unless that is forced.
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

    /// The plain folder that is published; `None` for a repository.
    fn source(&self) -> Option<String> {
        let path = self.path.as_ref()?;
        lineage(path, &self.branches, self.history)
            .ok()?
            .folder?
            .path
    }

    /// The name it is published under.
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

    /// What it carries along of what was learned.
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

    /// Opens what is to be rewritten.
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

/// Reads what was published through a cache of its own and compares it with
/// what it was made of.
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

    /// What the repository cost in its former layout, beside what it costs now.
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

/// What was archived of a history, in words.
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

/// Shows a publish as a bar over the bytes read.
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
