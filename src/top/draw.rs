//! What is looked at, on the screen.

use std::fmt::Write;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, Wrap};

use super::board::Board;
use super::figures::{self, Detail, Explanation, Problem, Sample, Stream};
use crate::control::words::{duration, volume};

/// Problems that are told; the page has room for all.
const PROBLEMS: usize = 3;

/// Columns before their texts, for how bad they are.
const INDENT: u16 = 9;

/// Lines beside problems and allocations: title, totals, graph, heading of the list, keys.
const FIXED_LINES: usize = 1 + 1 + 2 + 2 + 1;

/// Loss that people hear, as the relay sees it.
const LOSS: f64 = 0.02;

/// Bars of a sparkline, from little to much.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, board: &mut Board) {
    let problems = problem_lines(board, frame.area().width);
    let height = u16::try_from(problems.len()).unwrap_or(0);
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(height),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [title, totals, graph, trouble, body, keys] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(title_line(board), title);
    frame.render_widget(totals_line(board), totals);
    sparkline(frame, board, graph);
    frame.render_widget(Paragraph::new(problems), trouble);
    if board.detail().is_some() {
        detail(frame, board, body);
    } else {
        list(frame, board, body);
    }
    let keys_line = match (board.trouble(), board.detail()) {
        (Some(trouble), _) => Line::from(trouble.to_owned()).bold().fg(Color::Red),
        (None, Some(_)) => Line::from("Esc back   ↑ ↓ history   q quit").dim(),
        (None, None) => Line::from(
            "q quit   ↑ ↓ move   Enter one allocation   p advice   sort: t throughput l loss a age \
             e expiry b bytes i id",
        )
        .dim(),
    };
    frame.render_widget(keys_line, keys);
}

/// So many lines show all allocations.
pub(super) fn height(board: &Board, width: u16) -> u16 {
    let lines = board.rows().len() + problem_lines(board, width).len() + FIXED_LINES;
    u16::try_from(lines).unwrap_or(u16::MAX)
}

fn title_line(board: &Board) -> Line<'static> {
    let overview = board.overview();
    if !board.is_seen() {
        return Line::from("av-edge top: asking the relay").bold();
    }
    let doing = if overview.draining { "draining" } else { "serving" };
    let workers = if overview.workers == 1 { "worker" } else { "workers" };
    Line::from(vec![
        Span::from(format!("av-edge  {}", overview.node)).bold(),
        Span::from(format!(
            "  {doing}, up for {}, {} {workers}, {} of at most {} allocations",
            duration(overview.uptime_s),
            overview.workers,
            overview.allocations,
            overview.limits.allocations,
        )),
    ])
}

fn totals_line(board: &Board) -> Line<'static> {
    let Some(last) = board.samples().last() else {
        return Line::from("no figures yet: rates are there after five seconds").dim();
    };
    let Sample { rate_to_peer, rate_to_client, packets_per_s, loss_client, loss_peer, cpu } = last;
    Line::from(format!(
        "to peers {}   to clients {}   {packets_per_s:.0} packets/s   loss from clients {}, from \
         peers {}   processor {:.0} %",
        bits(*rate_to_peer),
        bits(*rate_to_client),
        share(*loss_client),
        share(*loss_peer),
        cpu * 100.0,
    ))
}

/// The throughput of the last ten minutes.
fn sparkline(frame: &mut Frame<'_>, board: &Board, area: Rect) {
    let width = usize::from(area.width);
    let samples = board.samples();
    let last = &samples[samples.len().saturating_sub(width)..];
    let rates: Vec<u64> =
        last.iter().map(|it| whole(it.rate_to_peer + it.rate_to_client)).collect();
    frame.render_widget(Sparkline::default().data(rates).style(Color::Cyan), area);
}

/// What is wrong, the worst first, and what to do about it.
fn problem_lines(board: &Board, width: u16) -> Vec<Line<'static>> {
    let problems = &board.overview().problems;
    if problems.is_empty() {
        let words = if board.is_seen() { "Nothing is wrong." } else { "" };
        return vec![Line::from(words).fg(Color::Green)];
    }
    let mut lines = Vec::new();
    for problem in problems.iter().take(PROBLEMS) {
        lines.extend(problem_text(problem, width));
        if board.advises() {
            let advice = wrapped(&problem.advice, width.saturating_sub(INDENT));
            lines.extend(advice.into_iter().map(|it| Line::from(format!("{:9}{it}", "")).dim()));
        }
    }
    if let Some(more) = problems.len().checked_sub(PROBLEMS).filter(|more| *more > 0) {
        lines.push(Line::from(format!("and {more} more")).dim());
    }
    lines
}

