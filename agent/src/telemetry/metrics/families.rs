//! Every family that an agent may show.

use hexloop_telemetry::{FamilyKind, MetricFamily};

const fn counter(name: &'static str, help: &'static str) -> MetricFamily {
    let kind = FamilyKind::Counter;
    MetricFamily { name, kind, help }
}

const fn gauge(name: &'static str, help: &'static str) -> MetricFamily {
    let kind = FamilyKind::Gauge;
    MetricFamily { name, kind, help }
}

pub(super) const ENERGY: MetricFamily = counter(
    "hw_energy_joules_total",
    "Energy of a component by its counter, since this agent began to read it (hw.energy).",
);
pub(super) const POWER: MetricFamily = gauge(
    "hw_power_watts",
    "Instantaneous power of a component (hw.power). Only those with counted=\"true\" may be summed up.",
);
pub(super) const HOST_ENERGY: MetricFamily = counter(
    "hw_host_energy_joules_total",
    "Energy of the whole machine by a counter (hw.host.energy).",
);
pub(super) const HOST_POWER: MetricFamily = gauge(
    "hw_host_power_watts",
    "Instantaneous power of the whole machine (hw.host.power).",
);
pub(super) const AVERAGE_POWER: MetricFamily = gauge(
    "hexloop_average_power_watts",
    "Power averaged over window_seconds, where the source states them: another quantity than hw_power_watts.",
);
pub(super) const ESTIMATED_ENERGY: MetricFamily = counter(
    "hexloop_estimated_energy_joules_total",
    "Energy by a documented model of partial measurements; not measured.",
);
pub(super) const ESTIMATED_POWER: MetricFamily = gauge(
    "hexloop_estimated_power_watts",
    "Power by a documented model of partial measurements; not measured.",
);
/// Says why something has no sample.
pub const UNAVAILABLE: MetricFamily = gauge(
    "hexloop_unavailable_info",
    "Always 1: `metric` has no sample for `of`, and why.",
);
pub(super) const BUILD: MetricFamily = gauge("hexloop_build_info", "Always 1: the version.");
pub(super) const PHASE: MetricFamily = gauge(
    "hexloop_phase_active",
    "1 while a phase of a plan is under way, with its name.",
);
pub(super) const READS: MetricFamily = counter(
    "hexloop_meter_reads_total",
    "How often all meters were read since this agent started.",
);
pub(super) const LINES: MetricFamily = counter(
    "hexloop_external_lines_total",
    "Lines of external meters, taken or refused.",
);
pub(super) const GPU_UTILIZATION: MetricFamily = gauge(
    "hw_gpu_utilization_ratio",
    "Share of time in which a kernel ran, over the driver's own window (hw.gpu.utilization).",
);
pub(super) const GPU_MEMORY_BUSY: MetricFamily = gauge(
    "hexloop_gpu_memory_busy_ratio",
    "Share of time in which memory was accessed, over the driver's own window.",
);
pub(super) const GPU_MEMORY_USAGE: MetricFamily = gauge(
    "hw_gpu_memory_usage_bytes",
    "Memory in use (hw.gpu.memory.usage).",
);
pub(super) const GPU_MEMORY_LIMIT: MetricFamily = gauge(
    "hw_gpu_memory_limit_bytes",
    "All of its memory (hw.gpu.memory.limit).",
);
pub(super) const TEMPERATURE: MetricFamily = gauge(
    "hw_temperature_celsius",
    "Temperature of the die (hw.temperature).",
);
pub(super) const GPU_CLOCK: MetricFamily = gauge(
    "hexloop_gpu_clock_hertz",
    "Clock of the multiprocessors or of the memory.",
);
pub(super) const GPU_THROTTLED: MetricFamily = gauge(
    "hexloop_gpu_throttled",
    "1 while power, heat or a brake holds the clocks down.",
);
pub(super) const GPU_STATE: MetricFamily = gauge(
    "hexloop_gpu_performance_state",
    "P-state: 0 is the highest.",
);
pub(super) const GPU_POWER_LIMIT: MetricFamily =
    gauge("hexloop_gpu_power_limit_watts", "The power limit in force.");
pub(super) const GPU_PROCESSES: MetricFamily =
    gauge("hexloop_gpu_processes", "Processes that compute on it.");
pub(super) const CPU_TIME: MetricFamily = counter(
    "system_cpu_time_seconds_total",
    "Time of each core by mode; steal is what the hypervisor took (system.cpu.time).",
);
pub(super) const CPU_FREQUENCY: MetricFamily = gauge(
    "system_cpu_frequency_hertz",
    "How fast a core runs (system.cpu.frequency).",
);
pub(super) const CONTEXT_SWITCHES: MetricFamily = counter(
    "hexloop_context_switches_total",
    "Context switches of the machine.",
);
pub(super) const PRESSURE: MetricFamily = counter(
    "hexloop_pressure_stall_seconds_total",
    "Time in which some or all tasks of the machine waited for a resource (PSI).",
);
pub(super) const NODE_CPU: MetricFamily = counter(
    "container_cpu_time_seconds_total",
    "CPU time of a node's processes since the phase began (container.cpu.time).",
);
pub(super) const NODE_MEMORY: MetricFamily = gauge(
    "container_memory_usage_bytes",
    "Resident memory of a node's processes (container.memory.usage).",
);
pub(super) const NODE_THROTTLED: MetricFamily = counter(
    "hexloop_node_throttled_periods_total",
    "Periods in which a node's quota held it up, since the phase began.",
);

pub(super) const GPU_ACTIVITY: MetricFamily = gauge(
    "hexloop_gpu_activity_ratio",
    "How busy a part of the GPU was between two looks, by its performance counters (GPM).",
);
pub(super) const GPU_PROCESS_MEMORY: MetricFamily = gauge(
    "hexloop_gpu_process_memory_usage_bytes",
    "Memory of the GPU that a process holds.",
);
pub(super) const GPU_PROCESS_USE: MetricFamily = gauge(
    "hexloop_gpu_process_utilization_ratio",
    "A process's share of the multiprocessors' time.",
);

/// All of them.
pub const ALL: &[MetricFamily] = &[
    ENERGY,
    POWER,
    HOST_ENERGY,
    HOST_POWER,
    AVERAGE_POWER,
    ESTIMATED_ENERGY,
    ESTIMATED_POWER,
    UNAVAILABLE,
    BUILD,
    PHASE,
    READS,
    LINES,
    GPU_UTILIZATION,
    GPU_MEMORY_BUSY,
    GPU_MEMORY_USAGE,
    GPU_MEMORY_LIMIT,
    TEMPERATURE,
    GPU_CLOCK,
    GPU_THROTTLED,
    GPU_STATE,
    GPU_POWER_LIMIT,
    GPU_PROCESSES,
    GPU_ACTIVITY,
    GPU_PROCESS_MEMORY,
    GPU_PROCESS_USE,
    CPU_TIME,
    CPU_FREQUENCY,
    CONTEXT_SWITCHES,
    PRESSURE,
    NODE_CPU,
    NODE_MEMORY,
    NODE_THROTTLED,
];
