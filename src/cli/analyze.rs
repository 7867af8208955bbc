//! `analyze`: classifies files, and estimates whether they compress.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;

use super::context::{self, Context};
use super::{Failure, output};
use crate::publish::analyze::{Analysis, Class, Found, Watch, census};

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
struct One {
    path: String,
    size: u64,
    #[serde(flatten)]
    analysis: Analysis,
}

/// Totals of a class.
#[derive(Clone, Copy, Default)]
struct Sum {
    files: u64,
    bytes: u64,
    /// Bytes of files that do not compress.
    stubborn: u64,
    /// Bytes after compression, at the sampled ratio.
    shrunk: f64,
    /// Entropy, weighted by bytes.
    bits: f64,
}

impl Sum {
    fn add(&mut self, found: &Found) {
        let (size, analysis) = (found.size as f64, &found.analysis);
        self.files += 1;
        self.bytes += found.size;
        self.bits += size * analysis.entropy;
        match analysis.compressible {
            true => self.shrunk += size * analysis.ratio.unwrap_or(1.0),
            false => {
                self.stubborn += found.size;
                self.shrunk += size;
            }
        }
    }

    fn ratio(&self) -> f64 {
        self.shrunk / self.bytes.max(1) as f64
    }

    fn entropy(&self) -> f64 {
        self.bits / self.bytes.max(1) as f64
    }
}

/// Shows a census as a progress bar over files.
struct Bar(ProgressBar);

impl Watch for Bar {
    fn known(&self, files: u64) {
        self.0.set_length(files);
    }

    fn seen(&self, files: u64) {
        self.0.inc(files);
    }
}

impl Analyze {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let mut reports = Vec::new();
        for path in &self.paths {
            context::folder_exists(path)?;
            let mut each = Vec::new();
            let mut classes: BTreeMap<Class, Sum> = BTreeMap::new();
            let all = self.all || path.is_file();
            let bar = Bar(output::count_bar("looking"));
            let looked = census(path, &bar, |found| {
                classes.entry(found.analysis.class).or_default().add(&found);
                if all {
                    each.push(One {
                        path: String::from_utf8_lossy(&found.path).into_owned(),
                        size: found.size,
                        analysis: found.analysis,
                    });
                }
            });
            bar.0.finish_and_clear();
            looked?;
            let shown = path.display().to_string();
            match (context.json, path.is_file()) {
                (true, _) => reports.push(report(&shown, &classes, all.then_some(&each))),
                (false, true) => each.iter().try_for_each(|one| one.print(&shown))?,
                (false, false) => {
                    if all {
                        print_each(&each)?;
                    }
                    print_classes(&shown, &classes)?;
                }
            }
        }
        if context.json {
            output::json(&reports)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn report(
    path: &str,
    classes: &BTreeMap<Class, Sum>,
    each: Option<&Vec<One>>,
) -> serde_json::Value {
    let told = |class: Option<&Class>, sum: &Sum| {
        json!({
            "class": class.map(|class| class.name()),
            "kind": class.and_then(|class| class.kind()),
            "files": sum.files,
            "bytes": sum.bytes,
            "incompressible_bytes": sum.stubborn,
            "entropy": sum.entropy(),
            "ratio": sum.ratio(),
        })
    };
    let by_class: Vec<_> = by_size(classes)
        .map(|(class, sum)| told(Some(class), sum))
        .collect();
    let mut report = json!({
        "path": path,
        "classes": by_class,
        "total": told(None, &total(classes)),
    });
    if let Some(each) = each {
        report["files"] = json!(each);
    }
    report
}

fn total(classes: &BTreeMap<Class, Sum>) -> Sum {
    classes.values().fold(Sum::default(), |a, b| Sum {
        files: a.files + b.files,
        bytes: a.bytes + b.bytes,
        stubborn: a.stubborn + b.stubborn,
        shrunk: a.shrunk + b.shrunk,
        bits: a.bits + b.bits,
    })
}

/// Largest class first.
fn by_size(classes: &BTreeMap<Class, Sum>) -> impl Iterator<Item = (&Class, &Sum)> {
    let mut classes: Vec<_> = classes.iter().collect();
    classes.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    classes.into_iter()
}

impl One {
    fn print(&self, path: &str) -> Result<(), Failure> {
        let found = &self.analysis;
        let shrinks = match (found.compressible, found.ratio) {
            (true, Some(ratio)) => format!("to about {:.0} %", ratio * 100.0),
            (true, None) => "yes".into(),
            (false, _) => "no, it is stored as it is".into(),
        };
        let row = |key: &str, value: String| vec![format!("  {key}"), value];
        output::line(&format!("{path}: {}", output::bytes(self.size)))?;
        output::table(&[
            row("class", format!("{}: {}", found.class, found.why.class)),
            row("entropy", format!("{:.2} bits a byte", found.entropy)),
            row("shrinks", format!("{shrinks}: {}", found.why.compressible)),
        ])
    }
}

fn print_each(each: &[One]) -> Result<(), Failure> {
    let head = ["file", "size", "class", "entropy", "shrinks to", "why"];
    let mut rows = vec![head.map(Into::into).to_vec()];
    rows.extend(each.iter().map(|one| {
        let found = &one.analysis;
        vec![
            one.path.clone(),
            output::bytes(one.size),
            found.class.to_string(),
            format!("{:.2}", found.entropy),
            percent(found.ratio.filter(|_| found.compressible)),
            found.why.class.to_string(),
        ]
    }));
    output::table(&rows)
}

fn percent(ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) => format!("{:.0} %", ratio * 100.0),
        None => "does not".into(),
    }
}

fn print_classes(path: &str, classes: &BTreeMap<Class, Sum>) -> Result<(), Failure> {
    let sum = total(classes);
    let head = [
        "class",
        "files",
        "bytes",
        "entropy",
        "shrinks to",
        "does not shrink",
    ];
    let mut rows = vec![head.map(Into::into).to_vec()];
    let row = |name: String, sum: &Sum| {
        vec![
            name,
            sum.files.to_string(),
            output::bytes(sum.bytes),
            format!("{:.2}", sum.entropy()),
            format!("{:.0} %", sum.ratio() * 100.0),
            output::bytes(sum.stubborn),
        ]
    };
    rows.extend(by_size(classes).map(|(class, sum)| row(class.to_string(), sum)));
    rows.push(row(format!("all of {path}"), &sum));
    output::table(&rows)
}
