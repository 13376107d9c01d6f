//! What clients cost that are connected and say nothing: memory of the server, memory of the kernel,
//! and the time it took to give them their allocations.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use client::{AllocateOptions, ClientError, Options, TurnClient};
use nix::sys::resource::{Resource, getrlimit};

use crate::clock;
use crate::cpu::Spent;
use crate::server::{Kind, Order, Server, credentials};
use crate::site::{CLIENT, Room, Site};

/// First port of the clients of each server: a port rests after its connection.
fn first_port(kind: Kind) -> u16 {
    match kind {
        Kind::Ours | Kind::Kernel => 2_000,
        Kind::Coturn => 24_000,
    }
}

/// Descriptors that a server needs for itself.
const OWN_FILES: u64 = 100;

/// How long a server may put its memory in order before it is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Opens allocations at each server, leaves them idle and prints what the server grew by.
pub(crate) fn weigh<'a>(
    site: &Site,
    orders: impl Iterator<Item = Order<'a>>,
    clients: u16,
) -> io::Result<()> {
    println!(
        "Kernel: what its objects grew by for each allocation, sockets of clients not counted. Time: of the \
         server's threads, for the two requests of each.\n\
         {:<8}{:>10}{:>18}{:>14}{:>14}{:>16}{:>16}{:>12}",
        "",
        "clients",
        "with allocations",
        "MiB before",
        "MiB after",
        "KiB a client",
        "kernel KiB",
        "µs each"
    );
    for order in orders {
        let server = Server::start(site, order)?;
        let before = server.resident_bytes()?;
        let allocations = clients.min(room(clients)?);
        let mut connected = connect(site, order, clients)?;
        let spent = || Spent::read(order.core, server.id(), &[]).map(|spent| spent.tasks);
        let (kernel, time) = (kernel_bytes()?, spent()?);
        allocate(&mut connected, allocations).map_err(|error| {
            io::Error::other(format!("{}: {clients} clients: {error}", order.kind.name()))
        })?;
        let time = spent()?.saturating_sub(time);
        clock::rest(SETTLE);
        let after = server.resident_bytes()?;
        let kernel = kernel_bytes()?.saturating_sub(kernel);
        let each = |figure: f64| figure / f64::from(allocations.max(1));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{:<8}{:>10}{:>18}{:>14.1}{:>14.1}{:>16.2}{:>16.2}{:>12.1}",
            order.kind.name(),
            connected.len(),
            allocations,
            mib(before),
            mib(after),
            mib(after.saturating_sub(before)) * 1024.0 / f64::from(clients),
            each(mib(kernel) * 1024.0),
            each(time.as_secs_f64() * 1e6),
        );
    }
    Ok(())
}

/// Allocations that so many clients of a server leave it descriptors for: one more each.
fn room(clients: u16) -> io::Result<u16> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let left = hard.saturating_sub(u64::from(clients) + OWN_FILES);
    Ok(u16::try_from(left).unwrap_or(u16::MAX))
}

/// Clients that a server has answered once.
fn connect(site: &Site, order: Order<'_>, clients: u16) -> io::Result<Vec<TurnClient>> {
    let transport = order.carrier.transport()?;
    let connected = site.enter(Room::Clients, move || {
        (first_port(order.kind)..)
            .take(clients.into())
            .map(|port| {
                let options = Options {
                    transport: transport.clone(),
                    bind: Some(SocketAddr::new(CLIENT.into(), port)),
                    ..Options::default()
                };
                let server = order.kind.addr();
                let mut client = TurnClient::connect_with(server, credentials(port), options)?;
                client.binding()?;
                Ok(client)
            })
            .collect::<Result<Vec<_>, ClientError>>()
    })?;
    connected.map_err(|error| {
        io::Error::other(format!("{}: connecting {clients} clients: {error}", order.kind.name()))
    })
}

/// Gives the first of them an allocation each.
fn allocate(clients: &mut [TurnClient], count: u16) -> Result<(), ClientError> {
    let mut first = clients.iter_mut().take(count.into());
    first.try_for_each(|client| client.allocate(&AllocateOptions::default()).map(drop))
}

/// Memory of the kernel's objects: all that it cannot give back, and of those it could the inode and the
/// name of each socket. The rest of these is kept in case somebody asks again, as for who looks through
/// the descriptors of processes: a kilobyte for each that is none of the server's.
fn kernel_bytes() -> io::Result<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo")?;
    let objects = |name: &str| {
        let line = slabs.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let mut words = line?.split_whitespace().map(str::parse::<u64>);
        let (active, _, size) = (words.next()?.ok()?, words.next()?, words.next()?.ok()?);
        Some((active, size))
    };
    let sockets = || Some((objects("sock_inode_cache")?, objects("dentry")?));
    let ((sockets, inode), (_, name)) =
        sockets().ok_or_else(|| io::Error::other("the kernel tells nothing of sockets"))?;
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("SUnreclaim:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok())
        .ok_or_else(|| io::Error::other("the kernel tells no SUnreclaim"))?;
    Ok(kib * 1024 + sockets * (inode + name))
}
