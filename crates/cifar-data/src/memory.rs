//! The memory that this process may still use. Operations that need more are refused in advance: a
//! failed allocation aborts the process without a message.

use std::path::{Path, PathBuf};

use crate::{DataError, ImageSize, Result};

/// Where Linux mounts control groups.
const GROUPS: &str = "/sys/fs/cgroup";
/// Control groups of version 1 show this number if there is no limit.
const UNLIMITED: u64 = i64::MAX as u64 - 0xffff;

/// The room under the lowest memory limit of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Bytes left.
    pub bytes: u64,
    /// The limit, in words.
    pub limit: &'static str,
}

/// Returns the memory that this process may still use.
///
/// It is the minimum of the machine's available memory (with swap), the room in the process's
/// control groups (version 1 and 2), and the room under `RLIMIT_AS` and `RLIMIT_DATA`. None where
/// the system does not say, as outside Linux.
pub fn room() -> Option<Room> {
    room_by(&|path| std::fs::read_to_string(path).ok())
}

/// Refuses `what` if it needs more than [`room`]. `remedy` says how to use less.
///
/// ```
/// use cifar_data::memory::check;
///
/// assert!(check("reading a file", 1000, "split the file").is_ok());
/// let error = check("reading a file", u64::MAX, "split the file").unwrap_err();
/// assert!(error.to_string().starts_with("reading a file takes about 18446744073.7 GB of memory; "));
/// ```
///
/// # Errors
/// [`DataError::Memory`] if so.
pub fn check(what: &str, needed: u64, remedy: &str) -> Result<()> {
    check_within(what, needed, remedy, room())
}

/// As [`check`], with another room.
pub(crate) fn check_within(what: &str, needed: u64, remedy: &str, room: Option<Room>) -> Result<()> {
    let room = room.unwrap_or(Room { bytes: isize::MAX as u64, limit: "the address space" });
    if needed <= room.bytes {
        return Ok(());
    }
    let (what, remedy) = (what.to_string(), remedy.to_string());
    Err(DataError::Memory { what, needed, room: room.bytes, limit: room.limit, remedy })
}

/// Returns the bytes of the pixels of this many images of this size. Refuses them if they need more
/// memory than there is.
pub(crate) fn room_for(images: u64, size: ImageSize) -> Result<u64> {
    let bytes = u128::from(images) * size.height as u128 * size.width as u128 * 3;
    let what = format!("reading {images} images of {size} pixels");
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    check(&what, bytes, "use fewer or smaller images").map(|()| bytes)
}

type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

fn room_by(read: Read) -> Option<Room> {
    let of = |path: &str| read(Path::new(path)).unwrap_or_default();
    let machine = of("/proc/meminfo");
    let kib = |text: &str, key: &str| number_after(text, key).map(|n| n.saturating_mul(1024));
    let available =
        kib(&machine, "MemAvailable:").map(|bytes| bytes.saturating_add(kib(&machine, "SwapFree:").unwrap_or(0)));
    let committed = (of("/proc/sys/vm/overcommit_memory").trim() == "2")
        .then(|| Some(kib(&machine, "CommitLimit:")?.saturating_sub(kib(&machine, "Committed_AS:")?)));
    let (limits, status) = (of("/proc/self/limits"), of("/proc/self/status"));
    let limit = |name: &str, used: &str| {
        // Columns: the name, the soft limit, the hard limit, the unit. `unlimited` is not a number.
        Some(number_after(&limits, name)?.saturating_sub(kib(&status, used).unwrap_or(0)))
    };
    let rooms = [
        (available, "available memory of this machine"),
        (committed.flatten(), "memory that this machine can still commit"),
        (group_room(read), "limit of the control group"),
        (limit("Max address space", "VmSize:"), "limit on the address space (ulimit -v)"),
        (limit("Max data size", "VmData:"), "limit on data (ulimit -d)"),
    ];
    let rooms = rooms.into_iter().filter_map(|(bytes, limit)| Some(Room { bytes: bytes?, limit }));
    rooms.min_by_key(|room| room.bytes)
}

/// Returns the number after `key` at the start of a line.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the least room in the control groups of this process and their parents.
fn group_room(read: Read) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let rooms = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let (root, names) = if controllers.is_empty() {
            (PathBuf::from(GROUPS), ["memory.max", "memory.current", "inactive_file"])
        } else if controllers.split(',').any(|name| name == "memory") {
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
            (Path::new(GROUPS).join("memory"), names)
        } else {
            return None;
        };
        // In a container the path may be that of the host, while only the root is visible.
        let folders = Path::new(group).ancestors().map(|group| root.join(group.strip_prefix("/").unwrap_or(group)));
        folders.filter_map(|folder| left_in(&folder, names, read)).min()
    });
    rooms.min()
}

