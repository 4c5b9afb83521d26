//! Every edge of the graph, batched: the one place on this side that reads the store.
//!
//! A key is a newtype that says what is looked up. What a key leads to has been checked where the key was made: loaders fill
//! in what belongs to things that the caller was already allowed to see.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use async_graphql::dataloader::Loader;

use crate::error::{AppError, Result};
use crate::fleet::Fleet;
use crate::page::PageRequest;
use crate::store::lists::{RunnerList, ScopeParent};
use crate::store::models::{MemberRow, RegistrationTokenRow, RunnerRow, ScopeRow, TransitionRow, UserRow};

/// Reads the store for one request.
pub(super) struct StoreLoader {
    fleet: Fleet,
}

impl StoreLoader {
    pub(super) const fn new(fleet: Fleet) -> Self {
        Self { fleet }
    }
}

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
}

fn by_id<K: Hash + Eq, R>(rows: Vec<R>, key: impl Fn(&R) -> K) -> HashMap<K, R> {
    rows.into_iter().map(|row| (key(&row), row)).collect()
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
        let mut histories: HashMap<HistoryKey, Vec<TransitionRow>> = HashMap::new();
        for row in self.fleet.histories(&ids).await? {
            histories.entry(HistoryKey(row.runner_id)).or_default().push(row);
        }
        Ok(histories)
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
