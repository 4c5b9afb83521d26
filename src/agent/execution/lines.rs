//! From the bytes that a script writes to the lines of a log.

use std::mem;

use super::mask::Mask;

/// Longer lines are cut into pieces: the server refuses lines that are much longer.
const LONGEST_PIECE: usize = 16 * 1024;

/// So much of a line is waited for before the beginning of it is passed on. A script may write no end of line at all.
const LONGEST_LINE: usize = 256 * 1024;

const REPLACEMENT: char = '\u{fffd}';

/// Makes lines of bytes, however these are cut. Secrets are hidden in whole lines, and lines are cut after that.
pub(super) struct Lines<'m> {
    mask: &'m Mask,
    /// What has come of the line so far.
    bytes: Vec<u8>,
    /// What was before that, in a line that is too long to be waited for, and in which a secret may have begun.
    carried: String,
    /// Whether the beginning of the line was passed on.
    is_begun: bool,
}

impl<'m> Lines<'m> {
    pub(super) const fn new(mask: &'m Mask) -> Self {
        Self { mask, bytes: Vec::new(), carried: String::new(), is_begun: false }
    }

    /// Takes bytes, and adds the lines that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], found: &mut Vec<String>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.bytes.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.end_line(found);
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() + self.carried.len() > LONGEST_LINE + self.mask.longest() {
            self.pass_beginning(found);
        }
    }

    /// Adds the last line, if it has no end.
    pub(super) fn finish(&mut self, found: &mut Vec<String>) {
        if !self.bytes.is_empty() || !self.carried.is_empty() {
            self.end_line(found);
        }
    }

    fn end_line(&mut self, found: &mut Vec<String>) {
        if self.bytes.last() == Some(&b'\r') {
            self.bytes.pop();
        }
        let mut line = mem::take(&mut self.carried);
        line.push_str(&clean(&self.bytes));
        self.bytes.clear();
        let is_begun = mem::take(&mut self.is_begun);
        if !is_begun || !line.is_empty() {
            cut(&self.mask.apply(&line), found);
        }
    }

    fn pass_beginning(&mut self, found: &mut Vec<String>) {
        let end = whole_characters(&self.bytes);
        let mut line = mem::take(&mut self.carried);
        line.push_str(&clean(&self.bytes[..end]));
        self.bytes.drain(..end);
        let (beginning, rest) = self.mask.apply_to_beginning(&line);
        self.carried = rest.to_owned();
        if !beginning.is_empty() {
            self.is_begun = true;
            cut(&beginning, found);
        }
    }
}

/// The lines of a text that is not a script's, made as its are.
pub(super) fn lines_of(text: &str, mask: &Mask) -> Vec<String> {
    let (mut lines, mut found) = (Lines::new(mask), Vec::new());
    lines.push(text.as_bytes(), &mut found);
    lines.finish(&mut found);
    found
}

/// Text that can be stored and shown: what is not UTF-8 is replaced, and so are control characters but tabs and the
/// beginning of colours.
pub(super) fn clean(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().map(|letter| if is_shown(letter) { letter } else { REPLACEMENT }));
        if !chunk.invalid().is_empty() {
            text.push(REPLACEMENT);
        }
    }
    text
}

fn is_shown(letter: char) -> bool {
    matches!(letter, '\t' | '\u{1b}') || !letter.is_control()
}

/// Adds a line, in pieces if it is long.
fn cut(mut line: &str, found: &mut Vec<String>) {
    while line.len() > LONGEST_PIECE {
        let (piece, rest) = line.split_at(line.floor_char_boundary(LONGEST_PIECE));
        found.push(piece.to_owned());
        line = rest;
    }
    found.push(line.to_owned());
}

