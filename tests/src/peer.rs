//! A peer: a socket somewhere on the internet.

use std::collections::VecDeque;
use std::net::SocketAddr;

use proto::marks::Marks;

use crate::dial::Manner;

/// Somebody a client talks to through the relay.
#[derive(Debug)]
pub struct Peer {
    /// What tests call it.
    pub name: String,
    /// Its transport address.
    pub address: SocketAddr,
    /// Datagrams that arrived and where they seemed to come from, oldest first.
    pub inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// What the header of the newest arrival said.
    pub marks: Marks,
    /// How it answers TCP connections.
    pub manner: Manner,
}

impl Peer {
    pub(crate) fn new(name: &str, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            address,
            inbox: VecDeque::new(),
            marks: Marks::PLAIN,
            manner: Manner::default(),
        }
    }
}
