//! MRAS, the A/V authentication service of Lync and Skype for Business ([MS-AVEDGEA]).
//!
//! Trusted servers ask over SIP for their users' credentials: a SERVICE request with XML in it.
//! The story of a request: [`trust`] lets only servers with a certificate of ours through the TLS
//! handshake; [`connection`] cuts messages out of the stream and ends what is slow; [`service`]
//! refuses what SIP refuses; [`request`] reads the XML; [`issue`] applies limits, chooses relays
//! and mints; [`response`] writes the XML that goes back, with one of the ten phrases of
//! [`reason`]. Nothing of a credential is ever logged.

pub(crate) mod connection;
pub(crate) mod issue;
pub(crate) mod reason;
pub(crate) mod relays;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod service;
pub(crate) mod telemetry;
pub(crate) mod trust;
pub(crate) mod uri;

/// Of requests and responses alike (MRAS-37).
pub(crate) const MEDIA_TYPE: &str = "application/msrtc-media-relay-auth+xml";

/// The namespace of all elements.
pub(crate) const NAMESPACE: &str = "http://schemas.microsoft.com/2006/09/sip/mrasp";

/// The version that this server has itself.
pub(crate) const SERVER_VERSION: &str = "3.0";
