//! The types of the graph, one a file. Their doc comments are the product's manual.

mod access_token;
mod account;
mod enums;
mod fleet_summary;
mod inputs;
mod interfaces;
mod registration_token;
mod runner;
mod scope;

pub(super) use access_token::AccessToken;
pub(super) use account::OrganizationMember;
pub(super) use enums::{AccessTokenScope, MemberRole, RunnerStatus, RunnerTransitionCause, ScopeKind};
pub(super) use fleet_summary::FleetSummary;
pub(super) use inputs::{RunnerFilter, RunnerOrder, ScopeInput, order};
pub(super) use interfaces::{Node, RunnerScope, Viewer};
pub(super) use registration_token::RegistrationToken;
pub(super) use runner::Runner;
pub(super) use scope::{Instance, Organization, Repository, User};
