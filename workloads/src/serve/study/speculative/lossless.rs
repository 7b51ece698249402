//! What drafter and verifier make together is distributed as the large model has it, and is not where the verifier
//! is told of another distribution than a draft was drawn from.

use super::body::{Opening, Task, decode_draft, encode_draft};
use super::drafter::Drafter;
use super::verifier::{Models, Request};
use crate::model_config::ModelConfig;
use crate::recipe::Recipe;
use crate::serve::study::models;
use crate::serve::tests::harness::{SmallModel, bare_study, study_spec_of_two};
use crate::study::StudyRole;
use crate::study::speculative::sampling::{Chance, Distribution};
use crate::study::speculative::{Crossing, DraftLength, Drawing, Number, Speculation};

/// Tokens that there are: few enough to count every answer.
const VOCABULARY: u32 = 4;

/// Tokens of an answer: drafts of two are followed by others, where all are accepted and where not.
const OUTPUT: u32 = 4;

/// Answers of which there are 100000 tokens.
const ANSWERS: u32 = 25_000;

/// Answers by ways that are not the first of their kind, and by wrong ones, which show soon.
const FEWER_ANSWERS: u32 = 6_250;

/// Where the standard normal distribution has a probability of 1e-4 above it.
const DEVIATE: f64 = 3.719;

/// Fewest expected answers that a cell of the table is judged by; those with fewer share one.
const LEAST_EXPECTED: f64 = 5.0;

const PROMPT: [u32; 2] = [1, 3];

/// Two models of one layer with random weights.
fn models() -> Models {
    let shape = ModelConfig {
        layers: 1,
        width: 32,
        heads: 2,
        kv_heads: 1,
        head_width: 16,
        feed_forward: 32,
        vocabulary: VOCABULARY,
        max_positions: 16,
        tie_embeddings: false,
        ..Recipe::by_name("micro").unwrap().config
    };
    let [large, small] = [1, 2].map(|seed| SmallModel::of_shape(&shape, seed));
    let role = StudyRole::Driver {
        study: bare_study(),
        prompt_seeds: Vec::new(),
        next: None,
    };
    let spec = study_spec_of_two(&large, &small, role);
    Models {
        large: models::large(&spec).unwrap(),
        small: models::small(&spec).unwrap(),
    }
}

/// How an answer's tokens number it.
fn number(answer: &[u32]) -> usize {
    let number = answer.iter().fold(0, |sum, token| sum * VOCABULARY + token);
    usize::try_from(number).unwrap()
}

/// How probable the large model makes each answer, by its number.
fn target(models: &Models) -> Vec<f64> {
    let mut answers = vec![(PROMPT.to_vec(), 1.0_f64)];
    for _ in 0..OUTPUT {
        let longer = answers.iter().flat_map(|(before, probable)| {
            let mut cache = models.large.new_cache();
            let states = models.large.carry_tokens(before, &mut cache).unwrap();
            let next = models.large.distributions(&states).unwrap().pop().unwrap();
            let with = |token| {
                (
                    [&before[..], &[token]].concat(),
                    probable * next.probability(token),
                )
            };
            (0..VOCABULARY).map(with).collect::<Vec<_>>()
        });
        answers = longer.collect();
    }
    answers.into_iter().map(|(_, probable)| probable).collect()
}

/// How drafts are made, and what the verifier is told of them.
struct Way<Told> {
    length: u32,
    drawn: Crossing,
    crosses: Crossing,
    told: Told,
}

/// Answers so often by drafts, as driver and stage do: each crosses as the bytes that go on the link. Returns how
/// often each answer came, and how many of all drafted tokens were accepted.
fn speculate(
    models: &Models,
    answers: u32,
    way: &Way<impl Fn(Option<Distribution>) -> Option<Distribution>>,
) -> (Vec<u32>, f64) {
    let speculation = Speculation {
        drawing: Drawing::Sampled,
        crossing: way.drawn,
        length: DraftLength::Fixed(way.length),
    };
    let mut counts = vec![0; usize::try_from(VOCABULARY.pow(OUTPUT)).unwrap()];
    let (mut drafted, mut accepted) = (0, 0);
    for seed in 0..u64::from(answers) {
        let opening = Opening {
            drawing: Drawing::Sampled,
            task: Task::Verify(way.crosses),
            output: OUTPUT,
            seed,
        };
        let mut request = Request::open(models, opening, &PROMPT).unwrap();
        let drafter = Drafter::new(&models.small, &PROMPT);
        let drawn = (&speculation, Chance::new(seed));
        let (tokens, rounds) = drafter
            .answer(OUTPUT, drawn, |draft| {
                let tokens = draft.tokens.iter().cloned();
                let told: Vec<_> = tokens
                    .map(|(token, from)| (token, (way.told)(from)))
                    .collect();
                let body = encode_draft(&told, way.crosses);
                let read = decode_draft(&body, way.crosses, VOCABULARY).unwrap();
                assert_eq!(request.position(), draft.position);
                request.verify(models, &read)
            })
            .unwrap();
        counts[number(&tokens)] += 1;
        drafted += rounds.iter().map(|round| round.drafted).sum::<u32>();
        accepted += rounds.iter().map(|round| round.accepted).sum::<u32>();
    }
    (counts, f64::from(accepted) / f64::from(drafted.max(1)))
}

