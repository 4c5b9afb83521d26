//! Runner sessions: JWTs that are checked by signature and token generation alone.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::rng::Rng;

const ISSUER: &str = "rollcall";
const AUDIENCE: &str = "rollcall-runner-session";

/// Signs and checks sessions. Clones are cheap enough for a request, but nobody needs one.
pub struct Sessions {
    encoding: EncodingKey,
    decoding: DecodingKey,
    header: Header,
    validation: Validation,
    lifetime: Duration,
}

/// What a session says of the runner that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The runner's identifier.
    sub: String,
    /// The generation of the runner's token when the session was opened.
    #[serde(rename = "gen")]
    generation: i64,
    /// Whether it was opened with the token before that one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    prev: bool,
    iat: i64,
    exp: i64,
}

/// A session that was signed here and has not expired. Whether the generation still holds is for presence to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The runner.
    pub runner_id: i64,
    /// The generation of its token at the time.
    pub generation: i64,
    /// Whether it was opened with the token before that one.
    pub previous: bool,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why a session is refused. All of it is UNAUTHENTICATED; the words help whoever writes a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The signature, the algorithm, the issuer or the form is not ours.
    #[error("the bearer token is neither an access token (rc_pat_…) nor a runner session of this server")]
    NotOurs,
    /// It was ours.
    #[error("the runner session has expired; open a new one with openRunnerSession")]
    Expired,
}

impl Sessions {
    /// Sessions signed with this key (32 bytes or more).
    pub fn new(key: &SecretString, lifetime: Duration) -> Self {
        let bytes = key.expose_secret().as_bytes();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)[..4]));
        // The algorithm is fixed here and never taken from the token.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The library would ask the machine's clock.
        validation.validate_exp = false;
        Self {
            encoding: EncodingKey::from_secret(bytes),
            decoding: DecodingKey::from_secret(bytes),
            header,
            validation,
            lifetime,
        }
    }

    /// Opens a session for a runner.
    ///
    /// # Errors
    /// When the claims cannot be signed, which does not happen.
    pub fn open(
        &self,
        runner_id: i64,
        generation: i64,
        previous: bool,
        now: Timestamp,
    ) -> Result<(SecretString, Timestamp), jsonwebtoken::errors::Error> {
        let expires_at = now + self.lifetime;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: runner_id.to_string(),
            generation,
            prev: previous,
            iat: now.as_seconds(),
            exp: expires_at.as_seconds(),
        };
        let token = jsonwebtoken::encode(&self.header, &claims, &self.encoding)?;
        Ok((SecretString::from(token), expires_at))
    }

    /// Reads a session.
    ///
    /// # Errors
    /// When it is not one of ours, or over.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Session, SessionError> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| SessionError::NotOurs)?
            .claims;
        let runner_id = claims.sub.parse().map_err(|_| SessionError::NotOurs)?;
        if claims.exp <= now.as_seconds() {
            return Err(SessionError::Expired);
        }
        Ok(Session {
            runner_id,
            generation: claims.generation,
            previous: claims.prev,
            expires_at: Timestamp::from_micros(claims.exp.saturating_mul(1_000_000)),
        })
    }
}

/// The key in a file, made at the first start with mode 0600.
///
/// # Errors
/// When the file can neither be read nor made, or holds no key.
pub fn load_or_make_key(path: &Path, rng: &Rng) -> std::io::Result<SecretString> {
    match std::fs::read_to_string(path) {
        Ok(key) if key.trim().len() >= 32 => Ok(SecretString::from(key.trim().to_owned())),
        Ok(_) => Err(std::io::Error::other(format!(
            "{} is too short to be a key; delete it to have a new one made (runners then open new sessions by themselves)",
            path.display()
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = data_encoding::HEXLOWER.encode(&rng.bytes::<32>());
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(key.as_bytes())?;
            file.sync_all()?;
            Ok(SecretString::from(key))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(key: &str) -> Sessions {
        Sessions::new(&SecretString::from(key.repeat(32)), Duration::from_mins(1))
    }

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    #[test]
    fn a_session_is_read_until_it_expires() {
        let sessions = sessions("a");
        let (token, expires_at) = sessions.open(42, 3, false, NOW).unwrap();
        let session = sessions.check(token.expose_secret(), NOW).unwrap();
        assert_eq!((session.runner_id, session.generation, session.previous), (42, 3, false));
        assert_eq!(sessions.check(token.expose_secret(), expires_at), Err(SessionError::Expired));
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
        let ours = sessions("a");
        let (theirs, _) = sessions("b").open(42, 3, false, NOW).unwrap();
        assert_eq!(ours.check(theirs.expose_secret(), NOW), Err(SessionError::NotOurs));

        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: "42".into(),
            generation: 3,
            prev: false,
            iat: 0,
            exp: i64::MAX / 2_000_000,
        };
        let key = EncodingKey::from_secret("a".repeat(32).as_bytes());
        let stronger = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &key).unwrap();
        assert_eq!(ours.check(&stronger, NOW), Err(SessionError::NotOurs));
        let elsewhere = Claims { aud: "another".into(), ..claims.clone() };
        let elsewhere = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &elsewhere, &key).unwrap();
        assert_eq!(ours.check(&elsewhere, NOW), Err(SessionError::NotOurs));

        let part = |json: &str| data_encoding::BASE64URL_NOPAD.encode(json.as_bytes());
        let claims = serde_json::to_string(&claims).unwrap();
        let unsigned = format!("{}.{}.", part(r#"{"alg":"none","typ":"JWT"}"#), part(&claims));
        assert_eq!(ours.check(&unsigned, NOW), Err(SessionError::NotOurs));
        assert_eq!(ours.check("not.a.jwt", NOW), Err(SessionError::NotOurs));
    }
}
