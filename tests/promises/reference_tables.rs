//! The tables in `contrib/REFERENCE.md` list all config keys and metrics, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::json;
use walgit_fs::cache::CacheStats;
use walgit_fs::config::{Flags, Settings};
use walgit_fs::daemon::{DaemonStatus, NetworkStatus};
use walrus_client::StoreHealth;

use crate::support::{Server, Tree, World};

/// Rows of the table below a heading: cells without backticks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/REFERENCE.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    let names: BTreeSet<&String> = rows.iter().map(|row| &row[1]).collect();
    assert_eq!(names.len(), rows.len(), "a row occurs twice");
    rows
}

fn name(row: &[String]) -> String {
    row[1].trim_matches('`').to_owned()
}

/// Loads settings from a config file with this text.
fn load(text: &str) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    let flags = Flags {
        config: Some(path),
        ..Flags::default()
    };
    Settings::load(&flags).map_err(|error| error.to_string())
}

/// Words in backticks that an error lists as alternatives to `probe`; `None` if the error
/// has another reason.
fn alternatives(error: &str, reason: &str) -> Option<Vec<String>> {
    let (_, list) = error.split_once(&format!("{reason} `probe`"))?;
    let words = list.split('`').skip(1).step_by(2);
    Some(words.map(str::to_owned).collect())
}

/// Collects the keys that the program accepts in a section. `header` introduces the
/// section in a config file, `path` in the table.
fn accepted(header: &str, path: &str, keys: &mut BTreeSet<String>) {
    let probe = |header: &str, key: &str| load(&format!("{header}\n{key}\n")).unwrap_err();
    let error = probe(header, "probe = 1");
    let fields = alternatives(&error, "unknown field").unwrap_or_else(|| panic!("{error}"));
    assert!(!fields.is_empty(), "{path}: {error}");
    for field in fields {
        let dotted = format!("{path}.{field}");
        let shown = dotted.trim_start_matches('.').to_owned();
        // The same section in a config file, where entries of maps and lists have names.
        let inside = shown.replace("[]", "");
        let outer = header.lines().find(|line| line.starts_with("[["));
        let table = format!("{}\n[{inside}]", outer.unwrap_or_default());
        let list = format!("[[{inside}]]");
        let error = probe(&table, "probe = 1");
        if alternatives(&error, "unknown field").is_some() {
            accepted(&table, &dotted, keys);
        } else if error.contains("invalid type: integer `1`, expected struct") {
            let inside = format!("[{inside}.NAME]");
            accepted(&inside, &format!("{dotted}.NAME"), keys);
        } else if error.contains("missing field `method`") {
            let error = probe(&table, "method = \"probe\"");
            for method in alternatives(&error, "unknown variant").unwrap() {
                // `none` has no fields, and ignores those of other methods.
                let text = format!("{table}\nmethod = {method:?}\nprobe = 1\n");
                let error = load(&text).err().unwrap_or_default();
                let fields = alternatives(&error, "unknown field").unwrap_or_default();
                keys.extend(fields.iter().map(|field| format!("{shown}.{field}")));
            }
            keys.insert(format!("{shown}.method"));
        } else if alternatives(&probe(&list, "probe = 1"), "unknown field").is_some() {
            accepted(&list, &format!("{dotted}[]"), keys);
        } else {
            keys.insert(shown);
        }
    }
}

#[test]
fn config_table_lists_exactly_the_keys_that_the_program_accepts() {
    let mut keys = BTreeSet::new();
    accepted("", "", &mut keys);
    let documented: BTreeSet<String> = table("Config keys").iter().map(|row| name(row)).collect();
    let missing: Vec<_> = keys.difference(&documented).collect();
    let superfluous: Vec<_> = documented.difference(&keys).collect();
    assert!(missing.is_empty(), "missing in the table: {missing:?}");
    assert!(superfluous.is_empty(), "not accepted: {superfluous:?}");
    assert!(keys.len() > 60, "{keys:?}");
}

#[test]
fn config_table_has_the_defaults_that_the_program_uses() {
    let comparable = |mut settings: Settings| {
        settings.file = PathBuf::new();
        settings.policy_set.clear();
        format!("{settings:#?}").replace("origin: File", "origin: Default")
    };
    let defaults = comparable(load("").unwrap());
    let mut checked = 0;
    for row in table("Config keys") {
        let Some(value) = row[2].strip_prefix('`').and_then(|it| it.strip_suffix('`')) else {
            continue;
        };
        if value.starts_with('~') {
            continue;
        }
        let line = format!("{} = {value}\n", name(&row).replace("NAME", "local"));
        let settings = load(&line).unwrap_or_else(|error| panic!("{line}{error}"));
        assert_eq!(comparable(settings), defaults, "{line}");
        checked += 1;
    }
    assert!(checked > 40, "{checked} defaults");
}

/// Name → type and labels of the metrics in a text.
fn metrics(text: &str) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            let old = found.insert(name.to_owned(), (kind.to_owned(), String::new()));
            assert_eq!(old, None, "{name} is declared twice");
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let (_, labels) = found.get_mut(&line[..end]).expect(line);
        let names = line[end..].split("=\"").map(|part| {
            let start = part.rfind(['{', ',']).map_or(part.len(), |at| at + 1);
            part[start..].to_owned()
        });
        let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
        *labels = names.join(", ");
    }
    found
}

/// A status that has a value for every metric.
fn full_status() -> DaemonStatus {
    let mut health = serde_json::to_value(StoreHealth::default()).unwrap();
    health["failures"] = json!([
        {"endpoint": "http://a", "kind": "corrupt", "count": 1, "last": 1, "message": ""}
    ]);
    health["endpoints"] = json!([{
        "url": "http://a",
        "role": "aggregator",
        "conditions": {
            "round_trip_us": 1, "bandwidth": 1, "was_full": false, "loss": 0.0
        },
        "breaker": "open",
        "probe_in_s": 1,
        "quarantined_s": 1,
        "lies": 1,
        "at_once": 1,
        "concurrency": 1,
    }]);
    DaemonStatus {
        pid: 1,
        version: "1".into(),
        uptime_s: 1,
        settings: None,
        warning: None,
        mounts: Vec::new(),
        cache: CacheStats::default(),
        networks: vec![NetworkStatus {
            name: "mine".into(),
            health: serde_json::from_value(health).unwrap(),
        }],
        pins: Vec::new(),
        jobs: Vec::new(),
    }
}

#[test]
fn metrics_table_lists_exactly_the_metrics_of_the_daemon() {
    let rows = table("Metrics");
    let documented = rows
        .iter()
        .map(|row| (name(row), (row[2].clone(), row[3].clone())));
    let documented: BTreeMap<_, _> = documented.collect();
    assert_eq!(metrics(&full_status().metrics()), documented);
    // A running daemon prints the same; labels only where it has values.
    let server = Server::start();
    let world = World::on(&server);
    let tree = Tree::new().file("a", "a");
    world.publish(tree.path(), "it");
    world.mount("it");
    let socket = world.path().join("cache/walgit-fs/daemon/control.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (_, body) = reply.split_once("\r\n\r\n").unwrap();
    let types = |metrics: BTreeMap<String, (String, String)>| -> BTreeMap<String, String> {
        metrics
            .into_iter()
            .map(|(name, (kind, _))| (name, kind))
            .collect()
    };
    assert_eq!(types(metrics(body)), types(documented));
}
