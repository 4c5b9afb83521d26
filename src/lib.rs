//! Rollcall: a control plane for self-hosted CI runners.
//!
//! # Who may know whom
//!
//! ```text
//! cli ─▶ app ─▶ http ─▶ graphql ─▶ fleet ─▶ auth, events ─▶ store ─▶ model, page, error, clock, rng
//!         └───▶ jobs ────────────▶ fleet
//! ```
//!
//! An arrow never runs back up, and a test holds the imports against this list:
//!
//! * `store` alone names diesel; it knows no rule. Among the files of `graphql`, only the loaders read it.
//! * `fleet` is where every rule lives. It knows neither GraphQL nor HTTP, so that another face can be put on it.
//! * `graphql` alone names async-graphql, with the files of `http` that carry its requests.
//! * `jobs` drives what takes longer than a request, through entries of `fleet` like any other.
//! * `config` alone reads the environment, `clock` the time, `rng` randomness.
//! * `agent` is a client like any other: of ours it knows `config`, `clock` and `rng`.
//! * `app` is the one place that builds things; `cli` parses the command line and calls it.

#[macro_use]
pub mod store;

pub mod agent;
pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod events;
pub mod fleet;
pub mod graphql;
pub mod http;
pub mod jobs;
pub mod lifecycle;
pub mod model;
pub mod page;
pub mod rng;
