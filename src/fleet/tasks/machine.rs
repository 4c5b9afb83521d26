//! The states of a task and the moves between them: one pure function.
//!
//! ```text
//!                 claim                    report
//!   QUEUED ──────────────────▶ RUNNING ──────────────▶ SUCCEEDED, FAILED, CANCELLED
//!     ▲  │                      │    │                        │
//!     │  │ cancel, too long     │    │ cancel, timeout        │ retry
//!     │  └────▶ CANCELLED       │    ▼                        │
//!     │                         │  CANCELLING ──▶ CANCELLED (asked for), FAILED (timeout)
//!     └──── lost, handed back ──┘                             │
//!     └───────────────────────────────────────────────────────┘
//! ```

use crate::model::{StopCause, TaskStatus};

/// What decides about a task's next move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Where it stands.
    pub status: TaskStatus,
    /// Why it is to stop, while it is CANCELLING.
    pub stop_cause: Option<StopCause>,
    /// How often it was given out.
    pub attempt: i64,
    /// How often it may be.
    pub max_attempts: i64,
}

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A runner takes it.
    Claimed,
    /// It cannot be given to a runner: what it carries cannot be read.
    Broken,
    /// Its runner says that it still runs.
    Progressed,
    /// Its runner says that it ended well.
    Succeeded,
    /// Its runner says that it ended badly.
    Failed,
    /// Its runner says that it was stopped.
    Stopped,
    /// Its runner hands it back.
    HandedBack,
    /// Its runner never got it: the answer that gave it out could not be delivered.
    Undelivered,
    /// Its runner went away, or knows nothing of it.
    Lost,
    /// Somebody wants it to stop.
    CancelRequested,
    /// It has waited, run, or been stopping for as long as it may.
    Due,
    /// Somebody wants it to run again.
    Retried,
}

impl Input {
    /// Every input, for tests that try all.
    pub const ALL: [Self; 12] = [
        Self::Claimed,
        Self::Broken,
        Self::Progressed,
        Self::Succeeded,
        Self::Failed,
        Self::Stopped,
        Self::HandedBack,
        Self::Undelivered,
        Self::Lost,
        Self::CancelRequested,
        Self::Due,
        Self::Retried,
    ];
}

/// Why a task failed or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It could not be given to a runner.
    Broken,
    /// Its runner said so.
    Reported,
    /// Its runner went away, for the last time that it may.
    Lost,
    /// Its runner handed it back, for the last time that it may.
    HandedBack,
    /// It ran longer than it may.
    Timeout,
    /// It waited longer than it may.
    WaitedTooLong,
    /// Somebody asked for it.
    Requested,
}

/// What comes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The task goes to a status, for a reason where it ends other than well.
    To(TaskStatus, Option<Reason>),
    /// It is to stop.
    Stop(StopCause),
    /// Nothing changes; it was so already.
    Stay,
    /// It cannot be done in this state.
    Refuse,
}

/// What an input does in a state.
pub fn step(state: State, input: Input) -> Step {
    match state.status {
        TaskStatus::Queued => queued(input),
        TaskStatus::Running => running(state, input),
        TaskStatus::Cancelling => cancelling(state, input),
        ended => after_the_end(ended, input),
    }
}

const fn queued(input: Input) -> Step {
    match input {
        Input::Claimed => Step::To(TaskStatus::Running, None),
        Input::Broken => Step::To(TaskStatus::Failed, Some(Reason::Broken)),
        Input::CancelRequested => Step::To(TaskStatus::Cancelled, Some(Reason::Requested)),
        Input::Due => Step::To(TaskStatus::Cancelled, Some(Reason::WaitedTooLong)),
        _ => Step::Refuse,
    }
}

const fn running(state: State, input: Input) -> Step {
    match input {
        Input::Progressed => Step::Stay,
        Input::Succeeded => Step::To(TaskStatus::Succeeded, None),
        Input::Failed => Step::To(TaskStatus::Failed, Some(Reason::Reported)),
        Input::Stopped => Step::To(TaskStatus::Cancelled, Some(Reason::Reported)),
        Input::Undelivered => Step::To(TaskStatus::Queued, None),
        Input::HandedBack => again(state, Reason::HandedBack),
        Input::Lost => again(state, Reason::Lost),
        Input::CancelRequested => Step::Stop(StopCause::Requested),
        Input::Due => Step::Stop(StopCause::Timeout),
        Input::Claimed | Input::Broken | Input::Retried => Step::Refuse,
    }
}

/// A task whose runner is out of the game is queued again as long as it may be.
const fn again(state: State, last: Reason) -> Step {
    if state.attempt < state.max_attempts {
        Step::To(TaskStatus::Queued, None)
    } else {
        Step::To(TaskStatus::Failed, Some(last))
    }
}

const fn cancelling(state: State, input: Input) -> Step {
    match input {
        Input::Progressed | Input::CancelRequested => Step::Stay,
        // It came to its end before it could be stopped: what it did is done.
        Input::Succeeded => Step::To(TaskStatus::Succeeded, None),
        Input::Failed | Input::Stopped | Input::HandedBack | Input::Undelivered | Input::Lost | Input::Due => {
            match state.stop_cause {
                Some(StopCause::Timeout) => Step::To(TaskStatus::Failed, Some(Reason::Timeout)),
                _ => Step::To(TaskStatus::Cancelled, Some(Reason::Requested)),
            }
        }
        Input::Claimed | Input::Broken | Input::Retried => Step::Refuse,
    }
}

