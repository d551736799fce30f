//! What the process uses, under the names that every Prometheus client has for it. Only where `/proc` is.

use std::fs;

use super::{Kind, Text};

/// Ticks per second in `/proc/self/stat`: `USER_HZ`, which is 100 on every platform that has `/proc` and runs this.
const TICKS: f64 = 100.0;

/// Adds the `process_*` families that can be read.
pub fn write_process(text: &mut Text) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let single = [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "Processor time, user and system.",
            cpu_ticks(&stat).map(|ticks| ticks / TICKS),
        ),
        ("process_start_time_seconds", Kind::Gauge, "Start, seconds since the Unix epoch.", start(&stat)),
        ("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", resident()),
        ("process_open_fds", Kind::Gauge, "Open file descriptors.", open_descriptors()),
        ("process_max_fds", Kind::Gauge, "Most file descriptors that may be open.", most_descriptors()),
    ];
    for (name, kind, explanation, value) in single {
        let Some(value) = value else { continue };
        text.family(name, kind, explanation);
        text.sample(name, &[], value);
    }
}

/// Field `number` of `/proc/self/stat`, counted as in proc(5). The name of the program may hold blanks; it ends at the
/// last parenthesis, and what follows begins with field 3.
fn field(stat: &str, number: usize) -> Option<f64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_ticks(stat: &str) -> Option<f64> {
    Some(field(stat, 14)? + field(stat, 15)?)
}

fn start(stat: &str) -> Option<f64> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(booted.trim().parse::<f64>().ok()? + field(stat, 22)? / TICKS)
}

fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1_024.0)
}

fn open_descriptors() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn most_descriptors() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_blanks_and_parentheses_in_its_name_is_read_right() {
        let rest: Vec<String> = (3..=30).map(|number| number.to_string()).collect();
        let stat = format!("42 (my (odd) name) {}", rest.join(" "));
        assert_eq!(cpu_ticks(&stat), Some(29.0));
        assert_eq!(field(&stat, 22), Some(22.0));
        assert_eq!(cpu_ticks(""), None);
    }
}
