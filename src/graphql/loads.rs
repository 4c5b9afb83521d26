//! Batches that do not depend on how fast a machine is.
//!
//! A dataloader collects keys for a while and then loads them. When the while is measured in time, a slow poll of many fields
//! is cut in two and costs a statement more. Here the loads of a request run inside its own task: they begin when nothing else of
//! it can go on, so what can be asked for together is loaded together, without a wait.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, Stream, StreamExt as _};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// Loads that a poll has asked for. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Loads(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Loads {
    pub(super) fn add(&self, load: BoxFuture<'static, ()>) {
        self.0.lock().push(load);
    }
}

/// A stream of responses that does its loads when all that can go on without them has.
pub(super) struct WithLoads<T> {
    responses: BoxStream<'static, T>,
    loads: Loads,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    woken: Arc<Woken>,
}

/// Notes that something woke the responses, and passes it on.
#[derive(Default)]
struct Woken {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Polls in a row before others get their turn.
const MOST_POLLS: usize = 10_000;

impl<T> WithLoads<T> {
    pub(super) fn new(responses: BoxStream<'static, T>, loads: Loads) -> Self {
        Self { responses, loads, running: FuturesUnordered::new(), woken: Arc::default() }
    }
}

impl<T> Stream for WithLoads<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.woken.task.register(context.waker());
        let waker = Waker::from(self.woken.clone());
        for _ in 0..MOST_POLLS {
            self.woken.is_woken.store(false, Ordering::Release);
            if let Poll::Ready(response) = self.responses.poll_next_unpin(&mut Context::from_waker(&waker)) {
                return Poll::Ready(response);
            }
            // A long list is polled in pieces, and wakes itself for the next: only at its end is every key there.
            if self.woken.is_woken.load(Ordering::Acquire) {
                continue;
            }
            let asked = std::mem::take(&mut *self.loads.0.lock());
            self.running.extend(asked);
            while let Poll::Ready(Some(())) = self.running.poll_next_unpin(context) {}
            if !self.woken.is_woken.load(Ordering::Acquire) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
