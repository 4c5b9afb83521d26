//! Tasks: how they come in, are given out, reported on and followed, who sees them, and what a crash leaves of them.

mod cancelling;
mod claiming;
mod crash;
mod directives;
mod ephemeral;
mod job_token;
mod lists;
mod log_streams;
mod logs;
mod losing;
mod polling;
mod queue;
mod reporting;
mod sizes;
mod timeouts;
mod visibility;
mod waiting;

use serde_json::Value;

use crate::support::Answer;

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The names of a list's nodes.
fn names(list: &Value) -> Vec<&str> {
    list["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

/// Checks that an answer is a refusal with this code, about this field (empty: about none).
#[track_caller]
fn assert_refused(answer: &Answer, code: &str, field: &str) {
    assert_eq!((answer.code().as_str(), answer.field().as_str()), (code, field), "{}", answer.body);
}
