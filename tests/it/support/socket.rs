//! A client of graphql-transport-ws that shows every frame.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Shown;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Messages that were read while waiting for another operation's.
    kept: VecDeque<Value>,
}

/// What came from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Message(Value),
    Close(u16, String),
    /// The connection is gone without a close frame.
    Gone,
}

impl Socket {
    /// Connects with the right subprotocol and says nothing.
    pub async fn open(url: &str) -> Self {
        Self::open_with(url, Some("graphql-transport-ws"), &[]).await
    }

    pub async fn open_with(url: &str, protocol: Option<&str>, headers: &[(&'static str, &str)]) -> Self {
        let mut request = format!("{}/graphql", url.replacen("http", "ws", 1)).into_client_request().unwrap();
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (stream, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        Self { stream, kept: VecDeque::new() }
    }

    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.stream.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// Sends `connection_init` and waits for its acknowledgement.
    pub async fn init(&mut self, shown: &Shown) {
        let payload: serde_json::Map<String, Value> =
            shown.pairs().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        self.send(json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(self.next().await, Frame::Message(json!({"type": "connection_ack"})));
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.send(json!({"type": "subscribe", "id": id, "payload": {"query": query, "variables": variables}})).await;
    }

    /// Waits until an operation that was just subscribed is watching: the server starts operations in order, so one that
    /// begins later and answers at once comes after it.
    pub async fn is_listening(&mut self, id: &str) {
        let probe = format!("probe-of-{id}");
        // Watching begins on a task of its own; a few round trips let it get there.
        for round in 0..3 {
            let probe = format!("{probe}-{round}");
            self.subscribe(&probe, "{ __typename }", json!({})).await;
            self.next_of(&probe).await;
            self.next_of(&probe).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The next frame, pings aside.
    pub async fn next(&mut self) -> Frame {
        if let Some(message) = self.kept.pop_front() {
            return Frame::Message(message);
        }
        self.read().await
    }

    async fn read(&mut self) -> Frame {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("the server sent nothing");
            match message {
                Some(Ok(Message::Text(text))) => return Frame::Message(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Frame::Close(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("an unexpected frame: {other:?}"),
                Some(Err(_)) | None => return Frame::Gone,
            }
        }
    }

    /// The next message of one operation; others are kept for later.
    pub async fn next_of(&mut self, id: &str) -> Value {
        if let Some(place) = self.kept.iter().position(|message| message["id"] == id) {
            return self.kept.remove(place).unwrap();
        }
        loop {
            match self.read().await {
                Frame::Message(message) if message["id"] == id => return message,
                Frame::Message(message) => self.kept.push_back(message),
                end => panic!("the socket ended while waiting for {id}: {end:?}"),
            }
        }
    }

    /// The data of the next `next` message of one operation.
    pub async fn next_data(&mut self, id: &str) -> Value {
        let message = self.next_of(id).await;
        assert_eq!(message["type"], "next", "{message}");
        assert!(message["payload"].get("errors").is_none(), "{message}");
        message["payload"]["data"].clone()
    }

    /// Whether nothing comes for so long.
    pub async fn is_quiet_for(&mut self, duration: Duration) -> bool {
        self.kept.is_empty() && tokio::time::timeout(duration, self.stream.next()).await.is_err()
    }
}
