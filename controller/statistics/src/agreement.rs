//! Tokens that should be the same, and where two scores are so close that another may be said.

use std::collections::BTreeSet;

/// Of so many places one may have another token, because two scores there are as close as rounding is coarse.
pub const TOKENS_OF_A_TIE: u32 = 10_000;

/// How unlikely it is that as many ties or more were found of places of which one in [`TOKENS_OF_A_TIE`] is one, below
/// which that is not believed.
const LEAST_CHANCE: f64 = 1e-4;

/// Answers against what they should be. A place `P` names what a token was computed after: answers that are given
/// again and again are the same places, for what is close once is close every time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement<P> {
    compared: BTreeSet<P>,
    ties: BTreeSet<P>,
    differing: u64,
}

impl<P> Default for Agreement<P> {
    fn default() -> Agreement<P> {
        Agreement {
            compared: BTreeSet::new(),
            ties: BTreeSet::new(),
            differing: 0,
        }
    }
}

impl<P: Ord + Clone> Agreement<P> {
    /// Takes one token: whether it is what it should be and, where it is not, whether two scores were close.
    /// Returns whether it is the same.
    pub fn token(&mut self, place: P, is_same: bool, is_close: bool) -> bool {
        self.compared.insert(place.clone());
        match (is_same, is_close) {
            (true, _) => {}
            (false, true) => {
                self.ties.insert(place);
            }
            (false, false) => self.differing += 1,
        }
        is_same
    }

    /// Takes an answer, up to the first token that differs: what follows is after another text. One that is shorter or
    /// longer than it should be differs there, however close scores were. Returns whether it is the same.
    pub fn answer(
        &mut self,
        (found, expected): (&[u32], &[u32]),
        place: impl Fn(u32) -> P,
        is_close: impl Fn(u32) -> bool,
    ) -> bool {
        let longest = found.len().max(expected.len());
        (0..longest).zip(0..).all(|(index, at)| {
            let (own, other) = (found.get(index), expected.get(index));
            let is_both = own.is_some() && other.is_some();
            self.token(place(at), own == other, is_both && is_close(at))
        })
    }

    /// Places that were compared.
    #[must_use]
    pub fn places(&self) -> u32 {
        count(&self.compared)
    }

    /// Those of them where another token came because two scores were close.
    #[must_use]
    pub fn ties(&self) -> u32 {
        count(&self.ties)
    }

    /// Tokens that differ without that, each time that they came.
    #[must_use]
    pub const fn differing(&self) -> u64 {
        self.differing
    }

    /// Whether all is the same but for ties, of which there is one in [`TOKENS_OF_A_TIE`] places at most. `None` of no
    /// places, and where there are more ties than that but too few places to tell it from chance.
    #[must_use]
    pub fn held(&self) -> Option<bool> {
        let (places, ties) = (self.places(), self.ties());
        if self.differing > 0 {
            return Some(false);
        }
        if ties.saturating_mul(TOKENS_OF_A_TIE) <= places {
            return (places > 0).then_some(true);
        }
        let expected = f64::from(places) / f64::from(TOKENS_OF_A_TIE);
        (at_least(ties, expected) < LEAST_CHANCE).then_some(false)
    }
}

fn count<P>(of: &BTreeSet<P>) -> u32 {
    u32::try_from(of.len()).unwrap_or(u32::MAX)
}

/// How likely so many or more rare events are where a number of them is expected (Poisson).
fn at_least(events: u32, expected: f64) -> f64 {
    let (mut term, mut fewer) = ((-expected).exp(), 0.0);
    for number in 1..=events {
        fewer += term;
        term *= expected / f64::from(number);
    }
    1.0 - fewer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many places after each other, some are ties.
    fn agreement(places: u32, ties: u32) -> Agreement<u32> {
        let mut agreement = Agreement::default();
        for place in 0..places {
            agreement.token(place, place >= ties, true);
        }
        agreement
    }

    #[test]
    fn what_is_the_same_agrees_and_what_differs_away_from_ties_does_not() {
        assert_eq!(agreement(0, 0).held(), None);
        assert_eq!(agreement(3, 0).held(), Some(true));
        let mut differs = agreement(100_000, 0);
        assert!(!differs.token(5, false, false));
        assert_eq!((differs.held(), differs.differing()), (Some(false), 1));
    }

    #[test]
    fn ties_are_excused_where_they_are_rare_and_too_few_places_decide_nothing() {
        assert_eq!(agreement(10_000, 1).held(), Some(true));
        // One in 9999 happens by chance, and one in 11 as well, though seldom; two in 100 do not.
        assert_eq!(agreement(9_999, 1).held(), None);
        assert_eq!(agreement(11, 1).held(), None);
        assert_eq!(agreement(100, 2).held(), Some(false));
        assert_eq!(agreement(20_000, 12).held(), Some(false));
    }

    #[test]
    fn an_answer_is_compared_up_to_where_it_goes_another_way() {
        let mut agreement = Agreement::default();
        let place = |at: u32| (7, at);
        assert!(agreement.answer((&[1, 2, 3], &[1, 2, 3]), place, |_| false));
        assert!(!agreement.answer((&[1, 9, 8], &[1, 2, 3]), place, |at| at == 1));
        assert_eq!((agreement.places(), agreement.ties()), (3, 1));
        assert_eq!(agreement.differing(), 0);
        // The same once more is the same place.
        agreement.answer((&[1, 9, 8], &[1, 2, 3]), place, |at| at == 1);
        assert_eq!(agreement.ties(), 1);
        assert!(!agreement.answer((&[1, 2], &[1, 2, 3]), place, |_| true));
        assert_eq!(agreement.differing(), 1);
    }
}
