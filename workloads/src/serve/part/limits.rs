//! The frames that a part accepts on an edge.

use super::Part;
use crate::job::Placement;
use crate::wire::FrameKind;

/// The frames that an edge accepts: no more than its model has room for.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve) struct FrameLimits {
    placement: Placement,
    width: u32,
    max_positions: u32,
}

impl FrameLimits {
    /// The longest body of a frame of that kind; `None` if none may come.
    pub(in crate::serve) fn accepts(&self, kind: FrameKind) -> Option<u64> {
        let tokens = 4 * u64::from(self.max_positions);
        match (self.placement, kind) {
            (Placement::Edge, FrameKind::Prompt) => Some(tokens),
            (Placement::Split { .. }, FrameKind::Hidden) => {
                Some(tokens.saturating_mul(u64::from(self.width)))
            }
            (Placement::Split { .. }, FrameKind::End) => Some(0),
            _ => None,
        }
    }
}

impl Part {
    /// What this part, on the edge, accepts from a device.
    pub(in crate::serve) const fn limits(&self, placement: Placement) -> FrameLimits {
        let config = self.config();
        FrameLimits {
            placement,
            width: config.width,
            max_positions: config.max_positions,
        }
    }
}
