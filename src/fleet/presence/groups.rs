//! Runners by scope and labels, counted by whether they could take a task: why a task waits is answered by looking at sets of
//! labels, of which there are few, and not at runners.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::PlacementVerdict;

/// How many runners with the same scope and labels there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Could take a task at once.
    pub ready: u32,
    /// Have work.
    pub busy: u32,
    /// Are not here.
    pub offline: u32,
    /// Are disabled.
    pub disabled: u32,
    /// Are ephemeral and have had their task.
    pub used: u32,
}

impl Verdicts {
    fn of(&mut self, verdict: PlacementVerdict) -> &mut u32 {
        match verdict {
            PlacementVerdict::Ready => &mut self.ready,
            PlacementVerdict::Busy => &mut self.busy,
            PlacementVerdict::Disabled => &mut self.disabled,
            PlacementVerdict::EphemeralUsed => &mut self.used,
            PlacementVerdict::Offline | PlacementVerdict::LabelsMissing => &mut self.offline,
        }
    }

    /// Those that can ever take a task.
    pub const fn usable(&self) -> u32 {
        self.ready + self.busy + self.offline + self.disabled
    }

    /// The sum of two.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            ready: self.ready + other.ready,
            busy: self.busy + other.busy,
            offline: self.offline + other.offline,
            disabled: self.disabled + other.disabled,
            used: self.used + other.used,
        }
    }
}

/// The counts, and one copy of each set of labels.
#[derive(Debug, Default)]
pub(super) struct Groups(HashMap<i64, HashMap<Arc<[String]>, Verdicts>>);

impl Groups {
    /// A runner is there with these labels; returns the copy of them that it shares with its like.
    pub(super) fn enter(&mut self, scope_id: i64, labels: &[String], verdict: PlacementVerdict) -> Arc<[String]> {
        let sets = self.0.entry(scope_id).or_default();
        let shared = sets.get_key_value(labels).map(|(shared, _)| shared.clone());
        let shared = shared.unwrap_or_else(|| labels.into());
        *sets.entry(shared.clone()).or_default().of(verdict) += 1;
        shared
    }

    /// A runner is there no more, or with other labels.
    pub(super) fn leave(&mut self, scope_id: i64, labels: &[String], verdict: PlacementVerdict) {
        let Some(sets) = self.0.get_mut(&scope_id) else { return };
        if let Some(verdicts) = sets.get_mut(labels) {
            *verdicts.of(verdict) -= 1;
            if *verdicts == Verdicts::default() {
                sets.remove(labels);
            }
        }
        if sets.is_empty() {
            self.0.remove(&scope_id);
        }
    }

    /// What a runner could do changed.
    pub(super) fn change(&mut self, scope_id: i64, labels: &[String], from: PlacementVerdict, to: PlacementVerdict) {
        if let Some(verdicts) = self.0.get_mut(&scope_id).and_then(|sets| sets.get_mut(labels)) {
            *verdicts.of(from) -= 1;
            *verdicts.of(to) += 1;
        }
    }

    /// The sets of labels in these scopes.
    pub(super) fn within(&self, scopes: &[i64]) -> Vec<(Arc<[String]>, Verdicts)> {
        let sets = scopes.iter().filter_map(|scope| self.0.get(scope)).flatten();
        sets.map(|(labels, verdicts)| (labels.clone(), *verdicts)).collect()
    }
}
