use async_graphql::SimpleObject;

use crate::fleet::{LogLine, LogPart};
use crate::graphql::scalars::DateTime;

/// A line of a task's log.
#[derive(Clone, Debug, SimpleObject)]
pub(in crate::graphql) struct TaskLogLine {
    /// Its number. Lines count from 0, through all attempts at the task.
    line: i64,
    /// The line, without its end.
    text: String,
    /// When it came in.
    at: DateTime,
}

impl From<LogLine> for TaskLogLine {
    fn from(line: LogLine) -> Self {
        Self { line: line.line, text: line.text, at: DateTime::from_micros(line.at) }
    }
}

/// Lines of a task's log that follow each other.
#[derive(Clone, Debug, SimpleObject)]
pub(in crate::graphql) struct TaskLogChunk {
    /// The number of the first of them.
    first_line: i64,
    /// The lines.
    lines: Vec<TaskLogLine>,
}

impl From<LogPart> for TaskLogChunk {
    fn from(part: LogPart) -> Self {
        let numbered = part.lines.iter().zip(part.first_line..);
        let lines = numbered.map(|(text, line)| TaskLogLine { line, text: text.clone(), at: part.at.into() });
        Self { first_line: part.first_line, lines: lines.collect() }
    }
}
