//! What a credential carries beside its user: limits and peers, sealed by the pool key.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;

use ipnet::IpNet;
use proptest::prelude::*;
use proto::addr::Side;
use proto::auth::credential::{Name, NameError, USERNAME_MAX, inspect};
use proto::auth::{Grant, GrantError, KeyId, PoolKey, Secret, mint};
use proto::now::UnixTime;
use proto::policy::{Rates, SealedLimits, SealedPeers};

const EXPIRES: UnixTime = UnixTime(1_800_003_600);

fn pool_key() -> PoolKey {
    let secret = || Secret::new(vec![7; 32]);
    PoolKey {
        id: KeyId([1; 4]),
        credentials: secret(),
        nonces: secret(),
        users: secret(),
        tickets: secret(),
        tokens: secret(),
        ms_tokens: secret(),
    }
}

fn peers(ranges: &[&str], ports: &[(u16, u16)]) -> SealedPeers {
    SealedPeers {
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ports: ports.iter().map(|&(first, last)| first..=last).collect(),
    }
}

fn minted(grant: &Grant) -> String {
    mint(&pool_key(), grant).unwrap().username
}

#[test]
fn what_is_sealed_is_read_again() {
    let rates = Rates { bytes: NonZeroU64::new(375_000), packets: NonZeroU64::new(500) };
    let grant = Grant {
        side: Some(Side::External),
        limits: SealedLimits { allocations: Some(3), rates },
        peers: peers(
            &["10.0.0.0/8", "192.0.2.77/32", "0.0.0.0/0", "fd00::/8", "2001:db8::1/128", "::/0"],
            &[(53, 53), (1024, 65_535)],
        ),
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok(),
        ..Grant::new("alice:laptop", EXPIRES)
    };
    let username = minted(&grant);
    assert_eq!(
        username,
        "1800003600:01010101:s=e,n=3,b=3000,r=500,\
         p=CAogwAACTQBI_cAgAQ24AAAAAAAAAAAAAAABQA,o=53+1024-65535,\
         t=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01:alice:laptop"
    );
    let Ok(Name::Pool(name)) = inspect(&username) else { panic!("{username}") };
    assert_eq!((name.user, name.claims.side), ("alice:laptop", grant.side));
    assert_eq!((name.claims.limits, name.claims.peers()), (grant.limits, grant.peers));
    assert_eq!(name.claims.trace, grant.trace);
    assert!(grant.trace.is_some());
    // Whoever carries nothing is bounded by the configuration alone.
    let plain = minted(&Grant::new("alice", EXPIRES));
    let Ok(Name::Pool(name)) = inspect(&plain) else { panic!("{plain}") };
    assert!(name.claims.peers().is_everybody());
    assert_eq!(name.claims.limits, SealedLimits::default());
}

#[test]
fn host_bits_are_not_kept() {
    let grant = Grant { peers: peers(&["10.1.2.3/9"], &[]), ..Grant::new("u", EXPIRES) };
    let username = minted(&grant);
    let Ok(Name::Pool(name)) = inspect(&username) else { panic!("{username}") };
    assert_eq!(name.claims.peers(), peers(&["10.0.0.0/9"], &[]));
}

#[test]
fn a_claim_that_minting_would_not_write_refuses_the_name() {
    for claims in [
        // Numbers: padded.
        "n=02",
        "b=01",
        "r=00",
        "o=053",
        "o=1-02",
        // Rates: none, too much, twice, signed.
        "b=0",
        "b=100000001",
        "b=1,b=1",
        "b=+1",
        "b=",
        "r=0",
        "r=12500000001",
        "r=1,r=2",
        // Peers: none, twice, broken base64, an IPv6 prefix of 129, IPv4 of 33, cut short, host
        // bits, and one range too many.
        "p=",
        "p=CAo,p=CAo",
        "p=CA=",
        "p=C",
        "p=wQ",
        "p=IQ",
        "p=CA",
        "p=CQr_",
        "p=Bws",
        "p=AAAAAAAAAAAAAAAAAAAAAAA",
        // Traces: none, another version, twice.
        "t=",
        "t=01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "t=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01,t=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        // Ports: none, no number, twice, beyond 65535, backwards, one range too many.
        "o=",
        "o=a",
        "o=1,o=1",
        "o=65536",
        "o=2-1",
        "o=1-",
        "o=1+",
        "o=1+2+3+4+5+6+7+8+9",
    ] {
        let name = format!("1800003600:01010101:{claims}:u");
        assert_eq!(inspect(&name), Err(NameError::Claim), "{claims}");
    }
}

