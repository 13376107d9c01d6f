//! Memory that the kernel reads and writes beside us.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// A mapping, all zero at first unless the kernel says otherwise; it ends with the value.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl Send for Mapping {}

// SAFETY: words in it are atomics; whoever borrows its bytes keeps others away.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory of nobody else's that may be told to the kernel.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        Self::map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
    }

    /// The kernel's memory behind a descriptor.
    pub(crate) fn shared(
        of: BorrowedFd<'_>,
        offset: libc::off_t,
        bytes: usize,
    ) -> io::Result<Self> {
        Self::map(bytes, libc::MAP_SHARED | libc::MAP_POPULATE, of.as_raw_fd(), offset)
    }

    fn map(bytes: usize, flags: i32, descriptor: i32, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses a place that nothing else uses.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let place =
            unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, descriptor, offset) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(place.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { start, bytes })
    }

    /// Where it begins, as the kernel is told.
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// Its length.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The word at an offset that its alignment divides.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.bytes, "a word of the mapping");
        // SAFETY: the word lies within the mapping, which begins at a page, so it is aligned.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            self.start.add(at).cast().as_ref()
        }
    }

    /// The same of a double word.
    #[inline]
    pub(crate) fn double(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.bytes, "a double word of the mapping");
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            self.start.add(at).cast().as_ref()
        }
    }

    /// The octet at an offset.
    #[inline]
    pub(crate) fn octet(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.bytes, "an octet of the mapping");
        // SAFETY: the octet lies within the mapping.
        #[expect(unsafe_code, reason = "see SAFETY")]
        unsafe {
            self.start.add(at).cast().as_ref()
        }
    }

    /// Bytes to read and to write; `None` if they are not all in the mapping.
    ///
    /// # Safety
    ///
    /// Neither the kernel nor anybody else of ours may touch them as long as they are lent.
    #[inline]
    #[expect(unsafe_code, reason = "see Safety")]
    #[expect(clippy::mut_from_ref, reason = "callers see to it that nobody has the same bytes")]
    pub(super) unsafe fn lend(&self, at: u64, len: usize) -> Option<&mut [u8]> {
        let at = usize::try_from(at).ok()?;
        if at.checked_add(len)? > self.bytes {
            return None;
        }
        // SAFETY: the range lies within the mapping, and callers keep others away.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start.add(at).as_ptr(), len) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody refers to it any more.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_outside_of_a_mapping_is_lent_to_nobody() {
        let mapping = Mapping::anonymous(8_192).unwrap();
        let lend = |at, len| {
            // SAFETY: one at a time, and the kernel has been told nothing of the mapping.
            #[expect(unsafe_code, reason = "see SAFETY")]
            unsafe {
                mapping.lend(at, len)
            }
        };
        assert_eq!(lend(8_190, 2).map(|it| it.len()), Some(2));
        for (at, len) in [(8_190, 3), (8_193, 0), (u64::MAX, 2), (0, usize::MAX)] {
            assert!(lend(at, len).is_none(), "{at} {len}");
        }
        mapping.double(8).store(u64::MAX, Ordering::Relaxed);
        assert_eq!(lend(7, 10).unwrap(), [0, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
        assert_eq!(mapping.word(12).load(Ordering::Relaxed), u32::MAX);
    }
}
