//! What the network bills for a blob: its encoded size, whatever is inside.

/// Shards of the network.
const SHARDS: u64 = 1000;
/// Rows and columns of the encoding's matrix; see `blob_id`.
const ROWS: u64 = 334;
const COLUMNS: u64 = 667;
/// Bytes of a hash in the metadata.
const HASH: u64 = 32;

/// Bytes billed for a blob of `len` bytes: metadata for every shard, and two
/// slivers a shard (the network's formula for encoding RS2).
///
/// One byte is billed as about 64 MB, a large blob as about 4.5 times its
/// length beside those. Hence: pack.
pub fn encoded_size(len: u64) -> u64 {
    let symbol = len.max(1).div_ceil(ROWS * COLUMNS).next_multiple_of(2);
    let metadata = SHARDS * (SHARDS * HASH * 2 + HASH);
    let slivers = SHARDS * (ROWS + COLUMNS) * symbol;
    metadata + slivers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_billed_as_about_64_mb() {
        assert_eq!(encoded_size(1), 64_032_000 + 2_002_000);
    }

    #[test]
    fn small_files_one_blob_each_cost_a_thousand_times_a_pack() {
        let alone = 10_000 * encoded_size(10 << 10);
        let packed = encoded_size(10_000 * (10 << 10));
        assert!(alone > 640_000_000_000 && packed < 600_000_000);
        assert!(alone / packed > 1000);
    }

    #[test]
    fn a_large_blob_is_billed_about_four_and_a_half_times() {
        let len = 4u64 << 30;
        let ratio = encoded_size(len) as f64 / len as f64;
        assert!((4.4..4.6).contains(&ratio), "{ratio}");
    }
}
