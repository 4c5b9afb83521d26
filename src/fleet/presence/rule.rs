//! When a runner is OFFLINE, IDLE or ACTIVE: one pure function of times.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::model::{RunnerStatus, TransitionCause};

/// The configured times.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Silence that makes a runner OFFLINE.
    pub offline_after: Duration,
    /// Time without task work that makes it IDLE.
    pub idle_after: Duration,
}

/// What decides a runner's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// Until when it counts as present, if it is not heard from again.
    pub present_until: Timestamp,
    /// When it last did task work.
    pub worked_at: Option<Timestamp>,
    /// Tasks it runs at this moment.
    pub running: u16,
}

impl Rules {
    /// The status at a time: OFFLINE when the runner was not heard from for `offline_after` or never; else ACTIVE while it
    /// runs a task or did task work within `idle_after`; else IDLE. With it comes the time when it will be another if
    /// nothing happens.
    pub fn status(&self, signs: Signs, now: Timestamp) -> (RunnerStatus, Option<Timestamp>) {
        if now >= signs.present_until {
            return (RunnerStatus::Offline, None);
        }
        if signs.running > 0 {
            return (RunnerStatus::Active, Some(signs.present_until));
        }
        match signs.worked_at.map(|worked_at| worked_at + self.idle_after) {
            Some(idle_at) if now < idle_at => (RunnerStatus::Active, Some(idle_at.min(signs.present_until))),
            _ => (RunnerStatus::Idle, Some(signs.present_until)),
        }
    }
}

/// Why a runner went from one status to another.
pub fn cause(from: RunnerStatus, to: RunnerStatus) -> TransitionCause {
    match (from, to) {
        (_, RunnerStatus::Offline) => TransitionCause::NotHeardFrom,
        (_, RunnerStatus::Active) => TransitionCause::TaskWork,
        (RunnerStatus::Active, RunnerStatus::Idle) => TransitionCause::WorkEnded,
        (_, RunnerStatus::Idle) => TransitionCause::HeardFrom,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { offline_after: Duration::from_mins(1), idle_after: Duration::from_secs(10) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_table() {
        use RunnerStatus::{Active, Idle, Offline};
        // present until, worked at, running, now → status, next change
        let table = [
            (0, None, 0, 0, Offline, None),
            (60, None, 0, 0, Idle, Some(60)),
            (60, None, 0, 59, Idle, Some(60)),
            (60, None, 0, 60, Offline, None),
            (60, None, 1, 59, Active, Some(60)),
            (60, None, 1, 60, Offline, None),
            (60, Some(0), 0, 9, Active, Some(10)),
            (60, Some(0), 0, 10, Idle, Some(60)),
            (60, Some(55), 0, 58, Active, Some(60)),
            (60, Some(55), 0, 61, Offline, None),
        ];
        for (present, worked, running, now, status, next) in table {
            let signs = Signs { present_until: at(present), worked_at: worked.map(at), running };
            assert_eq!(RULES.status(signs, at(now)), (status, next.map(at)), "{signs:?} at {now}");
        }
    }

    proptest! {
        /// The announced time of change is exact: the status holds until just before it, and is another from it on.
        #[test]
        fn nothing_changes_before_its_time(
            present in 0i64..200, worked in proptest::option::of(0i64..200), running in 0u16..3, now in 0i64..200,
        ) {
            let signs = Signs { present_until: at(present), worked_at: worked.map(at), running };
            let (status, next) = RULES.status(signs, at(now));
            let until = next.unwrap_or(at(1_000));
            prop_assert!(until > at(now));
            let just_before = until - Duration::from_micros(1);
            prop_assert_eq!(RULES.status(signs, just_before).0, status);
            if next.is_some() {
                prop_assert_ne!(RULES.status(signs, until).0, status);
            }
        }
    }
}
