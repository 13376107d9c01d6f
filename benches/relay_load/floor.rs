//! The least that a packet can cost over these links: a program at each of the relay's ends swaps
//! addresses and sends back, at the pace of voice. No program that relays can cost less, whatever it
//! does; what it costs more is its own.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::Args;
use crate::cpu::run_time_of;
use crate::saturate::Reflector;
use crate::server::{Carrier, Relay};
use crate::site::{LISTEN, Links, NEAR, RELAYED, Room, Site};
use crate::traffic::{Direction, Generator, Media, Mode, Scenario};

/// A port where nobody is: nothing looks.
const NOBODY: u16 = 9;

/// Prints what it is, one way and both ways, for each number of allocations from as many sockets.
pub(crate) fn measure(args: &Args, links: Links) -> io::Result<()> {
    for &sockets in &args.allocations {
        let site = Site::build("f", links)?;
        line(&site, sockets, args.voice_pps(), (args.rounds, args.seconds))?;
    }
    Ok(())
}

fn line(site: &Site, sockets: usize, pace: f64, (rounds, seconds): (u16, f64)) -> io::Result<()> {
    let reflectors = || NEAR.map(Reflector::at).into_iter().collect::<io::Result<Vec<_>>>();
    let reflectors = site.enter(Room::Relay, reflectors)??;
    site.set_sinks(&[Room::Clients, Room::Peers], true)?;
    let open = |room, to: Ipv4Addr| {
        let open = || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((to, NOBODY)).map(|()| socket)
        };
        site.enter(room, || (0..sockets).map(|_| open()).collect::<io::Result<Vec<_>>>())?
    };
    let clients = open(Room::Clients, LISTEN)?;
    let peers = open(Room::Peers, RELAYED)?;
    let both: Vec<UdpSocket> = clients
        .iter()
        .zip(&peers)
        .flat_map(|(client, peer)| [client.try_clone(), peer.try_clone()])
        .collect::<io::Result<_>>()?;
    let mut all = [(&clients, Vec::new()), (&both, Vec::new())];
    for _ in 0..rounds {
        for (sockets, figures) in &mut all {
            figures.push(window(&reflectors, site, sockets, (pace, seconds))?);
        }
    }
    let [one, other] = all.map(|(_, mut figures)| {
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    });
    println!(
        "A program that only sends back, over {sockets} sockets: {one:.0} thread ns a packet, both ways {other:.0}."
    );
    Ok(())
}

/// Nanoseconds of the links' pollers for a packet that was sent back.
fn window(
    reflectors: &[Reflector],
    site: &Site,
    sockets: &[UdpSocket],
    (pace, seconds): (f64, f64),
) -> io::Result<f64> {
    let scenario = Scenario {
        carrier: Carrier::Udp,
        relay: Relay::Udp,
        media: Media::Voice,
        direction: Direction::Both,
        allocations: sockets.len(),
    };
    let arrived = || reflectors.iter().map(Reflector::count).sum::<io::Result<u64>>();
    let pace = Mode::Paced(pace);
    let mut generator = Generator::of_sockets(scenario, sockets);
    generator.run(pace, Duration::from_millis(150))?;
    let before = (arrived()?, run_time_of(&site.pollers));
    generator.run(pace, Duration::from_secs_f64(seconds))?;
    let packets = arrived()? - before.0;
    if packets == 0 {
        return Err(io::Error::other("nothing was sent back"));
    }
    let spent = run_time_of(&site.pollers).saturating_sub(before.1);
    Ok(spent.as_nanos() as f64 / packets as f64)
}
