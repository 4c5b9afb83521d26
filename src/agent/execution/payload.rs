//! What a task asks for: a script, and what it shall find around it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use secrecy::SecretString;
use serde_json::{Map, Value};

const KEYS: [&str; 5] = ["run", "env", "secrets", "workingDirectory", "shell"];

const DEFAULT_SHELL: &str = "sh";

/// What a task asks for.
pub(super) struct Payload {
    /// The script.
    pub(super) run: String,
    pub(super) env: BTreeMap<String, String>,
    /// Variables whose values are not shown.
    pub(super) secrets: BTreeMap<String, SecretString>,
    /// Relative to the folder of the task, unless it is absolute.
    pub(super) working_directory: Option<PathBuf>,
    pub(super) shell: String,
    /// Keys that mean nothing to this agent.
    pub(super) unknown: Vec<String>,
}

impl Payload {
    /// Reads a payload, or says everything that is wrong with it. Values are not quoted: they may be secrets.
    pub(super) fn parse(payload: &Value) -> Result<Self, Vec<String>> {
        let Value::Object(fields) = payload else {
            return Err(vec![r#"expected an object such as {"run": "make test"}"#.to_owned()]);
        };
        let mut reader = Reader { fields, problems: Vec::new() };
        let run = reader.text("run");
        if is_absent(fields.get("run")) {
            reader.problems.push("run: is missing; expected the text of a shell script".to_owned());
        }
        let working_directory = reader.text("workingDirectory").map(PathBuf::from);
        if working_directory.as_deref().is_some_and(leaves_its_folder) {
            reader.problems.push("workingDirectory: a relative path must not have .. in it".to_owned());
        }
        let shell = reader.text("shell");
        let env = reader.variables("env");
        let secrets = reader.variables("secrets");
        let mut unknown: Vec<String> = fields.keys().filter(|key| !KEYS.contains(&key.as_str())).cloned().collect();
        unknown.sort_unstable();
        match (run, reader.problems) {
            (Some(run), problems) if problems.is_empty() => Ok(Self {
                run,
                env,
                secrets: secrets.into_iter().map(|(name, value)| (name, value.into())).collect(),
                working_directory,
                shell: shell.unwrap_or_else(|| DEFAULT_SHELL.to_owned()),
                unknown,
            }),
            (_, problems) => Err(problems),
        }
    }
}

/// Reads fields, and notes what is wrong with them.
struct Reader<'a> {
    fields: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// A text that is not empty; none when there is none, or no good one.
    fn text(&mut self, name: &str) -> Option<String> {
        let value = self.fields.get(name).filter(|value| !value.is_null())?;
        match value {
            Value::String(text) if text.trim().is_empty() => self.problems.push(format!("{name}: is empty")),
            Value::String(text) if text.contains('\0') => self.problems.push(format!("{name}: contains NUL")),
            Value::String(text) => return Some(text.clone()),
            other => self.problems.push(format!("{name}: expected text, not {}", kind(other))),
        }
        None
    }

    fn variables(&mut self, name: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let variables = match self.fields.get(name) {
            None | Some(Value::Null) => return found,
            Some(Value::Object(variables)) => variables,
            Some(other) => {
                let problem = format!("{name}: expected an object of names with texts, not {}", kind(other));
                self.problems.push(problem);
                return found;
            }
        };
        for (variable, value) in variables {
            let problem = match value {
                _ if variable.is_empty() => "the name of a variable is empty".to_owned(),
                _ if variable.contains(['=', '\0']) => {
                    format!("{variable:?}: the name of a variable cannot have = or NUL in it")
                }
                Value::String(text) if text.contains('\0') => format!("{variable:?}: contains NUL"),
                Value::String(text) => {
                    found.insert(variable.clone(), text.clone());
                    continue;
                }
                other => format!("{variable:?}: expected text, not {}", kind(other)),
            };
            self.problems.push(format!("{name}: {problem}"));
        }
        found
    }
}

fn is_absent(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}

/// Whether a relative path leads out of the folder that it is relative to.
fn leaves_its_folder(path: &Path) -> bool {
    path.is_relative() && !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    fn problems(payload: &Value) -> Vec<String> {
        Payload::parse(payload).err().unwrap_or_default()
    }

    fn parsed(payload: &Value) -> Payload {
        Payload::parse(payload).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn a_payload_is_read() {
        let payload = parsed(&json!({
            "run": "make", "env": {"A": "1", "EMPTY": ""}, "secrets": {"TOKEN": "hunter2"}, "shell": "bash",
            "workingDirectory": "./a/b", "matrix": [1], "image": "x",
        }));
        assert_eq!((payload.run.as_str(), payload.shell.as_str()), ("make", "bash"));
        assert_eq!((payload.env["A"].as_str(), payload.env["EMPTY"].as_str()), ("1", ""));
        assert_eq!(payload.secrets["TOKEN"].expose_secret(), "hunter2");
        assert_eq!(payload.working_directory.as_deref(), Some(Path::new("./a/b")));
        assert_eq!(payload.unknown, ["image", "matrix"]);

        let payload = parsed(&json!({"run": "make", "env": null, "workingDirectory": null, "shell": null}));
        assert_eq!((payload.shell.as_str(), payload.working_directory), ("sh", None));
        assert!(payload.env.is_empty() && payload.secrets.is_empty() && payload.unknown.is_empty());
        let absolute = parsed(&json!({"run": "make", "workingDirectory": "/srv/../srv"}));
        assert_eq!(absolute.working_directory, Some(PathBuf::from("/srv/../srv")));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (payload, expected) in [
            (json!("make"), "expected an object"),
            (json!(null), "expected an object"),
            (json!({}), "run: is missing"),
            (json!({"run": null}), "run: is missing"),
            (json!({"run": " \n"}), "run: is empty"),
            (json!({"run": ["make"]}), "run: expected text, not a list"),
            (json!({"run": "a\u{0}b"}), "run: contains NUL"),
            (json!({"run": "make", "env": ["A=1"]}), "env: expected an object of names with texts, not a list"),
            (json!({"run": "make", "env": {"PORT": 80}}), "env: \"PORT\": expected text, not a number"),
            (json!({"run": "make", "env": {"A=B": "1"}}), "env: \"A=B\": the name of a variable cannot have ="),
            (json!({"run": "make", "env": {"": "1"}}), "env: the name of a variable is empty"),
            (json!({"run": "make", "secrets": {"A": "\u{0}"}}), "secrets: \"A\": contains NUL"),
            (json!({"run": "make", "secrets": {"A\u{0}": "1"}}), "secrets: \"A\\0\": the name"),
            (json!({"run": "make", "workingDirectory": "a/../../b"}), "workingDirectory: a relative path"),
            (json!({"run": "make", "workingDirectory": ""}), "workingDirectory: is empty"),
            (json!({"run": "make", "shell": true}), "shell: expected text, not true or false"),
        ] {
            let problems = problems(&payload);
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{payload}: {problems:?}");
        }
    }

    #[test]
    fn all_problems_are_told_and_no_value_is() {
        let problems = problems(&json!({"run": 5, "shell": 6, "secrets": {"A": "hunter2\u{0}", "B": ["hunter2"]}}));
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(!problems.concat().contains("hunter2"), "{problems:?}");
    }
}
