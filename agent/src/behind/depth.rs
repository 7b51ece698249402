//! How many links a command is behind, and on which CPU each of them has its relay.

use std::env;

/// What tells a command how many links it is behind.
const VARIABLE: &str = "HEXLOOP_DEPTH";

/// Nobody nests more; what is written there need not come from this program.
const DEEPEST: usize = 1 << 16;

/// A place in a chain of links: 0 is the outermost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth(usize);

impl Depth {
    /// That of a link that this process makes.
    pub(super) fn here() -> Depth {
        Depth::said(env::var(VARIABLE).ok().as_deref())
    }

    fn said(text: Option<&str>) -> Depth {
        let depth = text.and_then(|text| text.parse().ok()).unwrap_or(0);
        Depth(usize::min(depth, DEEPEST))
    }

    /// What a command behind the link finds in its environment.
    pub(super) fn told(self) -> (&'static str, String) {
        (VARIABLE, (self.0 + 1).to_string())
    }

    /// The CPU of the link's relay, of those that it may use: the last one, as in runs and in the bench,
    /// and for stages within it the one before, so that stages next to each other do not wait for each
    /// other. With a single CPU there is nothing to choose.
    pub(super) fn cpu(self, allowed: &[u32]) -> Option<u32> {
        let from_the_last = self.0.checked_rem(allowed.len())?;
        let chosen = allowed.iter().rev().nth(from_the_last);
        chosen.copied().filter(|_| allowed.len() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_next_to_each_other_are_served_by_different_cpus() {
        let chosen = |allowed: &[u32]| [0, 1, 2, 3].map(|depth| Depth(depth).cpu(allowed));
        assert_eq!(chosen(&[0, 1]), [1, 0, 1, 0].map(Some));
        assert_eq!(chosen(&[2, 5, 7]), [7, 5, 2, 7].map(Some));
        assert_eq!(chosen(&[3]), [None; 4]);
        assert_eq!(chosen(&[]), [None; 4]);
    }

    #[test]
    fn each_stage_tells_the_next_how_deep_that_is() {
        let mut said: Option<String> = None;
        for depth in 0..3 {
            let here = Depth::said(said.as_deref());
            assert_eq!(here, Depth(depth));
            let (variable, text) = here.told();
            assert_eq!(variable, "HEXLOOP_DEPTH");
            said = Some(text);
        }
        for nonsense in ["", "-1", "two"] {
            assert_eq!(Depth::said(Some(nonsense)), Depth(0));
        }
        assert_eq!(Depth::said(Some("9999999")), Depth(DEEPEST));
    }
}
