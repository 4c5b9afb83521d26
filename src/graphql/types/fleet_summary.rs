use async_graphql::SimpleObject;

use crate::fleet::presence::Counts;

/// How many runners there are of what, and how much work, at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SimpleObject)]
pub(in crate::graphql) struct FleetSummary {
    /// All runners, whatever their status.
    total: u32,
    /// Runners that were not heard from.
    offline: u32,
    /// Runners that are here and have no work.
    idle: u32,
    /// Runners at work.
    active: u32,
    /// Runners that get no new work; each is counted by its status too.
    disabled: u32,
    /// Tasks that wait for a runner.
    queued_tasks: u32,
    /// Tasks that a runner has.
    running_tasks: u32,
}

impl From<Counts> for FleetSummary {
    fn from(counts: Counts) -> Self {
        let Counts { total, offline, idle, active, disabled, queued_tasks, running_tasks } = counts;
        Self { total, offline, idle, active, disabled, queued_tasks, running_tasks }
    }
}
