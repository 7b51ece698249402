//! What the nodes of a path hold of the model, where it is not plain layers.

use super::{Arm, StudySpec};

impl StudySpec {
    pub(super) fn deepest_leak(&self) -> u32 {
        let layers = self.arms.iter().filter_map(|arm| match arm {
            Arm::Leaking(leaking) => Some(leaking.layer),
            _ => None,
        });
        layers.max().unwrap_or(0)
    }

    /// In front of the device's tail, which is another part.
    pub(super) fn layers_of_u_shapes(
        &self,
        place: usize,
        layers: u32,
    ) -> (std::ops::Range<u32>, bool) {
        let firsts = || {
            self.arms.iter().map(|arm| match arm {
                Arm::UShaped(shape) => shape.first,
                _ => arm.first_cut(),
            })
        };
        match place {
            0 => (0..firsts().max().unwrap_or(0), false),
            1 => (firsts().min().unwrap_or(0)..layers, true),
            _ => (0..0, false),
        }
    }

    /// Both nodes need the head: the device for its exits, the edge for what it finishes.
    pub(super) fn layers_of_exits(
        &self,
        place: usize,
        layers: u32,
    ) -> (std::ops::Range<u32>, bool) {
        let cuts = || {
            let cut = |arm: &Arm| match arm {
                Arm::EarlyExit { cut, .. } => Some(*cut),
                _ => None,
            };
            self.arms.iter().filter_map(cut)
        };
        match place {
            0 => (0..cuts().max().unwrap_or(0), true),
            // Where no arm leaves anything, it holds the last layer and is never asked.
            1 => (
                cuts().min().unwrap_or(0).min(layers.saturating_sub(1))..layers,
                true,
            ),
            _ => (0..0, false),
        }
    }
}
