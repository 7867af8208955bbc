//! Metrics of the daemon for Prometheus.
//!
//! Failure kinds and endpoints have the same names as in the failure log and in tracing
//! spans.

use super::status::DaemonStatus;
use crate::fuse::DriverStats;
use walrus_client::{BreakerState, EndpointHealth, Role, StoreHealth};

/// Values of one metric, each with its labels.
type Values = Vec<(Vec<(&'static str, String)>, f64)>;

impl DaemonStatus {
    /// Returns the metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let one = |value: u64| vec![(Vec::new(), value as f64)];
        let stats = |of: fn(&DriverStats) -> u64| {
            one(self.mounts.iter().map(|mount| of(&mount.stats)).sum())
        };
        let cache = &self.cache;
        let metrics: [(&str, Values); 30] = [
            ("uptime_seconds gauge", one(self.uptime_s)),
            ("mounts gauge", one(self.mounts.len() as u64)),
            ("cache_memory_bytes gauge", one(cache.memory_bytes)),
            ("cache_disk_bytes gauge", one(cache.disk_bytes)),
            ("cache_disk_entries gauge", one(cache.disk_entries)),
            ("cache_memory_hits_total counter", one(cache.memory_hits)),
            ("cache_disk_hits_total counter", one(cache.disk_hits)),
            ("cache_misses_total counter", one(cache.misses)),
            ("cache_fetches_total counter", one(cache.fetches)),
            (
                "cache_fetched_bytes_total counter",
                one(cache.fetched_bytes),
            ),
            ("cache_corrupt_total counter", one(cache.corrupt_dropped)),
            ("cache_evictions_total counter", one(cache.evictions)),
            ("operations gauge", stats(|s| s.operations)),
            ("operations_failed gauge", stats(|s| s.failed)),
            ("integrity_failures gauge", stats(|s| s.integrity)),
            ("requests_total counter", self.per_network(|h| h.requests)),
            (
                "received_bytes_total counter",
                self.per_network(|h| h.received),
            ),
            ("sent_bytes_total counter", self.per_network(|h| h.sent)),
            (
                "corrupt_answers_total counter",
                self.per_network(|h| h.corrupt),
            ),
            ("hedges_total counter", self.per_network(|h| h.hedges)),
            (
                "hedges_won_total counter",
                self.per_network(|h| h.hedges_won),
            ),
            ("not_asked_total counter", self.per_network(|h| h.not_asked)),
            ("request_failures_total counter", self.failures()),
            (
                "endpoint_round_trip_seconds gauge",
                self.per_endpoint(|e| Some(e.conditions?.round_trip().as_secs_f64())),
            ),
            (
                "endpoint_bandwidth_bytes_per_second gauge",
                self.per_endpoint(|e| Some(e.conditions?.bandwidth? as f64)),
            ),
            (
                "endpoint_loss_ratio gauge",
                self.per_endpoint(|e| Some(e.conditions?.loss)),
            ),
            (
                "endpoint_breaker_open gauge",
                self.per_endpoint(|e| Some(f64::from(e.breaker != BreakerState::Closed))),
            ),
            (
                "endpoint_quarantined gauge",
                self.per_endpoint(|e| Some(f64::from(e.quarantined_s.is_some()))),
            ),
            (
                "endpoint_lies_total counter",
                self.per_endpoint(|e| Some(f64::from(e.lies))),
            ),
            (
                "endpoint_concurrency gauge",
                self.per_endpoint(|e| Some(f64::from(e.at_once))),
            ),
        ];
        metrics
            .into_iter()
            .map(|(metric, values)| format(metric, values))
            .collect()
    }

    fn per_network(&self, of: fn(&StoreHealth) -> u64) -> Values {
        let networks = self.networks.iter();
        networks
            .map(|network| {
                let labels = vec![("network", network.name.clone())];
                (labels, of(&network.health) as f64)
            })
            .collect()
    }

    fn failures(&self) -> Values {
        let mut values = Vec::new();
        for network in &self.networks {
            values.extend(network.health.failures.iter().map(|failure| {
                let labels = vec![
                    ("network", network.name.clone()),
                    ("endpoint", failure.endpoint.clone()),
                    ("kind", failure.kind.to_string()),
                ];
                (labels, failure.count as f64)
            }));
        }
        values
    }

    fn per_endpoint(&self, of: fn(&EndpointHealth) -> Option<f64>) -> Values {
        let mut values = Vec::new();
        for network in &self.networks {
            values.extend(network.health.endpoints.iter().filter_map(|endpoint| {
                let role = match endpoint.role {
                    Role::Aggregator => "aggregator",
                    Role::Publisher => "publisher",
                };
                let labels = vec![
                    ("network", network.name.clone()),
                    ("endpoint", endpoint.url.clone()),
                    ("role", role.into()),
                ];
                Some((labels, of(endpoint)?))
            }));
        }
        values
    }
}

/// Formats a metric, given its name and type. It is declared once, whatever the labels of
/// its values.
fn format(metric: &str, values: Values) -> String {
    let mut text = format!("# TYPE walgit_fs_{metric}\n");
    let name = metric.split(' ').next().unwrap_or_default();
    for (labels, value) in values {
        let labels = labels.into_iter();
        let labels: Vec<String> = labels
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(&value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        text.push_str(&format!("walgit_fs_{name}{labels} {value}\n"));
    }
    text
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
    use crate::daemon::NetworkStatus;

    #[test]
    fn a_metric_with_several_labels_is_declared_once() {
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
