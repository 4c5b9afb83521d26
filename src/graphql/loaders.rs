//! Every edge of the graph, batched: the one place on this side that reads the store.
//!
//! A key is a newtype that says what is looked up. What a key leads to has been checked where the key was made: loaders fill
//! in what belongs to things that the caller was already allowed to see.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_graphql::dataloader::Loader;
use bytes::Bytes;

use super::budget::Budget;
use crate::error::{AppError, Result};
use crate::fleet::{Fleet, LogLine, MOST_ACCESS_TOKENS, Waiting};
use crate::page::PageRequest;
use crate::store::lists::{RunnerList, ScopeParent, TaskList, Visible};
use crate::store::models::{
    AccessTokenRow, CleanupJobRow, MemberRow, OutputRow, RegistrationTokenRow, RunnerRow, ScopeRow, TaskRow,
    TransitionRow, UserRow,
};

/// Reads the store for one request.
pub(super) struct StoreLoader {
    fleet: Fleet,
    budget: Arc<Budget>,
}

impl StoreLoader {
    pub(super) const fn new(fleet: Fleet, budget: Arc<Budget>) -> Self {
        Self { fleet, budget }
    }
}

/// What a task's runner reported. Everything that tells it shares it.
pub(super) type Outputs = Vec<Arc<OutputRow>>;
/// Lines of a log. Everything that tells them shares them.
pub(super) type Lines = Vec<Arc<LogLine>>;

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident($($part:ty),*);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub(super) struct $name($(pub(super) $part),*);
    )*};
}

keys! {
    /// A scope by its identifier.
    ScopeKey(i64);
    /// What a user has beyond a scope.
    UserKey(i64);
    /// The organizations of a user, and what it may do there.
    MembershipsKey(i64);
    /// An access token by its identifier.
    AccessTokenKey(i64);
    /// The access tokens of a user, oldest first.
    AccessTokensKey(i64);
    /// A runner by its identifier.
    RunnerKey(i64);
    /// The labels of a runner.
    LabelsKey(i64);
    /// The last changes of a runner.
    HistoryKey(i64);
    /// A registration token by its identifier.
    TokenKey(i64);
    /// A page of runners.
    RunnerPageKey(Arc<RunnerList>, PageRequest);
    /// The length of a list of runners.
    RunnerCountKey(Arc<RunnerList>);
    /// A page of the registration tokens of a scope.
    TokenPageKey(i64, PageRequest);
    /// How many registration tokens a scope has.
    TokenCountKey(i64);
    /// A page of scopes.
    ScopePageKey(ScopeParent, PageRequest);
    /// The length of a list of scopes.
    ScopeCountKey(ScopeParent);
    /// A page of the members of an organization.
    MemberPageKey(i64, PageRequest);
    /// How many members an organization has.
    MemberCountKey(i64);
    /// A cleanup job by its identifier.
    CleanupKey(i64);
    /// A page of cleanup jobs.
    CleanupPageKey(Visible, PageRequest);
    /// How many cleanup jobs there are.
    CleanupCountKey(Visible);
    /// A task by its identifier.
    TaskKey(i64);
    /// What a task carries.
    PayloadKey(i64);
    /// What a task's runner reported.
    OutputsKey(i64);
    /// The tasks that a runner has.
    CurrentTasksKey(i64);
    /// Lines of a task's log: from which, and how many.
    LogKey(i64, i64, usize);
    /// A page of tasks.
    TaskPageKey(Arc<TaskList>, PageRequest);
    /// The length of a list of tasks.
    TaskCountKey(Arc<TaskList>);
}

/// Why a task waits. The key is the task as it was read, and stands for its identifier.
#[derive(Clone, Debug)]
pub(super) struct WaitingKey(pub(super) Arc<TaskRow>);

impl PartialEq for WaitingKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for WaitingKey {}

impl Hash for WaitingKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

fn by_id<K: Hash + Eq, R>(rows: Vec<R>, key: impl Fn(&R) -> K) -> HashMap<K, R> {
    rows.into_iter().map(|row| (key(&row), row)).collect()
}

