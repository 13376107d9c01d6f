//! Which interfaces could have the kernel program, and how.

use std::io;

use super::files::Files;
use super::{Finding, Level};
use crate::config::Config;
use crate::offload::{Fitness, MOST_QUEUES, Mode, Wish, below, fitness, ours};

/// Looks at the interfaces of a configuration, or at all but loopback.
pub(super) fn look(host: &Files, config: Option<&Config>) -> Vec<Finding> {
    let wish = config.and_then(|it| it.offload.as_ref());
    let wished: Vec<String> = wish.iter().flat_map(|wish| wish.interfaces.clone()).collect();
    let is_vouched = !wished.is_empty();
    let names = match config {
        Some(_) if is_vouched => wished,
        Some(config) => ours(config).unwrap_or_default(),
        None => {
            host.names("sys/class/net").into_iter().filter(|it| is_hardware(host, it)).collect()
        }
    };
    // Of a VLAN, the interface below it.
    let names: Vec<String> = below(names).unwrap_or_default().into_iter().collect();
    if names.is_empty() {
        let words = "no interface has the relay's addresses but loopback";
        return vec![Finding::new(
            Level::Note,
            "interfaces",
            words,
            "nobody but this host reaches it.",
        )];
    }
    let in_driver = |name: &String| {
        let fitness = fitness(name);
        fitness.is_ok_and(|it| it.native != Some(false) && (is_vouched || !it.cable))
    };
    let mode = |wish: &Wish| match wish.modes {
        [first, rest @ ..] if rest.is_empty() || names.iter().all(in_driver) => Some(*first),
        modes => modes.last().copied(),
    };
    let (wished, rings) = (wish.and_then(mode), wish.is_some_and(|wish| wish.rings));
    let one = |name: &String| {
        let driver = host.target(format!("sys/class/net/{name}/device/driver"));
        let rows = host.names(&format!("sys/class/net/{name}/queues"));
        let queues = rows.iter().filter(|row| row.starts_with("rx-")).count();
        let driver = driver.unwrap_or_else(|| "virtual".to_owned());
        let fitness = fitness(name);
        let of_rings =
            fitness.as_ref().ok().filter(|_| rings).map(|it| judge_rings(name, *it, queues));
        let queues = if queues == 1 { "1 queue".to_owned() } else { format!("{queues} queues") };
        let who = format!("{name} ({driver}, {queues})");
        [Some(judge(&who, fitness.as_ref(), wished, is_vouched)), of_rings]
    };
    names.iter().flat_map(one).flatten().collect()
}

fn is_hardware(host: &Files, name: &str) -> bool {
    host.target(format!("sys/class/net/{name}/device")).is_some()
}

/// `wished` is where the program shall stand, if anywhere; `is_vouched` whether the operator named
/// the interface.
fn judge(
    who: &str,
    fitness: Result<&Fitness, &io::Error>,
    wished: Option<Mode>,
    is_vouched: bool,
) -> Finding {
    const SUBJECT: &str = "interfaces";
    let Ok(fitness) = fitness else {
        let words = format!("{who}: the kernel says nothing about it");
        return Finding::new(Level::Note, SUBJECT, words, "see whether `ip link` knows it.");
    };
    let level = if wished.is_some() { Level::Warning } else { Level::Note };
    if fitness.taken && wished.is_none() {
        let words = format!("{who}: a program stands here");
        let advice = "if that is no relay, [offload] could not use the interface beside it.";
        return Finding::new(Level::Note, SUBJECT, words, advice);
    }
    if fitness.taken {
        let words = format!("{who}: a program stands here already");
        let advice = "that may be this very relay, running; another program would keep it out.";
        return Finding::new(Level::Note, SUBJECT, words, advice);
    }
    if fitness.cable && !is_vouched && wished != Some(Mode::Tc) {
        let words = format!("{who}: one end of a virtual cable");
        let advice = "the kernel relays here only if the other end has GRO on (`ethtool -K … gro \
                      on`) and offload.interfaces names it; or with offload.mode = \"tc\".";
        return Finding::new(level, SUBJECT, words, advice);
    }
    match (fitness.native, wished) {
        (Some(true), Some(Mode::Tc)) if !fitness.cable => {
            let words = format!("{who}: the kernel relays here, behind the driver");
            let advice = "the driver could have the program itself, for less: offload.mode = \
                          \"native\".";
            Finding::new(Level::Note, SUBJECT, words, advice)
        }
        (_, Some(Mode::Tc)) => {
            Finding::good(SUBJECT, format!("{who}: the kernel relays here, behind the driver"))
        }
        (Some(true), Some(Mode::Native)) => {
            Finding::good(SUBJECT, format!("{who}: the kernel relays here, in the driver"))
        }
        (Some(true), _) => {
            Finding::good(SUBJECT, format!("{who}: the kernel could relay here, in the driver"))
        }
        (Some(false), Some(Mode::Generic)) => {
            let words = format!("{who}: the kernel relays here behind the driver");
            let advice = "offload.mode = \"tc\" is the better way behind a driver.";
            Finding::new(Level::Note, SUBJECT, words, advice)
        }
        (Some(false), Some(Mode::Native)) => {
            let words = format!("{who}: its driver knows nothing of programs");
            let advice = "the relay does everything itself here, which works; offload.mode = \
                          \"auto\" has the kernel relay behind the driver.";
            Finding::new(Level::Warning, SUBJECT, words, advice)
        }
        (Some(false), None) => {
            Finding::good(SUBJECT, format!("{who}: its driver knows nothing of kernel programs"))
        }
        (None, _) => {
            let words = format!("{who}: the kernel does not say what its driver can do");
            let advice = "Linux 6.3 and later do; the relay tries it when it starts, and says so.";
            Finding::new(Level::Note, SUBJECT, words, advice)
        }
    }
}

