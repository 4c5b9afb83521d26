//! What a runner says of itself after it has registered.

use super::{Fleet, names};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::events::Event;
use crate::store::models::RunnerRow;

/// What changed on the machine; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Declaration {
    /// What tasks choose the runner by, in place of what it declared before. Labels of the registration token stay.
    pub labels: Option<Vec<String>>,
    /// The agent's version.
    pub version: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Processor architecture.
    pub arch: Option<String>,
}

impl Fleet {
    /// Takes a runner's word for itself.
    ///
    /// # Errors
    /// `BAD_USER_INPUT`; `UNAUTHENTICATED` or `FORBIDDEN` for whoever is no runner.
    pub async fn declare(&self, actor: &Actor, declaration: Declaration) -> Result<RunnerRow> {
        let id = actor.runner()?.id;
        let labels = declaration.labels.map(|labels| names::labels("labels", &labels)).transpose()?;
        let version = names::machine_word("version", declaration.version.as_deref())?;
        let os = names::machine_word("os", declaration.os.as_deref())?;
        let arch = names::machine_word("arch", declaration.arch.as_deref())?;
        let now = self.now().as_micros();
        let (row, labels) = transact!(self.store, |db, queries| {
            let changes =
                queries::runners::RunnerChanges { version, os, arch, updated_at: Some(now), ..Default::default() };
            let row = queries::runners::update(db, id, changes).await?;
            let row = row.ok_or_else(|| AppError::not_found("The runner"))?;
            let labels = match labels {
                Some(labels) => {
                    queries::runners::replace_labels(db, id, &labels).await?;
                    Some(queries::runners::labels(db, vec![id]).await?)
                }
                None => None,
            };
            Ok((row, labels))
        })?;
        self.carries(id, labels);
        self.tell(Event::RunnerUpdated, row.id, row.scope_id, row.owner_id);
        Ok(row)
    }
}
