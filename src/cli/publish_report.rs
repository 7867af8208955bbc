//! The report of `publish`.

use std::io::IsTerminal as _;

use anyhow::Result;
use serde::Serialize;

use super::encrypt::StoredKey;
use super::names::FormerTarget;
use super::output;
use crate::config::Settings;
use crate::lifecycle::fsck;
use crate::publish::{Comparison, FormerLayout, HistoryReport, Published};
use walrus_encoding::cost::Bill;

/// Output of `--json`.
#[derive(Serialize)]
pub(super) struct PublishReport<'a> {
    pub(super) address: String,
    pub(super) name: &'a str,
    pub(super) network: &'a str,
    #[serde(flatten)]
    pub(super) published: &'a Published,
    /// Former target of the name, if it moved.
    pub(super) replaced: Option<&'a FormerTarget>,
    /// Result of comparing a rewritten repository with the original.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compared: Option<Comparison>,
    /// Result of reading back the stored content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verified: Option<&'a fsck::FsckReport>,
    pub(super) dry_run: bool,
    pub(super) encrypted: bool,
    /// Location of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<StoredKey>,
    /// Cost of storage, formatted.
    pub(super) cost: String,
    pub(super) seconds: f64,
}

/// Cost of storing what was published.
pub(super) fn cost(published: &Published, settings: &Settings, epochs: u32) -> String {
    let price = settings.price();
    let bill = Bill {
        blobs: published.blobs_uploaded,
        bytes: published.bytes_stored,
        billed: published.bytes_billed,
    };
    let cost = output::money(bill.price(&price, epochs), &price.currency);
    let s = if epochs == 1 { "" } else { "s" };
    format!("{cost} for {epochs} epoch{s}")
}

impl PublishReport<'_> {
    pub(super) fn print(&self) -> Result<()> {
        let p = self.published;
        let (name, network) = (self.name, self.network);
        output::line(&match (p.unchanged, self.dry_run) {
            (true, _) => format!("{name} unchanged since it was last published on {network}"),
            (false, true) => format!("{name}, a trial: nothing was stored on {network}"),
            (false, false) => format!("{name} published on {network}"),
        })?;
        let stored = format!(
            "{} in {} new blobs, {} existed",
            output::bytes(p.bytes_stored),
            p.blobs_uploaded,
            p.blobs_present
        );
        let read = format!("{} in {:.1} s", output::bytes(p.bytes_read), self.seconds);
        let billed = format!("{}, {}", output::bytes(p.bytes_billed), self.cost);
        let mut rows = vec![
            ("address", self.address.clone()),
            (
                "content",
                format!("{} files, {} directories", p.files, p.directories),
            ),
            ("read", read),
            ("stored", stored),
            ("billed", billed),
        ];
        if let Some(history) = p.history.as_ref().filter(|_| !p.unchanged) {
            rows.push(("history", archived(history)));
        }
        rows.extend(self.replaced.iter().flat_map(|former| former.details()));
        if let Some(key) = &self.key {
            rows.push(("key", format!("{}, in {}", key.name, key.location)));
        }
        if let Some(before) = &p.former {
            rows.push(("history", format!("{} commits", before.commits)));
            rows.push(("before", self.before(before)));
        }
        output::details(rows)?;
        if let Some(compared) = &self.compared {
            outln!("  read back: {} files, all identical", compared.files)?;
        }
        if let Some(verified) = self.verified {
            outln!(
                "  read back: {} chunks of content and {} directories, all intact",
                verified.sound,
                verified.nodes
            )?;
        }
        if let Some(key) = self.key.as_ref().filter(|key| key.created) {
            outln!("")?;
            outln!(
                "It is encrypted with a new key and unreadable without it: keep a copy elsewhere."
            )?;
            outln!("  walgit-fs key show {} -o FILE", key.name)?;
        }
        if std::io::stdout().is_terminal() && !self.dry_run {
            outln!("")?;
            outln!("next: walgit-fs mount {} DIR", self.name)?;
        }
        Ok(())
    }

    /// Storage cost of the repository in its former layout, compared with the new one.
    fn before(&self, before: &FormerLayout) -> String {
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
    let new = if history.new_commits == history.commits {
        String::new()
    } else {
        format!(", {} of them new", history.new_commits)
    };
    format!(
        "{} commits{new}, {} objects in {}",
        history.commits,
        history.new_objects,
        output::bytes(history.new_bytes)
    )
}
