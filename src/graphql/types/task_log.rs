use std::sync::Arc;

use async_graphql::{Context, Object, SimpleObject};

use crate::error::{AppError, Result};
use crate::fleet::{LogLine, LogPart};
use crate::graphql::context::ContextExt as _;
use crate::graphql::scalars::DateTime;

/// A line of a task's log.
#[derive(Clone, Debug)]
pub(in crate::graphql) struct TaskLogLine(Arc<LogLine>);

impl From<Arc<LogLine>> for TaskLogLine {
    fn from(line: Arc<LogLine>) -> Self {
        Self(line)
    }
}

/// A line of a task's log.
#[Object]
#[expect(clippy::unused_async, reason = "resolvers are async, also those that only look into memory")]
impl TaskLogLine {
    /// Its number. Lines count from 0, through all attempts at the task.
    async fn line(&self) -> i64 {
        self.0.line
    }

    /// The line, without its end.
    async fn text(&self, context: &Context<'_>) -> Result<String, AppError> {
        context.request().budget.tell(self.0.text.len())?;
        Ok(self.0.text.clone())
    }

    /// When it came in.
    async fn at(&self) -> DateTime {
        DateTime::from_micros(self.0.at)
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
        let at = part.at.as_micros();
        let numbered = part.lines.iter().zip(part.first_line..);
        let lines = numbered.map(|(text, line)| TaskLogLine(Arc::new(LogLine { line, text: text.clone(), at })));
        Self { first_line: part.first_line, lines: lines.collect() }
    }
}