/// Returns the room in one group. Inactive file pages can be reclaimed.
fn left_in(folder: &Path, [limit, usage, inactive]: [&str; 3], read: Read) -> Option<u64> {
    let number = |name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
    let limit = number(limit).filter(|limit| *limit < UNLIMITED)?;
    let statistics = read(&folder.join("memory.stat")).unwrap_or_default();
    let used = number(usage)?.saturating_sub(number_after(&statistics, &format!("{inactive} ")).unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_room(files: &[(&str, &str)], expected: Option<(u64, &str)>) {
        let read =
            |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_string());
        assert_eq!(room_by(&read).map(|room| (room.bytes, room.limit)), expected);
    }

    const MACHINE: (&str, &str) = (
        "/proc/meminfo",
        "MemTotal: 9000 kB\nMemAvailable:   4000 kB\nSwapFree: 100 kB\nCommitLimit: 3000 kB\nCommitted_AS: 2000 kB\n",
    );
    const STATUS: (&str, &str) = ("/proc/self/status", "VmSize:\t    100 kB\nVmData:\t   50 kB\n");

    #[test]
    fn the_lowest_limit_counts() {
        check_room(&[], None);
        check_room(&[MACHINE], Some((4100 * 1024, "available memory of this machine")));
        let strict = ("/proc/sys/vm/overcommit_memory", "2\n");
        check_room(&[MACHINE, strict], Some((1000 * 1024, "memory that this machine can still commit")));
        let limits = |address: &str, data: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max data size             {data}            unlimited            bytes\n\
                 Max address space         {address}            unlimited            bytes\n"
            )
        };
        let (none, one, other) =
            (limits("unlimited", "unlimited"), limits("202400", "unlimited"), limits("909600", "61200"));
        let with = |text| [MACHINE, STATUS, ("/proc/self/limits", text)];
        check_room(&with(none.as_str()), Some((4100 * 1024, "available memory of this machine")));
        check_room(&with(one.as_str()), Some((202_400 - 102_400, "limit on the address space (ulimit -v)")));
        check_room(&with(other.as_str()), Some((61_200 - 51_200, "limit on data (ulimit -d)")));
    }

    #[test]
    fn control_groups_of_both_versions_count_with_their_parents() {
        let group = "limit of the control group";
        let two = ("/proc/self/cgroup", "0::/a/b\n");
        let [max, current] = ["/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/a/memory.current"];
        let stat = ("/sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 300\nslab 1\n");
        let inner = ("/sys/fs/cgroup/a/b/memory.max", "max\n");
        check_room(&[MACHINE, two, inner, (max, "2000\n"), (current, "1000\n"), stat], Some((1300, group)));
        check_room(&[MACHINE, two, inner, (max, "2000\n"), (current, "5000\n")], Some((0, group)));
        // The path of the host, while only the root is visible in the container.
        let root = [("/sys/fs/cgroup/memory.max", "70\n"), ("/sys/fs/cgroup/memory.current", "20\n")];
        check_room(&[MACHINE, two, root[0], root[1]], Some((50, group)));

        let one = ("/proc/self/cgroup", "9:cpu:/x\n5:hugetlb,memory:/a\n");
        let [limit, usage] =
            ["limit_in_bytes", "usage_in_bytes"].map(|name| format!("/sys/fs/cgroup/memory/a/memory.{name}"));
        check_room(&[MACHINE, one, (limit.as_str(), "900\n"), (usage.as_str(), "100\n")], Some((800, group)));
        let unlimited = [(limit.as_str(), "9223372036854771712\n"), (usage.as_str(), "100\n")];
        check_room(
            &[MACHINE, one, unlimited[0], unlimited[1]],
            Some((4100 * 1024, "available memory of this machine")),
        );
    }

    #[test]
    fn errors_have_the_estimate_and_the_limit() {
        let room = Some(Room { bytes: 20_000_000_000, limit: "limit of the control group" });
        check_within("x", 20_000_000_000, "y", room.clone()).unwrap();
        let error = check_within("training resnet18", 31_200_000_000, "lower train.batch_size", room).unwrap_err();
        assert_eq!(
            error.to_string(),
            "training resnet18 takes about 31.2 GB of memory; 20.0 GB are left (limit of the control group); lower train.batch_size"
        );
        assert!(check_within("x", u64::MAX, "y", None).is_err());
        assert!(room_for(u64::MAX, ImageSize { height: 1024, width: 1024 }).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_has_a_limit() {
        assert!(room().is_some_and(|room| room.bytes > 1 << 20));
    }
}
