//! graphql-transport-ws, with every close code of the protocol.
//!
//! Each operation runs on a task of its own and hands its messages to the socket through a bounded queue: a client that does
//! not read slows its own operations, which then miss events and are told so, and nothing else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_graphql_axum::GraphQLProtocol;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::server::Place;
use super::{HttpState, credentials, request};
use crate::auth::{Actor, Credentials};
use crate::error::{AppError, ErrorCode, Result};
use crate::graphql::{Answer, Incoming};

const PROTOCOL: &str = "graphql-transport-ws";
/// Messages that operations may have ready before they wait for the client to read.
const READY: usize = 64;
/// How long one message may take to be taken by the client's side.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Pings that a client may leave unanswered.
const MOST_UNANSWERED: u8 = 2;
/// Longest id of an operation.
const LONGEST_ID: usize = 256;

/// A message of a client.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ClientMessage {
    ConnectionInit { payload: Option<Value> },
    Ping { payload: Option<Value> },
    Pong {},
    Subscribe { id: String, payload: Value },
    Complete { id: String },
}

/// Why a socket is closed.
#[derive(Debug)]
struct Close(u16, Cow<'static, str>);

/// What an operation's task hands to the socket. The number tells operations of one id apart: what was on its way for one
/// that the client completed must not reach its successor.
struct Outgoing {
    id: Arc<str>,
    number: u64,
    message: Option<String>,
    is_last: bool,
}

/// Opens a socket.
pub(super) async fn open(state: HttpState, mut parts: Parts, address: IpAddr) -> Response {
    let protocol = GraphQLProtocol::from_request_parts(&mut parts, &state).await;
    // What the upgrade itself shows stands in when connection_init shows nothing; browsers cannot set it.
    let shown = credentials::of_headers(&parts.headers);
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &state).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let limit = state.settings.max_body_bytes;
    let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(limit).max_frame_size(limit);
    // The older protocol of the same family is known to the extractor and not spoken here.
    let is_spoken = protocol.is_ok() && upgrade.selected_protocol().is_some();
    let place = parts.extensions.remove::<Place>();
    upgrade.on_upgrade(move |socket| {
        let open = state.streams.token();
        async move {
            let (_open, _place) = (open, place);
            let (sender, ready) = mpsc::channel(READY);
            let connection = Connection {
                state,
                socket,
                address,
                actor: None,
                shown,
                operations: HashMap::new(),
                started: 0,
                sender,
            };
            connection.run(is_spoken, ready).await;
        }
    })
}

struct Connection {
    state: HttpState,
    socket: WebSocket,
    address: IpAddr,
    /// Who it is, once `connection_init` was accepted.
    actor: Option<Actor>,
    shown: Result<Credentials>,
    operations: HashMap<String, (u64, AbortHandle)>,
    /// Operations begun: an id may come again once its operation is over.
    started: u64,
    sender: mpsc::Sender<Outgoing>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        for (_, operation) in self.operations.values() {
            operation.abort();
        }
    }
}

impl Connection {
    async fn run(mut self, is_spoken: bool, mut ready: mpsc::Receiver<Outgoing>) {
        let close = if is_spoken {
            self.talk(&mut ready).await
        } else {
            Some(Close(4406, Cow::Borrowed("Subprotocol not acceptable: use graphql-transport-ws")))
        };
        if let Some(Close(code, reason)) = close {
            let frame = CloseFrame { code, reason: Utf8Bytes::from(fitting(&reason)) };
            let _ = tokio::time::timeout(SEND_TIMEOUT, self.socket.send(Message::Close(Some(frame)))).await;
            // The client answers the close; whoever does not is dropped.
            let _ = tokio::time::timeout(Duration::from_secs(1), async {
                while let Some(Ok(_)) = self.socket.recv().await {}
            })
            .await;
        }
    }

