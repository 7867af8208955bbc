//! The Walrus blob ID, computed as the network does (encoding RS2).
//!
//! A blob is arranged row by row as a matrix of [`ROWS`] × [`COLUMNS`] symbols and padded
//! with zeros. Reed-Solomon extends every row to [`SHARDS`] symbols and then every column
//! to [`SHARDS`], which gives `SHARDS`² symbols. The ID commits to a Merkle tree over
//! every row and every column.
//!
//! Three million small BLAKE2b hashes dominate the time, whatever the size of the blob:
//! one per symbol (used for its row and its column), two million inside the trees.
//! Several are computed at once in vector registers, on all cores. Memory: the hashes of
//! the symbols (32 MB), and the content of a few columns at a time; a large extension of
//! the rows goes to a temporary file, so a blob of any size takes about 150 MB.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use blake2b_simd::Params;
use blake2b_simd::many::{HashManyJob, hash_many};
use rayon::prelude::*;
use reed_solomon_simd::ReedSolomonEncoder;

use walgit_format::chunk::BlobId;

/// Shards of the network, `n`.
const SHARDS: usize = 1000;
/// Rows of the blob's matrix, `k1 = n - 2f` with `f = (n - 1) / 3`.
pub(super) const ROWS: usize = 334;
/// Columns of the blob's matrix, `k2 = n - f`.
pub(super) const COLUMNS: usize = 667;
/// Largest symbol in bytes: an even number that fits in 16 bits.
pub(super) const MAX_SYMBOL_LEN: u64 = 65_534;
/// Number of the encoding RS2.
const ENCODING_RS2: u8 = 1;
/// Extensions of rows larger than this go to a temporary file.
const MAX_IN_MEMORY_BYTES: u64 = 64 << 20;
/// Bytes of content that are processed at once.
const BATCH_BYTES: usize = 32 << 20;

/// Largest blob that the encoding supports, in bytes: about 13.6 GiB.
pub const MAX_LEN: u64 = MAX_SYMBOL_LEN * (ROWS * COLUMNS) as u64;

/// Why a blob has no ID.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages name the fields.
pub enum BlobIdError {
    #[error("{0} bytes are more than one blob can hold ({MAX_LEN})")]
    TooLarge(u64),
    /// Reading the content or using the temporary file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the Reed-Solomon codec failed: {0}")]
    Codec(#[from] reed_solomon_simd::Error),
}

type Hash = [u8; 32];

/// Computes the ID of a blob in memory.
///
/// # Errors
/// [`BlobIdError::TooLarge`]; [`BlobIdError::Io`] when a temporary file is needed (from
/// about 128 MiB on) and cannot be written.
pub fn blob_id(bytes: &[u8]) -> Result<BlobId, BlobIdError> {
    compute(&BlobInput::Memory(bytes), bytes.len() as u64)
}

/// Computes the ID of the first `len` bytes of a file, which it reads several times, in
/// bounded memory.
///
/// # Errors
/// As [`blob_id`], and when the file is shorter than `len`.
pub fn blob_id_of(file: File, len: u64) -> Result<BlobId, BlobIdError> {
    compute(&BlobInput::File(&file), len)
}

/// Random-access bytes; beyond `len` they are zero.
enum BlobInput<'a> {
    Memory(&'a [u8]),
    File(&'a File),
}

impl BlobInput<'_> {
    /// Fills `out` from `offset` of content of `len` bytes.
    fn read(&self, out: &mut [u8], offset: u64, len: u64) -> io::Result<()> {
        let available = len.saturating_sub(offset).min(out.len() as u64) as usize;
        let (filled, padding) = out.split_at_mut(available);
        padding.fill(0);
        match self {
            BlobInput::Memory(bytes) => {
                let start = offset.min(len) as usize;
                filled.copy_from_slice(&bytes[start..start + available]);
                Ok(())
            }
            BlobInput::File(file) => file.read_exact_at(filled, offset),
        }
    }
}

/// A matrix of symbols with [`ROWS`] rows, row by row.
struct Matrix<'a> {
    content: &'a BlobInput<'a>,
    len: u64,
    columns: usize,
    symbol: usize,
}