/// How many of the bytes are whole characters, as far as one can tell before more have come.
fn whole_characters(bytes: &[u8]) -> usize {
    let len = bytes.len();
    if bytes.last() == Some(&b'\r') {
        // The end of the line may follow.
        return len - 1;
    }
    let Some(back) = bytes.iter().rev().take(3).position(|byte| byte & 0b1100_0000 != 0b1000_0000) else {
        return len;
    };
    let needed = match bytes[len - 1 - back] {
        0xf0..=0xff => 4,
        0xe0..=0xef => 3,
        0xc0..=0xdf => 2,
        _ => 1,
    };
    if needed > back + 1 { len - 1 - back } else { len }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(secrets: &[&str], pieces: &[&[u8]]) -> Vec<String> {
        let mask = Mask::new(secrets.iter().copied());
        let (mut lines, mut found) = (Lines::new(&mask), Vec::new());
        for piece in pieces {
            lines.push(piece, &mut found);
        }
        lines.finish(&mut found);
        found
    }

    #[test]
    fn bytes_become_lines() {
        assert_eq!(lines(&[], &[b"a\nb", b"c\r\n\n", b"d"]), ["a", "bc", "", "d"]);
        assert_eq!(lines(&[], &[b"a\r", b"\nb\r"]), ["a", "b"]);
        assert!(lines(&[], &[b""]).is_empty());
    }

    #[test]
    fn what_cannot_be_shown_is_replaced() {
        assert_eq!(lines(&[], &[b"a\xffb\n"]), ["a\u{fffd}b"]);
        assert_eq!(lines(&[], &["é".as_bytes()]), ["é"]);
        assert_eq!(lines(&[], &[b"\xc3", b"\xa9\n"]), ["é"]);
        assert_eq!(lines(&[], &[b"a\0b\rc\x07\n"]), ["a\u{fffd}b\u{fffd}c\u{fffd}"]);
        assert_eq!(lines(&[], &[b"\x1b[31mred\x1b[0m\tx\n"]), ["\u{1b}[31mred\u{1b}[0m\tx"]);
    }

    #[test]
    fn a_secret_is_hidden_however_it_was_read() {
        assert_eq!(lines(&["hunter2"], &[b"x hun", b"ter", b"2 y\n"]), ["x *** y"]);
        assert_eq!(lines(&["hunter2"], &[b"hunter2"]), ["***"]);
    }

    #[test]
    fn long_lines_are_cut_after_secrets_were_hidden() {
        let mut line = "a".repeat(LONGEST_PIECE - 3);
        line.push_str("hunter2");
        let found = lines(&["hunter2"], &[line.as_bytes(), b"\n"]);
        assert_eq!(found.concat(), format!("{}***", "a".repeat(LONGEST_PIECE - 3)));
        let found = lines(&[], &["é".repeat(LONGEST_PIECE).as_bytes()]);
        assert!(found.len() == 2 && found.iter().all(|piece| piece.len() == LONGEST_PIECE));
    }

    #[test]
    fn a_line_without_end_is_passed_on_with_its_secrets_hidden() {
        let secret = "ünter-hunter2";
        // Whatever the length of what is before, the secret lies across the place where the line is parted once.
        let before = LONGEST_LINE - 40;
        let mut whole = "é".repeat(before / 2);
        for _ in 0..8 {
            whole.push_str(secret);
            whole.push_str(" é ");
        }
        whole.push_str(&"b".repeat(LONGEST_LINE));
        whole.push('\r');
        let pieces: Vec<&[u8]> = whole.as_bytes().chunks(7).chain([b"\nnext\n".as_slice()]).collect();
        let found = lines(&[secret], &pieces);
        assert_eq!(found.last().map(String::as_str), Some("next"));
        assert!(found.iter().all(|piece| piece.len() <= LONGEST_PIECE));
        let expected = whole.trim_end().replace(secret, "***");
        assert!(found[..found.len() - 1].concat() == expected);
    }

    #[test]
    fn no_character_is_parted() {
        let text = "aé€😀";
        for end in 0..=text.len() {
            let whole = whole_characters(&text.as_bytes()[..end]);
            assert_eq!(whole, text.floor_char_boundary(end), "{end}");
        }
        assert_eq!(whole_characters(b"a\r"), 1);
        assert_eq!(whole_characters(b"\x80\x80\x80\x80"), 4);
    }
}
