//! The shadow of presence.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

pub use super::super::write_presence;

use super::super::Connection;
use crate::error::Result;
use crate::store::models::{PresenceRow, TransitionRow};
use crate::store::schema::{runner_transitions, runners};

/// The next runners after an identifier, for the start of the server.
pub async fn after(db: &mut Connection, id: i64, limit: i64) -> Result<Vec<PresenceRow>> {
    Ok(runners::table
        .filter(runners::id.gt(id))
        .order(runners::id.asc())
        .limit(limit)
        .select(PresenceRow::as_select())
        .load(db)
        .await?)
}

/// The histories of these runners, in no order.
pub async fn histories(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<TransitionRow>> {
    Ok(runner_transitions::table
        .filter(runner_transitions::runner_id.eq_any(ids))
        .select(TransitionRow::as_select())
        .load(db)
        .await?)
}