const fn after_the_end(ended: TaskStatus, input: Input) -> Step {
    match (ended, input) {
        (_, Input::Retried) => Step::To(TaskStatus::Queued, None),
        // A report whose answer was lost is made again; a task that was being stopped may have ended as another status than its
        // runner says.
        (TaskStatus::Succeeded, Input::Succeeded)
        | (TaskStatus::Cancelled | TaskStatus::Failed, Input::Failed | Input::Stopped)
        | (_, Input::Due | Input::Lost | Input::Undelivered) => Step::Stay,
        _ => Step::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(status: TaskStatus, stop_cause: Option<StopCause>, attempt: i64) -> State {
        State { status, stop_cause, attempt, max_attempts: 3 }
    }

    /// Every input in every state, in the order of [`Input::ALL`].
    #[test]
    fn the_table() {
        use Reason as R;
        use TaskStatus::{Cancelled, Cancelling, Failed, Queued, Running, Succeeded};
        let to = |status| Step::To(status, None);
        let ends = |status, reason| Step::To(status, Some(reason));
        let (stay, no) = (Step::Stay, Step::Refuse);
        #[rustfmt::skip]
        let table = [
            //                                  claimed      broken                   progressed succeeded    failed                      stopped                        handed back                 undelivered                 lost                        cancel                       due                                retried
            (state(Queued, None, 0),           [to(Running), ends(Failed, R::Broken), no,        no,          no,                         no,                            no,                         no,                         no,                         ends(Cancelled, R::Requested), ends(Cancelled, R::WaitedTooLong), no]),
            (state(Running, None, 1),          [no,          no,                      stay,      to(Succeeded), ends(Failed, R::Reported), ends(Cancelled, R::Reported),  to(Queued),                 to(Queued),                 to(Queued),                 Step::Stop(StopCause::Requested), Step::Stop(StopCause::Timeout), no]),
            (state(Running, None, 3),          [no,          no,                      stay,      to(Succeeded), ends(Failed, R::Reported), ends(Cancelled, R::Reported),  ends(Failed, R::HandedBack), to(Queued),                ends(Failed, R::Lost),      Step::Stop(StopCause::Requested), Step::Stop(StopCause::Timeout), no]),
            (state(Cancelling, Some(StopCause::Requested), 1), [no, no,               stay,      to(Succeeded), ends(Cancelled, R::Requested), ends(Cancelled, R::Requested), ends(Cancelled, R::Requested), ends(Cancelled, R::Requested), ends(Cancelled, R::Requested), stay,             ends(Cancelled, R::Requested),     no]),
            (state(Cancelling, Some(StopCause::Timeout), 1),   [no, no,               stay,      to(Succeeded), ends(Failed, R::Timeout),  ends(Failed, R::Timeout),      ends(Failed, R::Timeout),   ends(Failed, R::Timeout),   ends(Failed, R::Timeout),   stay,                        ends(Failed, R::Timeout),          no]),
            (state(Succeeded, None, 1),        [no,          no,                      no,        stay,        no,                         no,                            no,                         stay,                       stay,                       no,                          stay,                              to(Queued)]),
            (state(Failed, None, 1),           [no,          no,                      no,        no,          stay,                       stay,                          no,                         stay,                       stay,                       no,                          stay,                              to(Queued)]),
            (state(Cancelled, None, 1),        [no,          no,                      no,        no,          stay,                       stay,                          no,                         stay,                       stay,                       no,                          stay,                              to(Queued)]),
        ];
        for (state, row) in table {
            for (input, expected) in Input::ALL.into_iter().zip(row) {
                assert_eq!(step(state, input), expected, "{input:?} in {state:?}");
            }
        }
    }

    /// What the fleet does with a step, in small.
    fn apply(mut state: State, input: Input) -> State {
        match step(state, input) {
            Step::To(status, _) => {
                if status == TaskStatus::Running {
                    state.attempt += 1;
                }
                if input == Input::Retried {
                    state.max_attempts = state.max_attempts.max(state.attempt + 1);
                }
                (state.status, state.stop_cause) = (status, None);
            }
            Step::Stop(cause) => (state.status, state.stop_cause) = (TaskStatus::Cancelling, Some(cause)),
            Step::Stay | Step::Refuse => {}
        }
        state
    }

    proptest! {
        #[test]
        fn whatever_is_called_in_whatever_order(
            calls in proptest::collection::vec(0..Input::ALL.len(), 0..60), max_attempts in 1i64..4,
        ) {
            let mut now = State { status: TaskStatus::Queued, stop_cause: None, attempt: 0, max_attempts };
            for call in calls {
                let (before, input) = (now, Input::ALL[call]);
                now = apply(before, input);
                // Nothing runs without an attempt, and a claim is the only way in.
                prop_assert!(!now.status.is_held() || now.attempt > 0);
                prop_assert_eq!(now.attempt > before.attempt, input == Input::Claimed && before.status == TaskStatus::Queued);
                prop_assert_eq!(now.stop_cause.is_some(), now.status == TaskStatus::Cancelling);
                // What has ended stays so until somebody wants it again.
                if before.status.is_ended() && input != Input::Retried {
                    prop_assert_eq!(now.status, before.status);
                }
                // A lost task is never queued more often than it may be given out.
                if matches!(input, Input::Lost | Input::HandedBack) && now.status == TaskStatus::Queued && now != before {
                    prop_assert!(now.attempt < now.max_attempts);
                }
                // Time alone brings every task to its end, in at most two steps.
                let done = apply(apply(apply(now, Input::Due), Input::Due), Input::Due);
                prop_assert!(done.status.is_ended());
            }
        }
    }
}