#[test]
fn minting_refuses_what_no_name_can_hold() {
    let base = || Grant::new("u", EXPIRES);
    let rates = |bytes, packets| {
        let rates = Rates { bytes: NonZeroU64::new(bytes), packets: NonZeroU64::new(packets) };
        Grant { limits: SealedLimits { rates, ..SealedLimits::default() }, ..base() }
    };
    let ranges = |count| {
        let ranges = (0..count).map(|n| IpNet::from(IpAddr::from([10, 0, 0, n]))).collect();
        Grant { peers: SealedPeers { ranges, ports: vec![] }, ..base() }
    };
    let six = |count: u16| {
        let range = |n| IpNet::from(IpAddr::V6(Ipv6Addr::new(0xFD00, 0, 0, 0, 0, 0, 0, n)));
        let peers = SealedPeers { ranges: (0..count).map(range).collect(), ports: vec![] };
        Grant { peers, ..Grant::new("u".repeat(255), EXPIRES) }
    };
    for (case, grant, outcome) in [
        ("part of a kilobit", rates(126, 0), Some(GrantError::Rate)),
        ("more than can be told", rates(12_500_000_125, 0), Some(GrantError::Rate)),
        ("as many packets", rates(0, 12_500_000_001), Some(GrantError::Rate)),
        ("the most", rates(12_500_000_000, 12_500_000_000), None),
        ("16 ranges", ranges(16), None),
        ("17 ranges", ranges(17), Some(GrantError::Peers)),
        ("a name that fits", six(10), None),
        ("a name that does not", six(11), Some(GrantError::TooLong)),
        ("8 ranges of ports", Grant { peers: peers(&[], &[(1, 2); 8]), ..base() }, None),
        (
            "9 ranges of ports",
            Grant { peers: peers(&[], &[(1, 2); 9]), ..base() },
            Some(GrantError::Ports),
        ),
        (
            "ports backwards",
            Grant { peers: peers(&[], &[(2, 1)]), ..base() },
            Some(GrantError::Ports),
        ),
    ] {
        assert_eq!(mint(&pool_key(), &grant).err(), outcome, "{case}");
    }
}

fn any_range() -> impl Strategy<Value = IpNet> {
    let four = (any::<u32>(), 0..=32_u8)
        .prop_map(|(ip, len)| IpNet::new(Ipv4Addr::from(ip).into(), len).unwrap());
    let six = (any::<u128>(), 0..=128_u8)
        .prop_map(|(ip, len)| IpNet::new(Ipv6Addr::from(ip).into(), len).unwrap());
    prop_oneof![four, six].prop_map(|range| range.trunc())
}

proptest! {
    #[test]
    fn claims_survive_the_name(
        ranges in prop::collection::vec(any_range(), 0..=12),
        ports in prop::collection::vec(any::<(u16, u16)>(), 0..=8),
        kbit in 0..=100_000_000_u64,
        packets in 0..=12_500_000_000_u64,
    ) {
        let ports = ports.into_iter().map(|(a, b)| a.min(b)..=a.max(b)).collect();
        let peers = SealedPeers { ranges, ports };
        let rates = Rates { bytes: NonZeroU64::new(kbit * 125), packets: NonZeroU64::new(packets) };
        let limits = SealedLimits { rates, ..SealedLimits::default() };
        let grant = Grant { limits, peers, ..Grant::new("user", EXPIRES) };
        let username = minted(&grant);
        prop_assert!(username.len() <= USERNAME_MAX);
        let Ok(Name::Pool(name)) = inspect(&username) else {
            return Err(TestCaseError::fail(username));
        };
        prop_assert_eq!((name.claims.limits, name.claims.peers()), (limits, grant.peers));
    }

    #[test]
    fn no_claim_makes_the_grammar_panic(claims in "([nbrpo]=[A-Za-z0-9_+-]{0,40},?){0,4}") {
        if let Ok(Name::Pool(name)) = inspect(&format!("1800003600:01010101:{claims}:u")) {
            let peers = name.claims.peers();
            let grant = Grant { peers, limits: name.claims.limits, ..Grant::new("u", EXPIRES) };
            let written = minted(&grant);
            let Ok(Name::Pool(again)) = inspect(&written) else {
                return Err(TestCaseError::fail(written));
            };
            prop_assert_eq!(again.claims.peers(), grant.peers);
        }
    }
}