fn grouped<K: Hash + Eq, R>(rows: Vec<R>, key: impl Fn(&R) -> K) -> HashMap<K, Vec<R>> {
    let mut groups: HashMap<K, Vec<R>> = HashMap::new();
    for row in rows {
        groups.entry(key(&row)).or_default().push(row);
    }
    groups
}

impl Loader<ScopeKey> for StoreLoader {
    type Value = ScopeRow;
    type Error = AppError;

    async fn load(&self, keys: &[ScopeKey]) -> Result<HashMap<ScopeKey, ScopeRow>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::scopes::by_ids(db, ids).await)?;
        Ok(by_id(rows, |row| ScopeKey(row.id)))
    }
}

impl Loader<UserKey> for StoreLoader {
    type Value = UserRow;
    type Error = AppError;

    async fn load(&self, keys: &[UserKey]) -> Result<HashMap<UserKey, UserRow>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::users::by_ids(db, ids).await)?;
        Ok(by_id(rows, |row| UserKey(row.id)))
    }
}

impl Loader<MembershipsKey> for StoreLoader {
    type Value = Vec<MemberRow>;
    type Error = AppError;

    async fn load(&self, keys: &[MembershipsKey]) -> Result<HashMap<MembershipsKey, Vec<MemberRow>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::members::of_users(db, ids).await)?;
        Ok(grouped(rows, |row| MembershipsKey(row.user_id)))
    }
}

impl Loader<AccessTokenKey> for StoreLoader {
    type Value = AccessTokenRow;
    type Error = AppError;

    async fn load(&self, keys: &[AccessTokenKey]) -> Result<HashMap<AccessTokenKey, AccessTokenRow>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::access_tokens::by_ids(db, ids).await)?;
        Ok(by_id(rows, |row| AccessTokenKey(row.id)))
    }
}

impl Loader<AccessTokensKey> for StoreLoader {
    type Value = Vec<AccessTokenRow>;
    type Error = AppError;

    async fn load(&self, keys: &[AccessTokensKey]) -> Result<HashMap<AccessTokensKey, Vec<AccessTokenRow>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| {
            queries::access_tokens::of_users(db, &ids, MOST_ACCESS_TOKENS).await
        })?;
        Ok(grouped(rows, |row| AccessTokensKey(row.user_id)))
    }
}

impl Loader<RunnerKey> for StoreLoader {
    type Value = Arc<RunnerRow>;
    type Error = AppError;

    async fn load(&self, keys: &[RunnerKey]) -> Result<HashMap<RunnerKey, Arc<RunnerRow>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::runners::by_ids(db, ids).await)?;
        Ok(rows.into_iter().map(|row| (RunnerKey(row.id), Arc::new(row))).collect())
    }
}

impl Loader<LabelsKey> for StoreLoader {
    type Value = Vec<String>;
    type Error = AppError;

    async fn load(&self, keys: &[LabelsKey]) -> Result<HashMap<LabelsKey, Vec<String>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::runners::labels(db, ids).await)?;
        let mut labels: HashMap<LabelsKey, Vec<String>> = HashMap::new();
        for (id, label) in rows {
            labels.entry(LabelsKey(id)).or_default().push(label);
        }
        Ok(labels)
    }
}

impl Loader<HistoryKey> for StoreLoader {
    type Value = Vec<TransitionRow>;
    type Error = AppError;

    async fn load(&self, keys: &[HistoryKey]) -> Result<HashMap<HistoryKey, Vec<TransitionRow>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        Ok(grouped(self.fleet.histories(&ids).await?, |row| HistoryKey(row.runner_id)))
    }
}

impl Loader<TokenKey> for StoreLoader {
    type Value = RegistrationTokenRow;
    type Error = AppError;

    async fn load(&self, keys: &[TokenKey]) -> Result<HashMap<TokenKey, RegistrationTokenRow>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::registration_tokens::by_ids(db, ids).await)?;
        Ok(by_id(rows, |row| TokenKey(row.id)))
    }
}

impl Loader<TaskKey> for StoreLoader {
    type Value = Arc<TaskRow>;
    type Error = AppError;

    async fn load(&self, keys: &[TaskKey]) -> Result<HashMap<TaskKey, Arc<TaskRow>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::tasks::by_ids(db, ids).await)?;
        Ok(rows.into_iter().map(|row| (TaskKey(row.id), Arc::new(row))).collect())
    }
}

