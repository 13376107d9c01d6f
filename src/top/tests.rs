//! The display on a screen of memory.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::board::Board;
use super::figures::{Detail, Explanation, Overview, Page, Samples};
use super::source::Look;
use super::*;
use crate::cli::TopSort;

/// A relay with so many allocations, of which the first are asked for.
fn look(rows: usize, total: u64) -> Look {
    let row = |number: usize| {
        json!({
            "id": format!("0-{number}-1"), "user": "00000000deadbeef", "client": "192.0.2.1:4000",
            "transport": "udp", "relayed": ["203.0.113.5:50000"], "age_s": 75, "expires_in_s": 500,
            "rate_to_peer": 12_500, "rate_to_client": 2_500_000, "bytes_to_peer": 20_000,
            "loss_client": 0.05, "loss_peer": null, "jitter_client_s": 0.0042,
            "spark": [0, 50, 100], "a_field_of_later": 1,
        })
    };
    let rows: Vec<_> = (0..rows).map(row).collect();
    let overview = json!({
        "node": "edge-1", "uptime_s": 7_200, "workers": 2, "allocations": total,
        "limits": {"allocations": 10_000},
        "problems": [{
            "id": "loss_client", "severity": "warning", "text": "3 calls lose packets",
            "advice": "look at their networks",
        }],
    });
    let samples = json!({"samples": [
        {"rate_to_peer": 1_000_000.0, "rate_to_client": 2_000_000.0, "packets_per_s": 1_234.0,
         "loss_client": 0.012, "cpu": 0.25},
    ]});
    Look {
        sort: "throughput",
        overview: serde_json::from_value::<Overview>(overview).unwrap(),
        samples: serde_json::from_value::<Samples>(samples).unwrap(),
        page: serde_json::from_value::<Page>(json!({"allocations": rows, "total": total})).unwrap(),
        ..Look::default()
    }
}

fn board(look: Look) -> Board {
    let mut board = Board::new(TopSort::Throughput, 100);
    board.take(Ok(look));
    board
}

fn shown(board: &mut Board, size: (u16, u16)) -> String {
    frame(board, size).unwrap().join("\n")
}

fn press(board: &mut Board, code: KeyCode) {
    board.press(KeyEvent::new(code, KeyModifiers::NONE));
}

#[test]
fn a_frame_says_how_the_relay_is_and_what_is_wrong_before_the_calls() {
    let shown = shown(&mut board(look(3, 10_000)), (160, 20));
    let lines: Vec<_> = shown.lines().collect();
    assert!(
        lines[0].starts_with("av-edge  edge-1  serving, up for 2 h 0 min, 2 workers, 10000 of")
    );
    assert!(lines[1].starts_with("to peers 8000 kbit/s   to clients 16 Mbit/s   1234 packets/s"));
    assert!(lines[1].contains("loss from clients 1.2 %, from peers -   processor 25 %"), "{shown}");
    assert_eq!(lines[4], "warning  3 calls lose packets", "{shown}");
    assert_eq!(lines[5], "         look at their networks", "{shown}");
    assert!(shown.contains(" 3 of 10000 allocations by throughput "), "{shown}");
    let row = lines.iter().find(|line| line.contains("0-0-1")).unwrap();
    for words in ["00000000deadbeef", "192.0.2.1:4000", "1 min 15 s", "100 kbit/s", "20 Mbit/s"] {
        assert!(row.contains(words), "{words}: {row}");
    }
    assert!(
        row.contains("5.0 % / -") && row.contains("4.2 ms / -") && row.ends_with("▁▄█"),
        "{row}"
    );
    assert!(lines.last().unwrap().starts_with("q quit"), "{shown}");
}

#[test]
fn what_the_kernel_relays_is_said_to_be_not_measured() {
    let mut seen = look(2, 2);
    seen.page.allocations[0].relayed_by = "kernel".to_owned();
    let mut board = board(seen.clone());
    let list = shown(&mut board, (160, 20));
    let row = |id: &str| list.lines().find(|line| line.contains(id)).unwrap().to_owned();
    let words = ["kernel relays:", "not measured"];
    assert!(words.iter().all(|it| row("0-0-1").contains(it)) && !row("0-0-1").contains('%'));
    assert!(words.iter().all(|it| !row("0-1-1").contains(it)) && row("0-1-1").contains('%'));
    let detail = json!({"id": "0-0-1", "relayed_by": "kernel", "loss_client": 0.05});
    seen.detail = Some(serde_json::from_value::<Detail>(detail).unwrap());
    press(&mut board, KeyCode::Enter);
    board.take(Ok(seen));
    let shown = shown(&mut board, (140, 30));
    assert!(shown.contains("relayed by the kernel: not measured") && !shown.contains("5.0 %"));
}

#[test]
fn keys_sort_move_open_and_quit() {
    let mut board = board(look(50, 50));
    for (key, expected) in [
        ('l', "loss"),
        ('a', "age"),
        ('e', "expiry"),
        ('b', "bytes"),
        ('i', "id"),
        ('t', "throughput"),
        ('s', "loss"),
        ('x', "loss"),
    ] {
        press(&mut board, KeyCode::Char(key));
        assert_eq!(board.wanted().sort, expected, "{key}");
    }
    for (key, expected) in [
        (KeyCode::Down, 1),
        (KeyCode::PageDown, 11),
        (KeyCode::End, 49),
        (KeyCode::Down, 49),
        (KeyCode::Up, 48),
        (KeyCode::Home, 0),
        (KeyCode::Up, 0),
    ] {
        press(&mut board, key);
        assert_eq!(board.lines.selected(), Some(expected), "{key}");
    }
    press(&mut board, KeyCode::PageDown);
    press(&mut board, KeyCode::Enter);
    assert_eq!(board.wanted().detail.as_deref(), Some("0-10-1"));
    press(&mut board, KeyCode::Esc);
    assert_eq!(board.wanted().detail, None);
    assert!(!board.is_over());
    press(&mut board, KeyCode::Char('q'));
    assert!(board.is_over());
}

