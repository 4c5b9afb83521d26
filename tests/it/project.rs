//! The project itself: who knows whom, and whether what is written down in two places still agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use rollcall::agent::operations;
use rollcall::graphql::sdl;
use rollcall::store::{PoolLimits, Store, down_and_up};
use secrecy::SecretString;
use serde_json::json;

use crate::support::{Database, TestApp, TestDatabase, on_both};

/// Who may know whom, as `src/lib.rs` has it: files and folders below `src`, each with what it may name of the others.
/// The longest entry that a file stands under decides.
const KNOWN: &[(&str, &str)] = &[
    ("main.rs", "cli"),
    ("lib.rs", ""),
    ("cli", "agent app auth clock config error fleet graphql lifecycle rng"),
    ("app.rs", "auth clock config events fleet graphql http jobs lifecycle rng store"),
    ("jobs", "clock error fleet"),
    ("lifecycle.rs", ""),
    ("http", "auth clock error fleet graphql"),
    ("graphql", "auth clock error events fleet model page store::lists store::models"),
    ("graphql/loaders.rs", "error fleet model page store"),
    ("fleet", "auth clock error events model page rng store"),
    ("fleet/names.rs", "config::parse_cidr error"),
    ("auth", "clock error model rng store"),
    ("events.rs", "clock model"),
    ("store", "error model page"),
    ("agent", "clock config rng"),
    ("config", ""),
    ("error.rs", ""),
    ("model.rs", ""),
    ("page.rs", ""),
    ("rng.rs", "clock"),
    ("clock.rs", ""),
];

/// What only these files and folders name.
const CONFINED: &[(&str, &[&str])] = &[
    ("diesel", &["store"]),
    ("tokio_postgres", &["store"]),
    ("async_graphql", &["graphql", "http/request.rs", "http/socket.rs"]),
    ("axum", &["http"]),
    ("clap", &["cli"]),
    ("reqwest", &["agent"]),
    ("env::var", &["config"]),
];

/// Lines that a file may have, and the files that may have more.
const LONGEST: usize = 600;
const LONGER: &[&str] = &[];

/// Columns that refer to something and need no index that begins with them, each with the reason.
const WITHOUT_INDEX: &[(&str, &str)] = &[
    (
        "runners.machine_id",
        "a machine is looked up within its scope, with which runners_machine begins, and refers to no table",
    ),
    ("task_attempts.runner_id", "asked for together with the task, with which the key begins; refers to no table"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder of the project, by its path from there.
fn files(folder: &str) -> BTreeMap<String, PathBuf> {
    let top = root().join(folder);
    let (mut found, mut folders) = (BTreeMap::new(), vec![top.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned(), path);
            }
        }
    }
    found
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension().and_then(|it| it.to_str()).is_some_and(|it| wanted.contains(&it))
}

