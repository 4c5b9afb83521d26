//! One binary for all integration tests: they drive a real server over HTTP and WebSocket, on SQLite and on PostgreSQL, each
//! on its own database. `tests/run.sh` brings what they need.
#![allow(clippy::allow_attributes, reason = "not every file needs every one of these")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "the names of tests say what they are about, and nobody imports them")]
#![allow(clippy::too_many_lines, reason = "a test tells its story in one piece")]

mod support;

mod accounts;
mod authentication;
mod bad_input;
mod batching;
mod cleanup;
mod command_line;
mod crashes;
mod deleting;
mod http;
mod lists;
mod outage;
mod permissions;
mod presence;
mod project;
mod registration;
mod smoke;
mod snapshots;
mod sse;
mod subscriptions;
mod tasks;
mod websocket;
