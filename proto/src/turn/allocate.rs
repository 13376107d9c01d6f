//! Allocate (RFC 8656 §7.2).
//!
//! Three parts: [`Server::allocate`] checks the request in the order of the RFC, charges the
//! ledger and draws ports; the shell opens the sockets; [`Server::opened`] hears of each one,
//! tries another port when one is taken, and when all have spoken the allocation begins, or the
//! client hears why not. The five-tuple is held meanwhile, so a retransmission starts nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::addr::{AllocationId, Carried, Family, FiveTuple, RelayId, RelayedAddr};
use crate::auth::Identity;
use crate::dialect::Dialect;
use crate::now::Now;
use crate::policy::bandwidth::{Meter, Shares};
use crate::policy::{Bandwidth, Claim, Lease, Ledger, UserKey};
use crate::reject::{Reject, Why};
use crate::request::{Allocated, Parity, Reply, Wish};
use crate::stun::MessageKey;
use crate::turn::action::{Action, Change, OpenFailure};
use crate::turn::allocation::{Allocation, Bearer, Owner, Relay};
use crate::turn::exchange::Exchange;
use crate::turn::gate::Authenticated;
use crate::turn::redirect::Cause;
use crate::turn::refresh::{granted, seconds};
use crate::turn::server::Server;

/// How many ports are tried when other processes hold them.
const ATTEMPTS: u8 = 8;

/// An allocation whose sockets are being opened.
#[derive(Debug)]
pub(crate) struct Opening {
    exchange: Exchange,
    digest: u64,
    username: Box<[u8]>,
    identity: Identity,
    bearer: Option<MessageKey>,
    /// The nonce that stays good as long as the allocation lives.
    nonce: Option<Box<[u8]>>,
    lease: Lease,
    shares: Shares,
    lifetime: Duration,
    last_refresh: Option<Instant>,
    parity: Parity,
    /// The port came with a token: no other will do.
    redeemed: bool,
    /// The client wants a ticket, and may have one.
    mobile: bool,
    /// The relay is for TCP.
    tcp: bool,
    attempts: u8,
    wants: [Want; 2],
}

/// One relayed address of an opening allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Nothing,
    Asked(RelayedAddr),
    Open(RelayedAddr),
    Failed(Why),
}

impl<L: Ledger> Server<L> {
    /// Checks an Allocate, charges it and asks the shell for sockets.
    /// `read` tells what it asks for, once that matters.
    pub(super) fn allocate(
        &mut self,
        now: Now,
        request: &Authenticated<'_>,
        read: impl FnOnce(&Self) -> Result<Wish, Reject>,
    ) -> Result<(), Reject> {
        let client = request.exchange.client;
        let digest = self.digest(request.bytes);
        // Step 2: the five-tuple is free; or this is a retransmission, which is answered alike.
        if let Some((id, allocation)) = self.table.open_of(client) {
            if allocation.owner.digest != digest {
                return Err(Why::AllocationExists.into());
            }
            self.announce(now, id, &request.exchange, None);
            return Ok(());
        }
        // An expired credential opens nothing (REST-006).
        self.config.authority.in_time(&request.identity, now.unix)?;
        // Steps 3 to 9.
        let wish = read(self)?;
        // Step 10: policy and quota.
        self.welcome(client, &request.identity)?;
        self.has_room_for(client)?;
        self.takes(client)?;
        let bandwidth = self.bandwidth(request.exchange.call.dialect(), &request.identity);
        let claim = Claim {
            bandwidth,
            user: request.identity.user,
            client: Claim::network(client.client.ip()),
            user_limit: request.identity.limits.allocations,
            // A port that is kept counts like an allocation, or releasing and asking again
            // would empty the pool.
            charges: if wish.parity == Parity::Pair { 2 } else { 1 },
            at: now.mono,
        };
        let charged = if let Some(token) = wish.token {
            let redeemed = self.redeem(token, self.holder(client, &request.identity), &claim);
            redeemed.map(|(port, lease, shares)| (lease, shares, reserved(port)))
        } else {
            let leased = self.ledger.lease(&claim, &self.config.limits);
            leased.map(|(lease, shares)| (lease, shares, self.wants(now, &wish)))
        };
        let (lease, shares, wants) = charged.map_err(|why| match why {
            Why::TotalQuota | Why::OutOfMemory => {
                self.redirected(client, Cause::Full).unwrap_or(why)
            }
            other => other,
        })?;
        if let Some(why) = hopeless(&wants) {
            self.ledger.release(lease);
            return Err(why.into());
        }
        let opening = Opening {
            exchange: request.exchange.clone(),
            digest,
            username: request.username.as_ref().into(),
            identity: request.identity.clone(),
            bearer: request.bearer(),
            nonce: request.lasting_nonce.map(Into::into),
            lease,
            shares,
            lifetime: granted(wish.lifetime, self.lifetimes(request), request.identity.term),
            last_refresh: self.last_refresh(now, request.identity.term),
            parity: wish.parity,
            redeemed: wish.token.is_some(),
            mobile: wish.mobile,
            tcp: wish.tcp,
            attempts: 1,
            wants,
        };
        let id = self.table.insert(client, opening);
        for (family, want) in Family::ALL.into_iter().zip(wants) {
            if let Want::Asked(want) = want {
                self.actions.push_back(open(wish.tcp, RelayId { allocation: id, family }, want));
            }
        }
        Ok(())
    }

