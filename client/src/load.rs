//! Many allocations, few system calls.
//!
//! A [`Lane`] is one client with an allocation and one channel. A [`Burst`] is some datagrams of
//! one size, one behind the other in memory, so that they leave as one `UDP_SEGMENT` run (what a
//! video frame looks like) or one by one in a `sendmmsg` (what many callers look like). A
//! [`Collector`] reads whatever a socket holds, `UDP_GRO` runs taken apart. Nothing here paces:
//! the caller knows its clock.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmmsg, sendmsg, setsockopt, sockopt,
};

use crate::wire::{CHANNEL_HEADER, channel_header};
use crate::{AllocateOptions, ClientError, Credentials, Options, TurnClient};

/// Longest run the kernel takes in one `UDP_SEGMENT` send, in datagrams and in bytes.
const RUN_MAX: (usize, usize) = (64, 65_000);

/// Datagrams read by one system call.
const COLLECT: usize = 32;

/// One client, its allocation and its channel.
#[derive(Debug)]
pub struct Lane {
    /// The client.
    pub client: TurnClient,
    /// Its relayed address.
    pub relayed: SocketAddr,
    /// The peer of its channel.
    pub peer: SocketAddr,
    /// The channel's number.
    pub channel: u16,
}

impl Lane {
    /// Allocates and binds one channel.
    pub fn open(
        server: SocketAddr,
        credentials: Credentials,
        peer: SocketAddr,
        options: Options,
    ) -> Result<Self, ClientError> {
        let mut client = TurnClient::connect_with(server, credentials, options)?;
        let relayed = client.allocate(&AllocateOptions::default())?.relayed;
        let channel = client.bind_channel(peer)?;
        Ok(Self { client, relayed, peer, channel })
    }

    /// Renews channel and permission, then the allocation.
    pub fn renew(&mut self, lifetime: Duration) -> Result<(), ClientError> {
        self.client.bind_channel(self.peer)?;
        self.client.refresh(lifetime).map(drop)
    }
}

/// Datagrams of one size in one piece of memory.
#[derive(Clone, Debug)]
pub struct Burst {
    bytes: Vec<u8>,
    segment: usize,
    header: usize,
}

impl Burst {
    /// `count` ChannelData messages with payloads of `payload_len` zero bytes.
    pub fn channel(number: u16, payload_len: u16, count: usize) -> Self {
        let mut message = channel_header(number, payload_len).to_vec();
        message.resize(CHANNEL_HEADER + usize::from(payload_len), 0);
        Self { segment: message.len(), header: CHANNEL_HEADER, bytes: message.repeat(count) }
    }

    /// `count` datagrams of `payload_len` zero bytes, as a peer sends them.
    pub fn plain(payload_len: u16, count: usize) -> Self {
        let segment = usize::from(payload_len);
        Self { segment, header: 0, bytes: vec![0; segment * count] }
    }

    /// How many datagrams it holds.
    pub fn count(&self) -> usize {
        self.bytes.len().checked_div(self.segment).unwrap_or(0)
    }

    /// The payloads, to be filled.
    pub fn payloads_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let header = self.header;
        self.bytes
            .chunks_exact_mut(self.segment.max(1))
            .map(move |message| message.get_mut(header..).unwrap_or_default())
    }

    /// Sends all as runs the kernel cuts up (`UDP_SEGMENT`); `to` is needed on sockets that are
    /// not connected. Returns the datagrams accepted.
    pub fn send_as_run(&self, socket: &UdpSocket, to: Option<SocketAddr>) -> io::Result<usize> {
        let segment = u16::try_from(self.segment).map_err(|_| io::ErrorKind::InvalidInput)?;
        let to = to.map(SockaddrStorage::from);
        let (most, most_bytes) = RUN_MAX;
        let per_run = most.min(most_bytes / self.segment.max(1)).max(1);
        let mut sent = 0;
        for run in self.bytes.chunks(per_run * self.segment.max(1)) {
            let control = [ControlMessage::UdpGsoSegments(&segment)];
            // A lone datagram needs no cutting, and some kernels refuse to pretend.
            let control = if run.len() > self.segment { &control[..] } else { &[] };
            let slice = [IoSlice::new(run)];
            sendmsg(socket.as_raw_fd(), &slice, control, MsgFlags::empty(), to.as_ref())?;
            sent += run.len() / self.segment.max(1);
        }
        Ok(sent)
    }

    /// Sends each as a datagram of its own, by `sendmmsg`. Returns the datagrams accepted.
    pub fn send_singly(&self, socket: &UdpSocket, to: Option<SocketAddr>) -> io::Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> = self
            .bytes
            .chunks_exact(self.segment.max(1))
            .map(|message| [IoSlice::new(message)])
            .collect();
        let to = vec![to.map(SockaddrStorage::from); slices.len()];
        let mut headers = MultiHeaders::preallocate(slices.len(), None);
        let flags = MsgFlags::empty();
        let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &to, [], flags)?;
        Ok(sent.count())
    }

    /// All of them, as they go over a stream, if each is a multiple of four bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One message, as it goes over the wire.
    pub fn message(&self, index: usize) -> Option<&[u8]> {
        self.bytes.chunks_exact(self.segment.max(1)).nth(index)
    }
}

/// Reads a socket's datagrams in batches.
#[derive(Debug)]
pub struct Collector {
    buffers: Vec<Vec<u8>>,
}

impl Default for Collector {
    fn default() -> Self {
        Self { buffers: vec![vec![0; 65_536]; COLLECT] }
    }
}

impl Collector {
    /// Lets the kernel hand over runs in one piece; [`Collector::drain`] takes them apart.
    pub fn prepare(socket: &UdpSocket) -> io::Result<()> {
        Ok(setsockopt(socket, sockopt::UdpGroSegment, &true)?)
    }

    /// Reads what is there without waiting; hands each datagram and its source to `each`.
    /// Returns how many datagrams there were.
    pub fn drain(
        &mut self,
        socket: &UdpSocket,
        mut each: impl FnMut(Option<SocketAddr>, &[u8]),
    ) -> io::Result<usize> {
        let mut datagrams = 0;
        loop {
            let batch = self.batch(socket, &mut each)?;
            datagrams += batch.datagrams;
            if batch.messages < COLLECT {
                return Ok(datagrams);
            }
        }
    }

    fn batch(
        &mut self,
        socket: &UdpSocket,
        each: &mut impl FnMut(Option<SocketAddr>, &[u8]),
    ) -> io::Result<Batch> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        // New headers each time: the kernel shortens the room for control messages in place.
        let space = nix::cmsg_space!(i32);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(COLLECT, Some(space));
        let fd = socket.as_raw_fd();
        let received = match recvmmsg(fd, &mut headers, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Batch::default()),
            Err(error) => return Err(error.into()),
        };
        let mut batch = Batch::default();
        for message in received {
            batch.messages += 1;
            let segment = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
                _ => None,
            });
            let from = message.address.as_ref().and_then(socket_addr);
            let run = message.iovs().next().unwrap_or_default();
            let mut one = |datagram: &[u8]| {
                batch.datagrams += 1;
                each(from, datagram);
            };
            match segment {
                Some(size) if size > 0 => run.chunks(size).for_each(&mut one),
                _ => one(run),
            }
        }
        Ok(batch)
    }
}

#[derive(Clone, Copy, Default)]
struct Batch {
    messages: usize,
    datagrams: usize,
}

fn socket_addr(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|addr| SocketAddr::V4((*addr).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|addr| SocketAddr::V6((*addr).into())))
}
