//! `publish`: publishes a git repository or a folder to Walrus.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;

use super::args::Keys;
use super::context::{self, Context};
use super::encrypt::EncryptionArgs;
use super::fsck::{print_faults, verify};
use super::names::{self, FormerTarget};
use super::open_cache::OpenCache;
use super::paths::{folder_exists, name_for};
use super::progress::PublishBar;
use super::publish_report::{PublishReport, cost};
use super::session::Session;
use super::{output, profile};
use crate::config::Settings;
use crate::leases::Leases;
use crate::lifecycle::{Ledger, LedgerEntry, fsck};
use crate::publish::{
    Comparison, Effort, HistoryDepth, Input, PublishError, PublishOptions, Published,
    ShippedProfile, compare, lineage, publish,
};
use crate::repo::refs::NamedRef;
use crate::repo::{Access, Lineage, RepoError, Repository};
use walgit_durable::fault_point;
use walgit_format::Address;
use walgit_format::names::RefName;
use walgit_prefetch::Profile;
use walgit_prefetch::model::Limits;
use walrus_client::network::MAX_EPOCHS;
use walrus_client::{BlobStore, DryRunStore, PutOptions};

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
#[command(after_long_help = EXAMPLES)]
pub(super) struct Publish {
    /// Git repository (bare or not) or folder
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    path: Option<PathBuf>,
    /// Rewrite this repository: walrus://MANIFEST_ID or sui://OBJECT_ID[/BRANCH]
    #[arg(long, value_name = "ADDRESS", requires = "name")]
    from: Option<Address>,
    #[command(flatten)]
    encrypt: EncryptionArgs,
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

const EXAMPLES: &str = "\
Examples:
  walgit-fs publish ~/src/ripgrep                      all history, named by its folder
  walgit-fs publish . --name tool --branch main --branch next --history 100
  walgit-fs publish ~/data --dry-run                   what it would store and cost
  walgit-fs publish --from sui://0x… --name tool       rewrite a repository of WalGit";

/// What a publish has stored.
struct PublishResult {
    published: Published,
    /// Epoch of the network, if it reports one.
    epoch: Option<u32>,
    /// Result of comparing a rewritten repository with the original.
    compared: Option<Comparison>,
    /// The new head, opened as a reader does; `None` for a dry run.
    opened: Result<Option<Repository>, RepoError>,
    /// Result of reading back the stored content.
    verified: Option<fsck::FsckReport>,
}

impl Publish {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        if let Some(path) = &self.path {
            folder_exists(path)?;
        }
        let settings = context.settings()?;
        let network = &settings.network.value;
        let name = self.name()?;
        let refs = context::refs(&settings);
        let session = Session::new(&settings, &self.keys)?;
        // Before the name is read: its target must be protected until the end.
        let lease = if self.dry_run {
            None
        } else {
            Some(Arc::new(Leases::of(&settings).take()?))
        };
        let replaces_unreadable = self.force || self.encrypt.fresh;
        let named = names::current(&refs, &name, replaces_unreadable)?;
        let (choice, old) = context.run(async {
            let how = (self.from.is_some(), self.force);
            let target = (&name, named.as_ref());
            let choice = self
                .encrypt
                .choose(&session, &self.keys, target, how)
                .await?;
            let old = match (&choice.old, &named) {
                (Some(old), Some(named)) => {
                    let lineage = names::lineage_of(old, named).await;
                    Some(lineage.map_err(|error| PublishError::Previous(Box::new(error)))?)
                }
                _ => None,
            };
            Ok((choice, old))
        })?;
        if let (Some(old), Some(path)) = (&old, &self.path) {
            let new = lineage(path, &self.branches, self.history)?;
            self.check(&name, &new, old)?;
        }
        let stored_key = match &choice.key {
            Some(chosen) if !self.dry_run => Some(chosen.store(&settings)?),
            _ => None,
        };
        if let (Some(lease), Some((before, _))) = (&lease, choice.previous) {
            lease.needs(before)?;
        }
        let key = choice.key.map(|chosen| chosen.key);
        let put = PutOptions {
            epochs: self.epochs.unwrap_or(network.epochs),
            deletable: !self.permanent,
        };
        let options = PublishOptions {
            branches: self.branches.clone(),
            put: put.clone(),
            skip_unreadable: self.skip_unreadable,
            previous: choice.previous,
            effort: if self.best {
                Effort::Best
            } else {
                Effort::Default
            },
            tiers: settings.tiers.value,
            history: self.history,
            key: key.clone(),
            lease: lease.clone(),
            profile: self.shipped_profile(context, &settings, &name)?,
        };
        let started = std::time::Instant::now();
        let bar = Arc::new(PublishBar::new("publishing"));
        let done = context.run(self.store(&session, &options, &bar));
        bar.end();
        let stored = done?;
        let published = &stored.published;
        let address = Address::Walrus {
            blob: published.blob,
            root: Some(published.root),
        };
        for warning in &published.warnings {
            output::warning(warning);
        }
        if !published.unchanged && !self.dry_run {
            let entry = LedgerEntry::of(name.as_str(), &address.to_string(), &published.blobs);
            let epoch = stored.epoch.or_else(|| published.epoch(put.epochs));
            Ledger::of(&settings).append(&entry.stored_in(epoch, put.deletable))?;
        }
        // Before the name moves: open its new target as a reader does.
        let opened = stored.opened.map_err(|error| {
            anyhow!(
                "the new head cannot be read back ({error}); {name} is unchanged (the new head is \
                 {address})"
            )
        })?;
        if let (Some(old), Some(_), Some(opened)) = (&old, &self.from, &opened) {
            let new = context.wait(Lineage::of(opened))?;
            self.check(&name, &new, old)?;
        }
        if let Some(report) = stored.verified.as_ref().filter(|report| !report.is_sound()) {
            print_faults(report)?;
            bail!(
                "verification after the upload failed; {name} is unchanged (the new head is \
                 {address})"
            );
        }
        let mut former = None;
        if !self.dry_run {
            let to = NamedRef {
                key: stored_key.as_ref().map(|key| key.name.clone()),
                source: self.source(),
                ..NamedRef::now(&address)
            };
            let expected = names::expected(named.as_ref(), replaces_unreadable);
            refs.update(&name, expected, to, "publish")?;
            let target = (named.as_ref(), old.as_ref());
            former = FormerTarget::new(context, &name, target, Some(&address));
        }
        // From now on the name protects the stored blobs.
        drop(options);
        if let Some(lease) = lease.and_then(Arc::into_inner) {
            lease.finish()?;
        }
        let report = PublishReport {
            address: address.to_string(),
            name: name.as_str(),
            network: &network.name,
            published,
            replaced: former.as_ref(),
            compared: stored.compared,
            verified: stored.verified.as_ref(),
            dry_run: self.dry_run,
            encrypted: key.is_some(),
            key: stored_key,
            cost: cost(published, &settings, put.epochs),
            seconds: started.elapsed().as_secs_f64(),
        };
        context.report(&report, || report.print())
    }

