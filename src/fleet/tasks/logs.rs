//! The logs of tasks: appended by line number, replayed and followed without a gap or a repeat.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::no_task;
use super::reporting::has;
use crate::auth::Actor;
use crate::clock::Timestamp;
use crate::error::{AppError, Result};
use crate::events::{Event, EventKind, LogLines};
use crate::fleet::{Fleet, Watch, Watched, Watcher};
use crate::store::models::{LogChunkRow, TaskRow};

/// Most lines of one call.
const MOST_LINES: usize = 1_000;
/// Longest line, in bytes.
const LONGEST_LINE: usize = 64 * 1024;
/// Chunks that a follower reads at once: each may be as large as a request.
const CHUNKS: i64 = 2;

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its number, from 0.
    pub line: i64,
    /// What it says.
    pub text: String,
    /// When it came, in microseconds.
    pub at: i64,
}

/// Lines of a log that came together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// The number of the first of them.
    pub first_line: i64,
    /// The lines.
    pub lines: Arc<[String]>,
    /// When they came.
    pub at: Timestamp,
}

impl LogPart {
    /// What a part has from a line on, or nothing when it ends before.
    fn after(self, line: i64) -> Option<Self> {
        let skip = usize::try_from(line.saturating_sub(self.first_line)).unwrap_or(0);
        match self.lines.get(skip..) {
            _ if skip == 0 => Some(self).filter(|part| !part.lines.is_empty()),
            Some(rest) if !rest.is_empty() => Some(Self { first_line: line, lines: rest.into(), at: self.at }),
            _ => None,
        }
    }

    fn end(&self) -> i64 {
        self.first_line + i64::try_from(self.lines.len()).unwrap_or(0)
    }
}

impl From<LogChunkRow> for LogPart {
    fn from(row: LogChunkRow) -> Self {
        let lines = row.body.split('\n').map(str::to_owned).collect();
        Self { first_line: row.first_line, lines, at: Timestamp::from_micros(row.at) }
    }
}

impl Fleet {
    /// Appends lines to the log of a task that the runner has, or had until a moment ago. Lines count from 0 within the
    /// attempt; those that are there already are passed over. Returns how many lines there are, which is the number of the next.
    ///
    /// # Errors
    /// `BAD_USER_INPUT` for a gap, too many or too long lines; otherwise as [`Fleet::update_task`].
    pub async fn append_task_log(
        &self,
        actor: &Actor,
        id: i64,
        start_line: i64,
        lines: Vec<String>,
        is_final: bool,
        attempt: Option<i64>,
    ) -> Result<i64> {
        let runner_id = actor.runner()?.id;
        let lines = checked(lines)?;
        let (now, limit) = (self.now(), self.settings.tasks.max_log_bytes);
        let appended = transact!(self.store, |db, queries| {
            let task = queries::tasks::lock(db, id).await?.ok_or_else(no_task)?;
            let had = task.runner_id == Some(runner_id) || queries::tasks::had(db, id, runner_id).await?;
            has(&task, runner_id, had, attempt, now.as_micros())?;
            let (fresh, acknowledged) = fresh_lines(&task, start_line, lines)?;
            if task.log_final && !fresh.is_empty() {
                return Err(AppError::conflict("The log was closed by a call with final: true."));
            }
            let (fresh, is_truncated) = cut(&task, fresh, limit);
            let bytes: usize = fresh.iter().map(|line| line.len() + 1).sum();
            let count = i64::try_from(fresh.len()).unwrap_or(0);
            let first_line = task.log_lines;
            if count > 0 {
                let body = fresh.join("\n");
                let chunk = LogChunkRow { task_id: id, first_line, line_count: count, at: now.as_micros(), body };
                queries::task_logs::append(db, chunk).await?;
            }
            let changes = queries::tasks::TaskChanges {
                log_lines: Some(task.log_lines + count),
                log_bytes: Some(task.log_bytes + i64::try_from(bytes).unwrap_or(0)),
                log_truncated: Some(task.log_truncated || is_truncated),
                log_final: Some(task.log_final || is_final),
                ..Default::default()
            };
            let after = queries::tasks::apply(db, id, changes).await?;
            Ok((after, LogLines { first_line, lines: fresh.into() }, acknowledged))
        });
        let (task, added, acknowledged) = self.doubting(appended)?;
        self.presence.work(runner_id);
        if is_final || !added.lines.is_empty() {
            self.tell_task(Event::LogChanged { task_id: id, added, look_again: is_final }, &task);
        }
        Ok(acknowledged)
    }

