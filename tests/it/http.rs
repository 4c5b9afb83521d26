//! GraphQL over HTTP: what is taken, how it is answered, and that what is refused was not executed.

use std::collections::HashSet;
use std::time::Duration;

use rollcall::auth::{SecretKind, mint};
use rollcall::rng::Rng;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Answer, Client, Database, Shown, TestApp};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mutation that leaves a trace.
const MAKE: &str =
    r#"mutation Make { createOrganization(input: {login: "made", name: "Made"}) { organization { login } } }"#;

/// An answer to bytes that no HTTP client would send.
pub(super) struct RawAnswer {
    pub(super) status: u16,
    /// The status line and the headers.
    pub(super) head: String,
    pub(super) body: String,
}

/// Sends bytes as they are and reads until the server closes: either they ask for `connection: close`, or the server
/// has enough of them.
pub(super) async fn raw(url: &str, request: Vec<u8>) -> RawAnswer {
    let stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    // The server may answer and hang up before it has read everything. The writing half stays open until the end.
    let writing = tokio::spawn(async move {
        let _ = writer.write_all(&request).await;
        writer
    });
    let mut bytes = Vec::new();
    let reading = async {
        // A reset after the answer is an end like any other.
        while let Ok(1..) = reader.read_buf(&mut bytes).await {}
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the server neither answered nor hung up");
    writing.abort();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("the server hung up, saying {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    RawAnswer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn start() -> TestApp {
    Box::pin(TestApp::start(Database::Sqlite)).await
}

fn endpoint(app: &TestApp) -> String {
    format!("{}/graphql", app.url)
}

/// The address of a request by GET.
fn address(app: &TestApp, parameters: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("{}/graphql?{query}", app.url)
}

/// A POST with exactly these headers (each with its line end) beside the administrator's.
fn post_with(app: &TestApp, headers: &str, body: &str) -> Vec<u8> {
    let (token, length) = (&app.admin_token, body.len());
    format!(
        "POST /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

/// Whether [`MAKE`] was executed.
async fn was_made(app: &TestApp) -> bool {
    let answer = app.admin().data(r#"{ organization(login: "made") { login } }"#, json!({})).await;
    !answer["organization"].is_null()
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// The content type without its parameters.
fn media_type(answer: &Answer) -> &str {
    header(answer, "content-type").split(';').next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_json_is_executed() {
    let app = start().await;
    let admin = app.admin();
    let body = json!({"query": MAKE}).to_string();
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("query", MAKE).finish();
    let multipart = format!(
        "--x\r\ncontent-disposition: form-data; name=\"operations\"\r\n\r\n{body}\r\n\
         --x\r\ncontent-disposition: form-data; name=\"map\"\r\n\r\n{{}}\r\n--x--\r\n"
    );
    for (content_type, body) in [
        ("text/plain", body.as_str()),
        ("text/plain;charset=UTF-8", body.as_str()),
        ("application/x-www-form-urlencoded", form.as_str()),
        ("application/x-www-form-urlencoded", body.as_str()),
        ("multipart/form-data; boundary=x", multipart.as_str()),
        ("application/graphql", MAKE),
        ("application/jsonp", body.as_str()),
        ("application/json; charset=iso-8859-1", body.as_str()),
        ("", body.as_str()),
    ] {
        let request = admin.http.post(endpoint(&app)).header("content-type", content_type).body(body.to_owned());
        let answer = admin.send(request).await;
        assert_eq!(answer.status, 415, "{content_type}: {}", answer.body);
        assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", "content-type"));
        assert!(answer.body.get("data").is_none(), "{content_type}: {}", answer.body);
    }
    let answer = raw(&app.url, post_with(&app, "", &body)).await;
    assert_eq!(answer.status, 415, "no content type: {}", answer.body);
    assert!(!was_made(&app).await);

    for content_type in ["application/json", "Application/JSON", "application/json; charset=UTF-8"] {
        let body = json!({"query": "{ __typename }"}).to_string();
        let request = admin.http.post(endpoint(&app)).header("content-type", content_type).body(body);
        assert_eq!(admin.send(request).await.body, json!({"data": {"__typename": "Query"}}), "{content_type}");
    }
    admin.data(MAKE, json!({})).await;
    assert!(was_made(&app).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_chooses_how_it_is_answered() {
    let app = start().await;
    let admin = app.admin();
    let query = json!({"query": "{ __typename }"});
    for (accept, expected) in [
        ("application/json", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/graphql-response+json", "application/graphql-response+json"),
        ("application/graphql-response+json, application/json;q=0.9", "application/graphql-response+json"),
        ("application/json;q=0.5, application/graphql-response+json", "application/graphql-response+json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
    ] {
        let answer = admin.send(admin.http.post(endpoint(&app)).header("accept", accept).json(&query)).await;
        assert_eq!((answer.status, media_type(&answer)), (200, expected), "{accept}");
        assert_eq!(answer.body, json!({"data": {"__typename": "Query"}}), "{accept}");
    }
    let answer = raw(&app.url, post_with(&app, "content-type: application/json\r\n", &query.to_string())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.head.contains("\r\ncontent-type: application/json"), "{}", answer.head);

    for accept in ["text/html", "application/xml, image/*", "application/json;q=0", "nonsense"] {
        let request = admin.http.post(endpoint(&app)).header("accept", accept).json(&json!({"query": MAKE}));
        let answer = admin.send(request).await;
        assert_eq!(answer.status, 406, "{accept}");
        assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", "accept"), "{accept}");
    }
    assert!(!was_made(&app).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_tells_whether_anything_was_executed() {
    let app = start().await;
    let admin = app.admin();
    let long = format!("{}a{}", "{a".repeat(30), "}".repeat(30));
    for (what, query, variables, operation, code) in [
        ("an unknown field", "{ nope }", json!({}), None, "GRAPHQL_VALIDATION_FAILED"),
        ("no GraphQL", "{ a ", json!({}), None, "GRAPHQL_PARSE_FAILED"),
        ("too deep", long.as_str(), json!({}), None, "QUERY_TOO_DEEP"),
        ("no such operation", "query A { __typename }", json!({}), Some("B"), "GRAPHQL_VALIDATION_FAILED"),
        (
            "a variable of another type",
            "query($n: Int) { runners(first: $n) { totalCount } }",
            json!({"n": "x"}),
            None,
            "GRAPHQL_VALIDATION_FAILED",
        ),
    ] {
        let body = json!({"query": query, "variables": variables, "operationName": operation});
        for (accept, status) in [("application/graphql-response+json", 400), ("application/json", 200)] {
            let answer = admin.send(admin.http.post(endpoint(&app)).header("accept", accept).json(&body)).await;
            assert_eq!((answer.status, media_type(&answer)), (status, accept), "{what}: {}", answer.body);
            assert_eq!(answer.code(), code, "{what}: {}", answer.body);
            assert!(answer.body.get("data").is_none(), "{what}: {}", answer.body);
        }
    }
    for accept in ["application/graphql-response+json", "application/json"] {
        // It was executed, and failed: the request itself was in order.
        let nobody = app.anonymous();
        let body = json!({"query": "{ instance { version } }"});
        let answer = nobody.send(nobody.http.post(endpoint(&app)).header("accept", accept).json(&body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (200, "UNAUTHENTICATED"), "{}", answer.body);
        assert_eq!(answer.body.get("data"), Some(&Value::Null), "{}", answer.body);
        assert_eq!(answer.body["errors"][0]["path"], json!(["instance"]));

        let answer = admin.send(admin.http.post(endpoint(&app)).header("accept", accept).json(&body)).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.get("errors").is_none(), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nullable_field_that_fails_is_null_beside_its_siblings() {
    let app = start().await;
    let query = r#"{ viewer { __typename } runner(id: "nonsense") { id } }"#;
    let answer = app.admin().post(query, json!({})).await;
    assert_eq!((answer.status, answer.code().as_str()), (200, "BAD_USER_INPUT"), "{}", answer.body);
    assert_eq!(answer.body["errors"][0]["path"], json!(["runner"]));
    assert_eq!(answer.body["data"], json!({"viewer": {"__typename": "User"}, "runner": null}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_come_by_get() {
    let app = start().await;
    let admin = app.admin();
    let plain = address(&app, &[("query", "{ viewer { __typename } }")]);
    let answer = admin.send(admin.http.get(plain)).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"data": {"viewer": {"__typename": "User"}}})));

    let whole = address(
        &app,
        &[
            ("query", "query A { __typename } query B($login: String!) { user(login: $login) { login } }"),
            ("variables", r#"{"login": "admin"}"#),
            ("operationName", "B"),
            ("extensions", "{}"),
            ("unknown", "is ignored"),
        ],
    );
    let answer = admin.send(admin.http.get(whole)).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"data": {"user": {"login": "admin"}}})));

    for (what, parameters, field) in [
        ("no query", vec![], "query"),
        ("variables that are no JSON", vec![("query", "{ __typename }"), ("variables", "x")], "variables"),
        ("variables that are a list", vec![("query", "{ __typename }"), ("variables", "[]")], "variables"),
    ] {
        let answer = admin.send(admin.http.get(address(&app, &parameters))).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", field), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutations_do_not_come_by_get() {
    let app = start().await;
    let admin = app.admin();
    let both = format!("query Look {{ __typename }} {MAKE}");
    for parameters in [vec![("query", MAKE)], vec![("query", both.as_str()), ("operationName", "Make")]] {
        let answer = admin.send(admin.http.get(address(&app, &parameters))).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "BAD_USER_INPUT"), "{}", answer.body);
        assert!(header(&answer, "allow").contains("POST"), "{:?}", answer.headers);
        assert!(answer.body.get("data").is_none(), "{}", answer.body);
    }
    assert!(!was_made(&app).await);
    // The operation that is meant decides, not what else the document has.
    let answer =
        admin.send(admin.http.get(address(&app, &[("query", both.as_str()), ("operationName", "Look")]))).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"data": {"__typename": "Query"}})));
    assert!(!was_made(&app).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_are_refused() {
    use reqwest::Method;

    let app = start().await;
    let admin = app.admin();
    for method in [Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let request = admin.http.request(method.clone(), endpoint(&app)).json(&json!({"query": MAKE}));
        let answer = admin.send(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "BAD_USER_INPUT"), "{method}");
        let allowed = header(&answer, "allow");
        assert!(allowed.contains("GET") && allowed.contains("POST"), "{method}: {allowed}");
    }
    assert!(!was_made(&app).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_refused_and_name_what_is_wrong() {
    let app = start().await;
    let admin = app.admin();
    let nested =
        format!(r#"{{"query": "{{ __typename }}", "variables": {{"a": {}{}}}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    for (what, body, field) in [
        ("a batch", json!([{"query": MAKE}, {"query": MAKE}]).to_string().into_bytes(), "body"),
        ("an empty batch", b"[]".to_vec(), "body"),
        ("half an object", br#"{"query": "#.to_vec(), "body"),
        ("nothing", Vec::new(), "body"),
        ("a string", br#""{ __typename }""#.to_vec(), "body"),
        ("null", b"null".to_vec(), "body"),
        ("GraphQL", MAKE.as_bytes().to_vec(), "body"),
        ("bytes that are no text", b"{\"query\": \"\xff\xfe\"}".to_vec(), "body"),
        ("half a surrogate pair", br#"{"query": "\ud800"}"#.to_vec(), "body"),
        ("values nested a thousand deep", nested.into_bytes(), "body"),
        ("no query", b"{}".to_vec(), "query"),
        ("a query that is null", br#"{"query": null}"#.to_vec(), "query"),
        ("a query that is a number", br#"{"query": 5}"#.to_vec(), "query"),
        ("a query that is a list", json!({"query": [MAKE]}).to_string().into_bytes(), "query"),
        ("variables that are a list", json!({"query": MAKE, "variables": []}).to_string().into_bytes(), "variables"),
        ("variables that are a text", json!({"query": MAKE, "variables": "{}"}).to_string().into_bytes(), "variables"),
        (
            "an operation that is a number",
            json!({"query": MAKE, "operationName": 5}).to_string().into_bytes(),
            "operationName",
        ),
        ("extensions that are a list", json!({"query": MAKE, "extensions": []}).to_string().into_bytes(), "extensions"),
    ] {
        let request = admin.http.post(endpoint(&app)).header("content-type", "application/json").body(body);
        let answer = admin.send(request).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", field), "{what}");
        assert!(!answer.message().is_empty(), "{what}");
        assert!(answer.body.get("data").is_none(), "{what}: {}", answer.body);
    }
    assert!(!was_made(&app).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn null_stands_for_what_is_left_out() {
    let app = start().await;
    let admin = app.admin();
    let body = json!({"query": "{ __typename }", "variables": null, "operationName": null, "extensions": null});
    let answer = admin.send(admin.http.post(endpoint(&app)).json(&body)).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"data": {"__typename": "Query"}})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_refused_before_anything_is_executed() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    let unknown = mint(SecretKind::AccessToken, 1, &Rng::seeded(7)).expose_secret().to_owned();
    let other = mint(SecretKind::RunnerToken, 1, &Rng::seeded(7)).expose_secret().to_owned();
    let register = format!(
        r#"mutation {{ registerRunner(input: {{token: "{}", name: "build-2"}}) {{ runner {{ id }} }} }}"#,
        app.registration_token
    );
    for (what, shown) in [
        ("no token at all", Shown::Bearer("nonsense".to_owned())),
        ("an unknown access token", Shown::Bearer(unknown)),
        ("a registration token", Shown::Bearer(app.registration_token.clone())),
        ("a runner's token without its UUID", Shown::Bearer(runner.secret.clone())),
        ("another runner's token", Shown::Runner { uuid: runner.uuid.clone(), secret: other }),
        (
            "a person's token as a runner's",
            Shown::Runner { uuid: runner.uuid.clone(), secret: app.admin_token.clone() },
        ),
    ] {
        let client = app.client(shown);
        for query in [MAKE, register.as_str(), "{ viewer { __typename } }", "no GraphQL"] {
            for accept in ["application/json", "application/graphql-response+json"] {
                let request = client.http.post(endpoint(&app)).header("accept", accept);
                let answer = client.send(request.json(&json!({"query": query}))).await;
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (401, "UNAUTHENTICATED"),
                    "{what}: {}",
                    answer.body
                );
                assert!(header(&answer, "www-authenticate").starts_with("Bearer"), "{what}: {:?}", answer.headers);
                assert!(answer.body.get("data").is_none(), "{what}: {}", answer.body);
            }
        }
    }
    assert!(!was_made(&app).await);
    let count = app.admin().data("{ runners { totalCount } }", json!({})).await;
    assert_eq!(count["runners"]["totalCount"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_carries_the_security_headers() {
    let app = start().await;
    let client = app.anonymous();
    for path in ["/graphql?query=%7B__typename%7D", "/graphql", "/graphiql", "/graphiql/page.js", "/healthz", "/nope"] {
        let answer = client.send(client.http.get(format!("{}{path}", app.url))).await;
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&answer, "x-frame-options"), "DENY", "{path}");
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer", "{path}");
        let policy = header(&answer, "content-security-policy");
        for rule in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
    }
    let answer = client.post("{ __typename }", json!({})).await;
    assert_eq!(header(&answer, "cache-control"), "no-store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_and_unknown_addresses_are_refused() {
    let app = start().await;
    let client = app.anonymous();
    for path in ["/healthz", "/readyz"] {
        let answer = client.send(client.http.get(format!("{}{path}", app.url))).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(media_type(&answer), "text/plain", "{path}");
    }
    for path in ["/nope", "/graphql/", "/graphql/more", "/graphiql/nope.js", "/graphiql/..%2f..%2fCargo.toml", "/%00"] {
        let answer = client.send(client.http.get(format!("{}{path}", app.url))).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
    }
    // A person who opens the server's address sees a page.
    let answer = client.send(client.http.get(&app.url)).await;
    assert_eq!((answer.status, media_type(&answer)), (200, "text/html"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphiql_comes_with_all_its_files() {
    let app = start().await;
    let client = app.anonymous();
    let answer = client.send(client.http.get(format!("{}/graphiql", app.url))).await;
    assert_eq!((answer.status, media_type(&answer)), (200, "text/html"));
    let page = answer.body.as_str().unwrap();
    // The policy would stop both: scripts in the page, and anything from elsewhere.
    assert!(!page.contains("<script>"), "{page}");
    assert!(!page.contains("//"), "{page}");
    let files: Vec<&str> = page.split('"').filter(|part| part.starts_with("/graphiql/")).collect();
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        let response = client.http.get(format!("{}{file}", app.url)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{file}");
        let headers = response.headers().clone();
        let is_style = file.rsplit_once('.').is_some_and(|(_, ending)| ending == "css");
        let expected = if is_style { "text/css" } else { "text/javascript" };
        assert!(headers["content-type"].to_str().unwrap().starts_with(expected), "{file}: {headers:?}");
        let content = response.bytes().await.unwrap();
        assert!(content.len() > 10, "{file}");
        let is_packed = headers.get("content-encoding").is_some_and(|value| value == "gzip");
        assert_eq!(is_packed, content.starts_with(&[0x1f, 0x8b]), "{file}");
    }
}

/// What tools ask of every server.
const INTROSPECTION: &str = "
    query IntrospectionQuery {
      __schema {
        description
        queryType { name kind }
        mutationType { name kind }
        subscriptionType { name kind }
        types { ...FullType }
        directives {
          name
          description
          isRepeatable
          locations
          args(includeDeprecated: true) { ...InputValue }
        }
      }
    }

    fragment FullType on __Type {
      kind
      name
      description
      specifiedByURL
      isOneOf
      fields(includeDeprecated: true) {
        name
        description
        args(includeDeprecated: true) { ...InputValue }
        type { ...TypeRef }
        isDeprecated
        deprecationReason
      }
      inputFields(includeDeprecated: true) { ...InputValue }
      interfaces { ...TypeRef }
      enumValues(includeDeprecated: true) {
        name
        description
        isDeprecated
        deprecationReason
      }
      possibleTypes { ...TypeRef }
    }

    fragment InputValue on __InputValue {
      name
      description
      type { ...TypeRef }
      defaultValue
      isDeprecated
      deprecationReason
    }

    fragment TypeRef on __Type {
      kind
      name
      ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType {
        kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } }
      } } } } }
    }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_can_introspect_the_schema() {
    let app = start().await;
    let answer = app.anonymous().data(INTROSPECTION, json!({})).await;
    let schema = &answer["__schema"];
    assert_eq!(schema["queryType"]["name"], "Query");
    assert_eq!(schema["mutationType"]["name"], "Mutation");
    assert_eq!(schema["subscriptionType"]["name"], "Subscription");
    let types = schema["types"].as_array().unwrap();
    let of_name = |name: &str| types.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no type {name}"));
    assert_eq!(of_name("Runner")["kind"], "OBJECT");
    assert_eq!(of_name("RunnerScope")["kind"], "INTERFACE");
    assert_eq!(of_name("RunnerScope")["possibleTypes"].as_array().unwrap().len(), 4);
    assert_eq!(of_name("ScopeInput")["isOneOf"], true);
    assert_eq!(of_name("DateTime")["kind"], "SCALAR");
    // Whoever explores reads descriptions.
    let documented = of_name("Runner")["fields"].as_array().unwrap();
    assert!(documented.iter().all(|field| !field["description"].as_str().unwrap_or_default().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operation_name_selects_the_operation() {
    let app = start().await;
    let admin = app.admin();
    let two = "query A { a: __typename } query B { b: __typename }";
    let send = async |query: &str, operation: Value| {
        let body = json!({"query": query, "operationName": operation});
        admin.send(admin.http.post(endpoint(&app)).json(&body)).await
    };
    assert_eq!(send(two, json!("A")).await.body, json!({"data": {"a": "Query"}}));
    assert_eq!(send(two, json!("B")).await.body, json!({"data": {"b": "Query"}}));
    assert_eq!(send("query A { a: __typename }", Value::Null).await.body, json!({"data": {"a": "Query"}}));
    assert_eq!(send("query A { a: __typename }", json!("A")).await.body, json!({"data": {"a": "Query"}}));
    for (query, operation) in [(two, json!("C")), (two, Value::Null), (two, json!("")), ("{ __typename }", json!("A"))]
    {
        let answer = send(query, operation.clone()).await;
        assert_eq!(answer.code(), "GRAPHQL_VALIDATION_FAILED", "{operation}: {}", answer.body);
        assert!(answer.message().contains("operation"), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_has_an_id_of_its_own() {
    let app = start().await;
    let client = app.anonymous();
    let wrong = app.client(Shown::Bearer("nonsense".to_owned()));
    let mut answers: Vec<Answer> = Vec::new();
    let requests = |client: &Client| {
        let post = || client.http.post(endpoint(&app));
        vec![
            post().json(&json!({"query": "{ __typename }"})),
            post().json(&json!({"query": "{ nope }"})),
            post().json(&json!([])),
            post().body("x"),
            post().header("accept", "text/html").json(&json!({"query": "{ __typename }"})),
            // An id of the client's is not taken over: it would end up in the log.
            post().header("x-request-id", "mine").json(&json!({"query": "{ __typename }"})),
            client.http.put(endpoint(&app)),
            client.http.get(address(&app, &[("query", "{ __typename }")])),
        ]
    };
    for client in [&client, &wrong] {
        for request in requests(client) {
            answers.push(client.send(request).await);
        }
    }
    let statuses: HashSet<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses.is_superset(&HashSet::from([200, 400, 401, 405, 406, 415])), "{statuses:?}");
    let ids: HashSet<&str> = answers.iter().map(|answer| header(answer, "x-request-id")).collect();
    assert_eq!(ids.len(), answers.len(), "{ids:?}");
    assert!(!ids.contains("") && !ids.contains("mine"), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_needs_a_stream() {
    let app = start().await;
    let answer = app.admin().post("subscription { heartbeats { at } }", json!({})).await;
    assert_eq!((answer.status, answer.code().as_str()), (406, "BAD_USER_INPUT"), "{}", answer.body);
    assert!(answer.message().contains("text/event-stream"), "{}", answer.body);
}
