//! Relay pages: the one place that reads their arguments and writes their cursors.

use data_encoding::BASE64URL_NOPAD;

use crate::error::{AppError, Result};
use crate::page::{PageRequest, Position, SortKey};

/// Rows on a page when nothing is said.
pub(super) const DEFAULT_PAGE: i32 = 30;
/// Most rows on a page.
pub(super) const LARGEST_PAGE: i32 = 100;

/// The arguments of a page, as given.
#[derive(Clone, Debug, Default)]
pub(super) struct PageArgs {
    pub(super) first: Option<i32>,
    pub(super) after: Option<String>,
    pub(super) last: Option<i32>,
    pub(super) before: Option<String>,
}

impl PageArgs {
    /// Checks the arguments for a list that cursors know by `list`: a cursor of another list, or of another order of the
    /// same, is refused.
    pub(super) fn request(&self, list: &str, key: KeyKind) -> Result<PageRequest> {
        let (field, limit, from_end) = match (self.first, self.last) {
            (Some(_), Some(_)) => {
                return Err(AppError::bad_input(
                    "first",
                    "first and last cannot be given together. Take first to page forward, last to page backward.",
                ));
            }
            (None, Some(last)) => ("last", last, true),
            (first, None) => ("first", first.unwrap_or(DEFAULT_PAGE), false),
        };
        if !(0..=LARGEST_PAGE).contains(&limit) {
            return Err(AppError::bad_input(
                field,
                format!(
                    "{field} is from 0 to {LARGEST_PAGE}, not {limit}. Page through longer lists with after or before."
                ),
            ));
        }
        Ok(PageRequest {
            limit: usize::try_from(limit).unwrap_or(0),
            after: self.after.as_deref().map(|cursor| decode("after", list, key, cursor)).transpose()?,
            before: self.before.as_deref().map(|cursor| decode("before", list, key, cursor)).transpose()?,
            from_end,
        })
    }
}

/// What a list is ordered by, which its cursors have to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Id,
    Text,
    Number,
}

/// Writes the place of a row in a list.
pub(super) fn encode(list: &str, position: &Position) -> String {
    let key = match &position.key {
        SortKey::Id => String::new(),
        SortKey::Text(text) => format!("t{text}"),
        SortKey::Number(number) => format!("n{number}"),
    };
    BASE64URL_NOPAD.encode(format!("{list}:{}:{key}", position.id).as_bytes())
}

fn decode(field: &'static str, list: &str, kind: KeyKind, cursor: &str) -> Result<Position> {
    let malformed = || {
        AppError::bad_input(
            field,
            format!(
                "{field} is not a cursor of this list in this order. Take endCursor or startCursor from its pageInfo."
            ),
        )
    };
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).map_err(|_| malformed())?;
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    let rest = text.strip_prefix(list).and_then(|rest| rest.strip_prefix(':')).ok_or_else(malformed)?;
    let (id, key) = rest.split_once(':').ok_or_else(malformed)?;
    let key = match (kind, key.split_at_checked(1)) {
        (KeyKind::Id, None) => SortKey::Id,
        (KeyKind::Text, Some(("t", text))) if !text.contains('\0') => SortKey::Text(text.to_owned()),
        (KeyKind::Number, Some(("n", number))) => SortKey::Number(number.parse().map_err(|_| malformed())?),
        _ => return Err(malformed()),
    };
    Ok(Position { key, id: id.parse().map_err(|_| malformed())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_of_their_list() {
        for (kind, key) in [
            (KeyKind::Id, SortKey::Id),
            (KeyKind::Text, SortKey::Text("a:ß\u{1f3c3}".into())),
            (KeyKind::Text, SortKey::Text(String::new())),
            (KeyKind::Number, SortKey::Number(-5)),
        ] {
            let place = Position { key, id: 77 };
            let cursor = encode("runners.name", &place);
            assert_eq!(decode("after", "runners.name", kind, &cursor).unwrap(), place);
            assert!(decode("after", "runners", kind, &cursor).is_err());
            assert!(decode("after", "tokens", kind, &cursor).is_err());
            for other in [KeyKind::Id, KeyKind::Text, KeyKind::Number].into_iter().filter(|other| *other != kind) {
                assert!(decode("after", "runners.name", other, &cursor).is_err());
            }
        }
        for wrong in ["", "x", "%%%", "YWJj", &"A".repeat(10_000)] {
            assert!(decode("after", "runners", KeyKind::Id, wrong).is_err());
        }
    }

    #[test]
    fn page_sizes_are_bounded() {
        let args = |first, last| PageArgs { first, last, ..PageArgs::default() };
        assert_eq!(args(None, None).request("x", KeyKind::Id).unwrap().limit, 30);
        assert_eq!(args(Some(100), None).request("x", KeyKind::Id).unwrap().limit, 100);
        assert!(args(None, Some(5)).request("x", KeyKind::Id).unwrap().from_end);
        for (first, last, field) in [
            (Some(101), None, "first"),
            (Some(-1), None, "first"),
            (None, Some(101), "last"),
            (Some(1), Some(1), "first"),
        ] {
            assert_eq!(args(first, last).request("x", KeyKind::Id).unwrap_err().field.as_deref(), Some(field));
        }
    }
}