#[test]
fn long_texts_are_broken_between_words_and_advice_can_be_left_away() {
    let mut seen = look(1, 1);
    seen.overview.problems[0].advice = "one two three four five six seven eight".to_owned();
    let mut board = board(seen);
    let lines = frame(&mut board, (30, 20)).unwrap();
    assert_eq!(
        lines[4..7],
        [
            "warning  3 calls lose packets",
            "         one two three four",
            "         five six seven eight",
        ]
    );
    press(&mut board, KeyCode::Char('p'));
    assert!(!shown(&mut board, (30, 20)).contains("one two"));
}

#[test]
fn another_order_is_looked_at_from_its_first_line() {
    let mut board = board(look(3, 3));
    press(&mut board, KeyCode::End);
    press(&mut board, KeyCode::Char('l'));
    // What was asked for before comes first.
    board.take(Ok(look(3, 3)));
    let mut other = Look { sort: "loss", ..look(3, 3) };
    other.page.allocations.reverse();
    board.take(Ok(other));
    press(&mut board, KeyCode::Enter);
    assert_eq!(board.wanted().detail.as_deref(), Some("0-2-1"));
}

#[test]
fn the_line_follows_its_allocation_when_the_order_changes() {
    let mut board = board(look(3, 3));
    press(&mut board, KeyCode::End);
    let mut turned = look(3, 3);
    turned.page.allocations.reverse();
    board.take(Ok(turned));
    assert_eq!(board.lines.selected(), Some(0));
    board.take(Ok(look(0, 0)));
    press(&mut board, KeyCode::Enter);
    assert_eq!(board.wanted().detail, None, "there is none");
    shown(&mut board, (160, 20));
}

#[test]
fn one_allocation_shows_both_legs_and_its_history() {
    let mut seen = look(1, 1);
    let detail = json!({
        "id": "0-0-1", "user": "00000000deadbeef", "client": "192.0.2.1:4000", "transport": "udp",
        "relayed": ["203.0.113.5:50000"], "age_s": 75, "expires_in_s": 500, "dialect": "turn",
        "listener": "192.0.2.9:3478", "bytes_to_peer": 20_000,
        "peers": [{"address": "198.51.100.9:7", "via": "channel", "channel": 0x4000},
                  {"address": "198.51.100.8", "via": "permission"}],
        "streams": [{"leg": "client", "kind": "rtp", "ssrc": 0xABCD, "payload_type": 111,
                     "packets": 950, "expected": 1_000, "lost": 50, "jitter_s": 0.003,
                     "longest_gap_s": 0.25, "freezes": 2, "frame_rate": null}],
    });
    seen.detail = Some(serde_json::from_value::<Detail>(detail).unwrap());
    let explanation = json!({
        "summary": "allocation 0-0-1 lives.",
        "findings": [{"text": "It loops.", "advice": "Mend it."}],
        "entries": [{"at_ms": 1, "count": 1, "text": "opened"}, {"at_ms": 1, "count": 7, "text": "refused"}],
    });
    seen.explanation = Some(serde_json::from_value::<Explanation>(explanation).unwrap());
    let mut board = board(seen.clone());
    press(&mut board, KeyCode::Enter);
    board.take(Ok(seen.clone()));
    let shown_all = shown(&mut board, (140, 30));
    for words in [
        "turn over udp by 192.0.2.9:3478",
        "relayed 203.0.113.5:50000",
        "198.51.100.9:7 (channel 0x4000), 198.51.100.8 (permission)",
        "It loops. Mend it.",
        "client  rtp      0000abcd   111",
        "250.0 ms",
        "allocation 0-0-1 lives.",
    ] {
        assert!(shown_all.contains(words), "{words}:\n{shown_all}");
    }
    let (refused, opened) = (shown_all.find("7×  refused"), shown_all.find("  opened"));
    assert!(refused.is_some() && refused < opened, "the last first:\n{shown_all}");
    // It ends while it is looked at.
    board.take(Ok(Look { detail: None, ..seen }));
    assert!(shown(&mut board, (140, 30)).contains("7×  refused"));
}

#[test]
fn a_relay_that_does_not_answer_leaves_what_was_seen_and_says_so() {
    let mut board = board(look(3, 3));
    board.take(Err(Failure::job("/run/x.sock: the relay that opened it has ended")));
    let shown_all = shown(&mut board, (160, 20));
    assert!(shown_all.contains("0-2-1"), "{shown_all}");
    assert!(shown_all.ends_with("the relay that opened it has ended"), "{shown_all}");
}

#[test]
fn no_screen_is_too_small_and_nothing_reaches_the_terminal_raw() {
    let mut seen = look(3, 3);
    seen.overview.node = "edge\u{1b}[2J".to_owned();
    seen.page.allocations[0].client = "x\u{7}\u{9b}31m".to_owned();
    let mut board = board(seen);
    for size in [(1, 1), (10, 3), (40, 8), (300, 100)] {
        for key in [KeyCode::Enter, KeyCode::Esc] {
            let shown = shown(&mut board, size);
            assert!(!shown.contains(|it: char| it.is_control() && it != '\n'), "{size:?}");
            press(&mut board, key);
        }
    }
}