impl Matrix<'_> {
    /// Reads symbols of row `row`, starting at `first`, until `out` is full.
    fn read(&self, row: usize, first: usize, out: &mut [u8]) -> io::Result<()> {
        let offset = (row * self.columns + first) as u64 * self.symbol as u64;
        self.content.read(out, offset, self.len)
    }
}

fn compute(content: &BlobInput<'_>, len: u64) -> Result<BlobId, BlobIdError> {
    if len > MAX_LEN {
        return Err(BlobIdError::TooLarge(len));
    }
    let symbol = len.max(1).div_ceil((ROWS * COLUMNS) as u64);
    let symbol = symbol.next_multiple_of(2) as usize;
    let source = Matrix {
        content,
        len,
        columns: COLUMNS,
        symbol,
    };
    // Hashes of symbols, column by column.
    let mut leaves = vec![[0u8; 32]; SHARDS * SHARDS];
    let (of_source, of_extension) = leaves.split_at_mut(COLUMNS * SHARDS);
    let row_len = (SHARDS - COLUMNS) * symbol;
    let extended = (ROWS * row_len) as u64;
    let hash_extension = |content, leaves: &mut [Hash]| {
        let extension = Matrix {
            content: &content,
            len: extended,
            columns: SHARDS - COLUMNS,
            symbol,
        };
        hash_columns(&extension, leaves)
    };
    if extended <= MAX_IN_MEMORY_BYTES {
        let mut extension = vec![0; extended as usize];
        extend_rows(&source, &mut |row, bytes| {
            extension[row * row_len..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        })?;
        hash_columns(&source, of_source)?;
        hash_extension(BlobInput::Memory(&extension), of_extension)?;
    } else {
        let spill = tempfile::tempfile()?;
        extend_rows(&source, &mut |row, bytes| {
            spill.write_all_at(bytes, (row * row_len) as u64)
        })?;
        hash_columns(&source, of_source)?;
        hash_extension(BlobInput::File(&spill), of_extension)?;
    }
    Ok(commit(&leaves, len))
}

/// Extends every row and passes its new symbols to `keep`, in order.
fn extend_rows(
    source: &Matrix<'_>,
    keep: &mut dyn FnMut(usize, &[u8]) -> io::Result<()>,
) -> Result<(), BlobIdError> {
    let symbol = source.symbol;
    let batch_len = (BATCH_BYTES / (SHARDS * symbol)).clamp(1, ROWS);
    for first in (0..ROWS).step_by(batch_len) {
        let rows: Vec<usize> = (first..ROWS.min(first + batch_len)).collect();
        let extended: Vec<Vec<u8>> = rows
            .par_iter()
            .map_init(
                || (Encoder::new(COLUMNS, symbol), vec![0; COLUMNS * symbol]),
                |(encoder, row_bytes), &row| {
                    source.read(row, 0, row_bytes)?;
                    let mut out = Vec::with_capacity((SHARDS - COLUMNS) * symbol);
                    encoder.extend(row_bytes, &mut |shard| out.extend_from_slice(shard))?;
                    Ok(out)
                },
            )
            .collect::<Result<_, BlobIdError>>()?;
        for (row, bytes) in rows.into_iter().zip(&extended) {
            keep(row, bytes)?;
        }
    }
    Ok(())
}

/// Extends every column of a matrix and hashes its symbols.
fn hash_columns(matrix: &Matrix<'_>, leaves: &mut [Hash]) -> Result<(), BlobIdError> {
    let symbol = matrix.symbol;
    // Adjacent columns are read together, one row at a time.
    let batch_len = (BATCH_BYTES / (ROWS * symbol)).clamp(1, 16);
    let width = batch_len * symbol;
    leaves
        .par_chunks_mut(batch_len * SHARDS)
        .enumerate()
        .map_init(
            || (Encoder::new(ROWS, symbol), Hasher::new(symbol)),
            |(encoder, hasher), (batch, leaves)| {
                let count = leaves.len() / SHARDS;
                let mut rows = vec![0; ROWS * width];
                for (row, bytes) in rows.chunks_mut(width).enumerate() {
                    matrix.read(row, batch * batch_len, &mut bytes[..count * symbol])?;
                }
                let mut column = vec![0; ROWS * symbol];
                for (i, leaves) in leaves.chunks_mut(SHARDS).enumerate() {
                    for (row, out) in column.chunks_mut(symbol).enumerate() {
                        let start = row * width + i * symbol;
                        out.copy_from_slice(&rows[start..start + symbol]);
                    }
                    column.chunks(symbol).for_each(|shard| hasher.push(shard));
                    encoder.extend(&column, &mut |shard| hasher.push(shard))?;
                    hasher.finish(leaves);
                }
                Ok(())
            },
        )
        .collect()
}

/// A Reed-Solomon encoder that extends `originals` symbols to [`SHARDS`].
struct Encoder {
    inner: Result<ReedSolomonEncoder, reed_solomon_simd::Error>,
    symbol: usize,
}

impl Encoder {
    fn new(originals: usize, symbol: usize) -> Self {
        Encoder {
            inner: ReedSolomonEncoder::new(originals, SHARDS - originals, symbol),
            symbol,
        }
    }

    /// Passes the new symbols that extend `symbols` to `each`, in order.
    fn extend(&mut self, symbols: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), BlobIdError> {
        let encoder = match &mut self.inner {
            Ok(encoder) => encoder,
            Err(error) => return Err((*error).into()),
        };
        for shard in symbols.chunks(self.symbol) {
            encoder.add_original_shard(shard)?;
        }
        encoder.encode()?.recovery_iter().for_each(each);
        Ok(())
    }
}

fn params() -> Params {
    let mut params = Params::new();
    params.hash_length(32);
    params
}

/// Hashes inputs of equal length, several at once. `inputs` is their concatenation.
fn hash_each(inputs: &[u8], len: usize, out: &mut [Hash]) {
    let params = params();
    // Enough jobs to fill the vector registers, few enough to stay in cache.
    const BATCH_LEN: usize = 32;
    let mut jobs: Vec<HashManyJob<'_>> = Vec::with_capacity(BATCH_LEN);
    for (inputs, out) in inputs
        .chunks(len * BATCH_LEN)
        .zip(out.chunks_mut(BATCH_LEN))
    {
        jobs.clear();
        jobs.extend(
            inputs
                .chunks(len)
                .map(|input| HashManyJob::new(&params, input)),
        );
        hash_many(jobs.iter_mut());
        for (job, out) in jobs.iter().zip(out) {
            out.copy_from_slice(job.to_hash().as_bytes());
        }
    }
}

/// Hashes the symbols of a column.
struct Hasher {
    symbol: usize,
    inputs: Vec<u8>,
}

impl Hasher {
    fn new(symbol: usize) -> Self {
        Hasher {
            symbol,
            inputs: Vec::with_capacity(SHARDS * (symbol + 1)),
        }
    }

    fn push(&mut self, shard: &[u8]) {
        self.inputs.push(0);
        self.inputs.extend_from_slice(shard);
    }

    fn finish(&mut self, out: &mut [Hash]) {
        match self.symbol {
            2 => {
                let known = two_byte_leaves();
                for (input, out) in self.inputs.chunks(3).zip(out) {
                    *out = known[usize::from(u16::from_le_bytes([input[1], input[2]]))];
                }
            }
            symbol => hash_each(&self.inputs, symbol + 1, out),
        }
        self.inputs.clear();
    }
}

/// The hashes of all symbols of two bytes: a lookup is much faster than hashing a million
/// of them, and blobs of up to 435 KiB consist of such symbols only.
fn two_byte_leaves() -> &'static [Hash] {
    static TWO_BYTE_LEAVES: OnceLock<Vec<Hash>> = OnceLock::new();
    TWO_BYTE_LEAVES.get_or_init(|| {
        let inputs: Vec<u8> = (0..=u16::MAX)
            .flat_map(|value| {
                let [low, high] = value.to_le_bytes();
                [0, low, high]
            })
            .collect();
        let mut out = vec![[0; 32]; 1 << 16];
        hash_each(&inputs, 3, &mut out);
        out
    })
}

