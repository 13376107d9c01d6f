//! Sending: many datagrams a call, equal ones to one destination as one.
//!
//! A message is a destination and pieces of memory that lie anywhere, so that a run whose
//! headers were taken off, or are put on, needs no copy (`UDP_SEGMENT` cuts the concatenated
//! pieces at equal distances).

use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use proto::marks::Marks;

use super::control::{Control, space};
use super::length;
use super::name::Name;

/// Bytes of the control messages of one message: segment, class, hops.
const CONTROL: usize = 3 * space(size_of::<libc::c_int>());

/// What the sender knows of a message beyond its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// Which of the sender's runs it belongs to.
    pub(crate) run: usize,
    /// How many datagrams it becomes.
    pub(crate) datagrams: u32,
}

/// Where the parts of a message lie in the vectors of [`Outbound`].
#[derive(Clone, Copy)]
struct Extent {
    first_piece: usize,
    pieces: usize,
    name_len: libc::socklen_t,
}

/// Reused memory for the headers that `sendmmsg` wants.
pub(crate) struct Outbound {
    /// Point into the vectors below; gone as soon as one of those changes.
    headers: Vec<libc::mmsghdr>,
    extents: Vec<Extent>,
    labels: Vec<Label>,
    iovecs: Vec<libc::iovec>,
    names: Vec<Name>,
    controls: Vec<Control<CONTROL>>,
}

// SAFETY: the raw pointers inside are dead whenever no `Messages` borrows this object.
#[expect(unsafe_code, reason = "see SAFETY")]
unsafe impl Send for Outbound {}

impl Outbound {
    /// Memory for so many messages of so many pieces altogether; grows if it must.
    pub(crate) fn with_capacity(messages: usize, pieces: usize) -> Self {
        Self {
            headers: Vec::with_capacity(messages),
            extents: Vec::with_capacity(messages),
            labels: Vec::with_capacity(messages),
            iovecs: Vec::with_capacity(pieces),
            names: Vec::with_capacity(messages),
            controls: Vec::with_capacity(messages),
        }
    }

    /// Starts an empty list of messages made of data that live for `'d`.
    pub(crate) fn messages<'d>(&mut self) -> Messages<'_, 'd> {
        self.headers.clear();
        self.extents.clear();
        self.labels.clear();
        self.iovecs.clear();
        self.names.clear();
        self.controls.clear();
        Messages { store: self, sent: 0, data: PhantomData }
    }
}

/// Messages that wait to be sent through one socket.
pub(crate) struct Messages<'o, 'd> {
    store: &'o mut Outbound,
    sent: usize,
    data: PhantomData<&'d [u8]>,
}

impl<'d> Messages<'_, 'd> {
    /// Adds a message without pieces, whose headers get these marks where they differ from
    /// [`Marks::PLAIN`]; DF is for the socket to set. With `segment`, its pieces together are a
    /// run of datagrams of that many bytes, of which the last may be shorter.
    pub(crate) fn push(
        &mut self,
        to: SocketAddr,
        marks: Marks,
        segment: Option<u16>,
        label: Label,
    ) {
        self.store.headers.clear();
        let (name, name_len) = Name::of(to);
        self.store.names.push(name);
        self.store.controls.push(control(to, marks, segment));
        self.store.labels.push(label);
        self.store.extents.push(Extent {
            first_piece: self.store.iovecs.len(),
            pieces: 0,
            name_len,
        });
    }

    /// Adds a piece to the last message.
    pub(crate) fn piece(&mut self, bytes: &'d [u8]) {
        if let Some(extent) = self.store.extents.last_mut() {
            self.store.headers.clear();
            extent.pieces += 1;
            self.store.iovecs.push(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
        }
    }

    /// The messages that still wait.
    pub(crate) fn waiting(&self) -> &[Label] {
        self.store.labels.get(self.sent..).unwrap_or_default()
    }

    /// Gives the first waiting message up.
    pub(crate) fn skip(&mut self) {
        self.sent += 1;
    }

    /// Sends what waits without waiting; says which messages left, at least one. An error is
    /// about the first message that waits.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<&[Label]> {
        self.build_headers();
        let waiting = self.store.headers.get_mut(self.sent..).unwrap_or_default();
        // SAFETY: `waiting` are initialised headers whose names, controls and iovecs lie in
        // vectors of `store` that nobody changes between `build_headers` and here; each iovec
        // is a slice that lives for `'d`, longer than this object. The kernel only reads them.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                waiting.as_mut_ptr(),
                length(waiting.len()),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        let first = self.sent;
        self.sent += sent;
        Ok(&self.store.labels[first..self.sent])
    }

    /// Headers for all messages, unless they are there: then no vector has changed since.
    fn build_headers(&mut self) {
        let Outbound { headers, extents, iovecs, names, controls, .. } = &mut *self.store;
        if headers.len() == extents.len() {
            return;
        }
        headers.clear();
        let parts = extents.iter().zip(names).zip(controls);
        headers.extend(parts.map(|((extent, name), control)| {
            // SAFETY: a plain C structure for which all-zero is valid.
            #[expect(unsafe_code, reason = "see SAFETY")]
            let mut header = unsafe { std::mem::zeroed::<libc::mmsghdr>() };
            let message = &mut header.msg_hdr;
            message.msg_name = ptr::from_mut(name).cast();
            message.msg_namelen = extent.name_len;
            let pieces = &mut iovecs[extent.first_piece..][..extent.pieces];
            message.msg_iov = pieces.as_mut_ptr();
            message.msg_iovlen = pieces.len() as _;
            let (control, len) = control.written();
            message.msg_control = control;
            message.msg_controllen = len as _;
            header
        }));
    }
}

/// The control messages that ask for these marks and for segments of this size.
fn control(to: SocketAddr, marks: Marks, segment: Option<u16>) -> Control<CONTROL> {
    let mut control = Control::EMPTY;
    let (level, class, hops) = match to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS, libc::IP_TTL),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, libc::IPV6_HOPLIMIT),
    };
    if marks.class != Marks::PLAIN.class {
        control.add(level, class, marks.class.into());
    }
    if let Some(left) = marks.hops {
        control.add(level, hops, left.get().into());
    }
    if let Some(segment) = segment {
        control.add_bytes(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    control
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_added_after_a_send_that_failed_is_sent_with_the_rest() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (sender, receiver) = (bind(), bind());
        receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let to = receiver.local_addr().unwrap();
        let label = Label { run: 0, datagrams: 1 };
        let mut outbound = Outbound::with_capacity(1, 1);
        let mut messages = outbound.messages();
        messages.push("[::1]:9".parse().unwrap(), Marks::PLAIN, None, label);
        messages.piece(b"not over IPv4");
        messages.push(to, Marks::PLAIN, None, label);
        messages.piece(b"one");
        messages.send(sender.as_fd()).expect_err("another family");
        messages.skip();
        // The vector of pieces moves by this.
        for _ in 0..64 {
            messages.piece(b", two");
        }
        messages.send(sender.as_fd()).unwrap();
        messages.push(to, Marks::PLAIN, None, label);
        messages.piece(b"three");
        messages.send(sender.as_fd()).unwrap();
        let mut room = [0; 1_000];
        for expected in [format!("one{}", ", two".repeat(64)), "three".to_owned()] {
            let length = receiver.recv(&mut room).unwrap();
            assert_eq!(std::str::from_utf8(&room[..length]), Ok(&*expected));
        }
    }
}
