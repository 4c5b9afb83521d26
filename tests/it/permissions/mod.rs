//! Who may do what, for every field of the schema.
//!
//! What an actor may not see does not exist for it: `NOT_FOUND`, or null where the field may be null. What it may see and
//! not do is `FORBIDDEN`. Credentials of the wrong kind are `FORBIDDEN` too, none are `UNAUTHENTICATED`.

mod table;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::support::{Answer, Client, Frame, Shown, Socket, on_both};
use table::{Kind, NULL, OK, Row, TABLE};
use world::{Cell, Operation, RUNNER, Who, World};

/// How often something happens until a stream has to have told it.
const ROUNDS: usize = 200;
/// How long a stream may take to tell what happened before it happens again.
const PAUSE: Duration = Duration::from_millis(50);

/// Tries every row of a kind as each of these actors, each time on targets of its own.
async fn check(world: &World, kind: Kind, actors: &[Who]) {
    let mut wrong = Vec::new();
    for row in TABLE.iter().filter(|row| row.kind == kind) {
        for who in actors {
            let cell = Box::pin(world.cell(*who)).await;
            let answer = Box::pin(attempt(&cell, row)).await;
            let (expected, found) = (row.expected(*who), outcome(row.field, &answer));
            let mut report = |what: &str| wrong.push(format!("{} {} as {who:?}: {what}", row.field, row.of));
            if found != expected {
                report(&format!("expected {expected}, got {found}: {answer}"));
            }
            if who.is_outside() && answer.to_string().contains(RUNNER) {
                report(&format!("tells of a runner of acme: {answer}"));
            }
            if kind == Kind::Mutation && found != OK && !cell.is_runner_untouched().await {
                report("was refused, and changed the runner");
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What comes of a row: the answer, or the first message of the stream.
async fn attempt(cell: &Cell<'_>, row: &Row) -> Value {
    let operation = row.operation(cell).await;
    if row.kind != Kind::Subscription {
        return cell.client.post(&operation.document, operation.variables).await.body;
    }
    let mut events = cell.world.app.events(&cell.client, &operation.document, operation.variables).await;
    // The head of the answer comes before the watching begins, so what happens once may be missed.
    for _ in 0..ROUNDS {
        cell.stir(row.field).await;
        if let Ok(event) = tokio::time::timeout(PAUSE, events.next()).await {
            return event.map_or_else(|| json!("the stream ended"), |(_, data)| data);
        }
    }
    json!("nothing came")
}

/// The word of the table for an answer.
fn outcome<'a>(field: &str, answer: &'a Value) -> &'a str {
    let value = &answer["data"][field];
    // A call on many runners that is refused for one of them says so in its payload.
    let codes = [&answer["errors"][0]["extensions"]["code"], &value["refused"][0]["code"]];
    let is_null = value.as_array().map_or_else(|| value.is_null(), |items| items.iter().all(Value::is_null));
    match codes.into_iter().find_map(Value::as_str) {
        Some(code) => code,
        None if answer.get("errors").is_some() => "an error without a code",
        None if value["matchedCount"] == 0 => "no match",
        None if is_null => NULL,
        None => OK,
    }
}

/// Posts a request of whatever kind, accepting what such a request is answered with.
async fn post(client: &Client, kind: Kind, operation: &Operation) -> Answer {
    let accept = if kind == Kind::Subscription { "text/event-stream" } else { "application/json" };
    let body = json!({"query": operation.document, "variables": operation.variables});
    client.send(client.http.post(format!("{}/graphql", client.url)).header("accept", accept).json(&body)).await
}

on_both! {
    async fn queries_show_each_actor_what_it_may_see_and_nothing_else(database) {
        let world = Box::pin(World::start(database)).await;
        check(&world, Kind::Query, &Who::COLUMNS).await;
    }

    async fn mutations_are_for_those_who_may_and_for_nobody_else(database) {
        let world = Box::pin(World::start(database)).await;
        check(&world, Kind::Mutation, &Who::COLUMNS).await;
    }

    async fn subscriptions_open_for_those_who_may_see_what_they_tell(database) {
        let world = Box::pin(World::start(database)).await;
        check(&world, Kind::Subscription, &Who::COLUMNS).await;
    }

    async fn an_owner_of_another_organization_is_a_stranger_in_this_one(database) {
        let world = Box::pin(World::start(database)).await;
        for kind in [Kind::Query, Kind::Mutation, Kind::Subscription] {
            check(&world, kind, &[Who::OtherOwner]).await;
        }
    }

    async fn a_runner_of_the_instance_sees_and_does_no_more_than_any_other(database) {
        let world = Box::pin(World::start(database)).await;
        for kind in [Kind::Query, Kind::Mutation, Kind::Subscription] {
            check(&world, kind, &[Who::InstanceRunner]).await;
        }
    }

    async fn credentials_that_do_not_work_are_refused_whatever_is_asked(database) {
        let world = Box::pin(World::start(database)).await;
        let clients = Box::pin(world.refused_clients()).await;
        let mut wrong = Vec::new();
        for row in TABLE {
            let cell = Box::pin(world.cell(Who::Nobody)).await;
            let operation = Box::pin(row.operation(&cell)).await;
            for (what, client) in &clients {
                let answer = post(client, row.kind, &operation).await;
                let is_refused = answer.status == 401 && answer.code() == "UNAUTHENTICATED";
                if !is_refused || answer.body.get("data").is_some() {
                    wrong.push(format!("{} {} with {what}: {} {}", row.field, row.of, answer.status, answer.body));
                }
            }
            if !cell.is_runner_untouched().await {
                wrong.push(format!("{} {} was refused, and changed the runner", row.field, row.of));
            }
        }
        assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    async fn a_runner_cannot_pose_as_another(database) {
        let world = Box::pin(World::start(database)).await;
        let (one, two) = (world.acme_runner().await, world.acme_runner().await);
        let rotation = |id: Option<&str>| Operation::mutation("rotateRunnerToken", &json!({"id": id}), "runner { id }");

        let theirs = rotation(Some(two.id.as_str()));
        assert_eq!(one.client.code(&theirs.document, theirs.variables).await, "FORBIDDEN");
        two.heartbeat().await;

        let posing = world.app.client(Shown::Runner { uuid: two.uuid.clone(), secret: one.secret.clone() });
        let answer = posing.post("mutation { heartbeat(input: {}) { serverTime } }", json!({})).await;
        assert_eq!((answer.status, answer.code()), (401, "UNAUTHENTICATED".to_owned()));
        let payload: Map<String, Value> =
            posing.shown.pairs().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let mut socket = Socket::open(&world.app.url).await;
        socket.send(json!({"type": "connection_init", "payload": payload})).await;
        let frame = socket.next().await;
        assert!(matches!(frame, Frame::Close(4403, _)), "{frame:?}");

        // Its own token it may rotate, whether it names itself or nobody.
        for id in [Some(one.id.as_str()), None] {
            let runner = if id.is_some() { &one } else { &two };
            let rotated = rotation(id).run(&runner.client).await;
            assert_eq!(rotated["rotateRunnerToken"]["runner"]["id"], json!(runner.id));
            // The token before, which still works for a while, gets no successor of its own.
            let again = rotation(id);
            assert_eq!(runner.client.code(&again.document, again.variables).await, "FORBIDDEN");
            runner.heartbeat().await;
        }
    }

    async fn a_runner_does_not_see_the_people_and_repositories_of_its_scope(database) {
        let world = Box::pin(World::start(database)).await;
        let runner = world.acme_runner().await;
        for field in ["members { totalCount }", "repositories { totalCount }", "fleet { total }"] {
            let query = format!("{{ viewer {{ ... on Runner {{ scope {{ ... on Organization {{ {field} }} }} }} }} }}");
            assert_eq!(runner.client.code(&query, json!({})).await, "FORBIDDEN", "{field}");
        }
    }

    async fn a_user_may_delete_itself_and_is_gone(database) {
        let world = Box::pin(World::start(database)).await;
        let leaver = world.app.user("leaver").await;
        let answer = Operation::mutation("deleteUser", &json!({"login": "leaver"}), "deletedId").run(&leaver).await;
        assert!(answer["deleteUser"]["deletedId"].is_string());
        assert_eq!(leaver.code("{ viewer { __typename } }", json!({})).await, "UNAUTHENTICATED");
    }
}

/// The fields of an object type in a schema that was printed one field a line, descriptions on lines of their own.
fn fields_of<'a>(schema: &'a str, name: &str) -> BTreeSet<&'a str> {
    let header = format!("type {name} {{");
    let body = schema.lines().skip_while(|line| *line != header).skip(1).take_while(|line| *line != "}");
    let (mut fields, mut in_description, mut depth) = (BTreeSet::new(), false, 0);
    for line in body {
        let quotes = line.matches(r#"""""#).count();
        if in_description || quotes > 0 {
            in_description ^= quotes % 2 == 1;
            continue;
        }
        // Within parentheses there are arguments.
        if depth == 0
            && let Some((field, _)) = line.split_once(['(', ':'])
        {
            fields.insert(field.trim());
        }
        depth += line.matches('(').count();
        depth -= line.matches(')').count();
    }
    fields
}

#[test]
fn every_field_of_the_schema_has_a_row_and_every_row_a_field() {
    let schema = include_str!("../../../schema.graphql");
    for (name, kind) in [("Query", Kind::Query), ("Mutation", Kind::Mutation), ("Subscription", Kind::Subscription)] {
        let fields = fields_of(schema, name);
        assert!(!fields.is_empty(), "schema.graphql has no type {name}");
        let rows: BTreeSet<&str> = TABLE.iter().filter(|row| row.kind == kind).map(|row| row.field).collect();
        let missing: Vec<_> = fields.difference(&rows).collect();
        assert!(
            missing.is_empty(),
            "say in tests/it/permissions/table.rs who may use these fields of {name}: {missing:?}"
        );
        let gone: Vec<_> = rows.difference(&fields).collect();
        assert!(gone.is_empty(), "{name} no longer has these fields of tests/it/permissions/table.rs: {gone:?}");
    }
}

#[test]
fn fields_are_told_from_arguments_and_descriptions() {
    let schema = "type Other {\n\tnot: Int\n}\n\"\"\"\nAbout (it: all\n\"\"\"\ntype Query {\n\t\"\"\"One line: of text\"\"\"\n\
                  \tplain: Int\n\t\"\"\"\n\tno: field (\n\t\"\"\"\n\twith(\n\t\t\"\"\"\n\t\tAn argument: of it.\n\t\t\"\"\"\n\
                  \t\targument: [ID!]! = []\n\t): Int\n\tinline(a: Int, b: Int): Int\n}\ntype Last {\n\tnot: Int\n}\n";
    assert_eq!(fields_of(schema, "Query"), BTreeSet::from(["plain", "with", "inline"]));
}
