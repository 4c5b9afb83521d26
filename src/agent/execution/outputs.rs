//! What a task leaves behind: the lines `name=value` of its file of outputs.

use std::collections::BTreeMap;

use super::super::operations::TaskOutput;
use super::lines::clean;
use super::mask::Mask;

/// The file has to fit into one call, with room for what JSON makes longer.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// The server keeps 100, and two of them are the agent's.
const MAX_OUTPUTS: usize = 98;

/// What the server keeps of a value, in bytes.
const LONGEST_VALUE: usize = 64 * 1024;

const LONGEST_NAME: usize = 100;

/// What the agent itself says.
const RESERVED: [&str; 2] = ["exit_status", "signal"];

/// Reads the file, of which more than [`MAX_BYTES`] is too much. Secrets are hidden. What cannot be read is left out, and
/// a note says so.
pub(super) fn parse(content: &[u8], mask: &Mask) -> (Vec<TaskOutput>, Vec<String>) {
    if content.len() > MAX_BYTES {
        let note = format!("the file of outputs has more than {MAX_BYTES} bytes; all of them are left out");
        return (Vec::new(), vec![note]);
    }
    let mut outputs: BTreeMap<String, String> = BTreeMap::new();
    let mut notes = Vec::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        match output(&clean(line), mask) {
            Ok((name, _)) if outputs.len() == MAX_OUTPUTS && !outputs.contains_key(&name) => {
                notes.push(format!("there are more than {MAX_OUTPUTS} outputs; the rest is left out"));
                break;
            }
            Ok((name, value)) => {
                outputs.insert(name, value);
            }
            Err(reason) => notes.push(format!("line {} of the outputs is left out: {reason}", index + 1)),
        }
    }
    (outputs.into_iter().map(|(name, value)| TaskOutput { name, value }).collect(), notes)
}

fn output(line: &str, mask: &Mask) -> Result<(String, String), &'static str> {
    let (name, value) = line.split_once('=').ok_or("it is not name=value")?;
    let is_name = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if !is_name {
        return Err("a name has up to 100 of the letters A to Z and a to z, digits, and _ - .");
    }
    if RESERVED.contains(&name) {
        return Err("the agent sets this one itself");
    }
    if mask.apply(name) != name {
        return Err("its name has a secret in it");
    }
    // Only now: what is put in the place of something may be longer than that.
    let value = mask.apply(value);
    if value.len() > LONGEST_VALUE {
        return Err("its value has more than 64 KiB when all that cannot be shown is replaced");
    }
    Ok((name.to_owned(), value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(content: &str) -> (Vec<(String, String)>, Vec<String>) {
        let (outputs, notes) = parse(content.as_bytes(), &Mask::new(["hunter2"]));
        (outputs.into_iter().map(|output| (output.name, output.value)).collect(), notes)
    }

    fn output(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn lines_become_outputs() {
        let (outputs, notes) = parsed("version=1.2\n\nurl=http://x/?a=b\r\nempty=\nversion=1.3\nlast.one-2=x y");
        let expected = [
            output("empty", ""),
            output("last.one-2", "x y"),
            output("url", "http://x/?a=b"),
            output("version", "1.3"),
        ];
        assert_eq!(outputs, expected);
        assert!(notes.is_empty(), "{notes:?}");
        assert!(parsed("").0.is_empty());
    }

    #[test]
    fn secrets_are_hidden_and_names_with_them_left_out() {
        let (outputs, notes) = parsed("url=http://me:hunter2@x\nhunter2=1\n");
        assert_eq!(outputs, [output("url", "http://me:***@x")]);
        assert!(notes.len() == 1 && !notes[0].contains("hunter2"), "{notes:?}");
    }

    #[test]
    fn what_is_no_output_is_told_and_left_out() {
        let (outputs, notes) = parsed("novalue\na b=1\n=1\nexit_status=0\nsignal=9\nok=1\n");
        assert_eq!(outputs, [output("ok", "1")]);
        assert_eq!(notes.len(), 5, "{notes:?}");
        assert!(notes[0].starts_with("line 1 of the outputs is left out: it is not name=value"), "{notes:?}");
    }

    #[test]
    fn a_value_that_has_become_too_long_is_left_out_alone() {
        let shown_as_three_bytes = b"\xff".repeat(LONGEST_VALUE / 3 + 1);
        let content = [b"long=".as_slice(), shown_as_three_bytes.as_slice(), b"\nok=1\n".as_slice()].concat();
        let (outputs, notes) = parse(&content, &Mask::new([]));
        assert_eq!(outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["ok"]);
        assert!(notes.len() == 1 && notes[0].starts_with("line 1 of the outputs is left out: its value"), "{notes:?}");
    }

    #[test]
    fn there_is_an_end_to_outputs() {
        let many: Vec<String> = (0..150).map(|number| format!("n{number:03}=x\n")).collect();
        let (outputs, notes) = parsed(&many.concat());
        assert_eq!((outputs.len(), notes.len()), (MAX_OUTPUTS, 1), "{notes:?}");
        let (outputs, notes) = parsed(&"x".repeat(MAX_BYTES + 1));
        assert_eq!((outputs.len(), notes.len()), (0, 1), "{notes:?}");
    }
}
