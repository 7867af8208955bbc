//! Metrics of the daemon for Prometheus.
//!
//! Failure kinds and endpoints have the same names as in the failure log and in tracing
//! spans.

use super::status::{DaemonStatus, NetworkStatus};
use crate::fuse::DriverStats;
use walrus_client::{BreakerState, EndpointHealth, Role, StoreHealth};

impl DaemonStatus {
    /// Returns the metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, values: &[(String, u64)]| {
            // A metric is declared once, whatever the labels of its values.
            text.push_str(&format!("# TYPE walgit_fs_{name} {kind}\n"));
            for (labels, value) in values {
                text.push_str(&format!("walgit_fs_{name}{labels} {value}\n"));
            }
        };
        let one = |value| [(String::new(), value)];
        let c = &self.cache;
        put("uptime_seconds", "gauge", &one(self.uptime_s));
        put("mounts", "gauge", &one(self.mounts.len() as u64));
        put("cache_memory_bytes", "gauge", &one(c.memory_bytes));
        put("cache_disk_bytes", "gauge", &one(c.disk_bytes));
        put("cache_disk_entries", "gauge", &one(c.disk_entries));
        put("cache_memory_hits_total", "counter", &one(c.memory_hits));
        put("cache_disk_hits_total", "counter", &one(c.disk_hits));
        put("cache_misses_total", "counter", &one(c.misses));
        put("cache_fetches_total", "counter", &one(c.fetches));
        put(
            "cache_fetched_bytes_total",
            "counter",
            &one(c.fetched_bytes),
        );
        put("cache_corrupt_total", "counter", &one(c.corrupt_dropped));
        put("cache_evictions_total", "counter", &one(c.evictions));
        let sum = |of: fn(&DriverStats) -> u64| self.mounts.iter().map(|m| of(&m.stats)).sum();
        put("operations", "gauge", &one(sum(|s| s.operations)));
        put("operations_failed", "gauge", &one(sum(|s| s.failed)));
        put("integrity_failures", "gauge", &one(sum(|s| s.integrity)));
        let each = |of: fn(&StoreHealth) -> u64| -> Vec<_> {
            let label = |n: &NetworkStatus| format!("{{network=\"{}\"}}", escaped(&n.name));
            let networks = self.networks.iter();
            networks.map(|n| (label(n), of(&n.health))).collect()
        };
        put("requests_total", "counter", &each(|h| h.requests));
        put("received_bytes_total", "counter", &each(|h| h.received));
        put("sent_bytes_total", "counter", &each(|h| h.sent));
        put("corrupt_answers_total", "counter", &each(|h| h.corrupt));
        put("hedges_total", "counter", &each(|h| h.hedges));
        put("hedges_won_total", "counter", &each(|h| h.hedges_won));
        put("not_asked_total", "counter", &each(|h| h.not_asked));
        text.push_str(&self.endpoint_metrics());
        text
    }

    /// Returns the metrics of endpoints; names as in the failure log.
    fn endpoint_metrics(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, values: Vec<(String, f64)>| {
            text.push_str(&format!("# TYPE walgit_fs_{name} {kind}\n"));
            for (labels, value) in values {
                text.push_str(&format!("walgit_fs_{name}{{{labels}}} {value}\n"));
            }
        };
        let mut failures = Vec::new();
        for network in &self.networks {
            for failure in &network.health.failures {
                let labels = format!(
                    "network=\"{}\",endpoint=\"{}\",kind=\"{}\"",
                    escaped(&network.name),
                    escaped(&failure.endpoint),
                    failure.kind
                );
                failures.push((labels, failure.count as f64));
            }
        }
        put("request_failures_total", "counter", failures);
        let each = |of: fn(&EndpointHealth) -> Option<f64>| -> Vec<(String, f64)> {
            let mut values = Vec::new();
            for network in &self.networks {
                for endpoint in &network.health.endpoints {
                    let role = match endpoint.role {
                        Role::Aggregator => "aggregator",
                        Role::Publisher => "publisher",
                    };
                    let labels = format!(
                        "network=\"{}\",endpoint=\"{}\",role=\"{role}\"",
                        escaped(&network.name),
                        escaped(&endpoint.url)
                    );
                    values.extend(of(endpoint).map(|value| (labels, value)));
                }
            }
            values
        };
        put(
            "endpoint_round_trip_seconds",
            "gauge",
            each(|e| Some(e.conditions?.round_trip().as_secs_f64())),
        );
        put(
            "endpoint_bandwidth_bytes_per_second",
            "gauge",
            each(|e| Some(e.conditions?.bandwidth? as f64)),
        );
        put(
            "endpoint_loss_ratio",
            "gauge",
            each(|e| Some(e.conditions?.loss)),
        );
        put(
            "endpoint_breaker_open",
            "gauge",
            each(|e| Some(f64::from(e.breaker != BreakerState::Closed))),
        );
        put(
            "endpoint_quarantined",
            "gauge",
            each(|e| Some(f64::from(e.quarantined_s.is_some()))),
        );
        put(
            "endpoint_lies_total",
            "counter",
            each(|e| Some(f64::from(e.lies))),
        );
        put(
            "endpoint_concurrency",
            "gauge",
            each(|e| Some(f64::from(e.at_once))),
        );
        text
    }
}

/// Escapes a label value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheStats;

    #[test]
    fn each_metric_is_declared_once_whatever_its_labels() {
        let network = |name: &str| NetworkStatus {
            name: name.into(),
            health: StoreHealth::default(),
        };
        let status = DaemonStatus {
            pid: 1,
            version: "1".into(),
            uptime_s: 1,
            settings: None,
            warning: None,
            mounts: Vec::new(),
            cache: CacheStats::default(),
            networks: vec![network("local"), network("a\"b")],
            pins: Vec::new(),
            jobs: Vec::new(),
        };
        let text = status.metrics();
        let declared = |line: &&str| line.starts_with("# TYPE walgit_fs_requests_total ");
        assert_eq!(text.lines().filter(declared).count(), 1, "{text}");
        assert!(
            text.contains(r#"requests_total{network="a\"b"} 0"#),
            "{text}"
        );
    }
}
