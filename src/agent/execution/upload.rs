//! Brings the lines of a task to the server, in batches, in order, and each once.

use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver};
use tracing::{debug, warn};

use crate::clock::Clock;

use super::super::assignments::Assignment;
use super::super::client::ClientError;
use super::super::link::{Link, is_lost};
use super::super::operations::{AppendTaskLogInput, Task};

/// How long a line waits for others.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

const MOST_LINES: usize = 200;

/// In bytes of JSON. With the longest piece of a line on top it is less than any limit on a request's body that is known.
const LARGEST_BATCH: usize = 128 * 1024;

/// How often the server may take nothing of a batch, or refuse it, before the rest of the log is given up.
const MOST_SETBACKS: u32 = 5;

/// How long the rest of a log is delivered after its task has ended. The server takes it for a minute.
const LATE_PATIENCE: Duration = Duration::from_secs(45);

/// How long the attempt may take to mark an end that is missing.
const LAST_CALL: Duration = Duration::from_secs(2);

/// What stands in a log for an end that is missing.
const END_IS_MISSING: &str = "rollcall: the end of the log could not be delivered";

/// How the delivery of a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The server has it all.
    Complete,
    /// The server has its end. Where lines are missing, others say so.
    Marked,
    /// Its end is missing.
    Incomplete,
    /// The runner does not hold the task any more.
    Lost,
}

/// What is to be delivered when the server knows that the task has ended.
pub(super) struct Rest {
    /// The number of its first line.
    next: u64,
    lines: Vec<String>,
}

/// Delivers lines until there are no more of them, or until it is too late.
///
/// Lines are taken in any case: a script must not wait for a reader that has gone.
pub(super) async fn deliver(
    link: &Link,
    clock: &Clock,
    task: &Task,
    assignment: &Assignment,
    mut lines: Receiver<String>,
    too_late: impl Future<Output = ()>,
) -> (Delivery, Rest) {
    let mut upload = Upload::new(link, clock, task, 0);
    let (delivery, is_late) = tokio::select! {
        delivery = upload.run(&mut lines) => (delivery, false),
        () = assignment.forgotten() => (Delivery::Lost, false),
        () = too_late => (Delivery::Incomplete, true),
    };
    if delivery == Delivery::Lost {
        assignment.forget();
    }
    // What comes when it is too late is not much: nothing of the script writes any more.
    let mut rest = Rest { next: upload.next, lines: if is_late { upload.batch.lines } else { Vec::new() } };
    while let Some(line) = lines.recv().await {
        if is_late {
            rest.lines.push(line);
        }
    }
    if delivery == Delivery::Incomplete && !is_late {
        rest.lines.push(END_IS_MISSING.to_owned());
    }
    (delivery, rest)
}

/// Delivers what could not be delivered before the end of the task was told. When that fails too, the log shall at
/// least say so.
pub(super) async fn deliver_rest(link: &Link, clock: &Clock, task: &Task, assignment: &Assignment, rest: Rest) {
    let mut upload = Upload::new(link, clock, task, rest.next);
    let (sender, mut lines) = mpsc::channel(rest.lines.len().max(1));
    for line in rest.lines {
        // There is room for all of them.
        let _ = sender.try_send(line);
    }
    drop(sender);
    let delivery = tokio::select! {
        delivery = upload.run(&mut lines) => delivery,
        () = assignment.leaving() => Delivery::Incomplete,
        () = clock.sleep(LATE_PATIENCE) => Delivery::Incomplete,
    };
    let id = task.id.as_str();
    match delivery {
        Delivery::Complete | Delivery::Marked => debug!(task = id, "the rest of the log was delivered"),
        Delivery::Lost => warn!(task = id, "the server does not take the rest of the log any more"),
        Delivery::Incomplete => {
            let marked = tokio::select! {
                marked = upload.mark_end() => marked.map_err(|error| error.to_string()),
                () = clock.sleep(LAST_CALL) => Err("no answer in time".to_owned()),
            };
            match marked {
                Ok(()) => warn!(task = id, "the rest of the log could not be delivered; the log says so"),
                Err(error) => warn!(task = id, %error, "the rest of the log could not be delivered"),
            }
        }
    }
}

struct Upload<'a> {
    link: &'a Link,
    clock: &'a Clock,
    id: &'a str,
    attempt: u32,
    /// The number of the first line that the server does not have.
    next: u64,
    setbacks: u32,
    batch: Batch,
}

/// What a batch came to.
enum Sent {
    /// The server has all of it.
    All,
    /// There is something left to be sent.
    Part,
    /// It is no use.
    Over(Delivery),
}

impl<'a> Upload<'a> {
    fn new(link: &'a Link, clock: &'a Clock, task: &'a Task, next: u64) -> Self {
        Self { link, clock, id: &task.id, attempt: task.attempt, next, setbacks: 0, batch: Batch::default() }
    }

