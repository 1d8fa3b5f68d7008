//! What processes use, as Linux tells it in `/proc`; nothing elsewhere.

use std::fs;

/// How many ticks `/proc` counts per second: the same on all of Linux's common platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of this process so far.
pub(crate) fn own_cpu() -> Option<f64> {
    Some(Usage::of(std::process::id())?.own)
}

/// CPU seconds of this process so far, and of its children that have ended.
pub(crate) fn own_and_ended_children() -> Option<f64> {
    let usage = Usage::of(std::process::id())?;
    Some(usage.own + usage.ended_children)
}

/// CPU seconds of everything on this machine so far.
pub(crate) fn machine_cpu() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    // See `proc_stat(5)`: user, nice, system, idle, iowait, irq, softirq.
    let ticks = stat.lines().next()?.split_whitespace().skip(1).take(7);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>().ok()?;
    let waited: f64 = ticks.get(3..5)?.iter().sum();
    Some((ticks.iter().sum::<f64>() - waited) / TICKS_PER_SECOND)
}

/// CPU seconds of process `pid` so far.
pub(crate) fn cpu(pid: u32) -> Option<f64> {
    Some(Usage::of(pid)?.own)
}

/// CPU seconds of `pid`, of its children, and of those of its children that have ended: of a
/// PostgreSQL server, when `pid` is the first of its processes.
pub(crate) fn cpu_of_tree(pid: u32) -> Option<f64> {
    let parent = Usage::of(pid)?;
    let children = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Usage::of(pid)
    });
    let living: f64 = children
        .filter(|child| child.parent == pid)
        .map(|child| child.own)
        .sum();
    Some(parent.own + parent.ended_children + living)
}

/// The parent of process `pid`, if that is a PostgreSQL process of this machine.
pub(crate) fn postmaster_of(backend: u32) -> Option<u32> {
    let name = fs::read_to_string(format!("/proc/{backend}/comm")).ok()?;
    (name.trim() == "postgres").then(|| Usage::of(backend).map(|usage| usage.parent))?
}

/// Resident memory of process `pid` in MiB: now, and at its highest.
pub(crate) fn memory(pid: u32) -> Option<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kibibytes / 1024.0)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

struct Usage {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Usage {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// See `proc_pid_stat(5)`. The name, second and in parentheses, may contain anything.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let seconds = |user, system| Some((ticks(user)? + ticks(system)?) / TICKS_PER_SECOND);
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: seconds(11, 12)?,
            ended_children: seconds(13, 14)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let stat = "7 (a (b) c) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 20 10 20 0 1 0 5";
        let usage = Usage::parse(stat).unwrap();
        assert_eq!(
            (usage.parent, usage.own, usage.ended_children),
            (3, 2.0, 0.3)
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_something() {
        let (now, highest) = memory(std::process::id()).unwrap();
        assert!(0.0 < now && now <= highest);
        assert!(own_cpu().unwrap() <= machine_cpu().unwrap());
        assert_eq!(postmaster_of(std::process::id()), None);
    }
}
