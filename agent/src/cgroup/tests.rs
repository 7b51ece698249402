use super::*;

const HYBRID: &str = "\
25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 /inner /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
28 25 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

fn nothing(_: Undo) -> Result<(), CgroupError> {
    Ok(())
}

#[test]
fn on_a_hybrid_machine_the_controllers_of_version_1_are_found_where_this_process_is() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("sys/fs/cgroup");
    for directory in ["cpu/own", "cpuset/mine", "unified"] {
        fs::create_dir_all(base.join(directory)).unwrap();
    }
    fs::write(base.join("unified/cgroup.controllers"), "").unwrap();
    let own = "3:cpuset:/inner/mine\n2:cpu,cpuacct:/own\n0::/\n";
    let found = Controllers::detect_in(root.path(), HYBRID, own);
    let v1 = |path| {
        Some(Controller {
            version: CgroupVersion::V1,
            parent: base.join(path),
        })
    };
    assert_eq!(found.cpu, v1("cpu/own"));
    assert_eq!(found.accounting, v1("cpu/own"));
    assert_eq!(found.cpuset, v1("cpuset/mine"));
}

#[test]
fn in_the_unified_hierarchy_the_nearest_parent_that_offers_the_controllers_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("sys/fs/cgroup");
    fs::create_dir_all(base.join("slice/own")).unwrap();
    fs::write(base.join("slice/own/cgroup.controllers"), "memory").unwrap();
    fs::write(base.join("slice/cgroup.controllers"), "cpuset cpu memory").unwrap();
    fs::write(base.join("slice/cgroup.subtree_control"), "cpuset cpu").unwrap();
    let mountinfo = "25 20 0:22 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    let found = Controllers::detect_in(root.path(), mountinfo, "0::/slice/own\n");
    let expected = Some(Controller {
        version: CgroupVersion::V2,
        parent: base.join("slice"),
    });
    assert_eq!(found.cpu, expected);
    assert_eq!(found.cpuset, expected);
    assert_eq!(found.accounting, expected);
}

#[test]
fn groups_that_hold_processes_themselves_or_take_threads_alone_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("sys/fs/cgroup");
    let group = |path: &str, kind: &str, processes: &str| {
        let directory = base.join(path);
        fs::create_dir_all(&directory).unwrap();
        for (file, text) in [
            ("cgroup.controllers", "cpuset cpu"),
            ("cgroup.subtree_control", ""),
            ("cgroup.type", kind),
            ("cgroup.procs", processes),
        ] {
            fs::write(directory.join(file), text).unwrap();
        }
    };
    group("slice", "domain\n", "");
    let mountinfo = "25 20 0:22 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    for (kind, processes) in [("domain\n", "71\n"), ("domain threaded\n", "")] {
        group("slice/own", kind, processes);
        let found = Controllers::detect_in(root.path(), mountinfo, "0::/slice/own\n");
        assert_eq!(found.cpu.unwrap().parent, base.join("slice"));
        // What was passed over was not changed either.
        let control = fs::read_to_string(base.join("slice/own/cgroup.subtree_control"));
        assert_eq!(control.unwrap(), "");
    }
    group("slice/own", "domain\n", "");
    let found = Controllers::detect_in(root.path(), mountinfo, "0::/slice/own\n");
    assert_eq!(found.cpu.unwrap().parent, base.join("slice/own"));
}

#[test]
fn without_control_groups_nothing_is_found() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(
        Controllers::detect_in(root.path(), "", ""),
        Controllers::default()
    );
}

#[test]
fn each_group_is_recorded_before_it_is_made_and_limits_are_read_back() {
    let root = tempfile::tempdir().unwrap();
    let parent = root.path().to_owned();
    fs::write(parent.join("cpuset.mems"), "0\n").unwrap();
    let v1 = Some(Controller {
        version: CgroupVersion::V1,
        parent: parent.clone(),
    });
    let controllers = Controllers {
        cpu: v1.clone(),
        cpuset: v1.clone(),
        accounting: v1,
        memory: None,
    };
    let mut recorded = Vec::new();
    let groups = NodeCgroups::create(&controllers, "hx-test", |undo| {
        assert!(!parent.join("hx-test").exists());
        recorded.push(undo);
        Ok::<_, CgroupError>(())
    })
    .unwrap();
    assert_eq!(
        recorded,
        [Undo::RemoveCgroup {
            path: parent.join("hx-test")
        }]
    );
    let quota = CpuQuota {
        quota_us: 1250,
        period_us: 5000,
    };
    assert_eq!(
        groups.set_quota(quota).unwrap(),
        Some((CgroupVersion::V1, quota))
    );
    assert_eq!(
        groups.set_cpus(&[0, 2]).unwrap(),
        Some((CgroupVersion::V1, vec![0, 2]))
    );
    assert_eq!(
        fs::read_to_string(parent.join("hx-test/cpuset.mems")).unwrap(),
        "0"
    );
    fs::write(parent.join("hx-test/cpuacct.usage"), "123456\n").unwrap();
    fs::write(
        parent.join("hx-test/cpu.stat"),
        "nr_periods 9\nnr_throttled 4\n",
    )
    .unwrap();
    assert_eq!(groups.cpu_ns(), Some(123_456));
    assert_eq!(groups.throttled_periods(), Some(4));
}

