//! GraphQL over server-sent events, one operation a connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{HttpState, respond};
use crate::error::{AppError, ErrorCode};
use crate::graphql::Answer;

/// The state of one stream.
struct Events {
    state: HttpState,
    answers: BoxStream<'static, Answer>,
    request_id: Arc<str>,
    ready: VecDeque<Bytes>,
    is_over: bool,
    /// Counts among the open streams for as long as it lives.
    _open: TaskTrackerToken,
}

/// Answers with a stream of events.
pub(super) fn open(state: &HttpState, answers: BoxStream<'static, Answer>, request_id: &Arc<str>) -> Response {
    let events = Events {
        state: state.clone(),
        answers,
        request_id: request_id.clone(),
        // Something at once, so that the client knows that the stream is open.
        ready: VecDeque::from([Bytes::from_static(b":\n\n")]),
        is_over: false,
        _open: state.streams.token(),
    };
    let body = stream::unfold(events, |mut events| async move {
        let bytes = events.next().await?;
        Some((Ok::<_, Infallible>(bytes), events))
    });
    respond::event_stream(Body::from_stream(body), request_id)
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.ready.pop_front() {
            return Some(bytes);
        }
        if self.is_over {
            return None;
        }
        let keepalive = self.state.fleet.clock.sleep(self.state.settings.keepalive_interval);
        tokio::select! {
            biased;
            () = self.state.stop.cancelled() => {
                let error = AppError::new(ErrorCode::Unavailable, "The server is shutting down. Connect again in a moment.");
                self.ready.push_back(next_event(&Answer::refused(&error, &self.request_id)));
                self.complete();
            }
            answer = self.answers.next() => match answer {
                Some(answer) => self.ready.push_back(next_event(&answer)),
                None => self.complete(),
            },
            () = keepalive => self.ready.push_back(Bytes::from_static(b":\n\n")),
        }
        self.ready.pop_front()
    }

    fn complete(&mut self) {
        self.ready.push_back(Bytes::from_static(b"event: complete\ndata:\n\n"));
        self.is_over = true;
    }
}

fn next_event(answer: &Answer) -> Bytes {
    let data = serde_json::to_string(answer).unwrap_or_default();
    Bytes::from(format!("event: next\ndata: {data}\n\n"))
}
