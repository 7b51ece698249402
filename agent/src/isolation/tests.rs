//! A machine in a directory: what is asked of it is set, read back and put back.

use std::fs;
use std::path::Path;

use hexloop_topologies::HostConfiguration;
use hexloop_topologies::plan::{
    CalibrationPlan, FaultPlan, HugepagesPlan, MachinePlan, NodeIsolation, NodePlan, PLAN_SCHEMA,
    VerdictBounds,
};
use hexloop_workloads::device::ComputeSettings;

use super::*;
use crate::process::SelfCommand;

/// Two NUMA nodes of two CPUs; the plan's node has CPUs 2 and 3.
const FILES: &[(&str, &str)] = &[
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/isolated", "\n"),
    ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
    ("sys/devices/system/node/node0/cpulist", "0-1\n"),
    ("sys/devices/system/node/node1/cpulist", "2-3\n"),
    (
        "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
        "3\n",
    ),
    (
        "sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages",
        "1\n",
    ),
    (
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "3\n",
    ),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never\n",
    ),
    ("proc/irq/default_smp_affinity", "f\n"),
    ("proc/irq/24/smp_affinity_list", "0-3\n"),
    ("proc/irq/24/effective_affinity_list", "3\n"),
    ("proc/irq/24/eth0/nothing", ""),
    ("proc/irq/25/smp_affinity_list", "2\n"),
    ("proc/irq/26/smp_affinity_list", "1\n"),
];

pub(crate) fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut files: Vec<(String, &str)> = FILES
        .iter()
        .map(|(name, text)| ((*name).to_owned(), *text))
        .collect();
    for cpu in 0..4 {
        let cpufreq = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq");
        files.push((format!("{cpufreq}/scaling_governor"), "powersave\n"));
        files.push((
            format!("{cpufreq}/scaling_available_governors"),
            "performance powersave\n",
        ));
    }
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn plan(machine: MachinePlan) -> Plan {
    Plan {
        schema: PLAN_SCHEMA,
        experiment: "test".to_owned(),
        preset: None,
        seed: 1,
        nodes: vec![NodePlan {
            name: "edge".to_owned(),
            index: 0,
            cpus: vec![2, 3],
            cpu_quota: None,
            threads: 2,
            compute: ComputeSettings::default(),
            slowdown: None,
            congestion_control: None,
            isolation: NodeIsolation::default(),
        }],
        links: Vec::new(),
        cells: Vec::new(),
        uncalibrated: Vec::new(),
        machine,
        calibration: CalibrationPlan {
            flow_ns: 0,
            packet_payload_bytes: 0,
            probe_gap_ns: 0,
            window_ns: 0,
        },
        traffic: Vec::new(),
        model: None,
        draft_model: None,
        phases: Vec::new(),
        studies: Vec::new(),
        loads: Vec::new(),
        background: Vec::new(),
        events: Vec::new(),
        commands: Vec::new(),
        verdict: VerdictBounds {
            rate_error_ppm: 0,
            delay_error_ns: 0,
            delay_error_ppm: 0,
            shaper_lateness_ns: 0,
            send_lateness_ppm: 0,
            backlogged_windows: 0,
            relay_cpu_ppm: 0,
            interrupt_cpu_ppm: 0,
            steal_ppm: None,
            timer_lateness_ns: None,
        },
        expectations: Vec::new(),
        faults: FaultPlan::default(),
    }
}

fn everything() -> MachinePlan {
    MachinePlan {
        governor: Some("performance".to_owned()),
        boost: Some(false),
        move_interrupts: true,
        hugepages: Some(HugepagesPlan {
            bytes: 8 << 20,
            size_kib: 2048,
        }),
        ..MachinePlan::default()
    }
}

fn allowing(classes: &[&str]) -> Configuration {
    Configuration {
        path: "agent.toml".into(),
        host: HostConfiguration {
            settings: classes.iter().map(|class| (*class).to_owned()).collect(),
            ..HostConfiguration::default()
        },
    }
}

/// Settles a plan, undoes it, and tells what it came to and what the machine was like meanwhile.
fn settled(
    root: &Path,
    plan: &Plan,
    allowed: &[&str],
    is_root: bool,
) -> (Result<Settled, IsolationError>, Vec<String>) {
    let state = tempfile::tempdir().unwrap();
    // Nobody has to guard what is undone here; a guardian must only live.
    let guardian = Guardian::start_as(&sleeping_guardian(), state.path(), "test").unwrap();
    let mut made = Vec::new();
    let settling = Settling {
        root,
        allowed: &allowing(allowed),
        is_root,
    };
    let outcome = settling.settle(plan, &guardian, &mut made);
    let meanwhile = contents(root);
    for (_, undo) in made.iter().rev() {
        undo.perform(hexloop_workloads::clock::now() + 1_000_000_000)
            .unwrap();
    }
    guardian.finish().unwrap();
    (outcome, meanwhile)
}

fn sleeping_guardian() -> SelfCommand {
    let arguments = [
        "--exact",
        "isolation::tests::plays_the_guardian_where_it_is_told_to",
        "--nocapture",
        "--",
    ];
    SelfCommand::with_arguments(arguments.iter().map(Into::into).collect())
}

/// Not a test of its own: the others start this program again to play the guardian.
#[test]
fn plays_the_guardian_where_it_is_told_to() {
    let arguments: Vec<String> = std::env::args().skip_while(|a| a != "--").skip(1).collect();
    if let [_, _, ledger] = &arguments[..] {
        crate::guardian::run(Path::new(ledger)).unwrap();
    }
}