    /// Delivers lines until there are no more of them. Dropped, it has lost none: those that the server may not have
    /// are in the batch.
    async fn run(&mut self, lines: &mut Receiver<String>) -> Delivery {
        let link = self.link;
        let mut is_whole = true;
        loop {
            let is_last = self.batch.fill(lines, self.clock).await;
            loop {
                let input = self.input(self.next, &self.batch.lines, is_last);
                let answer = link.insist(|| link.append_log(&input)).await;
                is_whole &= answer.is_ok();
                let sent = match answer {
                    Ok(acknowledged) => self.note_acknowledged(acknowledged),
                    Err(error) if error.field() == Some("startLine") => self.close_gap(&error).await,
                    Err(error) => self.note_refused(&error),
                };
                match sent {
                    Sent::All => break,
                    Sent::Part => {}
                    Sent::Over(delivery) => return delivery,
                }
                self.clock.sleep(FLUSH_AFTER).await;
            }
            if is_last {
                return if is_whole { Delivery::Complete } else { Delivery::Marked };
            }
        }
    }

    fn input<'l>(&'l self, start_line: u64, lines: &'l [String], is_final: bool) -> AppendTaskLogInput<'l> {
        AppendTaskLogInput { id: self.id, attempt: self.attempt, start_line, lines, is_final }
    }

    /// Asks how many lines the server has.
    async fn ask(&self) -> Result<u64, ClientError> {
        self.link.append_log(&self.input(0, &[], false)).await
    }

    /// Says at the end of the log that there would be more, in one attempt.
    async fn mark_end(&self) -> Result<(), ClientError> {
        let next = self.ask().await?;
        let lines = [END_IS_MISSING.to_owned()];
        self.link.append_log(&self.input(next, &lines, true)).await?;
        Ok(())
    }

    /// The server lacks lines that it had: its data may be those of a backup. It gets what is still here.
    async fn close_gap(&mut self, error: &ClientError) -> Sent {
        let (link, this) = (self.link, &*self);
        let asked = link.insist(|| this.ask()).await;
        match asked {
            Ok(acknowledged) if acknowledged < self.next => self.go_back(acknowledged),
            Ok(_) => self.note_refused(error),
            Err(error) => self.note_refused(&error),
        }
    }

    fn go_back(&mut self, acknowledged: u64) -> Sent {
        let count = self.next - acknowledged;
        warn!(task = self.id, count, "the server has lost lines of the log");
        self.next = acknowledged;
        self.batch.push_first(format!("rollcall: {count} lines of the log were lost by the server"));
        self.note_setback()
    }

    /// Leaves what the server has not got. It may have taken a part, or have lost what it had.
    fn note_acknowledged(&mut self, acknowledged: u64) -> Sent {
        let count = usize::try_from(acknowledged.saturating_sub(self.next)).unwrap_or(usize::MAX);
        self.next = acknowledged;
        if count >= self.batch.lines.len() {
            self.batch.clear();
            return Sent::All;
        }
        self.batch.lines.drain(..count);
        if count == 0 { self.note_setback() } else { Sent::Part }
    }

    /// Says in the log what is missing from it.
    fn note_refused(&mut self, error: &ClientError) -> Sent {
        if is_lost(error) {
            return Sent::Over(Delivery::Lost);
        }
        warn!(task = self.id, %error, "the server refuses lines of the log");
        let count = self.batch.lines.len();
        self.batch.clear();
        self.batch.push(format!("rollcall: {count} lines were refused by the server ({})", error.code()));
        self.note_setback()
    }

    fn note_setback(&mut self) -> Sent {
        self.setbacks += 1;
        if self.setbacks > MOST_SETBACKS { Sent::Over(Delivery::Incomplete) } else { Sent::Part }
    }
}

/// Lines that go together.
#[derive(Default)]
struct Batch {
    lines: Vec<String>,
    size: usize,
}

impl Batch {
    /// Waits for a line, and a moment for more. True when there will be no others.
    async fn fill(&mut self, lines: &mut Receiver<String>, clock: &Clock) -> bool {
        if self.lines.is_empty() {
            match lines.recv().await {
                Some(line) => self.push(line),
                None => return true,
            }
        }
        let mut pause = clock.sleep(FLUSH_AFTER);
        while self.lines.len() < MOST_LINES && self.size < LARGEST_BATCH {
            tokio::select! {
                biased;
                line = lines.recv() => match line {
                    Some(line) => self.push(line),
                    None => return true,
                },
                () = &mut pause => return false,
            }
        }
        false
    }

    fn push(&mut self, line: String) {
        self.size += json_size(&line);
        self.lines.push(line);
    }

    fn push_first(&mut self, line: String) {
        self.size += json_size(&line);
        self.lines.insert(0, line);
    }

    fn clear(&mut self) {
        self.lines.clear();
        self.size = 0;
    }
}