/// Whether a path is `above` or stands below it.
fn is_at(path: &str, above: &str, separator: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

const fn is_in_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Rust without comments and without the content of strings; every line stays where it is.
fn code_of(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let (mut code, mut at) = (String::with_capacity(text.len()), 0);
    while at < letters.len() {
        let end = end_of_text(&letters, at);
        if end == at {
            code.push(letters[at]);
            at += 1;
        } else {
            code.extend(letters[at..end].iter().map(|letter| if *letter == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment, string or character ends that begins here; here, if none does.
fn end_of_text(letters: &[char], at: usize) -> usize {
    let is_there = |text: &str, place: usize| text.chars().zip(place..).all(|(it, at)| letters.get(at) == Some(&it));
    let after = |text: &str, from: usize| {
        let place = (from..letters.len()).find(|place| is_there(text, *place));
        place.map_or(letters.len(), |place| place + text.len())
    };
    match letters[at] {
        '/' if is_there("//", at) => after("\n", at) - 1,
        '/' if is_there("/*", at) => after("*/", at),
        '"' => {
            let mut end = at + 1;
            while end < letters.len() && letters[end] != '"' {
                end += if letters[end] == '\\' { 2 } else { 1 };
            }
            (end + 1).min(letters.len())
        }
        'r' if at == 0 || !is_in_word(letters[at - 1]) => {
            let marks = letters[at + 1..].iter().take_while(|letter| **letter == '#').count();
            let is_string = letters.get(at + 1 + marks) == Some(&'"');
            if is_string { after(&format!("\"{}", "#".repeat(marks)), at + marks + 2) } else { at }
        }
        '\'' if letters.get(at + 1) == Some(&'\\') => after("'", at + 3),
        // Anything else that begins so is a lifetime.
        '\'' if letters.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

/// The paths that the beginning of a text names: `a::{b, c::d}` names `a::b` and `a::c::d`.
fn paths(text: &str) -> Vec<String> {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        return members(group).into_iter().flat_map(paths).collect();
    }
    let (name, rest) = text.split_at(text.find(|letter: char| !is_in_word(letter)).unwrap_or(text.len()));
    match rest.strip_prefix("::") {
        Some(rest) if !name.is_empty() => paths(rest)
            .into_iter()
            .map(|path| if path.is_empty() { name.to_owned() } else { format!("{name}::{path}") })
            .collect(),
        _ => vec![name.to_owned()],
    }
}

/// The members of a group in braces, of which the first is left out.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// A file of the program.
struct Source {
    path: String,
    code: String,
}

impl Source {
    fn all() -> Vec<Self> {
        let files = files("src").into_iter().filter(|(_, file)| has_extension(file, &["rs"]));
        files.map(|(path, file)| Self { path, code: code_of(&fs::read_to_string(file).unwrap()) }).collect()
    }

    /// The module of the crate's root that it is, or belongs to.
    fn module(&self) -> &str {
        let top = self.path.split_once('/').map_or(self.path.as_str(), |(top, _)| top);
        top.strip_suffix(".rs").unwrap_or(top)
    }

    /// How many modules it stands below the crate's root.
    fn depth(&self) -> usize {
        let names = self.path.split('/').filter(|name| !["mod.rs", "lib.rs", "main.rs"].contains(name));
        names.count().max(1)
    }

    /// Where a word begins in it.
    fn places(&self, word: &str) -> Vec<usize> {
        let places = self.code.match_indices(word).map(|(at, _)| at);
        places.filter(|at| !self.code[..*at].ends_with(is_in_word)).collect()
    }

    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// The paths that it names from the crate's root, each with its line; those into its own module aside.
    fn references(&self, modules: &BTreeSet<String>) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for root in ["crate::", "rollcall::"] {
            for at in self.places(root) {
                found.extend(paths(&self.code[at + root.len()..]).into_iter().map(|path| (at, path)));
            }
        }
        for at in self.places("super::").into_iter().filter(|at| !self.code[..*at].ends_with("super::")) {
            let rest = self.code[at..].trim_start_matches("super::");
            if (self.code.len() - at - rest.len()) / "super::".len() >= self.depth() {
                found.extend(paths(rest).into_iter().map(|path| (at, path)));
            }
        }
        for name in ["read!", "transact!"] {
            found.extend(self.places(name).into_iter().map(|at| (at, format!("store::{name}"))));
        }
        found.retain(|(_, path)| {
            let module = head(path);
            module != self.module() && modules.contains(module)
        });
        found.into_iter().map(|(at, path)| (self.line(at), path)).collect()
    }
}

fn head(path: &str) -> &str {
    path.split_once("::").map_or(path, |(head, _)| head)
}

fn modules(sources: &[Source]) -> BTreeSet<String> {
    sources.iter().map(|source| source.module().to_owned()).collect()
}

#[test]
fn nobody_names_a_module_it_may_not_know() {
    let sources = Source::all();
    let modules = modules(&sources);
    let mut violations = Vec::new();
    for source in &sources {
        let entries = KNOWN.iter().filter(|(place, _)| is_at(&source.path, place, "/"));
        let Some((place, known)) = entries.max_by_key(|(place, _)| place.len()) else {
            violations.push(format!("src/{}:1: stands nowhere in the list of who may know whom", source.path));
            continue;
        };
        for (line, path) in source.references(&modules) {
            if !known.split_whitespace().any(|known| is_at(&path, known, "::")) {
                violations.push(format!("src/{}:{line}: {place} may not know {path}", source.path));
            }
        }
    }
    assert!(violations.is_empty(), "see `Who may know whom` in src/lib.rs:\n{}", violations.join("\n"));
}

#[test]
fn modules_do_not_know_each_other_in_a_circle() {
    let sources = Source::all();
    let modules = modules(&sources);
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let named = source.references(&modules).into_iter().map(|(_, path)| head(&path).to_owned());
        known.entry(source.module()).or_default().extend(named);
    }
    assert!(known["http"].contains("graphql") && known["fleet"].contains("store"), "nothing was found: {known:?}");
    // Whoever knows nobody is taken away, until nobody is left.
    loop {
        let leaves: Vec<String> =
            known.iter().filter(|(_, below)| below.is_empty()).map(|(module, _)| (*module).to_owned()).collect();
        if leaves.is_empty() {
            break;
        }
        known.retain(|_, below| !below.is_empty());
        for below in known.values_mut() {
            below.retain(|module| !leaves.contains(module));
        }
    }
    assert!(known.is_empty(), "these modules know each other in a circle: {known:?}");
}

#[test]
fn each_library_is_named_where_it_belongs() {
    let mut violations = Vec::new();
    for source in Source::all() {
        for (word, homes) in CONFINED {
            if homes.iter().any(|home| is_at(&source.path, home, "/")) {
                continue;
            }
            let lines = source.places(word).into_iter().map(|at| source.line(at));
            violations.extend(lines.map(|line| format!("src/{}:{line}: names {word}", source.path)));
        }
    }
    assert!(violations.is_empty(), "see `Who may know whom` in src/lib.rs:\n{}", violations.join("\n"));
}

#[test]
fn files_stay_short_enough_to_be_read() {
    let mut long = Vec::new();
    for folder in ["src", "tests"] {
        for (path, file) in files(folder) {
            let path = format!("{folder}/{path}");
            if !has_extension(&file, &["rs", "js", "css", "html", "sh"]) || LONGER.contains(&path.as_str()) {
                continue;
            }
            let lines = fs::read_to_string(file).unwrap().lines().count();
            if lines >= LONGEST {
                long.push(format!("{path} has {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "files have fewer than {LONGEST} lines:\n{}", long.join("\n"));
}

/// What a schema does not describe: `Type`, `Type.field`, `Type.field(argument)`.
fn undescribed(sdl: &str) -> Vec<String> {
    const QUOTES: &str = "\"\"\"";
    let (mut missing, mut owner, mut field) = (Vec::new(), String::new(), String::new());
    let (mut is_in_text, mut is_described, mut has_arguments) = (false, false, false);
    for whole in sdl.lines() {
        let line = whole.trim();
        if is_in_text || line.starts_with(QUOTES) {
            let is_one_line = !is_in_text && line.len() > QUOTES.len() && line.ends_with(QUOTES);
            is_in_text = if is_in_text { !line.ends_with(QUOTES) } else { !is_one_line };
            is_described = !is_in_text;
            continue;
        }
        let (name, rest) = line.split_at(line.find(|letter: char| !is_in_word(letter)).unwrap_or(line.len()));
        let what = if !whole.starts_with(char::is_whitespace) {
            let is_type = ["type", "interface", "union", "enum", "input", "scalar"].contains(&name);
            // The block `schema` and the directives are GraphQL's own.
            owner = if is_type { rest.split_whitespace().next().unwrap_or_default().to_owned() } else { String::new() };
            owner.clone()
        } else if name.is_empty() {
            has_arguments = false;
            String::new()
        } else if has_arguments {
            format!("{owner}.{field}({name})")
        } else {
            name.clone_into(&mut field);
            has_arguments = rest == "(";
            // Arguments on the field's own line have no descriptions.
            let arguments = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or("", |(it, _)| it);
            let names = arguments.split(',').filter_map(|argument| argument.split_once(':'));
            missing.extend(names.map(|(argument, _)| format!("{owner}.{field}({})", argument.trim())));
            format!("{owner}.{field}")
        };
        if !is_described && !what.is_empty() && !owner.is_empty() {
            missing.push(what);
        }
        is_described = false;
    }
    missing
}

#[test]
fn the_committed_schema_is_current() {
    let committed = fs::read_to_string(root().join("schema.graphql")).unwrap();
    assert!(committed == sdl(), "schema.graphql is stale: run `cargo run -- schema > schema.graphql`");
}

#[test]
fn everything_in_the_schema_is_described() {
    let example = "type A {\n b(\n  \"\"\"\n  c\n  \"\"\"\n  d: Int,\n  e: Int\n ): Int\n f(g: Int): Int\n}\nschema {\n query: A\n}";
    assert_eq!(undescribed(example), ["A", "A.b", "A.b(e)", "A.f(g)", "A.f"]);
    let missing = undescribed(&sdl());
    assert!(missing.is_empty(), "these have no description:\n{}", missing.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_of_the_agent_fit_the_schema() {
    let app = TestApp::start(Database::Sqlite).await;
    for document in operations::ALL {
        let input = if document.contains("RegisterRunnerInput") {
            json!({
                "token": "rc_reg_wrong", "name": "box", "labels": ["linux"], "version": "1", "os": "linux", "arch": "x86_64",
                "ephemeral": false, "machineId": "67e55044-10b1-426f-9247-bb680e5fe0c8",
            })
        } else if document.contains("DeclareRunnerInput") {
            json!({"labels": ["linux"], "version": "1", "os": "linux", "arch": "x86_64"})
        } else if document.contains("FetchTaskInput") {
            json!({"waitSeconds": 0})
        } else if document.contains("UpdateTaskInput") {
            let outputs = json!([{"name": "exit_status", "value": "0"}]);
            json!({"id": "task_0000000000000", "attempt": 1, "status": "SUCCEEDED", "outputs": outputs})
        } else if document.contains("AppendTaskLogInput") {
            json!({"id": "task_0000000000000", "attempt": 1, "startLine": 0, "lines": [], "final": true})
        } else if document.contains("ReleaseTaskInput") {
            json!({"id": "task_0000000000000", "attempt": 1})
        } else if document.contains("HeartbeatInput") {
            json!({"runningTaskIds": [], "freeSlots": 1})
        } else {
            json!({})
        };
        if document.starts_with("subscription") {
            let (_, refused) = app.events(&app.anonymous(), document, json!({})).await.next().await.unwrap();
            assert_eq!(refused["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{document}\n{refused}");
            continue;
        }
        let answer = app.anonymous().post(document, json!({"input": input})).await;
        // It is refused for who asks, or for what the token is, and for nothing else.
        let (code, field) = (answer.code(), answer.field());
        let is_expected = code == "UNAUTHENTICATED" || (code == "BAD_USER_INPUT" && field == "token");
        assert!(is_expected, "{document}\n{}", answer.body);
    }
}

/// What a database is made of. Columns are written as `table.column`.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    /// Columns with their types, as `schema.rs` has them: `runners.os Nullable<Text>`.
    columns: BTreeSet<String>,
    /// Columns that an index begins with.
    indexed: BTreeSet<String>,
    /// Columns that refer to another table.
    references: BTreeSet<String>,
}

impl Shape {
    async fn of(database: &TestDatabase) -> Self {
        let [columns, indexed, references] = if database.url.starts_with("sqlite:") {
            SQLITE_SHAPE.map(|query| sqlite_lines(database, query))
        } else {
            let [columns, indexed, references] = POSTGRES_SHAPE.map(|query| postgres_lines(database, query));
            [columns.await, indexed.await, references.await]
        };
        Self { columns: columns.iter().map(|line| column(line)).collect(), indexed, references }
    }
}

/// Columns with type and whether they are NOT NULL, first columns of indexes, and columns with a foreign key.
const SQLITE_SHAPE: [&str; 3] = [
    "SELECT m.name || '.' || c.name || ' ' || lower(c.type) || ' ' || c.\"notnull\" AS line FROM sqlite_master m \
     JOIN pragma_table_info(m.name) c \
     WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> '__diesel_schema_migrations'",
    "SELECT m.name || '.' || c.name AS line FROM sqlite_master m JOIN pragma_index_list(m.name) i \
     JOIN pragma_index_info(i.name) c WHERE m.type = 'table' AND c.seqno = 0 AND m.name <> '__diesel_schema_migrations'",
    "SELECT m.name || '.' || k.\"from\" AS line FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) k \
     WHERE m.type = 'table'",
];

const POSTGRES_SHAPE: [&str; 3] = [
    "SELECT table_name::text || '.' || column_name::text || ' ' || data_type::text || ' ' || \
     CASE is_nullable::text WHEN 'NO' THEN '1' ELSE '0' END FROM information_schema.columns \
     WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations'",
    "SELECT t.relname::text || '.' || c.attname::text FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid \
     JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum = i.indkey[0] \
     WHERE t.relnamespace = 'public'::regnamespace AND t.relname <> '__diesel_schema_migrations'",
    "SELECT t.relname::text || '.' || c.attname::text FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid \
     JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum = ANY (k.conkey) \
     WHERE k.contype = 'f' AND t.relnamespace = 'public'::regnamespace",
];

#[derive(diesel::QueryableByName)]
struct Line {
    #[diesel(sql_type = diesel::sql_types::Text)]
    line: String,
}

fn sqlite_lines(database: &TestDatabase, query: &str) -> BTreeSet<String> {
    let path = database.url.strip_prefix("sqlite://").unwrap();
    let mut connection = SqliteConnection::establish(path).unwrap();
    let lines: Vec<Line> = diesel::sql_query(query).load(&mut connection).unwrap();
    lines.into_iter().map(|it| it.line).collect()
}

async fn postgres_lines(database: &TestDatabase, query: &str) -> BTreeSet<String> {
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let rows = client.query(query, &[]).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// `runners.os text 0` in the words of `schema.rs`: `runners.os Nullable<Text>`.
fn column(line: &str) -> String {
    let (place, kind) = line.split_once(' ').unwrap();
    let (kind, is_required) = kind.rsplit_once(' ').unwrap();
    let kind = match kind {
        "bigint" => "BigInt",
        "text" => "Text",
        "boolean" => "Bool",
        other => other,
    };
    if is_required == "1" { format!("{place} {kind}") } else { format!("{place} Nullable<{kind}>") }
}

/// The columns that `schema.rs` has.
fn declared_columns() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("src/store/schema.rs")).unwrap();
    let (mut columns, mut table) = (BTreeSet::new(), "");
    for line in text.lines().map(str::trim) {
        if let Some((name, kind)) = line.split_once(" -> ") {
            columns.insert(format!("{table}.{name} {}", kind.trim_end_matches(',')));
        } else if let Some((name, _)) = line.split_once(" (").filter(|_| line.ends_with('{')) {
            table = name;
        }
    }
    columns
}

/// The folders of a database's migrations, each with a script for either way.
fn migrations(database: &str) -> BTreeSet<String> {
    let files = files(&format!("migrations/{database}"));
    let folders: BTreeSet<String> = files.keys().filter_map(|path| Some(path.split_once('/')?.0.to_owned())).collect();
    for folder in &folders {
        for script in ["up.sql", "down.sql"] {
            assert!(files.contains_key(&format!("{folder}/{script}")), "{database}/{folder} has no {script}");
        }
    }
    folders
}

/// Opens a database, and returns the versions that were applied.
async fn open(database: &TestDatabase) -> Vec<String> {
    let limits = PoolLimits { size: 1, wait: Duration::from_secs(10), work: Duration::from_secs(10) };
    let (_, report) = Store::open(&SecretString::from(database.url.clone()), &limits).await.unwrap();
    report.applied
}

on_both! {
    async fn migrations_go_up_and_down_and_up_again(database) {
        let database = TestDatabase::create(database).await;
        let version = |folder: &String| folder.split('_').next().unwrap().replace('-', "");
        let versions: Vec<String> = migrations("sqlite").iter().map(version).collect();
        assert_eq!(open(&database).await, versions);
        let shape = Shape::of(&database).await;
        assert_eq!(down_and_up(&database.url).await.unwrap().applied, versions);
        assert_eq!(Shape::of(&database).await, shape);
        assert_eq!(open(&database).await, Vec::<String>::new());
    }

    async fn the_tables_are_those_of_schema_rs(database) {
        let database = TestDatabase::create(database).await;
        open(&database).await;
        let (made, declared) = (Shape::of(&database).await.columns, declared_columns());
        let differences: Vec<&String> = made.symmetric_difference(&declared).collect();
        assert!(differences.is_empty(), "src/store/schema.rs and the migrations differ in {differences:?}");
        assert!(declared.len() > 50, "schema.rs was not understood: {declared:?}");
    }

    async fn every_column_that_refers_to_something_has_an_index(database) {
        let database = TestDatabase::create(database).await;
        open(&database).await;
        let shape = Shape::of(&database).await;
        let columns = shape.columns.iter().filter_map(|column| column.split_once(' ')).map(|(place, _)| place);
        let referring: BTreeSet<&str> =
            columns.filter(|it| it.ends_with("_id")).chain(shape.references.iter().map(String::as_str)).collect();
        let excused = |place: &str| WITHOUT_INDEX.iter().any(|(it, _)| *it == place);
        let bare: Vec<&&str> = referring.iter().filter(|it| !shape.indexed.contains(**it) && !excused(it)).collect();
        assert!(bare.is_empty(), "no index begins with {bare:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_databases_are_made_alike() {
    assert_eq!(migrations("sqlite"), migrations("postgres"));
    let sqlite = TestDatabase::create(Database::Sqlite).await;
    let postgres = TestDatabase::create(Database::Postgres).await;
    open(&sqlite).await;
    open(&postgres).await;
    assert_eq!(Shape::of(&sqlite).await, Shape::of(&postgres).await);
}
