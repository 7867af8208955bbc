//! `publish`: a git repository or a folder goes to Walrus.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::context::{self, Context};
use super::{Failure, output};
use crate::lifecycle::{Ledger, LedgerEntry};
use crate::publish::{Progress, PublishOptions, Published, publish};
use crate::repo::Address;
use crate::repo::refs::RefName;
use crate::walrus::PutOptions;

/// Publish a git repository or a plain folder; prints its address
///
/// Publishing the same again uploads nothing, publishing a changed tree only
/// what is new. Interrupted at any point, the old head stays as it was; run the
/// same command again to go on.
#[derive(Debug, Args)]
pub(super) struct Publish {
    /// A git repository (bare or not) or a folder
    path: PathBuf,
    /// Name it is mounted by afterwards [default: the folder's name]
    #[arg(long)]
    name: Option<RefName>,
    /// Publish this branch; may be repeated, the first is what a mount shows
    /// [default: the current one]
    #[arg(long = "branch", value_name = "BRANCH")]
    branches: Vec<String>,
    /// Store for this many epochs (1 to 53) [default: the profile's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=53))]
    epochs: Option<u32>,
    /// Store so that nobody, not even the owner, can delete it early
    #[arg(long)]
    permanent: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    address: String,
    name: &'a str,
    network: &'a str,
    #[serde(flatten)]
    published: &'a Published,
    seconds: f64,
}

impl Publish {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        if !self.path.exists() {
            return Err(
                format!("{}: there is nothing here to publish", self.path.display()).into(),
            );
        }
        let name = match self.name {
            Some(name) => name,
            None => context::name_for(&self.path).ok_or_else(|| {
                format!(
                    "{}: its name cannot name a repository; choose one with --name NAME",
                    self.path.display()
                )
            })?,
        };
        let refs = context::refs(&settings);
        // A name whose file is damaged is published anew, as if there were none.
        let previous = match refs.get(&name).ok().flatten().map(|n| n.address.parse()) {
            Some(Ok(Address::Walrus { blob, root })) => Some((blob, root)),
            _ => None,
        };
        let network = &settings.network.value;
        let options = PublishOptions {
            branches: self.branches,
            put: PutOptions {
                epochs: self.epochs.unwrap_or(network.epochs),
                deletable: !self.permanent,
            },
            previous,
            ..PublishOptions::default()
        };
        let started = std::time::Instant::now();
        let cache = context::cache(&settings)?;
        let bar = Arc::new(Bar(output::byte_bar("publishing")));
        let published = context.run(async {
            let store = context::store(&settings)?;
            let loader = context::loader(&cache);
            let shown = bar.clone();
            Ok(publish(&self.path, &options, store, loader, shown).await?)
        });
        bar.0.finish_and_clear();
        let published = published?;
        let address = Address::Walrus {
            blob: published.blob,
            root: Some(published.root),
        };
        for warning in &published.warnings {
            eprintln!("warning: {warning}");
        }
        if !published.unchanged {
            let ledger = Ledger::new(&settings.dirs.data.join("ledger"), &network.name);
            ledger.append(&LedgerEntry::of(
                &name.to_string(),
                &address.to_string(),
                &published.blobs,
            ))?;
        }
        refs.set(&name, &address)?;
        let report = Report {
            address: address.to_string(),
            name: name.as_str(),
            network: &network.name,
            published: &published,
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

impl Report<'_> {
    fn print(&self) -> Result<(), Failure> {
        let p = self.published;
        let what = match p.unchanged {
            true => "unchanged since it was last published",
            false => "published",
        };
        output::line(&format!("{} {what} on {}", self.name, self.network))?;
        let row = |key: &str, value: String| vec![format!("  {key}"), value];
        output::table(&[
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
            row("billed", output::bytes(p.bytes_billed)),
        ])?;
        if std::io::stdout().is_terminal() {
            output::line(&format!("\nnext: walgit-fs mount {} DIR", self.name))?;
        }
        Ok(())
    }
}

/// Shows a publish as a bar over the bytes read.
#[derive(Debug)]
struct Bar(ProgressBar);

impl Progress for Bar {
    fn total(&self, _files: u64, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn read(&self, _files: u64, bytes: u64) {
        self.0.inc(bytes);
    }

    fn uploading(&self, bytes: u64) {
        self.0
            .set_message(format!("publishing (uploading {})", output::bytes(bytes)));
    }
}
