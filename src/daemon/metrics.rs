//! Metrics of the daemon for Prometheus.
//!
//! Failure kinds and endpoints have the same names as in the failure log and in tracing
//! spans.

use super::status::DaemonStatus;
use crate::fuse::DriverStats;
use walrus_client::StoreHealth;
use walrus_client::net::{BreakerState, EndpointHealth, Role};

/// Name and type of a metric, and its value.
type Metric<Source, Value> = (&'static str, fn(&Source) -> Value);

impl DaemonStatus {
    /// Returns the metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let cache = &self.cache;
        let stats = |of: fn(&DriverStats) -> u64| self.mounts.iter().map(|m| of(&m.stats)).sum();
        let totals: [(&str, u64); 15] = [
            ("uptime_seconds gauge", self.uptime_s),
            ("mounts gauge", self.mounts.len() as u64),
            ("cache_memory_bytes gauge", cache.memory_bytes),
            ("cache_disk_bytes gauge", cache.disk_bytes),
            ("cache_disk_entries gauge", cache.disk_entries),
            ("cache_memory_hits_total counter", cache.memory_hits),
            ("cache_disk_hits_total counter", cache.disk_hits),
            ("cache_misses_total counter", cache.misses),
            ("cache_fetches_total counter", cache.fetches),
            ("cache_fetched_bytes_total counter", cache.fetched_bytes),
            ("cache_corrupt_total counter", cache.corrupt_dropped),
            ("cache_evictions_total counter", cache.evictions),
            ("operations gauge", stats(|s| s.operations)),
            ("operations_failed gauge", stats(|s| s.failed)),
            ("integrity_failures gauge", stats(|s| s.integrity)),
        ];
        let per_network: [Metric<StoreHealth, u64>; 7] = [
            ("requests_total counter", |h| h.requests),
            ("received_bytes_total counter", |h| h.received),
            ("sent_bytes_total counter", |h| h.sent),
            ("corrupt_answers_total counter", |h| h.corrupt),
            ("hedges_total counter", |h| h.hedges),
            ("hedges_won_total counter", |h| h.hedges_won),
            ("not_asked_total counter", |h| h.skipped),
        ];
        let mut text = String::new();
        for (metric, value) in totals {
            put(&mut text, metric, [(String::new(), value as f64)]);
        }
        for (metric, of) in per_network {
            let values = (self.networks.iter())
                .map(|n| (labels(&[("network", &n.name)]), of(&n.health) as f64));
            put(&mut text, metric, values);
        }
        let failures = self.networks.iter().flat_map(|network| {
            network.health.failures.iter().map(|failure| {
                let labels = labels(&[
                    ("network", &network.name),
                    ("endpoint", &failure.endpoint),
                    ("kind", &failure.kind.to_string()),
                ]);
                (labels, failure.count as f64)
            })
        });
        put(&mut text, "request_failures_total counter", failures);
        self.put_endpoints(&mut text);
        text
    }

    fn put_endpoints(&self, text: &mut String) {
        let metrics: [Metric<EndpointHealth, Option<f64>>; 7] = [
            ("round_trip_seconds gauge", |e| {
                Some(e.conditions?.round_trip().as_secs_f64())
            }),
            ("bandwidth_bytes_per_second gauge", |e| {
                Some(e.conditions?.bandwidth? as f64)
            }),
            ("loss_ratio gauge", |e| Some(e.conditions?.loss)),
            ("breaker_open gauge", |e| {
                Some(f64::from(e.breaker != BreakerState::Closed))
            }),
            ("quarantined gauge", |e| {
                Some(f64::from(e.quarantined_s.is_some()))
            }),
            ("lies_total counter", |e| {
                Some(f64::from(e.integrity_violations))
            }),
            ("concurrency gauge", |e| {
                Some(f64::from(e.concurrency_limit))
            }),
        ];
        for (metric, of) in metrics {
            let values = self.networks.iter().flat_map(|network| {
                network.health.endpoints.iter().filter_map(move |endpoint| {
                    let role = match endpoint.role {
                        Role::Aggregator => "aggregator",
                        Role::Publisher => "publisher",
                    };
                    let labels = labels(&[
                        ("network", &network.name),
                        ("endpoint", &endpoint.url),
                        ("role", role),
                    ]);
                    Some((labels, of(endpoint)?))
                })
            });
            put(text, &format!("endpoint_{metric}"), values);
        }
    }
}

/// Writes a metric, given its name and type. It is declared once, whatever the labels of
/// its values.
fn put(text: &mut String, metric: &str, values: impl IntoIterator<Item = (String, f64)>) {
    text.push_str(&format!("# TYPE walgit_fs_{metric}\n"));
    let name = metric.split(' ').next().unwrap_or_default();
    for (labels, value) in values {
        text.push_str(&format!("walgit_fs_{name}{labels} {value}\n"));
    }
}

fn labels(labels: &[(&str, &str)]) -> String {
    let escape = |value: &str| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        value.replace('\n', "\\n")
    };
    let labels = labels.iter();
    let labels = labels.map(|(name, value)| format!("{name}=\"{}\"", escape(value)));
    format!("{{{}}}", labels.collect::<Vec<_>>().join(","))
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
