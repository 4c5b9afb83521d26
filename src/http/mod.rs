//! The HTTP face: GraphQL over HTTP, WebSocket and SSE, health, GraphiQL.
//!
//! Every transport ends in [`GraphQl`], and every credential in one function ([`credentials`]).

mod client_address;
mod credentials;
mod graphiql;
mod graphql;
mod health;
mod request;
mod respond;
mod server;
mod socket;
mod sse;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::response::Redirect;
use axum::routing::{any, get};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use server::{ServerLimits, serve};

use crate::fleet::Fleet;
use crate::graphql::GraphQl;

/// What the HTTP face needs of the configuration.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Largest body and WebSocket message.
    pub max_body_bytes: usize,
    /// Networks of proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a WebSocket may stay silent before its `connection_init`.
    pub connection_init_timeout: Duration,
    /// How often streams are kept alive.
    pub keepalive_interval: Duration,
    /// Operations at once on one WebSocket.
    pub max_operations_per_socket: usize,
}

/// What every handler shares.
#[derive(Clone)]
pub struct HttpState(Arc<Shared>);

/// The parts of [`HttpState`].
pub struct Shared {
    fleet: Fleet,
    graphql: GraphQl,
    settings: HttpSettings,
    /// Ends streams.
    stop: CancellationToken,
    /// Streams that are open.
    streams: TaskTracker,
    is_draining: AtomicBool,
    requests: AtomicU64,
    /// Tells this process's request ids from another's.
    id_prefix: String,
}

impl std::ops::Deref for HttpState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl HttpState {
    /// The state of a server over a fleet. Its streams end when `stop` is cancelled.
    pub fn new(fleet: Fleet, graphql: GraphQl, settings: HttpSettings, stop: CancellationToken) -> Self {
        let id_prefix = data_encoding::HEXLOWER.encode(&fleet.rng.bytes::<4>());
        Self(Arc::new(Shared {
            fleet,
            graphql,
            settings,
            stop,
            streams: TaskTracker::new(),
            is_draining: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            id_prefix,
        }))
    }

    /// From now on the server says that it is not ready, so that a balancer sends nothing new.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Ends when every stream has ended.
    pub async fn streams_ended(&self) {
        self.streams.close();
        self.streams.wait().await;
    }

    fn request_id(&self) -> Arc<str> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Arc::from(format!("{}-{number:x}", self.id_prefix))
    }
}

/// Every address of the server.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/graphql", any(graphql::handle))
        .route("/", get(async || Redirect::to("/graphiql")))
        .route("/graphiql", get(graphiql::page))
        .route("/graphiql/{file}", get(graphiql::file))
        .route("/.well-known/jwks.json", get(health::jwks))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(respond::no_such_address)
        .layer(middleware::map_response(respond::security_headers))
        .with_state(state)
}
