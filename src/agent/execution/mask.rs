//! Hides secrets in what a task says.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::lines::clean;

const STARS: &str = "***";

/// A shorter line of a secret that has several is not hidden: it may well be a brace.
const SHORTEST_LINE: usize = 4;

/// The secrets of a task, as they look in its lines.
pub(super) struct Mask {
    secrets: BTreeSet<String>,
    longest: usize,
}

impl Mask {
    /// Hides these texts, and each line of those that have several.
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found = BTreeSet::new();
        for secret in secrets {
            // Whatever reads a file takes the end of its last line for a part of the secret.
            let secret = secret.trim_matches(['\n', '\r']);
            let is_single = !secret.contains('\n');
            for line in secret.split('\n') {
                let line = clean(line.trim_end_matches('\r').as_bytes());
                if !line.is_empty() && (is_single || line.chars().count() >= SHORTEST_LINE) {
                    found.insert(line);
                }
            }
        }
        let longest = found.iter().map(String::len).max().unwrap_or(0);
        Self { secrets: found, longest }
    }

    /// How many bytes the longest secret has.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// A line without the secrets.
    pub(super) fn apply<'t>(&self, line: &'t str) -> Cow<'t, str> {
        let places = self.places(line);
        if places.is_empty() { Cow::Borrowed(line) } else { Cow::Owned(starred(line, &places)) }
    }

    /// The beginning of a line whose end is not known yet, without the secrets, and the rest of it, in which one may have
    /// begun.
    pub(super) fn apply_to_beginning<'t>(&self, line: &'t str) -> (String, &'t str) {
        let places = self.places(line);
        // A secret that ends later begins after this.
        let mut end = line.floor_char_boundary(line.len().saturating_sub(self.longest.saturating_sub(1)));
        if let Some(cut) = places.iter().find(|place| place.start < end && end < place.end) {
            // One that fills the line from its beginning has to go at some time.
            end = if cut.start > 0 { cut.start } else { cut.end };
        }
        let before: Vec<Range<usize>> = places.into_iter().filter(|place| place.end <= end).collect();
        (starred(&line[..end], &before), &line[end..])
    }

    /// Where secrets stand. Those that overlap are one place: of two that do, neither may be left in part.
    fn places(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for secret in &self.secrets {
            let mut from = 0;
            while let Some(at) = text[from..].find(secret.as_str()) {
                let start = from + at;
                found.push(start..start + secret.len());
                from = text.ceil_char_boundary(start + 1);
            }
        }
        found.sort_unstable_by_key(|place| place.start);
        let mut places: Vec<Range<usize>> = Vec::new();
        for place in found {
            match places.last_mut() {
                Some(last) if place.start < last.end => last.end = last.end.max(place.end),
                _ => places.push(place),
            }
        }
        places
    }
}

fn starred(text: &str, places: &[Range<usize>]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut from = 0;
    for place in places {
        result.push_str(&text[from..place.start]);
        result.push_str(STARS);
        from = place.end;
    }
    result.push_str(&text[from..]);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], line: &str) -> String {
        Mask::new(secrets.iter().copied()).apply(line).into_owned()
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        assert_eq!(masked(&["hunter2"], "a hunter2, hunter2b"), "a ***, ***b");
        assert_eq!(masked(&["hunter2"], "hunter"), "hunter");
        assert_eq!(masked(&["é"], "ééa"), "******a");
        assert_eq!(masked(&["", "\n"], "nothing"), "nothing");
        assert_eq!(masked(&[], "nothing"), "nothing");
    }

    #[test]
    fn of_secrets_that_overlap_nothing_is_left() {
        assert_eq!(masked(&["abcd", "cdef"], "xabcdefx"), "x***x");
        assert_eq!(masked(&["aba"], "ababa"), "***");
        assert_eq!(masked(&["token", "token-long"], "token-long"), "***");
    }

    #[test]
    fn each_line_of_a_secret_is_hidden_unless_it_is_short() {
        let key = "-----BEGIN\r\nMIIB\n}\n-----END\n";
        assert_eq!(masked(&[key], "MIIB"), "***");
        assert_eq!(masked(&[key], "x-----BEGINx"), "x***x");
        assert_eq!(masked(&[key], "-----END"), "***");
        assert_eq!(masked(&[key], "}"), "}");
        // One line that only ends as such is one all the same, however short.
        assert_eq!(masked(&["abc\n"], "abc"), "***");
    }

    #[test]
    fn a_secret_looks_as_it_does_in_a_line() {
        assert_eq!(masked(&["a\u{1}b"], "a\u{fffd}b"), "***");
    }

    #[test]
    fn a_secret_that_is_not_complete_is_kept_back() {
        let mask = Mask::new(["hunter2"]);
        assert_eq!(mask.apply_to_beginning("abc hunter2 text hunt"), ("abc *** tex".to_owned(), "t hunt"));
        assert_eq!(mask.apply_to_beginning("some text hunter2 "), ("some text ".to_owned(), "hunter2 "));
        assert_eq!(mask.apply_to_beginning("short"), (String::new(), "short"));
        assert_eq!(Mask::new([]).apply_to_beginning("all"), ("all".to_owned(), ""));
        // What consists of nothing else goes all the same.
        assert_eq!(Mask::new(["aa"]).apply_to_beginning("aaaa"), ("***".to_owned(), ""));
    }
}
