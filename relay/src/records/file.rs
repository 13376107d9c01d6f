//! A file of records, or standard output.
//!
//! A record stands there whole or not at all. What a full disk let in of one is taken back; where
//! that cannot be, or a crash left it, the next one begins on a line of its own.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Accounts, Place, Sink};

/// Lines go behind those that are there.
#[derive(Debug)]
pub(super) struct LineFile {
    place: Place,
    /// `None` after a failure: the next line opens it anew.
    open: Option<Output>,
    /// Whether half a line is at the end.
    torn: bool,
    accounts: Arc<Accounts>,
    /// Whether the last attempt failed, which has been said.
    failing: bool,
}

#[derive(Debug)]
struct Output {
    file: File,
    /// Whether it is a file of ours, which can be cut.
    is_own: bool,
}

/// What lines are appended to.
trait Sheet: Write {
    /// Its length, if it can be cut.
    fn length(&self) -> Option<u64>;

    /// Cuts it.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// Lines were not written, all but so many.
#[derive(Debug)]
struct Cramped {
    whole: u64,
    error: io::Error,
}

impl LineFile {
    /// Opens it.
    pub(super) fn open(place: Place, accounts: Arc<Accounts>) -> io::Result<Self> {
        let mut torn = false;
        let open = Some(Output::open(&place, &mut torn)?);
        Ok(Self { place, open, torn, accounts, failing: false })
    }

    /// Opens it anew at the next line: another file may have its name.
    pub(super) fn reopen(&mut self) {
        self.open = None;
    }

    /// Appends lines. What cannot be written is lost, and counted.
    pub(super) fn append(&mut self, lines: &[u8], records: u64) {
        let account = self.accounts.sink(Sink::File);
        let output = match &mut self.open {
            Some(output) => Ok(output),
            none => Output::open(&self.place, &mut self.torn).map(|it| none.insert(it)),
        };
        let written = output
            .map_err(|error| Cramped { whole: 0, error })
            .and_then(|output| append(output, &mut self.torn, lines));
        match written {
            Ok(()) => {
                account.delivered.add(records);
                self.failing = false;
            }
            Err(Cramped { whole, error }) => {
                self.open = None;
                account.failed.add(1);
                account.delivered.add(whole);
                account.lost.add(records.saturating_sub(whole));
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "usage records cannot be written to records.file and are lost");
                }
            }
        }
    }
}

