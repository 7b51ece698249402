//! Whose a metered device is: what a node used is told where it has a GPU of its own. What all nodes of a machine
//! share, such as the package of their CPUs, is nobody's alone, and is not divided.

use hexloop_proto::MeterChannel;

use super::{Curve, StudyNodeEnergy, Work};
use crate::results::{PhaseResults, Results};
use crate::summary::{Quality, unavailable};

/// How meters name what a GPU's board counts.
const GPU: &str = "GPU";

/// The energy of a node alone, or why that is not known.
pub(super) struct OfNode {
    node: String,
    curve: Result<Curve, String>,
}

impl OfNode {
    /// What some requests used there.
    pub(super) fn of_work(&self, work: &Work) -> StudyNodeEnergy {
        let [j_per_request, j_per_token] = match &self.curve {
            Ok(curve) => [curve.per_request(work), curve.per_token(work)],
            Err(why) => [unavailable(why), unavailable(why)],
        };
        StudyNodeEnergy {
            node: self.node.clone(),
            j_per_request,
            j_per_token,
        }
    }
}

/// Every node of a path.
pub(super) fn along(results: &Results, recorded: &PhaseResults, path: &[String]) -> Vec<OfNode> {
    let of_node = |node: &String| OfNode {
        node: node.clone(),
        curve: own(results, recorded, node),
    };
    path.iter().map(of_node).collect()
}

/// The energy of the GPU that is a node's alone.
fn own(results: &Results, recorded: &PhaseResults, node: &str) -> Result<Curve, String> {
    let channels = results.agent.as_ref().map(|agent| agent.meters.as_slice());
    let channels = channels.unwrap_or_default();
    if channels.is_empty() {
        return Err("nothing is metered on this machine".to_owned());
    }
    let mut nodes = results.nodes.iter();
    let uuid = nodes
        .find(|up| up.node == node)
        .and_then(|up| up.gpu.as_deref())
        .ok_or("meters read devices that all nodes of this machine share")?;
    let mut others = results.nodes.iter().filter(|up| up.node != node);
    if let Some(other) = others.find(|up| up.gpu.as_deref() == Some(uuid)) {
        return Err(format!("its GPU is that of {} as well", other.node));
    }
    let looks = || recorded.gpus.iter().filter(|look| look.uuid == uuid);
    if looks().any(|look| look.mig == Some(true)) {
        return Err("its GPU is cut into instances, and meters read the whole board".to_owned());
    }
    if looks().any(|look| look.foreign_processes.iter().flatten().next().is_some()) {
        return Err("processes of others computed on its GPU".to_owned());
    }
    let (place, channel) =
        board_channel(channels, uuid).ok_or_else(|| format!("no meter reads its GPU, {uuid}"))?;
    let mut alone = channels.to_vec();
    for (index, channel) in alone.iter_mut().enumerate() {
        channel.counted = index == place;
    }
    let quality = match channel.estimated {
        true => Quality::Estimated,
        false => Quality::Derived,
    };
    let source = format!(
        "gross energy of its GPU alone, {uuid}: what its CPUs use is in the machine's energy only"
    );
    Ok(Curve::of(&alone, recorded, (quality, &source)))
}

/// The channel that tells most of a GPU's energy, and its place: the one in the machine's sum, else a counter, else
/// power at the moment. An average over a second is too slow for requests.
fn board_channel<'a>(
    channels: &'a [MeterChannel],
    uuid: &str,
) -> Option<(usize, &'a MeterChannel)> {
    let of_board =
        |(_, channel): &(usize, &MeterChannel)| channel.device == uuid && channel.scope == GPU;
    let board = || channels.iter().enumerate().filter(of_board);
    let counted = board().find(|(_, channel)| channel.counted);
    let counter = || board().find(|(_, channel)| channel.is_counter());
    let instant = || board().find(|(_, channel)| channel.quantity == "instantaneous power");
    counted.or_else(counter).or_else(instant)
}