/// Pearson's statistic of how often each answer came, over the one that chance exceeds once in 10000 tables
/// (Wilson and Hilferty, "The distribution of chi-square", 1931).
fn chi_square_over_bound(counts: &[u32], probable: &[f64]) -> f64 {
    let answers = f64::from(counts.iter().sum::<u32>());
    let cells = counts.iter().zip(probable);
    let cells = cells.map(|(count, probable)| (f64::from(*count), answers * probable));
    let (judged, rare): (Vec<_>, Vec<_>) =
        cells.partition(|(_, expected)| *expected >= LEAST_EXPECTED);
    let rare = rare
        .into_iter()
        .fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
    // Few answers that are rare all together would make a cell that one of them decides.
    let judged = judged
        .into_iter()
        .chain((rare.1 >= LEAST_EXPECTED).then_some(rare));
    let of_cell = |(count, expected): (f64, f64)| (count - expected).powi(2) / expected;
    let terms: Vec<f64> = judged.map(of_cell).collect();
    assert!(terms.len() > 64, "{} cells", terms.len());
    let freedom = f64::from(u32::try_from(terms.len() - 1).unwrap());
    let spread = 2.0 / (9.0 * freedom);
    let bound = freedom * (1.0 - spread + DEVIATE * spread.sqrt()).powi(3);
    terms.iter().sum::<f64>() / bound
}

fn is_lossless(length: u32, crossing: Crossing, answers: u32) {
    let models = models();
    let way = Way {
        length,
        drawn: crossing,
        crosses: crossing,
        told: |from| from,
    };
    let (counts, accepted) = speculate(&models, answers, &way);
    let found = chi_square_over_bound(&counts, &target(&models));
    assert!(found < 1.0, "{found} of the bound");
    // Both happened, or nothing would have been tested.
    assert!(length == 0 || (0.1..0.95).contains(&accepted), "{accepted}");
}

#[test]
fn the_large_model_alone_draws_answers_as_often_as_they_are_probable() {
    is_lossless(0, Crossing::Ids, FEWER_ANSWERS);
}

#[test]
fn drafts_whose_distribution_the_edge_computes_again_leave_answers_as_frequent() {
    is_lossless(2, Crossing::Ids, ANSWERS);
}

#[test]
fn drafts_whose_whole_distributions_cross_leave_answers_as_frequent() {
    is_lossless(2, Crossing::Distributions(Number::F32), ANSWERS);
}

#[test]
fn drafts_whose_distributions_cross_in_two_bytes_leave_answers_as_frequent() {
    is_lossless(2, Crossing::Distributions(Number::F16), FEWER_ANSWERS);
}

#[test]
fn drafts_of_the_most_probable_tokens_alone_leave_answers_as_frequent() {
    is_lossless(2, Crossing::TopK(2), FEWER_ANSWERS);
}

#[test]
fn a_verifier_that_is_told_of_another_distribution_makes_other_answers() {
    let models = models();
    let target = target(&models);
    // The edge computes again what is probable of all tokens, where drafts are of the two most probable ones.
    let renormalised = Way {
        length: 2,
        drawn: Crossing::TopK(2),
        crosses: Crossing::Ids,
        told: |_| None,
    };
    let (counts, _) = speculate(&models, FEWER_ANSWERS, &renormalised);
    let found = chi_square_over_bound(&counts, &target);
    assert!(found > 2.0, "{found} of the bound");
    // Every token is said to have been as probable as any other.
    let everything = Crossing::Distributions(Number::F32);
    let uniform = Way {
        length: 2,
        drawn: everything,
        crosses: everything,
        told: |_| Distribution::of_weights(vec![1.0; 4]),
    };
    let (counts, _) = speculate(&models, FEWER_ANSWERS, &uniform);
    let found = chi_square_over_bound(&counts, &target);
    assert!(found > 2.0, "{found} of the bound");
}
