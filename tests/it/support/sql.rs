//! SQL on a test's database, beside the server: for rows that are too many, or too old, to be made through it. What is
//! said is understood by both databases.

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};

use super::TestDatabase;

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

impl TestDatabase {
    fn sqlite(&self) -> Option<SqliteConnection> {
        let path = self.url.strip_prefix("sqlite://")?;
        let mut connection = SqliteConnection::establish(path).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON").unwrap();
        Some(connection)
    }

    async fn postgres(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Runs statements with semicolons between.
    pub async fn run(&self, statements: &str) {
        match self.sqlite() {
            Some(mut connection) => connection.batch_execute(statements).unwrap(),
            None => self.postgres().await.batch_execute(statements).await.unwrap(),
        }
    }

    /// The one number that a query finds, such as `count(*)`.
    pub async fn number(&self, query: &str) -> i64 {
        let query = format!("SELECT CAST(({query}) AS BIGINT) AS number");
        match self.sqlite() {
            Some(mut connection) => {
                let found: Number = diesel::sql_query(query).get_result(&mut connection).unwrap();
                found.number
            }
            None => self.postgres().await.query_one(&query, &[]).await.unwrap().get(0),
        }
    }
}
