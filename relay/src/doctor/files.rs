//! What the kernel tells in files, below a root that tests choose.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A host's files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// This host's.
    pub(super) fn of_this_host() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// The text of a file, without blanks around it; `None` where there is none.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number that is all of a file.
    pub(super) fn number<N: FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The last name of what a link leads to.
    pub(super) fn target(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = std::fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A host that has these files.
    pub(in crate::doctor) fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = folder.path().to_path_buf();
        (folder, Files { root })
    }

    #[test]
    fn what_is_not_there_says_nothing() {
        let (_folder, files) = host(&[("a/b", " 12\n"), ("a/c", "x")]);
        assert_eq!(files.number::<u32>("a/b"), Some(12));
        assert_eq!(files.number::<u32>("a/c"), None);
        assert_eq!(files.text("a/d"), None);
        assert_eq!(files.names("a"), ["b", "c"]);
        assert!(files.names("b").is_empty());
        assert_eq!(files.target("a/b"), None);
    }
}