impl Loader<PayloadKey> for StoreLoader {
    /// An error where the answer would be too large with it.
    type Value = Result<Bytes>;
    type Error = AppError;

    async fn load(&self, keys: &[PayloadKey]) -> Result<HashMap<PayloadKey, Result<Bytes>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let (rows, others) = read!(self.fleet.store, |db, queries| {
            let lengths = queries::tasks::payload_lengths(db, ids).await?;
            let (fitting, others) = self.budget.fitting(lengths);
            Ok((queries::tasks::payloads(db, fitting).await?, others))
        })?;
        let mut found: HashMap<PayloadKey, Result<Bytes>> = HashMap::new();
        found.extend(rows.into_iter().map(|row| (PayloadKey(row.task_id), Ok(Bytes::from(row.payload)))));
        found.extend(others.into_iter().map(|id| (PayloadKey(id), Err(self.budget.exceeded()))));
        Ok(found)
    }
}

impl Loader<OutputsKey> for StoreLoader {
    /// An error where the answer would be too large with them.
    type Value = Result<Outputs>;
    type Error = AppError;

    async fn load(&self, keys: &[OutputsKey]) -> Result<HashMap<OutputsKey, Result<Outputs>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let (rows, others) = read!(self.fleet.store, |db, queries| {
            let lengths = queries::tasks::outputs_lengths(db, ids).await?;
            let (fitting, others) = self.budget.fitting(lengths);
            Ok((queries::tasks::outputs(db, fitting).await?, others))
        })?;
        let rows: Outputs = rows.into_iter().map(Arc::new).collect();
        let groups = grouped(rows, |row| OutputsKey(row.task_id));
        let mut found: HashMap<OutputsKey, Result<Outputs>> = HashMap::new();
        found.extend(groups.into_iter().map(|(key, rows)| (key, Ok(rows))));
        found.extend(others.into_iter().map(|id| (OutputsKey(id), Err(self.budget.exceeded()))));
        Ok(found)
    }
}

impl Loader<CurrentTasksKey> for StoreLoader {
    type Value = Vec<Arc<TaskRow>>;
    type Error = AppError;

    async fn load(&self, keys: &[CurrentTasksKey]) -> Result<HashMap<CurrentTasksKey, Vec<Arc<TaskRow>>>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::tasks::held_by(db, ids).await)?;
        let rows = rows.into_iter().map(Arc::new).collect();
        Ok(grouped(rows, |row: &Arc<TaskRow>| CurrentTasksKey(row.runner_id.unwrap_or_default())))
    }
}

impl Loader<WaitingKey> for StoreLoader {
    type Value = Waiting;
    type Error = AppError;

    async fn load(&self, keys: &[WaitingKey]) -> Result<HashMap<WaitingKey, Waiting>> {
        let rows = keys.iter().map(|key| (*key.0).clone()).collect::<Vec<_>>();
        let mut waiting: HashMap<i64, Waiting> = self.fleet.waiting(&rows).await?.into_iter().collect();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), waiting.remove(&key.0.id)?))).collect())
    }
}

impl Loader<LogKey> for StoreLoader {
    /// An error where the answer would be too large with them.
    type Value = Result<Lines>;
    type Error = AppError;

    async fn load(&self, keys: &[LogKey]) -> Result<HashMap<LogKey, Result<Lines>>> {
        let mut found: HashMap<LogKey, Result<Lines>> = HashMap::new();
        let mut limits: Vec<usize> = keys.iter().map(|key| key.2).collect();
        limits.sort_unstable();
        limits.dedup();
        for limit in limits {
            let keys: Vec<&LogKey> = keys.iter().filter(|key| key.2 == limit).collect();
            let wanted: Vec<(i64, i64)> = keys.iter().map(|key| (key.0, key.1)).collect();
            let keys = keys.into_iter().cloned();
            match self.fleet.log_lines(&wanted, limit, self.budget.left_to_read()).await? {
                Some(pages) => found.extend(keys.zip(pages.into_iter().map(|lines| self.counted(lines)))),
                None => found.extend(keys.map(|key| (key, Err(self.budget.exceeded())))),
            }
        }
        Ok(found)
    }
}