    /// Lines of logs, from a line of each on, at most `limit` of each, in three statements whatever their number; nothing when they
    /// have more bytes than `max_bytes`. Whether the caller may see the tasks was asked before.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn log_lines(
        &self,
        wanted: &[(i64, i64)],
        limit: usize,
        max_bytes: u64,
    ) -> Result<Option<Vec<Vec<LogLine>>>> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let chunks = read!(self.store, |db, queries| {
            let mut index = queries::task_logs::index(db, wanted, most).await?;
            index.sort_unstable();
            let places = needed(&index, wanted, most);
            let bytes = queries::task_logs::bytes(db, &places).await?;
            if u64::try_from(bytes).is_ok_and(|bytes| bytes > max_bytes) {
                return Ok(None);
            }
            queries::task_logs::by_place(db, &places).await.map(Some)
        })?;
        let Some(chunks) = chunks else { return Ok(None) };
        let mut by_task: HashMap<i64, Vec<LogLine>> = HashMap::new();
        for chunk in chunks {
            let (task_id, part) = (chunk.task_id, LogPart::from(chunk));
            let at = part.at.as_micros();
            let lines = (part.first_line..).zip(part.lines.iter());
            let lines = lines.map(|(line, text)| LogLine { line, text: text.clone(), at });
            by_task.entry(task_id).or_default().extend(lines);
        }
        let (mut left, mut pages) = (max_bytes, Vec::with_capacity(wanted.len()));
        for (task_id, from_line) in wanted {
            let lines = by_task.get(task_id).into_iter().flatten();
            let mut lines: Vec<&LogLine> = lines.filter(|line| line.line >= *from_line).collect();
            lines.sort_by_key(|line| line.line);
            lines.truncate(limit);
            let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
            // The same lines may be asked for many times.
            let Some(rest) = left.checked_sub(u64::try_from(bytes).unwrap_or(u64::MAX)) else { return Ok(None) };
            left = rest;
            pages.push(lines.into_iter().cloned().collect());
        }
        Ok(Some(pages))
    }

    async fn log_parts(&self, task_id: i64, from_line: i64) -> Result<Vec<LogPart>> {
        let chunks =
            read!(self.store, |db, queries| queries::task_logs::from_line(db, task_id, from_line, CHUNKS).await)?;
        Ok(chunks.into_iter().map(LogPart::from).filter_map(|part| part.after(from_line)).collect())
    }

    /// Follows a log: what is there after so many lines, then what comes, until nothing more can come.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `UNAUTHENTICATED`, `BAD_USER_INPUT` for a negative number.
    pub async fn follow_log(&self, actor: &Actor, task_id: i64, after_line: i64) -> Result<LogFollower> {
        if after_line < 0 {
            return Err(AppError::bad_input(
                "afterLine",
                "afterLine is the number of lines you have; it cannot be negative.",
            ));
        }
        let watch = Watch { kinds: vec![EventKind::Log], scope: None, runner_ids: None, task_id: Some(task_id) };
        // Before the first look, so that nothing falls between.
        let watcher = self.watch(actor, watch).await?;
        Ok(LogFollower {
            fleet: self.clone(),
            watcher,
            task_id,
            next: after_line,
            ready: VecDeque::new(),
            is_behind: true,
            complete_at: None,
        })
    }
}

/// A log that is being followed.
pub struct LogFollower {
    fleet: Fleet,
    watcher: Watcher,
    task_id: i64,
    /// The number of the next line to tell.
    next: i64,
    ready: VecDeque<LogPart>,
    /// Whether the database may have lines, or an end, that were not told.
    is_behind: bool,
    /// When the log of a task that has ended closes by itself.
    complete_at: Option<Timestamp>,
}

