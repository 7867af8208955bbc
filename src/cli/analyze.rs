//! `debug analyze`: classifies files, and estimates whether they compress.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use super::output;
use super::paths::folder_exists;
use super::progress::{CensusBar, count_bar};
use crate::publish::analyze::{Analysis, AnalyzedFile, Class, census};

/// Classify files (image, code, archive …) and estimate whether they compress
///
/// For a folder or git repository, reports files by class; for a git repository, those of
/// the current commit. Large files are sampled at their start, middle and end.
#[derive(Debug, Args)]
pub(super) struct Analyze {
    /// Files, folders or git repositories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Report each file instead of classes
    #[arg(long)]
    all: bool,
}

/// Result for one file.
#[derive(Serialize)]
struct FileReport {
    path: String,
    size: u64,
    #[serde(flatten)]
    analysis: Analysis,
}

/// Totals of a class.
#[derive(Clone, Copy, Default)]
struct ClassTotals {
    files: u64,
    bytes: u64,
    /// Bytes of files that do not compress.
    incompressible: u64,
    /// Bytes after compression, at the sampled ratio.
    compressed: f64,
    /// Entropy, weighted by bytes.
    bits: f64,
}

type Classes = BTreeMap<Class, ClassTotals>;

impl ClassTotals {
    fn add(&mut self, found: &AnalyzedFile) {
        let (size, analysis) = (found.size as f64, &found.analysis);
        self.files += 1;
        self.bytes += found.size;
        self.bits += size * analysis.entropy;
        if analysis.compressible {
            self.compressed += size * analysis.ratio.unwrap_or(1.0);
        } else {
            self.incompressible += found.size;
            self.compressed += size;
        }
    }

    fn of_all(classes: &Classes) -> Self {
        classes
            .values()
            .fold(ClassTotals::default(), |a, b| ClassTotals {
                files: a.files + b.files,
                bytes: a.bytes + b.bytes,
                incompressible: a.incompressible + b.incompressible,
                compressed: a.compressed + b.compressed,
                bits: a.bits + b.bits,
            })
    }

    fn ratio(&self) -> f64 {
        self.compressed / self.bytes.max(1) as f64
    }

    fn entropy(&self) -> f64 {
        self.bits / self.bytes.max(1) as f64
    }

    fn json(&self, class: Option<&Class>) -> Value {
        json!({
            "class": class.map(|class| class.name()),
            "kind": class.and_then(|class| class.kind()),
            "files": self.files,
            "bytes": self.bytes,
            "incompressible_bytes": self.incompressible,
            "entropy": self.entropy(),
            "ratio": self.ratio(),
        })
    }

    fn row(&self, name: String) -> [String; 6] {
        [
            name,
            self.files.to_string(),
            output::bytes(self.bytes),
            format!("{:.2}", self.entropy()),
            format!("{:.0} %", self.ratio() * 100.0),
            output::bytes(self.incompressible),
        ]
    }
}

impl Analyze {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let mut reports = Vec::new();
        for path in &self.paths {
            folder_exists(path)?;
            let is_file = path.is_file();
            let all = self.all || is_file;
            let mut files = Vec::new();
            let mut classes = Classes::new();
            let bar = CensusBar(count_bar("analyzing"));
            let done = census(path, &bar, |found| {
                classes.entry(found.analysis.class).or_default().add(&found);
                if all {
                    files.push(FileReport {
                        path: String::from_utf8_lossy(&found.path).into_owned(),
                        size: found.size,
                        analysis: found.analysis,
                    });
                }
            });
            bar.0.finish_and_clear();
            done?;
            let shown = path.display().to_string();
            if context.json {
                reports.push(report(&shown, &classes, all.then_some(&files)));
            } else if is_file {
                files.iter().try_for_each(|file| file.print(&shown))?;
            } else {
                if all {
                    print_files(&files)?;
                }
                print_classes(&shown, &classes)?;
            }
        }
        context.report(&reports, || Ok(()))
    }
}

fn report(path: &str, classes: &Classes, files: Option<&Vec<FileReport>>) -> Value {
    let by_class = by_size(classes).map(|(class, totals)| totals.json(Some(class)));
    let mut report = json!({
        "path": path,
        "classes": by_class.collect::<Vec<_>>(),
        "total": ClassTotals::of_all(classes).json(None),
    });
    if let Some(files) = files {
        report["files"] = json!(files);
    }
    report
}

/// Largest class first.
fn by_size(classes: &Classes) -> impl Iterator<Item = (&Class, &ClassTotals)> {
    let mut classes: Vec<_> = classes.iter().collect();
    classes.sort_by_key(|(_, totals)| std::cmp::Reverse(totals.bytes));
    classes.into_iter()
}

impl FileReport {
    fn print(&self, path: &str) -> Result<()> {
        let found = &self.analysis;
        let shrinks = match (found.compressible, found.ratio) {
            (true, Some(ratio)) => format!("to about {:.0} %", ratio * 100.0),
            (true, None) => "yes".into(),
            (false, _) => "no, it is stored as it is".into(),
        };
        outln!("{path}: {}", output::bytes(self.size))?;
        output::details([
            ("class", format!("{}: {}", found.class, found.why.class)),
            ("entropy", format!("{:.2} bits a byte", found.entropy)),
            ("shrinks", format!("{shrinks}: {}", found.why.compressible)),
        ])
    }
}

fn print_files(files: &[FileReport]) -> Result<()> {
    let headings = ["file", "size", "class", "entropy", "shrinks to", "why"];
    let rows = files.iter().map(|file| {
        let found = &file.analysis;
        let ratio = found.ratio.filter(|_| found.compressible);
        [
            file.path.clone(),
            output::bytes(file.size),
            found.class.to_string(),
            format!("{:.2}", found.entropy),
            ratio.map_or("does not".into(), |ratio| format!("{:.0} %", ratio * 100.0)),
            found.why.class.to_string(),
        ]
    });
    output::table_with_headings(headings, rows)
}

fn print_classes(path: &str, classes: &Classes) -> Result<()> {
    let headings = [
        "class",
        "files",
        "bytes",
        "entropy",
        "shrinks to",
        "does not shrink",
    ];
    let rows = by_size(classes).map(|(class, totals)| totals.row(class.to_string()));
    let total = ClassTotals::of_all(classes).row(format!("all of {path}"));
    output::table_with_headings(headings, rows.chain([total]))
}
