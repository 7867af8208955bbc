//! `cost`: estimates the cost of storing a repository on Walrus.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::context::{self, Context};
use super::keys::Keys;
use super::publish::Bar;
use super::{Failure, output};
use crate::config::{Settings, Tiers};
use crate::lifecycle::usage;
use crate::publish::{PublishOptions, publish};
use crate::repo::Repository;
use walgit_format::Address;
use walrus_client::network::MAX_EPOCHS;
use walrus_client::{BlobStore, LocalDir};
use walrus_encoding::Price;
use walrus_encoding::cost::Bill;

/// Show what storing a repository on Walrus costs, compared with other layouts
///
/// The network bills the encoded size of every blob: 64 MB, plus about 4.5 times its
/// length. For a folder or git repository, shows the cost of publishing it for the first
/// time; nothing is uploaded.
#[derive(Debug, Args)]
pub(super) struct Cost {
    /// Published NAME or address, or the path of a folder or git repository
    #[arg(value_name = "ADDRESS|PATH")]
    what: String,
    /// Number of epochs to pay for [default: the profile's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EPOCHS)))]
    epochs: Option<u32>,
    #[command(flatten)]
    keys: Keys,
}

/// A layout, and its cost.
#[derive(Serialize)]
struct Layout {
    #[serde(flatten)]
    bill: Bill,
    /// Per epoch, without the cost of writing.
    epoch: f64,
    /// For all epochs, including the cost of writing.
    total: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    trees: u64,
    files: u64,
    bytes: u64,
    epochs: u32,
    price: &'a Price,
    now: Layout,
    one_blob_a_file: Layout,
    quilts: Layout,
    missing: Vec<String>,
}

impl Cost {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let settings = context.settings()?;
        let cache = context::cache(&settings)?;
        let loader = context::loader(&cache);
        let path = PathBuf::from(&self.what);
        // `./name` is always a path; `name` is a path if nothing is published under it.
        let named = self.what.parse::<Address>();
        let published = match &named {
            Ok(Address::Name(name)) => context::refs(&settings).get(name)?.is_some(),
            Ok(_) => true,
            Err(_) => false,
        };
        let usage = context.run(async {
            match (published, named) {
                (true, Ok(address)) => {
                    let it = context::open(&settings, &loader, &address, &self.keys).await?;
                    Ok(usage(&it).await?)
                }
                _ if path.exists() => {
                    let trial = Trial::of(&settings)?;
                    let it = trial.publish(&path).await?;
                    Ok(usage(&it).await?)
                }
                (_, Err(error)) => Err(error.into()),
                (_, Ok(address)) => {
                    let why = "nothing is published under this name, and nothing is here";
                    Err(format!("{address}: {why}").into())
                }
            }
        })?;
        let mainnet = Price::mainnet();
        let price = settings.price.as_ref().unwrap_or(&mainnet);
        let epochs = self.epochs.unwrap_or(settings.network.value.epochs);
        let layout = |bill: Bill| Layout {
            bill,
            epoch: bill.price(price, 1) - bill.price(price, 0),
            total: bill.price(price, epochs),
        };
        let report = Report {
            name: &self.what,
            trees: usage.trees,
            files: usage.files,
            bytes: usage.bytes,
            epochs,
            price,
            now: layout(usage.now),
            one_blob_a_file: layout(usage.alone),
            quilts: layout(usage.quilts),
            missing: usage.missing.iter().map(ToString::to_string).collect(),
        };
        match context.json {
            true => output::json(&report)?,
            false => report.print(settings.price.is_none())?,
        }
        for missing in &report.missing {
            let what = "is needed and not stored any more; it is in no figure above";
            output::warning(&format!("blob {missing} {what}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A publish into a temporary directory.
struct Trial {
    dir: tempfile::TempDir,
    max_body: u64,
    tiers: Tiers,
    cache: context::OpenCache,
}

impl Trial {
    fn of(settings: &Settings) -> Result<Self, Failure> {
        let cache = context::private_cache(settings)?;
        Ok(Trial {
            dir: tempfile::Builder::new()
                .prefix("walgit-fs-cost")
                .tempdir_in(&settings.dirs.cache)?,
            max_body: settings.network.value.max_body,
            tiers: settings.tiers.value,
            cache,
        })
    }

    async fn publish(&self, path: &std::path::Path) -> Result<Repository, Failure> {
        let store: Arc<dyn BlobStore> = Arc::new(LocalDir::open(self.dir.path(), self.max_body)?);
        let loader = context::loader(&self.cache);
        let bar = Arc::new(Bar::new("reading"));
        let options = PublishOptions {
            tiers: self.tiers,
            ..PublishOptions::default()
        };
        let done = publish(path, &options, store.clone(), loader.clone(), bar.clone()).await;
        bar.end();
        let done = done?;
        done.warnings.iter().for_each(|it| output::warning(it));
        Ok(loader.open(store, done.blob, Some(done.root)).await?)
    }
}

impl Report<'_> {
    fn print(&self, elsewhere: bool) -> Result<(), Failure> {
        let of = match self.trees {
            1 => "1 tree".into(),
            trees => format!("{trees} trees"),
        };
        output::line(&format!(
            "{}: {} different files, {}, in {of}",
            self.name,
            self.files,
            output::bytes(self.bytes)
        ))?;
        let money = |amount: f64| output::money(amount, &self.price.currency);
        let mut rows = vec![vec![
            "  stored as".into(),
            "blobs".into(),
            "bytes".into(),
            "billed".into(),
            "an epoch".into(),
            match self.epochs {
                1 => "for 1 epoch".into(),
                epochs => format!("for {epochs} epochs"),
            },
            String::new(),
        ]];
        let now = self.now.bill.billed.max(1) as f64;
        for (what, layout) in [
            ("it is", &self.now),
            ("one blob a file", &self.one_blob_a_file),
            ("quilts", &self.quilts),
        ] {
            let times = layout.bill.billed as f64 / now;
            rows.push(vec![
                format!("  {what}"),
                layout.bill.blobs.to_string(),
                output::bytes(layout.bill.bytes),
                output::bytes(layout.bill.billed),
                money(layout.epoch),
                money(layout.total),
                match what {
                    "it is" => String::new(),
                    _ => format!("{times:.1} times"),
                },
            ]);
        }
        output::table(&rows)?;
        let price = self.price;
        let whose = if elsewhere { ", as on mainnet" } else { "" };
        let written = match price.write > 0.0 {
            true => format!(" and {} written once", money(price.write)),
            false => String::new(),
        };
        output::line(&format!(
            "  price: {} a GB and epoch{written}{whose}; [networks.NAME.price] sets another",
            money(price.storage)
        ))
    }
}
