//! The identity file: who this runner is, kept from one start to the next.
//!
//! Reading and writing blocks the thread for a moment. That is fine: it happens at the start, after a registration and
//! at the end.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use uuid::Uuid;

use crate::rng::Rng;

use super::client::Credentials;

/// Readable by its owner alone: it holds the runner's secret.
const MODE: u32 = 0o600;

/// What is wrong with the state file.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is there and cannot be read.
    #[error(
        "cannot read the state file {}: {source}. Let the user who runs the agent own it, or give another file \
         with --state",
        .path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what the agent wrote.
    #[error(
        "the state file {} is malformed ({reason}). Put a copy of it back, or delete it and give --token to \
         register again",
        .path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Two agents with one identity would take each other's tasks for lost.
    #[error("another agent uses the state file {}; give this one a file of its own with --state", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The identity in it is for another server.
    #[error(
        "the state file {} belongs to a runner of {stored}, not of {given}. Give --url {stored}, or another file with \
         --state to have a runner at each",
        .path.display()
    )]
    OtherServer {
        /// The file.
        path: PathBuf,
        /// The server that it was made for.
        stored: String,
        /// The server that was asked for.
        given: String,
    },
    /// The runner in it stays, and one for a single task was asked for.
    #[error(
        "the state file {} holds a runner that stays, and --ephemeral asks for one that takes a single task. Give \
         another file with --state",
        .path.display()
    )]
    Lasting {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written or removed.
    #[error(
        "cannot write the state file {}: {source}. Give a file with --state in a folder where this user may write",
        .path.display()
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A registered runner.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Its GraphQL id.
    pub(super) runner_id: String,
    /// Its UUID, by which it shows itself.
    pub(super) uuid: Uuid,
    /// Its name on the server.
    pub(super) name: String,
    /// Its secret.
    pub(super) secret: SecretString,
    /// Whether it takes one task and is gone then.
    pub(super) ephemeral: bool,
}

/// The content of the state file.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    server_url: String,
    machine_id: Uuid,
    identity: Option<Identity>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    server_url: &'a str,
    machine_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    runner_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ephemeral: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    server_url: String,
    machine_id: Uuid,
    runner_id: Option<String>,
    uuid: Option<Uuid>,
    name: Option<String>,
    secret: Option<SecretString>,
    ephemeral: Option<bool>,
}