    /// Whether a client may have an allocation there: 403 if not (RFC 8656 §7.4).
    pub(super) fn welcome(&self, client: FiveTuple, identity: &Identity) -> Result<(), Why> {
        if is_tunnelled(client.client.ip()) {
            return Err(Why::TunnelledClient);
        }
        self.on_its_side(client, identity)
    }

    /// Whether a client came in on the side that its credential is good on.
    pub(super) fn on_its_side(&self, client: FiveTuple, identity: &Identity) -> Result<(), Why> {
        let listener = self.config.edge.listener(client.listener);
        match (identity.side, listener) {
            (Some(side), Some(listener)) if side != listener.side => Err(Why::WrongSide),
            _ => Ok(()),
        }
    }

    /// Whether new allocations are made here: 403 if not, or 300 if another relay makes them
    /// (RFC 8656 §7.2 step 11).
    fn takes(&self, client: FiveTuple) -> Result<(), Why> {
        if self.draining {
            return Err(self.redirected(client, Cause::Draining).unwrap_or(Why::Draining));
        }
        let listener = self.config.edge.listener(client.listener);
        let anycast = listener.is_some_and(|listener| listener.anycast);
        match self.redirected(client, Cause::Anycast) {
            Some(why) if anycast => Err(why),
            _ => Ok(()),
        }
    }

    /// To whom a reservation belongs: the user, or as tokens name nobody, and one client has
    /// many of them, the client's network.
    fn holder(&self, client: FiveTuple, identity: &Identity) -> UserKey {
        if identity.is_by_token() {
            self.config.authority.network_key(Claim::network(client.client.ip()))
        } else {
            identity.user
        }
    }

    /// What an allocation of a dialect and its user may carry: what the configuration says, or
    /// less if the credential does.
    fn bandwidth(&self, dialect: Dialect, identity: &Identity) -> Bandwidth {
        let configured = self.config.terms.of(dialect).bandwidth;
        Bandwidth { user: configured.user.narrowed(identity.limits.rates), ..configured }
    }

    /// Draws a port for each wanted family.
    fn wants(&mut self, now: Now, wish: &Wish) -> [Want; 2] {
        self.lapse(now);
        Family::ALL.map(|family| {
            if !wish.families[family.index()] {
                Want::Nothing
            } else if !self.ports.serves(family) {
                Want::Failed(Why::UnsupportedFamily)
            } else {
                match self.ports.take(now.mono, family, wish.parity, &mut self.random) {
                    Some(port) => Want::Asked(port),
                    None => Want::Failed(Why::OutOfPorts),
                }
            }
        })
    }

