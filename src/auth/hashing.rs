//! Argon2id on a bounded number of threads.
//!
//! A password is guessable, so it gets the crate's full cost (about 40 ms). Tokens are 256 random bits, which nobody
//! guesses at any speed: they get small parameters (about 1 ms). Past the queue a caller is told to come back later, and
//! whoever has a session never waits here at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use moka::sync::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use super::secret::{Fingerprint, fingerprint};
use crate::error::{AppError, Result};
use crate::rng::Rng;

/// 1 MiB, one pass: see the module's words on tokens.
const TOKEN_MEMORY_KIB: u32 = 1024;

/// Hashes and checks secrets. Clones share the threads and the memory of what was verified.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

struct Inner {
    rng: Rng,
    threads: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
    /// A hash of nothing anyone knows, with the parameters of tokens: checked in place of a record that does not exist, so
    /// that its absence costs the same time.
    decoy: String,
    verified: Cache<Fingerprint, Verified>,
}

/// What a remembered secret was verified to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The record.
    pub id: i64,
    /// Which of a runner's tokens it is; 0 for secrets that have no successors.
    pub generation: i64,
    /// Whether it is the runner's token before the current one.
    pub previous: bool,
}

fn token_hasher() -> Argon2<'static> {
    let params = Params::new(TOKEN_MEMORY_KIB, 1, 1, None).expect("the parameters of tokens are valid");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl Hasher {
    /// A hasher with so many threads, so long a queue, and room for so many verified secrets.
    ///
    /// # Panics
    /// Never with the parameters that are built in.
    pub fn new(rng: Rng, threads: usize, queue: usize, remembered: u64) -> Self {
        let decoy = token_hasher()
            .hash_password_with_salt(&rng.bytes::<32>(), &rng.bytes::<16>())
            .expect("the parameters of tokens are valid")
            .to_string();
        Self(Arc::new(Inner {
            rng,
            threads: Semaphore::new(threads.max(1)),
            waiting: AtomicUsize::new(0),
            queue,
            decoy,
            verified: Cache::builder().max_capacity(remembered).build(),
        }))
    }

    /// Hashes a token for the database.
    ///
    /// # Errors
    /// `RATE_LIMITED` past the queue.
    pub async fn hash_token(&self, token: &SecretString) -> Result<String> {
        self.hash(token, token_hasher).await
    }

    /// Hashes a password for the database.
    ///
    /// # Errors
    /// `RATE_LIMITED` past the queue.
    pub async fn hash_password(&self, password: &SecretString) -> Result<String> {
        self.hash(password, Argon2::default).await
    }

    async fn hash(&self, secret: &SecretString, hasher: fn() -> Argon2<'static>) -> Result<String> {
        let salt = self.0.rng.bytes::<16>();
        let secret = secret.clone();
        self.on_a_thread(move || {
            hasher()
                .hash_password_with_salt(secret.expose_secret().as_bytes(), &salt)
                .map(|hash| hash.to_string())
                .map_err(|error| AppError::internal(error.to_string()))
        })
        .await?
    }

    /// Whether a secret has this hash. Without a hash it takes the same time and is wrong.
    ///
    /// # Errors
    /// `RATE_LIMITED` past the queue.
    pub async fn verify(&self, secret: &SecretString, hash: Option<&str>) -> Result<bool> {
        let exists = hash.is_some();
        let hash = hash.unwrap_or(&self.0.decoy).to_owned();
        let secret = secret.clone();
        let fits = self
            .on_a_thread(move || {
                // The parameters stand in the hash; the comparison takes constant time.
                PasswordHash::new(&hash).is_ok_and(|hash| {
                    Argon2::default().verify_password(secret.expose_secret().as_bytes(), &hash).is_ok()
                })
            })
            .await?;
        Ok(fits && exists)
    }

    /// Like [`Hasher::verify`] for the secret of a record that is used many times: a right one is remembered.
    ///
    /// # Errors
    /// `RATE_LIMITED` past the queue.
    pub async fn verify_once(&self, secret: &SecretString, id: i64, hash: Option<&str>) -> Result<bool> {
        let key = fingerprint("", secret.expose_secret());
        if self.remembered(&key).is_some_and(|known| known.id == id) {
            return Ok(hash.is_some());
        }
        let fits = self.verify(secret, hash).await?;
        if fits {
            self.remember(key, Verified { id, generation: 0, previous: false });
        }
        Ok(fits)
    }

    /// What a secret was verified to be, if that is remembered.
    pub fn remembered(&self, fingerprint: &Fingerprint) -> Option<Verified> {
        self.0.verified.get(fingerprint)
    }

    /// Remembers a verified secret by its digest.
    pub fn remember(&self, fingerprint: Fingerprint, verified: Verified) {
        self.0.verified.insert(fingerprint, verified);
    }

    /// Checks that wait for a thread at this moment, or have one.
    #[cfg(test)]
    fn load(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    async fn on_a_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _place = self.take_place()?;
        let _thread = self.0.threads.acquire().await.map_err(AppError::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(AppError::internal)
    }

    fn take_place(&self) -> Result<Place<'_>> {
        let place = Place(&self.0.waiting);
        if self.0.waiting.fetch_add(1, Ordering::Relaxed) >= self.0.queue {
            return Err(AppError::rate_limited(
                1,
                "Too many credentials are being checked at once. Try again in a second; runners should open a session \
                 (openRunnerSession), which is not subject to this.",
            ));
        }
        Ok(place)
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[tokio::test]
    async fn only_the_right_secret_fits() {
        let hasher = Hasher::new(Rng::seeded(1), 2, 10, 10);
        let hash = hasher.hash_token(&secret("right")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=1024,t=1,p=1$"), "{hash}");
        assert!(hasher.verify(&secret("right"), Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&secret("wrong"), Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&secret("right"), None).await.unwrap());
        let password = hasher.hash_password(&secret("right")).await.unwrap();
        assert!(password.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{password}");
        assert!(hasher.verify(&secret("right"), Some(&password)).await.unwrap());
    }

    #[tokio::test]
    async fn past_the_queue_a_caller_is_told_to_wait() {
        let hasher = Hasher::new(Rng::seeded(1), 1, 2, 10);
        let (one, two, three) = (secret("1"), secret("2"), secret("3"));
        let (one, two, three) =
            tokio::join!(hasher.hash_token(&one), hasher.hash_token(&two), hasher.hash_token(&three));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(three.unwrap_err().code, crate::error::ErrorCode::RateLimited);
        assert_eq!(hasher.load(), 0);
    }
}
