//! What names, labels and the like may be made of. Each refusal names the input field and says what would do.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::error::{AppError, Result};

/// Longest login, as in Gitea.
const LONGEST_LOGIN: usize = 40;
/// Longest repository name, as in Gitea.
const LONGEST_REPOSITORY: usize = 100;
/// Longest name of a runner or of an account as it is shown, in characters.
const LONGEST_NAME: usize = 255;
/// Longest description, note or reason, in characters.
const LONGEST_TEXT: usize = 2_000;
/// Longest label, in bytes.
const LONGEST_LABEL: usize = 255;
/// Most labels of a runner, a token or a task.
pub const MOST_LABELS: usize = 100;
/// Longest text to search for, in characters.
const LONGEST_SEARCH: usize = 100;
/// Most networks of a token.
const MOST_NETWORKS: usize = 100;
/// Shortest password, in characters.
const SHORTEST_PASSWORD: usize = 8;
/// Longest password, in bytes: Argon2 would take any, for a price.
const LONGEST_PASSWORD: usize = 256;

/// A login: letters, digits, and single `-`, `_` or `.` between them.
pub fn login(field: &'static str, text: &str) -> Result<String> {
    let is_mark = |c: char| matches!(c, '-' | '_' | '.');
    let fits = text.len() <= LONGEST_LOGIN
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || is_mark(c))
        && !text.chars().zip(text.chars().skip(1)).any(|(a, b)| is_mark(a) && is_mark(b));
    if fits {
        return Ok(text.to_owned());
    }
    Err(AppError::bad_input(
        field,
        format!(
            "A login has 1 to {LONGEST_LOGIN} characters: letters and digits (A to Z, 0 to 9), with single -, _ or . between \
             them, such as build-team."
        ),
    ))
}

/// A repository's name: letters, digits, `-`, `_` and `.`.
pub fn repository(field: &'static str, text: &str) -> Result<String> {
    let fits = (1..=LONGEST_REPOSITORY).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && text != "."
        && text != ".."
        && !text.to_ascii_lowercase().ends_with(".git");
    if fits {
        return Ok(text.to_owned());
    }
    Err(AppError::bad_input(
        field,
        format!(
            "A repository's name has 1 to {LONGEST_REPOSITORY} characters: letters, digits, -, _ and .; it does not end in \
             .git."
        ),
    ))
}

/// A name that is shown to people, in any script.
pub fn display_name(field: &'static str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(AppError::bad_input(field, "The name is empty. Give one that people will recognize."));
    }
    let length = text.chars().count();
    if length > LONGEST_NAME {
        return Err(AppError::bad_input(
            field,
            format!("The name has {length} characters; at most {LONGEST_NAME} are allowed."),
        ));
    }
    without_invisible(field, text, false)?;
    Ok(text.to_owned())
}

/// A text of several lines, possibly empty.
pub fn text(field: &'static str, text: &str) -> Result<String> {
    let length = text.chars().count();
    if length > LONGEST_TEXT {
        return Err(AppError::bad_input(
            field,
            format!("The text has {length} characters; at most {LONGEST_TEXT} are allowed."),
        ));
    }
    without_invisible(field, text, true)?;
    Ok(text.to_owned())
}

/// A short word that a machine says of itself, such as its version.
pub fn machine_word(field: &'static str, word: Option<&str>) -> Result<Option<String>> {
    match word.map(str::trim) {
        None | Some("") => Ok(None),
        Some(word) if word.len() > LONGEST_NAME => {
            Err(AppError::bad_input(field, format!("At most {LONGEST_NAME} bytes are allowed here.")))
        }
        Some(word) => {
            without_invisible(field, word, false)?;
            Ok(Some(word.to_owned()))
        }
    }
}

/// Control characters break terminals and logs, and those that turn the direction of writing make one name look like
/// another. Letters of right-to-left scripts are welcome.
fn without_invisible(field: &'static str, text: &str, lines: bool) -> Result<()> {
    let is_turn =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_line = |c: char| lines && matches!(c, '\n' | '\r' | '\t');
    let found = text.chars().find(|c| (c.is_control() && !is_line(*c)) || is_turn(*c) || *c == '\u{feff}');
    match found {
        None => Ok(()),
        Some(found) => Err(AppError::bad_input(
            field,
            format!(
                "The text has the invisible character U+{:04X}; control characters and marks that turn the direction of \
                 writing are not allowed. Remove it.",
                u32::from(found)
            ),
        )),
    }
}

