//! Mutations, one file a noun. Each takes one input and returns a payload of its own; each only reads its input, calls the
//! fleet, and wraps what comes back.

mod accounts;
mod cleanup;
mod runner_agents;
mod runner_management;
mod task_agents;
mod tasks;
mod tokens;

use async_graphql::MergedObject;
use secrecy::{ExposeSecret as _, SecretString};

use super::types::ScopeInput;
use crate::error::Result;
use crate::graphql::context::RequestContext;
use crate::model::AccessTokenScope;
use crate::store::models::ScopeRow;

/// What can be changed. A mutation that was begun runs to its end, even when the client that asked for it goes away.
#[derive(Default, MergedObject)]
pub(super) struct Mutation(
    accounts::AccountMutations,
    tokens::TokenMutations,
    runner_agents::RunnerAgentMutations,
    runner_management::RunnerManagementMutations,
    tasks::TaskMutations,
    task_agents::TaskAgentMutations,
    cleanup::CleanupMutations,
);

/// The scope that an input names, for a caller whose token covers `needed`.
async fn scope_to_manage(request: &RequestContext, scope: ScopeInput, needed: AccessTokenScope) -> Result<ScopeRow> {
    request.fleet.scope_to_manage(&request.actor(), &scope.reference()?, needed).await
}

/// A secret on its way out: the one time that it is shown.
fn shown(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}
