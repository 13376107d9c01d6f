//! What the process may have: a kernel new enough, cores, descriptors, memory, rights.

use super::files::Files;
use super::{Finding, Level};
use crate::config::Config;

/// The kernel program wants this one.
const KERNEL_FOR_OFFLOAD: (u32, u32) = (5, 19);

/// Runs of packets want this one.
const KERNEL_FOR_RUNS: (u32, u32) = (5, 0);

/// Bits of `capabilities(7)`.
const BIND_LOW_PORTS: u64 = 1 << 10;
const NETWORK: u64 = 1 << 12;
const EVERYTHING: u64 = 1 << 21;
const KERNEL_PROGRAMS: u64 = 1 << 39;

/// What of a configuration matters here.
struct Wanted {
    workers: Option<u16>,
    descriptors: Option<u64>,
    memory: Option<u64>,
    has_low_ports: bool,
    offloads: bool,
}

impl Wanted {
    fn by(config: Option<&Config>) -> Self {
        Self {
            workers: config.map(|it| it.workers),
            descriptors: config.map(Config::descriptors),
            memory: config.and_then(|it| it.memory),
            has_low_ports: config
                .is_some_and(|it| it.listeners.iter().any(|it| it.local.port() < 1024)),
            offloads: config.is_some_and(|it| it.offload.is_some()),
        }
    }
}

/// Looks at the process that would be a relay.
pub(super) fn look(host: &Files, config: Option<&Config>) -> Vec<Finding> {
    let wanted = Wanted::by(config);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = guard::descriptors::limit().map_or(0, |(_, most)| most);
    let mut found = vec![kernel(host, &wanted), self::cores(cores, &wanted)];
    found.push(descriptors(limit, &wanted));
    found.extend(memory(host, &wanted));
    found.push(rights(host, &wanted));
    found
}

fn kernel(host: &Files, wanted: &Wanted) -> Finding {
    let release = host.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|it| it.parse::<u32>().ok());
    let version = numbers.next().flatten().zip(numbers.next().flatten());
    let Some(version) = version else {
        let advice = "Linux 5.0 or later is wanted.";
        return Finding::new(Level::Note, "kernel", "the kernel does not say its version", advice);
    };
    let words = format!("Linux {release}");
    if version < KERNEL_FOR_RUNS {
        let advice = "from 5.0 on a run of packets costs little more than one: use a newer kernel.";
        return Finding::new(Level::Warning, "kernel", words, advice);
    }
    if wanted.offloads && version < KERNEL_FOR_OFFLOAD {
        let advice = "[offload] wants 5.19 or later; everything takes the way through the relay.";
        return Finding::new(Level::Warning, "kernel", words, advice);
    }
    Finding::good("kernel", words)
}

fn cores(cores: usize, wanted: &Wanted) -> Finding {
    match wanted.workers {
        Some(workers) if usize::from(workers) > cores => Finding::new(
            Level::Warning,
            "cores",
            format!("{workers} workers for {cores} cores"),
            "workers that share a core delay each other: leave `workers` to its default.",
        ),
        Some(workers) => Finding::good("cores", format!("{workers} workers for {cores} cores")),
        None => Finding::good("cores", format!("{cores} cores")),
    }
}

fn descriptors(limit: u64, wanted: &Wanted) -> Finding {
    let words = format!("{limit} descriptors");
    let advice = "an allocation takes a descriptor for each of its relayed addresses, a connection \
                  one: raise the hard limit (LimitNOFILE of the unit, `ulimit -Hn`).";
    match wanted.descriptors {
        Some(needed) if needed > limit => Finding::new(
            Level::Warning,
            "descriptors",
            format!("{words}, and the configured limits may take {needed}"),
            advice,
        ),
        None if limit < 65_536 => Finding::new(Level::Note, "descriptors", words, advice),
        _ => Finding::good("descriptors", words),
    }
}

