//! The GraphQL face of the fleet.
//!
//! [`GraphQl`] is the only way in: it holds the schema and gives it to nobody, so that HTTP, WebSocket and SSE alike pass the
//! same limits, the same error mapping and the same protection from panics.

mod budget;
mod completion;
mod connections;
mod context;
mod document;
mod errors;
mod loaders;
mod loads;
mod mutation;
mod node_id;
mod pagination;
mod query;
mod scalars;
mod subscription;
mod types;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::{OperationDefinition, OperationType};
use async_graphql::{Request, Response, SDLExportOptions, Schema, Value, Variables};
use futures_util::future::FutureExt as _;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use document::DocumentLimits;
pub use errors::Answer;

use crate::auth::Actor;
use crate::error::{AppError, ErrorCode, Result};
use crate::fleet::Fleet;
use completion::Shapes;
use context::RequestContext;
use document::{Document, Documents};
use loads::{Loads, WithLoads};
use mutation::Mutation;
use node_id::NodeKind;
use query::Query;
use subscription::Subscription;

type FleetSchema = Schema<Query, Mutation, Subscription>;

/// What the schema needs of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct GraphQlSettings {
    /// What a document may be.
    pub limits: DocumentLimits,
    /// Parsed documents remembered.
    pub remembered_documents: u64,
    /// Most bytes of payloads, outputs and logs in one answer.
    pub max_answer_bytes: u64,
    /// How long a query may take.
    pub query_timeout: Duration,
    /// Subscriptions at once, in all.
    pub max_subscriptions: usize,
}

/// A request, from whatever transport.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The document.
    pub query: String,
    /// Which of its operations.
    pub operation_name: Option<String>,
    /// Values of its variables.
    pub variables: Variables,
    /// Who asks.
    pub actor: Actor,
    /// From where.
    pub address: Option<IpAddr>,
    /// For the log, and for what the caller may report.
    pub request_id: Arc<str>,
}

/// What kind of operation a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Reads.
    Query,
    /// Changes.
    Mutation,
    /// Watches.
    Subscription,
}

/// A request whose document was read and found within the limits.
pub struct Prepared {
    document: Arc<Document>,
    incoming: Incoming,
    kind: OperationKind,
}

impl Prepared {
    /// What kind of operation it is.
    pub const fn kind(&self) -> OperationKind {
        self.kind
    }
}

/// The way in. Clones share everything.
#[derive(Clone)]
pub struct GraphQl(Arc<Inner>);

struct Inner {
    schema: FleetSchema,
    shapes: Shapes,
    fleet: Fleet,
    documents: Documents,
    settings: GraphQlSettings,
    subscriptions: Arc<Semaphore>,
}

/// The schema without a fleet: enough to print it.
fn schema() -> FleetSchema {
    // The limits of `document` are checked before these, which would cost what they are to prevent.
    Schema::build(Query::default(), Mutation::default(), Subscription::default()).finish()
}

/// The schema in GraphQL's own language, as `schema.graphql` has it.
pub fn sdl() -> String {
    let options = SDLExportOptions::new().sorted_fields().sorted_arguments().sorted_enum_items().include_specified_by();
    let text = schema().sdl_with_options(options);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim())
}

/// How a task is called in answers.
pub fn task_id(id: i64) -> String {
    node_id::encode(NodeKind::Task, id).to_string()
}

impl GraphQl {
    /// The face of a fleet.
    pub fn new(fleet: Fleet, settings: GraphQlSettings) -> Self {
        Self(Arc::new(Inner {
            schema: schema(),
            shapes: Shapes::of(&schema().sdl()),
            fleet,
            documents: Documents::new(settings.limits, settings.remembered_documents),
            settings,
            subscriptions: Arc::new(Semaphore::new(settings.max_subscriptions.min(Semaphore::MAX_PERMITS))),
        }))
    }

    /// Reads a request's document and checks its limits.
    ///
    /// # Errors
    /// `GRAPHQL_PARSE_FAILED`, `GRAPHQL_VALIDATION_FAILED`, `QUERY_TOO_DEEP`, `QUERY_TOO_COMPLEX`, `BAD_USER_INPUT`.
    pub fn prepare(&self, incoming: Incoming) -> Result<Prepared> {
        if incoming.query.trim().is_empty() {
            return Err(AppError::bad_input("query", "The request has no document. Send it as query."));
        }
        let document = self.0.documents.parse(&incoming.query)?;
        let operation = document.operation(incoming.operation_name.as_deref())?;
        self.0.documents.check_cost(&document, operation, &incoming.variables)?;
        let kind = kind(operation);
        Ok(Prepared { document, incoming, kind })
    }

