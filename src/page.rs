//! Keyset pages, in terms that neither a database nor GraphQL knows.

/// The place of a row in an ordered list: its sort key, then its id, so that no row is on two pages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The value the list is ordered by.
    pub key: SortKey,
    /// The row's identifier, the last key of every order.
    pub id: i64,
}

/// A value that lists are ordered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SortKey {
    /// The order of the identifiers, which is that of creation.
    Id,
    /// A text, compared byte by byte.
    Text(String),
    /// A number, such as a time.
    Number(i64),
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageRequest {
    /// At most this many rows.
    pub limit: usize,
    /// Only rows after this place.
    pub after: Option<Position>,
    /// Only rows before this place.
    pub before: Option<Position>,
    /// Take the last rows of what is left instead of the first.
    pub from_end: bool,
}

impl PageRequest {
    /// The first rows of a list.
    pub const fn first(limit: usize) -> Self {
        Self { limit, after: None, before: None, from_end: false }
    }

    /// Makes a page of rows that a query found in the order in which it walked the list, one more than the limit if there
    /// are more.
    pub fn page<T>(&self, mut rows: Vec<T>) -> Page<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        if self.from_end {
            rows.reverse();
            Page { items: rows, has_previous: more, has_next: self.before.is_some() }
        } else {
            Page { items: rows, has_previous: self.after.is_some(), has_next: more }
        }
    }
}

/// A part of a list, in the list's order.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether there are rows before them.
    pub has_previous: bool,
    /// Whether there are rows after them.
    pub has_next: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_too_many_says_that_there_are_more() {
        let forward = PageRequest::first(2);
        let page = forward.page(vec![1, 2, 3]);
        assert_eq!((page.items, page.has_previous, page.has_next), (vec![1, 2], false, true));
        let backward = PageRequest { from_end: true, ..forward };
        let page = backward.page(vec![9, 8, 7]);
        assert_eq!((page.items, page.has_previous, page.has_next), (vec![8, 9], true, false));
    }
}
