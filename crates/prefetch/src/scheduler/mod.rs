//! Prefetch scheduler: decides what is fetched, when, and in which requests.
//!
//! A pure state machine. The caller reports events with their time and executes the
//! returned actions; it owns the clock, the requests and the bytes. The same code
//! runs in the daemon with real requests and in the replay with a simulated link.
//!
//! **Input**: [`opened`](Scheduler::opened), a task starts to read a file (its
//! first read, if opens are not visible); [`fetched`](Scheduler::fetched), the
//! bytes of a file have arrived; [`failed`](Scheduler::failed), they will not
//! arrive; [`mark_cached`](Scheduler::mark_cached), the cache already has a file;
//! [`tick`](Scheduler::tick), the [`wake`](Scheduler::wake) time has come. Every file that may be fetched must be
//! added to the [`FileIndex`](crate::FileIndex) before, when its folder is first read.
//!
//! **Output**: [`Action`]s, to be executed in order. A [`Fetch`] is one ranged
//! request and the files that it delivers, in the order of their bytes; each must
//! be reported when complete, so that the first need not wait for the last. A fetch
//! ends when all its files are reported. An [`Action::Cancel`] ends it early: its
//! files must no longer be reported. The caller must not fetch files of a
//! pending fetch itself, but wait for that fetch.
//!
//! **Demand first.** A demanded file is requested at once, on a reserved
//! connection, and comes first in its request. Prefetches never use more than
//! [`Config::prefetches`] connections, nor have more bytes in flight than the link
//! carries in a round trip, and half of that while a task waits.
//!
//! **Cost and benefit.** A prediction saves its probability times a round trip and
//! costs the time that its bytes occupy the link. Most files are small and round
//! trips long, so by that measure nearly everything is worth fetching; the
//! effective limit is waste, which `waste_budget` restricts to a multiple of the opened
//! bytes. Within that limit the best candidates come first: the model's predictions
//! within the time of a fetch, soonest first; then related files, by probability
//! per byte. Files that are adjacent in the pack share a request.
//!
//! **Accounts.** Files opened in earlier sessions and files that are merely nearby
//! have separate accounts. Guesses are for sessions that repeat nothing: the more
//! of the opened files were known
//! ([`Model::similarity`](crate::model::Model::similarity)), the less may be risked
//! on guesses; the same applies if few guesses turn out right.

mod action;
mod events;
mod in_flight;
mod link;
mod predictions;
mod select;
mod state;
#[cfg(test)]
mod tests;
mod waste_budget;

pub use action::{Action, Config, Fetch, FetchId, PrefetchCounts, Seconds};
pub use link::LinkEstimate;
pub use state::Scheduler;
pub use waste_budget::Allowance;