    /// Stores the content, and reads back what was requested.
    async fn store(
        &self,
        session: &Session<'_>,
        options: &PublishOptions,
        bar: &Arc<PublishBar>,
    ) -> Result<PublishResult> {
        let settings = session.settings;
        let store: Arc<dyn BlobStore> = if self.dry_run {
            // A dry run needs no sign-in.
            Arc::new(DryRunStore::new(context::store(settings)?))
        } else {
            context::store_to_write(settings)?
        };
        let (from, input) = match (&self.from, &self.path) {
            (Some(address), _) => {
                let from = self.open_source(session, address).await?;
                (Some(from.clone()), Input::Repository(from))
            }
            (None, path) => (None, Input::Path(path.clone().unwrap_or_default())),
        };
        let loader = &session.loader;
        let published = publish(input, options, store.clone(), loader.clone(), bar.clone()).await?;
        fault_point::reach("publish.stored")?;
        let epoch = store.epoch().await?;
        let access = || Access::with_key(store.clone(), options.key.clone());
        let (blob, root) = (published.blob, published.root);
        let compared = match &from {
            Some(from) if !published.unchanged => {
                bar.0.set_message("comparing");
                // A private cache: read back what is stored, not what was cached.
                let cache = OpenCache::private(settings)?;
                let fresh = Session::over(cache, settings, &self.keys);
                let rewritten = fresh.loader.open(access(), blob, Some(root)).await?;
                Some(compare(from, &rewritten).await?)
            }
            _ => None,
        };
        let opened = if self.dry_run {
            Ok(None)
        } else {
            loader.open_stored(&access(), blob, root).await.map(Some)
        };
        let verified = if self.verify && !published.unchanged {
            Some(verify(&published, loader, access(), &bar.0).await?)
        } else {
            None
        };
        Ok(PublishResult {
            published,
            epoch,
            compared,
            opened,
            verified,
        })
    }

    /// Refuses to move the name to a head that does not continue it, unless forced.
    fn check(&self, name: &RefName, new: &Lineage, old: &Lineage) -> Result<()> {
        match new.continues(old) {
            Err(why) if self.dry_run => {
                warning!("{name} would not be moved: {why}");
                Ok(())
            }
            Err(why) if !self.force => Err(names::refusal(name, &why, &old.summary())),
            _ => Ok(()),
        }
    }

    /// The published plain folder; `None` for a repository.
    fn source(&self) -> Option<String> {
        let lineage = lineage(self.path.as_ref()?, &self.branches, self.history);
        lineage.ok()?.folder?.path
    }

    /// The name to publish under.
    fn name(&self) -> Result<RefName> {
        let Some(path) = &self.path else {
            return self.name.clone().context("--from needs --name NAME");
        };
        let shown = path.display();
        ensure!(path.exists(), "{shown}: no such file or folder to publish");
        let named = self.name.clone().or_else(|| name_for(path));
        named.with_context(|| {
            format!("{shown}: not usable as the name of a repository; choose one with --name NAME")
        })
    }

    /// The learned profile to ship.
    fn shipped_profile(
        &self,
        context: &Context,
        settings: &Settings,
        name: &RefName,
    ) -> Result<ShippedProfile> {
        let profile = if let Some(file) = &self.profile {
            profile::read(file)?.0
        } else if self.with_learned {
            let bytes = profile::export(context, settings, name.as_str(), &self.keys)?;
            Profile::decode(&bytes, Limits::default())?
        } else if self.without_profile {
            return Ok(ShippedProfile::Omit);
        } else {
            return Ok(ShippedProfile::Inherit);
        };
        Ok(ShippedProfile::Replace(profile.encode_shipped()))
    }

    /// Opens the repository to rewrite.
    async fn open_source(&self, session: &Session<'_>, address: &Address) -> Result<Repository> {
        let from = session.open(address).await?;
        ensure!(
            from.is_derived(),
            "{address} is in the format of walgit-fs already; refs --set NAME ADDRESS names it"
        );
        ensure!(
            self.encrypt.allows(&from),
            "{address} is encrypted, but this publish is readable by everybody; add --encrypt, or \
             --plaintext to publish it anyway"
        );
        Ok(from)
    }
}
