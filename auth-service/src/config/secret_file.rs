//! Files that hold a secret: not to be read by everybody.

use std::fs;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::ConfigError;

/// The whole text of a secret file. A file that everybody may read is refused: what it holds
/// has to be taken for known.
pub(super) fn read(path: &Path, name: &str, key: &str) -> Result<Zeroizing<String>, ConfigError> {
    let wrong =
        |found: &str| ConfigError::new(format!("{name}: {key} = \"{}\": {found}", path.display()));
    let text =
        fs::read_to_string(path).map(Zeroizing::new).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => wrong("not a text file"),
            _ => wrong(&format!("cannot be read: {error}")),
        })?;
    if readable_by_all(path).map_err(|error| wrong(&format!("cannot be examined: {error}")))? {
        return Err(wrong(
            "everybody on this host can read it; chmod o= it, and change the secret \
                          if others may have seen it",
        ));
    }
    Ok(text)
}

/// Whether the file's mode lets everybody read it.
pub(super) fn readable_by_all(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;

    Ok(fs::metadata(path)?.permissions().mode() & 0o004 != 0)
}
