//! How many links a command is behind, and which CPUs the relay of the next one would rather have.

use std::env;

/// What tells a command how many links it is behind.
const LINKS: &str = "HEXLOOP_DEPTH";

/// What tells it which CPU the relay of the innermost of them has.
const AROUND: &str = "HEXLOOP_RELAY_CPU";

/// Nobody nests more; what is written there need not come from this program.
const DEEPEST: usize = 1 << 16;

/// A place in a chain of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    /// 0 is the outermost.
    links: usize,
    /// The CPU of the relay of the link directly around it, where there is one and it has one.
    around: Option<u32>,
}

impl Depth {
    /// That of a link that this process makes.
    pub(super) fn here() -> Depth {
        let said = |variable| env::var(variable).ok();
        Depth::said(said(LINKS).as_deref(), said(AROUND).as_deref())
    }

    fn said(links: Option<&str>, around: Option<&str>) -> Depth {
        // These choose a CPU and nothing else: what is no number is as if it were not said.
        let links = links.and_then(|text| text.parse().ok()).unwrap_or(0);
        Depth {
            links: usize::min(links, DEEPEST),
            around: around.and_then(|text| text.parse().ok()),
        }
    }

    /// What a command behind the link, whose relay has this CPU, finds in its environment.
    pub(super) fn told(self, cpu: Option<u32>) -> [(&'static str, String); 2] {
        let cpu = cpu.map(|cpu| cpu.to_string()).unwrap_or_default();
        [(LINKS, (self.links + 1).to_string()), (AROUND, cpu)]
    }

    /// The CPUs that the link's relay may have, the best first: the last one, as in runs and in the bench,
    /// and for stages within it the one before, so that stages next to each other do not wait for each
    /// other; then those before it. That of the stage around it comes last. With a single CPU there is
    /// nothing to choose.
    pub(super) fn order(self, allowed: &[u32]) -> Vec<u32> {
        if allowed.len() < 2 {
            return Vec::new();
        }
        let from_the_last = self.links % allowed.len();
        let backwards = allowed.iter().rev().cycle().skip(from_the_last);
        let mut order: Vec<u32> = backwards.take(allowed.len()).copied().collect();
        order.sort_by_key(|cpu| Some(*cpu) == self.around);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(links: usize, around: Option<u32>) -> Depth {
        Depth { links, around }
    }

    #[test]
    fn stages_next_to_each_other_are_served_by_different_cpus() {
        let first = |allowed: &[u32]| [0, 1, 2, 3].map(|links| at(links, None).order(allowed)[0]);
        assert_eq!(first(&[0, 1]), [1, 0, 1, 0]);
        assert_eq!(first(&[2, 5, 7]), [7, 5, 2, 7]);
        assert!(at(1, None).order(&[3]).is_empty());
        assert!(at(0, None).order(&[]).is_empty());
    }

    #[test]
    fn what_comes_after_the_first_choice_ends_with_the_cpu_of_the_stage_around() {
        assert_eq!(at(0, None).order(&[2, 5, 7]), [7, 5, 2]);
        assert_eq!(at(1, Some(7)).order(&[2, 5, 7]), [5, 2, 7]);
        // The one around it did not get the CPU that it would rather have had.
        assert_eq!(at(1, Some(5)).order(&[2, 5, 7]), [2, 7, 5]);
        assert_eq!(at(1, Some(0)).order(&[0, 1]), [1, 0]);
        // It may not be allowed here.
        assert_eq!(at(1, Some(9)).order(&[0, 1]), [0, 1]);
    }

    #[test]
    fn each_stage_tells_the_next_how_deep_that_is_and_which_cpu_it_has() {
        let mut said = [None, None];
        for links in 0..3 {
            let [depth, cpu] = &said;
            let here = Depth::said(depth.as_deref(), cpu.as_deref());
            assert_eq!(here, at(links, (links > 0).then_some(4)));
            let told = here.told(Some(4));
            assert_eq!(told[0].0, "HEXLOOP_DEPTH");
            said = told.map(|(_, text)| Some(text));
        }
        for nonsense in ["", "-1", "two"] {
            assert_eq!(Depth::said(Some(nonsense), Some(nonsense)), at(0, None));
        }
        assert_eq!(Depth::said(Some("9999999"), None), at(DEEPEST, None));
        // Where it has none, the next is not told of one further out.
        assert_eq!(at(1, Some(4)).told(None)[1].1, "");
    }
}
