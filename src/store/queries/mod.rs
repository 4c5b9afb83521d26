//! Every statement, written once and compiled for each database: these files name no backend, only what the file that
//! includes them calls `Connection` and `Dialect`. They decide nothing, and take the time as an argument.

pub mod access_tokens;
pub mod cleanup;
pub mod members;
pub mod presence;
pub mod registration_tokens;
pub mod retention;
pub mod runners;
pub mod scopes;
mod task_lists;
pub mod task_logs;
pub mod tasks;
mod union;
pub mod users;

use diesel_async::RunQueryDsl;

use super::Connection;
use crate::error::Result;

/// The pattern of LIKE for whatever has this text in it, which is given as it is stored; escaped with a backslash.
fn containing(text: &str) -> String {
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

/// The cheapest statement there is.
pub async fn ping(db: &mut Connection) -> Result<()> {
    diesel::sql_query("SELECT 1").execute(db).await?;
    Ok(())
}
