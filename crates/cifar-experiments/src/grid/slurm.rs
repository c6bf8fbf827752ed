//! `[slurm]` of experiments.toml: the resources of each run, and how the queue is polled.

use std::time::Duration;

use serde::Deserialize;

/// The allowed options of sbatch: they choose nodes, accounts and when a job starts. Others change
/// how runs are submitted, or let a file of the project decide what the nodes execute and in which
/// environment.
const ALLOWED_OPTIONS: [&str; 43] = [
    "account",
    "acctg-freq",
    "begin",
    "cluster-constraint",
    "comment",
    "constraint",
    "contiguous",
    "core-spec",
    "cores-per-socket",
    "cpu-freq",
    "deadline",
    "delay-boot",
    "dependency",
    "distribution",
    "exclude",
    "exclusive",
    "extra-node-info",
    "gres",
    "gres-flags",
    "hint",
    "licenses",
    "mail-type",
    "mail-user",
    "mem-bind",
    "mem-per-cpu",
    "mincpus",
    "nice",
    "nodelist",
    "oversubscribe",
    "power",
    "prefer",
    "priority",
    "qos",
    "reservation",
    "sockets-per-node",
    "spread-job",
    "switches",
    "thread-spec",
    "threads-per-core",
    "time-min",
    "tmp",
    "use-min-nodes",
    "wckey",
];

/// The keys of `[slurm]`; all have defaults.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlurmParams {
    /// Partition of the cluster; the cluster's default if none.
    pub partition: Option<String>,
    /// Processors per run, which is also its number of threads.
    pub cpus_per_task: i64,
    /// Memory per run, such as `4G`; the cluster's default if none.
    pub memory: Option<String>,
    /// Time after which Slurm stops a run and it is submitted again; the partition's limit if none.
    pub time_limit: Option<String>,
    /// Maximum number of runs at once; 0 means no limit.
    pub max_tasks: i64,
    /// How long all runs may wait, with none running, before the jobs are cancelled.
    pub start_timeout: String,
    /// How often a run is submitted again after it reached its time limit or lost its node.
    pub resubmissions: i64,
    /// From one look at the queue to the next.
    pub poll_seconds: i64,
    /// More options of sbatch, such as `--account=NAME`.
    pub options: Vec<String>,
}

impl Default for SlurmParams {
    fn default() -> Self {
        Self {
            partition: None,
            cpus_per_task: 4,
            memory: None,
            time_limit: None,
            max_tasks: 0,
            start_timeout: "1-00:00:00".into(),
            resubmissions: 3,
            poll_seconds: 10,
            options: Vec::new(),
        }
    }
}

impl SlurmParams {
    /// Checks all values. The error names the first one that is not allowed.
    pub fn check(&self) -> Result<(), String> {
        let number = |key: &str, value: i64, lowest: i64, highest: i64| {
            if (lowest..=highest).contains(&value) {
                return Ok(());
            }
            Err(format!("[slurm]: {key}: {value} is not allowed; allowed is {lowest} to {highest}"))
        };
        number("cpus_per_task", self.cpus_per_task, 1, 1024)?;
        number("max_tasks", self.max_tasks, 0, 100_000)?;
        number("resubmissions", self.resubmissions, 0, 1000)?;
        number("poll_seconds", self.poll_seconds, 1, 3600)?;
        let text = |key: &str, value: Option<&String>, is_right: &dyn Fn(&str) -> bool, allowed: &str| match value {
            Some(value) if !is_right(value) => {
                Err(format!("[slurm]: {key}: {value:?} is not allowed; allowed is {allowed}"))
            }
            _ => Ok(()),
        };
        let is_name = |name: &str| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.,".contains(c);
            !name.is_empty() && !name.starts_with('-') && name.chars().all(is_part)
        };
        text("partition", self.partition.as_ref(), &is_name, "a name, or several with commas between")?;
        let memory = "a number with K, M, G or T, such as \"4G\"";
        text("memory", self.memory.as_ref(), &is_memory, memory)?;
        let time = "a time as Slurm writes it, such as \"30\" (minutes), \"2:30:00\" or \"1-12:00:00\"";
        let is_time = |value: &str| duration(value).is_some_and(|time| !time.is_zero());
        text("time_limit", self.time_limit.as_ref(), &is_time, time)?;
        text("start_timeout", Some(&self.start_timeout), &is_time, time)?;
        self.options.iter().try_for_each(|option| check_option(option))
    }

    /// Returns how long all runs may wait with none running.
    pub fn start_timeout(&self) -> Duration {
        duration(&self.start_timeout).unwrap_or_default()
    }

    /// From one look at the queue to the next.
    pub fn poll(&self) -> Duration {
        Duration::from_secs(self.poll_seconds.unsigned_abs())
    }

    /// Returns the resources as options of sbatch.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--cpus-per-task={}", self.cpus_per_task)];
        let optional = [("partition", &self.partition), ("mem", &self.memory), ("time", &self.time_limit)];
        let given = optional.into_iter().filter_map(|(key, value)| Some(format!("--{key}={}", value.as_ref()?)));
        arguments.extend(given);
        arguments.extend(self.options.iter().cloned());
        arguments
    }
}

