//! The policy alone: addresses against an edge.

use super::*;
use crate::addr::Transport;
use crate::policy::edge::{Listener, PoolRelay, RelayAddress};

fn edge() -> Edge {
    Edge::new(
        vec![Listener {
            local: "9.9.0.1:3478".parse().unwrap(),
            advertised: None,
            transport: Transport::Udp,
            side: Side::External,
            anycast: false,
        }],
        vec![RelayAddress {
            local: "10.0.0.5".parse().unwrap(),
            advertised: "9.9.0.2".parse().unwrap(),
        }],
        vec!["9.9.0.3".parse().unwrap()],
    )
}

fn rules(allow: &[&str], deny: &[&str]) -> Rules {
    let parse = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
    Rules { allow: parse(allow), deny: parse(deny), ..Rules::default() }
}

fn acl(allow: &[&str], deny: &[&str]) -> PeerAcl {
    PeerAcl { both: rules(allow, deny), ..PeerAcl::default() }
}

const ANYBODY: Asker<'_> = Asker { side: Side::External, peers: None };

fn socket(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 4000)
}

#[test]
fn sec_001_only_global_unicast_is_reachable_by_default() {
    let open = PeerAcl::default();
    for (ip, expected) in [
        ("8.8.8.8", true),
        ("1.1.1.1", true),
        ("172.32.0.1", true),
        ("100.128.0.1", true),
        ("192.0.1.1", true),
        ("198.20.0.1", true),
        ("223.255.255.255", true),
        ("0.0.0.0", false),
        ("0.1.2.3", false),
        ("10.255.255.255", false),
        ("100.64.0.1", false),
        ("100.100.100.200", false),
        ("127.0.0.1", false),
        ("127.255.255.255", false),
        ("168.63.129.16", false),
        ("169.254.169.254", false),
        ("172.16.0.1", false),
        ("172.31.255.255", false),
        ("192.0.0.192", false),
        ("192.0.2.1", false),
        ("192.88.99.1", false),
        ("192.168.0.1", false),
        ("198.19.255.255", false),
        ("198.51.100.1", false),
        ("203.0.113.1", false),
        ("224.0.0.1", false),
        ("239.255.255.250", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("2a00:1450:4001::1", true),
        ("2606:4700::1111", true),
        ("2001:200::1", true),
        ("::", false),
        ("::1", false),
        ("100::1", false),
        ("2001:db8::1", false),
        ("2001:2::1", false),
        ("2001:10::1", false),
        ("3fff::1", false),
        ("4000::1", false),
        ("5f00::1", false),
        ("fc00::1", false),
        ("fd00:ec2::254", false),
        ("fe80::1", false),
        ("fec0::1", false),
        ("ff02::1", false),
    ] {
        assert_eq!(open.admit(&edge(), ANYBODY, socket(ip)).is_ok(), expected, "{ip}");
    }
}

#[test]
fn sec_004_a_hidden_ipv4_address_is_judged_even_where_its_prefix_is_open() {
    let acl = acl(&["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"], &[]);
    for (ip, expected) in [
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b::10.0.0.1", false),
        ("64:ff9b::9.9.0.3", false),
        ("2002:808:808::1", true),
        ("2002:7f00:1::1", false),
        ("2002:a00:1::1", false),
        ("2001:0:808:808:0:0:f7f7:f7f7", true),
        ("2001:0:a00:1:0:0:f7f7:f7f7", false),
        ("2001:0:808:808:0:0:80ff:fffe", false),
        ("64:ff9b:1:808:8:808:808:808", true),
        ("64:ff9b:1:808:8:808:7f00:1", false),
        ("64:ff9b:1:7f00:0:100:808:808", false),
    ] {
        assert_eq!(acl.admit(&edge(), ANYBODY, socket(ip)).is_ok(), expected, "{ip}");
    }
}

#[test]
fn sec_003_tunnelled_and_translated_forms_are_refused_by_default() {
    for ip in ["2002:808:808::1", "2001:0:808:808::1", "64:ff9b::8.8.8.8", "::8.8.8.8"] {
        assert_eq!(
            PeerAcl::default().admit(&edge(), ANYBODY, socket(ip)).unwrap_err(),
            Why::PeerDenied,
            "{ip}"
        );
    }
}

#[test]
fn perm_011_a_mapped_peer_is_refused_rather_than_converted() {
    let acl = acl(&["0.0.0.0/0", "::/0", "::ffff:0:0/96"], &[]);
    for ip in ["::ffff:127.0.0.1", "::ffff:8.8.8.8"] {
        assert_eq!(acl.admit(&edge(), ANYBODY, socket(ip)).unwrap_err(), Why::PeerDenied, "{ip}");
    }
}

#[test]
fn the_more_specific_range_decides() {
    for (case, acl, ip, expected) in [
        ("exactly a built-in range", acl(&["10.0.0.0/8"], &[]), "10.1.1.1", true),
        ("less than a built-in range", acl(&["0.0.0.0/0"], &[]), "10.1.1.1", false),
        ("inside a built-in range", acl(&["10.1.0.0/16"], &[]), "10.1.1.1", true),
        ("beside the opened range", acl(&["10.1.0.0/16"], &[]), "10.2.1.1", false),
        ("denied public range", acl(&[], &["8.8.0.0/16"]), "8.8.8.8", false),
        ("hole in a denied range", acl(&["8.8.8.0/24"], &["8.8.0.0/16"]), "8.8.8.8", true),
        ("equal: deny wins", acl(&["8.8.0.0/16"], &["8.8.0.0/16"]), "8.8.8.8", false),
        ("denied inside opened", acl(&["10.0.0.0/8"], &["10.1.0.0/16"]), "10.1.1.1", false),
        ("loopback opened", acl(&["127.0.0.0/8"], &[]), "127.0.0.2", true),
        ("unique local opened", acl(&["fc00::/7"], &[]), "fd00::1", true),
        ("multicast never", acl(&["224.0.0.0/4", "ff00::/8"], &[]), "224.0.0.1", false),
        ("broadcast never", acl(&["255.255.255.255/32"], &[]), "255.255.255.255", false),
        ("unspecified never", acl(&["0.0.0.0/32"], &[]), "0.0.0.0", false),
    ] {
        assert_eq!(acl.admit(&edge(), ANYBODY, socket(ip)).is_ok(), expected, "{case}");
    }
}

#[test]
fn sec_005_own_addresses_are_refused_but_for_relayed_ports() {
    let acl = acl(&["9.9.0.0/24", "10.0.0.0/8", "9.9.0.3/32"], &[]);
    assert!(acl.admit(&edge(), ANYBODY, "9.9.0.9:1".parse().unwrap()).is_ok(), "a neighbour");
    for own in ["9.9.0.1:3478", "9.9.0.1:9", "9.9.0.3:80"] {
        assert!(acl.admit(&edge(), ANYBODY, own.parse().unwrap()).is_err(), "{own}");
    }
    for own in ["9.9.0.2:50000", "10.0.0.5:50000"] {
        let peer = acl.admit(&edge(), ANYBODY, own.parse().unwrap()).unwrap();
        assert!(peer.hairpin(), "{own}");
        assert_eq!(peer.addr().socket(), "10.0.0.5:50000".parse().unwrap(), "{own}");
    }
}

/// First, last and neighbours of a range; the neighbours only where the family has them.
fn corners(range: IpNet) -> ([IpAddr; 2], [Option<IpAddr>; 2]) {
    match range {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let ip = |bits: u32| IpAddr::V4(Ipv4Addr::from_bits(bits));
            let beside = [first.checked_sub(1), last.checked_add(1)];
            ([ip(first), ip(last)], beside.map(|bits| bits.map(ip)))
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let ip = |bits: u128| IpAddr::V6(bits.into());
            let beside = [first.checked_sub(1), last.checked_add(1)];
            ([ip(first), ip(last)], beside.map(|bits| bits.map(ip)))
        }
    }
}

