//! `rollcall schema`.

use std::io::Write as _;

use super::Failure;
use crate::graphql;

pub(super) fn run() -> Result<(), Failure> {
    std::io::stdout().write_all(graphql::sdl().as_bytes())?;
    Ok(())
}
