//! §10: ALTERNATE-SERVER, while a relay drains, is full, or shares its address with others.

use std::net::{IpAddr, SocketAddr};

use proto::addr::Transport;
use proto::policy::Edge;
use proto::reject::Why;
use proto::turn::Config;
use proto::turn::config::Redirect;
use rig::kind::{self, method};
use rig::{Draft, Heard, Scheme, World};

const OTHER4: &str = "198.51.100.9:3478";
const OTHER6: &str = "[2001:db8:9::1]:3479";
const DOMAIN: &str = "other.example.org";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Redirects for every cause to one relay of each family.
fn redirect(config: &mut Config) {
    config.redirect = Redirect {
        alternates: [vec![address(OTHER4)], vec![address(OTHER6)]],
        domain: Some(DOMAIN.to_owned()),
        when_draining: true,
        when_full: true,
    };
}

/// Changes the listeners of a configuration.
fn listeners(config: &mut Config, change: impl Fn(&mut proto::policy::Listener)) {
    let mut listeners = config.edge.listeners().to_vec();
    listeners.iter_mut().for_each(change);
    let families = proto::addr::Family::ALL;
    let relays = families.into_iter().flat_map(|family| config.edge.relays(family)).copied();
    config.edge = Edge::new(listeners, relays.collect(), Vec::new());
}

fn anycast(config: &mut Config) {
    redirect(config);
    listeners(config, |listener| listener.anycast = true);
}

fn over(transport: Transport) -> impl FnOnce(&mut Config) {
    move |config| {
        redirect(config);
        listeners(config, |listener| listener.transport = transport);
    }
}

/// A world that drains.
fn draining(change: impl FnOnce(&mut Config)) -> World {
    let mut world = World::configured(10, change).with_client("alice").with_client6("six");
    world.server.drain();
    world
}

/// Every ALTERNATE-SERVER, in order; never masked (ATTR-008).
fn alternates(heard: &Heard) -> Vec<SocketAddr> {
    let read = |value: &[u8]| {
        let port = u16::from_be_bytes([value[2], value[3]]);
        let ip = match value[1] {
            1 => IpAddr::from(<[u8; 4]>::try_from(&value[4..]).expect("four bytes")),
            2 => IpAddr::from(<[u8; 16]>::try_from(&value[4..]).expect("sixteen bytes")),
            other => panic!("family {other}"),
        };
        SocketAddr::new(ip, port)
    };
    let attributes = heard.attributes().into_iter();
    attributes.filter(|(kind, _)| *kind == kind::ALTERNATE_SERVER).map(|(_, v)| read(v)).collect()
}

#[test]
fn auth_036_only_whoever_has_authenticated_is_sent_elsewhere() {
    for world in [draining(redirect), World::configured(36, anycast).with_client("alice")] {
        let mut world = world;
        for scheme in Scheme::ALL {
            let mut alice = world.client("alice");
            alice.state().scheme = scheme;
            alice.state().challenge = None;
            alice.bare(Draft::allocate()).expect_code(401);
            alice.know_the_realm();
            let draft = alice.state().credentials_without(kind::USERNAME, Draft::allocate());
            let sealed = alice.state().seal(draft);
            alice.bare(sealed).expect_code(400);
            let password = std::mem::replace(&mut alice.state().login.password, "wrong".to_owned());
            alice.ask(Draft::allocate()).expect_code(401);
            alice.state().login.password = password;
            // `ask` proves that the answer is signed.
            let heard = alice.ask(Draft::allocate());
            heard.expect_code(300);
            assert!(!alternates(&heard).is_empty());
        }
    }
}

#[test]
fn auth_036_requests_other_than_allocate_are_never_redirected() {
    let mut world = World::configured(36, redirect).with_client("alice").with_peer("bob");
    world.client("alice").relay();
    world.server.drain();
    world.client("alice").bare(Draft::request(method::BINDING)).expect_success();
    world.client("alice").refresh(600).expect_success();
    world.client("alice").permit(&["bob"]).expect_success();
    world.client("alice").bind(0x4000, "bob").expect_success();
}

#[test]
fn auth_037_the_first_alternate_is_of_the_clients_family() {
    let mut world = draining(redirect);
    for (name, expected) in [("alice", [OTHER4, OTHER6]), ("six", [OTHER6, OTHER4])] {
        let heard = world.client(name).allocate();
        heard.expect_code(300);
        assert_eq!(alternates(&heard), expected.map(address), "{name}");
        // Asking for the other family of relay changes nothing.
        let wish = Draft::allocate().raw(kind::FAMILY, &[2, 0, 0, 0]);
        let heard = world.client(name).ask(wish);
        heard.expect_code(300);
        assert_eq!(alternates(&heard), expected.map(address), "{name}");
    }
}

#[test]
fn auth_037_without_an_alternate_of_its_family_a_client_is_refused() {
    let mut world = draining(|config| {
        redirect(config);
        config.redirect.alternates[1].clear();
    });
    let heard = world.client("alice").allocate();
    heard.expect_code(300);
    assert_eq!(alternates(&heard), [address(OTHER4)]);
    world.client("six").allocate().expect_code(403);
}

