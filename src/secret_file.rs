//! Secrets in files, because what stands in arguments is seen by every user of the host.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The longest that is read, in bytes.
const LONGEST: u64 = 4_096;

/// A secret as it was given: in an argument, or on the first line of a file that `flag` names.
pub(crate) fn given(
    argument: Option<&String>,
    flag: &str,
    file: Option<&PathBuf>,
) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(argument.cloned()) };
    read(file).map(Some).map_err(|why| Failure::setup(format!("{flag} {}: {why}", file.display())))
}

/// The first line; `-` is standard input.
fn read(path: &Path) -> Result<String, String> {
    if path == Path::new("-") {
        return first_line(io::stdin().lock());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if about.is_file() && about.permissions().mode() & 0o007 != 0 {
        return Err("others may read this file. Take that away: chmod o= FILE".to_owned());
    }
    first_line(BufReader::new(file))
}

fn first_line(source: impl BufRead) -> Result<String, String> {
    let mut line = String::new();
    source.take(LONGEST).read_line(&mut line).map_err(|error| error.to_string())?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err("the first line is empty; the secret belongs there".to_owned()),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_secret_is_the_first_line_of_a_file_that_others_cannot_read() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("password");
        for (text, mode, expected) in [
            ("a b c", 0o600, Ok("a b c")),
            ("first\r\nsecond\n", 0o640, Ok("first")),
            ("", 0o600, Err("empty")),
            ("\nsecond", 0o600, Err("empty")),
            ("plain text", 0o644, Err("others may read")),
        ] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let found = given(None, "--password-file", Some(&file));
            match expected {
                Ok(secret) => assert_eq!(found, Ok(Some(secret.to_owned())), "{text:?}"),
                Err(words) => {
                    let why = found.unwrap_err().to_string();
                    assert!(why.starts_with("--password-file /") && why.contains(words), "{why}");
                    assert!(!why.contains("plain text"), "{why}");
                }
            }
        }
        assert!(given(None, "--secret-file", Some(&home.path().join("none"))).is_err());
        let argument = Some("given".to_owned());
        assert_eq!(given(argument.as_ref(), "--secret-file", None), Ok(argument));
    }

    #[test]
    fn a_password_stands_in_an_argument_or_in_a_file_and_belongs_to_a_name() {
        let parse = |line: &str| Cli::try_parse_from(format!("av-edge {line}").split(' ')).is_ok();
        for (line, good) in [
            ("probe turn:x --username u --password p", true),
            ("probe turn:x --username u --password-file f", true),
            ("probe turn:x --username u", false),
            ("probe turn:x --password-file f", false),
            ("probe turn:x --username u --password p --password-file f", false),
            ("conformance turn:x --user u --password-file f", true),
            ("conformance turn:x --username u --password-file f", true),
            ("conformance turn:x --user u", false),
            ("conformance turn:x --password-file f", false),
            (
                "conformance turn:x --user u --password-file f --other-user o --other-password-file g",
                true,
            ),
            ("conformance turn:x --user u --password p --other-user o", false),
            ("conformance turn:x --secret s", true),
            ("conformance turn:x --secret-file s", true),
            ("conformance turn:x --secret s --secret-file f", false),
        ] {
            assert_eq!(parse(line), good, "{line}");
        }
    }
}
