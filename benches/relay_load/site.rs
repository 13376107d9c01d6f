//! Three network namespaces in a row: clients, relay, peers.
//!
//! ```text
//!   clients  10.77.1.2 ── 10.77.1.1  relay  10.77.2.1 ── 10.77.2.2  peers
//! ```
//!
//! What the links do decides what is measured. Toward the relay each link polls as a network
//! card does (NAPI with receive offload), in a kernel thread that is pinned to the relay's core
//! and runs before everything else there, as a softirq would. Away from the relay packets are
//! counted and dropped on arrival, on the core that sent them: that stands for the completion
//! work of a card, and saves the relay an interrupt across cores per packet. Segmentation
//! offload is off unless asked for, so runs are cut on the core of whoever sends them and
//! arrive as packets.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};

/// Where clients live.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
/// The relay toward clients.
pub(crate) const LISTEN: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The relay toward peers.
pub(crate) const RELAYED: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
/// Where peers live.
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);

/// The relay's devices.
pub(crate) const NEAR: [&str; 2] = ["avlc", "avlp"];

/// The links: the device at the far end, the device at the relay, and their addresses.
const LINKS: [(Room, &str, Ipv4Addr, &str, Ipv4Addr); 2] =
    [(Room::Clients, FAR, CLIENT, NEAR[0], LISTEN), (Room::Peers, FAR, PEER, NEAR[1], RELAYED)];

/// The device at clients and at peers.
pub(crate) const FAR: &str = "far";

/// What the names of namespaces start with.
const PREFIX: &str = "client-load-";

/// The hardware address of a device that shall drop what it gets.
const DEAF: &str = "02:ff:ff:ff:ff:ff";

/// One of the namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Load comes from here, or ends here.
    Clients,
    /// The servers under test.
    Relay,
    /// The other end.
    Peers,
}

/// What the links do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    /// The core where the relay's ends are polled.
    pub(crate) relay_core: usize,
    /// Where the far ends are, if they are: what a program in the kernel sends them does not arrive
    /// otherwise. Then whoever sends computes checksums, as frames on a wire have them.
    pub(crate) far_core: Option<usize>,
    /// Whether they cut runs.
    pub(crate) segmentation_offload: bool,
}

/// The namespaces; gone when dropped.
#[derive(Debug)]
pub(crate) struct Site {
    id: String,
    /// The kernel threads that poll the relay's links.
    pub(crate) pollers: Vec<u32>,
}

impl Site {
    /// Builds everything; `tail` tells several of one run apart.
    pub(crate) fn build(tail: &str, links: Links) -> io::Result<Self> {
        sweep();
        let mut site = Self { id: format!("{}-{tail}", std::process::id()), pollers: Vec::new() };
        for room in [Room::Clients, Room::Relay, Room::Peers] {
            sh(&format!("ip netns add {}", site.name(room)))?;
            site.within(room, "ip link set lo up")?;
        }
        for (room, far, far_ip, near, near_ip) in LINKS {
            site.link((room, far, far_ip), (near, near_ip), links)?;
        }
        for (room, far, _, near, _) in LINKS {
            let poller = site.poll_on((Room::Relay, near), links.relay_core)?;
            site.pollers.push(poller);
            if let Some(core) = links.far_core {
                site.poll_on((room, far), core)?;
            }
        }
        Ok(site)
    }

    /// The name of a namespace.
    pub(crate) fn name(&self, room: Room) -> String {
        let tail = match room {
            Room::Clients => "c",
            Room::Relay => "r",
            Room::Peers => "p",
        };
        format!("{PREFIX}{}{tail}", self.id)
    }

    fn link(
        &self,
        (room, far, far_ip): (Room, &str, Ipv4Addr),
        (near, near_ip): (&str, Ipv4Addr),
        links: Links,
    ) -> io::Result<()> {
        let (there, here) = (self.name(room), self.name(Room::Relay));
        sh(&format!("ip link add {near} netns {here} type veth peer name {far} netns {there}"))?;
        let (far_gro, checksums) = match links.far_core {
            None => ("off", "on"),
            Some(_) => ("on", "off"),
        };
        let ends = [
            (room, far, far_ip, near_ip, far_gro, mac(near_ip)),
            (Room::Relay, near, near_ip, far_ip, "on", mac(far_ip)),
        ];
        for (room, device, own, other, gro, other_mac) in ends {
            self.within(room, &format!("ip link set {device} address {} up", mac(own)))?;
            self.within(room, &format!("ip addr add {own}/24 dev {device}"))?;
            let neighbour = format!("{other} lladdr {other_mac} nud permanent dev {device}");
            self.within(room, &format!("ip neigh replace {neighbour}"))?;
            let cut = if links.segmentation_offload { "on" } else { "off" };
            let offloads = format!("gro {gro} tx {checksums} tso off tx-udp-segmentation {cut}");
            self.within(room, &format!("ethtool -K {device} {offloads}"))?;
        }
        Ok(())
    }

