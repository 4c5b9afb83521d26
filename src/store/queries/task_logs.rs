//! The logs of tasks.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::{Connection, Dialect};
use super::union::{MOST_SELECTS, UnionAll};
use crate::error::Result;
use crate::store::models::LogChunkRow;
use crate::store::schema::task_log_chunks as chunks;

/// Lines of a chunk at most: those of one call, and one that says that the log is too long.
const LONGEST_CHUNK: i64 = 1_001;

/// Adds lines.
pub async fn append(db: &mut Connection, row: LogChunkRow) -> Result<()> {
    diesel::insert_into(chunks::table).values(row).execute(db).await?;
    Ok(())
}

/// Where the lines of several logs are, from a line of each on, in one statement: task, first line and number of lines of at most
/// `limit` chunks each, in no order.
pub async fn index(db: &mut Connection, wanted: &[(i64, i64)], limit: i64) -> Result<Vec<(i64, i64, i64)>> {
    let mut found = Vec::new();
    for part in wanted.chunks(MOST_SELECTS) {
        let queries = part.iter().map(|(task_id, line)| {
            chunks::table
                .filter(chunks::task_id.eq(*task_id))
                // The chunks before can be passed over by the key; of the others it has to be looked at.
                .filter(chunks::first_line.gt(line.saturating_sub(LONGEST_CHUNK)))
                .filter((chunks::first_line + chunks::line_count).gt(*line))
                .order(chunks::first_line.asc())
                .limit(limit)
                .select((chunks::task_id, chunks::first_line, chunks::line_count))
                .into_boxed::<Dialect>()
        });
        found.extend(UnionAll(queries.collect()).load::<(i64, i64, i64)>(db).await?);
    }
    Ok(found)
}

/// How many bytes these chunks have together.
pub async fn bytes(db: &mut Connection, places: &[(i64, i64)]) -> Result<i64> {
    let mut total = 0;
    for part in places.chunks(MOST_SELECTS) {
        let queries = part.iter().map(|(task_id, line)| {
            chunks::table
                .filter(chunks::task_id.eq(*task_id))
                .filter(chunks::first_line.eq(*line))
                .select(diesel::dsl::sql::<diesel::sql_types::BigInt>("CAST(octet_length(body) AS BIGINT)"))
                .into_boxed::<Dialect>()
        });
        total += UnionAll(queries.collect()).load::<i64>(db).await?.iter().sum::<i64>();
    }
    Ok(total)
}

/// These chunks, named by task and first line, in no order.
pub async fn by_place(db: &mut Connection, places: &[(i64, i64)]) -> Result<Vec<LogChunkRow>> {
    let mut found = Vec::new();
    for part in places.chunks(MOST_SELECTS) {
        let queries = part.iter().map(|(task_id, line)| {
            chunks::table
                .filter(chunks::task_id.eq(*task_id))
                .filter(chunks::first_line.eq(*line))
                .select(LogChunkRow::as_select())
                .into_boxed::<Dialect>()
        });
        found.extend(UnionAll(queries.collect()).load::<LogChunkRow>(db).await?);
    }
    Ok(found)
}

/// The chunk that has a line, and those after it, in the order of lines.
pub async fn from_line(db: &mut Connection, task_id: i64, line: i64, limit: i64) -> Result<Vec<LogChunkRow>> {
    // The chunk before the line is cheap to find; whether it reaches the line is for the caller to see.
    let first: Option<i64> = chunks::table
        .filter(chunks::task_id.eq(task_id))
        .filter(chunks::first_line.le(line))
        .order(chunks::first_line.desc())
        .select(chunks::first_line)
        .first(db)
        .await
        .optional()?;
    Ok(chunks::table
        .filter(chunks::task_id.eq(task_id))
        .filter(chunks::first_line.ge(first.unwrap_or(line)))
        .order(chunks::first_line.asc())
        .limit(limit)
        .select(LogChunkRow::as_select())
        .load(db)
        .await?)
}