#[test]
fn auth_037_clients_spread_over_the_alternates_and_each_keeps_its_own() {
    let others: Vec<_> = (1..=4).map(|n| address(&format!("198.51.100.{n}:3478"))).collect();
    let mut world = draining(|config| {
        redirect(config);
        config.redirect.alternates = [others.clone(), Vec::new()];
    });
    let mut seen = std::collections::BTreeSet::new();
    for port in 1_000..1_064 {
        let mut alice = world.client("alice");
        alice.state().address.set_port(port);
        alice.state().challenge = None;
        let first = alternates(&alice.allocate());
        assert_eq!(alternates(&alice.allocate()), first, "a second try");
        assert!(first.len() == 1 && others.contains(&first[0]), "{first:?}");
        seen.insert(first[0]);
    }
    assert_eq!(seen.len(), others.len());
}

#[test]
fn auth_038_the_domain_is_told_over_tls_to_clients_with_sha256() {
    for (transport, scheme, told) in [
        (Transport::Udp, Scheme::Sha256, false),
        (Transport::Tcp, Scheme::Sha256, false),
        (Transport::Tls, Scheme::Sha256, true),
        (Transport::Dtls, Scheme::Sha256, true),
        (Transport::Tls, Scheme::ExplicitMd5, true),
        (Transport::Tls, Scheme::Legacy, false),
        (Transport::Dtls, Scheme::Legacy, false),
    ] {
        let mut world = draining(over(transport));
        world.client("alice").state().scheme = scheme;
        let heard = world.client("alice").allocate();
        heard.expect_code(300);
        let expected = told.then_some(DOMAIN);
        assert_eq!(heard.text(kind::ALTERNATE_DOMAIN), expected, "{transport:?}, {scheme:?}");
    }
    let mut same = draining(|config| {
        over(Transport::Tls)(config);
        config.redirect.domain = None;
    });
    let heard = same.client("alice").allocate();
    heard.expect_code(300);
    assert!(!heard.has(kind::ALTERNATE_DOMAIN), "the certificate is the same");
}

#[test]
fn alloc_020_who_is_not_taken_is_refused_or_sent_elsewhere() {
    let full = |redirects| {
        let mut world = World::configured(20, |config| {
            if redirects {
                redirect(config);
            }
            config.limits.allocations = 1;
        })
        .with_client("alice")
        .with_client("carol");
        world.client("alice").relay();
        world
    };
    for (case, mut world, code, why) in [
        ("draining", draining(redirect), 300, Why::RedirectedDraining),
        ("draining, no word of others", draining(|_| ()), 403, Why::Draining),
        (
            "draining, but others are for the overload",
            draining(|config| {
                redirect(config);
                config.redirect.when_draining = false;
            }),
            403,
            Why::Draining,
        ),
    ] {
        let heard = world.client("alice").allocate();
        heard.expect_code(code);
        assert_eq!(heard.has(kind::ALTERNATE_SERVER), code == 300, "{case}");
        assert_eq!(world.rejected(why), 1, "{case}");
    }
    for (redirects, code, why) in [(true, 300, Why::RedirectedFull), (false, 508, Why::TotalQuota)]
    {
        let mut world = full(redirects);
        world.client("carol").allocate().expect_code(code);
        assert_eq!(world.rejected(why), 1);
        world.client("alice").refresh(0).expect_success();
        world.client("carol").allocate().expect_success();
    }
}

#[test]
fn alloc_020_a_users_own_quota_is_not_for_others_to_take() {
    let mut world = World::configured(20, |config| {
        redirect(config);
        config.limits.allocations_per_user = 1;
    })
    .with_client("alice")
    .with_client("second");
    world.client("alice").relay();
    let login = world.client("alice").state().login.clone();
    world.client("second").state().login = login;
    world.client("second").allocate().expect_code(486);
}

#[test]
fn disc_006_an_anycast_listener_sends_everybody_to_a_unicast_address() {
    let mut world =
        World::configured(6, anycast).with_client("alice").with_client6("six").with_peer("bob");
    for (name, expected) in [("alice", [OTHER4, OTHER6]), ("six", [OTHER6, OTHER4])] {
        world.client(name).bare(Draft::request(method::BINDING)).expect_success();
        let heard = world.client(name).allocate();
        heard.expect_code(300);
        assert_eq!(alternates(&heard), expected.map(address), "{name}");
    }
    assert_eq!(world.rejected(Why::RedirectedAnycast), 2);
    // Its checks come first.
    let mut alice = world.client("alice");
    alice.ask(Draft::request(method::ALLOCATE)).expect_code(400);
    alice.ask(Draft::allocate().raw(0x7FFF, b"")).expect_code(420);
    alice
        .ask(Draft::request(method::ALLOCATE).raw(kind::TRANSPORT, &[1, 0, 0, 0]))
        .expect_code(442);
    assert_eq!(world.server.tally().opened, 0);
}
