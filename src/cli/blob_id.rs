//! `blob-id`: computes the blob ID of a file.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::{Failure, output};
use walrus_encoding::blob_id::blob_id_of;
use walrus_encoding::cost;

/// Print the Walrus blob ID of a file, computed locally
#[derive(Debug, Args)]
pub(super) struct BlobIdOf {
    /// Files to hash
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl BlobIdOf {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let several = self.files.len() > 1;
        let mut rows = Vec::new();
        for path in &self.files {
            let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
            let file = File::open(path).map_err(|e| named(&e))?;
            let metadata = file.metadata().map_err(|e| named(&e))?;
            if !metadata.is_file() {
                return Err(named(&"only a regular file has a blob ID").into());
            }
            let id = blob_id_of(file, metadata.len()).map_err(|e| named(&e))?;
            if context.json {
                rows.push(json!({
                    "file": path, "blob_id": id, "size": metadata.len(),
                    "billed": cost::encoded_size(metadata.len()),
                }));
            } else if several {
                output::line(&format!("{id}  {}", path.display()))?;
            } else {
                output::line(&id.to_string())?;
            }
        }
        if context.json {
            output::json(&rows)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