/// Computes the root of a Merkle tree; a level of odd length is padded with zeros.
fn root(mut level: Vec<Hash>, inputs: &mut Vec<u8>) -> Hash {
    while level.len() > 1 {
        if level.len() % 2 == 1 {
            level.push([0; 32]);
        }
        inputs.clear();
        for pair in level.chunks(2) {
            inputs.push(1);
            inputs.extend_from_slice(&pair[0]);
            inputs.extend_from_slice(&pair[1]);
        }
        level.truncate(level.len() / 2);
        hash_each(inputs, 65, &mut level);
    }
    level[0]
}

/// Computes the ID from the hashes of all symbols, column by column.
fn commit(leaves: &[Hash], len: u64) -> BlobId {
    let roots = |of: &(dyn Fn(usize) -> Vec<Hash> + Sync)| -> Vec<Hash> {
        (0..SHARDS)
            .into_par_iter()
            .map_init(Vec::new, |inputs, i| root(of(i), inputs))
            .collect()
    };
    let rows = roots(&|i| leaves.iter().skip(i).step_by(SHARDS).copied().collect());
    let columns = roots(&|i| leaves[i * SHARDS..(i + 1) * SHARDS].to_vec());
    let mut inputs = Vec::with_capacity(SHARDS * 65);
    for (primary, secondary) in rows.iter().zip(columns.iter().rev()) {
        inputs.push(0);
        inputs.extend_from_slice(primary);
        inputs.extend_from_slice(secondary);
    }
    let mut pairs = vec![[0; 32]; SHARDS];
    hash_each(&inputs, 65, &mut pairs);
    let top = root(pairs, &mut inputs);
    let mut state = params().to_state();
    state
        .update(&[ENCODING_RS2])
        .update(&len.to_le_bytes())
        .update(&top);
    let mut id = [0; 32];
    id.copy_from_slice(state.finalize().as_bytes());
    BlobId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn input(len: usize) -> Vec<u8> {
        (0..len).map(|i| ((i * 31 + 7) % 251) as u8).collect()
    }

    #[test]
    fn ids_are_those_of_the_networks_own_encoder() {
        let vectors = include_str!("../testdata/blob_id_vectors.tsv");
        let rows = vectors.lines().filter(|line| !line.starts_with('#'));
        let mut checked = 0;
        for row in rows {
            let (len, id) = row.split_once('\t').unwrap();
            let bytes = input(len.parse().unwrap());
            assert_eq!(blob_id(&bytes).unwrap().to_string(), id, "{len} bytes");
            checked += 1;
        }
        assert!(checked >= 9);
    }

    #[test]
    fn a_file_has_the_id_of_its_bytes() {
        for len in [0, 1, 445_556, 445_557, 3 << 20] {
            let bytes = input(len);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            assert_eq!(
                blob_id_of(file, len as u64).unwrap(),
                blob_id(&bytes).unwrap()
            );
        }
    }

    #[test]
    fn a_file_shorter_than_its_declared_length_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(blob_id_of(file, 10), Err(BlobIdError::Io(_))));
    }

    #[test]
    fn a_length_no_blob_has_is_refused_before_any_work() {
        let file = tempfile::tempfile().unwrap();
        let refused = blob_id_of(file, MAX_LEN + 1);
        assert!(matches!(refused, Err(BlobIdError::TooLarge(_))));
    }
}