    /// Executes a query or a mutation. A mutation runs to its end whatever becomes of the caller.
    pub async fn execute(&self, prepared: Prepared) -> Answer {
        let request_id = prepared.incoming.request_id.clone();
        let kind = prepared.kind;
        let (document, operation_name) = (prepared.document.clone(), prepared.incoming.operation_name.clone());
        let face = self.clone();
        // Dropped with this future, and not with the task that goes on without it.
        let caller_gone = CancellationToken::new();
        let _caller = caller_gone.clone().drop_guard();
        let (request, loads) = face.request(prepared, caller_gone);
        let work = async move {
            let response = stream::once(async move { face.0.schema.execute(request).await }).boxed();
            let mut response = WithLoads::new(response, loads);
            let response = AssertUnwindSafe(response.next()).catch_unwind().await.ok().flatten();
            response.ok_or_else(|| AppError::internal("a resolver panicked"))
        };
        let response: Result<Response> = match kind {
            OperationKind::Mutation => self.0.fleet.store.to_the_end(work).await,
            OperationKind::Query | OperationKind::Subscription => {
                match tokio::time::timeout(self.0.settings.query_timeout, work).await {
                    Ok(response) => response,
                    Err(_) => Err(AppError::new(
                        ErrorCode::Unavailable,
                        format!(
                            "The query took longer than {:?} and was given up. Ask for less at once.",
                            self.0.settings.query_timeout
                        ),
                    )),
                }
            }
        };
        match response {
            Ok(response) => self.answer(response, &document, operation_name.as_deref(), &request_id),
            Err(error) => Answer::refused(&error, &request_id),
        }
    }

    /// Opens a subscription, or executes what is none as a stream of one.
    ///
    /// # Errors
    /// `RATE_LIMITED` when too many subscriptions are open.
    pub fn subscribe(&self, prepared: Prepared) -> Result<BoxStream<'static, Answer>> {
        if prepared.kind != OperationKind::Subscription {
            let face = self.clone();
            return Ok(stream::once(async move { face.execute(prepared).await }).boxed());
        }
        let permit = self.0.subscriptions.clone().try_acquire_owned().map_err(|_| {
            AppError::rate_limited(
                5,
                "The server holds as many subscriptions as it may (max_subscriptions). Close some, or try again later.",
            )
        })?;
        let (request_id, document) = (prepared.incoming.request_id.clone(), prepared.document.clone());
        let (face, operation_name) = (self.clone(), prepared.incoming.operation_name.clone());
        let caller_gone = CancellationToken::new();
        let caller = caller_gone.clone().drop_guard();
        let (request, loads) = self.request(prepared, caller_gone);
        let answers = WithLoads::new(self.0.schema.execute_stream(request), loads);
        Ok(until_panic(answers.boxed())
            .map(move |response| {
                let _held = (&permit, &caller);
                face.answer(response, &document, operation_name.as_deref(), &request_id)
            })
            .boxed())
    }

    /// Subscriptions that are open at this moment.
    pub fn open_subscriptions(&self) -> usize {
        self.0.settings.max_subscriptions.saturating_sub(self.0.subscriptions.available_permits())
    }

    /// Makes an answer of what the schema has found.
    fn answer(&self, mut response: Response, document: &Document, operation: Option<&str>, request_id: &str) -> Answer {
        if response.data != Value::Null
            && let Ok(operation) = document.operation(operation)
        {
            let completed = completion::complete(
                &self.0.shapes,
                &document.parsed,
                operation,
                std::mem::take(&mut response.data),
                &response.errors,
            );
            response.data = completed.unwrap_or_default();
        }
        Answer::executed(response, document, request_id)
    }

    fn request(&self, prepared: Prepared, caller_gone: CancellationToken) -> (Request, Loads) {
        let Incoming { query, operation_name, variables, actor, address, .. } = prepared.incoming;
        let loads = Loads::default();
        let most = self.0.settings.max_answer_bytes;
        let context = RequestContext::new(&self.0.fleet, actor, address, loads.clone(), caller_gone, most);
        let mut request = Request::new(query).variables(variables).data(Arc::new(context));
        request.operation_name = operation_name;
        request.set_parsed_query(prepared.document.parsed.clone());
        (request, loads)
    }
}

fn kind(operation: &OperationDefinition) -> OperationKind {
    match operation.ty {
        OperationType::Query => OperationKind::Query,
        OperationType::Mutation => OperationKind::Mutation,
        OperationType::Subscription => OperationKind::Subscription,
    }
}

fn panicked() -> Response {
    let error: async_graphql::Error = AppError::internal("a resolver panicked").into();
    Response::from_errors(vec![error.into_server_error(async_graphql::Pos::default())])
}

/// A stream that a panic ends with an error instead of taking its connection along.
fn until_panic(stream: BoxStream<'static, Response>) -> impl Stream<Item = Response> + Send {
    stream::unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        match AssertUnwindSafe(stream.next()).catch_unwind().await {
            Ok(Some(response)) => Some((response, Some(stream))),
            Ok(None) => None,
            Err(_) => Some((panicked(), None)),
        }
    })
}