    /// Makes a kernel thread of a device's polling and pins it; returns its id.
    fn poll_on(&self, (room, device): (Room, &str), core: usize) -> io::Result<u32> {
        let before = kernel_pollers(device);
        self.within(room, &format!("echo 1 > /sys/class/net/{device}/threaded"))?;
        let poller = kernel_pollers(device).into_iter().find(|poller| !before.contains(poller));
        let poller = poller
            .ok_or_else(|| io::Error::other("the kernel cannot poll veth devices in threads"))?;
        sh(&format!("taskset -c -p {core} {poller} && chrt -f -p 50 {poller}"))?;
        Ok(poller)
    }

    /// Polls the relay's links before everything else, as a network card's interrupts are served, or in turn
    /// with other threads, as the kernel does when they become too many (ksoftirqd).
    pub(crate) fn poll_first(&self, first: bool) -> io::Result<()> {
        let policy = if first { "-f -p 50" } else { "-o -p 0" };
        self.pollers.iter().try_for_each(|poller| sh(&format!("chrt {policy} {poller}")))
    }

    /// Counts and drops, or again delivers, what arrives at clients and peers: with another
    /// hardware address than the relay sends to, a device takes packets for somebody else's.
    pub(crate) fn set_sinks(&self, rooms: &[Room], dropping: bool) -> io::Result<()> {
        for (room, far, ip, ..) in LINKS.into_iter().filter(|link| rooms.contains(&link.0)) {
            let address = if dropping { DEAF.to_owned() } else { mac(ip) };
            self.within(room, &format!("ip link set {far} address {address}"))?;
        }
        Ok(())
    }

    /// What has arrived at the far ends of rooms' links.
    pub(crate) fn arrivals(&self, rooms: &[Room]) -> io::Result<Vec<Arrivals>> {
        let open = |room: &Room| {
            let file = self.enter(*room, || fs::File::open("/proc/thread-self/net/dev"))??;
            Ok(Arrivals { file })
        };
        rooms.iter().map(open).collect()
    }

    /// Runs a shell command in a namespace.
    pub(crate) fn within(&self, room: Room, command: &str) -> io::Result<()> {
        sh(&format!("ip netns exec {} sh -c '{command}'", self.name(room)))
    }

    /// Does some work in a namespace; sockets opened there stay there.
    pub(crate) fn enter<T: Send>(
        &self,
        room: Room,
        work: impl FnOnce() -> T + Send,
    ) -> io::Result<T> {
        let namespace = fs::File::open(format!("/run/netns/{}", self.name(room)))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            inside.join().map_err(|_| io::Error::other("a thread inside a namespace failed"))?
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for room in [Room::Clients, Room::Relay, Room::Peers] {
            sh(&format!("ip netns del {}", self.name(room))).ok();
        }
    }
}

/// Removes what runs that were killed left behind.
fn sweep() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true)) {
            sh(&format!("ip netns del {name}")).ok();
        }
    }
}

/// A hardware address that follows from the network address.
fn mac(ip: Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Kernel threads that poll devices of this name, here or anywhere.
fn kernel_pollers(device: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with(&format!("napi/{device}-"))
        })
        .collect()
}

/// Runs a shell command; its complaint becomes the error.
pub(crate) fn sh(command: &str) -> io::Result<()> {
    let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("`{command}` failed: {}", complaint.trim())))
}

/// The packet counter of a link's far end.
#[derive(Debug)]
pub(crate) struct Arrivals {
    file: fs::File,
}

impl Arrivals {
    /// Packets that have arrived since the link was made.
    pub(crate) fn packets(&self) -> io::Result<u64> {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 2048];
        let len = self.file.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(text.get(..len).unwrap_or_default()).unwrap_or_default();
        text.lines()
            .find_map(|line| line.trim_start().strip_prefix("far:")?.split_whitespace().nth(1))
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| io::Error::other("no packet counter in /proc/net/dev"))
    }
}
