//! How many runners, and tasks, there are of what.

use crate::model::RunnerStatus;

/// How many runners there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: u32,
    /// Not here.
    pub offline: u32,
    /// Here without work.
    pub idle: u32,
    /// At work.
    pub active: u32,
    /// Disabled, whatever their status.
    pub disabled: u32,
    /// Tasks that wait. Filled in by whoever knows of tasks.
    pub queued_tasks: u32,
    /// Tasks that run.
    pub running_tasks: u32,
}

impl Counts {
    pub(super) fn of(&mut self, status: RunnerStatus) -> &mut u32 {
        match status {
            RunnerStatus::Offline => &mut self.offline,
            RunnerStatus::Idle => &mut self.idle,
            RunnerStatus::Active => &mut self.active,
        }
    }

    /// The sum of two.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            offline: self.offline + other.offline,
            idle: self.idle + other.idle,
            active: self.active + other.active,
            disabled: self.disabled + other.disabled,
            queued_tasks: self.queued_tasks + other.queued_tasks,
            running_tasks: self.running_tasks + other.running_tasks,
        }
    }
}
