//! Out of the caller's control group: whoever kills all of that, such as systemd when it stops a service or
//! ends a session, would kill with it those who are there to put things back.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CgroupVersion, Mount, below};

/// Moves this process, if it is root's, to the root of the hierarchies by which processes are killed
/// together. Where the kernel does not let it, it stays.
pub(crate) fn move_to_the_roots() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for group in roots(Path::new("/"), &mountinfo) {
        // Who may not move is as safe as before.
        let _ = fs::write(group.join("cgroup.procs"), "0");
    }
}

/// The roots of the unified hierarchy and of systemd's own one of version 1.
fn roots(root: &Path, mountinfo: &str) -> Vec<PathBuf> {
    let is_one = |mount: &Mount<'_>| match mount.version {
        CgroupVersion::V2 => true,
        CgroupVersion::V1 => {
            let mut options = mount.options.split(',');
            options.any(|option| option == "name=systemd")
        }
    };
    let mounts = mountinfo.lines().filter_map(Mount::parse);
    // A group that is mounted by itself is no root.
    let whole = mounts.filter(|mount| is_one(mount) && mount.root == "/");
    whole.map(|mount| below(root, mount.point)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roots_are_those_of_the_unified_hierarchy_and_of_systemds_own_and_no_others() {
        let mountinfo = "\
30 25 0:26 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup rw,xattr,name=systemd
31 25 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw
32 25 0:28 / /sys/fs/cgroup/cpu rw,nosuid shared:11 - cgroup cgroup rw,cpu
33 25 0:27 /a/b /elsewhere rw,nosuid shared:10 - cgroup2 cgroup2 rw
34 25 0:29 / /tmp rw - tmpfs tmpfs rw
";
        let found = roots(Path::new("/"), mountinfo);
        let expected = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}
