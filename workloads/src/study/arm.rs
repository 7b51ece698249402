//! What is asked of any arm: its nodes, its name, whether it is exact.

use super::kv::{Delivery, Source};
use super::placement::{Placement, PlacementPolicy, Weights};
use super::speculative::{DraftLength, Drawing};
use super::{Arm, Coding, kpi};

impl Arm {
    /// Nodes of its path.
    #[must_use]
    pub fn nodes(&self) -> usize {
        match self {
            Arm::Split { ends, .. } => ends.len(),
            Arm::Remote { .. }
            | Arm::Speculative(_)
            | Arm::EarlyExit { .. }
            | Arm::Cascade { .. }
            | Arm::KeyValues { .. }
            | Arm::Retrieval(_)
            | Arm::Shared { .. }
            | Arm::Kpi { .. }
            | Arm::KpiOnTrace { .. }
            | Arm::UShaped(_)
            | Arm::TensorParallel(_)
            | Arm::Leaking(_)
            | Arm::Adapters(_)
            | Arm::Look(_)
            | Arm::Convolutional(_) => 2,
            Arm::Placed(Placement { nodes, .. }) | Arm::Policy(PlacementPolicy { nodes, .. }) => {
                usize::try_from(*nodes).unwrap_or(usize::MAX)
            }
        }
    }

    /// Of a split, after which layer each node ends; nothing of any other technique.
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        match self {
            Arm::Split { ends, .. } => ends,
            _ => &[],
        }
    }

    /// How tokens are chosen.
    #[must_use]
    pub const fn drawing(&self) -> Drawing {
        match self {
            Arm::Split { .. }
            | Arm::EarlyExit { .. }
            | Arm::Cascade { .. }
            | Arm::KeyValues { .. }
            | Arm::Retrieval(_)
            | Arm::Shared { .. }
            | Arm::Kpi { .. }
            | Arm::KpiOnTrace { .. }
            | Arm::Placed(_)
            | Arm::Policy(_)
            | Arm::UShaped(_)
            | Arm::TensorParallel(_)
            | Arm::Leaking(_)
            | Arm::Adapters(_)
            | Arm::Look(_)
            | Arm::Convolutional(_) => Drawing::Greedy,
            Arm::Remote { drawing } => *drawing,
            Arm::Speculative(speculation) => speculation.drawing,
        }
    }

    /// Arms with another number answer something else even where both are exact: how many patches of an image become
    /// one token.
    #[must_use]
    pub const fn answers(&self) -> u32 {
        match self {
            Arm::Look(look) => look.merge,
            _ => 0,
        }
    }

    /// How hidden states, or parts of them, cross the links.
    #[must_use]
    pub const fn coding(&self) -> Coding {
        match self {
            Arm::Split { coding, .. } => *coding,
            Arm::TensorParallel(halves) => halves.coding,
            Arm::Look(look) => look.coding,
            _ => Coding::F32,
        }
    }

    /// Whether nothing that crosses the links, and no node's weights, lose anything: its greedy tokens are those of
    /// the whole model as it is.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        match self {
            Arm::KeyValues { delivery, .. } => delivery.is_exact(),
            // Another search finds other chunks, and those lead to other answers.
            Arm::Retrieval(retrieval) => retrieval.probes.is_none(),
            Arm::Placed(placement) => matches!(placement.weights, Weights::Full),
            // Sums of two parts are rounded in another order.
            Arm::TensorParallel(_) => false,
            // It may choose weights of fewer bits.
            Arm::Policy(_) => false,
            _ => self.coding().is_exact(),
        }
    }

    /// Whether it goes by what the link does, to be as fast as can be or in time: no other arm would do the same always.
    #[must_use]
    pub fn adapts(&self) -> bool {
        match self {
            Arm::KeyValues { delivery, .. } => *delivery == Delivery::Adaptive,
            Arm::Speculative(speculation) => speculation.length == DraftLength::Adaptive,
            Arm::Policy(_) => true,
            _ => false,
        }
    }

    /// Where several users share an edge, the most sequences of a pass.
    #[must_use]
    pub const fn batch(&self) -> Option<u32> {
        match self {
            Arm::Shared { batch, .. } => Some(*batch),
            _ => None,
        }
    }

    /// Requests that are under way at a time.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        match self {
            Arm::Split { in_flight, .. } => *in_flight,
            _ => 1,
        }
    }

    /// Whether it is asked on the traces, where a study plays any: one request after the other, and not at a rate that
    /// is a part of it.
    #[must_use]
    pub const fn is_asked_on_traces(&self) -> bool {
        self.in_flight() == 1 && !matches!(self, Arm::Kpi { .. })
    }

    /// Its name in reports: of a split where it cuts, how many requests are under way if several, and how
    /// states are coded if not exactly;
    /// of speculation what is drafted, what crosses and how tokens are chosen.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Arm::Split { .. } => {}
            Arm::Remote { drawing } => {
                return match drawing {
                    Drawing::Greedy => "remote".to_owned(),
                    Drawing::Sampled => "remote sampled".to_owned(),
                };
            }
            Arm::Speculative(speculation) => return speculation.name(),
            Arm::EarlyExit { cut, threshold } => return format!("{cut} {}", threshold.name()),
            Arm::Cascade { rule, threshold } => {
                return format!("{} {}", rule.name(), threshold.name());
            }
            Arm::KeyValues {
                delivery,
                source: Source::Stored,
            } => return delivery.name().to_owned(),
            Arm::KeyValues { delivery, source } => {
                return format!("{} {}", delivery.name(), source.name());
            }
            Arm::Kpi { row, percent } => return kpi::arm_name(*row, *percent),
            Arm::KpiOnTrace { row } => return kpi::row_name(*row).to_owned(),
            Arm::Shared { policy, batch } => return format!("{} of {batch}", policy.name()),
            Arm::Placed(placement) => return placement.name(),
            Arm::Policy(policy) => return policy.name(),
            Arm::Retrieval(retrieval) => return retrieval.name(),
            Arm::UShaped(shape) => return shape.name(),
            Arm::TensorParallel(halves) => return halves.name(),
            Arm::Leaking(leaking) => return leaking.name(),
            Arm::Adapters(serving) => return serving.name(),
            Arm::Look(look) => return look.name(),
            Arm::Convolutional(network) => return network.name(),
        }
        let ends: Vec<String> = self.ends().iter().map(u32::to_string).collect();
        let mut name = ends.join("/");
        if self.in_flight() != 1 {
            name = format!("{name} x{}", self.in_flight());
        }
        match self.coding() {
            Coding::F32 => name,
            coding => format!("{name} {coding}"),
        }
    }

    /// Of a split, layers on the first node.
    #[must_use]
    pub fn first_cut(&self) -> u32 {
        self.ends().first().copied().unwrap_or(0)
    }

    /// Whether it is a split whose first node has all layers.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let ends = self.ends();
        !ends.is_empty() && ends.first() == ends.last()
    }
}