fn problem_text(problem: &Problem, width: u16) -> impl Iterator<Item = Line<'static>> {
    let colour = match &*problem.severity {
        "error" => Color::Red,
        "warning" => Color::Yellow,
        _ => Color::Blue,
    };
    let mut severity = problem.severity.clone();
    wrapped(&problem.text, width.saturating_sub(INDENT)).into_iter().map(move |text| {
        let severity = std::mem::take(&mut severity);
        Line::from(vec![Span::from(format!("{severity:<9}")).bold().fg(colour), Span::from(text)])
    })
}

/// A text in lines of so many columns, broken between words.
fn wrapped(text: &str, width: u16) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let room = usize::from(width).saturating_sub(word.chars().count() + 1);
        match lines.last_mut().filter(|line| line.chars().count() <= room) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The allocations, the first in the order that was asked for.
fn list(frame: &mut Frame<'_>, board: &mut Board, area: Rect) {
    let shown = board.rows().len();
    let title = format!(" {shown} of {} allocations by {} ", board.total(), board.sort());
    let header = [
        "ID",
        "USER",
        "CLIENT",
        "VIA",
        "AGE",
        "TO PEERS",
        "TO CLIENT",
        "LOSS",
        "JITTER",
        "LAST 2 MIN",
    ];
    let widths = [
        Constraint::Length(12),
        Constraint::Length(16),
        Constraint::Length(22),
        Constraint::Length(4),
        Constraint::Length(11),
        Constraint::Length(11),
        Constraint::Length(11),
        Constraint::Length(15),
        Constraint::Length(17),
        Constraint::Fill(1),
    ];
    let rows: Vec<_> = board.rows().iter().map(line).collect();
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(Modifier::BOLD))
        .row_highlight_style(Style::new().reversed())
        .block(Block::new().borders(Borders::TOP).title(title));
    frame.render_stateful_widget(table, area, &mut board.lines);
}

fn line(row: &figures::Row) -> Row<'static> {
    let worst = row.loss_client.unwrap_or(0.0).max(row.loss_peer.unwrap_or(0.0));
    let loss = format!("{} / {}", share(row.loss_client), share(row.loss_peer));
    let jitter = format!("{} / {}", time(row.jitter_client_s), time(row.jitter_peer_s));
    let (loss, jitter) = match row.is_in_kernel() {
        true => ("kernel relays:".into(), "not measured".into()),
        false if worst >= LOSS => (Cell::from(loss).bold().fg(Color::Red), jitter),
        false => (loss.into(), jitter),
    };
    Row::new([
        Cell::from(row.id.clone()),
        row.user.clone().into(),
        row.client.clone().into(),
        row.transport.clone().into(),
        duration(row.age_s).into(),
        bits(row.rate_to_peer).into(),
        bits(row.rate_to_client).into(),
        loss,
        jitter.into(),
        bars(&row.spark).into(),
    ])
}

/// One allocation: what it is, how media arrives on both legs, and what happened to it.
fn detail(frame: &mut Frame<'_>, board: &Board, area: Rect) {
    let Some((id, look)) = board.detail() else { return };
    let facts = match &look.detail {
        Some(detail) if detail.row.id == id => facts(detail),
        _ => vec![Line::from(format!("allocation {id}"))],
    };
    let found = look.explanation.as_ref().map(findings).unwrap_or_default();
    let streams = look.detail.as_ref().map_or(&[][..], |detail| &detail.streams);
    let heights = [facts.len(), found.len() * 2, streams.len() + 2]
        .map(|lines| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX)));
    let [top, middle, media] = heights;
    let rows = [top, middle, media, Constraint::Min(4)];
    let [top, middle, media, bottom] = Layout::vertical(rows).areas(area);
    frame.render_widget(Paragraph::new(facts), top);
    frame.render_widget(Paragraph::new(found).wrap(Wrap { trim: true }), middle);
    stream_table(frame, streams, media);
    let history = look.explanation.as_ref().map(history).unwrap_or_default();
    let block = Block::new().borders(Borders::TOP).title(" what happened, the last first ");
    let history = Paragraph::new(history).block(block).scroll((board.scroll(), 0));
    frame.render_widget(history, bottom);
}

