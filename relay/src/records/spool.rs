//! Where records wait for their receivers: a row of files in one folder.
//!
//! The newest file grows; a receiver reads from its own place on, which a small file of its name
//! keeps over restarts. A file behind which all receivers are is removed. When the row has reached
//! its limit the oldest file goes, whoever has not read it yet: records that come later hold the
//! sums of those that came before, so what is old is worth least. Every start begins another file,
//! and what a crash left of a last line is nobody's record.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libc::O_NOFOLLOW;
use nix::fcntl::{Flock, FlockArg};

use super::{Accounts, Sink, SpoolWish};

/// A row has about so many files.
const FILES: u64 = 16;

/// The shortest and the longest of them.
const FILE_BYTES: std::ops::RangeInclusive<u64> = (16 << 10)..=(4 << 20);

/// Bytes given to a receiver at once, at most; a longer line goes alone.
const AT_ONCE: u64 = 128 << 10;

/// How the names of the row end.
const ENDING: &str = "jsonl";

/// What both ends share.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    limit: u64,
    /// Where one file ends and the next begins.
    file_bytes: u64,
    row: Mutex<Row>,
    news: Condvar,
    accounts: Arc<Accounts>,
}

#[derive(Debug)]
struct Row {
    /// Oldest first; there is one at least.
    files: VecDeque<Part>,
    places: Vec<Place>,
    ended: bool,
}

/// One file.
#[derive(Clone, Copy, Debug)]
struct Part {
    number: u64,
    bytes: u64,
    records: u64,
}

/// How far a receiver has come.
#[derive(Debug)]
struct Place {
    sink: Sink,
    file: u64,
    offset: u64,
    /// Records of that file before the offset.
    records: u64,
}

/// The end where records are put in.
#[derive(Debug)]
pub(super) struct Inlet {
    shared: Arc<Shared>,
    /// The newest file; `None` after a failure: the next records begin another one.
    open: Option<File>,
    failing: bool,
    synced: bool,
    /// Keeps other relays away.
    _lock: Flock<File>,
}

/// The end where one receiver takes them out.
#[derive(Debug)]
pub(super) struct Outlet {
    shared: Arc<Shared>,
    /// Which of the places.
    index: usize,
    sink: Sink,
    /// Where its place is kept.
    kept: File,
}

/// Whole lines for a receiver.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lines {
    file: u64,
    offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
}

/// Opens a spool with an outlet for each of these.
pub(super) fn open(
    wish: &SpoolWish,
    sinks: &[Sink],
    accounts: Arc<Accounts>,
) -> io::Result<(Inlet, Vec<Outlet>)> {
    let folder = wish.folder.clone();
    // Whoever could open it could lock it.
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(folder.join("lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|_| io::Error::other("another relay uses it"))?;
    let mut files = parts(&folder)?;
    let newest = files.back().map_or(0, |part| part.number) + 1;
    let first = begin(&folder, newest)?;
    files.push_back(Part { number: newest, bytes: 0, records: 0 });
    let (mut places, mut kept) = (Vec::new(), Vec::new());
    for &sink in sinks {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(folder.join(format!("{}.place", sink.name())))?;
        places.push(place(&folder, sink, &file, &files)?);
        kept.push(file);
    }
    let file_bytes = (wish.limit / FILES).clamp(*FILE_BYTES.start(), *FILE_BYTES.end());
    accounts.spool_bytes.set(wish.limit);
    let row = Mutex::new(Row { files, places, ended: false });
    let shared =
        Shared { folder, limit: wish.limit, file_bytes, row, news: Condvar::new(), accounts };
    let shared = Arc::new(shared);
    shared.tidy(&mut shared.row());
    let outlets = sinks.iter().zip(kept).enumerate().map(|(index, (&sink, kept))| Outlet {
        shared: Arc::clone(&shared),
        index,
        sink,
        kept,
    });
    let outlets = outlets.collect();
    Ok((Inlet { shared, open: Some(first), failing: false, synced: true, _lock: lock }, outlets))
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.{ENDING}"))
}

fn begin(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().create_new(true).append(true).open(path(folder, number))
}

/// The files that are there.
fn parts(folder: &Path) -> io::Result<VecDeque<Part>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|ending| ending == ENDING)
            && let Some(stem) = name.file_stem().and_then(|stem| stem.to_str())
            && let Ok(number) = stem.parse()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let part = |number| {
        let (bytes, records) = whole(&std::fs::read(path(folder, number))?);
        Ok(Part { number, bytes, records })
    };
    numbers.into_iter().map(part).collect()
}

/// Bytes and number of the whole lines.
fn whole(text: &[u8]) -> (u64, u64) {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    (end as u64, lines(&text[..end]))
}

/// How many whole lines.
fn lines(text: &[u8]) -> u64 {
    text.split_inclusive(|byte| *byte == b'\n').count() as u64
}

