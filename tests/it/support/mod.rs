//! What tests are written with.

mod app;
mod client;
mod database;
mod events;
mod process;
mod socket;
mod sql;
mod tasks;

pub use app::{TestApp, TestRunner};
pub use client::{Answer, Client, Shown};
pub use database::{Database, TestDatabase};
pub use events::EventStream;
pub use process::ServerProcess;
pub use socket::{Frame, Socket};
pub use tasks::new_task;

/// Runs each test on both databases: `on_both! { async fn name(database) { … } }`. The body begins with
/// `TestApp::start(database)`, or a builder of it.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($database:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn case($database: $crate::support::Database) $body

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                Box::pin(case($crate::support::Database::Sqlite)).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                Box::pin(case($crate::support::Database::Postgres)).await;
            }
        }
    )*};
}

pub(crate) use on_both;

/// Waits for what a task in the background does, up to 5 seconds.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("this did not come true: {what}");
}
