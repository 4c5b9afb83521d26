//! Scalars of our own.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::error::{AppError, Result};

/// A time, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime(pub(super) Timestamp);

/// A time in UTC as RFC 3339 has it, with microseconds: `2026-01-31T12:00:00.000000Z`.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/andimarek/date-time")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else { return Err(InputValueError::expected_type(value)) };
        chrono::DateTime::parse_from_rfc3339(text)
            .map(|time| Self(Timestamp::from_micros(time.timestamp_micros())))
            .map_err(|_| InputValueError::custom("expected a time such as 2026-01-31T12:00:00Z"))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339())
    }
}

impl DateTime {
    /// A time as it is stored.
    pub(super) const fn from_micros(micros: i64) -> Self {
        Self(Timestamp::from_micros(micros))
    }
}

impl From<Timestamp> for DateTime {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

/// What the server carries from one client to another and does not look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// As it came with a request.
    Given(Value),
    /// As it is stored. It stays the text that it is until the answer is written: as values, a list of small numbers
    /// takes some forty times as much memory.
    Stored(Bytes),
}

/// Any value of JSON but null: an object, a list, a string, a number, true or false. It comes back as it was given.
#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        if value == Value::Null {
            return Err(InputValueError::expected_type(value));
        }
        if is_json(&value) {
            return Ok(Self::Given(value));
        }
        Err(InputValueError::custom("a word without quotes is no JSON; write it as a string"))
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Given(value) => value.clone(),
            // Nothing else in an answer is of this kind, so whoever writes it knows what it is.
            Self::Stored(text) => Value::Binary(text.clone()),
        }
    }
}

/// Whether a value is one of JSON: in a document there are words, too.
fn is_json(value: &Value) -> bool {
    match value {
        Value::Enum(_) | Value::Binary(_) => false,
        Value::List(values) => values.iter().all(is_json),
        Value::Object(fields) => fields.values().all(is_json),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Boolean(_) => true,
    }
}

impl Json {
    /// A value that was stored.
    pub(super) fn stored(text: Bytes) -> Result<Self> {
        raw(&text).map_err(AppError::internal)?;
        Ok(Self::Stored(text))
    }

    /// The value as it is stored.
    pub(super) fn to_text(&self) -> Result<String> {
        match self {
            Self::Given(value) => serde_json::to_string(value).map_err(AppError::internal),
            Self::Stored(text) => String::from_utf8(text.to_vec()).map_err(AppError::internal),
        }
    }
}

/// The JSON of a stored value: checked, and otherwise left alone.
pub(super) fn raw(text: &[u8]) -> serde_json::Result<&RawValue> {
    serde_json::from_slice(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_stored_as_it_was_given() {
        for text in [
            r#"{"z":1,"a":{"y":[null,-1.5,18446744073709551615],"":"\u0000 \"ß\""}}"#,
            r#"{"not a name":true}"#,
            "[]",
            r#""text""#,
            "0",
            "false",
        ] {
            let given = Json::parse(serde_json::from_str(text).unwrap()).unwrap();
            let stored = given.to_text().unwrap();
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&stored).unwrap(),
                serde_json::from_str::<serde_json::Value>(text).unwrap()
            );
            let json = Json::stored(Bytes::from(stored.clone())).unwrap();
            assert_eq!(json.to_text().unwrap(), stored);
            assert_eq!(json.to_value(), Value::Binary(Bytes::from(stored)));
        }
        for broken in ["", r#"{"run": "#, "1 2", "word"] {
            assert!(Json::stored(Bytes::from(broken)).is_err(), "{broken:?}");
        }
        // Nobody can give what is written without a look.
        assert!(Json::parse(Value::Binary(Bytes::from("1"))).is_err());
        let word = Value::Enum(async_graphql::Name::new("WORD"));
        assert!(Json::parse(word.clone()).is_err());
        assert!(Json::parse(Value::List(vec![Value::Null, word])).is_err());
        assert!(Json::parse(Value::Null).is_err());
    }
}
