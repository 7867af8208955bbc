//! Billed size and cost of blobs. The network bills the encoded size, regardless of the
//! content. The price of storage is the section `[networks.NAME.price]`:
//!
//! ```toml
//! [networks.mine.price]
//! currency = "WAL"                # "USD" by default
//! storage = 0.011                 # per GB (10⁹ bytes as billed) and epoch
//! write = 0.002                   # per GB written, charged once; default 0
//! ```

use serde::{Deserialize, Serialize};

/// Shards of the network.
const SHARDS: u64 = 1000;
/// Rows and columns of the encoding's matrix; see `blob_id`.
const ROWS: u64 = 334;
const COLUMNS: u64 = 667;
/// Bytes of a hash in the metadata.
const HASH_LEN: u64 = 32;
/// Bytes billed for every blob regardless of its length: hashes for each shard.
pub const METADATA_BYTES: u64 = SHARDS * (SHARDS * HASH_LEN * 2 + HASH_LEN);
/// Increment of the billed size, in bytes: it grows by this whenever the symbol size
/// does.
pub const BILLED_INCREMENT: u64 = SHARDS * (ROWS + COLUMNS) * 2;
/// Bytes billed per byte of a long blob, in addition to [`METADATA_BYTES`].
pub const BILLED_PER_BYTE: f64 = (SHARDS * (ROWS + COLUMNS)) as f64 / (ROWS * COLUMNS) as f64;

/// Bytes billed for a blob of `len` bytes: metadata for every shard, and two slivers per
/// shard (the network's formula for encoding RS2).
///
/// One byte is billed as about 64 MB, a large blob as about 4.5 times its length plus
/// these 64 MB. Therefore, files are packed.
pub fn encoded_size(len: u64) -> u64 {
    let symbol = len.max(1).div_ceil(ROWS * COLUMNS).next_multiple_of(2);
    METADATA_BYTES + SHARDS * (ROWS + COLUMNS) * symbol
}

/// Approximate price per GB and month on mainnet, and the length of its epochs.
const MAINNET_GB_MONTH: f64 = 0.023;
const MAINNET_EPOCH_DAYS: f64 = 14.0;
const DAYS_A_MONTH: f64 = 365.25 / 12.0;

/// The price of storage on a network. A GB is 10⁹ bytes, as billed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The currency: `USD`, `WAL`.
    #[serde(default = "dollars")]
    pub currency: String,
    /// Price per GB and epoch.
    pub storage: f64,
    /// Price per GB written, charged once.
    #[serde(default)]
    pub write: f64,
}

fn dollars() -> String {
    "USD".into()
}

impl Price {
    /// Returns the price on mainnet, without the additional cost of writing.
    pub fn mainnet() -> Self {
        Price {
            currency: dollars(),
            storage: MAINNET_GB_MONTH * MAINNET_EPOCH_DAYS / DAYS_A_MONTH,
            write: 0.0,
        }
    }
}

/// The billed size of several blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// Number of blobs.
    pub blobs: u64,
    /// Total length of the blobs, in bytes.
    pub bytes: u64,
    /// Billed bytes.
    pub billed: u64,
}

impl Bill {
    /// Adds a blob of `len` bytes.
    pub fn add(&mut self, len: u64) {
        self.blobs += 1;
        self.bytes = self.bytes.saturating_add(len);
        self.billed = self.billed.saturating_add(encoded_size(len));
    }

    /// Returns the cost of storing the blobs for `epochs`, in the currency of `price`.
    pub fn price(&self, price: &Price, epochs: u32) -> f64 {
        self.billed as f64 / 1e9 * (price.write + price.storage * f64::from(epochs))
    }
}

impl FromIterator<u64> for Bill {
    /// Computes the bill for blobs of these lengths.
    fn from_iter<I: IntoIterator<Item = u64>>(lens: I) -> Self {
        let mut bill = Bill::default();
        lens.into_iter().for_each(|len| bill.add(len));
        bill
    }
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

    #[test]
    fn a_bill_is_the_sum_of_its_blobs_and_its_price_grows_with_epochs_and_size() {
        let bill: Bill = [1, 1000, 5 << 20].into_iter().collect();
        let sum: u64 = [1, 1000, 5 << 20].map(encoded_size).iter().sum();
        assert_eq!((bill.blobs, bill.billed), (3, sum));
        let price = Price {
            write: 0.5,
            ..Price::mainnet()
        };
        let one_epoch = bill.price(&price, 1);
        let gb = sum as f64 / 1e9;
        assert!((one_epoch - gb * (0.5 + price.storage)).abs() < 1e-12);
        assert!((bill.price(&price, 11) - one_epoch - 10.0 * gb * price.storage).abs() < 1e-9);
        // 0.023 USD per GB and month: 26 epochs of 14 days are a year.
        let year = bill.price(&Price::mainnet(), 26) / gb;
        assert!((year - 12.0 * 0.023).abs() < 0.002, "{year}");
    }
}
