//! What comes out of drafts and their verification is distributed as the large model has it.

use super::*;

/// Tokens that are drawn.
const TOKENS: u32 = 120_000;

/// A vocabulary small enough to count every token after every other.
const VOCABULARY: usize = 6;

/// The 99.9th percentile of chi-square with 30 degrees of freedom: five for each of six contexts.
const CHI_SQUARE_999: f64 = 59.703;

fn index(token: u32) -> usize {
    usize::try_from(token).unwrap()
}

/// The distribution of a model in which a token depends on the one before: arbitrary, some probabilities
/// tiny, and one of them zero in the draft where the target has it.
fn model(context: u32, is_draft: bool) -> Distribution {
    let weight = |token: u16| {
        let context = u16::try_from(context).unwrap();
        let mixed = (context * 7 + token * 5 + 3) % 11;
        let target = f32::from(mixed * mixed + 1);
        match (is_draft, (context + token) % 6) {
            (true, 0) => 0.0,
            (true, other) => target + 20.0 * f32::from(other),
            (false, _) => target,
        }
    };
    Distribution::of_weights((0..6).map(weight).collect()).unwrap()
}

/// Makes tokens by drafts; `told` is what the verifier is told of the distribution that each was drawn
/// from. Returns how often each token came after each other, and how many drafts there were.
fn speculate(
    length: u32,
    drawn_from: impl Fn(u32) -> Distribution,
    told: impl Fn(u32) -> Distribution,
) -> ([[u32; VOCABULARY]; VOCABULARY], u32) {
    let chance = Chance::new(7);
    let mut counts = [[0; VOCABULARY]; VOCABULARY];
    let (mut last, mut position, mut rounds) = (0, 0, 0);
    while position < TOKENS {
        let mut context = last;
        let mut drafted = Vec::new();
        for at in position..position + length {
            let token = drawn_from(context).draw(chance.unit(Purpose::Draft, at));
            drafted.push((token, told(context)));
            context = token;
        }
        let contexts = std::iter::once(last).chain(drafted.iter().map(|(token, _)| *token));
        let own: Vec<Distribution> = contexts.map(|context| model(context, false)).collect();
        let (accepted, next) = verify(&own, &drafted, (chance, position)).unwrap();
        let tokens = drafted[..index(accepted)].iter().map(|(token, _)| *token);
        for token in tokens.chain([next]) {
            counts[index(last)][index(token)] += 1;
            last = token;
            position += 1;
        }
        rounds += 1;
    }
    (counts, rounds)
}

/// Pearson's statistic of the tokens after each other one, against the target.
fn chi_square(counts: &[[u32; VOCABULARY]; VOCABULARY]) -> f64 {
    let of_context = |(context, row): (u32, &[u32; VOCABULARY])| {
        let total: f64 = row.iter().map(|count| f64::from(*count)).sum();
        let own = model(context, false);
        let of_token = |(token, count): (u32, &u32)| {
            let expected = total * own.probability(token);
            let off = f64::from(*count) - expected;
            off * off / expected
        };
        (0..).zip(row).map(of_token).sum::<f64>()
    };
    (0..).zip(counts).map(of_context).sum()
}

#[test]
fn tokens_are_distributed_as_the_target_whatever_the_draft_and_its_length() {
    let draft = |context| model(context, true);
    let top = |context| model(context, true).top(2);
    for length in [1, 3, 8] {
        let (counts, rounds) = speculate(length, draft, draft);
        let found = chi_square(&counts);
        assert!(found < CHI_SQUARE_999, "{length} drafts: {found}");
        // Some drafts were accepted and some were not, or nothing would have been tested.
        let per_round = f64::from(TOKENS) / f64::from(rounds);
        assert!(
            (1.3..3.5).contains(&per_round),
            "{per_round} tokens per round"
        );
        let (counts, _) = speculate(length, top, top);
        let found = chi_square(&counts);
        assert!(found < CHI_SQUARE_999, "{length} drafts of two: {found}");
    }
}

#[test]
fn a_verifier_that_is_told_another_distribution_than_the_draft_s_makes_other_tokens() {
    let draft = |context| model(context, true);
    // What a verifier assumes that knows nothing of renormalising the most probable ones.
    let (counts, _) = speculate(3, |context| draft(context).top(2), draft);
    let found = chi_square(&counts);
    assert!(found > 10.0 * CHI_SQUARE_999, "{found}");
    let uniform = |_| Distribution::of_weights(vec![1.0; VOCABULARY]).unwrap();
    let (counts, _) = speculate(3, draft, uniform);
    let found = chi_square(&counts);
    assert!(found > 10.0 * CHI_SQUARE_999, "{found}");
}

#[test]
fn a_draw_depends_on_seed_purpose_and_position_alone() {
    let chance = Chance::new(3);
    let unit = chance.unit(Purpose::Draft, 17);
    let others = [
        chance.unit(Purpose::Draft, 18),
        chance.unit(Purpose::Accept, 17),
        Chance::new(4).unit(Purpose::Draft, 17),
    ];
    assert!(others.iter().all(|other| (other - unit).abs() > 1e-9));
    let again = chance.unit(Purpose::Draft, 17);
    assert!((again - unit).abs() < f64::EPSILON);
}

#[test]
fn weights_that_are_no_distribution_are_refused() {
    for weights in [vec![], vec![0.0, 0.0], vec![1.0, -1.0], vec![f32::NAN, 1.0]] {
        assert_eq!(Distribution::of_weights(weights), None);
    }
    assert_eq!(Distribution::of_scores(&[f32::NAN, 0.0]), None);
    assert_eq!(Distribution::of_scores(&[f32::NEG_INFINITY]), None);
    assert_eq!(Distribution::of_scores(&[]), None);
}

#[test]
fn the_most_probable_tokens_keep_their_proportions_and_equals_the_lowest_ids() {
    let all = Distribution::of_weights(vec![0.2, 0.4, 0.2, 0.2]).unwrap();
    let top = all.top(2);
    assert_eq!(all.most_probable(2), [0, 1]);
    assert!((top.probability(1) - 2.0 / 3.0).abs() < 1e-7);
    assert!(top.probability(2) < f64::EPSILON);
    assert!((all.overlap(&top) - 0.6).abs() < 1e-7);
    assert_eq!(all.most_probable(9), [0, 1, 2, 3]);
}

#[test]
fn as_many_distributions_as_drafts_and_one_more_are_needed() {
    let one = || Distribution::of_weights(vec![1.0]).unwrap();
    let at = (Chance::new(1), 0);
    assert_eq!(verify(&[], &[], at), None);
    assert_eq!(verify(&[one()], &[(0, one())], at), None);
    assert_eq!(verify(&[one(), one()], &[(0, one())], at), Some((1, 0)));
}
