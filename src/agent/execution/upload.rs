//! Brings the lines of a task to the server, in batches, in order, and each once.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tracing::warn;

use crate::clock::Clock;

use super::super::assignments::Assignment;
use super::super::client::ClientError;
use super::super::link::{Link, is_lost};
use super::super::operations::AppendTaskLogInput;

/// How long a line waits for others.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

const MOST_LINES: usize = 200;

/// In bytes of JSON. With the longest piece of a line on top it is less than any limit on a request's body that is known.
const LARGEST_BATCH: usize = 128 * 1024;

/// How often the server may take nothing of a batch, or refuse it, before the rest of the log is given up.
const MOST_SETBACKS: u32 = 5;

/// How the delivery of a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The server has it all.
    Complete,
    /// Some of it is missing.
    Incomplete,
    /// The runner does not hold the task any more.
    Lost,
}

/// Delivers lines until there are no more of them, or until it is too late.
///
/// Lines are taken in any case: a script must not wait for a reader that has gone.
pub(super) async fn deliver(
    link: &Link,
    clock: &Clock,
    id: &str,
    assignment: &Assignment,
    mut lines: Receiver<String>,
    too_late: impl Future<Output = ()>,
) -> Delivery {
    let upload = Upload { link, clock, id, next: 0, setbacks: 0, batch: Batch::default() };
    let delivery = tokio::select! {
        delivery = upload.run(&mut lines) => delivery,
        () = assignment.forgotten() => Delivery::Lost,
        () = too_late => Delivery::Incomplete,
    };
    if delivery == Delivery::Lost {
        assignment.forget();
    }
    while lines.recv().await.is_some() {}
    delivery
}

struct Upload<'a> {
    link: &'a Link,
    clock: &'a Clock,
    id: &'a str,
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

impl Upload<'_> {
    async fn run(mut self, lines: &mut Receiver<String>) -> Delivery {
        let mut is_whole = true;
        loop {
            let is_last = self.batch.fill(lines, self.clock).await;
            loop {
                let input = AppendTaskLogInput {
                    id: self.id,
                    start_line: self.next,
                    lines: &self.batch.lines,
                    is_final: is_last,
                };
                let sent = match self.link.insist(|| self.link.append_log(&input)).await {
                    Ok(acknowledged) => self.note_acknowledged(acknowledged),
                    Err(error) => {
                        is_whole = false;
                        self.note_refused(&error)
                    }
                };
                match sent {
                    Sent::All => break,
                    Sent::Part => {}
                    Sent::Over(delivery) => return delivery,
                }
                self.clock.sleep(FLUSH_AFTER).await;
            }
            if is_last {
                return if is_whole { Delivery::Complete } else { Delivery::Incomplete };
            }
        }
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
    use tokio::sync::mpsc;

    use super::super::super::client::GraphqlClient;
    use super::*;
    use crate::clock::Timestamp;
    use crate::rng::Rng;

    fn refused(code: &str) -> ClientError {
        ClientError::Refused { code: code.to_owned(), message: String::new(), retry_after_seconds: None }
    }

    fn with_upload(lines: &[&str], check: impl FnOnce(&mut Upload<'_>)) {
        let clock = Clock::system();
        let link = Link::new(GraphqlClient::new("http://127.0.0.1:1").unwrap(), clock.clone(), Rng::seeded(1));
        let mut batch = Batch::default();
        for line in lines {
            batch.push((*line).to_owned());
        }
        check(&mut Upload { link: &link, clock: &clock, id: "T_1", next: 10, setbacks: 0, batch });
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
