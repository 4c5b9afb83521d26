//! Connections, with a deadline on every wait and every unit of work, and none that is handed on in a doubtful state.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Timeouts};
use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel_async::pooled_connection::deadpool::{Hook, Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, PoolError, PoolableConnection};
use tokio::time::error::Elapsed;

use super::error::TooLate;
use crate::error::{AppError, Result};

/// Time limits and sizes of the pools.
#[derive(Clone, Debug)]
pub struct PoolLimits {
    /// Connections.
    pub size: usize,
    /// How long to wait for one, and for making one.
    pub wait: Duration,
    /// How long one unit of work may take.
    pub work: Duration,
}

/// Counts statements; shared by all connections of a store.
#[derive(Clone, Debug, Default)]
pub struct StatementCount(Arc<AtomicU64>);

impl StatementCount {
    /// Statements so far, those that begin and end transactions aside.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes the first seven bytes of what is written, and then has enough.
#[derive(Default)]
struct FirstWord {
    text: [u8; 7],
    length: usize,
}

impl Write for FirstWord {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = &mut self.text[self.length..];
        let taken = room.len().min(text.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        if self.length == self.text.len() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

impl Instrumentation for StatementCount {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            // Begin, commit and rollback are reported as queries too. The text may hold values, and many: only its first word
            // is looked at.
            let mut word = FirstWord::default();
            let _ = write!(word, "{query}");
            let is_frame =
                [b"BEGIN".as_slice(), b"COMMIT", b"ROLLBAC"].iter().any(|frame| word.text.starts_with(frame));
            if !is_frame {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Builds a pool whose connections count their statements.
pub(super) fn build<C>(
    url: &str,
    size: usize,
    limits: &PoolLimits,
    config: ManagerConfig<C>,
    statements: &StatementCount,
) -> Result<Pool<C>>
where
    C: PoolableConnection + Send + 'static,
    AsyncDieselConnectionManager<C>: Manager<Type = C, Error = PoolError>,
{
    let statements = statements.clone();
    Pool::builder(AsyncDieselConnectionManager::new_with_config(url, config))
        .max_size(size)
        .timeouts(Timeouts { wait: Some(limits.wait), create: Some(limits.wait), recycle: Some(limits.wait) })
        .runtime(deadpool::Runtime::Tokio1)
        .post_create(Hook::sync_fn(move |connection: &mut C, _| {
            connection.set_instrumentation(statements.clone());
            Ok(())
        }))
        .build()
        .map_err(AppError::internal)
}

/// The pools of one database.
pub struct Db<C: PoolableConnection + Send + 'static>
where
    AsyncDieselConnectionManager<C>: Manager<Type = C>,
{
    readers: Pool<C>,
    writers: Pool<C>,
    begin: &'static str,
    deadline: Duration,
}

impl<C: PoolableConnection + Send + 'static> Clone for Db<C>
where
    AsyncDieselConnectionManager<C>: Manager<Type = C>,
{
    fn clone(&self) -> Self {
        Self {
            readers: self.readers.clone(),
            writers: self.writers.clone(),
            begin: self.begin,
            deadline: self.deadline,
        }
    }
}

impl<C> Db<C>
where
    C: PoolableConnection + Send + 'static,
    AsyncDieselConnectionManager<C>: Manager<Type = C, Error = PoolError>,
{
    pub(super) fn new(readers: Pool<C>, writers: Pool<C>, begin: &'static str, limits: &PoolLimits) -> Self {
        Self { readers, writers, begin, deadline: limits.work }
    }

    /// A connection to read with.
    pub(crate) async fn reader(&self) -> Result<Lease<C>> {
        Ok(Lease::new(self.readers.get().await?, self.deadline))
    }

    /// A connection with a transaction begun on it.
    pub(crate) async fn begin(&self) -> Result<Lease<C>> {
        let mut lease = Lease::new(self.writers.get().await?, self.deadline);
        let begin = self.begin;
        lease.deadline(async |connection| Ok(connection.batch_execute(begin).await?)).await?;
        Ok(lease)
    }
}

/// A connection out of the pool. Unless the work on it ended, it is closed and not handed back: a dropped future leaves a
/// statement running or a transaction open, and both poison whoever comes next.
pub(crate) struct Lease<C: PoolableConnection + Send + 'static>
where
    AsyncDieselConnectionManager<C>: Manager<Type = C>,
{
    connection: Option<Object<C>>,
    deadline: Duration,
}

impl<C> Lease<C>
where
    C: PoolableConnection + Send + 'static,
    AsyncDieselConnectionManager<C>: Manager<Type = C, Error = PoolError>,
{
    fn new(connection: Object<C>, deadline: Duration) -> Self {
        Self { connection: Some(connection), deadline }
    }

    /// The connection, to work on.
    pub(crate) fn connection(&mut self) -> &mut C {
        self.connection.as_mut().expect("a lease has its connection until it ends")
    }

    /// How long the work may take.
    pub(crate) fn time_limit(&self) -> Duration {
        self.deadline
    }

    /// Hands the connection back after reading.
    pub(crate) fn end<T>(mut self, result: Result<Result<T>, Elapsed>) -> Result<T> {
        match result {
            Ok(result) => {
                drop(self.connection.take());
                result
            }
            Err(_) => Err(self.too_late()),
        }
    }

    /// Commits what succeeded, rolls back what did not, and hands the connection back.
    pub(crate) async fn finish<T>(mut self, result: Result<Result<T>, Elapsed>) -> Result<T> {
        let Ok(result) = result else { return Err(self.too_late()) };
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.deadline(async |connection| Ok(connection.batch_execute(end).await?)).await;
        match (result, ended) {
            (Ok(value), Ok(())) => {
                drop(self.connection.take());
                Ok(value)
            }
            (Err(refused), Ok(())) => {
                drop(self.connection.take());
                Err(refused)
            }
            // Whether it was committed is not known: the connection is closed, and the caller told to try again.
            (Ok(_), Err(lost)) => Err(lost),
            (Err(refused), Err(_)) => Err(refused),
        }
    }

    async fn deadline(&mut self, work: impl AsyncFnOnce(&mut C) -> Result<()>) -> Result<()> {
        let limit = self.deadline;
        match tokio::time::timeout(limit, work(self.connection())).await {
            Ok(result) => result,
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> AppError {
        AppError::unavailable(TooLate(self.deadline))
    }
}

impl<C: PoolableConnection + Send + 'static> Drop for Lease<C>
where
    AsyncDieselConnectionManager<C>: Manager<Type = C>,
{
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(Object::take(connection));
        }
    }
}
