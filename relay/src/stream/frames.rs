//! Frames cut out of what was read, and judged.

use proto::framing::turn::{self as framing, Broken, Cut, Rules};
use proto::now::Now;
use proto::policy::Ledger;
use proto::reject::DropReason;
use proto::turn::{Server, Verdict};

use super::connection::Connection;
use super::tally::Ending;
use crate::engine::{Batch, Way};

/// The longest frame of a client without an allocation: requests are short, so what it can make
/// us keep is as well.
const LONGEST_OF_STRANGERS: usize = 4_096;

/// The magic cookie's place and value in every STUN message of a stream (RFC 8489 §5).
const COOKIE: (usize, [u8; 4]) = (4, [0x21, 0x12, 0xA4, 0x42]);

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
        let rules = Rules {
            rfc5766_channels: self.rfc5766_channels,
            longest: if connection.stranger { LONGEST_OF_STRANGERS } else { framing::LONGEST },
        };
        let first = at;
        loop {
            let rest = Batch::frame(connection.client, at, end - at);
            match framing::cut(self.batch.bytes(&rest), rules) {
                Cut::Complete { frame, wire } => {
                    let judgement = self.judge(connection, at, frame);
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
                Cut::Broken(Broken::TooLong) => return Some(Ending::FrameTooLong),
                Cut::Broken(Broken::FirstByte | Broken::Length) => return Some(Ending::Garbled),
            }
        }
    }

    /// One frame.
    fn judge(&mut self, connection: &Connection, at: usize, len: usize) -> Judgement {
        let frame = Batch::frame(connection.client, at, len);
        let bytes = self.batch.bytes(&frame);
        if self.for_discovery && !is_binding(bytes) {
            return Judgement::End(Ending::NotForTurn);
        }
        match self.server.client_input(self.now, connection.client, bytes) {
            Verdict::ToPeer { via, peer, marks, payload } => {
                self.batch.send_to_peer(&frame, Way::to_peer(via, peer, marks), payload);
                Judgement::Next
            }
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
