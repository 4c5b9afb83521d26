//! A subscription over SSE.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use super::Client;

pub struct EventStream {
    response: reqwest::Response,
    text: String,
    ready: VecDeque<(String, Value)>,
}

impl EventStream {
    pub async fn open(client: &Client, query: &str, variables: Value) -> Self {
        let request = client
            .http
            .post(format!("{}/graphql", client.url))
            .headers(client.headers())
            .header("accept", "text/event-stream")
            .json(&json!({"query": query, "variables": variables}));
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        Self { response, text: String::new(), ready: VecDeque::new() }
    }

    /// The next event with its data; nothing when the stream ended.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.response.chunk());
            let chunk = chunk.await.expect("the server sent nothing").unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|text| text.trim_start().to_owned())
                };
                if let Some(event) = field("event:") {
                    let data = field("data:").unwrap_or_default();
                    self.ready.push_back((event, serde_json::from_str(&data).unwrap_or(Value::Null)));
                }
            }
        }
    }
}