#[test]
fn sec_001_every_range_is_closed_from_its_first_to_its_last_address_and_no_further() {
    let open = PeerAcl::default();
    let mut free = 0;
    for special in special::all() {
        let (inside, beside) = corners(special.range);
        for ip in inside {
            let denial = open.judge(&edge(), ANYBODY, SocketAddr::new(ip, 9)).unwrap_err();
            assert_eq!(denial.why(), Why::PeerDenied, "{ip} of {}", special.range);
        }
        for ip in beside.into_iter().flatten() {
            let elsewhere = special::all().any(|other| other.range.contains(&ip));
            assert_eq!(
                open.admit(&edge(), ANYBODY, SocketAddr::new(ip, 9)).is_err(),
                elsewhere,
                "{ip}"
            );
            free += u32::from(!elsewhere);
        }
    }
    // Counted by hand: 35 of IPv4, 13 of IPv6.
    assert_eq!(free, 48, "neighbours that lie in no range");
}

#[test]
fn an_opened_range_leaves_the_secrets_of_clouds_closed() {
    let acl = acl(&["169.254.0.0/16", "100.64.0.0/10", "168.63.0.0/16", "fc00::/7"], &[]);
    for (ip, expected) in [
        ("169.254.1.1", true),
        ("169.254.169.254", false),
        ("100.100.100.1", true),
        ("100.100.100.200", false),
        ("168.63.129.16", false),
        ("fd00:ec2::253", true),
        ("fd00:ec2::254", false),
    ] {
        assert_eq!(acl.admit(&edge(), ANYBODY, socket(ip)).is_ok(), expected, "{ip}");
    }
    let named = super::tests::acl(&["169.254.169.254/32"], &[]);
    assert!(named.admit(&edge(), ANYBODY, socket("169.254.169.254")).is_ok(), "named exactly");
}

