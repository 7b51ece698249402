//! Whether answers that should be the same are. Where layers run, how states cross links and who else does that
//! change no token. Another device rounds sums in another order, so that it may say another token where two scores are
//! as close as that.

use hexloop_statistics::{Agreement, TOKENS_OF_A_TIE};
use hexloop_topologies::plan::Plan;

/// An answer to a prompt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) tokens: &'a [u32],
    /// Places where another token is known to be about as good.
    pub(super) ties: &'a [u32],
}

/// Whether some of these nodes compute on another device than the others.
pub(super) fn on_several_devices<'a>(
    plan: &Plan,
    nodes: impl IntoIterator<Item = &'a str>,
) -> bool {
    let nodes = nodes.into_iter().filter_map(|name| plan.node(name));
    let mut devices = nodes.map(|node| node.compute.device);
    let first = devices.next();
    devices.any(|device| Some(device) != first)
}

/// Compares all answers to a prompt with the first of them, each up to where it goes another way. Returns how many do.
pub(super) fn compare<P: Ord + Clone>(
    agreement: &mut Agreement<(P, u32)>,
    prompt: &P,
    answers: &[Answer<'_>],
) -> u64 {
    let Some((first, others)) = answers.split_first() else {
        return 0;
    };
    let is_close = |at: u32| {
        let before = usize::try_from(at).unwrap_or(usize::MAX);
        // Scores are close after one text, and say nothing of another.
        let is_same_text =
            |answer: &Answer<'_>| answer.tokens.get(..before) == first.tokens.get(..before);
        let mut all = answers.iter();
        all.any(|answer| answer.ties.contains(&at) && is_same_text(answer))
    };
    let place = |at: u32| (prompt.clone(), at);
    let differing = others
        .iter()
        .map(|other| u64::from(!agreement.answer((other.tokens, first.tokens), place, is_close)));
    differing.sum()
}

/// What is told of answers that are made on several devices, in words; its numbers are put behind those that there are.
pub(super) fn told_of_devices<P: Ord + Clone>(
    agreement: &Agreement<P>,
    numbers: &mut Vec<(&str, u64)>,
) -> String {
    let (places, ties) = (agreement.places(), agreement.ties());
    let elsewhere = agreement.differing();
    numbers.extend([
        ("places", u64::from(places)),
        ("ties", u64::from(ties)),
        ("differing", elsewhere),
    ]);
    format!(
        "; nodes compute on several devices, and of {places} places another token came at {ties} where it is about as good, \
         of one in {TOKENS_OF_A_TIE} at most, and {elsewhere} times elsewhere"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use hexloop_workloads::device::ComputeDevice;

    fn compared(answers: &[(&[u32], &[u32])]) -> (u64, Agreement<(u32, u32)>) {
        let answers = answers.iter().map(|(tokens, ties)| Answer { tokens, ties });
        let answers: Vec<Answer<'_>> = answers.collect();
        let mut agreement = Agreement::default();
        let differing = compare(&mut agreement, &7, &answers);
        (differing, agreement)
    }

    #[test]
    fn another_token_is_excused_where_any_of_the_answers_knows_of_a_tie_after_the_same_text() {
        let (differing, agreement) = compared(&[(&[1, 2, 3], &[1]), (&[1, 9, 8], &[])]);
        assert_eq!(
            (differing, agreement.ties(), agreement.differing()),
            (1, 1, 0)
        );
        let (differing, agreement) = compared(&[(&[1, 2, 3], &[]), (&[1, 9, 8], &[1])]);
        assert_eq!(
            (differing, agreement.ties(), agreement.differing()),
            (1, 1, 0)
        );
        let (differing, agreement) = compared(&[(&[1, 2, 3], &[2]), (&[1, 9, 8], &[2])]);
        assert_eq!(
            (differing, agreement.ties(), agreement.differing()),
            (1, 0, 1)
        );
        // A third that had gone another way before.
        let all: [(&[u32], &[u32]); 3] =
            [(&[1, 2, 3], &[]), (&[1, 2, 9], &[]), (&[4, 2, 3], &[0, 2])];
        let (differing, agreement) = compared(&all);
        assert_eq!(
            (differing, agreement.ties(), agreement.differing()),
            (2, 1, 1)
        );
    }

    #[test]
    fn answers_that_are_the_same_agree_and_one_alone_is_compared_with_none() {
        let (differing, agreement) = compared(&[(&[1, 2], &[]), (&[1, 2], &[]), (&[1, 2], &[])]);
        assert_eq!((differing, agreement.places()), (0, 2));
        let (differing, agreement) = compared(&[(&[1, 2], &[])]);
        assert_eq!((differing, agreement.held()), (0, None));
    }

    #[test]
    fn nodes_compute_on_several_devices_where_one_of_them_has_another() {
        let mut plan = fixture::plan();
        assert!(!on_several_devices(&plan, ["device", "edge"]));
        let edge = plan.nodes.iter_mut().find(|node| node.name == "edge");
        edge.unwrap().compute.device = ComputeDevice::Cuda(0);
        assert!(on_several_devices(&plan, ["device", "edge"]));
        assert!(!on_several_devices(&plan, ["edge", "edge"]));
    }
}
