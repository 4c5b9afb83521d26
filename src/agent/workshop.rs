//! What the parts of an agent share, and what each task needs to run.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{AgentConfig, inherited_variables};
use crate::rng::Rng;

use super::AgentError;
use super::assignments::Assignments;
use super::client::GraphqlClient;
use super::link::Link;

/// What a script gets of the agent's environment. What is not here stays with the agent: its registration token, and
/// whatever else the machine's owner gave it.
const INHERITED: [&str; 7] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "SHELL"];

/// What the parts of an agent share.
pub(super) struct Workshop {
    pub(super) link: Link,
    pub(super) assignments: Arc<Assignments>,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    /// Where each task gets its folder.
    pub(super) work_dir: PathBuf,
    /// What every script finds in its environment.
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) cancel_grace: Duration,
    pub(super) shutdown_timeout: Duration,
}

impl Workshop {
    /// Makes sure that tasks have a place to work in: without one, each of them would fail.
    pub(super) fn open(
        config: &AgentConfig,
        client: GraphqlClient,
        clock: Clock,
        rng: Rng,
    ) -> Result<Arc<Self>, AgentError> {
        let wanted = config.work_dir.clone().unwrap_or_else(std::env::temp_dir);
        let work_dir =
            prepare(&wanted, &rng).map_err(|source| AgentError::WorkFolder { path: wanted.clone(), source })?;
        Ok(Arc::new(Self {
            link: Link::new(client, clock.clone(), rng.clone()),
            assignments: Arc::new(Assignments::new(config.capacity, config.once || config.ephemeral)),
            clock,
            rng,
            work_dir,
            environment: inherited_variables(is_inherited),
            cancel_grace: config.cancel_grace,
            shutdown_timeout: config.shutdown_timeout,
        }))
    }
}

/// The folder by its full name, once it is known that folders can be made in it.
fn prepare(path: &Path, rng: &Rng) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let path = fs::canonicalize(path)?;
    let probe = path.join(format!("rollcall-{}", rng.uuid()));
    fs::create_dir(&probe)?;
    fs::remove_dir(&probe)?;
    Ok(path)
}

fn is_inherited(name: &str) -> bool {
    INHERITED.contains(&name) || name.starts_with("LC_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_settings_are_not_handed_on() {
        for name in ["PATH", "HOME", "LC_ALL", "TMPDIR"] {
            assert!(is_inherited(name), "{name}");
        }
        for name in ["ROLLCALL_AGENT_TOKEN", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PATHS", ""] {
            assert!(!is_inherited(name), "{name}");
        }
    }

    #[test]
    fn a_work_folder_is_made_and_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("a").join("b");
        let found = prepare(&wanted, &Rng::seeded(1)).unwrap();
        assert!(found.is_absolute() && found.ends_with("a/b"));
        assert_eq!(fs::read_dir(found).unwrap().count(), 0);
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(prepare(&folder.path().join("file").join("below"), &Rng::seeded(1)).is_err());
    }
}
