//! Scalars of our own.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};

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
pub(super) struct Json(Value);

/// Any value of JSON but null: an object, a list, a string, a number, true or false. It comes back as it was given.
#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        if value == Value::Null {
            return Err(InputValueError::expected_type(value));
        }
        if is_json(&value) {
            return Ok(Self(value));
        }
        Err(InputValueError::custom("a word without quotes is no JSON; write it as a string"))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
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
    pub(super) fn from_text(text: &str) -> Result<Self> {
        serde_json::from_str(text).map(Self).map_err(AppError::internal)
    }

    /// The value as it is stored.
    pub(super) fn to_text(&self) -> Result<String> {
        serde_json::to_string(&self.0).map_err(AppError::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_as_it_was_given() {
        for text in [
            r#"{"z":1,"a":{"y":[null,-1.5,18446744073709551615],"":"\u0000 \"ß\""}}"#,
            r#"{"not a name":true}"#,
            "[]",
            r#""text""#,
            "0",
            "false",
        ] {
            let json = Json::parse(Json::from_text(text).unwrap().to_value()).unwrap();
            let stored: serde_json::Value = serde_json::from_str(&json.to_text().unwrap()).unwrap();
            assert_eq!(stored, serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
        let word = Value::Enum(async_graphql::Name::new("WORD"));
        assert!(Json::parse(word.clone()).is_err());
        assert!(Json::parse(Value::List(vec![Value::Null, word])).is_err());
        assert!(Json::parse(Value::Null).is_err());
    }
}
