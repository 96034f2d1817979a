//! What the system allows: sizes, numbers, watches, priority.

use std::fs;
use std::path::Path;

use relive_process::stop;
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::{Resource, getrlimit};

use super::Finding;

const MIB: u64 = 1 << 20;
/// What the files of an arena and of its images take at least.
const FILE_LEAST: u64 = 128 * MIB;
/// Objects of a few edits of a program of some size.
const DISK_LEAST: u64 = 1024 * MIB;
/// Folders that a project with its path dependencies may have.
const WATCHES_LEAST: u64 = 8192;

/// Looks at what holds for every project.
pub(super) fn look(findings: &mut Vec<Finding>) {
    let before = findings.len();
    if let Some(most) = getrlimit(Resource::Fsize).current.filter(|most| *most < FILE_LEAST) {
        let what = format!("files may grow to {} MiB only, and the code of patches has files of 128 MiB", most / MIB);
        findings.push(Finding::bad("limits", what, "raise it with `ulimit -f unlimited`"));
    }
    if let Some(most) = getrlimit(Resource::As).current.filter(|most| *most < 4096 * MIB) {
        let what = format!(
            "a process may have {} MiB of addresses, of which relive takes up to 960 in the program",
            most / MIB
        );
        findings.push(Finding::limited("limits", what, "raise it with `ulimit -v unlimited`"));
    }
    let watches = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok();
    let watches = watches.and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(most) = watches.filter(|most| *most < WATCHES_LEAST) {
        let what = format!("only {most} folders can be watched for saves");
        findings.push(Finding::limited("limits", what, "raise it with `sysctl fs.inotify.max_user_watches=65536`"));
    }
    if findings.len() == before {
        findings.push(Finding::good("limits", "sizes of files, addresses and watched folders suffice"));
    }
    let abilities = stop::abilities();
    if !abilities.priority {
        findings.push(Finding::limited(
            "priority",
            "real-time priority is not permitted, so a program that keeps all processors busy stands still for longer at a switch",
            "allow it with `ulimit -r 1`, or in limits.conf: `rtprio 1`",
        ));
    }
    if !abilities.compares_memory {
        findings.push(Finding::limited(
            "sharing",
            "the system does not say which processes share memory, so one that shares the program's would not be noticed",
            "a sandbox or a kernel without `kcmp` is why; programs rarely do that",
        ));
    }
}

/// Looks at where relive's files go.
pub(super) fn look_at_folder(relive_dir: &Path, findings: &mut Vec<Finding>) {
    let there = relive_dir.ancestors().find(|folder| folder.exists()).unwrap_or(relive_dir);
    let Ok(system) = statvfs(there) else { return };
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if system.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        let what = format!("`{}` is on a file system that nothing may be executed from", there.display());
        findings.push(Finding::bad("disk", what, "put it elsewhere with `--target-dir`, or mount it without `noexec`"));
    }
    if free < DISK_LEAST {
        let what = format!("`{}` has {} MiB left", there.display(), free / MIB);
        findings.push(Finding::limited("disk", what, "every edit brings new objects: make room"));
    } else {
        findings.push(Finding::good("disk", format!("{} MiB are free", free / MIB)));
    }
}
