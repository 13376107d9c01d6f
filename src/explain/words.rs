//! Explanations, for people.

use proto::now::UnixTime;
use relay::Reason;
use serde_json::Value;

use crate::control::words::{duration, text};

/// A reason in a paragraph.
pub(super) fn reason(reason: &Reason) -> Vec<String> {
    let kind = match (reason.kind, reason.code) {
        (_, Some(code)) => format!("refusal, code {code}"),
        ("drop", None) => "drop, in silence".to_owned(),
        ("connection", None) => "connection of TCP or TLS".to_owned(),
        (_, None) => "DTLS".to_owned(),
    };
    vec![
        format!("{} ({kind})", reason.id),
        format!("  {}.", capital(reason.help)),
        format!("  What to do: {}.", reason.advice),
    ]
}

/// A reason in a line of a list.
pub(super) fn line(reason: &Reason) -> String {
    let kind = reason.code.map_or_else(|| reason.kind.to_owned(), |code| code.to_string());
    format!("{:<26} {kind:<10} {}", reason.id, reason.help)
}

/// What a relay answers: the conclusions first, for they are what is to be done.
pub(super) fn answer(answer: &Value, now: UnixTime) -> Vec<String> {
    let mut lines = vec![capital(&text(&answer["summary"]))];
    for finding in answer["findings"].as_array().into_iter().flatten() {
        lines.push(String::new());
        lines.push(format!("{}: {}", text(&finding["id"]), text(&finding["text"])));
        lines.push(format!("  What to do: {}", text(&finding["advice"])));
    }
    let entries = answer["entries"].as_array().map_or(&[][..], Vec::as_slice);
    if !entries.is_empty() {
        lines.push(String::new());
        lines.extend(entries.iter().map(|entry| happened(entry, now)));
    }
    lines
}

/// One thing that happened.
fn happened(entry: &Value, now: UnixTime) -> String {
    let at = UnixTime(entry["at_ms"].as_u64().unwrap_or_default() / 1_000);
    let ago = format!("{} ago", duration(now.seconds_since(at)));
    let count = match entry["count"].as_u64() {
        Some(2..) => format!("{}×", entry["count"]),
        _ => String::new(),
    };
    let whose = match &entry["allocation"] {
        Value::Null => text(&entry["client"]),
        id => text(id),
    };
    let what = text(&entry["what"]);
    format!("{ago:<16} {count:>6}  {whose:<21} {what:<22} {}", text(&entry["text"]))
}

/// A sentence begins with a capital letter, unless it begins with the name of something.
fn capital(sentence: &str) -> String {
    let first = sentence.split(' ').next().unwrap_or_default();
    if first.contains('_') || first.contains('.') {
        return sentence.to_owned();
    }
    let mut letters = sentence.chars();
    letters.next().map(|it| it.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conclusions_come_before_what_happened_and_nothing_reaches_the_terminal_raw() {
        let given = json!({
            "summary": "1 allocations live.",
            "findings": [{"id": "stale_nonce", "text": "It loops\u{1b}[2J.", "advice": "Mend it."}],
            "entries": [{
                "at_ms": 1_000_000, "count": 3, "what": "stale_nonce", "allocation": null,
                "client": "192.0.2.1:5", "text": "refused",
            }],
        });
        let lines = answer(&given, UnixTime(1_075));
        assert_eq!(lines[0], "1 allocations live.");
        assert_eq!(lines[2], "stale_nonce: It loops\\u{1b}[2J.");
        assert_eq!(lines[3], "  What to do: Mend it.");
        assert!(lines[5].starts_with("1 min 15 s ago"), "{}", lines[5]);
        assert!(lines[5].contains("3×  192.0.2.1:5"), "{}", lines[5]);
    }

    #[test]
    fn every_reason_reads_as_sentences() {
        for it in relay::reasons() {
            let lines = reason(&it);
            assert!(lines.iter().skip(1).all(|line| line.ends_with('.')), "{lines:?}");
            assert!(lines[2].len() > 25, "{lines:?}");
        }
    }
}