#[test]
fn each_side_has_its_own_ranges_and_ports_beside_those_of_both() {
    let mut acl = acl(&["10.0.0.0/8"], &["10.9.0.0/16"]);
    acl.sides[Side::Internal as usize] =
        Rules { deny_ports: vec![22..=22], ..rules(&["10.9.9.0/24", "172.16.0.0/12"], &[]) };
    acl.sides[Side::External as usize] =
        Rules { allow_ports: vec![1024..=65_535], ..rules(&[], &["10.8.0.0/16"]) };
    for (peer, internal, external) in [
        ("10.1.0.1:5000", true, true),
        ("10.1.0.1:22", false, false),
        ("10.1.0.1:80", true, false),
        ("10.8.0.1:5000", true, false),
        ("10.9.0.1:5000", false, false),
        ("10.9.9.1:5000", true, false),
        ("172.16.0.1:5000", true, false),
        ("8.8.8.8:5000", true, true),
    ] {
        for (side, expected) in [(Side::Internal, internal), (Side::External, external)] {
            let asker = Asker { side, peers: None };
            let found = acl.admit_port(&edge(), asker, peer.parse().unwrap());
            assert_eq!(found.is_ok(), expected, "{peer} from the {} side", side.name());
        }
    }
}

#[test]
fn a_credential_narrows_and_never_widens() {
    let acl = acl(&["10.0.0.0/8", "64:ff9b::/96"], &[]);
    let sealed = |ranges: &[&str], ports: &[RangeInclusive<u16>]| SealedPeers {
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ports: ports.to_vec(),
    };
    for (case, sealed, peer, outcome) in [
        ("inside", sealed(&["10.1.0.0/16"], &[]), "10.1.0.1:9", Ok(())),
        ("outside", sealed(&["10.1.0.0/16"], &[]), "10.2.0.1:9", Err(Why::PeerSealed)),
        ("global, outside", sealed(&["10.1.0.0/16"], &[]), "8.8.8.8:9", Err(Why::PeerSealed)),
        ("closed anyway", sealed(&["192.168.0.0/16"], &[]), "192.168.0.1:9", Err(Why::PeerDenied)),
        ("everything", sealed(&["0.0.0.0/0"], &[]), "192.168.0.1:9", Err(Why::PeerDenied)),
        ("the other family", sealed(&["::/0"], &[]), "8.8.8.8:9", Err(Why::PeerSealed)),
        ("hidden", sealed(&["::/0"], &[]), "[64:ff9b::808:808]:9", Err(Why::PeerSealed)),
        ("named", sealed(&["::/0", "8.8.8.8/32"], &[]), "[64:ff9b::808:808]:9", Ok(())),
        ("a port", sealed(&[], &[9..=9]), "8.8.8.8:9", Ok(())),
        ("another", sealed(&[], &[9..=9]), "8.8.8.8:10", Err(Why::PeerSealed)),
        ("our relay", sealed(&["9.9.0.2/32"], &[]), "9.9.0.2:50000", Ok(())),
        ("by its local name", sealed(&["9.9.0.2/32"], &[]), "10.0.0.5:50000", Ok(())),
        ("not our relay", sealed(&["10.0.0.0/8"], &[]), "9.9.0.2:50000", Err(Why::PeerSealed)),
        ("a relayed port", sealed(&[], &[9..=9]), "9.9.0.2:50000", Err(Why::PeerSealed)),
    ] {
        let asker = Asker { side: Side::External, peers: Some(&sealed) };
        let found = acl.admit_port(&edge(), asker, peer.parse().unwrap());
        assert_eq!(found.map(|_| ()), outcome, "{case}");
    }
}