/// Labels, sorted and without repeats.
pub fn labels(field: &'static str, labels: &[String]) -> Result<Vec<String>> {
    if labels.len() > MOST_LABELS {
        return Err(AppError::bad_input(
            field,
            format!("There are {} labels; at most {MOST_LABELS} are allowed.", labels.len()),
        ));
    }
    let mut known = Vec::with_capacity(labels.len());
    for label in labels {
        let fits = (1..=LONGEST_LABEL).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_graphic() && !matches!(c, ',' | '"' | '\'' | '\\' | '`'));
        if !fits {
            let mut shown = String::new();
            for c in label.chars().take(40) {
                // Escaped, since the very characters that are refused would be shown.
                let _ = write!(shown, "{}", c.escape_default());
            }
            return Err(AppError::bad_input(
                field,
                format!(
                    "The label \"{shown}\" cannot be used: a label has 1 to {LONGEST_LABEL} visible ASCII characters, without \
                     spaces, commas, quotes or backslashes, such as linux-x64 or gpu:a100."
                ),
            ));
        }
        known.push(label.clone());
    }
    known.sort_unstable();
    known.dedup();
    Ok(known)
}

/// A text to search for in names; nothing when it is empty.
pub fn search(field: &'static str, text: Option<&str>) -> Result<Option<String>> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().count() > LONGEST_SEARCH) {
        let message = format!("The text to search for has more than {LONGEST_SEARCH} characters. Give a part of it.");
        return Err(AppError::bad_input(field, message));
    }
    if text.is_some_and(|text| text.contains('\0')) {
        return Err(AppError::bad_input(field, "The text to search for has the character U+0000, which no name has."));
    }
    Ok(text.map(str::to_owned))
}

/// Networks in CIDR notation.
pub fn networks(field: &'static str, networks: &[String]) -> Result<Vec<IpNet>> {
    if networks.len() > MOST_NETWORKS {
        return Err(AppError::bad_input(field, format!("At most {MOST_NETWORKS} networks are allowed.")));
    }
    networks
        .iter()
        .map(|network| {
            crate::config::parse_cidr(network.trim()).map_err(|_| {
                let shown: String = network.chars().take(60).collect();
                AppError::bad_input(
                    field,
                    format!("{shown:?} is not a network in CIDR notation, such as 10.0.0.0/8 or 2001:db8::/32."),
                )
            })
        })
        .collect()
}

/// A password: length is what counts.
pub fn password(field: &'static str, password: &str) -> Result<()> {
    if password.chars().count() < SHORTEST_PASSWORD || password.len() > LONGEST_PASSWORD {
        return Err(AppError::bad_input(
            field,
            format!("A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters. A sentence is a good one."),
        ));
    }
    Ok(())
}

/// Seconds that something lasts: from 1 to ten years.
pub fn lifetime(field: &'static str, seconds: Option<i64>) -> Result<Option<std::time::Duration>> {
    const TEN_YEARS: i64 = 10 * 365 * 24 * 3600;
    match seconds {
        None => Ok(None),
        Some(seconds @ 1..=TEN_YEARS) => Ok(Some(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(1)))),
        Some(_) => {
            Err(AppError::bad_input(field, format!("The time is given in seconds, from 1 to {TEN_YEARS} (ten years).")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins() {
        for good in ["a", "Acme", "build-team", "a.b_c-d", "0x", &"a".repeat(40)] {
            assert!(login("login", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "a b", "ä", "a/b", "a._b", &"a".repeat(41), "a\u{202e}b", "a\n"] {
            assert!(login("login", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn repositories() {
        for good in ["api", ".github", "a--b", &"a".repeat(100)] {
            assert!(repository("name", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "api.git", "a/b", "a b", &"a".repeat(101)] {
            assert!(repository("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_may_be_of_any_script_but_not_invisible() {
        for good in ["runner 1", "бегун", "رنر", "走者 🏃", &"é".repeat(255)] {
            assert!(display_name("name", good).is_ok(), "{good}");
        }
        for bad in ["", "   ", "a\u{0}b", "a\u{7f}", "line\nbreak", "x\u{202e}gnp.exe", "\u{2066}x", &"a".repeat(256)] {
            assert!(display_name("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_sorted_and_single() {
        let given: Vec<String> = ["linux", "gpu:a100", "linux"].map(String::from).to_vec();
        assert_eq!(labels("labels", &given).unwrap(), ["gpu:a100", "linux"]);
        for bad in ["", "two words", "a,b", "é", "tab\t", &"a".repeat(256)] {
            assert!(labels("labels", &[bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert!(labels("labels", &vec!["x".to_owned(); 101]).is_err());
    }
}