    /// Serves the socket until one side has enough; says with what to close it, if it is still open.
    async fn talk(&mut self, ready: &mut mpsc::Receiver<Outgoing>) -> Option<Close> {
        let clock = self.state.fleet.clock.clone();
        let (init_timeout, keepalive) =
            (self.state.settings.connection_init_timeout, self.state.settings.keepalive_interval);
        let stop = self.state.stop.clone();
        let init_deadline = clock.now() + init_timeout;
        let mut next_ping = clock.now() + keepalive;
        let mut unanswered = 0;
        loop {
            let init = async {
                if self.actor.is_some() {
                    std::future::pending::<()>().await;
                }
                clock.sleep_until(init_deadline).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    return Some(Close(1001, Cow::Borrowed("The server is shutting down; connect again in a moment")));
                }
                message = self.socket.recv() => {
                    unanswered = 0;
                    match message {
                        Some(Ok(message)) => match self.take(message).await {
                            Ok(true) => {}
                            Ok(false) => return None,
                            Err(close) => return Some(close),
                        },
                        Some(Err(error)) => return Some(unreadable(&error)),
                        None => return None,
                    }
                }
                Some(outgoing) = ready.recv() => {
                    if self.pass_on(outgoing).await.is_err() {
                        return None;
                    }
                }
                () = init => {
                    return Some(Close(4408, Cow::Borrowed("Connection initialisation timeout")));
                }
                () = clock.sleep_until(next_ping) => {
                    if unanswered >= MOST_UNANSWERED {
                        return Some(Close(1001, Cow::Borrowed("Two pings were not answered")));
                    }
                    unanswered += 1;
                    next_ping = clock.now() + keepalive;
                    if self.send(Message::Ping(axum::body::Bytes::new())).await.is_err() {
                        return None;
                    }
                }
            }
        }
    }

    /// Takes a frame; false when the client has closed.
    async fn take(&mut self, message: Message) -> Result<bool, Close> {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => return Ok(true),
            Message::Close(_) => return Ok(false),
            Message::Binary(_) => return Err(bad_message("Binary messages are not part of the protocol")),
        };
        let message: ClientMessage =
            serde_json::from_str(&text).map_err(|_| bad_message("The message is not one of the protocol's"))?;
        match message {
            ClientMessage::ConnectionInit { payload } => self.init(payload.as_ref()).await?,
            ClientMessage::Ping { payload } => {
                let mut pong = json!({"type": "pong"});
                if let Some(payload) = payload {
                    pong["payload"] = payload;
                }
                self.send_text(pong.to_string()).await?;
            }
            ClientMessage::Pong {} => {}
            ClientMessage::Subscribe { id, payload } => self.subscribe(id, payload).await?,
            ClientMessage::Complete { id } => {
                if let Some((_, operation)) = self.operations.remove(&id) {
                    operation.abort();
                }
            }
        }
        Ok(true)
    }

    async fn init(&mut self, payload: Option<&Value>) -> Result<(), Close> {
        if self.actor.is_some() {
            return Err(Close(4429, Cow::Borrowed("Too many initialisation requests")));
        }
        if payload.is_some_and(|payload| !payload.is_object() && !payload.is_null()) {
            return Err(bad_message("The payload of connection_init has to be an object"));
        }
        let shown = match credentials::of_payload(payload) {
            Ok(Credentials::None) => self.shown.clone(),
            shown => shown,
        };
        let actor = match shown {
            Ok(shown) => credentials::authenticate(&self.state, &shown).await,
            Err(error) => Err(error),
        };
        match actor {
            Ok(actor) => {
                self.actor = Some(actor);
                self.send_text(r#"{"type":"connection_ack"}"#.to_owned()).await
            }
            Err(error) if error.code == ErrorCode::Unauthenticated => {
                Err(Close(4403, Cow::Borrowed("Forbidden: the credentials in connection_init are wrong")))
            }
            // 1013: try again later.
            Err(_) => Err(Close(1013, Cow::Borrowed("The credentials cannot be checked at the moment; try again"))),
        }
    }

    async fn subscribe(&mut self, id: String, payload: Value) -> Result<(), Close> {
        let Some(actor) = self.actor.clone() else {
            return Err(Close(4401, Cow::Borrowed("Unauthorized: send connection_init first")));
        };
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(bad_message("The id of an operation has 1 to 256 characters"));
        }
        if self.operations.contains_key(&id) {
            return Err(Close(4409, Cow::Owned(format!("Subscriber for {} already exists", shortened(&id, 80)))));
        }
        let request_id = self.state.request_id();
        if self.operations.len() >= self.state.settings.max_operations_per_socket {
            let error = AppError::rate_limited(
                1,
                format!(
                    "The socket has {} operations, as many as it may. Complete some, or open another socket.",
                    self.operations.len()
                ),
            );
            return self.send_text(error_message(&id, &Answer::refused(&error, &request_id))).await;
        }
        let actor = match self.state.fleet.authenticator.again(&actor).await {
            Ok(actor) => actor,
            Err(error) => return self.send_text(error_message(&id, &Answer::refused(&error, &request_id))).await,
        };
        self.state.fleet.hear(&actor);
        self.start(id, payload, actor, request_id);
        Ok(())
    }

    /// Starts an operation on a task of its own.
    fn start(&mut self, id: String, payload: Value, actor: Actor, request_id: Arc<str>) {
        self.started += 1;
        let number = self.started;
        let (state, sender, address) = (self.state.clone(), self.sender.clone(), self.address);
        let name: Arc<str> = Arc::from(id.as_str());
        let operation = self.state.streams.spawn(async move {
            let refused = |error: &AppError| Some(error_message(&name, &Answer::refused(error, &request_id)));
            let opened = request::of_payload(payload).and_then(|(query, operation_name, variables)| {
                let request_id = request_id.clone();
                let incoming = Incoming { query, operation_name, variables, actor, address: Some(address), request_id };
                state.graphql.subscribe(state.graphql.prepare(incoming)?)
            });
            let message = match opened {
                Err(error) => refused(&error),
                Ok(answers) => deliver(&name, number, answers, &sender).await,
            };
            // When the socket is gone nobody waits for the end.
            let _ = sender.send(Outgoing { id: name, number, message, is_last: true }).await;
        });
        self.operations.insert(id, (number, operation.abort_handle()));
    }

    async fn pass_on(&mut self, outgoing: Outgoing) -> Result<(), Close> {
        if self.operations.get(&*outgoing.id).is_none_or(|(known, _)| *known != outgoing.number) {
            return Ok(());
        }
        if outgoing.is_last {
            self.operations.remove(&*outgoing.id);
        }
        match outgoing.message {
            Some(message) => self.send_text(message).await,
            None => Ok(()),
        }
    }

    async fn send_text(&mut self, text: String) -> Result<(), Close> {
        self.send(Message::Text(text.into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Close> {
        match tokio::time::timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Close(1001, Cow::Borrowed("The client does not read"))),
        }
    }
}