/// What rings find at an interface where the program stands.
fn judge_rings(name: &str, fitness: Fitness, queues: usize) -> Finding {
    const SUBJECT: &str = "rings";
    if queues > MOST_QUEUES {
        let words = format!("{name}: {queues} queues are too many, so media comes by sockets here");
        let advice = format!("`ethtool -L {name} combined {MOST_QUEUES}` makes them few enough.");
        return Finding::new(Level::Warning, SUBJECT, words, advice);
    }
    let how =
        if fitness.zero_copy { "the driver copies nothing" } else { "the kernel copies each" };
    Finding::good(SUBJECT, format!("{name}: media comes by rings; of its packets {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_judged_by_queues_and_driver() {
        let slow = Fitness { native: Some(true), cable: false, taken: false, zero_copy: false };
        let fast = Fitness { zero_copy: true, ..slow };
        for (fitness, queues, level, word) in [
            (slow, 1, Level::Good, "the kernel copies each"),
            (fast, 64, Level::Good, "the driver copies nothing"),
            (fast, 65, Level::Warning, "65 queues"),
        ] {
            let found = judge_rings("eth0", fitness, queues);
            assert_eq!(found.level, level, "{found:?}");
            assert!(found.words.contains(word), "{found:?}");
        }
    }

    #[test]
    fn an_interface_is_judged_by_what_is_wished() {
        let plain = Fitness { native: Some(true), cable: false, taken: false, zero_copy: false };
        let poor = Fitness { native: Some(false), ..plain };
        let cable = Fitness { cable: true, ..plain };
        let taken = Fitness { taken: true, ..plain };
        let mute = Fitness { native: None, ..plain };
        for (fitness, wished, is_vouched, level) in [
            (plain, Some(Mode::Native), false, Level::Good),
            (plain, None, false, Level::Good),
            (poor, Some(Mode::Native), false, Level::Warning),
            (poor, Some(Mode::Generic), false, Level::Note),
            (poor, Some(Mode::Tc), false, Level::Good),
            (plain, Some(Mode::Tc), false, Level::Note),
            (cable, Some(Mode::Tc), false, Level::Good),
            (poor, None, false, Level::Good),
            (cable, Some(Mode::Native), false, Level::Warning),
            (cable, Some(Mode::Native), true, Level::Good),
            (cable, None, false, Level::Note),
            (taken, Some(Mode::Native), true, Level::Note),
            (mute, Some(Mode::Native), true, Level::Note),
        ] {
            let found = judge("eth0", Ok(&fitness), wished, is_vouched);
            assert_eq!(found.level, level, "{found:?}");
        }
        let found = judge("eth0", Err(&io::ErrorKind::NotFound.into()), None, false);
        assert_eq!(found.level, Level::Note);
    }

    #[test]
    fn the_kernel_is_asked_about_a_real_interface() {
        let found = fitness("lo").unwrap();
        assert!(!found.cable && !found.taken, "{found:?}");
        assert_ne!(found.native, Some(true), "loopback has no driver that could");
    }
}
