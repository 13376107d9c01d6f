//! One worker's counters, written by the worker now and then and read by the office.

use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::media::MediaTally;
use proto::turn::Tally;
use proto::turn::tally::{Demand, Flow, ListenerTally, Usage};

use super::distributions::Distributions;
use super::latency::Latency;
use crate::dtls::DtlsTally;
use crate::engine::{EngineTally, InletTally};
use crate::offload::OffloadTally;
use crate::stream::StreamTally;

/// Counters as they were at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Of the server.
    pub(crate) server: Tally,
    /// Of the engine.
    pub(crate) engine: EngineTally,
    /// Of the streams.
    pub(crate) streams: StreamTally,
    /// Of DTLS.
    pub(crate) dtls: DtlsTally,
    /// Of what the kernel relays by itself.
    pub(crate) offload: OffloadTally,
    /// Of the worker: how long datagrams stay.
    pub(crate) latency: Latency,
    /// Of the worker: how allocations and turns are spread.
    pub(crate) distributions: Distributions,
    /// Of each listener.
    pub(crate) listeners: Vec<ListenerTally>,
    /// Of the sockets of each listener.
    pub(crate) inlets: Vec<InletTally>,
}

/// A row of words. Nothing orders them against each other: a reader may see a packet counted
/// and its bytes not yet.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Block(Box<[AtomicU64]>);

