//! One read of content from several aggregators: the first valid answer wins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Client;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::HttpStore;
use super::failed::{Failed, verdict};
use super::operation::Operation;
use crate::net::{Done, Endpoint, Verdict};
use crate::{Accept, Extent, StoreError};
use walgit_format::chunk::BlobId;

/// Result of one request.
struct Answer<'a> {
    endpoint: &'a Endpoint,
    /// Client of a hedged read.
    hedge: Option<Client>,
    result: Result<Bytes, Failed>,
}

impl HttpStore {
    /// Tries the aggregators in order until the bytes of one are accepted. If one takes
    /// longer than usual, the next one is asked concurrently. If there is no other, the
    /// same one is asked over a new connection, since the old one may be dead.
    pub(super) async fn read_round<'a>(
        &'a self,
        operation: &Operation<'a>,
        blob: BlobId,
        extent: Extent,
        accept: &mut Accept<'_>,
    ) -> Result<(), Verdict<StoreError>> {
        let plan = self.aggregators.plan(extent.at_most());
        let (mut queue, begun) = (plan.endpoints, Instant::now());
        // Declared before the requests, which use it when they are dropped.
        let race = AtomicU64::new(0);
        let Some(first) = queue.pop_front() else {
            return Err(Verdict::Final(StoreError::NoEndpoint("aggregator")));
        };
        let ask = |endpoint, hedge| self.ask(operation, endpoint, blob, extent, hedge, &race);
        let mut running = FuturesUnordered::new();
        running.push(ask(first, None));
        let mut patience = plan.patience;
        let mut failures = Vec::new();
        loop {
            let answer = tokio::select! {
                biased;
                Some(answer) = running.next() => answer,
                () = after(begun, patience) => {
                    patience = None;
                    if plan.explores || self.aggregators.may_hedge() {
                        self.hedges.fetch_add(1, Ordering::Relaxed);
                        let other = match plan.has_spare {
                            true => queue.pop_front(),
                            false => None,
                        };
                        let (endpoint, client) = match other {
                            Some(other) => (other, self.reader.client()),
                            None => (first, self.reader.unpooled()),
                        };
                        running.push(ask(endpoint, Some(client)));
                    }
                    continue;
                }
            };
            let mut failed = match answer.result {
                Ok(bytes) => {
                    let len = bytes.len() as u64;
                    match accept(bytes) {
                        Ok(()) => {
                            if answer.hedge.is_none() {
                                self.reader.answered();
                            } else {
                                if std::ptr::eq(answer.endpoint, first) {
                                    self.reader.outrun();
                                }
                                race.store(len.max(1), Ordering::Relaxed);
                                self.hedges_won.fetch_add(1, Ordering::Relaxed);
                                operation.outrun(first, begun.elapsed());
                            }
                            operation.done(Done::FailedOver);
                            operation.accepted(answer.endpoint);
                            return Ok(());
                        }
                        Err(rejected) => {
                            self.corrupt.fetch_add(1, Ordering::Relaxed);
                            Failed::corrupt(answer.endpoint, blob, rejected.0)
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
                    return Err(verdict(failures, &self.aggregators));
                };
                operation.done(Done::FailedOver);
                running.push(ask(next, None));
            }
        }
    }

    async fn ask<'a>(
        &self,
        operation: &Operation<'a>,
        endpoint: &'a Endpoint,
        blob: BlobId,
        extent: Extent,
        hedge: Option<Client>,
        race: &AtomicU64,
    ) -> Answer<'a> {
        let span = tracing::debug_span!(
            "request",
            operation = operation.name(),
            endpoint = endpoint.name(),
            attempt = operation.attempt(),
            hedge = hedge.is_some()
        );
        operation.asking(endpoint);
        // A hedged read cannot be outrun by the request it hedges.
        let race = hedge.is_none().then_some(race);
        let client = hedge.clone().unwrap_or_else(|| self.reader.client());
        let fetched = self.fetch(&client, endpoint, blob, extent, race);
        let result = fetched.instrument(span).await;
        operation.asked(endpoint);
        Answer {
            endpoint,
            hedge,
            result,
        }
    }
}

/// Completes `patience` after `begun`; never if it is `None`.
async fn after(begun: Instant, patience: Option<Duration>) {
    match patience {
        Some(patience) => sleep_until(begun + patience).await,
        None => std::future::pending().await,
    }
}
