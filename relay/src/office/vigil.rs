//! Certificates are read again when anything about their files has changed.
//!
//! Those that are no good are tried again, and not at changes of their files alone: what was in
//! the way may have been a folder's mode, or descriptors that had run out. The log hears when
//! something is wrong, when it is something else, and when it is over; not of each try.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use guard::Reader;
use guard::certificate::Unusable;

use crate::certificates::{Certificates, Traces};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// After how many looks those that are no good are tried again: a minute.
const LOOKS: u32 = 30;

/// What is known of the files.
#[derive(Debug)]
struct Vigil {
    certificates: Arc<Certificates>,
    seen: Traces,
    /// What was wrong when they were read last, and looks since then.
    wrong: Option<((usize, Unusable), u32)>,
}

/// What the log hears.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Renewed,
    /// Nothing is wrong any more, and the certificates are those in use.
    Mended,
    Wrong(usize, Unusable),
}

/// Keeps watch for ever.
pub(super) async fn keep(certificates: Option<Arc<Certificates>>, reader: Reader) {
    let Some(certificates) = certificates else { return future::pending().await };
    let mut vigil = Vigil::over(certificates);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let look = move || (vigil.look(), vigil);
        let Some((word, same)) = reader.run(look).await else {
            tracing::error!("certificates are no longer watched");
            return future::pending().await;
        };
        vigil = same;
        match word {
            None => {}
            Some(Word::Renewed) => tracing::info!("new certificates are in use"),
            Some(Word::Mended) => tracing::info!("the files of certificates are good again"),
            Some(Word::Wrong(index, Unusable { file, path, why })) => tracing::error!(
                "tls.certificates[{index}].{file} = {path:?}: {why} The certificates in use stay."
            ),
        }
    }
}

impl Vigil {
    fn over(certificates: Arc<Certificates>) -> Self {
        Self { seen: certificates.first_traces(), certificates, wrong: None }
    }

    /// Looks at the files once, and reads them if that is due.
    fn look(&mut self) -> Option<Word> {
        let traces = self.certificates.traces();
        let changed = traces != self.seen;
        self.seen = traces;
        let again = self.wrong.as_mut().is_some_and(|(_, looks)| {
            *looks += 1;
            *looks >= LOOKS
        });
        if !changed && !again {
            return None;
        }
        let before = self.wrong.take().map(|(wrong, _)| wrong);
        match self.certificates.reload() {
            Ok(true) => Some(Word::Renewed),
            Ok(false) => before.map(|_| Word::Mended),
            Err(wrong) => {
                let known = before.as_ref() == Some(&wrong);
                self.wrong = Some((wrong.clone(), 0));
                (!known).then_some(Word::Wrong(wrong.0, wrong.1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use guard::certificate::Files;

    use super::*;

    fn renew(files: &Files, mode: u32) {
        let own = rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]).unwrap();
        fs::write(&files.certificate, own.cert.pem()).unwrap();
        fs::write(&files.key, own.signing_key.serialize_pem()).unwrap();
        change_mode(&files.key, mode);
    }

    fn change_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn watched(home: &Path) -> (Files, Vigil) {
        let files = Files { certificate: home.join("cert.pem"), key: home.join("key.pem") };
        renew(&files, 0o600);
        let certificates = Certificates::load(vec![files.clone()]).unwrap();
        (files, Vigil::over(Arc::new(certificates)))
    }

    #[test]
    fn a_key_that_others_could_read_is_taken_as_soon_as_its_mode_is_right() {
        let home = tempfile::tempdir().unwrap();
        let (files, mut vigil) = watched(home.path());
        assert_eq!(vigil.look(), None);
        renew(&files, 0o644);
        let word = vigil.look();
        assert!(
            matches!(&word, Some(Word::Wrong(0, it)) if it.why.contains("chmod o= FILE")),
            "{word:?}"
        );
        assert_eq!(vigil.look(), None, "it is said once");
        change_mode(&files.key, 0o640);
        assert_eq!(vigil.look(), Some(Word::Renewed));
        assert_eq!(vigil.look(), None);
    }

    #[test]
    fn what_stood_in_the_way_elsewhere_is_noticed_within_a_minute_and_said_once() {
        let home = tempfile::tempdir().unwrap();
        let (files, mut vigil) = watched(home.path());
        // As it is when a try failed for want of descriptors: the files are good, and do not change.
        let wrong = Unusable { file: "key", path: String::new(), why: "too many files".to_owned() };
        renew(&files, 0o600);
        vigil.seen = vigil.certificates.traces();
        vigil.wrong = Some(((0, wrong), 0));
        let words: Vec<_> = (0..2 * LOOKS).filter_map(|_| vigil.look()).collect();
        assert_eq!(words, [Word::Renewed]);
        fs::remove_file(&files.key).unwrap();
        let words: Vec<_> = (0..3 * LOOKS).filter_map(|_| vigil.look()).collect();
        assert!(matches!(&words[..], [Word::Wrong(0, _)]), "one line: {words:?}");
    }

    #[test]
    fn the_log_hears_that_files_are_good_again_and_not_that_they_were_touched() {
        let home = tempfile::tempdir().unwrap();
        let (files, mut vigil) = watched(home.path());
        change_mode(&files.key, 0o640);
        assert_eq!(vigil.look(), None, "the same certificate");
        change_mode(&files.key, 0o644);
        assert!(matches!(vigil.look(), Some(Word::Wrong(0, _))));
        change_mode(&files.key, 0o600);
        assert_eq!(vigil.look(), Some(Word::Mended));
    }
}
