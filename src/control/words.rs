//! What a relay says of itself, for people.

use serde_json::Value;

/// Above the allocations.
pub(super) const HEADING: &str = "ID           USER              CLIENT                        VIA   \
RELAYED                        AGE       EXPIRES IN  TO PEERS    TO CLIENT";

/// One line of a list.
pub(super) fn allocation(row: &Value) -> String {
    let relayed = row["relayed"].as_array().map_or(&[][..], Vec::as_slice);
    let relayed: Vec<_> = relayed.iter().map(text).collect();
    format!(
        "{:<12} {:<17} {:<29} {:<5} {:<30} {:<9} {:<11} {:<11} {}",
        text(&row["id"]),
        text(&row["user"]),
        text(&row["client"]),
        text(&row["transport"]),
        relayed.join(" "),
        time(&row["age_s"]),
        time(&row["expires_in_s"]),
        volume(count(&row["bytes_to_peer"])),
        volume(count(&row["bytes_to_client"])),
    )
}

/// A line for each fact.
pub(super) fn state(state: &Value) -> Vec<String> {
    let doing = if state["draining"] == true { "draining" } else { "serving" };
    let mut lines = vec![
        format!("version      {}", text(&state["version"])),
        format!("state        {doing}"),
        format!("up for       {}", time(&state["uptime_s"])),
        format!("workers      {}", state["workers"]),
        format!("allocations  {}", state["allocations"]),
    ];
    for it in state["listeners"].as_array().into_iter().flatten() {
        let [address, transport, side] =
            ["address", "transport", "side"].map(|name| text(&it[name]));
        lines.push(format!("listens on   {address} ({transport}, {side})"));
    }
    lines
}

pub(super) fn ended(_: &Value) -> Vec<String> {
    vec!["ended".to_owned()]
}

pub(super) fn draining(answer: &Value) -> Vec<String> {
    let deadline = time(&answer["deadline_s"]);
    vec![format!("draining: no new allocations; it ends with the last one, or in {deadline}")]
}

pub(super) fn reloaded(answer: &Value) -> Vec<String> {
    let waiting = answer["waiting_for_restart"].as_array().map_or(&[][..], Vec::as_slice);
    let waiting: Vec<_> = waiting.iter().map(text).collect();
    let mut lines = vec!["the configuration was read again".to_owned()];
    if !waiting.is_empty() {
        lines.push(format!("these changes wait for a restart: {}", waiting.join(", ")));
    }
    lines
}

/// A text, safe for a terminal.
pub(crate) fn text(value: &Value) -> String {
    let letters = value.as_str().unwrap_or_default().chars();
    letters.fold(String::new(), |mut safe, letter| {
        match letter {
            // These need an escape in a literal, and none here.
            '\'' | '"' | '\\' => safe.push(letter),
            _ => safe.extend(letter.escape_debug()),
        }
        safe
    })
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn time(seconds: &Value) -> String {
    duration(count(seconds))
}

/// Seconds, in two units.
pub(crate) fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// Bytes, in a unit that suits them.
pub(crate) fn volume(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_and_volumes_are_told_in_two_units() {
        for (seconds, expected) in
            [(0, "0 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(time(&json!(seconds)), expected);
        }
        for (bytes, expected) in [(9_999, "9999 B"), (10_000, "10 kB"), (12_345_678, "12 MB")] {
            assert_eq!(volume(bytes), expected);
        }
        assert_eq!(text(&json!("it's a\u{1b}[2J")), "it's a\\u{1b}[2J");
    }
}