fn memory(host: &Files, wanted: &Wanted) -> Option<Finding> {
    let info = host.text("proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = line.split_whitespace().next()?.parse::<u64>().ok()? << 10;
    let group: Option<u64> = host.number("sys/fs/cgroup/memory.max");
    let most = group.map_or(total, |group| group.min(total));
    let words = format!("{} MiB of memory", most >> 20);
    Some(match wanted.memory {
        Some(budget) if budget > most => Finding::new(
            Level::Warning,
            "memory",
            format!("{words}, and limits.memory_mib lets the relay hold {}", budget >> 20),
            "the kernel would end the relay before it refuses allocations: lower limits.memory_mib.",
        ),
        _ => Finding::good("memory", words),
    })
}

/// Whether this process gets longer queues than the host grants others.
pub(super) fn may_exceed_limits(host: &Files) -> bool {
    held(host) & NETWORK != 0
}

/// The capabilities in force.
fn held(host: &Files) -> u64 {
    let status = host.text("proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    held.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

fn rights(host: &Files, wanted: &Wanted) -> Finding {
    let held = held(host);
    let lowest: u16 = host.number("proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or(1024);
    let may = |right| held & right != 0;
    if wanted.has_low_ports && lowest > 0 && !may(BIND_LOW_PORTS) {
        let advice = "start the relay as root or with CAP_NET_BIND_SERVICE, as the unit in \
                      deploy/systemd does; it gives them up when its sockets are open.";
        let words = "ports below 1024 are configured, and this user may not open them";
        return Finding::new(Level::Problem, "rights", words, advice);
    }
    let offloads = may(NETWORK) && (may(KERNEL_PROGRAMS) || may(EVERYTHING));
    if wanted.offloads && !offloads {
        let advice = "[offload] wants CAP_BPF and CAP_NET_ADMIN at the start; without them \
                      everything takes the way through the relay.";
        let words = "this user may not give the kernel programs";
        return Finding::new(Level::Warning, "rights", words, advice);
    }
    Finding::good(
        "rights",
        if offloads {
            "may open every port, and give the kernel programs"
        } else {
            "may open what is configured"
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::host;
    use super::*;

    const NOTHING: Wanted = Wanted {
        workers: None,
        descriptors: None,
        memory: None,
        has_low_ports: false,
        offloads: false,
    };

    #[test]
    fn kernels_are_judged_by_what_they_must_do() {
        for (release, offloads, level) in [
            ("6.1.0-18-amd64", true, Level::Good),
            ("5.19.0", true, Level::Good),
            ("5.4.0-150-generic", true, Level::Warning),
            ("5.4.0-150-generic", false, Level::Good),
            ("4.19.0", false, Level::Warning),
            ("plan9", false, Level::Note),
        ] {
            let (_folder, files) = host(&[("proc/sys/kernel/osrelease", release)]);
            let found = kernel(&files, &Wanted { offloads, ..NOTHING });
            assert_eq!(found.level, level, "{release} {found:?}");
        }
    }

    #[test]
    fn what_is_configured_is_compared_with_what_there_is() {
        let much = Wanted {
            workers: Some(8),
            descriptors: Some(50_000),
            memory: Some(4 << 30),
            ..NOTHING
        };
        assert_eq!(cores(4, &much).level, Level::Warning);
        assert_eq!(cores(8, &much).level, Level::Good);
        assert_eq!(descriptors(20_000, &much).level, Level::Warning);
        assert_eq!(descriptors(50_000, &much).level, Level::Good);
        assert_eq!(descriptors(20_000, &NOTHING).level, Level::Note);
        let total = ("proc/meminfo", "MemTotal:  8388608 kB\nMemFree: 1 kB");
        let (_folder, roomy) = host(&[total, ("sys/fs/cgroup/memory.max", "max")]);
        assert_eq!(memory(&roomy, &much).unwrap().level, Level::Good);
        let (_folder, narrow) = host(&[total, ("sys/fs/cgroup/memory.max", "1073741824")]);
        assert_eq!(memory(&narrow, &much).unwrap().level, Level::Warning);
        assert_eq!(
            memory(&narrow, &much).unwrap().words.split(',').next(),
            Some("1024 MiB of memory")
        );
    }

    #[test]
    fn rights_that_are_missing_are_named() {
        let may = |bits: u64, wanted: &Wanted| {
            let status = format!("Name:\tav-edge\nCapEff:\t{bits:016x}\n");
            let (_folder, files) = host(&[("proc/self/status", &status)]);
            rights(&files, wanted).level
        };
        let low = Wanted { has_low_ports: true, ..NOTHING };
        let offloads = Wanted { offloads: true, ..NOTHING };
        assert_eq!(may(0, &NOTHING), Level::Good);
        assert_eq!(may(0, &low), Level::Problem);
        assert_eq!(may(BIND_LOW_PORTS, &low), Level::Good);
        assert_eq!(may(NETWORK, &offloads), Level::Warning);
        assert_eq!(may(NETWORK | KERNEL_PROGRAMS, &offloads), Level::Good);
    }
}