fn facts(detail: &Detail) -> Vec<Line<'static>> {
    let row = &detail.row;
    let peers: Vec<_> = detail
        .peers
        .iter()
        .map(|peer| match peer.channel {
            Some(channel) => format!("{} (channel {channel:#06x})", peer.address),
            None => format!("{} ({})", peer.address, peer.via),
        })
        .collect();
    vec![
        Line::from(vec![
            Span::from(format!("allocation {}", row.id)).bold(),
            Span::from(format!(
                "  user {}, {} over {} by {}",
                row.user, detail.dialect, row.transport, detail.listener
            )),
        ]),
        Line::from(format!("client {}   relayed {}", row.client, row.relayed.join(", "))),
        Line::from(format!(
            "began {} ago, expires in {}   to peers {} ({})   to client {} ({})",
            duration(row.age_s),
            duration(row.expires_in_s),
            volume(row.bytes_to_peer),
            bits(row.rate_to_peer),
            volume(row.bytes_to_client),
            bits(row.rate_to_client),
        )),
        Line::from(if row.is_in_kernel() {
            format!("relayed by the kernel: not measured   {}", bars(&row.spark))
        } else {
            format!(
                "loss from client {}, from peers {}   jitter {} / {}   {}",
                share(row.loss_client),
                share(row.loss_peer),
                time(row.jitter_client_s),
                time(row.jitter_peer_s),
                bars(&row.spark),
            )
        }),
        Line::from(format!("peers {}", peers.join(", "))),
    ]
}

fn findings(explanation: &Explanation) -> Vec<Line<'static>> {
    let found = explanation.findings.iter();
    found.map(|it| Line::from(format!("{} {}", it.text, it.advice)).fg(Color::Yellow)).collect()
}

fn stream_table(frame: &mut Frame<'_>, streams: &[Stream], area: Rect) {
    let header = [
        "FROM", "KIND", "SSRC", "PT", "PACKETS", "EXPECTED", "LOST", "JITTER", "GAP", "FREEZES",
        "FRAMES/S",
    ];
    let widths = [7, 8, 10, 4, 10, 10, 8, 10, 10, 8, 8].map(Constraint::Length);
    let rows = streams.iter().map(|it| {
        let number = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
        Row::new([
            it.leg.clone(),
            it.kind.clone(),
            it.ssrc.map(|ssrc| format!("{ssrc:08x}")).unwrap_or_default(),
            number(it.payload_type.map(u64::from)),
            it.packets.to_string(),
            number(it.expected),
            it.lost.map(|lost| lost.to_string()).unwrap_or_default(),
            time(it.jitter_s),
            time(it.longest_gap_s),
            number(it.freezes),
            it.frame_rate.map(|rate| format!("{rate:.1}")).unwrap_or_default(),
        ])
    });
    let block = Block::new().borders(Borders::TOP).title(" media by leg ");
    let header = Row::new(header).style(Modifier::BOLD);
    frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
}

/// The last first: that is what an operator looks for.
fn history(explanation: &Explanation) -> Vec<Line<'static>> {
    let now = crate::clock::now().unix;
    let entries = explanation.entries.iter().rev().map(|entry| {
        let at = proto::now::UnixTime(entry.at_ms / 1_000);
        let ago = duration(now.seconds_since(at));
        let count = if entry.count > 1 { format!("{}×", entry.count) } else { String::new() };
        Line::from(format!("{ago:>14} ago {count:>6}  {}", entry.text))
    });
    let summary = Line::from(explanation.summary.clone());
    std::iter::once(summary).chain(entries).collect()
}

/// Bytes a second, told in bits, as networks are.
fn bits(bytes_per_s: f64) -> String {
    let bits = bytes_per_s * 8.0;
    match bits {
        _ if bits < 10_000.0 => format!("{bits:.0} bit/s"),
        _ if bits < 10_000_000.0 => format!("{:.0} kbit/s", bits / 1e3),
        _ => format!("{:.0} Mbit/s", bits / 1e6),
    }
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn time(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1e3))
}

/// Numbers as bars, the highest as high as a line.
fn bars(numbers: &[u64]) -> String {
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let last = BARS.len() as u64 - 1;
    let mut bars = String::new();
    for number in numbers {
        let height = usize::try_from(number.saturating_mul(last) / most).unwrap_or(0);
        // Writing to a string never fails.
        let _ = bars.write_char(BARS[height.min(BARS.len() - 1)]);
    }
    bars
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive")]
fn whole(rate: f64) -> u64 {
    rate as u64
}