    /// The shell opened a relayed socket, or could not.
    pub(super) fn opened(&mut self, now: Now, id: RelayId, outcome: Result<(), OpenFailure>) {
        let place = id.family.index();
        let opening = self.table.opening(id.allocation);
        let Some((opening, Want::Asked(port))) =
            opening.map(|opening| (opening.wants[place], opening)).map(|(want, o)| (o, want))
        else {
            // Nobody waits for it any more: the server shut down meanwhile.
            if outcome.is_ok() {
                self.actions.push_back(Action::CloseRelay(id));
            }
            return;
        };
        let retry = !opening.redeemed && opening.attempts < ATTEMPTS;
        let (parity, tcp, mut want) = (opening.parity, opening.tcp, Want::Open(port));
        if let Err(failure) = outcome {
            want = Want::Failed(match failure {
                OpenFailure::PortTaken => Why::OutOfPorts,
                OpenFailure::Exhausted => Why::OutOfDescriptors,
                OpenFailure::Other => Why::ServerError,
            });
            if failure == OpenFailure::PortTaken && retry {
                opening.attempts += 1;
                if let Some(next) = self.ports.take(now.mono, id.family, parity, &mut self.random) {
                    want = Want::Asked(next);
                    self.actions.push_back(open(tcp, id, next));
                }
            }
            self.release_port(now, port);
            if parity == Parity::Pair {
                self.ports.put(successor(port));
            }
        }
        let Some(opening) = self.table.opening(id.allocation) else { return };
        opening.wants[place] = want;
        if !opening.wants.iter().any(|want| matches!(want, Want::Asked(_))) {
            self.settle(now, id.allocation);
        }
    }

    /// Every socket is open or has failed: the allocation begins, or is refused.
    fn settle(&mut self, now: Now, id: AllocationId) {
        let Some(mut opening) = self.table.take_opening(id) else { return };
        let exchange = opening.exchange;
        if let Some(why) = hopeless(&opening.wants) {
            self.table.vacate(id, exchange.client);
            self.ledger.release(opening.lease);
            self.refuse(now, &exchange, &why.into());
            return;
        }
        let expires = now.mono + opening.lifetime;
        let mut relays = [None; 2];
        let (mut token, mut missing) = (None, None);
        let carried = if opening.tcp { Carried::Streams } else { Carried::Datagrams };
        for (family, want) in Family::ALL.into_iter().zip(opening.wants) {
            match want {
                Want::Open(addr) => {
                    relays[family.index()] = Some(Relay::new(addr, expires));
                    self.ledger.set_live(addr, carried, true);
                    if let Some(lease) = opening.lease.split() {
                        let holder = self.holder(exchange.client, &opening.identity);
                        token = Some(self.reserve(now, holder, (successor(addr), lease)));
                    }
                }
                Want::Failed(why) => missing = Some((family, why)),
                Want::Nothing | Want::Asked(_) => {}
            }
        }
        let (user, trace) = (opening.identity.user, opening.identity.trace);
        let bandwidth = self.bandwidth(exchange.call.dialect(), &opening.identity);
        let shared = (user, &opening.shares);
        let meter = Meter::new(&mut self.trunk, &bandwidth, shared, now.mono);
        let owner = Owner {
            username: opening.username,
            peers: opening.identity.peers.clone(),
            bearer: opening.bearer.map(|key| {
                let until = opening.identity.term.until(now);
                Box::new(Bearer { key, until, identity: opening.identity })
            }),
            lease: opening.lease,
            digest: opening.digest,
            opened: now.mono,
            armed: now.mono,
            last_refresh: opening.last_refresh,
            token,
            missing,
            brake: None,
            reports: None,
            mobility: opening.mobile.then(|| Box::new(self.mobility(id))),
            connections: BTreeSet::new(),
            beside: 0,
            session: opening.nonce.and_then(|nonce| self.session(&exchange, nonce)),
        };
        let mut allocation =
            Allocation::new((exchange.client, exchange.call.dialect()), relays, owner);
        allocation.relays_tcp = opening.tcp;
        allocation.meter = meter;
        allocation.measured = self.measures_next();
        self.expiry.arm(allocation.owner.armed, id);
        self.table.settle(id, allocation);
        self.divert(exchange.client);
        self.tally.opened += 1;
        if let Some(demand) = self.demand(exchange.client.listener) {
            demand.opened += 1;
        }
        self.tally.allocations += 1;
        let relayed = relays.map(|relay| relay.map(|relay| relay.addr()));
        let client = exchange.client;
        let waited = self.arrivals.take(&self.digests, client, now.mono);
        let opened = Change::AllocationOpened { id, client, user, relayed, waited, trace };
        self.actions.push_back(Action::Changed(opened));
        self.announce(now, id, &exchange, None);
    }

