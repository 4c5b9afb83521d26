//! What people do with runners: change, rotate, disable, delete, one or many.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{scope_to_manage, shown};
use crate::error::{AppError, Result};
use crate::fleet::{BulkResult, BulkTarget, RunnerUpdate};
use crate::graphql::context::{ContextExt as _, RequestContext};
use crate::graphql::node_id::{NodeKind, decode_as, encode};
use crate::graphql::scalars::DateTime;
use crate::graphql::types::{Runner, RunnerFilter, ScopeInput};
use crate::model::AccessTokenScope;

#[derive(Default)]
pub(super) struct RunnerManagementMutations;

/// What `rotateRunnerToken` takes.
#[derive(InputObject)]
struct RotateRunnerTokenInput {
    /// The runner; a runner that rotates its own token leaves it out.
    id: Option<ID>,
}

/// What `rotateRunnerToken` returns.
#[derive(SimpleObject)]
struct RotateRunnerTokenPayload {
    /// The runner.
    runner: Runner,
    /// The runner's new token (`rc_run_…`). It is shown this once and not kept.
    secret: String,
    /// Until when the old token works, unless the new one is used before. Sessions opened with it are over already.
    previous_valid_until: DateTime,
}

/// What `updateRunner` takes. What is left out stays as it is.
#[derive(InputObject)]
struct UpdateRunnerInput {
    /// The runner's id.
    id: ID,
    /// The name that people see, at most 255 characters.
    name: Option<String>,
    /// What it is, for people.
    description: Option<String>,
    /// What tasks choose it by, in place of what it has. Labels of its registration token stay; the runner replaces the
    /// others when it next declares labels of its own.
    labels: Option<Vec<String>>,
    /// Whether it gets no new work. A disabled runner may still heartbeat and finish what it has.
    disabled: Option<bool>,
    /// A remark for those who manage it.
    note: Option<String>,
}

/// What `updateRunner` returns.
#[derive(SimpleObject)]
struct UpdateRunnerPayload {
    /// The runner as it is now.
    runner: Runner,
}

/// What `deleteRunner` takes.
#[derive(InputObject)]
struct DeleteRunnerInput {
    /// The runner's id.
    id: ID,
    /// Only when it has no task; else it is a `CONFLICT`, and the runner stays (false unless said).
    if_idle: Option<bool>,
}

/// What `deleteRunner` returns.
#[derive(SimpleObject)]
struct DeleteRunnerPayload {
    /// The id of the runner that is gone.
    deleted_id: ID,
}

/// What `deleteRunners` takes: either ids, or a scope and a filter.
#[derive(InputObject)]
struct DeleteRunnersInput {
    /// These runners, at most 1,000.
    ids: Option<Vec<ID>>,
    /// The runners of this scope.
    scope: Option<ScopeInput>,
    /// Only runners that this lets through. Of more than 1,000, the oldest 1,000 are taken: call again for the rest.
    filter: Option<RunnerFilter>,
    /// Only say what would be done (false unless said).
    dry_run: Option<bool>,
}

/// What `setRunnersDisabled` takes: either ids, or a scope and a filter.
#[derive(InputObject)]
struct SetRunnersDisabledInput {
    /// These runners, at most 1,000.
    ids: Option<Vec<ID>>,
    /// The runners of this scope.
    scope: Option<ScopeInput>,
    /// Only runners that this lets through. Of more than 1,000, the oldest 1,000 are taken: call again for the rest.
    filter: Option<RunnerFilter>,
    /// Only say what would be done (false unless said).
    dry_run: Option<bool>,
    /// Whether they get no new work from now on.
    disabled: bool,
}

/// A runner that was asked for and left alone.
#[derive(SimpleObject)]
struct RunnerRefusal {
    /// The runner's id.
    id: ID,
    /// The error code, such as `NOT_FOUND` or `FORBIDDEN`.
    code: &'static str,
    /// What was wrong, and what to do.
    message: String,
}

/// What `deleteRunners` returns.
#[derive(SimpleObject)]
struct DeleteRunnersPayload {
    /// How many runners were deleted, or with `dryRun` would be.
    matched_count: usize,
    /// The first 100 of them.
    runners: Vec<Runner>,
    /// Those that were not allowed, one entry each.
    refused: Vec<RunnerRefusal>,
}

/// What `setRunnersDisabled` returns.
#[derive(SimpleObject)]
struct SetRunnersDisabledPayload {
    /// How many runners were meant, those that were so already included.
    matched_count: usize,
    /// The first 100 of them.
    runners: Vec<Runner>,
    /// Those that were not allowed, one entry each.
    refused: Vec<RunnerRefusal>,
}

