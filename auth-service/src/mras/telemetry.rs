//! Names and labels of MRAS' metrics, after the counters of the product (`LS:A/V Auth - Requests`).

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::mras::reason::Reason;
use crate::sip::answer::Status;

/// All series; made where the service's recorder is the local one.
pub(crate) struct Counters {
    issued: Counter,
    bad: Counter,
    current: Gauge,
    answered: Vec<Counter>,
    refused: Vec<Counter>,
    broken: Counter,
}

impl Counters {
    /// All at zero.
    pub(crate) fn new() -> Self {
        describe_counter!(ISSUED, "Credentials issued by MRAS (Credentials Issued)");
        describe_counter!(
            BAD,
            "Requests to MRAS that were malformed: by SIP, by the schema, or too large (Bad \
             Requests Received)"
        );
        describe_gauge!(CURRENT, "Requests MRAS works on now (Current requests serviced)");
        describe_counter!(ANSWERED, "Responses of MRAS with XML, by their reasonPhrase");
        describe_counter!(
            REFUSED,
            "Requests to MRAS refused by SIP before their XML was looked at, by status: 405 and \
             501 are other methods, 415 another Content-Type, 413 more than 262144 bytes, 400 and \
             505 no good SIP"
        );
        describe_counter!(
            BROKEN,
            "Connections to MRAS closed because what came on them is no SIP that can be followed"
        );
        let reason = |phrase: &'static str| counter!(ANSWERED, "reason" => phrase);
        let status = |status: Status| counter!(REFUSED, "status" => status.code());
        Self {
            issued: counter!(ISSUED),
            bad: counter!(BAD),
            current: gauge!(CURRENT),
            answered: Reason::phrases().map(reason).collect(),
            refused: Status::REFUSALS.map(status).to_vec(),
            broken: counter!(BROKEN),
        }
    }

    /// Work on a request has begun.
    pub(crate) fn begun(&self) {
        self.current.increment(1.0);
    }

    /// The answer to a request has left, or never will.
    pub(crate) fn done(&self) {
        self.current.decrement(1.0);
    }

    /// Credentials left for users.
    pub(crate) fn issued(&self, count: usize) {
        self.issued.increment(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A response with XML.
    pub(crate) fn answered(&self, reason: Reason) {
        if let Some(counter) = self.answered.get(reason.index()) {
            counter.increment(1);
        }
        if matches!(reason, Reason::RequestMalformed | Reason::RequestTooLarge) {
            self.bad.increment(1);
        }
    }

    /// A refusal by SIP.
    pub(crate) fn refused(&self, status: Status) {
        let index = Status::REFUSALS.iter().position(|&other| other == status);
        if let Some(counter) = index.and_then(|index| self.refused.get(index)) {
            counter.increment(1);
            self.bad.increment(1);
        }
    }

    /// A connection that had to be closed.
    pub(crate) fn broken(&self) {
        self.broken.increment(1);
    }
}

const ISSUED: &str = "av_edge_mras_credentials_issued_total";
const BAD: &str = "av_edge_mras_bad_requests_received_total";
const CURRENT: &str = "av_edge_mras_current_requests_serviced";
const ANSWERED: &str = "av_edge_mras_responses_total";
const REFUSED: &str = "av_edge_mras_sip_refusals_total";
const BROKEN: &str = "av_edge_mras_connections_broken_total";