/// The place that was kept; the beginning of the row if none was.
fn place(folder: &Path, sink: Sink, mut kept: &File, files: &VecDeque<Part>) -> io::Result<Place> {
    let mut text = String::new();
    // Whatever else is in it counts for nothing.
    let _ = kept.read_to_string(&mut text);
    let mut numbers = text.split_whitespace().map(str::parse);
    let (file, offset) = match (numbers.next(), numbers.next()) {
        (Some(Ok(file)), Some(Ok(offset))) => (file, offset),
        _ => (0, 0),
    };
    let Some(part) = files.iter().find(|part| part.number >= file) else {
        // Ahead of the row, which somebody emptied: what comes now is new.
        let newest = files.back().map_or(0, |part| part.number);
        return Ok(Place { sink, file: newest, offset: 0, records: 0 });
    };
    if part.number > file {
        return Ok(Place { sink, file: part.number, offset: 0, records: 0 });
    }
    let offset = offset.min(part.bytes);
    let mut before = Vec::new();
    File::open(path(folder, file))?.take(offset).read_to_end(&mut before)?;
    Ok(Place { sink, file, offset, records: lines(&before) })
}

impl Shared {
    fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what nobody needs, and what there is no room for; then counts.
    fn tidy(&self, row: &mut Row) {
        let Row { files, places, .. } = row;
        while files.len() > 1 {
            for place in places.iter_mut() {
                let ends = files.iter().find(|part| part.number == place.file);
                let next = files.iter().find(|part| part.number > place.file);
                if let (Some(part), Some(next)) = (ends, next)
                    && part.bytes <= place.offset
                {
                    *place = Place { file: next.number, offset: 0, records: 0, ..*place };
                }
            }
            let oldest = files[0];
            let needed = places.iter().any(|place| place.file <= oldest.number);
            let full = files.iter().map(|part| part.bytes).sum::<u64>() > self.limit;
            if needed && !full {
                break;
            }
            files.pop_front();
            for place in places.iter_mut().filter(|place| place.file <= oldest.number) {
                self.accounts.sink(place.sink).lost.add(oldest.records - place.records);
                *place = Place { file: files[0].number, offset: 0, records: 0, ..*place };
            }
            if let Err(error) = std::fs::remove_file(path(&self.folder, oldest.number)) {
                tracing::warn!(%error, "a file of records.spool cannot be removed");
            }
        }
        for place in places {
            let ahead = files.iter().filter(|part| part.number >= place.file);
            let ahead: u64 = ahead.map(|part| part.records).sum();
            self.accounts.sink(place.sink).waiting.set(ahead - place.records);
        }
        self.accounts.spooled_bytes.set(files.iter().map(|part| part.bytes).sum());
    }
}

impl Inlet {
    /// Appends lines. What cannot be written is lost, and counted.
    pub(super) fn append(&mut self, lines: &[u8], records: u64) {
        match self.write(lines) {
            Ok(number) => {
                self.failing = false;
                self.synced = false;
                let mut row = self.shared.row();
                if let Some(part) = row.files.back_mut().filter(|part| part.number == number) {
                    part.bytes += lines.len() as u64;
                    part.records += records;
                }
                self.shared.tidy(&mut row);
                self.shared.news.notify_all();
            }
            Err(error) => {
                let row = self.shared.row();
                for place in &row.places {
                    self.shared.accounts.sink(place.sink).lost.add(records);
                }
                // It may end in half a line.
                let known = row.files.back().map_or(0, |part| part.bytes);
                if self.open.as_ref().is_some_and(|file| file.set_len(known).is_err()) {
                    self.open = None;
                }
                drop(row);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "usage records cannot be written to records.spool and are lost");
                }
            }
        }
    }

    /// Writes to the newest file or, where that is full, to another; says to which.
    fn write(&mut self, lines: &[u8]) -> io::Result<u64> {
        let newest = self.shared.row().files.back().copied();
        let Some(Part { number, bytes, .. }) = newest else {
            return Err(io::Error::other("there is no file"));
        };
        let full = bytes > 0 && bytes + lines.len() as u64 > self.shared.file_bytes;
        if let Some(file) = self.open.as_mut().filter(|_| !full) {
            return file.write_all(lines).map(|()| number);
        }
        self.sync();
        let number = number + 1;
        let mut file = begin(&self.shared.folder, number)?;
        self.shared.row().files.push_back(Part { number, bytes: 0, records: 0 });
        let written = file.write_all(lines);
        self.open = Some(file);
        written.map(|()| number)
    }

    /// Has the disk keep what was written.
    pub(super) fn sync(&mut self) {
        if !std::mem::replace(&mut self.synced, true)
            && let Some(Err(error)) = self.open.as_ref().map(File::sync_data)
        {
            tracing::warn!(%error, "records.spool may lose records when the host fails");
        }
    }

    /// Nothing comes any more.
    pub(super) fn end(mut self) {
        self.sync();
        self.shared.row().ended = true;
        self.shared.news.notify_all();
    }
}

