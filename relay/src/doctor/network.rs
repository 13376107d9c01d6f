//! What the host's network does to every socket: queues, ports, tables of flows.

use std::ops::RangeInclusive;

use super::files::Files;
use super::{Finding, Level, process};
use crate::config::Config;
use crate::listen;

/// Ports of relays without a word from the operator.
const PORTS: RangeInclusive<u16> = 50_000..=59_999;

/// Looks at the network of this host.
pub(super) fn look(host: &Files, config: Option<&Config>) -> Vec<Finding> {
    let ports = config.map_or(PORTS, |it| it.ports.clone());
    let allocations = config.map_or(10_000, |it| it.limits.allocations);
    let mut found = vec![queues(host, process::may_exceed_limits(host))];
    found.extend(self::ports(host, &ports));
    found.extend(flows(host, allocations));
    found
}

/// A listener asks for more than most hosts grant to those without rights.
fn queues(host: &Files, may_exceed: bool) -> Finding {
    let wanted = u64::from(listen::BUFFER);
    let granted = |name: &str| host.number::<u64>(&format!("proc/sys/net/core/{name}"));
    let least = granted("rmem_max").into_iter().chain(granted("wmem_max")).min();
    match least {
        Some(least) if least < wanted && !may_exceed => Finding::new(
            Level::Note,
            "queues",
            format!("the host grants queues of {least} bytes, and a listener asks for {wanted}"),
            "a relay that starts with CAP_NET_ADMIN takes them all the same; for others set \
             net.core.rmem_max and net.core.wmem_max (sysctl), or bursts are lost.",
        ),
        Some(_) => Finding::good("queues", format!("listeners may have their {wanted} bytes")),
        None => Finding::new(
            Level::Note,
            "queues",
            "the host does not say how long queues may be",
            "see that net.core.rmem_max and net.core.wmem_max allow 8 MiB.",
        ),
    }
}

/// Ports that the host hands out to its own programs are not free for allocations.
fn ports(host: &Files, ports: &RangeInclusive<u16>) -> Option<Finding> {
    let text = host.text("proc/sys/net/ipv4/ip_local_port_range")?;
    let mut ends = text.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    let (first, last) = (first.max(*ports.start()), last.min(*ports.end()));
    let reserved = host.text("proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let is_reserved = |port: u16| {
        reserved.split(',').any(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            from.parse().is_ok_and(|from: u16| from <= port)
                && to.parse().is_ok_and(|to: u16| port <= to)
        })
    };
    let open = (first..=last).filter(|&port| !is_reserved(port)).count();
    let range = format!("{}-{}", ports.start(), ports.end());
    Some(if open == 0 {
        Finding::good("ports", format!("ports {range} are the relay's alone"))
    } else {
        Finding::new(
            Level::Note,
            "ports",
            format!("the host gives {open} ports of {range} to its own programs as well"),
            format!(
                "the relay tries others then; sysctl net.ipv4.ip_local_reserved_ports={range} keeps \
                 them free."
            ),
        )
    })
}

/// A host that tracks connections has an entry for each client and each peer.
fn flows(host: &Files, allocations: u32) -> Option<Finding> {
    let most: u64 = host.number("proc/sys/net/netfilter/nf_conntrack_max")?;
    let tracked: u64 = host.number("proc/sys/net/netfilter/nf_conntrack_count").unwrap_or(0);
    let needed = 4 * u64::from(allocations);
    // A host whose rules need no tracking has the table and leaves it empty.
    (tracked > 0).then(|| {
        if most < needed {
            Finding::new(
                Level::Warning,
                "flows",
                format!("connections are tracked, {most} at most, and calls may take {needed}"),
                "when the table is full the host drops packets of calls. Exempt the relay's ports \
                 (nftables `notrack`), or raise net.netfilter.nf_conntrack_max.",
            )
        } else {
            Finding::new(
                Level::Note,
                "flows",
                format!("connections are tracked, {most} at most"),
                "that costs time for every packet; exempt the relay's ports (nftables `notrack`).",
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::host;
    use super::*;

    #[test]
    fn short_queues_are_told() {
        for (bytes, level) in [("212992", Level::Note), ("8388608", Level::Good)] {
            let files =
                [("proc/sys/net/core/rmem_max", bytes), ("proc/sys/net/core/wmem_max", bytes)];
            let (_folder, files) = host(&files);
            assert_eq!(queues(&files, false).level, level, "{bytes}");
            assert_eq!(queues(&files, true).level, Level::Good, "{bytes}");
        }
    }

    #[test]
    fn ports_that_the_host_gives_away_are_counted() {
        let range = "proc/sys/net/ipv4/ip_local_port_range";
        let reserved = "proc/sys/net/ipv4/ip_local_reserved_ports";
        for (range_is, reserved_is, open) in [
            ("32768\t60999", "", Some(10_000)),
            ("32768\t60999", "50000-59999", None),
            ("32768\t60999", "50000-54999,55001-59999", Some(1)),
            ("32768\t49999", "", None),
            ("32768\t50009", "50000", Some(9)),
        ] {
            let (_folder, files) = host(&[(range, range_is), (reserved, reserved_is)]);
            let found = ports(&files, &PORTS).unwrap();
            let said = open.map(|open| format!("the host gives {open} ports"));
            assert_eq!(found.level == Level::Good, open.is_none(), "{found:?}");
            assert!(said.is_none_or(|said| found.words.starts_with(&said)), "{found:?}");
        }
    }

    #[test]
    fn a_table_of_flows_that_calls_would_fill_is_a_warning() {
        let files = |most, count| {
            host(&[
                ("proc/sys/net/netfilter/nf_conntrack_max", most),
                ("proc/sys/net/netfilter/nf_conntrack_count", count),
            ])
        };
        let (_folder, small) = files("10000", "7");
        assert_eq!(flows(&small, 10_000).unwrap().level, Level::Warning);
        let (_folder, large) = files("100000", "7");
        assert_eq!(flows(&large, 10_000).unwrap().level, Level::Note);
        let (_folder, idle) = files("10000", "0");
        assert_eq!(flows(&idle, 10_000), None);
    }
}
