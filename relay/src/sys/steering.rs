//! Steering: which of the sockets that share a port gets a datagram.
//!
//! A classic BPF program, which needs no privilege, looks at source and first bytes of each
//! datagram. By the source it chooses a worker, as [`proto::addr::steer`] does; by the first bytes
//! one of its two lanes. What strangers can send to make work, requests above all, waits apart
//! from what calls live on, so that a flood fills its own queue and no other. A lane decides where
//! a datagram waits and nothing else: whichever brings it, it is judged alike.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD,
    BPF_LDX, BPF_LEN, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MOD, BPF_MSH, BPF_MUL, BPF_OR, BPF_RET,
    BPF_RSH, BPF_ST, BPF_TAX, BPF_W, BPF_X, BPF_XOR,
};
use proto::addr::{Family, STEER_FACTOR};
use proto::demux::MS_COOKIE;

use super::length;

/// Where a datagram waits for its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// What only established calls have a use for: ChannelData, Send, bare payload, records of DTLS.
    Media = 0,
    /// What anybody may send: requests, handshakes, and what nobody understands.
    Requests = 1,
}

impl Lane {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Media, Self::Requests];

    /// The name used in labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Requests => "requests",
        }
    }
}

/// What is spoken at a port beside TURN of the RFCs: there is more media then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spoken {
    /// MS-TURN, whose bare payload looks like anything.
    pub(crate) microsoft: bool,
    /// DTLS.
    pub(crate) dtls: bool,
    /// The channel numbers of RFC 5766.
    pub(crate) rfc5766_channels: bool,
}

/// How the sockets of a port are chosen among.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steering {
    /// Of the port's address.
    pub(crate) family: Family,
    /// How many there are.
    pub(crate) workers: u16,
    /// Whether each has two sockets, in order of [`Lane`]; otherwise it has one.
    pub(crate) lanes: Option<Spoken>,
}