/// Refuses all but the allowed options under their full names; sbatch itself accepts abbreviations.
fn check_option(option: &str) -> Result<(), String> {
    if option.contains(char::is_control) {
        return Err(format!(
            "[slurm]: options: {option:?} is not allowed; allowed are options without control characters"
        ));
    }
    let Some(name) = option.strip_prefix("--").map(|rest| rest.split('=').next().unwrap_or(rest)) else {
        return Err(format!(
            "[slurm]: options: {option:?} is not allowed; allowed are sbatch's long options, such as \"--account=NAME\""
        ));
    };
    if ALLOWED_OPTIONS.contains(&name) {
        return Ok(());
    }
    let nearest = ALLOWED_OPTIONS.iter().max_by(|a, b| {
        let likeness = |known: &str| strsim::jaro_winkler(known, name);
        likeness(a).total_cmp(&likeness(b))
    });
    let hint = nearest.filter(|known| known.starts_with(name) && !name.is_empty());
    let hint = hint.map(|known| format!("; write --{known} in full")).unwrap_or_default();
    Err(format!("[slurm]: options: --{name} is not allowed{hint}; allowed are {}", ALLOWED_OPTIONS.join(", ")))
}

fn is_memory(text: &str) -> bool {
    let number = text.strip_suffix(|c: char| "KMGTkmgt".contains(c)).unwrap_or(text);
    number.parse::<u64>().is_ok_and(|n| n > 0)
}

/// Parses a time as Slurm writes it: `minutes`, `minutes:seconds`, `hours:minutes:seconds`,
/// `days-hours`, `days-hours:minutes` or `days-hours:minutes:seconds`.
fn duration(text: &str) -> Option<Duration> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(days.parse::<u32>().ok()?), rest),
        None => (None, text),
    };
    let parts: Vec<u64> = rest.split(':').map(|part| part.parse::<u32>().ok().map(u64::from)).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match (days, parts.as_slice()) {
        (_, [h, m, s]) => (*h, *m, *s),
        (Some(_), [h, m]) => (*h, *m, 0),
        (Some(_), [h]) => (*h, 0, 0),
        (None, [m, s]) => (0, *m, *s),
        (None, [m]) => (0, *m, 0),
        _ => return None,
    };
    Some(Duration::from_secs(((u64::from(days.unwrap_or(0)) * 24 + hours) * 60 + minutes) * 60 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_slurm() {
        let seconds = |text: &str| duration(text).map(|d| d.as_secs());
        assert_eq!(seconds("30"), Some(1800));
        assert_eq!(seconds("0:20"), Some(20));
        assert_eq!(seconds("2:30:00"), Some(9000));
        assert_eq!(seconds("1-12"), Some(129_600));
        assert_eq!(seconds("1-12:30"), Some(131_400));
        assert_eq!(seconds("1-00:00:01"), Some(86_401));
        for wrong in ["", "-1", "1h", "1:2:3:4", "1-1:2:3:4", "a-1", "1-", "99999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_options_that_choose_resources_are_passed_on() {
        for right in ["--account=a b", "--exclusive", "--gres=gpu:1", "--constraint=avx512&x", "--comment=$(x) `y`; z"]
        {
            check_option(right).unwrap();
        }
        let refused = |option: &str, words: &str| {
            let message = check_option(option).unwrap_err();
            assert!(message.contains(words) && message.lines().count() == 1, "{message}");
        };
        for own in
            ["wrap", "array", "output", "export", "get-user-env", "uid", "bbf", "chdir", "prolog", "container", ""]
        {
            for option in [format!("--{own}=x"), format!("--{own}")] {
                refused(&option, &format!("options: --{own} is not allowed; allowed are account, "));
            }
        }
        for short in ["--wra=touch x", "--arr=0-9", "--outp=x", "--chd=/", "--expo=ALL"] {
            refused(short, " is not allowed; allowed are account, ");
        }
        refused("--accou=me", "--accou is not allowed; write --account in full; allowed are account, ");
        for text in ["--comment=x\ntouch y\n#", "--comment=x\r", "--comm\u{0}ent=x"] {
            refused(text, "allowed are options without control characters");
        }
        for text in ["-p main", "", "main", "-"] {
            refused(text, "allowed are sbatch's long options");
        }
    }

    #[test]
    fn resources_become_options() {
        let params = SlurmParams {
            partition: Some("main".into()),
            memory: Some("4G".into()),
            time_limit: Some("2:00:00".into()),
            options: vec!["--account=a".into()],
            ..SlurmParams::default()
        };
        params.check().unwrap();
        let expected = ["--cpus-per-task=4", "--partition=main", "--mem=4G", "--time=2:00:00", "--account=a"];
        assert_eq!(params.arguments(), expected);
        assert_eq!(SlurmParams::default().start_timeout(), Duration::from_hours(24));
    }
}
