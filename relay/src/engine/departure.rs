//! Sending the runs of a batch through one socket, with as few calls as it lets us.
//!
//! A run goes out as one message that the kernel cuts up. A device or a path may refuse that
//! (datagrams above its MTU, no checksum help); the run is then sent datagram by datagram, and
//! the socket remembers the size, so that the refusal is paid once.
//!
//! A listener's socket is told the marks of each run beside its bytes, as its clients are many. A
//! relayed socket has one client: it is set to the marks of what it sends next, so that only a
//! change costs something, and only the client that changes.

use std::io;
use std::os::fd::AsFd;

use mio::net::UdpSocket;
use proto::marks::Marks;

use super::EngineTally;
use super::batch::{Batch, Run};
use crate::sys::{Label, Messages, Outbound};

/// A socket to send through.
pub(super) struct Door<'s> {
    /// The socket.
    pub(super) socket: &'s UdpSocket,
    /// The largest datagram it has not yet refused in a run.
    pub(super) largest_run: &'s mut u32,
    /// The marks it puts into headers unless it is told others.
    pub(super) marks: Marks,
    /// Whether ICMP messages are kept for it: then a send may fail because of an earlier one.
    pub(super) keeps_errors: bool,
}

impl Door<'_> {
    /// Sends these runs, in order; counts what could not be sent.
    pub(super) fn send<'b>(
        &mut self,
        batch: &'b Batch,
        runs: &(impl Iterator<Item = &'b Run> + Clone),
        outbound: &mut Outbound,
        tally: &mut EngineTally,
    ) {
        if self.send_single(batch, runs.clone(), tally) {
            return;
        }
        let mut next = Some(0);
        while let Some(first) = next {
            let mut messages = outbound.messages();
            for (index, run) in runs.clone().enumerate().skip(first) {
                if run.datagrams > 1 && run.size <= *self.largest_run {
                    self.push_whole(&mut messages, batch, run, index);
                } else {
                    self.push_each(&mut messages, batch, run, index);
                }
            }
            next = self.send_messages(&mut messages, tally);
            if let Some(run) = next.and_then(|refused| runs.clone().nth(refused)) {
                *self.largest_run = run.size - 1;
            }
        }
    }

    /// The shortest way for the commonest case: one datagram in one piece.
    fn send_single<'b>(
        &self,
        batch: &'b Batch,
        mut runs: impl Iterator<Item = &'b Run>,
        tally: &mut EngineTally,
    ) -> bool {
        let (Some(run), None) = (runs.next(), runs.next()) else { return false };
        if run.datagrams > 1 || run.way.marks != self.marks {
            return false;
        }
        let mut pieces = batch.pieces(run);
        let (Some(bytes), None) = (pieces.next(), pieces.next()) else { return false };
        tally.sends += 1;
        let mut outcome = self.socket.send_to(bytes, run.way.to);
        if self.keeps_errors && outcome.as_ref().is_err_and(tells_of_another) {
            outcome = self.socket.send_to(bytes, run.way.to);
        }
        match outcome {
            Ok(_) => tally.datagrams_out += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tally.send_queue_full += 1,
            Err(_) => tally.send_refused += 1,
        }
        true
    }

    /// Sends messages until none waits. Returns the index of a run that the kernel would not
    /// cut up; it and all that follow are still to be sent.
    fn send_messages(
        &self,
        messages: &mut Messages<'_, '_>,
        tally: &mut EngineTally,
    ) -> Option<usize> {
        let mut again = self.keeps_errors;
        while let Some(&first) = messages.waiting().first() {
            tally.sends += 1;
            match messages.send(self.socket.as_fd()) {
                Ok(sent) => {
                    again = self.keeps_errors;
                    tally.datagrams_out += datagrams(sent);
                    tally.runs_out += sent.iter().filter(|sent| sent.datagrams > 1).count() as u64;
                }
                Err(error) if again && tells_of_another(&error) => again = false,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        tally.send_queue_full += datagrams(messages.waiting());
                        return None;
                    }
                    _ if first.datagrams > 1 && refuses_runs(&error) => return Some(first.run),
                    _ => {
                        tally.send_refused += u64::from(first.datagrams);
                        messages.skip();
                        again = self.keeps_errors;
                    }
                },
            }
        }
        None
    }

    /// Adds a run as one message.
    fn push_whole<'b>(
        &self,
        messages: &mut Messages<'_, 'b>,
        batch: &'b Batch,
        run: &Run,
        index: usize,
    ) {
        let segment = u16::try_from(run.size).ok();
        let label = Label { run: index, datagrams: run.datagrams };
        messages.push(run.way.to, self.told(run), segment, label);
        for piece in batch.pieces(run) {
            messages.piece(piece);
        }
    }

    /// Adds a run as one message for each datagram.
    fn push_each<'b>(
        &self,
        messages: &mut Messages<'_, 'b>,
        batch: &'b Batch,
        run: &Run,
        index: usize,
    ) {
        let label = Label { run: index, datagrams: 1 };
        let size = run.size as usize;
        let mut filled = size;
        for piece in batch.pieces(run) {
            if filled == size {
                messages.push(run.way.to, self.told(run), None, label);
                filled = 0;
            }
            messages.piece(piece);
            filled += piece.len();
        }
    }

    /// The marks the socket must be told for this run.
    fn told(&self, run: &Run) -> Marks {
        if run.way.marks == self.marks { Marks::PLAIN } else { run.way.marks }
    }
}