/// Makes the kernel choose so among the sockets of a port, however many of them are bound yet.
/// They must be bound in order of their workers, those of a worker in order of their lanes.
pub(crate) fn attach_steering(socket: BorrowedFd<'_>, steering: Steering) -> io::Result<()> {
    let mut program = steering.program();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` names `len` instructions that live until the call returns; the kernel
    // checks and copies them.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            length(size_of_val(&filter)),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Steering {
    /// The position of the socket, by the network header and the payload.
    fn program(self) -> Vec<libc::sock_filter> {
        let mut program = worker(self.family, self.workers);
        if let Some(spoken) = self.lanes {
            // The first of the worker's sockets is remembered; a lane is added to it.
            program.extend([step(BPF_ALU | BPF_LSH | BPF_K, 1), step(BPF_ST, 0)]);
            program.extend(lanes(spoken).code());
        } else {
            program.push(step(BPF_RET | BPF_A, 0));
        }
        program
    }
}

/// Leaves in the accumulator what [`proto::addr::steer`] says.
///
/// IPv4 options are stepped over. IPv6 extension headers are not: such packets are rare, and
/// all of one flow still meet at one worker.
fn worker(family: Family, workers: u16) -> Vec<libc::sock_filter> {
    if workers == 1 {
        return vec![step(BPF_LD, 0)];
    }
    // Offsets with this base count from the network header.
    let network = |offset: u32| libc::SKF_NET_OFF.cast_unsigned().wrapping_add(offset);
    let (load_port, address) = match family {
        Family::V4 => (
            vec![
                step(BPF_LDX | BPF_B | BPF_MSH, network(0)),
                step(BPF_LD | BPF_H | BPF_IND, network(0)),
            ],
            network(12),
        ),
        Family::V6 => (vec![step(BPF_LD | BPF_H | BPF_ABS, network(40))], network(20)),
    };
    let mut program = load_port;
    program.extend([
        step(BPF_MISC | BPF_TAX, 0),
        step(BPF_LD | BPF_W | BPF_ABS, address),
        step(BPF_ALU | BPF_XOR | BPF_X, 0),
        step(BPF_ALU | BPF_MUL | BPF_K, STEER_FACTOR),
        step(BPF_ALU | BPF_RSH | BPF_K, 16),
        step(BPF_ALU | BPF_MOD | BPF_K, u32::from(workers)),
    ]);
    program
}

/// A question about a datagram, or the answer.
enum Tree {
    Lane(Lane),
    /// What is loaded, how it is compared with a number; what follows if that holds, and if not.
    If(Loaded, Compared, u32, Box<[Tree; 2]>),
}

/// What is asked for. Bytes are only asked for where they are known to be there: a program that
/// reads past the end is over, with the first socket.
#[derive(Clone, Copy)]
enum Loaded {
    Len,
    Byte,
    /// The first two bytes.
    Half,
    /// Four bytes from an offset.
    Word(u32),
}

#[derive(Clone, Copy)]
enum Compared {
    Equals,
    IsAtLeast,
}

/// Which lane a datagram takes.
fn lanes(spoken: Spoken) -> Tree {
    let other = || Tree::Lane(if spoken.microsoft { Lane::Media } else { Lane::Requests });
    let last_channel = if spoken.rfc5766_channels { 127 } else { 79 };
    let byte = |least, yes, no| when(Loaded::Byte, Compared::IsAtLeast, least, yes, no);
    let low = byte(4, if spoken.dtls { dtls(other) } else { other() }, stun(spoken.microsoft));
    let any = byte(64, byte(last_channel + 1, other(), Tree::Lane(Lane::Media)), low);
    when(Loaded::Len, Compared::IsAtLeast, 1, any, Tree::Lane(Lane::Requests))
}

/// Of records, those with data, and all of DTLS 1.3 that are sealed, whatever is in them. Others
/// belong to handshakes.
fn dtls(other: impl Fn() -> Tree) -> Tree {
    const APPLICATION_DATA: u32 = 23;
    let lane = Tree::Lane;
    let byte = |compared, k, yes, no| when(Loaded::Byte, compared, k, yes, no);
    let record = byte(Compared::Equals, APPLICATION_DATA, lane(Lane::Media), lane(Lane::Requests));
    let record = byte(Compared::IsAtLeast, 32, lane(Lane::Media), record);
    byte(Compared::IsAtLeast, 20, record, other())
}

/// Of messages, Send.
fn stun(microsoft: bool) -> Tree {
    const SEND_INDICATION: u32 = 0x0016;
    /// Refresh elsewhere.
    const MS_SEND_REQUEST: u32 = 0x0004;
    let (cookie, _) = MS_COOKIE.as_chunks();
    let [first, second] = [0, 1].map(|index| u32::from_be_bytes(cookie[index]));
    let lane = Tree::Lane;
    let is = |loaded, k, yes, no| when(loaded, Compared::Equals, k, yes, no);
    let has =
        |bytes, yes| when(Loaded::Len, Compared::IsAtLeast, bytes, yes, Tree::Lane(Lane::Requests));
    let rest = if microsoft {
        let rest = is(Loaded::Word(24), second, lane(Lane::Media), lane(Lane::Requests));
        let both = is(Loaded::Word(20), first, rest, lane(Lane::Requests));
        is(Loaded::Half, MS_SEND_REQUEST, has(28, both), lane(Lane::Requests))
    } else {
        lane(Lane::Requests)
    };
    has(20, is(Loaded::Half, SEND_INDICATION, lane(Lane::Media), rest))
}

fn when(loaded: Loaded, compared: Compared, with: u32, yes: Tree, no: Tree) -> Tree {
    Tree::If(loaded, compared, with, Box::new([yes, no]))
}

impl Tree {
    /// As instructions that return the first socket of the worker plus the lane.
    fn code(&self) -> Vec<libc::sock_filter> {
        match self {
            Self::Lane(lane) => vec![
                step(BPF_LD | BPF_MEM, 0),
                step(BPF_ALU | BPF_OR | BPF_K, *lane as u32),
                step(BPF_RET | BPF_A, 0),
            ],
            Self::If(loaded, compared, with, branches) => {
                let [yes, no] = branches.each_ref().map(Self::code);
                let load = match loaded {
                    Loaded::Len => step(BPF_LD | BPF_W | BPF_LEN, 0),
                    Loaded::Byte => step(BPF_LD | BPF_B | BPF_ABS, 0),
                    Loaded::Half => step(BPF_LD | BPF_H | BPF_ABS, 0),
                    Loaded::Word(at) => step(BPF_LD | BPF_W | BPF_ABS, *at),
                };
                let code = match compared {
                    Compared::Equals => BPF_JEQ,
                    Compared::IsAtLeast => BPF_JGE,
                };
                let mut jump = step(BPF_JMP | code | BPF_K, *with);
                jump.jf = u8::try_from(yes.len()).expect("the tree is small");
                [vec![load, jump], yes, no].concat()
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "instruction codes are 16 bits wide")]
fn step(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