#[test]
fn the_unified_hierarchy_takes_quota_and_period_in_one_line() {
    let root = tempfile::tempdir().unwrap();
    let parent = root.path().to_owned();
    let v2 = Some(Controller {
        version: CgroupVersion::V2,
        parent: parent.clone(),
    });
    let controllers = Controllers {
        cpu: v2,
        ..Controllers::default()
    };
    let groups = NodeCgroups::create(&controllers, "hx-test", nothing).unwrap();
    let quota = CpuQuota {
        quota_us: 1000,
        period_us: 4000,
    };
    assert_eq!(
        groups.set_quota(quota).unwrap(),
        Some((CgroupVersion::V2, quota))
    );
    assert_eq!(
        fs::read_to_string(parent.join("hx-test/cpu.max")).unwrap(),
        "1000 4000"
    );
    assert_eq!(groups.set_cpus(&[0]).unwrap(), None);
    assert_eq!(groups.cpu_ns(), None);
    fs::write(parent.join("hx-test/cpu.stat"), "usage_usec 7\n").unwrap();
    let accounting = NodeCgroups {
        accounting: groups.cpu.clone(),
        ..NodeCgroups::default()
    };
    assert_eq!(accounting.cpu_ns(), Some(7_000));
}

#[test]
fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
    assert_eq!(parse_cpu_list("0-2,5\n"), [0, 1, 2, 5]);
    assert_eq!(parse_cpu_list("\n"), Vec::<u32>::new());
    assert_eq!(format_cpu_list(&[0, 5]), "0,5");
}

#[test]
fn removing_a_group_that_is_gone_is_a_success() {
    let root = tempfile::tempdir().unwrap();
    assert!(kill_and_remove(&root.path().join("hx-gone")).unwrap());
}

#[test]
fn only_the_unified_hierarchy_has_partitions_and_both_have_nodes_of_memory() {
    let root = tempfile::tempdir().unwrap();
    let group = |version| NodeCgroups {
        cpuset: Some((version, root.path().to_owned())),
        ..NodeCgroups::default()
    };
    fs::write(root.path().join("cpuset.mems.effective"), "1\n").unwrap();
    let (first, second) = (group(CgroupVersion::V1), group(CgroupVersion::V2));
    assert_eq!(first.set_partition(Partition::Root).unwrap(), None);
    let got = second.set_partition(Partition::Isolated).unwrap();
    assert_eq!(got.as_deref(), Some("isolated"));
    let (v1, v2) = (CgroupVersion::V1, CgroupVersion::V2);
    assert_eq!(
        first.set_memory_nodes(&[0, 1]).unwrap(),
        Some((v1, vec![0, 1]))
    );
    assert_eq!(
        second.set_memory_nodes(&[0, 1]).unwrap(),
        Some((v2, vec![1]))
    );
    assert_eq!(NodeCgroups::default().set_memory_nodes(&[0]).unwrap(), None);
}

#[test]
fn the_real_time_budget_of_the_parent_is_shared_out_where_there_is_one() {
    let root = tempfile::tempdir().unwrap();
    let group = root.path().join("hx-test");
    fs::create_dir(&group).unwrap();
    let groups = |version| NodeCgroups {
        cpu: Some((version, group.clone())),
        ..NodeCgroups::default()
    };
    let first = groups(CgroupVersion::V1);
    assert_eq!(first.set_realtime_budget(1).unwrap(), None);
    fs::write(root.path().join("cpu.rt_runtime_us"), "950000\n").unwrap();
    fs::write(group.join("cpu.rt_runtime_us"), "0\n").unwrap();
    assert_eq!(first.set_realtime_budget(2).unwrap(), Some(475_000));
    let second = groups(CgroupVersion::V2);
    assert_eq!(second.set_realtime_budget(1).unwrap(), None);
}

#[test]
#[ignore = "needs root, cpuset"]
fn a_partition_is_what_the_kernel_makes_of_it_and_goes_with_its_group() {
    let controllers = Controllers::detect();
    let parent = controllers.cpuset.clone().unwrap().parent;
    let read = |path: &Path| fs::read_to_string(path).unwrap().trim().to_owned();
    let all = parse_cpu_list(&read(&parent.join("cpuset.cpus.effective")));
    let name = format!("hx-test-{}", std::process::id());
    let groups = NodeCgroups::create(&controllers, &name, nothing).unwrap();
    let last = *all.last().unwrap();
    groups.set_cpus(&[last]).unwrap();
    let got = groups.set_partition(Partition::Isolated).unwrap().unwrap();
    // The last CPU of all cannot be taken away from everybody else.
    match all.len() {
        1 => assert!(got.starts_with("isolated invalid"), "{got}"),
        _ => assert_eq!(got, "isolated"),
    }
    for directory in groups.directories() {
        assert!(kill_and_remove(&directory).unwrap());
    }
    let afterwards = parse_cpu_list(&read(&parent.join("cpuset.cpus.effective")));
    assert_eq!(afterwards, all);
}
