//! A GraphQL client with one kind of credentials.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// What a client shows of itself.
#[derive(Clone, Debug)]
pub enum Shown {
    Nothing,
    Bearer(String),
    Runner { uuid: String, secret: String },
}

impl Shown {
    /// The headers, which are also the payload of `connection_init`.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Nothing => vec![],
            Self::Bearer(token) => vec![("authorization", format!("Bearer {token}"))],
            Self::Runner { uuid, secret } => vec![("x-runner-uuid", uuid.clone()), ("x-runner-token", secret.clone())],
        }
    }
}

#[derive(Clone, Debug)]
pub struct Client {
    pub url: String,
    pub shown: Shown,
    pub http: reqwest::Client,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The code of the first error; empty when there is none.
    pub fn code(&self) -> String {
        self.body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The message of the first error.
    pub fn message(&self) -> String {
        self.body["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The input field that the first error is about.
    pub fn field(&self) -> String {
        self.body["errors"][0]["extensions"]["field"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub fn new(http: &reqwest::Client, url: &str, shown: Shown) -> Self {
        Self { url: url.to_owned(), shown, http: http.clone() }
    }

    pub fn headers(&self) -> HeaderMap {
        let pairs = self.shown.pairs().into_iter();
        pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap())).collect()
    }

    /// Posts a request and returns the whole answer.
    pub async fn post(&self, query: &str, variables: Value) -> Answer {
        let body = json!({"query": query, "variables": variables});
        self.send(self.http.post(format!("{}/graphql", self.url)).json(&body)).await
    }

    /// Sends any request with the client's credentials.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.headers(self.headers()).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// Executes what must succeed and returns its data.
    pub async fn data(&self, query: &str, variables: Value) -> Value {
        let answer = self.post(query, variables.clone()).await;
        assert!(answer.body.get("errors").is_none(), "{query}\n{variables}\n{}", answer.body);
        answer.body["data"].clone()
    }

    /// Executes what must fail and returns the code of its first error.
    pub async fn code(&self, query: &str, variables: Value) -> String {
        let answer = self.post(query, variables).await;
        let code = answer.code();
        assert!(!code.is_empty(), "{query} did not fail: {}", answer.body);
        code
    }
}
