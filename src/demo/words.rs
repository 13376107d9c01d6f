//! What the demonstration prints, on standard output.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use super::Finding;
use super::call::{Call, End, Progress};
use super::ledger::Comparison;
use super::page::Page;
use super::services::{Configuration, RELAYED_PORTS, Services};
use super::{srtp, voice};

/// Time between two lines of progress where no terminal can be updated in place.
const PLAIN_INTERVAL: Duration = Duration::from_secs(1);

/// What was started.
pub(super) fn introduce(services: &Services) {
    let mut text = String::from("A/V Edge, relay and credential service in one process\n\n");
    for moved in services.moved() {
        row(&mut text, "note", moved);
    }
    row(&mut text, "pool key", &format!("{}; made for this run, in memory only", services.key()));
    row(&mut text, "credentials", &format!("minted by POST {}", services.minter().url()));
    row(&mut text, "relay", &services.listeners().join(", "));
    let (first, last) = RELAYED_PORTS.into_inner();
    let ports = format!("{} ports {first}-{last}", services.relayed_ip());
    row(&mut text, "relays on", &ports);
    say(&text);
}

/// Who calls whom.
pub(super) fn ring(call: &Call) {
    let mut text = format!(
        "\nCalling: {:.1} s of voice, PCMU every {} ms, in SRTP ({})\n",
        voice::duration().as_secs_f64(),
        voice::PACKET_INTERVAL.as_millis(),
        srtp::PROFILE_NAME,
    );
    let end = |end: &End| format!("{} holds relayed address {}", end.mapped(), end.relayed());
    row(&mut text, "caller", &end(call.caller()));
    row(&mut text, "far end", &end(call.far_end()));
    say(&text);
}

/// The line of live figures: rewritten in a terminal, once a second elsewhere.
pub(super) struct Live {
    terminal: bool,
    last: Option<Duration>,
}

impl Live {
    /// For standard output as it is.
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), last: None }
    }

    /// Shows how far the call is.
    pub(super) fn show(&mut self, progress: &Progress) {
        let due = self.last.is_none_or(|last| progress.elapsed >= last + PLAIN_INTERVAL);
        if !self.terminal && !due && progress.sent < progress.of {
            return;
        }
        self.last = Some(progress.elapsed);
        let line = live_line(progress);
        say(&if self.terminal { format!("\r{line}\x1b[K") } else { format!("{line}\n") });
    }

    /// Leaves the line standing.
    pub(super) fn end(&self) {
        if self.terminal {
            say("\n");
        }
    }
}

fn live_line(progress: &Progress) -> String {
    let trip = progress.round_trip.map_or_else(|| "-".to_owned(), milliseconds);
    format!(
        "  {:>4.1} s  {:>3} of {} packets sent, {:>3} back  {:>5.1} kbit/s there, {:>5.1} kbit/s back  \
         round trip {trip}",
        progress.elapsed.as_secs_f64(),
        progress.sent,
        progress.of,
        progress.returned,
        progress.there_bit_s / 1e3,
        progress.back_bit_s / 1e3,
    )
}

/// What happened.
pub(super) fn tell(finding: &Finding) {
    let outcome = &finding.outcome;
    let mut text = String::from("\nWhat happened\n");
    direction(&mut text, "there", &outcome.there);
    direction(&mut text, "back", &outcome.back);
    row(&mut text, "far end", heard(outcome.far_end_heard_clip));
    row(&mut text, "caller", heard(outcome.caller_heard_clip));
    let relayed = finding.relayed;
    let agrees = if finding.relay_agrees() { "" } else { "; the ends counted differently" };
    let counted = format!(
        "counted {} packets ({} bytes) in and {} packets ({} bytes) out{agrees}",
        grouped(relayed.packets_in),
        grouped(relayed.bytes_in),
        grouped(relayed.packets_out),
        grouped(relayed.bytes_out),
    );
    row(&mut text, "relay", &counted);
    if let (Some(median), Some(most)) = (outcome.round_trip(0.5), outcome.round_trip(0.95)) {
        let trips = format!(
            "{} median, 95 % within {}, through the relay four times",
            milliseconds(median),
            milliseconds(most)
        );
        row(&mut text, "round trip", &trips);
    }
    text.push_str(if finding.is_perfect() {
        "\nEvery byte came out as it went in.\n"
    } else {
        "\nThe call did not come through unharmed.\n"
    });
    say(&text);
}

fn direction(text: &mut String, name: &str, comparison: &Comparison) {
    let Comparison { sent, bytes, intact, lost, altered, repeated, .. } = comparison;
    let bytes = grouped(*bytes);
    let mut line = format!("{sent} SRTP packets ({bytes} bytes) sent, ");
    if comparison.is_perfect() {
        line.push_str("all arrived as sent");
    } else {
        let _ = write!(
            line,
            "{intact} arrived as sent, {lost} lost, {altered} altered, {repeated} repeated"
        );
    }
    row(text, name, &line);
    let (sent, arrived) = (hex(&comparison.sent_digest), hex(&comparison.arrived_digest));
    let relation = if sent == arrived { "=" } else { "≠" };
    row(text, "", &format!("SHA-256 sent {sent}… {relation} arrived {arrived}…"));
}

fn heard(clip: bool) -> &'static str {
    if clip {
        "decrypted every packet; the voice equals the clip, sample for sample"
    } else {
        "did not hear the clip as it was spoken"
    }
}

/// What somebody can do now.
pub(super) fn offer(services: &Services, page: &Page, guest: &Configuration) {
    let mut text = String::from("\nFor your own WebRTC application, good for a day:\n\n");
    let _ = writeln!(text, "{}\n", serde_json::to_string_pretty(guest).unwrap_or_default());
    if let Some(metrics) = services.metrics_addr() {
        row(&mut text, "metrics", &format!("http://{metrics}/metrics"));
    }
    if let Some(admin) = services.admin_addr() {
        row(&mut text, "operators", &format!("http://{admin}/  (what the relay does)"));
    }
    if let Some(moved) = page.moved() {
        row(&mut text, "note", &moved);
    }
    row(&mut text, "page", &format!("{}  (a call in your browser)", page.url()));
    text.push_str("\nCtrl-C ends it.\n");
    say(&text);
}

/// The last line.
pub(super) fn farewell() {
    say("\nEnded.\n");
}

fn row(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<13}{value}");
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// The first bytes of a hash.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints. A reader that went away (`demo | head`) does not stop the call.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (40_404, "40,404"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_live_line_has_numbers_with_units() {
        let line = live_line(&Progress {
            elapsed: Duration::from_millis(2_040),
            sent: 102,
            of: 222,
            returned: 101,
            there_bit_s: 72_800.0,
            back_bit_s: 72_800.0,
            round_trip: Some(Duration::from_micros(310)),
        });
        assert_eq!(
            line,
            "   2.0 s  102 of 222 packets sent, 101 back   72.8 kbit/s there,  72.8 kbit/s back  \
             round trip 0.31 ms"
        );
    }
}
