//! A black-box client of a server: GraphQL over HTTP, and nothing of the server's inside.

mod error;
mod events;

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use url::{Host, Url};
use uuid::Uuid;

pub use self::error::ClientError;
use self::error::{innermost, one_line};
pub(super) use self::events::EventStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A stream has no end of its own. What reads it notices when it has gone silent.
const STREAM_TIMEOUT: Duration = Duration::from_hours(24);

/// What an answer to a single call may be.
const ANSWER_TYPES: &str = "application/graphql-response+json, application/json";

/// What a stream of answers is.
const EVENT_STREAM: &str = "text/event-stream";

/// No answer to a runner is nearly as large; more comes from something that is not the server.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// How a caller shows who it is.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Not at all.
    None,
    /// As a runner, with its own secret.
    Runner {
        /// The runner's UUID.
        uuid: Uuid,
        /// The runner's secret.
        secret: SecretString,
    },
    /// With a runner session or an access token.
    Bearer(SecretString),
}

impl Credentials {
    fn headers(&self) -> Result<HeaderMap, ClientError> {
        let mut headers = HeaderMap::new();
        match self {
            Self::None => {}
            Self::Runner { uuid, secret } => {
                headers.insert(HeaderName::from_static("x-runner-uuid"), sensitive(&uuid.to_string())?);
                headers.insert(HeaderName::from_static("x-runner-token"), sensitive(secret.expose_secret())?);
            }
            Self::Bearer(token) => {
                headers.insert(AUTHORIZATION, sensitive(&format!("Bearer {}", token.expose_secret()))?);
            }
        }
        Ok(headers)
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        ClientError::Malformed(
            "the stored credentials contain characters that cannot be sent; register the runner again".to_owned(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A client of one server. Clones share one pool of connections.
#[derive(Clone, Debug)]
pub struct GraphqlClient {
    http: reqwest::Client,
    endpoint: Url,
}

#[derive(Serialize)]
struct Request<V> {
    query: &'static str,
    variables: V,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Box<RawValue>>,
    errors: Option<Vec<GraphqlError>>,
}

#[derive(Deserialize)]
struct GraphqlError {
    message: String,
    extensions: Option<Map<String, Value>>,
}

impl GraphqlClient {
    /// A client of the server at `url`, such as `http://127.0.0.1:8080`. Connects when it is first used.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let endpoint = endpoint_of(url)?;
        install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("rollcall-agent/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Credentials go to the configured server and to no other.
            .redirect(reqwest::redirect::Policy::none());
        if endpoint.scheme() == "http" {
            // A small container has no certificates, and none are needed to talk to a server without TLS.
            builder = builder.tls_certs_only(Vec::new());
        }
        if is_loopback(&endpoint) {
            // A proxy of the environment cannot reach this machine's own loopback address.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| {
            let reason = innermost(&error);
            ClientError::Malformed(format!(
                "the HTTP client cannot be set up: {reason}. For an https address, install the system's CA certificates"
            ))
        })?;
        Ok(Self { http, endpoint })
    }

    /// Sends one document and hands back the `data` of the answer.
    ///
    /// An answer that carries errors is a failure even when part of the data came with them.
    pub async fn call<T: DeserializeOwned>(
        &self,
        credentials: &Credentials,
        query: &'static str,
        variables: impl Serialize,
    ) -> Result<T, ClientError> {
        self.call_within(credentials, query, variables, REQUEST_TIMEOUT).await
    }

    /// The same for a call whose answer may take longer, or must not take as long, as that of others.
    pub async fn call_within<T: DeserializeOwned>(
        &self,
        credentials: &Credentials,
        query: &'static str,
        variables: impl Serialize,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let body = encode(query, variables)?;
        let response = self.post(credentials, ANSWER_TYPES, body, limit).await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = self.read(response).await?;
        self.interpret(status, &headers, &body)
    }

    /// Subscribes, and hands back the stream of what comes.
    pub(super) async fn subscribe(
        &self,
        credentials: &Credentials,
        query: &'static str,
        variables: impl Serialize,
    ) -> Result<EventStream, ClientError> {
        let body = encode(query, variables)?;
        let response = self.post(credentials, EVENT_STREAM, body, STREAM_TIMEOUT).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let is_stream = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.trim_start().starts_with(EVENT_STREAM));
        if status.is_success() && is_stream {
            return Ok(EventStream::new(self.clone(), response));
        }
        // Whoever is refused gets one answer and no stream.
        let body = self.read(response).await?;
        self.interpret::<IgnoredAny>(status, &headers, &body)?;
        Err(ClientError::Malformed(format!("the server at {} answers a subscription without a stream", self.endpoint)))
    }

    async fn post(
        &self,
        credentials: &Credentials,
        accepted: &'static str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<reqwest::Response, ClientError> {
        self.http
            .post(self.endpoint.clone())
            .header(ACCEPT, accepted)
            .header(CONTENT_TYPE, "application/json")
            .headers(credentials.headers()?)
            .timeout(limit)
            .body(body)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(ClientError::Malformed(format!(
                    "{} answers with more than {MAX_ANSWER_BYTES} bytes, which no Rollcall server does; check --url",
                    self.endpoint
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn interpret<T: DeserializeOwned>(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<T, ClientError> {
        // The status alone decides nothing: errors come with 200, 400, 401 or 500, and the body says which they are.
        let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
            return Err(self.not_graphql(status, headers));
        };
        if let Some(error) = answer.errors.into_iter().flatten().next() {
            return Err(refusal(error, status, headers));
        }
        let Some(data) = answer.data else {
            return Err(self.not_graphql(status, headers));
        };
        // The parser's own message quotes what it found, which may be a secret.
        serde_json::from_str(data.get()).map_err(|error| {
            ClientError::Malformed(format!(
                "the server at {} answered something else than what was asked for (line {}, column {} of its data); \
                 run an agent of the server's version",
                self.endpoint,
                error.line(),
                error.column()
            ))
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let reason = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(error) };
        ClientError::Unreachable(format!(
            "the server at {} cannot be reached: {reason}. Check that it runs and that --url is its address",
            self.endpoint
        ))
    }

    /// What an answer means that is no GraphQL: a proxy's, or that of another server.
    fn not_graphql(&self, status: StatusCode, headers: &HeaderMap) -> ClientError {
        let endpoint = &self.endpoint;
        if status == StatusCode::TOO_MANY_REQUESTS {
            return ClientError::Refused {
                code: "RATE_LIMITED".to_owned(),
                message: format!("{endpoint} is asked too often at the moment"),
                field: None,
                retry_after_seconds: retry_after(headers),
            };
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            return ClientError::Unreachable(format!(
                "the server at {endpoint} cannot be reached: HTTP {status}. Check that it runs behind that address"
            ));
        }
        if status.is_redirection() {
            let target = headers.get(LOCATION).and_then(|target| target.to_str().ok()).unwrap_or("another address");
            return ClientError::Malformed(format!(
                "{endpoint} redirects to {}; give the final address with --url",
                one_line(target)
            ));
        }
        ClientError::Malformed(format!(
            "no Rollcall server answers at {endpoint} (HTTP {status}, and no GraphQL answer); check --url"
        ))
    }
}

fn encode(query: &'static str, variables: impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(&Request { query, variables })
        .map_err(|_| ClientError::Malformed("the variables of the call are not JSON".to_owned()))
}

fn refusal(error: GraphqlError, status: StatusCode, headers: &HeaderMap) -> ClientError {
    let extensions = error.extensions.unwrap_or_default();
    let unnamed = if status.is_server_error() { "INTERNAL" } else { "UNKNOWN" };
    ClientError::Refused {
        code: one_line(extensions.get("code").and_then(Value::as_str).unwrap_or(unnamed)),
        message: one_line(&error.message),
        field: extensions.get("field").and_then(Value::as_str).map(one_line),
        retry_after_seconds: extensions
            .get("retryAfterSeconds")
            .and_then(Value::as_u64)
            .or_else(|| retry_after(headers)),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

fn endpoint_of(url: &str) -> Result<Url, ClientError> {
    let mut endpoint = Url::parse(url).map_err(|error| {
        ClientError::Malformed(format!("--url: {error}; expected an address such as http://127.0.0.1:8080"))
    })?;
    if !matches!(endpoint.scheme(), "http" | "https") {
        return Err(ClientError::Malformed(
            "--url: expected an address that begins with http:// or https://".to_owned(),
        ));
    }
    if !endpoint.username().is_empty() || endpoint.password().is_some() {
        return Err(ClientError::Malformed(
            "--url: leave out the user name and the password; a runner shows itself by its token".to_owned(),
        ));
    }
    endpoint.set_query(None);
    endpoint.set_fragment(None);
    if let Ok(mut segments) = endpoint.path_segments_mut() {
        segments.pop_if_empty().push("graphql");
    }
    Ok(endpoint)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// TLS has no implementation of its own here; without one the HTTP client panics when it is built.
fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails only when another thread was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpret(status: u16, body: &str) -> Result<Value, ClientError> {
        let client = GraphqlClient::new("http://127.0.0.1:1/").unwrap();
        client.interpret(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn the_endpoint_stands_below_the_given_address() {
        for (url, endpoint) in [
            ("http://localhost:8080", "http://localhost:8080/graphql"),
            ("https://ci.example/rollcall/", "https://ci.example/rollcall/graphql"),
            ("https://ci.example/rollcall?a=b#c", "https://ci.example/rollcall/graphql"),
        ] {
            assert_eq!(endpoint_of(url).unwrap().as_str(), endpoint);
        }
        let error = endpoint_of("http://me:hunter2@localhost").unwrap_err().to_string();
        assert!(error.contains("leave out the user name") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_first_error_decides() {
        let body = r#"{"data": null, "errors": [{"message": "slow\u001b down", "extensions": {"code": "RATE_LIMITED",
            "field": "name", "retryAfterSeconds": 7}}, {"message": "other"}]}"#;
        let error = interpret(200, body).unwrap_err();
        assert_eq!(error.to_string(), "slow  down (RATE_LIMITED)");
        assert_eq!((error.retry_after(), error.field()), (Some(Duration::from_secs(7)), Some("name")));
        assert!(error.is_temporary());
    }

    #[test]
    fn what_is_not_graphql_is_told_by_its_status() {
        assert_eq!(interpret(502, "<html>").unwrap_err().code(), "UNREACHABLE");
        assert_eq!(interpret(429, "").unwrap_err().code(), "RATE_LIMITED");
        assert_eq!(interpret(404, r#"{"error": "no"}"#).unwrap_err().code(), "MALFORMED");
        assert_eq!(interpret(307, "").unwrap_err().code(), "MALFORMED");
        assert_eq!(interpret(200, r#"{"data": {"a": 1}}"#).unwrap(), serde_json::json!({"a": 1}));
    }

    #[test]
    fn credentials_are_not_shown() {
        let secret = SecretString::from("rc_run_hunter2");
        let runner = Credentials::Runner { uuid: Uuid::nil(), secret: secret.clone() };
        for shown in [
            format!("{runner:?}"),
            format!("{:?}", runner.headers().unwrap()),
            format!("{:?}", Credentials::Bearer(secret).headers().unwrap()),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
