//! Job tokens: what a task may show to others as proof of what it is. Signed with a key whose public half anyone may fetch, so
//! that a service can check one without asking.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use p256::ecdsa::SigningKey;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;

const ISSUER: &str = "rollcall";
const AUDIENCE: &str = "rollcall-job";

/// What stands before a P-256 key of 32 bytes in PKCS#8.
const PKCS8_HEAD: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
];

/// Signs and checks job tokens.
pub struct JobTokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    header: Header,
    validation: Validation,
    jwks: String,
    /// How a task is called outside.
    task_name: fn(i64) -> String,
}

/// What a job token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// `repository:acme/api`.
    sub: String,
    /// The task's number and attempt, for this server.
    jti: String,
    /// The task, as the API names it.
    task: String,
    repository: String,
    attempt: i64,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// What a job token was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobClaims {
    /// The task.
    pub task_id: i64,
    /// The repository's path.
    pub repository: String,
    /// The attempt; the next one gets another token.
    pub attempt: i64,
    /// When it ends at the latest; it is dead when the task ends.
    pub expires_at: Timestamp,
}

#[derive(Serialize)]
struct Jwk<'a> {
    kty: &'static str,
    crv: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    kid: &'a str,
    x: &'a str,
    y: &'a str,
}

impl JobTokens {
    /// Tokens signed with a key made from this secret; `task_name` says how a task is called outside.
    ///
    /// # Errors
    /// When no key can be made of it, which does not happen.
    pub fn new(secret: &SecretString, task_name: fn(i64) -> String) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot make the key of job tokens: {error}");
        let (seed, key) = signing_key(secret).ok_or_else(|| failed(&"no valid key"))?;
        let point = key.verifying_key().to_encoded_point(false);
        let coordinate = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
        let (Some(x), Some(y)) = (point.x(), point.y()) else { return Err(failed(&"no point")) };
        let (x, y) = (coordinate(x), coordinate(y));
        let kid = data_encoding::HEXLOWER.encode(&Sha256::digest(point.as_bytes())[..8]);
        let decoding = DecodingKey::from_ec_components(&x, &y).map_err(|error| failed(&error))?;
        let jwk = Jwk { kty: "EC", crv: "P-256", usage: "sig", alg: "ES256", kid: &kid, x: &x, y: &y };
        let jwks = serde_json::to_string(&serde_json::json!({ "keys": [jwk] })).map_err(|error| failed(&error))?;
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid);
        // The algorithm is fixed here and never taken from the token.
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The library would ask the machine's clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let pkcs8 = [PKCS8_HEAD.as_slice(), &seed].concat();
        Ok(Self { encoding: EncodingKey::from_ec_der(&pkcs8), decoding, header, validation, jwks, task_name })
    }

    /// The public key, as a JSON Web Key Set.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// A token for one attempt of a task.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign(
        &self,
        task_id: i64,
        repository: &str,
        attempt: i64,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<SecretString, jsonwebtoken::errors::Error> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: format!("repository:{repository}"),
            jti: format!("{task_id}.{attempt}"),
            task: (self.task_name)(task_id),
            repository: repository.to_owned(),
            attempt,
            iat: now.as_seconds(),
            nbf: now.as_seconds(),
            exp: (now + lifetime).as_seconds(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.encoding).map(SecretString::from)
    }

    /// Reads a token that was signed here and has not expired. Whether its task still runs is for the database to say.
    pub fn read(&self, token: &SecretString, now: Timestamp) -> Option<JobClaims> {
        let token = token.expose_secret();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        let (task_id, attempt) = claims.jti.split_once('.')?;
        let expires_at = Timestamp::from_micros(claims.exp.saturating_mul(1_000_000));
        (claims.exp > now.as_seconds()).then_some(JobClaims {
            task_id: task_id.parse().ok()?,
            repository: claims.repository,
            attempt: attempt.parse().ok()?,
            expires_at,
        })
    }
}

/// Almost every 32 bytes are a key; where they are not, the next ones are taken.
fn signing_key(secret: &SecretString) -> Option<([u8; 32], SigningKey)> {
    (0..=u8::MAX).find_map(|round| {
        let mut hash = Sha256::new();
        hash.update(b"rollcall job tokens");
        hash.update([round]);
        hash.update(secret.expose_secret().as_bytes());
        let seed: [u8; 32] = hash.finalize().into();
        SigningKey::from_slice(&seed).ok().map(|key| (seed, key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn tokens(secret: &str) -> JobTokens {
        JobTokens::new(&SecretString::from(secret.repeat(32)), |id| format!("task_{id}")).unwrap()
    }

    #[test]
    fn a_token_says_what_it_was_made_for_until_it_expires() {
        let tokens = tokens("a");
        let token = tokens.sign(42, "acme/api", 2, NOW, Duration::from_mins(1)).unwrap();
        let claims = tokens.read(&token, NOW).unwrap();
        assert_eq!((claims.task_id, claims.repository.as_str(), claims.attempt), (42, "acme/api", 2));
        assert_eq!(tokens.read(&token, NOW + Duration::from_mins(1)), None);
    }

    #[test]
    fn anyone_can_check_it_with_the_public_key() {
        let tokens = tokens("a");
        let token = tokens.sign(42, "acme/api", 2, NOW, Duration::from_mins(1)).unwrap();
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(tokens.jwks()).unwrap();
        let header = jsonwebtoken::decode_header(token.expose_secret()).unwrap();
        let jwk = set.find(header.kid.as_deref().unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let key = DecodingKey::from_jwk(jwk).unwrap();
        let claims = jsonwebtoken::decode::<Claims>(token.expose_secret(), &key, &validation).unwrap().claims;
        assert_eq!((claims.task.as_str(), claims.sub.as_str()), ("task_42", "repository:acme/api"));
    }

    #[test]
    fn other_keys_are_refused() {
        let token = tokens("b").sign(42, "acme/api", 2, NOW, Duration::from_mins(1)).unwrap();
        assert_eq!(tokens("a").read(&token, NOW), None);
        assert_eq!(tokens("a").read(&SecretString::from("not.a.jwt"), NOW), None);
    }
}