impl StoreLoader {
    /// Counts lines that were read.
    fn counted(&self, lines: Vec<LogLine>) -> Result<Lines> {
        let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
        self.budget.read(u64::try_from(bytes).unwrap_or(u64::MAX))?;
        Ok(lines.into_iter().map(Arc::new).collect())
    }
}

impl Loader<CleanupKey> for StoreLoader {
    type Value = CleanupJobRow;
    type Error = AppError;

    async fn load(&self, keys: &[CleanupKey]) -> Result<HashMap<CleanupKey, CleanupJobRow>> {
        let ids = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let rows = read!(self.fleet.store, |db, queries| queries::cleanup::by_ids(db, ids).await)?;
        Ok(by_id(rows, |row| CleanupKey(row.id)))
    }
}

/// Keys that ask for the same part of different lists are answered by one statement.
fn by_page<K: Clone, P: Clone>(keys: &[K], split: impl Fn(&K) -> (P, PageRequest)) -> Vec<(PageRequest, Vec<(K, P)>)> {
    let mut groups: Vec<(PageRequest, Vec<(K, P)>)> = Vec::new();
    for key in keys {
        let (parent, page) = split(key);
        match groups.iter_mut().find(|(known, _)| *known == page) {
            Some((_, group)) => group.push((key.clone(), parent)),
            None => groups.push((page, vec![(key.clone(), parent)])),
        }
    }
    groups
}

macro_rules! page_loader {
    ($key:ident, $parent:ty, $row:ty, $queries:ident, $split:expr) => {
        impl Loader<$key> for StoreLoader {
            type Value = Vec<$row>;
            type Error = AppError;

            async fn load(&self, keys: &[$key]) -> Result<HashMap<$key, Vec<$row>>> {
                let mut found = HashMap::new();
                for (page, group) in by_page(keys, $split) {
                    let (keys, parents): (Vec<$key>, Vec<$parent>) = group.into_iter().unzip();
                    let pages =
                        read!(self.fleet.store, |db, queries| queries::$queries::pages(db, &parents, &page).await)?;
                    found.extend(keys.into_iter().zip(pages));
                }
                Ok(found)
            }
        }
    };
}

page_loader!(RunnerPageKey, RunnerList, RunnerRow, runners, |key: &RunnerPageKey| ((*key.0).clone(), key.1.clone()));
page_loader!(TokenPageKey, i64, RegistrationTokenRow, registration_tokens, |key: &TokenPageKey| (key.0, key.1.clone()));
page_loader!(ScopePageKey, ScopeParent, ScopeRow, scopes, |key: &ScopePageKey| (key.0, key.1.clone()));
page_loader!(MemberPageKey, i64, MemberRow, members, |key: &MemberPageKey| (key.0, key.1.clone()));
page_loader!(CleanupPageKey, Visible, CleanupJobRow, cleanup, |key: &CleanupPageKey| (key.0.clone(), key.1.clone()));
page_loader!(TaskPageKey, TaskList, TaskRow, tasks, |key: &TaskPageKey| ((*key.0).clone(), key.1.clone()));

macro_rules! count_loader {
    ($key:ident, $queries:ident, $parent:expr) => {
        impl Loader<$key> for StoreLoader {
            type Value = i64;
            type Error = AppError;

            async fn load(&self, keys: &[$key]) -> Result<HashMap<$key, i64>> {
                let parents = keys.iter().map($parent).collect::<Vec<_>>();
                let counts = read!(self.fleet.store, |db, queries| queries::$queries::counts(db, &parents).await)?;
                Ok(keys.iter().cloned().zip(counts).collect())
            }
        }
    };
}

count_loader!(RunnerCountKey, runners, |key: &RunnerCountKey| (*key.0).clone());
count_loader!(TokenCountKey, registration_tokens, |key: &TokenCountKey| key.0);
count_loader!(ScopeCountKey, scopes, |key: &ScopeCountKey| key.0);
count_loader!(MemberCountKey, members, |key: &MemberCountKey| key.0);
count_loader!(CleanupCountKey, cleanup, |key: &CleanupCountKey| key.0.clone());
count_loader!(TaskCountKey, tasks, |key: &TaskCountKey| (*key.0).clone());