/// Keeps other agents from a state file, for as long as what it hands back is not dropped; none where that cannot be
/// done.
pub(super) fn lock(path: &Path) -> Result<Option<File>, StateError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let unlocked = |error: &io::Error| {
        warn!(
            "cannot lock the state file {}: {error}. Make sure that no other agent uses it at the same time",
            path.display()
        );
        None
    };
    let file = match OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(&name) {
        Ok(file) => file,
        // What was written elsewhere and cannot be changed here is good enough to start with.
        Err(error) if path.exists() => return Ok(unlocked(&error)),
        Err(source) => return Err(StateError::Unwritable { path: path.to_owned(), source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Ok(unlocked(&error)),
    }
}

impl State {
    /// Reads the file. When there is none yet, this is a new machine, and nothing is written before [`State::save`].
    ///
    /// So it is when an ephemeral runner was left in it: that may have had its one task, and would wait for ever. With
    /// the number of the machine its successor would become the same runner again.
    pub(super) fn load(path: &Path, server_url: &str, rng: &Rng) -> Result<Self, StateError> {
        let server_url = server_url.trim_end_matches('/').to_owned();
        let Some(text) = read(path)? else {
            return Ok(Self { path: path.to_owned(), server_url, machine_id: rng.uuid(), identity: None });
        };
        let malformed = |reason: String| StateError::Malformed { path: path.to_owned(), reason };
        // The parser's own message quotes what it found, which may be the secret.
        let stored: Stored = serde_json::from_str(&text)
            .map_err(|error| malformed(format!("line {}, column {}", error.line(), error.column())))?;
        let identity = match (stored.runner_id, stored.uuid, stored.name, stored.secret) {
            (Some(_), Some(_), Some(_), Some(_)) if stored.ephemeral == Some(true) => {
                info!("the runner in {} was for one task; it is not used again", path.display());
                return Ok(Self { path: path.to_owned(), server_url, machine_id: rng.uuid(), identity: None });
            }
            (Some(runner_id), Some(uuid), Some(name), Some(secret)) => {
                Some(Identity { runner_id, uuid, name, secret, ephemeral: false })
            }
            // The machine was written down, and then the registration failed.
            (None, None, None, None) => None,
            _ => return Err(malformed("one of runnerId, uuid, name and secret is missing".to_owned())),
        };
        if identity.is_some() && stored.server_url != server_url {
            return Err(StateError::OtherServer {
                path: path.to_owned(),
                stored: stored.server_url,
                given: server_url,
            });
        }
        Ok(Self { path: path.to_owned(), server_url, machine_id: stored.machine_id, identity })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the server knows this machine by, also after the runner was deleted.
    pub(super) const fn machine_id(&self) -> Uuid {
        self.machine_id
    }

    /// The runner, once it is registered.
    pub(super) const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The runner's own credentials, once it is registered.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let identity = self.identity.as_ref()?;
        Some(Credentials::Runner { uuid: identity.uuid, secret: identity.secret.clone() })
    }

    /// Takes on an identity and writes it down.
    pub(super) fn adopt(&mut self, identity: Identity) -> Result<(), StateError> {
        self.identity = Some(identity);
        self.save()
    }

    /// Replaces the runner's secret and writes it down. What cannot be written down is not taken on either: the secret
    /// before would stop to work as soon as the new one is used, and the next start would have nothing else.
    pub(super) fn change_secret(&mut self, secret: &SecretString) -> Result<(), StateError> {
        let before = self.identity.clone();
        self.take_secret(secret);
        let saved = self.save();
        if saved.is_err() {
            self.identity = before;
        }
        saved
    }

    /// Replaces the runner's secret in memory alone.
    pub(super) fn take_secret(&mut self, secret: &SecretString) {
        if let Some(identity) = &mut self.identity {
            identity.secret = secret.clone();
        }
    }

    /// Writes the file, whole or not at all.
    pub(super) fn save(&self) -> Result<(), StateError> {
        self.write().map_err(|source| StateError::Unwritable { path: self.path.clone(), source })
    }

    /// Removes the file.
    pub(super) fn remove(&self) -> Result<(), StateError> {
        remove_if_there(&self.path).map_err(|source| StateError::Unwritable { path: self.path.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        let identity = self.identity.as_ref();
        let written = Written {
            server_url: &self.server_url,
            machine_id: self.machine_id,
            runner_id: identity.map(|identity| identity.runner_id.as_str()),
            uuid: identity.map(|identity| identity.uuid),
            name: identity.map(|identity| identity.name.as_str()),
            secret: identity.map(|identity| identity.secret.expose_secret()),
            ephemeral: identity.map(|identity| identity.ephemeral),
        };
        let mut text = serde_json::to_string_pretty(&written)?;
        text.push('\n');
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let temporary = folder.join(temporary_name(&self.path));
        // One may be left from a crash, by a process of the same number.
        remove_if_there(&temporary)?;
        let outcome = write_new(&temporary, text.as_bytes())
            .and_then(|()| fs::rename(&temporary, &self.path))
            // The new name is safe on the disk only when the folder is.
            .and_then(|()| File::open(folder)?.sync_all());
        if outcome.is_err() {
            // What failed above says more than a failure here.
            let _ = remove_if_there(&temporary);
        }
        outcome
    }
}

fn read(path: &Path) -> Result<Option<String>, StateError> {
    let unreadable = |source| StateError::Unreadable { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        warn!(
            "other users of this machine could read the runner's secret in {} (mode {:o}); its mode is 600 now. If \
             you do not trust them, rotate the runner's token",
            path.display(),
            mode & 0o777
        );
        file.set_permissions(Permissions::from_mode(MODE)).map_err(unreadable)?;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(Some(text))
}

fn temporary_name(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    name
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "http://127.0.0.1:8080";

    fn identity() -> Identity {
        Identity {
            runner_id: "R_1".to_owned(),
            uuid: Uuid::from_u128(7),
            name: "box".to_owned(),
            secret: SecretString::from("rc_run_hunter2"),
            ephemeral: false,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_identity_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let mut state = State::load(&path, SERVER, &Rng::seeded(1)).unwrap();
        assert!(state.identity().is_none() && !path.exists());
        state.save().unwrap();
        let machine = State::load(&path, SERVER, &Rng::seeded(2)).unwrap().machine_id();
        assert_eq!(machine, state.machine_id());

        state.adopt(identity()).unwrap();
        let again = State::load(&path, "http://127.0.0.1:8080/", &Rng::seeded(2)).unwrap();
        assert_eq!(again.machine_id(), machine);
        let identity = again.identity().unwrap();
        assert_eq!((identity.name.as_str(), identity.secret.expose_secret()), ("box", "rc_run_hunter2"));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
        assert!(!format!("{again:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_is_for_one_agent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let held = lock(&path).unwrap().unwrap();
        assert_eq!(mode(&folder.path().join("agent.json.lock")), 0o600);
        let refused = lock(&path).unwrap_err().to_string();
        assert!(refused.contains("another agent") && refused.contains("--state"), "{refused}");
        // Not by closing it: a process that another test is just starting may hold it for a moment.
        held.unlock().unwrap();
        assert!(lock(&path).unwrap().is_some());
        let absent = folder.path().join("absent").join("agent.json");
        assert!(matches!(lock(&absent), Err(StateError::Unwritable { .. })));
    }

    #[test]
    fn an_ephemeral_runner_is_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let mut state = State::load(&path, SERVER, &Rng::seeded(1)).unwrap();
        state.adopt(Identity { ephemeral: true, ..identity() }).unwrap();
        let next = State::load(&path, SERVER, &Rng::seeded(2)).unwrap();
        assert!(next.identity().is_none() && next.machine_id() != state.machine_id());
    }

    #[test]
    fn a_secret_is_replaced_on_the_disk_and_in_memory_or_in_neither() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("agent.json");
        fs::create_dir(folder.path().join("below")).unwrap();
        let mut state = State::load(&path, SERVER, &Rng::seeded(1)).unwrap();
        state.adopt(identity()).unwrap();
        state.change_secret(&SecretString::from("rc_run_second")).unwrap();
        let stored = State::load(&path, SERVER, &Rng::seeded(1)).unwrap();
        assert_eq!(stored.identity().unwrap().secret.expose_secret(), "rc_run_second");

        fs::remove_dir_all(folder.path().join("below")).unwrap();
        assert!(state.change_secret(&SecretString::from("rc_run_third")).is_err());
        assert_eq!(state.identity().unwrap().secret.expose_secret(), "rc_run_second");
    }

    #[test]
    fn a_file_that_others_can_read_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        State::load(&path, SERVER, &Rng::seeded(1)).unwrap().save().unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        State::load(&path, SERVER, &Rng::seeded(1)).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        let mut state = State::load(&path, SERVER, &Rng::seeded(1)).unwrap();
        state.adopt(identity()).unwrap();
        let other = State::load(&path, "http://elsewhere", &Rng::seeded(1)).unwrap_err().to_string();
        assert!(other.contains("Give --url http://127.0.0.1:8080"), "{other}");

        fs::write(&path, "\"rc_run_hunter2\"").unwrap();
        let malformed = State::load(&path, SERVER, &Rng::seeded(1)).unwrap_err().to_string();
        assert!(malformed.contains("malformed") && !malformed.contains("hunter2"), "{malformed}");
    }
}
