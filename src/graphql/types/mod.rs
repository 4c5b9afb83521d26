//! The types of the graph, one a file. Their doc comments are the product's manual.

mod access_token;
mod account;
mod cleanup_job;
mod directive;
mod enums;
mod fleet_summary;
mod inputs;
mod interfaces;
mod job_token;
mod placement;
mod registration_token;
mod runner;
mod scope;
mod task;
mod task_log;

pub(super) use access_token::AccessToken;
pub(super) use account::OrganizationMember;
pub(super) use cleanup_job::CleanupJob;
pub(super) use directive::RunnerDirective;
pub(super) use enums::{
    AccessTokenScope, CleanupStatus, CleanupTarget, MemberRole, PlacementVerdict, RunnerStatus, RunnerTransitionCause,
    ScopeKind, TaskStatus, TaskWaitingReason,
};
pub(super) use fleet_summary::FleetSummary;
pub(super) use inputs::{RunnerFilter, RunnerOrder, ScopeInput, TaskFilter, order};
pub(super) use interfaces::{Node, RunnerScope, Viewer};
pub(super) use job_token::JobTokenClaims;
pub(super) use placement::{Placement, PlacementCandidate, TaskWaiting};
pub(super) use registration_token::RegistrationToken;
pub(super) use runner::Runner;
pub(super) use scope::{Instance, Organization, Repository, User};
pub(super) use task::Task;
pub(super) use task_log::{TaskLogChunk, TaskLogLine};
