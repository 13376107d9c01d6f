//! One message for what is wrong: the file, the key, what was found, what would be right.

use std::fmt;

use super::Config;

/// What is wrong with a configuration: one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// The exit status of a process that was configured so.
    pub fn exit_code(&self) -> u8 {
        2
    }

    /// What this host says about a key that looked right.
    pub(crate) fn about(config: &Config, key: &str, found: &dyn fmt::Display, why: &str) -> Self {
        Self::of(&config.name, Problem::new(key, &format_args!("\"{found}\""), why))
    }

    /// The same about the entry a listener comes from.
    pub(crate) fn about_listener(config: &Config, index: usize, why: &str) -> Self {
        let entry = &config.entries[index];
        Self::about(config, &entry.key, &entry.address, why)
    }

    pub(super) fn of(name: &str, problem: Problem) -> Self {
        let Problem { key, found, why } = problem;
        let key = if key.is_empty() { String::new() } else { format!(" {key}") };
        let found = found.map_or(String::new(), |found| format!(" = {found}"));
        let colon = if key.is_empty() { "" } else { ":" };
        Self(format!("{name}:{key}{found}{colon} {why}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// A finding, before it is known which file it is about.
#[derive(Debug)]
pub(super) struct Problem {
    key: String,
    found: Option<String>,
    why: String,
}

impl Problem {
    /// About a value. Secrets are never given as `found`.
    pub(super) fn new(key: &str, found: &dyn fmt::Display, why: &str) -> Self {
        Self { key: key.to_owned(), found: Some(found.to_string()), why: why.to_owned() }
    }

    /// About a text value, which is shown in quotes.
    pub(super) fn text(key: &str, found: &str, why: &str) -> Self {
        Self::new(key, &format_args!("{found:?}"), why)
    }

    /// About a key whose value is absent, or must not be shown.
    pub(super) fn at(key: &str, why: &str) -> Self {
        Self { key: key.to_owned(), found: None, why: why.to_owned() }
    }

    /// What the TOML reader found: a syntax error, a wrong type or an unknown key.
    pub(super) fn unreadable(path: &str, line: Option<usize>, message: &str) -> Self {
        let place = match (path, line) {
            ("." | "", None) => String::new(),
            ("." | "", Some(line)) => format!("line {line}"),
            (path, _) => path.to_owned(),
        };
        if let Some((unknown, known)) = unknown_key(message) {
            let hint = nearest(unknown, &known)
                .map_or(String::new(), |near| format!(" Did you mean `{near}`?"));
            if hint.is_empty()
                && let Some(table) = table_of_secrets(&place)
            {
                let why = format!(
                    "there is a key that is not known here. It is not repeated, as it may be a \
                     secret in the wrong place. Known here: {}.",
                    known.join(", ")
                );
                return Self::at(table, &why);
            }
            let table = place.strip_suffix(unknown).unwrap_or(&place).trim_end_matches('.');
            let key = if table.is_empty() || table.starts_with("line ") {
                unknown.to_owned()
            } else {
                format!("{table}.{unknown}")
            };
            let known = known.join(", ");
            return Self::at(&key, &format!("there is no such key.{hint} Known here: {known}."));
        }
        Self::at(&place, message)
    }
}

/// Takes serde's sentence about an unknown field apart.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.rsplit_once("`, expected ")?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((unknown, known))
}

/// The table in which this key stands, if it is one of those that hold secrets.
fn table_of_secrets(key: &str) -> Option<&str> {
    let inside = key.strip_prefix("auth.")?;
    let entry = inside.strip_prefix("oauth[").and_then(|it| it.find(']'));
    key.get(..entry.map_or("auth".len(), |end| "auth.oauth[".len() + end + 1))
}

/// The known word with the fewest edits, if it is near enough to be meant.
fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let distance = |other: &&&str| edits(word, other);
    known.iter().min_by_key(distance).filter(|near| edits(word, near) <= 3).copied()
}

/// Insertions, deletions and replacements that turn one word into the other.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_stands_where_a_key_should_is_not_repeated() {
        let told = |place: &str, unknown: &str| {
            let message = format!("unknown field `{unknown}`, expected one of `kid`, `key`");
            ConfigError::of("relay.toml", Problem::unreadable(place, None, &message)).to_string()
        };
        for (place, unknown, table) in [
            ("auth.correct horse", "correct horse", "auth:"),
            ("auth.correct.horse", "correct", "auth:"),
            ("auth.correct`ho`rse", "correct`ho`rse", "auth:"),
            ("auth.oauth[3].correct horse", "correct horse", "auth.oauth[3]:"),
        ] {
            let message = told(place, unknown);
            assert!(
                message.starts_with(&format!("relay.toml: {table} there is a key")),
                "{message}"
            );
            assert!(message.ends_with("Known here: kid, key."), "{message}");
            assert!(!message.contains("orrect") && !message.contains("ho"), "{message}");
        }
        assert!(told("auth.oauth[0].kide", "kide").contains("oauth[0].kide: there is no such key"));
        assert!(told("peers.horse", "horse").contains("peers.horse: there is no such key"));
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("alocations", "allocations", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(a, b), expected, "{a} {b}");
        }
    }
}