impl Outlet {
    /// Whose it is.
    pub(super) fn sink(&self) -> Sink {
        self.sink
    }

    /// The next lines, once there are some, about as many as a limit allows, in bytes; `None` when
    /// there will be none.
    pub(super) fn next(&self, limit: Option<u64>) -> Option<Lines> {
        loop {
            let mut row = self.shared.row();
            let (file, offset, end) = loop {
                let place = &row.places[self.index];
                let part = row.files.iter().find(|part| part.number == place.file);
                match part {
                    Some(part) if part.bytes > place.offset => {
                        break (place.file, place.offset, part.bytes);
                    }
                    _ if row.ended => return None,
                    _ => {
                        row = self.shared.news.wait(row).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(row);
            match self.read(file, offset, end, limit.unwrap_or(AT_ONCE)) {
                Ok(bytes) => {
                    let records = lines(&bytes);
                    return Some(Lines { file, offset, bytes, records });
                }
                // It went meanwhile, to make room.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(%error, "records.spool cannot be read");
                    if !self.rest(Duration::from_secs(10)) {
                        return None;
                    }
                }
            }
        }
    }

    /// Whole lines of a file from an offset on: one, or as many as fit.
    fn read(&self, number: u64, offset: u64, end: u64, limit: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(path(&self.shared.folder, number))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        (&file).take((end - offset).min(limit)).read_to_end(&mut bytes)?;
        if !bytes.contains(&b'\n') {
            let rest = end - offset - bytes.len() as u64;
            file.take(rest).read_to_end(&mut bytes)?;
            let first = bytes.iter().position(|byte| *byte == b'\n');
            bytes.truncate(first.map_or(0, |first| first + 1));
        }
        let (whole, _) = whole(&bytes);
        bytes.truncate(usize::try_from(whole).unwrap_or(usize::MAX));
        if bytes.is_empty() { Err(io::Error::other("a line has no end")) } else { Ok(bytes) }
    }

    /// The receiver has these lines.
    pub(super) fn done(&mut self, lines: &Lines) {
        self.shared.accounts.sink(self.sink).delivered.add(lines.records);
        self.pass(lines);
    }

    /// The receiver will never have these lines.
    pub(super) fn give_up(&mut self, lines: &Lines) {
        self.shared.accounts.sink(self.sink).refused.add(lines.records);
        self.pass(lines);
    }

    fn pass(&mut self, lines: &Lines) {
        let mut row = self.shared.row();
        let place = &mut row.places[self.index];
        if (place.file, place.offset) == (lines.file, lines.offset) {
            place.offset += lines.bytes.len() as u64;
            place.records += lines.records;
        }
        self.shared.tidy(&mut row);
        let Place { file, offset, .. } = row.places[self.index];
        drop(row);
        let text = format!("{file:020} {offset:020}\n");
        if let Err(error) = self.kept.write_all_at(text.as_bytes(), 0) {
            tracing::warn!(%error, "records.spool cannot be written; records may come twice");
        }
    }

    /// Waits before another attempt; `false` if there shall be none.
    pub(super) fn rest(&self, pause: Duration) -> bool {
        let row = self.shared.row();
        let go_on = |row: &mut Row| !row.ended;
        let rested = self.shared.news.wait_timeout_while(row, pause, go_on);
        !rested.unwrap_or_else(PoisonError::into_inner).0.ended
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::records::accounts::Count;

    struct Rig {
        folder: tempfile::TempDir,
        accounts: Arc<Accounts>,
        limit: u64,
    }

    impl Rig {
        fn new(limit: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder, accounts: Arc::default(), limit }
        }

        fn open(&mut self, sinks: &[Sink]) -> (Inlet, Vec<Outlet>) {
            self.accounts = Arc::default();
            let wish = SpoolWish { folder: self.folder.path().to_owned(), limit: self.limit };
            open(&wish, sinks, Arc::clone(&self.accounts)).unwrap()
        }

        fn counts(&self, sink: Sink) -> [u64; 3] {
            let account = self.accounts.sink(sink);
            [&account.delivered, &account.lost, &account.waiting].map(Count::value)
        }

        fn files(&self) -> usize {
            parts(self.folder.path()).unwrap().len()
        }
    }

    /// Takes everything out.
    fn drain(mut outlet: Outlet) -> String {
        let mut text = String::new();
        while let Some(lines) = outlet.next(None) {
            text += std::str::from_utf8(&lines.bytes).unwrap();
            outlet.done(&lines);
        }
        text
    }

    fn only(mut outlets: Vec<Outlet>) -> Outlet {
        assert_eq!(outlets.len(), 1);
        outlets.remove(0)
    }

    #[test]
    fn what_was_put_in_comes_out_in_order_over_restarts() {
        let mut rig = Rig::new(1 << 20);
        let (mut inlet, outlets) = rig.open(&[Sink::Http]);
        inlet.append(b"1\n2\n", 2);
        let mut outlet = only(outlets);
        let lines = outlet.next(None).unwrap();
        assert_eq!(lines.bytes, b"1\n2\n");
        inlet.append(b"3\n", 1);
        // Not acknowledged: they come again.
        assert_eq!(outlet.next(None).unwrap().bytes, b"1\n2\n3\n");
        outlet.done(&lines);
        assert_eq!(rig.counts(Sink::Http), [2, 0, 1]);
        drop((inlet, outlet));

        let (mut inlet, outlets) = rig.open(&[Sink::Http]);
        assert_eq!(rig.counts(Sink::Http), [0, 0, 1]);
        inlet.append(b"4\n", 1);
        inlet.end();
        assert_eq!(drain(only(outlets)), "3\n4\n");
        assert_eq!((rig.counts(Sink::Http), rig.files()), ([2, 0, 0], 1));
    }

    #[test]
    fn each_receiver_has_its_own_place() {
        let mut rig = Rig::new(1 << 20);
        let (mut inlet, mut outlets) = rig.open(&[Sink::Http, Sink::Redis]);
        inlet.append(b"1\n", 1);
        let redis = outlets.pop().unwrap();
        inlet.end();
        assert_eq!(drain(redis), "1\n");
        assert_eq!(rig.counts(Sink::Redis), [1, 0, 0]);
        assert_eq!(rig.counts(Sink::Http), [0, 0, 1]);
        drop(outlets);
        let (inlet, mut outlets) = rig.open(&[Sink::Http, Sink::Redis]);
        inlet.end();
        assert_eq!(drain(outlets.pop().unwrap()), "");
        assert_eq!(drain(outlets.pop().unwrap()), "1\n");
    }

    #[test]
    fn a_full_spool_drops_the_oldest_and_counts() {
        let line = format!("{}\n", "x".repeat(999));
        let mut rig = Rig::new(64_000);
        let (mut inlet, outlets) = rig.open(&[Sink::Redis]);
        for _ in 0..200 {
            inlet.append(line.as_bytes(), 1);
        }
        let [delivered, lost, waiting] = rig.counts(Sink::Redis);
        assert_eq!((delivered, lost + waiting), (0, 200));
        assert!((45..=64).contains(&waiting), "{waiting}");
        assert!(rig.accounts.spooled_bytes.value() <= 64_000);
        inlet.end();
        assert_eq!(drain(only(outlets)).len() as u64, waiting * 1_000);
        assert_eq!(rig.counts(Sink::Redis), [waiting, lost, 0]);
    }

    #[test]
    fn half_a_line_of_a_crash_is_no_record() {
        let mut rig = Rig::new(1 << 20);
        let (mut inlet, outlets) = rig.open(&[Sink::Http]);
        inlet.append(b"1\n", 1);
        inlet.open.as_ref().unwrap().write_all(b"{\"half").unwrap();
        drop((inlet, outlets));
        let (mut inlet, outlets) = rig.open(&[Sink::Http]);
        inlet.append(b"2\n", 1);
        inlet.end();
        assert_eq!(drain(only(outlets)), "1\n2\n");
    }

    #[test]
    fn one_folder_serves_one_relay() {
        let mut rig = Rig::new(1 << 20);
        let _first = rig.open(&[Sink::Http]);
        let wish = SpoolWish { folder: rig.folder.path().to_owned(), limit: 1 << 20 };
        let error = open(&wish, &[Sink::Http], Arc::default()).unwrap_err();
        assert_eq!(error.to_string(), "another relay uses it");
        let lock = std::fs::metadata(rig.folder.path().join("lock")).unwrap();
        assert_eq!(lock.permissions().mode() & 0o777, 0o600, "others cannot lock it");
    }

    #[test]
    fn a_place_that_makes_no_sense_means_the_beginning() {
        let mut rig = Rig::new(1 << 20);
        for kept in ["", "nonsense", "1", "00001 99999999", "-1 -1"] {
            let (mut inlet, outlets) = rig.open(&[Sink::Http]);
            inlet.append(b"1\n", 1);
            drop((inlet, outlets));
            std::fs::write(rig.folder.path().join("http.place"), kept).unwrap();
            let (inlet, outlets) = rig.open(&[Sink::Http]);
            inlet.end();
            let text = drain(only(outlets));
            assert!(text == "1\n" || kept.contains("99999999"), "{kept:?}: {text:?}");
        }
    }
}
