//! Batches that do not depend on how fast a machine is.
//!
//! A dataloader collects keys for a while and then loads them. When the while is measured in time, a slow poll of many fields
//! is cut in two and costs a statement more. Here the loads of a request run inside its own task: each begins when the poll in
//! which its keys were asked for is over, so what was asked for together is loaded together, without a wait.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, Stream, StreamExt as _};
use parking_lot::Mutex;

/// Loads that a poll has asked for. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Loads(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Loads {
    pub(super) fn add(&self, load: BoxFuture<'static, ()>) {
        self.0.lock().push(load);
    }
}

/// A stream of responses that does its loads between its polls.
pub(super) struct WithLoads<T> {
    responses: BoxStream<'static, T>,
    loads: Loads,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl<T> WithLoads<T> {
    pub(super) fn new(responses: BoxStream<'static, T>, loads: Loads) -> Self {
        Self { responses, loads, running: FuturesUnordered::new() }
    }
}

impl<T> Stream for WithLoads<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            if let Poll::Ready(response) = self.responses.poll_next_unpin(context) {
                return Poll::Ready(response);
            }
            let asked = std::mem::take(&mut *self.loads.0.lock());
            self.running.extend(asked);
            let mut has_loaded = false;
            while let Poll::Ready(Some(())) = self.running.poll_next_unpin(context) {
                has_loaded = true;
            }
            if !has_loaded {
                return Poll::Pending;
            }
        }
    }
}