fn contents(root: &Path) -> Vec<String> {
    let names = FILES.iter().map(|(name, _)| (*name).to_owned());
    let governors =
        (0..4).map(|cpu| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"));
    names
        .chain(governors)
        .map(|name| {
            let text = fs::read_to_string(root.join(&name)).unwrap();
            // As of the kernel's files: what is written over a longer one leaves its end.
            format!("{name}={}", text.lines().next().unwrap_or(""))
        })
        .collect()
}

fn find<'a>(settled: &'a Settled, what: &str) -> &'a AskedAndGot {
    let mut settings = settled.settings.iter();
    settings
        .find(|setting| setting.what.contains(what))
        .unwrap_or_else(|| panic!("{what} is not among {:#?}", settled.settings))
}

#[test]
fn what_is_asked_is_set_and_read_back_and_afterwards_everything_is_as_it_was() {
    let root = machine();
    let before = contents(root.path());
    let plan = plan(everything());
    let all = ["governor", "irq", "hugepages"];
    let (outcome, meanwhile) = settled(root.path(), &plan, &all, true);
    let outcome = outcome.unwrap();
    for (file, text) in [
        ("cpu2/cpufreq/scaling_governor", "performance"),
        ("cpu1/cpufreq/scaling_governor", "powersave"),
        ("cpufreq/boost", "0"),
        // One was free, four are wanted: three more than there were.
        ("node1/hugepages/hugepages-2048kB/nr_hugepages", "6"),
        ("irq/24/smp_affinity_list", "0-1"),
        ("irq/25/smp_affinity_list", "0-1"),
        ("irq/26/smp_affinity_list", "1"),
    ] {
        let is_there = |line: &String| line.ends_with(&format!("{file}={text}"));
        assert!(meanwhile.iter().any(is_there), "{file}: {meanwhile:#?}");
    }
    for what in [
        "governor of CPUs 2-3",
        "boost",
        "2048 KiB pages of NUMA node 1",
    ] {
        let setting = find(&outcome, what);
        assert_eq!(setting.held, Some(true), "{setting:?}");
        assert!(setting.asked.is_some() && setting.before.is_some());
    }
    let interrupts = find(&outcome, "interrupts on CPUs 2-3");
    assert_eq!(interrupts.held, Some(true), "{interrupts:?}");
    // Its effective CPU is the kernel's to say; here nobody renews it.
    let counted = interrupts.got.as_deref();
    assert_eq!(counted, Some("0 of 3 may be served there, 1 are"));
    assert_eq!(contents(root.path()), before);
}

#[test]
fn without_a_wish_everything_is_read_and_nothing_is_set() {
    let root = machine();
    let before = contents(root.path());
    let plan = plan(MachinePlan::default());
    let (outcome, meanwhile) = settled(root.path(), &plan, &[], false);
    let outcome = outcome.unwrap();
    assert_eq!(meanwhile, before);
    for (what, got) in [
        ("governor", "powersave"),
        ("boost", "on"),
        ("interrupts on", "2 of 3 may be served there, 2 are"),
        ("CPUs of new interrupts", "0-3"),
        ("transparent", "madvise"),
        ("NUMA nodes of the CPUs of edge", "1"),
        ("CPUs isolated", "none"),
    ] {
        let setting = find(&outcome, what);
        assert_eq!(setting.got.as_deref(), Some(got), "{setting:?}");
        assert_eq!((&setting.asked, setting.held), (&None, None));
    }
    assert!(find(&outcome, "energy preference").note.is_some());
}

#[test]
fn what_the_owner_does_not_allow_is_refused_and_what_was_made_before_is_put_back() {
    let root = machine();
    let before = contents(root.path());
    let plan = plan(everything());
    for allowed in [&[][..], &["governor"], &["governor", "irq"]] {
        let (outcome, _) = settled(root.path(), &plan, allowed, true);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("`settings` in agent.toml"), "{error}");
        assert_eq!(contents(root.path()), before);
    }
    let (outcome, meanwhile) = settled(root.path(), &plan, &["governor"], false);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("`machine.governor` needs root"), "{error}");
    assert_eq!(meanwhile, before);
}

#[test]
fn what_the_machine_does_not_offer_is_an_error_that_says_what_it_does() {
    let root = machine();
    let all = ["governor", "irq", "hugepages", "nvml"];
    let governor = |name: &str| MachinePlan {
        governor: Some(name.to_owned()),
        ..MachinePlan::default()
    };
    let pages = |size_kib| MachinePlan {
        hugepages: Some(HugepagesPlan {
            bytes: 1 << 30,
            size_kib,
        }),
        ..MachinePlan::default()
    };
    let preference = MachinePlan {
        energy_preference: Some("performance".to_owned()),
        ..MachinePlan::default()
    };
    for (machine, words) in [
        (
            governor("schedutil"),
            "this machine offers performance powersave",
        ),
        (preference, "no energy preference on CPU 2"),
        (pages(64), "this machine offers 2048 KiB"),
    ] {
        let (outcome, _) = settled(root.path(), &plan(machine), &all, true);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // The nodes have every CPU: none is left for the interrupts.
    let mut all_cpus = plan(MachinePlan {
        move_interrupts: true,
        ..MachinePlan::default()
    });
    all_cpus.nodes[0].cpus = vec![0, 1, 2, 3];
    let (outcome, _) = settled(root.path(), &all_cpus, &all, true);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("give nodes fewer CPUs"), "{error}");
}

#[test]
fn lists_are_written_as_the_kernel_writes_them() {
    assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    assert_eq!(ranges(&[]), "");
    let values = BTreeMap::from([
        (0, "a".to_owned()),
        (1, "a".to_owned()),
        (2, "b".to_owned()),
    ]);
    assert_eq!(by_value(&values), "a on 0-1; b on 2");
}
