//! Default < `rollcall.toml` < `ROLLCALL_*` < flag: where each value comes from, and what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// One setting: its name in every layer follows from `section` and `name`.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The table of `rollcall.toml` it stands in; empty for the server's own settings.
    pub section: &'static str,
    /// The key in the file, with underscores.
    pub name: &'static str,
    /// The default, as one would write it.
    pub default: &'static str,
    /// What it means, for `--help`.
    pub help: &'static str,
    /// What stands for its value in `--help`.
    pub placeholder: &'static str,
    /// Whether its bare flag means true.
    pub is_switch: bool,
    /// Whether its value is never shown.
    pub is_secret: bool,
}

impl Spec {
    /// The command line flag without its dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        let section = if self.section.is_empty() { String::new() } else { format!("{}_", self.section) };
        format!("ROLLCALL_{section}{}", self.name).to_uppercase()
    }

    fn path(&self) -> String {
        if self.section.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.section, self.name) }
    }
}

/// The layer that decided a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Variable(name) => formatter.write_str(name),
            Self::Flag(name) => write!(formatter, "--{name}"),
        }
    }
}

/// A configuration that cannot be used: every problem at once, one line each.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// The layers above the defaults.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    file: Option<(PathBuf, toml::Table)>,
    variables: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
}

/// The file that is read when it is there and no other is named.
const DEFAULT_FILE: &str = "rollcall.toml";

impl Layers {
    /// Takes the flags as given (name without dashes to text), the process's environment, and the configuration file
    /// that they name, or `rollcall.toml` if there is one. `known` lists every setting a file may have.
    pub fn gather(flags: BTreeMap<String, String>, known: &[Spec]) -> Result<Self, ConfigError> {
        let variables = environment();
        let named = flags.get("config").or_else(|| variables.get("ROLLCALL_CONFIG"));
        let file = match named {
            Some(path) => Some(read_file(Path::new(path), known)?),
            None if Path::new(DEFAULT_FILE).exists() => Some(read_file(Path::new(DEFAULT_FILE), known)?),
            None => None,
        };
        Ok(Self { file, variables, flags })
    }

    /// Layers made of flags alone, for tests.
    pub fn from_flags(flags: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { flags: flags.into_iter().collect(), ..Self::default() }
    }

    /// The text that decides a setting, and where it stands.
    pub fn resolve(&self, spec: &Spec) -> (String, Origin) {
        if let Some(text) = self.flags.get(&spec.flag()) {
            return (text.clone(), Origin::Flag(spec.flag()));
        }
        if let Some(text) = self.variables.get(&spec.variable()) {
            return (text.clone(), Origin::Variable(spec.variable()));
        }
        if let Some((path, table)) = &self.file
            && let Some(value) = section_of(table, spec.section).and_then(|table| table.get(spec.name))
        {
            return (text_of(value), Origin::File(path.clone()));
        }
        (spec.default.to_owned(), Origin::Default)
    }
}

/// What went wrong with one setting, with the place to mend it.
pub(super) fn problem(spec: &Spec, origin: &Origin, reason: &str) -> String {
    format!("{} (from {origin}): {reason}", spec.path())
}

fn section_of<'a>(table: &'a toml::Table, section: &str) -> Option<&'a toml::Table> {
    if section.is_empty() { Some(table) } else { table.get(section)?.as_table() }
}

fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn read_file(path: &Path, known: &[Spec]) -> Result<(PathBuf, toml::Table), ConfigError> {
    let one = |problem: String| ConfigError(vec![problem]);
    let text = std::fs::read_to_string(path)
        .map_err(|error| one(format!("cannot read the configuration {}: {error}", path.display())))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        one(format!("{} is not valid TOML (line {line}): {}", path.display(), error.message().replace('\n', "; ")))
    })?;
    let problems = unknown_keys(&table, known);
    if problems.is_empty() {
        Ok((path.to_owned(), table))
    } else {
        let named = problems
            .into_iter()
            .map(|key| format!("{}: no setting is called {key}; `rollcall --help` lists them", path.display()));
        Err(ConfigError(named.collect()))
    }
}

fn unknown_keys(table: &toml::Table, known: &[Spec]) -> Vec<String> {
    let mut unknown = Vec::new();
    for (key, value) in table {
        let section = value.as_table().filter(|_| known.iter().any(|spec| spec.section == key));
        match section {
            Some(section) => unknown.extend(
                section
                    .keys()
                    .filter(|name| !known.iter().any(|spec| spec.section == key && spec.name == *name))
                    .map(|name| format!("{key}.{name}")),
            ),
            None if known.iter().any(|spec| spec.section.is_empty() && spec.name == key) => {}
            None => unknown.push(key.clone()),
        }
    }
    unknown
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment() -> BTreeMap<String, String> {
    std::env::vars().filter(|(name, _)| name.starts_with("ROLLCALL_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [Spec; 2] = [
        Spec {
            section: "",
            name: "offline_after",
            default: "60s",
            help: "",
            placeholder: "",
            is_switch: false,
            is_secret: false,
        },
        Spec {
            section: "agent",
            name: "url",
            default: "",
            help: "",
            placeholder: "",
            is_switch: false,
            is_secret: false,
        },
    ];

    #[test]
    fn later_layers_win() {
        let mut layers = Layers::default();
        assert_eq!(layers.resolve(&SPECS[0]), ("60s".into(), Origin::Default));
        let table = "offline_after = \"50s\"\n[agent]\nurl = \"http://there\"".parse().unwrap();
        layers.file = Some(("r.toml".into(), table));
        assert_eq!(layers.resolve(&SPECS[0]).0, "50s");
        assert_eq!(layers.resolve(&SPECS[1]).0, "http://there");
        layers.variables.insert("ROLLCALL_OFFLINE_AFTER".into(), "40s".into());
        assert_eq!(layers.resolve(&SPECS[0]).0, "40s");
        layers.flags.insert("offline-after".into(), "30s".into());
        assert_eq!(layers.resolve(&SPECS[0]), ("30s".into(), Origin::Flag("offline-after".into())));
    }

    #[test]
    fn unknown_keys_are_named() {
        let table = "offline_afer = 1\n[agent]\nurll = 2\n[server]\nx = 1".parse().unwrap();
        assert_eq!(unknown_keys(&table, &SPECS), ["agent.urll", "offline_afer", "server"]);
    }
}
