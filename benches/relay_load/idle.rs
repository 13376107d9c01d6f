//! What clients cost that are connected and say nothing: memory.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use client::{AllocateOptions, Options, TurnClient};
use nix::sys::resource::{Resource, getrlimit};

use crate::clock;
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
        "{:<8}{:>10}{:>18}{:>14}{:>14}{:>16}",
        "", "clients", "with allocations", "MiB before", "MiB after", "KiB a client"
    );
    for order in orders {
        let server = Server::start(site, order)?;
        let before = server.resident_bytes()?;
        let allocations = clients.min(room(clients)?);
        let connected = open(site, order, clients, allocations)?;
        clock::rest(SETTLE);
        let after = server.resident_bytes()?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{:<8}{:>10}{:>18}{:>14.1}{:>14.1}{:>16.2}",
            order.kind.name(),
            connected.len(),
            allocations,
            mib(before),
            mib(after),
            mib(after.saturating_sub(before)) * 1024.0 / f64::from(clients),
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

/// Clients, the first of them with an allocation each; the others are only connected.
fn open(
    site: &Site,
    order: Order<'_>,
    clients: u16,
    allocations: u16,
) -> io::Result<Vec<TurnClient>> {
    let transport = order.carrier.transport()?;
    let opened = site.enter(Room::Clients, move || {
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
                if port - first_port(order.kind) < allocations {
                    client.allocate(&AllocateOptions::default())?;
                } else {
                    client.binding()?;
                }
                Ok(client)
            })
            .collect::<Result<Vec<_>, client::ClientError>>()
    })?;
    opened.map_err(|error| {
        io::Error::other(format!("{}: opening {clients} clients: {error}", order.kind.name()))
    })
}