/// Hands an operation's answers to the socket; returns its last message.
async fn deliver(
    id: &Arc<str>,
    number: u64,
    mut answers: futures_util::stream::BoxStream<'static, Answer>,
    sender: &mpsc::Sender<Outgoing>,
) -> Option<String> {
    let mut is_first = true;
    while let Some(answer) = answers.next().await {
        if is_first && answer.is_refused() {
            return Some(error_message(id, &answer));
        }
        is_first = false;
        let message = Some(next_message(id, &answer));
        if sender.send(Outgoing { id: id.clone(), number, message, is_last: false }).await.is_err() {
            return None;
        }
    }
    Some(json!({"type": "complete", "id": &**id}).to_string())
}

fn next_message(id: &str, answer: &Answer) -> String {
    // An answer can be large: it is written as it is, and not made a tree of values first.
    #[derive(Serialize)]
    struct Next<'a> {
        r#type: &'static str,
        id: &'a str,
        payload: &'a Answer,
    }
    serde_json::to_string(&Next { r#type: "next", id, payload: answer }).unwrap_or_default()
}

fn error_message(id: &str, answer: &Answer) -> String {
    json!({"type": "error", "id": id, "payload": answer.errors()}).to_string()
}

/// Longest reason that a close frame holds, in bytes.
const LONGEST_REASON: usize = 123;

fn fitting(reason: &str) -> &str {
    shortened(reason, LONGEST_REASON)
}

/// The beginning of a text, of so many bytes at most.
fn shortened(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Why a frame could not be read, in codes of the WebSocket protocol.
fn unreadable(error: &axum::Error) -> Close {
    let text = error.to_string();
    if text.contains("too long") || text.contains("too big") || text.contains("Space limit") {
        Close(1009, Cow::Borrowed("The message is too big"))
    } else if text.contains("UTF-8") || text.contains("utf-8") {
        Close(1007, Cow::Borrowed("The message is not UTF-8"))
    } else {
        Close(1002, Cow::Borrowed("The frame breaks the WebSocket protocol"))
    }
}

const fn bad_message(reason: &'static str) -> Close {
    Close(4400, Cow::Borrowed(reason))
}