impl LogFollower {
    /// The next lines; nothing when the log is complete.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub async fn next(&mut self) -> Option<Result<LogPart>> {
        loop {
            if let Some(part) = self.ready.pop_front().and_then(|part| part.after(self.next)) {
                self.next = part.end();
                return Some(Ok(part));
            }
            if self.is_behind {
                match self.catch_up().await {
                    Ok(true) => return None,
                    Ok(false) => continue,
                    Err(error) => return Some(Err(error)),
                }
            }
            let closing = self.fleet.clock.sleep_until_any(self.complete_at);
            tokio::select! {
                event = self.watcher.next() => match event? {
                    Err(error) => return Some(Err(error)),
                    Ok(Watched::Missed(_)) => self.is_behind = true,
                    Ok(Watched::Occurrence(occurrence)) => self.take(&occurrence.event, occurrence.at),
                },
                () = closing => self.is_behind = true,
            }
        }
    }

    /// Who follows, as of the last check.
    pub const fn actor(&self) -> &Actor {
        self.watcher.actor()
    }

    fn take(&mut self, event: &Event, at: Timestamp) {
        let Event::LogChanged { added, look_again, .. } = event else { return };
        let part = LogPart { first_line: added.first_line, lines: added.lines.clone(), at };
        if part.first_line > self.next || *look_again {
            self.is_behind = true;
        } else {
            self.ready.push_back(part);
        }
    }

    /// Reads what the database has; true when there is nothing more to come.
    async fn catch_up(&mut self) -> Result<bool> {
        let id = self.task_id;
        let task = read!(self.fleet.store, |db, queries| queries::tasks::by_ids(db, vec![id]).await)?.pop();
        let parts = self.fleet.log_parts(id, self.next).await?;
        if !parts.is_empty() {
            self.ready.extend(parts);
            return Ok(false);
        }
        // The task was read before its lines: what came between is told by an event.
        let Some(task) = task else { return Ok(true) };
        self.is_behind = false;
        self.complete_at =
            task.status.is_ended().then(|| Timestamp::from_micros(task.reports_until.max(task.updated_at)));
        Ok(task.is_log_complete(self.fleet.now().as_micros()))
    }
}

/// The chunks that hold the first lines of each log, out of an index in the order of tasks and lines.
fn needed(index: &[(i64, i64, i64)], wanted: &[(i64, i64)], limit: i64) -> Vec<(i64, i64)> {
    let mut places = Vec::new();
    for (task_id, from_line) in wanted {
        let chunks = index.iter().filter(|(task, first, count)| task == task_id && first + count > *from_line);
        let needed = chunks.take_while(|(_, first, _)| *first < from_line.saturating_add(limit));
        places.extend(needed.map(|(task, first, _)| (*task, *first)));
    }
    places.sort_unstable();
    places.dedup();
    places
}

fn checked(lines: Vec<String>) -> Result<Vec<String>> {
    if lines.len() > MOST_LINES {
        let message = format!("There are {} lines; send at most {MOST_LINES} at once.", lines.len());
        return Err(AppError::bad_input("lines", message));
    }
    for (number, line) in lines.iter().enumerate() {
        if line.len() > LONGEST_LINE {
            let message = format!(
                "Line {number} of this call has {} bytes; at most {LONGEST_LINE} are taken. Cut it into several lines.",
                line.len()
            );
            return Err(AppError::bad_input("lines", message));
        }
        if line.contains('\n') {
            let message = format!("Line {number} of this call has a line feed in it. Send each line by itself.");
            return Err(AppError::bad_input("lines", message));
        }
    }
    // PostgreSQL keeps no U+0000.
    Ok(lines.into_iter().map(|line| if line.contains('\0') { line.replace('\0', "\u{fffd}") } else { line }).collect())
}

/// The lines that are not there yet, and how many there are with them.
fn fresh_lines(task: &TaskRow, start_line: i64, mut lines: Vec<String>) -> Result<(Vec<String>, i64)> {
    let next = task.log_lines - task.log_base;
    if start_line < 0 {
        return Err(AppError::bad_input("startLine", "startLine cannot be negative; lines count from 0."));
    }
    let end = start_line.saturating_add(i64::try_from(lines.len()).unwrap_or(i64::MAX));
    if task.log_truncated {
        // What comes after the limit is taken and dropped, so that the runner goes on.
        return Ok((Vec::new(), end.max(next)));
    }
    if start_line > next {
        return Err(AppError::bad_input(
            "startLine",
            format!(
                "There is a gap: the next line is {next}, and startLine is {start_line}. Send the lines from {next} on."
            ),
        ));
    }
    let known = usize::try_from(next - start_line).unwrap_or(0).min(lines.len());
    Ok((lines.split_off(known), end.max(next)))
}

/// As many lines as the log may have; past that, a last one that says so.
fn cut(task: &TaskRow, lines: Vec<String>, limit: u64) -> (Vec<String>, bool) {
    let mut bytes = u64::try_from(task.log_bytes).unwrap_or(0);
    let mut kept = Vec::with_capacity(lines.len());
    for line in lines {
        bytes += u64::try_from(line.len()).unwrap_or(0) + 1;
        if bytes > limit {
            kept.push(format!("[The log is longer than {limit} bytes (max_task_log_bytes); the rest was left out.]"));
            return (kept, true);
        }
        kept.push(line);
    }
    (kept, false)
}
