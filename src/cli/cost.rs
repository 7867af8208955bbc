//! `cost`: estimates the cost of storing a repository on Walrus.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::Keys;
use super::context::{self, Context};
use super::open_cache::OpenCache;
use super::output;
use super::progress::PublishBar;
use super::session::Session;
use crate::config::Settings;
use crate::lifecycle::{Usage, usage};
use crate::publish::{PublishOptions, publish};
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
struct LayoutCost {
    #[serde(flatten)]
    bill: Bill,
    /// Per epoch, without the cost of writing.
    epoch: f64,
    /// For all epochs, including the cost of writing.
    total: f64,
}

#[derive(Serialize)]
struct CostReport<'a> {
    name: &'a str,
    trees: u64,
    files: u64,
    bytes: u64,
    epochs: u32,
    price: &'a Price,
    now: LayoutCost,
    one_blob_a_file: LayoutCost,
    quilts: LayoutCost,
    missing: Vec<String>,
}

impl Cost {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let settings = context.settings()?;
        let session = Session::new(&settings, &self.keys)?;
        let path = PathBuf::from(&self.what);
        // `./name` is always a path; `name` is a path if nothing is published under it.
        let address = self.what.parse::<Address>();
        let published = match &address {
            Ok(Address::Name(name)) => context::refs(&settings).get(name)?.is_some(),
            Ok(_) => true,
            Err(_) => false,
        };
        let usage = context.run(async {
            match address {
                Ok(address) if published => Ok(usage(&session.open(&address).await?).await?),
                _ if path.exists() => usage_if_published(&path, &settings).await,
                Err(error) => Err(error.into()),
                Ok(address) => {
                    bail!(
                        "{address}: no repository is published under this name, and no file has it"
                    )
                }
            }
        })?;
        let price = settings.price();
        let epochs = self.epochs.unwrap_or(settings.network.value.epochs);
        let layout = |bill: Bill| LayoutCost {
            bill,
            epoch: bill.price(&price, 1) - bill.price(&price, 0),
            total: bill.price(&price, epochs),
        };
        let report = CostReport {
            name: &self.what,
            trees: usage.trees,
            files: usage.files,
            bytes: usage.bytes,
            epochs,
            price: &price,
            now: layout(usage.now),
            one_blob_a_file: layout(usage.alone),
            quilts: layout(usage.quilts),
            missing: usage.missing.iter().map(ToString::to_string).collect(),
        };
        context.report(&report, || report.print(settings.price.is_none()))?;
        for missing in &report.missing {
            warning!(
                "blob {missing} is needed but no longer stored; the figures do not include it"
            );
        }
        Ok(())
    }
}

/// Measures a folder or git repository by publishing it into a temporary directory.
async fn usage_if_published(path: &Path, settings: &Settings) -> Result<Usage> {
    let cache = OpenCache::private(settings)?;
    let dir = tempfile::Builder::new()
        .prefix("walgit-fs-cost")
        .tempdir_in(&settings.dirs.cache)?;
    let max_body = settings.network.value.max_body;
    let store: Arc<dyn BlobStore> = Arc::new(LocalDir::open(dir.path(), max_body)?);
    let keys = Keys::default();
    let session = Session::over(cache, settings, &keys);
    let loader = &session.loader;
    let bar = Arc::new(PublishBar::new("reading"));
    let options = PublishOptions {
        tiers: settings.tiers.value,
        ..PublishOptions::default()
    };
    let done = publish(path, &options, store.clone(), loader.clone(), bar.clone()).await;
    bar.end();
    let done = done?;
    done.warnings.iter().for_each(|it| output::warning(it));
    let repository = loader.open(store, done.blob, Some(done.root)).await?;
    Ok(usage(&repository).await?)
}

impl CostReport<'_> {
    fn print(&self, elsewhere: bool) -> Result<()> {
        let trees = match self.trees {
            1 => "1 tree".into(),
            trees => format!("{trees} trees"),
        };
        outln!(
            "{}: {} different files, {}, in {trees}",
            self.name,
            self.files,
            output::bytes(self.bytes)
        )?;
        let money = |amount: f64| output::money(amount, &self.price.currency);
        let total = match self.epochs {
            1 => "for 1 epoch".into(),
            epochs => format!("for {epochs} epochs"),
        };
        let headings = [
            "  stored as",
            "blobs",
            "bytes",
            "billed",
            "an epoch",
            &total,
            "",
        ];
        let now = self.now.bill.billed.max(1) as f64;
        let row = |name: &str, layout: &LayoutCost, times: String| {
            [
                format!("  {name}"),
                layout.bill.blobs.to_string(),
                output::bytes(layout.bill.bytes),
                output::bytes(layout.bill.billed),
                money(layout.epoch),
                money(layout.total),
                times,
            ]
        };
        let times = |layout: &LayoutCost| format!("{:.1} times", layout.bill.billed as f64 / now);
        output::table_with_headings(
            headings,
            [
                row("present", &self.now, String::new()),
                row(
                    "one blob a file",
                    &self.one_blob_a_file,
                    times(&self.one_blob_a_file),
                ),
                row("quilts", &self.quilts, times(&self.quilts)),
            ],
        )?;
        let price = self.price;
        let whose = if elsewhere { ", as on mainnet" } else { "" };
        let written = if price.write > 0.0 {
            format!(" and {} written once", money(price.write))
        } else {
            String::new()
        };
        outln!(
            "  price: {} a GB and epoch{written}{whose}; [networks.NAME.price] sets another",
            money(price.storage)
        )
    }
}
