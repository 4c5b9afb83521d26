//! What runners do: register, open a session, declare themselves, heartbeat, leave.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use secrecy::SecretString;

use super::shown;
use crate::error::{AppError, Result};
use crate::fleet::{Declaration, HeartbeatReport, Registration};
use crate::graphql::context::ContextExt as _;
use crate::graphql::node_id::{NodeKind, decode_as, encode};
use crate::graphql::scalars::DateTime;
use crate::graphql::types::{Runner, RunnerDirective};

#[derive(Default)]
pub(super) struct RunnerAgentMutations;

/// What `registerRunner` takes.
#[derive(InputObject)]
struct RegisterRunnerInput {
    /// A registration token (`rc_reg_…`); it decides the scope.
    token: String,
    /// The name that people will see, at most 255 characters.
    name: String,
    /// What tasks choose the runner by, at most 100. Those of the token come on top.
    labels: Option<Vec<String>>,
    /// The version of the agent.
    version: Option<String>,
    /// The operating system.
    os: Option<String>,
    /// The processor architecture.
    arch: Option<String>,
    /// What it is, for people.
    description: Option<String>,
    /// Whether it takes one task and is then removed; without a word, what the token says.
    ephemeral: Option<bool>,
    /// What the machine calls itself, for ever. The same machine in the same scope takes its old record over, with a new
    /// secret, instead of leaving a duplicate; so a call whose answer was lost can be made again.
    machine_id: Option<String>,
}

/// What `registerRunner` returns.
#[derive(SimpleObject)]
struct RegisterRunnerPayload {
    /// The runner.
    runner: Runner,
    /// The runner's token (`rc_run_…`), which it shows together with its UUID. It is shown this once and not kept.
    secret: String,
}

/// What `openRunnerSession` returns.
#[derive(SimpleObject)]
struct OpenRunnerSessionPayload {
    /// A signed token (JWT) to send as `Authorization: Bearer …`.
    token: String,
    /// When it ends. Open another before that.
    expires_at: DateTime,
}

/// What `declareRunner` takes. What is left out stays as it is.
#[derive(InputObject)]
struct DeclareRunnerInput {
    /// What tasks choose the runner by, in place of what was declared before. Those of its registration token stay.
    labels: Option<Vec<String>>,
    /// The version of the agent.
    version: Option<String>,
    /// The operating system.
    os: Option<String>,
    /// The processor architecture.
    arch: Option<String>,
}

/// What `declareRunner` returns.
#[derive(SimpleObject)]
struct DeclareRunnerPayload {
    /// The runner as it is now.
    runner: Runner,
}

/// What `heartbeat` takes. `{}` is enough.
#[derive(InputObject)]
struct HeartbeatInput {
    /// The tasks that the runner works on, as it sees it. One that it was given a while ago and does not name goes to another;
    /// of one that it names and does not have it is told to stop. Without the list neither happens.
    running_task_ids: Option<Vec<ID>>,
    /// How many more tasks the runner could take.
    free_slots: Option<i64>,
}

/// What `heartbeat` returns.
#[derive(SimpleObject)]
struct HeartbeatPayload {
    /// The runner as it is now.
    runner: Runner,
    /// The server's time.
    server_time: DateTime,
    /// When to send the next heartbeat. It grows with the fleet and differs a little from call to call.
    next_heartbeat_in_seconds: u64,
    /// What to do. Usually nothing.
    directives: Vec<RunnerDirective>,
}

/// What `deregisterRunner` returns.
#[derive(SimpleObject)]
struct DeregisterRunnerPayload {
    /// The id of the runner that is gone.
    deleted_id: ID,
}

#[Object]
#[expect(clippy::unused_async, reason = "resolvers are async, also those that only look into memory")]
impl RunnerAgentMutations {
    /// Makes a machine a runner. For whoever holds a registration token; no other credentials are needed.
    async fn register_runner(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "What the machine says of itself.")] input: RegisterRunnerInput,
    ) -> Result<RegisterRunnerPayload, AppError> {
        let request = context.request();
        let registration = Registration {
            token: SecretString::from(input.token),
            name: input.name,
            labels: input.labels.unwrap_or_default(),
            version: input.version,
            os: input.os,
            arch: input.arch,
            description: input.description,
            ephemeral: input.ephemeral,
            machine_id: input.machine_id,
        };
        let registered = request.fleet.register(registration, request.address).await?;
        Ok(RegisterRunnerPayload { runner: registered.runner.into(), secret: shown(&registered.secret) })
    }

    /// Trades the runner's token for a session, which the server checks without its database. It ends when it expires, and
    /// when the token is rotated or the runner removed. For runners.
    async fn open_runner_session(&self, context: &Context<'_>) -> Result<OpenRunnerSessionPayload, AppError> {
        let request = context.request();
        let (token, expires_at) = request.fleet.open_session(&request.actor())?;
        Ok(OpenRunnerSessionPayload { token: shown(&token), expires_at: expires_at.into() })
    }

    /// Takes the runner's word for what it is, after a start or an upgrade. For runners.
    async fn declare_runner(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "What changed.")] input: DeclareRunnerInput,
    ) -> Result<DeclareRunnerPayload, AppError> {
        let request = context.request();
        let DeclareRunnerInput { labels, version, os, arch } = input;
        let declaration = Declaration { labels, version, os, arch };
        let runner = request.fleet.declare(&request.actor(), declaration).await?.into();
        Ok(DeclareRunnerPayload { runner })
    }

    /// Says that the runner is here, and asks what to do. Every other call of a runner says so too. For runners.
    async fn heartbeat(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "What the runner is doing; `{}` is enough.")] input: HeartbeatInput,
    ) -> Result<HeartbeatPayload, AppError> {
        if input.free_slots.is_some_and(|slots| slots < 0) {
            return Err(AppError::bad_input("freeSlots", "A runner cannot have fewer than 0 free slots."));
        }
        let request = context.request();
        let running_task_ids = input.running_task_ids.map(|ids| {
            let ids = ids.iter().map(|id| decode_as(NodeKind::Task, "runningTaskIds", id));
            ids.collect::<Result<Vec<_>>>()
        });
        let report = HeartbeatReport {
            running_task_ids: running_task_ids.transpose()?,
            free_slots: input.free_slots.map(|slots| u32::try_from(slots).unwrap_or(u32::MAX)),
        };
        let answer = request.fleet.heartbeat(&request.actor(), report).await?;
        let now = answer.server_time;
        Ok(HeartbeatPayload {
            runner: answer.runner.into(),
            server_time: now.into(),
            next_heartbeat_in_seconds: answer.next_in_seconds,
            directives: answer.directives.into_iter().map(|directive| RunnerDirective::of(directive, now)).collect(),
        })
    }

    /// Removes the runner that asks for it. For runners.
    async fn deregister_runner(&self, context: &Context<'_>) -> Result<DeregisterRunnerPayload, AppError> {
        let request = context.request();
        let id = request.fleet.deregister(&request.actor()).await?;
        Ok(DeregisterRunnerPayload { deleted_id: encode(NodeKind::Runner, id) })
    }
}
