#!/bin/sh
# Explains why the first build takes long.
set -eu
ls "$1"/release/build/*rocksdb-sys*/out/librocksdb.a >/dev/null 2>&1 ||
    echo "The first build compiles RocksDB: about 10 minutes on a laptop, 25 on two slow cores. Later builds reuse it."