impl Block {
    /// All zero, for so many listeners.
    pub(crate) fn new(listeners: usize) -> Self {
        let mut words = 0;
        server(&mut Tally::default(), &mut |_| words += 1);
        engine(&mut EngineTally::default(), &mut |_| words += 1);
        streams(&mut StreamTally::default(), &mut |_| words += 1);
        dtls(&mut DtlsTally::default(), &mut |_| words += 1);
        offload(&mut OffloadTally::default(), &mut |_| words += 1);
        latency(&mut Latency::default(), &mut |_| words += 1);
        distributions(&mut Distributions::default(), &mut |_| words += 1);
        for _ in 0..listeners {
            listener(&mut ListenerTally::default(), &mut |_| words += 1);
            inlet(&mut InletTally::default(), &mut |_| words += 1);
        }
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Stores everything.
    pub(crate) fn publish(
        &self,
        mut of_server: Tally,
        below: &(EngineTally, StreamTally, DtlsTally, OffloadTally),
        (mut of_worker, mut of_many): (Latency, Distributions),
        (of_listeners, of_inlets): (&[ListenerTally], &[InletTally]),
    ) {
        let (mut of_engine, mut of_streams, mut of_dtls, mut of_kernel) = *below;
        let mut words = self.0.iter();
        let mut store = |value: &mut u64| {
            if let Some(word) = words.next() {
                word.store(*value, Ordering::Relaxed);
            }
        };
        server(&mut of_server, &mut store);
        engine(&mut of_engine, &mut store);
        streams(&mut of_streams, &mut store);
        dtls(&mut of_dtls, &mut store);
        offload(&mut of_kernel, &mut store);
        latency(&mut of_worker, &mut store);
        distributions(&mut of_many, &mut store);
        let rest = iter::repeat(InletTally::default());
        let of_inlets = of_inlets.iter().copied().chain(rest);
        for (mut of_listener, mut of_inlet) in of_listeners.iter().copied().zip(of_inlets) {
            listener(&mut of_listener, &mut store);
            inlet(&mut of_inlet, &mut store);
        }
    }

    /// Loads everything.
    pub(crate) fn read(&self, listeners: usize) -> Snapshot {
        let mut words = self.0.iter();
        let mut load = |value: &mut u64| {
            if let Some(word) = words.next() {
                *value = word.load(Ordering::Relaxed);
            }
        };
        let mut snapshot = Snapshot {
            listeners: vec![ListenerTally::default(); listeners],
            inlets: vec![InletTally::default(); listeners],
            ..Default::default()
        };
        server(&mut snapshot.server, &mut load);
        engine(&mut snapshot.engine, &mut load);
        streams(&mut snapshot.streams, &mut load);
        dtls(&mut snapshot.dtls, &mut load);
        offload(&mut snapshot.offload, &mut load);
        latency(&mut snapshot.latency, &mut load);
        distributions(&mut snapshot.distributions, &mut load);
        for (of_listener, of_inlet) in snapshot.listeners.iter_mut().zip(&mut snapshot.inlets) {
            listener(of_listener, &mut load);
            inlet(of_inlet, &mut load);
        }
        snapshot
    }
}

/// Adds the counters of another worker.
pub(crate) fn add(sum: &mut Tally, mut other: Tally) {
    let mut addends = Vec::new();
    server(&mut other, &mut |value| addends.push(*value));
    let mut addends = addends.into_iter();
    server(sum, &mut |value| *value += addends.next().unwrap_or(0));
}

/// Visits every word of a server's counters, always in the same order.
fn server(tally: &mut Tally, each: &mut impl FnMut(&mut u64)) {
    let Tally {
        succeeded,
        rejected,
        dropped,
        closed,
        opened,
        via_channel,
        via_indication,
        via_destination,
        via_connection,
        media,
        paced,
        icmp_reported,
        allocations,
        permissions,
        channels,
        connections,
        ports_used,
        ports_total,
    } = tally;
    succeeded.iter_mut().for_each(&mut *each);
    rejected.iter_mut().for_each(&mut *each);
    dropped.iter_mut().for_each(&mut *each);
    closed.iter_mut().for_each(&mut *each);
    usage(via_channel, each);
    usage(via_indication, each);
    usage(via_destination, each);
    usage(via_connection, each);
    self::media(media, each);
    for word in [opened, paced, icmp_reported, allocations, permissions, channels] {
        each(word);
    }
    for word in [connections, ports_used, ports_total] {
        each(word);
    }
}

/// The same for media.
fn media(tally: &mut MediaTally, each: &mut impl FnMut(&mut u64)) {
    let MediaTally { kinds, expected, received } = tally;
    kinds.iter_mut().flatten().for_each(|kind| flow(kind, each));
    expected.iter_mut().chain(received).for_each(&mut *each);
}

/// The same for an engine's.
fn engine(tally: &mut EngineTally, each: &mut impl FnMut(&mut u64)) {
    let EngineTally {
        receives,
        sends,
        datagrams_in,
        datagrams_out,
        runs_out,
        send_queue_full,
        send_refused,
        send_closed,
        truncated,
        lost_at_relays,
        overloads,
        restarts,
        diversions_failed,
        ring_in,
        ring_out,
        strays,
        damaged,
        forged,
        lost_at_rings,
    } = tally;
    for word in [receives, sends, datagrams_in, datagrams_out, runs_out, send_queue_full] {
        each(word);
    }
    for word in [send_refused, send_closed, truncated, lost_at_relays] {
        each(word);
    }
    for word in [restarts, diversions_failed, ring_in, ring_out, strays] {
        each(word);
    }
    for word in [damaged, forged, lost_at_rings, overloads] {
        each(word);
    }
}

/// The same for streams'.
fn streams(tally: &mut StreamTally, each: &mut impl FnMut(&mut u64)) {
    let StreamTally {
        accepted,
        refused,
        closed,
        reads,
        writes,
        bytes_in,
        bytes_out,
        dropped_frames,
        dropped_bytes,
        passed_idle,
        pseudo_tls,
        handshakes,
        paused,
        passing,
        open,
    } = tally;
    refused.iter_mut().for_each(&mut *each);
    closed.iter_mut().for_each(&mut *each);
    open.iter_mut().for_each(&mut *each);
    for word in [accepted, reads, writes, bytes_in, bytes_out, passed_idle] {
        each(word);
    }
    for word in [dropped_frames, dropped_bytes, pseudo_tls, handshakes, paused, passing] {
        each(word);
    }
}

/// The same for DTLS.
fn dtls(tally: &mut DtlsTally, each: &mut impl FnMut(&mut u64)) {
    let DtlsTally { greeted, parted, lost, finished, open } = tally;
    greeted.iter_mut().for_each(&mut *each);
    parted.iter_mut().for_each(&mut *each);
    lost.iter_mut().for_each(&mut *each);
    each(finished);
    each(open);
}

/// The same for what the kernel relays.
fn offload(tally: &mut OffloadTally, each: &mut impl FnMut(&mut u64)) {
    let OffloadTally { routes, waiting, refused, carried } = tally;
    for word in [routes, waiting, refused] {
        each(word);
    }
    usage(carried, each);
}

/// The same for how long datagrams stay.
fn latency(latency: &mut Latency, each: &mut impl FnMut(&mut u64)) {
    let Latency { datagrams, nanoseconds, longest } = latency;
    datagrams.iter_mut().chain(nanoseconds).for_each(&mut *each);
    each(longest);
}

/// The same for how things are spread.
fn distributions(of: &mut Distributions, each: &mut impl FnMut(&mut u64)) {
    for histogram in &mut of.0 {
        histogram.counts.iter_mut().for_each(&mut *each);
        each(&mut histogram.sum);
    }
}

/// The same for a listener's.
fn listener(tally: &mut ListenerTally, each: &mut impl FnMut(&mut u64)) {
    let ListenerTally { relayed, control_in, control_out, demand } = tally;
    usage(relayed, each);
    flow(control_in, each);
    flow(control_out, each);
    let Demand {
        requests,
        client_errors,
        destination_errors,
        failed_logins,
        over_user_quota,
        redirected,
        opened,
        closed,
        not_forwarded,
        dropped,
    } = demand;
    requests.iter_mut().for_each(&mut *each);
    client_errors.iter_mut().for_each(&mut *each);
    closed.iter_mut().for_each(&mut *each);
    for word in [destination_errors, failed_logins, over_user_quota, redirected] {
        each(word);
    }
    for word in [opened, not_forwarded, dropped] {
        each(word);
    }
}

/// The same for a listener's sockets.
fn inlet(tally: &mut InletTally, each: &mut impl FnMut(&mut u64)) {
    let InletTally { lanes, received, lost } = tally;
    each(lanes);
    received.iter_mut().for_each(&mut *each);
    lost.iter_mut().for_each(&mut *each);
}

fn usage(usage: &mut Usage, each: &mut impl FnMut(&mut u64)) {
    flow(&mut usage.to_peer, each);
    flow(&mut usage.to_client, each);
}

fn flow(flow: &mut Flow, each: &mut impl FnMut(&mut u64)) {
    each(&mut flow.packets);
    each(&mut flow.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_word_by_word() {
        let mut next = 0;
        let mut number = |value: &mut u64| {
            next += 1;
            *value = next;
        };
        let mut expected = Snapshot {
            listeners: vec![ListenerTally::default(); 2],
            inlets: vec![InletTally::default(); 2],
            ..Default::default()
        };
        server(&mut expected.server, &mut number);
        engine(&mut expected.engine, &mut number);
        streams(&mut expected.streams, &mut number);
        dtls(&mut expected.dtls, &mut number);
        offload(&mut expected.offload, &mut number);
        latency(&mut expected.latency, &mut number);
        distributions(&mut expected.distributions, &mut number);
        for (of_listener, of_inlet) in expected.listeners.iter_mut().zip(&mut expected.inlets) {
            listener(of_listener, &mut number);
            inlet(of_inlet, &mut number);
        }

        let block = Block::new(2);
        assert_eq!(block.0.len() as u64, next);
        let below = (expected.engine, expected.streams, expected.dtls, expected.offload);
        let listeners = (&expected.listeners[..], &expected.inlets[..]);
        let of_worker = (expected.latency, expected.distributions);
        block.publish(expected.server, &below, of_worker, listeners);
        assert_eq!(block.read(2), expected);
    }

    #[test]
    fn sums_cover_every_word() {
        let mut one = Tally::default();
        server(&mut one, &mut |value| *value = 3);
        let mut sum = one;
        add(&mut sum, one);
        server(&mut sum, &mut |value| assert_eq!(*value, 6));
    }
}
