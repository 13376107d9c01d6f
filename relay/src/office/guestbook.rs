//! Visitors whose wish was not granted, counted by door and reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

/// Where operators come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `[metrics]`.
    Metrics,
    /// `[admin]`.
    Admin,
    /// `[control]`.
    Control,
}

impl Place {
    /// Every place, in order.
    pub(crate) const ALL: [Self; 3] = [Self::Metrics, Self::Admin, Self::Control];

    /// The table of the configuration, and the label of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Admin => "admin",
            Self::Control => "control",
        }
    }
}

/// Why a visitor had to go, or a request was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No descriptor for the connection.
    Unaccepted,
    /// All places were taken, and somebody came: the one that matters least had to go.
    Crowded,
    /// More TLS handshakes of one address or network than `limits.handshakes_per_s` allows.
    Handshakes,
    /// No TLS, no certificate that is known, or not in time.
    Handshake,
    /// Not HTTP/1.1, or not well-formed.
    Malformed,
    /// Head or body are too large.
    TooLarge,
    /// A head that did not arrive in time.
    TooSlow,
    /// A name that is not this host's.
    Host,
    /// No token, or a wrong one.
    Token,
    /// What nobody may here.
    Forbidden,
    /// Nothing is there, or it cannot be done.
    Unknown,
    /// The visit was over, and its answer not read.
    Unread,
}

impl Refusal {
    /// Every reason, in order.
    pub(crate) const ALL: [Self; 12] = [
        Self::Unaccepted,
        Self::Crowded,
        Self::Handshakes,
        Self::Handshake,
        Self::Malformed,
        Self::TooLarge,
        Self::TooSlow,
        Self::Host,
        Self::Token,
        Self::Forbidden,
        Self::Unknown,
        Self::Unread,
    ];

    /// The label of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unaccepted => "unaccepted",
            Self::Crowded => "crowded",
            Self::Handshakes => "handshakes",
            Self::Handshake => "handshake",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Host => "host",
            Self::Token => "token",
            Self::Forbidden => "forbidden",
            Self::Unknown => "unknown",
            Self::Unread => "unread",
        }
    }

    /// What an answer says of its request; `None` if it was granted, or failed for a reason of ours.
    fn of(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::UNAUTHORIZED => Some(Self::Token),
            StatusCode::FORBIDDEN => Some(Self::Forbidden),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(Self::Unknown),
            StatusCode::REQUEST_TIMEOUT => Some(Self::TooSlow),
            StatusCode::MISDIRECTED_REQUEST => Some(Self::Host),
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Some(Self::TooLarge)
            }
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => Some(Self::Malformed),
            status => status.is_client_error().then_some(Self::Malformed),
        }
    }
}

/// Every count. Those who read it share it with the doors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guestbook(Arc<[[AtomicU64; Refusal::ALL.len()]; Place::ALL.len()]>);

impl Guestbook {
    /// The page of one door.
    pub(super) fn page(&self, place: Place) -> Page {
        Page { book: self.clone(), place }
    }

    /// How many were refused, by place and reason.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Place, Refusal, u64)> {
        Place::ALL.into_iter().zip(&*self.0).flat_map(|(place, counts)| {
            let counts = Refusal::ALL.into_iter().zip(counts);
            counts.map(move |(why, count)| (place, why, count.load(Ordering::Relaxed)))
        })
    }
}

/// Where one door writes.
#[derive(Clone, Debug)]
pub(super) struct Page {
    book: Guestbook,
    place: Place,
}

impl Page {
    /// The door.
    pub(super) fn place(&self) -> &'static str {
        self.place.name()
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, why: Refusal) {
        self.book.0[self.place as usize][why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer, if it refuses its request.
    pub(super) fn answered(&self, status: StatusCode) {
        if let Some(why) = Refusal::of(status) {
            self.refused(why);
        }
    }
}
