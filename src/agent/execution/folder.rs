//! The folder that a task has to itself, for as long as it runs.
//!
//! In it are the folder `work`, where the script starts, the file of outputs, and the script itself if it is too long to
//! be an argument.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::rng::Rng;

use super::outputs::MAX_BYTES;

/// The folder of one task. Dropped, it is removed, which blocks; [`Folder::remove`] does not.
pub(super) struct Folder {
    path: PathBuf,
    is_removed: bool,
}

impl Folder {
    pub(super) async fn create(work_dir: &Path, rng: &Rng) -> io::Result<Self> {
        let path = work_dir.join(format!("rollcall-{}", rng.uuid()));
        blocking(move || {
            // The folder above is there unless somebody tidied up.
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            let folder = Self { path, is_removed: false };
            fs::create_dir(folder.work())?;
            File::create(folder.outputs())?;
            Ok(folder)
        })
        .await
    }

    /// The file of outputs.
    pub(super) fn outputs(&self) -> PathBuf {
        self.path.join("outputs")
    }

    /// The folder to start in, by what the task asks for; or what is wrong with that.
    pub(super) async fn start(&self, wanted: Option<&Path>) -> Result<PathBuf, String> {
        let path = match wanted {
            None => return Ok(self.work()),
            Some(wanted) => self.work().join(wanted),
        };
        let is_ours = wanted.is_some_and(Path::is_relative);
        let made = path.clone();
        let outcome = blocking(move || if is_ours { fs::create_dir_all(made) } else { check_folder(&made) }).await;
        match outcome {
            Ok(()) => Ok(path),
            Err(error) => Err(format!("workingDirectory: {} cannot be used: {error}", path.display())),
        }
    }

    /// Writes the script down, and says where.
    pub(super) async fn write_script(&self, text: String) -> io::Result<PathBuf> {
        let path = self.path.join("script");
        let written = path.clone();
        blocking(move || fs::write(written, text)).await?;
        Ok(path)
    }

    /// What the script has written into the file of outputs, up to one byte more than it may.
    pub(super) async fn read_outputs(&self) -> io::Result<Vec<u8>> {
        let path = self.outputs();
        blocking(move || {
            // A pipe in its place would be waited for.
            if !fs::symlink_metadata(&path)?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
            }
            let mut content = Vec::new();
            let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
            File::open(path)?.take(limit).read_to_end(&mut content)?;
            Ok(content)
        })
        .await
    }

    /// Removes the folder with all that is in it.
    pub(super) async fn remove(mut self) -> io::Result<()> {
        self.is_removed = true;
        let path = self.path.clone();
        blocking(move || remove_tree(&path)).await
    }

    fn work(&self) -> PathBuf {
        self.path.join("work")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_removed {
            // There is nobody left to tell.
            let _ = remove_tree(&self.path);
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn check_folder(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path)?;
            fs::remove_dir_all(path)
        }
        outcome => outcome,
    }
}

/// Makes folders writable. Some tools protect what they have put into their caches.
fn open_folders(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // A link is none, and so is not followed.
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_made_and_removed_with_all_that_is_in_it() {
        let above = tempfile::tempdir().unwrap();
        let folder = Folder::create(above.path(), &Rng::seeded(1)).await.unwrap();
        let start = folder.start(None).await.unwrap();
        assert_eq!(fs::read_dir(&start).unwrap().count(), 0);
        assert_eq!(fs::metadata(start.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let below = folder.start(Some(Path::new("a/b"))).await.unwrap();
        assert!(below.is_dir() && below.starts_with(&start));
        fs::write(below.join("file"), "x").unwrap();
        fs::set_permissions(&below, Permissions::from_mode(0o500)).unwrap();
        folder.remove().await.unwrap();
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 0);

        drop(Folder::create(above.path(), &Rng::seeded(2)).await.unwrap());
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_folder_outside_has_to_be_there() {
        let above = tempfile::tempdir().unwrap();
        let folder = Folder::create(above.path(), &Rng::seeded(1)).await.unwrap();
        assert_eq!(folder.start(Some(above.path())).await.unwrap(), above.path());
        let absent = above.path().join("absent");
        let problem = folder.start(Some(&absent)).await.unwrap_err();
        assert!(problem.starts_with("workingDirectory: ") && !absent.exists(), "{problem}");
        let file = above.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(folder.start(Some(&file)).await.is_err());
    }

    #[tokio::test]
    async fn outputs_are_read_from_a_file_alone() {
        let above = tempfile::tempdir().unwrap();
        let folder = Folder::create(above.path(), &Rng::seeded(1)).await.unwrap();
        assert!(folder.read_outputs().await.unwrap().is_empty());
        fs::write(folder.outputs(), "x".repeat(MAX_BYTES * 2)).unwrap();
        assert_eq!(folder.read_outputs().await.unwrap().len(), MAX_BYTES + 1);
        fs::remove_file(folder.outputs()).unwrap();
        assert!(folder.read_outputs().await.is_err());
        fs::create_dir(folder.outputs()).unwrap();
        assert!(folder.read_outputs().await.is_err());
    }
}
