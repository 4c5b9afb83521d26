//! The answers to a subscription, as they come over server-sent events.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use super::{ClientError, GraphqlClient};

/// No event for a runner is nearly as large; more comes from something that is not the server.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// A subscription under way. It ends when it is dropped.
pub(in crate::agent) struct EventStream {
    client: GraphqlClient,
    response: reqwest::Response,
    parser: Parser,
    is_complete: bool,
}

impl EventStream {
    pub(super) fn new(client: GraphqlClient, response: reqwest::Response) -> Self {
        Self { client, response, parser: Parser::default(), is_complete: false }
    }

    /// Waits for a sign of life and hands back the answers in it: none, when it was only that. None at all at the end.
    pub(in crate::agent) async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, ClientError> {
        if self.is_complete {
            return Ok(None);
        }
        let chunk = self.response.chunk().await.map_err(|error| self.client.unreachable(&error))?;
        let Some(chunk) = chunk else {
            return Ok(None);
        };
        self.parser.push(&chunk)?;
        let mut answers = Vec::new();
        while let Some(event) = self.parser.pop() {
            match event.name.as_str() {
                "next" => {
                    let answer = self.client.interpret(StatusCode::OK, &HeaderMap::new(), event.data.as_bytes())?;
                    answers.push(answer);
                }
                "complete" => {
                    self.is_complete = true;
                    break;
                }
                // Whatever a newer server has to say besides.
                _ => {}
            }
        }
        Ok(Some(answers))
    }
}

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// Makes events of bytes, however these are cut.
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.bytes.len() + self.event.data.len() + bytes.len() > MAX_EVENT_BYTES {
            return Err(ClientError::Malformed(format!(
                "an event of more than {MAX_EVENT_BYTES} bytes came, which no Rollcall server sends"
            )));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The next event that is complete.
    fn pop(&mut self) -> Option<Event> {
        loop {
            let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if !line.is_empty() {
                self.read(line);
                continue;
            }
            // An empty line ends an event. Several of them, or one after a comment, end nothing.
            let has_data = std::mem::take(&mut self.has_data);
            let event = std::mem::take(&mut self.event);
            if has_data || !event.name.is_empty() {
                return Some(event);
            }
        }
    }

    fn read(&mut self, line: &str) {
        // A comment is a field without a name.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(parser: &mut Parser, bytes: &[u8]) -> Vec<(String, String)> {
        parser.push(bytes).unwrap();
        std::iter::from_fn(|| parser.pop()).map(|event| (event.name, event.data)).collect()
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let stream = "event: next\ndata: {\"a\": \"é\"}\n\n:\n\nevent:next\r\ndata:1\r\ndata: 2\r\n\r\n\
                      event: complete\ndata:\n\n"
            .as_bytes();
        let expected = vec![event("next", "{\"a\": \"é\"}"), event("next", "1\n2"), event("complete", "")];
        assert_eq!(events(&mut Parser::default(), stream), expected);
        for size in 1..stream.len() {
            let mut parser = Parser::default();
            let found: Vec<_> = stream.chunks(size).flat_map(|chunk| events(&mut parser, chunk)).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_event_is_left_out() {
        let mut parser = Parser::default();
        assert!(events(&mut parser, b": a comment\n\n\n\nretry: 5\n\nid: 7\n\n").is_empty());
        assert!(events(&mut parser, b"event: complete\n").is_empty());
        assert_eq!(events(&mut parser, b"\n"), [event("complete", "")]);
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut parser = Parser::default();
        let mut pushes = (0..=MAX_EVENT_BYTES / 1_024).map(|_| parser.push(&[b'x'; 1_024]));
        assert!(pushes.any(|pushed| pushed.is_err()));
    }
}
