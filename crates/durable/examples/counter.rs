//! Counts its own runs in an append-only log that survives power loss.
//!
//! usage: counter LOG

use std::path::PathBuf;

use walgit_durable::AppendLog;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file: PathBuf = (std::env::args_os().nth(1))
        .ok_or("usage: counter LOG")?
        .into();
    let log = AppendLog::new(file);
    let records = log.read::<u32>()?.records;
    let run = records.last().map_or(1, |last| last + 1);
    log.append(&run)?;
    println!("run {run}");
    Ok(())
}
