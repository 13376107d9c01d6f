//! Medians, the table and the JSON.

use serde_json::{Value, json};

use crate::server::{Carrier, Kind};
use crate::traffic::{Media, Scenario};

/// One measured window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Packets a second, flooded.
    pub(crate) flood_pps: f64,
    /// Share of the core that was busy, flooded.
    pub(crate) flood_busy: f64,
    /// Nanoseconds of the core that were not idle, per packet, paced.
    pub(crate) core_ns: f64,
    /// Nanoseconds of the server's threads and its links' pollers, per packet, paced.
    pub(crate) task_ns: f64,
    /// Share of `task_ns` that the server's own code took, not the kernel.
    pub(crate) user_share: f64,
    /// Share of the core that the threads of `task_ns` took, paced.
    pub(crate) paced_busy: f64,
    /// Share of packets lost, paced.
    pub(crate) loss: f64,
    /// How much slower than its best the core was just before.
    pub(crate) slowness: f64,
}

/// The windows of one server in one scenario.
#[derive(Debug, Default)]
pub(crate) struct Series(pub(crate) Vec<Window>);

impl Series {
    /// The median of a figure.
    pub(crate) fn median(&self, figure: impl Fn(&Window) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.0.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() % 2 {
            1 => values.get(middle).copied(),
            _ => Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)),
        }
    }

    /// How many times the threads' own time the core was busy.
    fn sharing(&self) -> f64 {
        self.median(|window| window.core_ns / window.task_ns.max(1.0)).unwrap_or(1.0)
    }

    /// The share of the threads' time that is the server's own code, over all windows: samples
    /// of one are too few.
    fn user_share(&self) -> f64 {
        let sum: f64 = self.0.iter().map(|window| window.user_share).sum();
        sum / self.0.len().max(1) as f64
    }

    fn json(&self) -> Value {
        let median = |figure: fn(&Window) -> f64| self.median(figure);
        json!({
            "pps": median(|w| w.flood_pps),
            "flood_busy": median(|w| w.flood_busy),
            "core_ns": median(|w| w.core_ns),
            "task_ns": median(|w| w.task_ns),
            "user_share": self.user_share(),
            "loss": median(|w| w.loss),
            "windows": self.0.iter().map(|w| json!({
                "pps": w.flood_pps,
                "flood_busy": w.flood_busy,
                "core_ns": w.core_ns,
                "task_ns": w.task_ns,
                "loss": w.loss,
                "slowness": w.slowness,
            })).collect::<Vec<_>>(),
        })
    }
}

/// A scenario and what the servers made of it.
#[derive(Debug)]
pub(crate) struct Row {
    /// The scenario.
    pub(crate) scenario: Scenario,
    /// By [`Kind::ALL`]; empty when a server was left out.
    pub(crate) series: [Series; 3],
}

/// From here on the core did more than this work and the interrupts that go with it.
const SHARED: f64 = 1.35;

/// From here on a paced server had no time left: what a packet costs is then the pace itself.
const SATURATED: f64 = 0.9;

/// Core time per packet that we aim not to exceed, as a share of coturn's.
fn aim(scenario: Scenario) -> Option<f64> {
    if scenario.carrier != Carrier::Udp {
        return Some(0.6);
    }
    match (scenario.media, scenario.allocations) {
        (Media::Voice, 0..100) => None,
        (Media::Voice, _) => Some(1.0),
        (Media::Video, _) => Some(0.5),
    }
}

impl Row {
    /// Prints the heading.
    pub(crate) fn print_heading() {
        println!(
            "{:<20}{:>10}{:>11}{:>14}{:>15}{:>8}{:>15}{:>16}{:>8}{:>8}{:>14}{:>8}  aim",
            "scenario",
            "ours pps",
            "coturn pps",
            "ours ns/pkt",
            "coturn ns/pkt",
            "ratio",
            "ours thread ns",
            "coturn thread ns",
            "ratio",
            "kernel",
            "in kernel ns",
            "ratio",
        );
    }

