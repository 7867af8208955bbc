//! Output as table, JSON and chart.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A figure of walgit-fs, that of its rival, and the goal for their ratio.
#[derive(Debug)]
struct Row {
    what: String,
    ours: f64,
    rival: f64,
    against: String,
    unit: &'static str,
    /// Upper limit of `ours / rival`.
    goal: f64,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds durations in seconds; the goal applies to their ratio.
    pub(crate) fn times(&mut self, what: &str, ours: f64, against: &str, rival: f64, goal: f64) {
        self.row(what, ours, against, rival, "s", goal);
    }

    /// Adds figures of any unit.
    pub(crate) fn row(
        &mut self,
        what: &str,
        ours: f64,
        against: &str,
        rival: f64,
        unit: &'static str,
        goal: f64,
    ) {
        let row = Row {
            what: what.into(),
            ours,
            rival,
            against: against.into(),
            unit,
            goal,
        };
        println!("{}", row.text());
        self.rows.push(row);
    }

    /// Prints all rows again, and writes the JSON and the chart.
    pub(crate) fn finish(self, name: &str) {
        println!("\n| what | ours | rival | ratio | goal |\n|---|---|---|---|---|");
        for row in &self.rows {
            println!("{}", row.markdown());
        }
        let dir = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let text = serde_json::to_string_pretty(&rows).unwrap();
        for (kind, text) in [("json", text), ("svg", chart(&self.rows))] {
            let path = format!("{dir}/{name}.{kind}");
            std::fs::write(&path, text).unwrap();
            println!("wrote {path}");
        }
    }
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours / self.rival
    }

    fn text(&self) -> String {
        format!(
            "{}: {:.3} {} against {:.3} {} ({}): {:.2}, goal {:.2}",
            self.what,
            self.ours,
            self.unit,
            self.rival,
            self.unit,
            self.against,
            self.ratio(),
            self.goal
        )
    }

    fn markdown(&self) -> String {
        let mark = if self.ratio() <= self.goal {
            ""
        } else {
            " (missed)"
        };
        format!(
            "| {} | {:.3} {} | {}: {:.3} {} | {:.2} | ≤ {:.2}{mark} |",
            self.what,
            self.ours,
            self.unit,
            self.against,
            self.rival,
            self.unit,
            self.ratio(),
            self.goal
        )
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "ours": self.ours, "against": self.against, "rival": self.rival,
            "unit": self.unit, "ratio": self.ratio(), "goal": self.goal,
        })
    }
}

/// Ratios as bars, each with a mark at its goal.
fn chart(rows: &[Row]) -> String {
    const LINE_HEIGHT_PX: usize = 26;
    const BAR_LEFT_PX: f64 = 430.0;
    const BAR_WIDTH_PX: f64 = 360.0;
    let max_ratio = rows
        .iter()
        .map(|row| row.ratio().max(row.goal))
        .fold(1.0, f64::max);
    let scale = |ratio: f64| ratio / max_ratio * BAR_WIDTH_PX;
    let height = rows.len() * LINE_HEIGHT_PX + 40;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"20\">walgit-fs / the rival (shorter is better; \
         the line is the goal)</text>\n"
    );
    for (n, row) in rows.iter().enumerate() {
        let y = 34 + n * LINE_HEIGHT_PX;
        let fill = if row.ratio() <= row.goal {
            "#2a7"
        } else {
            "#d73"
        };
        let (bar, goal) = (scale(row.ratio()).max(1.0), BAR_LEFT_PX + scale(row.goal));
        let label = format!("{} / {}", row.what, row.against).replace('&', "&amp;");
        let label = label.replace('<', "&lt;");
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{}\">{label}</text>\
             <rect x=\"{BAR_LEFT_PX}\" y=\"{y}\" width=\"{bar:.1}\" height=\"16\" fill=\"{fill}\"/>\
             <line x1=\"{goal:.1}\" x2=\"{goal:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"#333\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.2}</text>",
            y + 13,
            y - 3,
            y + 19,
            BAR_LEFT_PX + scale(row.ratio().max(row.goal)) + 8.0,
            y + 13,
            row.ratio()
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Seconds that `work` takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    Duration::as_secs_f64(&started.elapsed())
}

/// The median.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Medians of two rivals that alternate, so that drift of the machine's speed affects
/// both equally.
pub(crate) fn in_turn(
    rounds: usize,
    mut ours: impl FnMut() -> f64,
    mut rival: impl FnMut() -> f64,
) -> (f64, f64) {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        one.push(ours());
        other.push(rival());
    }
    (median(one), median(other))
}
