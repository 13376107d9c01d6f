//! Frames cut out of what was read, and judged.

use std::ops::Range;

use proto::framing::ms;
use proto::framing::turn::{self as framing, Broken, Rules};
use proto::now::Now;
use proto::policy::Ledger;
use proto::reject::DropReason;
use proto::turn::{Server, Verdict};

use super::connection::Connection;
use super::tally::Ending;
use crate::engine::{Arrival, Batch, Way};

/// The longest frame of a client without an allocation: requests are short, so what it can make
/// us keep is as well.
const LONGEST_OF_STRANGERS: usize = 4_096;

/// The magic cookie's place and value in every STUN message of a stream (RFC 8489 §5).
const COOKIE: (usize, [u8; 4]) = (4, [0x21, 0x12, 0xA4, 0x42]);

/// How the frames of a connection are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Its first byte will tell.
    Unknown,
    /// As RFC 8656 has it.
    Turn,
    /// As the Microsoft dialect has it, in both directions.
    Ms,
}

/// What lies at the beginning of what has arrived.
enum Cut {
    /// A frame of so many bytes with its header and padding; where its message is in it, and
    /// whether that is payload and nothing else.
    Frame { wire: usize, message: Range<usize>, bare: bool },
    /// So many bytes are missing.
    NeedMore(usize),
    /// Nothing that can be read.
    Broken(Ending),
}

/// What becomes of a connection after a frame of it.
enum Judgement {
    /// The next frame is cut.
    Next,
    /// It ends.
    End(Ending),
    /// It goes elsewhere, with what is behind the frame.
    Leave,
}

/// Who judges the frames of a turn.
pub(super) struct Bench<'a, L> {
    pub(super) now: Now,
    pub(super) server: &'a mut Server<L>,
    pub(super) batch: &'a mut Batch,
    pub(super) rfc5766_channels: bool,
    pub(super) microsoft: bool,
    /// Whether the connection is good for Binding only.
    pub(super) for_discovery: bool,
}

impl<L: Ledger> Bench<'_, L> {
    /// Takes in `bytes` that were read into the batch's room, where the connection's begun frame
    /// goes on. Says how the connection ends, if what it sent makes it.
    pub(super) fn digest(&mut self, connection: &mut Connection, bytes: usize) -> Option<Ending> {
        let begun = connection.begun.len();
        let room = self.batch.stream_room();
        if bytes < connection.missing {
            connection.begun.extend_from_slice(&room[begun..begun + bytes]);
            connection.missing -= bytes;
            return None;
        }
        room[..begun].copy_from_slice(&connection.begun);
        let mut end = begun + bytes;
        let mut at = self.batch.keep(end);
        end += at;
        let first = at;
        loop {
            let rest = Batch::frame(connection.client, at, end - at);
            match self.cut(connection, self.batch.bytes(&rest)) {
                Cut::Frame { wire, message, bare } => {
                    let message =
                        Batch::frame(connection.client, at + message.start, message.len());
                    let judgement = self.judge(connection, &message, bare);
                    at += wire;
                    match judgement {
                        Judgement::Next => {}
                        Judgement::End(ending) => return Some(ending),
                        Judgement::Leave => {
                            let rest = Batch::frame(connection.client, at, end - at);
                            connection.leaving = true;
                            connection.keep_begun(self.batch.bytes(&rest), 0);
                            return None;
                        }
                    }
                }
                Cut::NeedMore(missing) => {
                    if at > first || begun == 0 {
                        connection.since = self.now.mono;
                    }
                    let rest = self.batch.bytes(&rest);
                    connection.keep_begun(rest, missing);
                    return None;
                }
                Cut::Broken(ending) => return Some(ending),
            }
        }
    }

    /// The first frame of what has arrived, cut as the connection's first byte said.
    fn cut(&self, connection: &mut Connection, bytes: &[u8]) -> Cut {
        if let (Framing::Unknown, Some(&first)) = (connection.framing, bytes.first()) {
            let ms = self.microsoft && ms::Kind::starting(first).is_some();
            connection.framing = if ms { Framing::Ms } else { Framing::Turn };
        }
        let longest = |most| if connection.stranger { LONGEST_OF_STRANGERS } else { most };
        if connection.framing == Framing::Ms {
            return match ms::cut(bytes, longest(ms::LONGEST)) {
                ms::Cut::Complete { kind, wire } => {
                    let (message, bare) = (ms::HEADER_LEN..wire, kind == ms::Kind::Data);
                    Cut::Frame { wire, message, bare }
                }
                ms::Cut::NeedMore(missing) => Cut::NeedMore(missing),
                ms::Cut::Broken(ms::Broken::TooLong) => Cut::Broken(Ending::FrameTooLong),
                ms::Cut::Broken(ms::Broken::Type) => Cut::Broken(Ending::FrameType),
            };
        }
        let longest = longest(framing::LONGEST);
        let rules = Rules { rfc5766_channels: self.rfc5766_channels, longest };
        match framing::cut(bytes, rules) {
            framing::Cut::Complete { frame, wire } => {
                Cut::Frame { wire, message: 0..frame, bare: false }
            }
            framing::Cut::NeedMore(missing) => Cut::NeedMore(missing),
            framing::Cut::Broken(Broken::TooLong) => Cut::Broken(Ending::FrameTooLong),
            framing::Cut::Broken(Broken::FirstByte | Broken::Length) => {
                Cut::Broken(Ending::Garbled)
            }
        }
    }

    /// The message of one frame.
    fn judge(&mut self, connection: &Connection, message: &Arrival, bare: bool) -> Judgement {
        let bytes = self.batch.bytes(message);
        if self.for_discovery && !is_binding(bytes) {
            return Judgement::End(Ending::NotForTurn);
        }
        let verdict = if bare {
            self.server.client_payload(self.now, connection.client, bytes)
        } else {
            self.server.client_input(self.now, connection.client, bytes)
        };
        match verdict {
            Verdict::ToPeer { via, peer, marks, payload } => {
                self.batch.send_to_peer(message, Way::to_peer(via, peer, marks), payload);
                Judgement::Next
            }
            Verdict::ToConnection { connection, payload } => {
                self.batch.send_to_connection(message, connection, payload);
                Judgement::Next
            }
            // MST-5: the frame is known, but who says such things knows no message either.
            Verdict::Dropped(
                DropReason::MalformedMs | DropReason::MalformedStun | DropReason::Unrecognised,
            ) if connection.framing == Framing::Ms && !bare => Judgement::End(Ending::Garbled),
            // Its length was believed, and it is no STUN message: where the next one starts is
            // unknown.
            Verdict::Dropped(DropReason::MalformedStun) if !has_cookie(bytes) => {
                Judgement::End(Ending::Garbled)
            }
            Verdict::Leaves => Judgement::Leave,
            // The server counted it, or queued actions. Nothing of a client goes to a client.
            Verdict::Handled | Verdict::Dropped(_) | Verdict::ToClient { .. } => Judgement::Next,
        }
    }
}

/// Whether a message is of the Binding method: request or indication.
fn is_binding(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0x01 | 0x11, ..])
}

fn has_cookie(bytes: &[u8]) -> bool {
    let (at, cookie) = COOKIE;
    bytes.get(at..at + cookie.len()) == Some(&cookie)
}
