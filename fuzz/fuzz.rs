//! Feeds inputs to the check that the environment variable `CHECK` names.
#![no_main]

use std::sync::LazyLock;

use checks::{ALL, Check};

static CHECK: LazyLock<Check> = LazyLock::new(|| {
    let name = std::env::var("CHECK").unwrap_or_default();
    let found = ALL.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no check CHECK=`{name}`")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| CHECK(data));