/// How many bytes a line has in JSON, with its quotes and its comma.
fn json_size(line: &str) -> usize {
    let more: usize = line
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\t' => 1,
            0..0x20 => 5,
            _ => 0,
        })
        .sum();
    line.len() + more + 3
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::assignments::Assignments;
    use super::super::super::client::GraphqlClient;
    use super::*;
    use crate::clock::Timestamp;
    use crate::rng::Rng;

    fn refused(code: &str) -> ClientError {
        ClientError::Refused { code: code.to_owned(), message: String::new(), field: None, retry_after_seconds: None }
    }

    fn link(clock: &Clock) -> Link {
        Link::new(GraphqlClient::new("http://127.0.0.1:1").unwrap(), clock.clone(), Rng::seeded(1))
    }

    fn with_upload(lines: &[&str], check: impl FnOnce(&mut Upload<'_>)) {
        let clock = Clock::system();
        let link = link(&clock);
        let mut batch = Batch::default();
        for line in lines {
            batch.push((*line).to_owned());
        }
        check(&mut Upload { link: &link, clock: &clock, id: "T_1", attempt: 1, next: 10, setbacks: 0, batch });
    }

    #[tokio::test]
    async fn a_batch_is_filled_for_a_moment_at_most() {
        let (clock, hand) = Clock::manual(Timestamp::from_micros(0));
        let (sender, mut lines) = mpsc::channel(1_000);
        let mut batch = Batch::default();
        for _ in 0..=MOST_LINES {
            sender.send("a".to_owned()).await.unwrap();
        }
        assert!(!batch.fill(&mut lines, &clock).await);
        assert_eq!(batch.lines.len(), MOST_LINES);

        batch.clear();
        let filled = async {
            let is_last = batch.fill(&mut lines, &clock).await;
            (is_last, batch.lines.len())
        };
        let later = async {
            tokio::task::yield_now().await;
            hand.advance(FLUSH_AFTER);
        };
        assert_eq!(tokio::join!(filled, later).0, (false, 1));

        batch.clear();
        drop(sender);
        assert!(batch.fill(&mut lines, &clock).await && batch.lines.is_empty());
    }

    #[test]
    fn the_size_is_that_of_json() {
        for line in ["", "a", "é\"\\\t", "\u{1b}[0m", "\u{7f}"] {
            assert_eq!(json_size(line), serde_json::to_string(line).unwrap().len() + 1, "{line:?}");
        }
    }

    #[test]
    fn what_the_server_has_is_not_sent_again() {
        with_upload(&["a", "b", "c"], |upload| {
            assert!(matches!(upload.note_acknowledged(11), Sent::Part));
            assert_eq!((upload.next, upload.batch.lines.join(" ")), (11, "b c".to_owned()));
            assert!(matches!(upload.note_acknowledged(13), Sent::All));
            assert_eq!((upload.next, upload.batch.lines.len()), (13, 0));
        });
        // A server that was set back gets what is still here.
        with_upload(&["a"], |upload| {
            assert!(matches!(upload.note_acknowledged(7), Sent::Part));
            assert_eq!((upload.next, upload.batch.lines.len()), (7, 1));
        });
    }

    #[test]
    fn what_the_server_has_lost_is_marked_and_what_is_here_is_kept() {
        with_upload(&["a", "b"], |upload| {
            assert!(matches!(upload.go_back(7), Sent::Part));
            let lines = ["rollcall: 3 lines of the log were lost by the server", "a", "b"];
            assert_eq!((upload.next, upload.batch.lines.join("\n")), (7, lines.join("\n")));
        });
    }

    #[tokio::test]
    async fn what_was_not_delivered_in_time_is_kept() {
        let clock = Clock::system();
        // It never gets a session, and so everything waits.
        let link = link(&clock);
        let assignment = Arc::new(Assignments::new(1, false)).take("T_1");
        let task: Task = serde_json::from_value(serde_json::json!({
            "id": "T_1", "name": "build", "payload": {}, "attempt": 1, "timeoutSeconds": 60,
            "repository": {"path": "acme/api"},
        }))
        .unwrap();
        let (sender, lines) = mpsc::channel(1_000);
        for number in 0..=MOST_LINES {
            sender.send(number.to_string()).await.unwrap();
        }
        drop(sender);
        let (delivery, rest) = deliver(&link, &clock, &task, &assignment, lines, std::future::ready(())).await;
        let expected: Vec<String> = (0..=MOST_LINES).map(|number| number.to_string()).collect();
        assert_eq!((delivery, rest.next, rest.lines), (Delivery::Incomplete, 0, expected));
    }

    #[test]
    fn refused_lines_leave_a_note_until_it_is_no_use() {
        with_upload(&["a", "b"], |upload| {
            assert!(matches!(upload.note_refused(&refused("BAD_USER_INPUT")), Sent::Part));
            assert_eq!(upload.batch.lines, ["rollcall: 2 lines were refused by the server (BAD_USER_INPUT)"]);
            let outcomes: Vec<Sent> = (0..MOST_SETBACKS).map(|_| upload.note_refused(&refused("FORBIDDEN"))).collect();
            assert!(matches!(outcomes.last(), Some(Sent::Over(Delivery::Incomplete))));
            assert!(matches!(upload.note_refused(&refused("CONFLICT")), Sent::Over(Delivery::Lost)));
        });
    }
}
