//! What every resolver finds: who asks, the fleet, and the loaders of this one request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Context;
use async_graphql::dataloader::DataLoader;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::loaders::StoreLoader;
use super::loads::Loads;
use crate::auth::Actor;
use crate::error::Result;
use crate::fleet::Fleet;

/// The context of one request. Loaders live as long as it does, so nothing of one caller reaches another.
pub(super) struct RequestContext {
    actor: RwLock<Arc<Actor>>,
    pub(super) address: Option<IpAddr>,
    pub(super) fleet: Fleet,
    pub(super) loader: DataLoader<StoreLoader>,
    /// The bytes that its answer may still have.
    pub(super) budget: Arc<Budget>,
    /// Cancelled when nobody waits for the answer any more: a mutation runs on then, and need not wait for anything.
    pub(super) caller_gone: CancellationToken,
}

/// Keys of one batch: a page of a hundred things with a few edges each fits.
const BATCH: usize = 1_000;

impl RequestContext {
    pub(super) fn new(
        fleet: &Fleet,
        actor: Actor,
        address: Option<IpAddr>,
        loads: Loads,
        caller_gone: CancellationToken,
        max_answer_bytes: u64,
    ) -> Self {
        let budget = Arc::new(Budget::new(max_answer_bytes));
        Self {
            actor: RwLock::new(Arc::new(actor)),
            address,
            fleet: fleet.clone(),
            loader: DataLoader::new(StoreLoader::new(fleet.clone(), budget.clone()), move |load| loads.add(load))
                .delay(Duration::ZERO)
                .max_batch_size(BATCH),
            budget,
            caller_gone,
        }
    }

    /// Who asks. In a stream that may change: a member may have become an owner.
    pub(super) fn actor(&self) -> Arc<Actor> {
        self.actor.read().clone()
    }

    /// After a change of the caller's own rights: what follows in the same request is done with those it has then.
    pub(super) async fn refresh_actor(&self) {
        let actor = self.fleet.authenticator.again(&self.actor()).await.unwrap_or(Actor::Anonymous);
        self.set_actor(&actor);
    }

    /// The next entry of a stream is an answer of its own: to whoever the caller is by then, and with bytes of its own.
    pub(super) fn begin_answer(&self, actor: &Actor) {
        self.set_actor(actor);
        self.budget.refill();
    }

    fn set_actor(&self, actor: &Actor) {
        *self.actor.write() = Arc::new(actor.clone());
    }
}

/// Finds the request's context.
pub(super) trait ContextExt {
    fn request(&self) -> &RequestContext;
}

impl ContextExt for Context<'_> {
    fn request(&self) -> &RequestContext {
        self.data_unchecked::<Arc<RequestContext>>()
    }
}

/// Turns what may be missing or fail into what async-graphql makes null beside its siblings: an error in a
/// `Result<Option<_>>` would take the parent along.
pub(super) async fn nullable<T>(field: impl Future<Output = Result<Option<T>>>) -> Option<Result<T>> {
    field.await.transpose()
}