/// Whether an error may be about an earlier datagram, of which ICMP told meanwhile.
fn tells_of_another(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether an error may be about the run as such, rather than about its destination.
fn refuses_runs(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP)
    )
}

fn datagrams(messages: &[Label]) -> u64 {
    messages.iter().map(|message| u64::from(message.datagrams)).sum()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proto::addr::{ClientAddr, FiveTuple, ListenerId};

    use super::*;

    /// Sends these messages to these places through one socket.
    fn send(messages: &[(SocketAddr, &[u8])], largest_run: &mut u32) -> EngineTally {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut batch = Batch::new();
        for (to, bytes) in messages {
            let to = FiveTuple { listener: ListenerId(0), client: ClientAddr::new(*to) };
            batch.reply(to, true, bytes);
        }
        let mut tally = EngineTally::default();
        let mut door =
            Door { socket: &socket, largest_run, marks: Marks::PLAIN, keeps_errors: false };
        let mut outbound = Outbound::with_capacity(1, 1);
        door.send(&batch, &batch.runs().iter(), &mut outbound, &mut tally);
        tally
    }

    fn receiver() -> (std::net::UdpSocket, SocketAddr) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn expect(socket: &std::net::UdpSocket, bytes: &[u8]) {
        let mut buffer = [0; 100];
        let len = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], bytes);
    }

    #[test]
    fn runs_leave_in_one_call_and_arrive_apart() {
        let (socket, to) = receiver();
        let tally = send(&[(to, b"one"), (to, b"two"), (to, b"3")], &mut u32::MAX.clone());
        assert_eq!((tally.sends, tally.runs_out, tally.datagrams_out), (1, 1, 3));
        for bytes in [&b"one"[..], b"two", b"3"] {
            expect(&socket, bytes);
        }
    }

    #[test]
    fn a_socket_that_refuses_runs_sends_datagrams() {
        let (socket, to) = receiver();
        let tally = send(&[(to, b"one"), (to, b"two"), (to, b"3")], &mut 2);
        assert_eq!((tally.sends, tally.runs_out, tally.datagrams_out), (1, 0, 3));
        for bytes in [&b"one"[..], b"two", b"3"] {
            expect(&socket, bytes);
        }
    }

    #[test]
    fn what_the_kernel_refuses_costs_nobody_else() {
        // The kernel sends nothing to port 0, neither as a run nor alone.
        let nowhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (socket, to) = receiver();
        let mut largest = u32::MAX;
        let messages: [(SocketAddr, &[u8]); 6] = [
            (to, b"before"),
            (nowhere, b"lost"),
            (nowhere, b"lost"),
            (nowhere, b"l"),
            (to, b"behind"),
            (to, b"last"),
        ];
        let tally = send(&messages, &mut largest);
        assert_eq!((tally.datagrams_out, tally.send_refused), (3, 3));
        assert_eq!(largest, 3, "runs of that size are not tried again");
        for bytes in [&b"before"[..], b"behind", b"last"] {
            expect(&socket, bytes);
        }
    }

    #[test]
    fn a_single_datagram_that_is_refused_is_counted() {
        let tally = send(&[("127.0.0.1:0".parse().unwrap(), b"lost")], &mut u32::MAX.clone());
        assert_eq!((tally.sends, tally.datagrams_out, tally.send_refused), (1, 0, 1));
    }
}
