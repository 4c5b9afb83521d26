//! Who is asking: secrets, their hashes, sessions, and the [`Actor`] that all rules are about.

mod actor;
mod authenticate;
mod hashing;
mod job_token;
mod secret;
mod session;

pub use actor::{Actor, RunnerActor, TokenActor, UserActor, describe};
pub use authenticate::{Authenticator, Credentials, RunnerDirectory, TokenState};
pub use hashing::Hasher;
pub use job_token::{JobClaims, JobTokens};
pub use secret::{SecretError, SecretKind, mint, parse};
pub use session::{Sessions, load_or_make_key};
