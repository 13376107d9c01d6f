//! Sending the runs of a batch through one socket, with as few calls as it lets us.
//!
//! A run goes out as one message that the kernel cuts up. A device or a path may refuse that
//! (datagrams above its MTU, no checksum help); the run is then sent datagram by datagram, and
//! the socket remembers the size, so that the refusal is paid once.

use std::io;
use std::os::fd::AsFd;

use mio::net::UdpSocket;

use super::EngineTally;
use super::batch::{Batch, Run};
use crate::sys::{Label, Messages, Outbound};

/// A socket to send through.
pub(super) struct Door<'s> {
    /// The socket.
    pub(super) socket: &'s UdpSocket,
    /// The largest datagram it has not yet refused in a run.
    pub(super) largest_run: &'s mut u32,
}

impl Door<'_> {
    /// Sends these runs, in order; counts what could not be sent.
    pub(super) fn send<'b>(
        &mut self,
        batch: &'b Batch,
        runs: impl Iterator<Item = &'b Run> + Clone,
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
                    push_whole(&mut messages, batch, run, index);
                } else {
                    push_each(&mut messages, batch, run, index);
                }
            }
            next = self.send_messages(&mut messages, tally).map(|refused| {
                let size = runs.clone().nth(refused).map_or(0, |run| run.size);
                *self.largest_run = size.saturating_sub(1).min(*self.largest_run);
                refused
            });
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
        if run.datagrams > 1 {
            return false;
        }
        let mut pieces = batch.pieces(run);
        let (Some(bytes), None) = (pieces.next(), pieces.next()) else { return false };
        tally.sends += 1;
        match self.socket.send_to(bytes, run.to) {
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
        while let Some(&first) = messages.waiting().first() {
            tally.sends += 1;
            match messages.send(self.socket.as_fd()) {
                Ok(sent) => {
                    tally.datagrams_out += datagrams(sent);
                    tally.runs_out += sent.iter().filter(|sent| sent.datagrams > 1).count() as u64;
                }
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
                    }
                },
            }
        }
        None
    }
}

/// Whether an error may be about the run as such, rather than about its destination.
fn refuses_runs(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP)
    )
}

/// Adds a run as one message.
fn push_whole<'b>(messages: &mut Messages<'_, 'b>, batch: &'b Batch, run: &Run, index: usize) {
    let segment = u16::try_from(run.size).ok();
    messages.push(run.to, segment, Label { run: index, datagrams: run.datagrams });
    for piece in batch.pieces(run) {
        messages.piece(piece);
    }
}

/// Adds a run as one message for each datagram.
fn push_each<'b>(messages: &mut Messages<'_, 'b>, batch: &'b Batch, run: &Run, index: usize) {
    let label = Label { run: index, datagrams: 1 };
    let size = run.size as usize;
    let mut filled = size;
    for piece in batch.pieces(run) {
        if filled == size {
            messages.push(run.to, None, label);
            filled = 0;
        }
        messages.piece(piece);
        filled += piece.len();
    }
}

fn datagrams(messages: &[Label]) -> u64 {
    messages.iter().map(|message| u64::from(message.datagrams)).sum()
}