impl Output {
    /// Opens it; `torn` is set to whether a file ends in half a line, and stays for what is none.
    fn open(place: &Place, torn: &mut bool) -> io::Result<Self> {
        let Place::Path(path) = place else {
            let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            return Ok(Self { file, is_own: false });
        };
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let is_own = file.metadata()?.is_file();
        if is_own {
            *torn = ends_torn(path, file.metadata()?.len());
        }
        Ok(Self { file, is_own })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sheet for Output {
    fn length(&self) -> Option<u64> {
        let length = self.file.metadata().ok()?.len();
        self.is_own.then_some(length)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

/// Whether a file of this length ends in half a line. One that cannot be read does not.
fn ends_torn(path: &Path, length: u64) -> bool {
    let mut last = [b'\n'];
    let Some(place) = length.checked_sub(1) else { return false };
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, place));
    read.is_ok() && last != *b"\n"
}

/// Appends lines, behind the end of a line that is torn; says in `torn` how the sheet ends then.
fn append(sheet: &mut impl Sheet, torn: &mut bool, lines: &[u8]) -> Result<(), Cramped> {
    let text: Cow<'_, [u8]> =
        if *torn { [&b"\n"[..], lines].concat().into() } else { lines.into() };
    let begin = sheet.length();
    let Err((written, error)) = write_all(sheet, &text) else {
        *torn = false;
        return Ok(());
    };
    let written = text.get(..written).unwrap_or(&text);
    let kept = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let breaks = written[..kept].split_inclusive(|byte| *byte == b'\n').count();
    let whole = (breaks as u64).saturating_sub(u64::from(*torn));
    if !written.is_empty() {
        *torn = kept < written.len() && !take_back(sheet, begin, (kept, written.len()));
    }
    Err(Cramped { whole, error })
}

/// Takes back what was written behind the last whole line. Whether that could be.
fn take_back(sheet: &mut impl Sheet, begin: Option<u64>, (kept, written): (usize, usize)) -> bool {
    let Some(begin) = begin else { return false };
    // Who cut or filled it meanwhile knows better.
    let is_alone = sheet.length() == Some(begin + written as u64);
    is_alone && sheet.cut(begin + kept as u64).is_ok()
}

/// Writes all of it; with an error, how much of it was written.
fn write_all(sheet: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sheet.write(rest) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
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

    /// Has room for so many bytes.
    struct Small {
        text: Vec<u8>,
        room: usize,
        can_be_cut: bool,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let left = self.room - self.text.len();
            let Some(some) = bytes.get(..left.min(bytes.len())).filter(|it| !it.is_empty()) else {
                return Err(ErrorKind::StorageFull.into());
            };
            self.text.extend_from_slice(some);
            Ok(some.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sheet for Small {
        fn length(&self) -> Option<u64> {
            Some(self.text.len() as u64)
        }

        fn cut(&mut self, length: u64) -> io::Result<()> {
            if !self.can_be_cut {
                return Err(ErrorKind::PermissionDenied.into());
            }
            self.text.truncate(usize::try_from(length).unwrap());
            Ok(())
        }
    }

    #[test]
    fn a_record_stands_whole_on_a_line_of_its_own_or_not_at_all() {
        let lines = b"{1}\n{22}\n";
        for (case, room, can_be_cut, whole, expected) in [
            ("no room", 0, true, 0, "{3}\n"),
            ("half of the first", 2, true, 0, "{3}\n"),
            ("half of the second", 6, true, 1, "{1}\n{3}\n"),
            ("half of the first, for good", 2, false, 0, "{1\n{3}\n"),
            ("half of the second, for good", 6, false, 1, "{1}\n{2\n{3}\n"),
            ("exactly the first", 4, false, 1, "{1}\n{3}\n"),
        ] {
            let mut sheet = Small { text: Vec::new(), room, can_be_cut };
            let mut torn = false;
            let refused = append(&mut sheet, &mut torn, lines).unwrap_err();
            assert_eq!(refused.whole, whole, "{case}");
            let still = append(&mut sheet, &mut torn, b"{44}\n").unwrap_err();
            assert_eq!(still.whole, 0, "{case}: still no room");
            sheet.room = 100;
            append(&mut sheet, &mut torn, b"{3}\n").unwrap();
            assert_eq!(String::from_utf8(sheet.text).unwrap(), expected, "{case}");
        }
    }

    #[test]
    fn what_a_crash_left_of_a_line_gets_its_end_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        for (before, after) in [("", "two\n"), ("one\n", "one\ntwo\n"), ("one", "one\ntwo\n")] {
            std::fs::write(&path, before).unwrap();
            let accounts = Arc::new(Accounts::default());
            let mut file = LineFile::open(Place::Path(path.clone()), accounts).unwrap();
            file.append(b"two\n", 1);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{before:?}");
        }
    }

    #[test]
    fn a_file_is_cut_only_where_nobody_else_changed_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        std::fs::write(&path, "one\ntw").unwrap();
        let mut output = Output::open(&Place::Path(path.clone()), &mut false).unwrap();
        assert!(!take_back(&mut output, Some(4), (0, 3)), "another length");
        assert!(take_back(&mut output, Some(4), (0, 2)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
        let null = Output::open(&Place::Path("/dev/null".into()), &mut false).unwrap();
        assert_eq!(null.length(), None, "a device is not cut");
    }
}
