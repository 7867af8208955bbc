//! Progress bars on standard error, if that is a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output;
use crate::lifecycle::fsck;
use crate::publish::{Progress, analyze};

/// A bar over bytes; appears only if the work takes longer than a moment.
pub(super) fn byte_bar(what: &'static str) -> ProgressBar {
    bar(
        what,
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    )
}

/// A bar over a count of items.
pub(super) fn count_bar(what: &'static str) -> ProgressBar {
    bar(what, "{msg} [{bar:30}] {pos}/{len} {eta}")
}

fn bar(what: &'static str, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_message(what);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Shows a census as a bar over files.
pub(super) struct CensusBar(pub(super) ProgressBar);

impl analyze::CensusProgress for CensusBar {
    fn found(&self, files: u64) {
        self.0.set_length(files);
    }

    fn analyzed(&self, files: u64) {
        self.0.inc(files);
    }
}

/// Shows a check as a bar over bytes.
pub(super) struct FsckBar(pub(super) ProgressBar);

impl fsck::FsckProgress for FsckBar {
    fn wanted(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn read(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

/// Shows a publish as a bar over bytes read.
#[derive(Debug)]
pub(super) struct PublishBar(pub(super) ProgressBar);

impl PublishBar {
    pub(super) fn new(what: &'static str) -> Self {
        PublishBar(byte_bar(what))
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }

    fn set_step(&self, step: &str) {
        self.0.set_message(format!("publishing ({step})"));
    }
}

impl Progress for PublishBar {
    fn total(&self, _files: u64, bytes: u64) {
        self.0.set_message("publishing");
        self.0.set_length(bytes);
    }

    fn read(&self, _files: u64, bytes: u64) {
        self.0.inc(bytes);
    }

    fn uploading(&self, bytes: u64) {
        self.set_step(&format!("uploading {}", output::bytes(bytes)));
    }

    fn compared(&self, commits: u64) {
        if commits.is_multiple_of(100) {
            self.set_step(&format!("comparing {commits} commits"));
        }
    }

    fn history(&self, objects: u64, of: u64) {
        self.set_step(&match objects {
            0 => format!("counting {of} objects of the history"),
            _ => format!("{objects} of {of} objects of the history"),
        });
    }
}
