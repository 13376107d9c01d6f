//! A file of records, or standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::{Accounts, Place, Sink};

/// Lines go behind those that are there.
#[derive(Debug)]
pub(super) struct LineFile {
    place: Place,
    /// `None` after a failure: the next line opens it anew.
    open: Option<Output>,
    accounts: Arc<Accounts>,
    /// Whether the last attempt failed, which has been said.
    failing: bool,
}

#[derive(Debug)]
enum Output {
    Stdout(io::Stdout),
    File(File),
}

impl LineFile {
    /// Opens it.
    pub(super) fn open(place: Place, accounts: Arc<Accounts>) -> io::Result<Self> {
        let open = Some(open(&place)?);
        Ok(Self { place, open, accounts, failing: false })
    }

    /// Opens it anew at the next line: another file may have its name.
    pub(super) fn reopen(&mut self) {
        self.open = None;
    }

    /// Appends lines. What cannot be written is lost, and counted.
    pub(super) fn append(&mut self, lines: &[u8], records: u64) {
        let account = self.accounts.sink(Sink::File);
        match write(&mut self.open, &self.place, lines) {
            Ok(()) => {
                account.delivered.add(records);
                self.failing = false;
            }
            Err(error) => {
                self.open = None;
                account.failed.add(1);
                account.lost.add(records);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "usage records cannot be written to records.file and are lost");
                }
            }
        }
    }
}

fn open(place: &Place) -> io::Result<Output> {
    Ok(match place {
        Place::Stdout => Output::Stdout(io::stdout()),
        Place::Path(path) => Output::File(append_to(path)?),
    })
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write(output: &mut Option<Output>, place: &Place, lines: &[u8]) -> io::Result<()> {
    if output.is_none() {
        *output = Some(open(place)?);
    }
    match output {
        Some(Output::Stdout(out)) => out.write_all(lines).and_then(|()| out.flush()),
        Some(Output::File(file)) => file.write_all(lines),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::accounts::Count;

    #[test]
    fn lines_go_to_the_file_that_has_the_name_now() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("records"), folder.path().join("records.1"));
        std::fs::write(&path, "earlier\n").unwrap();
        let accounts = Arc::new(Accounts::default());
        let mut file = LineFile::open(Place::Path(path.clone()), Arc::clone(&accounts)).unwrap();
        file.append(b"one\n", 1);
        std::fs::rename(&path, &rotated).unwrap();
        file.append(b"two\n", 1);
        file.reopen();
        file.append(b"three\n", 1);
        let text = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!(text(&rotated), "earlier\none\ntwo\n");
        assert_eq!(text(&path), "three\n");
        assert_eq!(accounts.sink(Sink::File).delivered.value(), 3);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_line_tries_again() {
        let accounts = Arc::new(Accounts::default());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let mut file = LineFile::open(Place::Path(path.clone()), Arc::clone(&accounts)).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        file.reopen();
        file.append(b"lost\n", 1);
        std::fs::remove_dir(&path).unwrap();
        file.append(b"written\n", 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "written\n");
        let account = accounts.sink(Sink::File);
        assert_eq!([&account.lost, &account.delivered].map(Count::value), [1, 1]);
    }
}
