//! Memory and page faults of this process, where the system reports them (Linux).

/// Returns the peak resident memory of this process, in MB (10⁶ bytes).
pub fn peak_memory_mb() -> Option<f64> {
    kibibytes("/proc/self/status", "VmHWM:").map(|kib| kib as f64 * 1.024e-3)
}

/// Returns the page faults of all threads of this process so far, both major (with disk access) and
/// minor.
pub fn page_faults() -> Option<u64> {
    faults_in(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// Returns the number after `key` in a file of lines such as `MemTotal:  24684084 kB`, where kB
/// means 1,024 bytes.
fn kibibytes(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn faults_in(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may contain blanks and
    // parentheses. After it, counted from 0, field 7 is the number of minor and field 9 of major
    // faults.
    let (_, after_name) = stat.rsplit_once(')')?;
    let field = |index| after_name.split_ascii_whitespace().nth(index)?.parse::<u64>().ok();
    field(7)?.checked_add(field(9)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_faults_are_parsed_after_any_program_name() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194304 300 40 5 6 7 8 9 10 20 0 1 0 100";
        assert_eq!(faults_in(stat), Some(305));
        assert_eq!(faults_in("17 (a) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_reports_every_resource() {
        assert!(peak_memory_mb().is_some_and(|mb| mb > 0.5));
        assert!(page_faults().is_some_and(|faults| faults > 0));
    }
}
