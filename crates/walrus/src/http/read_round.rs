//! One read of content from several aggregators: the first valid answer wins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Client;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::HttpStore;
use super::failed_request::{FailedRequest, verdict};
use super::operation::Operation;
use crate::net::{Endpoint, FailureHandling, Verdict};
use crate::{ReadRange, StoreError, Verifier};
use walgit_format::chunk::BlobId;

/// Result of one request.
struct RequestResult<'a> {
    endpoint: &'a Endpoint,
    /// Client of a hedged read.
    hedge: Option<Client>,
    result: Result<Bytes, FailedRequest>,
}

impl HttpStore {
    /// Tries the aggregators in order until the bytes of one are accepted. If one takes
    /// longer than usual, the next one is asked concurrently. If there is no other, the
    /// same one is asked over a new connection, since the old one may be dead.
    pub(super) async fn read_round<'a>(
        &'a self,
        operation: &Operation<'a>,
        blob: BlobId,
        read_range: ReadRange,
        verify: &mut Verifier<'_>,
    ) -> Result<(), Verdict<StoreError>> {
        let plan = self.aggregators.plan(read_range.at_most());
        let (mut queue, started) = (plan.endpoints, Instant::now());
        // Declared before the requests, which use it when they are dropped.
        let race = AtomicU64::new(0);
        let Some(first) = queue.pop_front() else {
            return Err(Verdict::Final(StoreError::NoEndpoint("aggregator")));
        };
        let ask = |endpoint, hedge| self.ask(operation, endpoint, blob, read_range, hedge, &race);
        let mut running = FuturesUnordered::new();
        running.push(ask(first, None));
        let mut hedge_after = plan.hedge_after;
        let mut failures = Vec::new();
        loop {
            let answer = tokio::select! {
                biased;
                Some(answer) = running.next() => answer,
                () = after(started, hedge_after) => {
                    hedge_after = None;
                    if plan.explores || self.aggregators.may_hedge() {
                        self.counters.add(&self.counters.hedges, 1);
                        let (endpoint, client) = match queue.pop_front_if(|_| plan.has_spare) {
                            Some(other) => (other, self.reader.client()),
                            None => (first, self.reader.fresh_client()),
                        };
                        running.push(ask(endpoint, Some(client)));
                    }
                    continue;
                }
            };
            let mut failed = match answer.result {
                Ok(bytes) => {
                    let len = bytes.len() as u64;
                    match verify(bytes) {
                        Ok(()) => {
                            if answer.hedge.is_none() {
                                self.reader.answered();
                            } else {
                                if std::ptr::eq(answer.endpoint, first) {
                                    self.reader.lost_race();
                                }
                                race.store(len.max(1), Ordering::Relaxed);
                                self.counters.add(&self.counters.hedges_won, 1);
                                operation.lost_race(first, started.elapsed());
                            }
                            operation.handled(FailureHandling::FailedOver);
                            operation.accepted(answer.endpoint);
                            return Ok(());
                        }
                        Err(rejected) => {
                            self.counters.add(&self.counters.corrupt, 1);
                            FailedRequest::corrupt(answer.endpoint, blob, rejected.0)
                        }
                    }
                }
                Err(failed) => failed,
            };
            failed.give_up_if_corrupt(operation.attempt() > 1);
            operation.failed(answer.endpoint, &failed);
            failures.push(failed);
            if running.is_empty() {
                let Some(next) = queue.pop_front() else {
                    return Err(verdict(failures, &self.aggregators, "aggregator"));
                };
                operation.handled(FailureHandling::FailedOver);
                running.push(ask(next, None));
            }
        }
    }

    async fn ask<'a>(
        &self,
        operation: &Operation<'a>,
        endpoint: &'a Endpoint,
        blob: BlobId,
        read_range: ReadRange,
        hedge: Option<Client>,
        race: &AtomicU64,
    ) -> RequestResult<'a> {
        let span = tracing::debug_span!(
            "request",
            operation = operation.name(),
            endpoint = endpoint.name(),
            attempt = operation.attempt(),
            hedge = hedge.is_some()
        );
        // A hedged read cannot lose the race against the request it hedges.
        let race = hedge.is_none().then_some(race);
        let client = hedge.clone().unwrap_or_else(|| self.reader.client());
        let fetched = self.fetch(&client, endpoint, blob, read_range, race);
        let result = operation.request(endpoint, fetched.instrument(span)).await;
        RequestResult {
            endpoint,
            hedge,
            result,
        }
    }
}

/// Completes `hedge_after` after `started`; never if it is `None`.
async fn after(started: Instant, hedge_after: Option<Duration>) {
    match hedge_after {
        Some(hedge_after) => sleep_until(started + hedge_after).await,
        None => std::future::pending().await,
    }
}
