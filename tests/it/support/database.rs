//! A database for one test.

use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// An empty database, and a folder for the server.
pub struct TestDatabase {
    pub url: String,
    pub folder: TempDir,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

impl TestDatabase {
    pub async fn create(database: Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match database {
            Database::Sqlite => format!("sqlite://{}", folder.path().join("rollcall.sqlite3").display()),
            Database::Postgres => create_postgres().await,
        };
        Self { url, folder }
    }
}

/// The URL of a PostgreSQL server that tests may make databases on.
pub fn postgres_server() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests/run.sh says where its PostgreSQL is")]
    std::env::var("ROLLCALL_TEST_POSTGRES").expect(
        "ROLLCALL_TEST_POSTGRES is not set: run the tests with tests/run.sh, which starts a PostgreSQL for them",
    )
}

async fn create_postgres() -> String {
    let server = postgres_server();
    let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}