#[test]
fn sec_005_relays_of_the_pool_are_reached_at_relayed_ports_alone() {
    let edge = edge().with_pool(vec![
        PoolRelay {
            local: "10.0.0.6".parse().unwrap(),
            advertised: "9.9.0.7".parse().unwrap(),
            ports: 50_000..=50_999,
        },
        PoolRelay {
            local: "2001:db8::6".parse().unwrap(),
            advertised: "2001:db8::6".parse().unwrap(),
            ports: 50_000..=50_999,
        },
    ]);
    let open = acl(&["64:ff9b::/96"], &[]);
    for (peer, local) in [
        ("9.9.0.7:50000", Some("10.0.0.6:50000")),
        ("10.0.0.6:50999", Some("10.0.0.6:50999")),
        ("9.9.0.7:51000", None),
        ("9.9.0.7:3478", None),
        ("10.0.0.7:50000", None),
        ("[2001:db8::6]:50000", Some("[2001:db8::6]:50000")),
        ("[2001:db8::7]:50000", None),
        ("[64:ff9b::909:7]:50000", None),
    ] {
        let found = open.admit_port(&edge, ANYBODY, peer.parse().unwrap());
        let local = local.map(|text| text.parse().unwrap());
        assert_eq!(found.ok().map(|peer| peer.addr().socket()), local, "{peer}");
    }
    assert_eq!(
        edge.present(PeerAddr::new("10.0.0.6:50000".parse().unwrap())).socket(),
        "9.9.0.7:50000".parse().unwrap()
    );
    let closed = acl(&[], &["9.9.0.7/32"]);
    assert!(closed.admit(&edge, ANYBODY, socket("9.9.0.7")).is_err(), "denied by name");
    let wider = acl(&[], &["9.9.0.0/24"]);
    assert!(wider.admit(&edge, ANYBODY, socket("9.9.0.7")).is_ok(), "named beats its network");
}

#[test]
fn sec_005_what_else_is_served_is_no_peer() {
    let edge = edge()
        .with_broadcasts(vec!["10.0.0.255".parse().unwrap()])
        .with_services(vec!["0.0.0.0:9641".parse().unwrap(), "8.8.8.8:3478".parse().unwrap()]);
    let open = acl(&["10.0.0.0/8", "127.0.0.0/8", "64:ff9b::/96"], &[]);
    for (peer, expected) in [
        ("10.0.0.254:9", true),
        ("10.0.0.255:9", false),
        ("[64:ff9b::a00:ff]:9", false),
        ("127.0.0.9:9640", true),
        ("127.0.0.9:9641", false),
        ("8.8.8.8:3479", true),
        ("8.8.8.8:3478", false),
    ] {
        let found = open.admit_port(&edge, ANYBODY, peer.parse().unwrap());
        assert_eq!(found.is_ok(), expected, "{peer}");
    }
    let alone = PeerAcl { hairpins: false, ..PeerAcl::default() };
    assert!(alone.admit(&edge, ANYBODY, "9.9.0.2:50000".parse().unwrap()).is_err(), "hairpins off");
}

#[test]
fn sec_004_a_prefix_of_this_network_is_closed_and_what_is_behind_it_judged() {
    let nat64 = vec!["2a00:64::/96".parse().unwrap()];
    let closed = PeerAcl { nat64: nat64.clone(), ..PeerAcl::default() };
    let opened = PeerAcl { nat64, ..acl(&["2a00:64::/96"], &[]) };
    for (ip, expected) in [
        ("2a00:64::8.8.8.8", true),
        ("2a00:64::10.0.0.1", false),
        ("2a00:64::9.9.0.3", false),
        ("2a00:64::169.254.169.254", false),
    ] {
        assert!(closed.admit(&edge(), ANYBODY, socket(ip)).is_err(), "{ip}, closed");
        assert_eq!(opened.admit(&edge(), ANYBODY, socket(ip)).is_ok(), expected, "{ip}");
    }
}
