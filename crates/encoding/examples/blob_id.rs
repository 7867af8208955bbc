//! Prints the blob ID that Walrus gives a file, and the cost of storing it.
//!
//! usage: blob_id FILE

use std::fs::File;

use walrus_encoding::Price;
use walrus_encoding::blob_id::blob_id_of;
use walrus_encoding::cost::Bill;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: blob_id FILE")?;
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    println!("{}", blob_id_of(file, len)?);
    let bill: Bill = [len].into_iter().collect();
    let price = Price::mainnet();
    println!(
        "{len} bytes, billed as {}: {:.6} for one epoch on mainnet",
        bill.billed,
        bill.price(&price, 1)
    );
    Ok(())
}
