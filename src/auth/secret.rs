//! The secrets that Rollcall gives out: `rc_pat_…`, `rc_reg_…`, `rc_run_…`.
//!
//! After the prefix stand 13 characters of a public identifier (where the record is found, so that nothing is ever scanned),
//! 52 of secret (256 random bits), and 7 of checksum, so that a typing mistake is told from a wrong secret without asking
//! the database and secret scanners can be sure of what they found.

use data_encoding::{Encoding, Specification};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use crate::rng::Rng;

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// Lets a person or a script act as a user.
    AccessToken,
    /// Lets a machine register a runner.
    RegistrationToken,
    /// Lets a runner show that it is itself.
    RunnerToken,
}

impl SecretKind {
    const ALL: [Self; 3] = [Self::AccessToken, Self::RegistrationToken, Self::RunnerToken];

    /// What every secret of this kind begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::AccessToken => "rc_pat_",
            Self::RegistrationToken => "rc_reg_",
            Self::RunnerToken => "rc_run_",
        }
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "an access token",
            Self::RegistrationToken => "a registration token",
            Self::RunnerToken => "a runner token",
        }
    }
}

/// A SHA-256 digest, under which a verified secret is remembered.
pub(super) type Fingerprint = [u8; 32];

/// A secret that has the form of one; whether it is right is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// What it is for.
    pub kind: SecretKind,
    /// The public identifier inside.
    pub id: i64,
}

/// Why a text is not a secret of the kind that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It has no prefix of ours.
    #[error("it has to begin with {}", .0.prefix())]
    NotOne(SecretKind),
    /// It is one of another kind.
    #[error("it is {}, but {} is needed here ({}…)", .0.name(), .1.name(), .1.prefix())]
    OtherKind(SecretKind, SecretKind),
    /// The checksum does not fit.
    #[error("it is incomplete or mistyped (its checksum does not fit); copy it again")]
    Damaged,
}

const ID_LENGTH: usize = 13;
const RANDOM_LENGTH: usize = 52;
const CHECKSUM_LENGTH: usize = 7;

fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    specification.encoding().expect("the alphabet is a valid one")
}

/// Makes a new secret around a public identifier.
pub fn mint(kind: SecretKind, id: i64, rng: &Rng) -> SecretString {
    let base32 = base32();
    let mut text = String::with_capacity(7 + ID_LENGTH + RANDOM_LENGTH + CHECKSUM_LENGTH);
    text.push_str(kind.prefix());
    base32.encode_append(&id.to_be_bytes(), &mut text);
    base32.encode_append(&rng.bytes::<32>(), &mut text);
    let checksum = crc32fast::hash(text.as_bytes());
    base32.encode_append(&checksum.to_be_bytes(), &mut text);
    SecretString::from(text)
}

/// Reads a secret of one kind, without saying whether it is right.
pub fn parse(expected: SecretKind, text: &str) -> Result<Presented, SecretError> {
    let found = SecretKind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()));
    let kind = found.ok_or(SecretError::NotOne(expected))?;
    if kind != expected {
        return Err(SecretError::OtherKind(kind, expected));
    }
    let prefix = kind.prefix().len();
    let length = prefix + ID_LENGTH + RANDOM_LENGTH + CHECKSUM_LENGTH;
    if text.len() != length || !text.is_ascii() {
        return Err(SecretError::Damaged);
    }
    let (body, checksum) = text.split_at(length - CHECKSUM_LENGTH);
    let base32 = base32();
    let checksum = base32.decode(checksum.as_bytes()).map_err(|_| SecretError::Damaged)?;
    if checksum != crc32fast::hash(body.as_bytes()).to_be_bytes() {
        return Err(SecretError::Damaged);
    }
    let id = base32.decode(&body.as_bytes()[prefix..prefix + ID_LENGTH]).map_err(|_| SecretError::Damaged)?;
    let id = <[u8; 8]>::try_from(id.as_slice()).map_err(|_| SecretError::Damaged)?;
    Ok(Presented { kind, id: i64::from_be_bytes(id) })
}

/// The digest of a secret, and of the name it was shown with.
pub(super) fn fingerprint(name: &str, secret: &str) -> Fingerprint {
    let mut digest = Sha256::new();
    digest.update(name.as_bytes());
    digest.update([0]);
    digest.update(secret.as_bytes());
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_secret_carries_its_identifier() {
        let rng = Rng::seeded(7);
        for id in [1, 42, i64::MAX] {
            let secret = mint(SecretKind::RunnerToken, id, &rng);
            let presented = parse(SecretKind::RunnerToken, secret.expose_secret()).unwrap();
            assert_eq!((presented.kind, presented.id), (SecretKind::RunnerToken, id));
        }
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let secret = mint(SecretKind::AccessToken, 5, &Rng::seeded(1));
        let text = secret.expose_secret();
        for place in 7..text.len() {
            let mut wrong = text.as_bytes().to_vec();
            wrong[place] = if wrong[place] == b'0' { b'1' } else { b'0' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(parse(SecretKind::AccessToken, &wrong), Err(SecretError::Damaged), "{place}");
        }
        for wrong in ["", "rc_pat_", &text[..50], &format!("{text}0"), &text.to_uppercase()] {
            assert!(parse(SecretKind::AccessToken, wrong).is_err());
        }
    }

    #[test]
    fn another_kind_is_named() {
        let secret = mint(SecretKind::AccessToken, 5, &Rng::seeded(1));
        let error = parse(SecretKind::RegistrationToken, secret.expose_secret()).unwrap_err();
        assert!(error.to_string().starts_with("it is an access token, but a registration token is needed"));
    }
}