    /// Prints one line.
    pub(crate) fn print(&self) {
        let figure =
            |figure: fn(&Window) -> f64| self.series.each_ref().map(|series| series.median(figure));
        let [our_pps, _, their_pps] = figure(|w| w.flood_pps).map(text);
        let [core_of_ours, _, core_of_theirs] = figure(|w| w.core_ns);
        let core = [core_of_ours, core_of_theirs];
        let [ours, in_kernel, theirs] = figure(|w| w.task_ns);
        let task = [ours, theirs];
        let aim = aim(self.scenario).map_or(String::new(), |aim| match self.ratio() {
            None => format!("{aim:.1}"),
            Some((ratio, shared)) => {
                let met = if ratio <= aim { "met" } else { "missed" };
                format!("{aim:.1} {met}{}", if shared { " (threads)" } else { "" })
            }
        });
        println!(
            "{:<20}{our_pps:>10}{their_pps:>11}{:>14}{:>15}{:>8}{:>15}{:>16}{:>8}{:>8}{:>14}{:>8}  {aim}{}",
            self.scenario.name(),
            text(core[0]),
            text(core[1]),
            share(core),
            text(task[0]),
            text(task[1]),
            share(task),
            share([task[0].map(|ns| ns * (1.0 - self.series[0].user_share())), task[1]]),
            text(in_kernel),
            share([in_kernel, theirs]),
            self.warning(),
        );
    }

    /// Our time per packet as a share of coturn's, and whether it is the threads' time: that of
    /// the core says nothing when other work shared it.
    fn ratio(&self) -> Option<(f64, bool)> {
        let [ours, _, theirs] = &self.series;
        let shared = [ours, theirs].into_iter().any(|series| series.sharing() > SHARED);
        let figure = |window: &Window| if shared { window.task_ns } else { window.core_ns };
        Some((ours.median(figure)? / theirs.median(figure)?, shared))
    }

    /// What makes the line doubtful.
    fn warning(&self) -> String {
        let mut notes = Vec::new();
        for (kind, series) in Kind::ALL.iter().zip(&self.series) {
            let loss = series.median(|w| w.loss).unwrap_or(0.0);
            if loss > 0.001 {
                notes.push(format!("{} lost {:.1} %", kind.name(), loss * 100.0));
            }
            let busy = series.median(|w| w.flood_busy).unwrap_or(1.0);
            if busy < 0.95 {
                notes.push(format!("{} was only {:.0} % busy", kind.name(), busy * 100.0));
            }
            if series.median(|w| w.paced_busy).unwrap_or(0.0) > SATURATED {
                notes.push(format!("{} was saturated: pace it slower", kind.name()));
            }
            if series.sharing() > SHARED {
                notes.push(format!("{}'s core was shared: x{:.1}", kind.name(), series.sharing()));
            }
            let slow = series.median(|w| w.slowness).unwrap_or(1.0);
            if slow > 1.3 {
                notes.push(format!("the core was {slow:.1} times slower than its best"));
            }
        }
        if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) }
    }

    /// For the JSON file.
    pub(crate) fn json(&self) -> Value {
        let [ours, kernel, coturn] = self.series.each_ref().map(Series::json);
        json!({
            "scenario": self.scenario.name(),
            "allocations": self.scenario.allocations,
            "ours": ours,
            "kernel": kernel,
            "coturn": coturn,
            "ratio": self.ratio().map(|(ratio, _)| ratio),
            "ratio_of": self.ratio().map(|(_, shared)| if shared { "task_ns" } else { "core_ns" }),
            "aim": aim(self.scenario),
        })
    }
}

fn text(figure: Option<f64>) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{figure:.0}"))
}

fn share([ours, theirs]: [Option<f64>; 2]) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
        _ => "-".to_owned(),
    }
}