#[Object]
impl RunnerManagementMutations {
    /// Gives a runner a new token. For the runner itself and those who manage it.
    async fn rotate_runner_token(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Whose token.")] input: RotateRunnerTokenInput,
    ) -> Result<RotateRunnerTokenPayload, AppError> {
        let request = context.request();
        let id = input.id.map(|id| decode_as(NodeKind::Runner, "id", &id)).transpose()?;
        let rotated = request.fleet.rotate_runner_token(&request.actor(), id).await?;
        Ok(RotateRunnerTokenPayload {
            runner: rotated.runner.into(),
            secret: shown(&rotated.secret),
            previous_valid_until: rotated.previous_valid_until.into(),
        })
    }

    /// Changes a runner. For those who manage its scope.
    async fn update_runner(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The runner, and what changes.")] input: UpdateRunnerInput,
    ) -> Result<UpdateRunnerPayload, AppError> {
        let request = context.request();
        let UpdateRunnerInput { id, name, description, labels, disabled, note } = input;
        let id = decode_as(NodeKind::Runner, "id", &id)?;
        let update = RunnerUpdate { name, description, labels, disabled, note };
        let runner = request.fleet.update_runner(&request.actor(), id, update).await?.into();
        Ok(UpdateRunnerPayload { runner })
    }

    /// Deletes a runner. Its credentials stop working at once. For those who manage its scope.
    async fn delete_runner(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The runner to delete.")] input: DeleteRunnerInput,
    ) -> Result<DeleteRunnerPayload, AppError> {
        let request = context.request();
        let id = decode_as(NodeKind::Runner, "id", &input.id)?;
        let id = request.fleet.delete_runner(&request.actor(), id, input.if_idle.unwrap_or(false)).await?;
        Ok(DeleteRunnerPayload { deleted_id: encode(NodeKind::Runner, id) })
    }

    /// Deletes many runners at once. For those who manage them.
    async fn delete_runners(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Which runners.")] input: DeleteRunnersInput,
    ) -> Result<DeleteRunnersPayload, AppError> {
        let request = context.request();
        let target = target(request, input.ids, input.scope, input.filter).await?;
        let dry_run = input.dry_run.unwrap_or(false);
        let result = request.fleet.delete_runners(&request.actor(), target, dry_run).await?;
        let (matched_count, runners, refused) = parts(result);
        Ok(DeleteRunnersPayload { matched_count, runners, refused })
    }

    /// Disables or enables many runners at once. For those who manage them.
    async fn set_runners_disabled(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Which runners, and what to do with them.")] input: SetRunnersDisabledInput,
    ) -> Result<SetRunnersDisabledPayload, AppError> {
        let request = context.request();
        let target = target(request, input.ids, input.scope, input.filter).await?;
        let dry_run = input.dry_run.unwrap_or(false);
        let result = request.fleet.set_runners_disabled(&request.actor(), target, input.disabled, dry_run).await?;
        let (matched_count, runners, refused) = parts(result);
        Ok(SetRunnersDisabledPayload { matched_count, runners, refused })
    }
}

async fn target(
    request: &RequestContext,
    ids: Option<Vec<ID>>,
    named: Option<ScopeInput>,
    filter: Option<RunnerFilter>,
) -> Result<BulkTarget> {
    request.fleet.may_change_runners(&request.actor())?;
    match (ids, named, filter) {
        (Some(ids), None, None) => {
            let ids = ids.iter().map(|id| decode_as(NodeKind::Runner, "ids", id));
            Ok(BulkTarget::Ids(ids.collect::<Result<_>>()?))
        }
        (Some(_), _, _) => {
            Err(AppError::bad_input("ids", "Give either ids, or a scope and a filter; both together are ambiguous."))
        }
        (None, None, None) => Err(AppError::bad_input("ids", "Say which runners: give ids, or a scope, or a filter.")),
        (None, named, filter) => {
            let scope = match named {
                Some(named) => Some(scope_to_manage(request, named, AccessTokenScope::WriteRunner).await?),
                None => None,
            };
            Ok(BulkTarget::Filter(scope, filter.unwrap_or_default().into()))
        }
    }
}

fn parts(result: BulkResult) -> (usize, Vec<Runner>, Vec<RunnerRefusal>) {
    let refused = result.refused.into_iter().map(|refusal| RunnerRefusal {
        id: encode(NodeKind::Runner, refusal.id),
        code: refusal.error.code.as_str(),
        message: refusal.error.message.into_owned(),
    });
    (result.matched, result.runners.into_iter().map(Runner::from).collect(), refused.collect())
}