    /// Queues the success response of an allocation that is open (ALLOC-001), with the time it has
    /// left or another.
    pub(super) fn announce(
        &mut self,
        now: Now,
        id: AllocationId,
        exchange: &Exchange,
        lifetime: Option<u32>,
    ) {
        let Some(allocation) = self.table.open(id) else { return };
        let numbered = allocation.owner.session.as_ref().map(|session| session.numbered());
        let relays: Vec<Relay> = allocation.relays().map(|(_, relay)| *relay).collect();
        let (token, missing) = (allocation.owner.token, allocation.owner.missing);
        let ticket = allocation.owner.mobility.as_ref().map(|mobility| mobility.ticket);
        let left = relays.iter().map(|relay| relay.expires.duration_since(now.mono)).max();
        let relayed = relays.iter().map(|relay| self.config.edge.advertise(relay.addr()));
        let relayed: Vec<SocketAddr> = relayed.collect();
        let held = Allocated {
            relayed: &relayed,
            lifetime: lifetime.unwrap_or(seconds(left.unwrap_or_default())),
            mapped: exchange.client.client.socket(),
            token,
            ticket: ticket.as_ref().map(|ticket| &ticket.0[..]),
            missing: missing.map(|(family, why)| (family, exchange.call.code(why))),
            numbered,
        };
        self.succeed(exchange, Reply::Allocated(&held));
    }

    /// Gives an opening allocation up: the relay shuts down.
    pub(super) fn abandon(&mut self, now: Now, id: AllocationId) {
        let Some(opening) = self.table.take_opening(id) else { return };
        self.table.vacate(id, opening.exchange.client);
        self.ledger.release(opening.lease);
        for (family, want) in Family::ALL.into_iter().zip(opening.wants) {
            let (port, open) = match want {
                Want::Asked(port) => (port, false),
                Want::Open(port) => (port, true),
                Want::Nothing | Want::Failed(_) => continue,
            };
            if open {
                self.actions.push_back(Action::CloseRelay(RelayId { allocation: id, family }));
            }
            self.release_port(now, port);
            if opening.parity == Parity::Pair {
                self.ports.put(successor(port));
            }
        }
    }
}

/// The port that was kept.
fn reserved(port: RelayedAddr) -> [Want; 2] {
    let mut wants = [Want::Nothing; 2];
    wants[port.family().index()] = Want::Asked(port);
    wants
}

/// Why no relayed address can come of this; `None` while one is open or asked for.
fn hopeless(wants: &[Want; 2]) -> Option<Why> {
    let mut reason = None;
    for want in wants {
        match want {
            Want::Asked(_) | Want::Open(_) => return None,
            // Capacity says more than a family that was never there.
            Want::Failed(why) if reason.is_none() || *why != Why::UnsupportedFamily => {
                reason = Some(*why);
            }
            Want::Failed(_) | Want::Nothing => {}
        }
    }
    reason
}

/// Asks the shell for a relayed socket.
fn open(tcp: bool, id: RelayId, want: RelayedAddr) -> Action {
    if tcp { Action::ListenRelay { id, want } } else { Action::OpenRelay { id, want } }
}

/// The port after this one, at the same host; `port` is even.
fn successor(port: RelayedAddr) -> RelayedAddr {
    RelayedAddr::new(SocketAddr::new(port.ip(), port.port() | 1))
}

/// Whether an address is of Teredo or 6to4, which RFC 8656 §21.4 keeps out.
fn is_tunnelled(client: IpAddr) -> bool {
    match client {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => matches!(ip.segments(), [0x2002, ..] | [0x2001, 0, ..]),
    }
}
