//! The program that computes on the nodes' GPUs: tried on each of them before anything is made.

use hexloop_proto::AskedAndGot;
use hexloop_topologies::plan::Plan;
use hexloop_workloads::device::ComputeDevice;

use super::{IsolationError, Settled};
use crate::engine_cuda::{self, EngineCudaError};

/// Tries every GPU that a node computes on; their UUIDs are known already.
pub(super) fn settle(plan: &Plan, settled: &mut Settled) -> Result<(), IsolationError> {
    let computing = plan
        .nodes
        .iter()
        .filter(|node| node.compute.device != ComputeDevice::Cpu);
    for node in computing {
        let refused = |source: EngineCudaError| IsolationError::NoEngine {
            node: node.name.clone(),
            source,
        };
        let program = match &settled.engine_cuda {
            Some(program) => program.clone(),
            None => engine_cuda::find().map_err(refused)?,
        };
        let gpu = settled.gpus.get(&node.name);
        let probed = engine_cuda::probe(&program, gpu.map(String::as_str)).map_err(refused)?;
        settled.settings.push(AskedAndGot {
            what: format!("engine of {}", node.name),
            asked: Some(format!("its GPU, in {}", node.compute.precision)),
            got: probed.devices.first().map(|one| one.engine_path.clone()),
            note: Some(program.display().to_string()),
            held: Some(true),
            before: None,
        });
        settled.engine_cuda = Some(program);
    }
    Ok(())
}
