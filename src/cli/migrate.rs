//! `rollcall migrate`.

use std::io::Write as _;

use super::Failure;
use crate::app;
use crate::config::ServerConfig;

pub(super) async fn run(config: ServerConfig) -> Result<(), Failure> {
    let (_, report) = app::open_store(&config).await?;
    let mut output = std::io::stdout();
    if report.applied.is_empty() {
        writeln!(output, "The database is up to date.")?;
    }
    for version in report.applied {
        writeln!(output, "Applied {version}.")?;
    }
    Ok(())
}
