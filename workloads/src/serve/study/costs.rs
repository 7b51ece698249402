//! What computing costs on a node: measured beside the trials, pass by pass with a pause in front of
//! each, because that is how a node computes while answers cross a link: its caches have grown cold.

use std::ops::Range;

use crate::clock;
use crate::coding::Coding;
use crate::engine::{Hidden, KeyValueCache};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::part::Step;
use crate::study::NodeCosts;
use crate::study::tensor_parallel::{HalfCosts, SUMS_OF_LAYER};

/// Passes that each median is over.
const PASSES: u32 = 9;

/// Passes before those, which are not counted.
const WARM_PASSES: u32 = 1;

/// Time without work in front of a pass.
const PAUSE_NS: u64 = 12_000_000;

/// Measures a part at a position of its sequences. The cost of a layer is what the layers of the
/// part add to those of `few`, its first ones: whatever else a pass costs cancels.
pub(super) fn measure(
    part: &Part,
    few: Range<u32>,
    has_head: bool,
    position: u32,
) -> Result<NodeCosts, JobError> {
    let all = part.layers();
    let states = |tokens: u32| {
        let count = u64::from(tokens) * u64::from(part.width());
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        part.hidden_of(vec![0.25; count])
    };
    let (earlier, one) = (states(position.max(1))?, states(1)?);
    let filled = |layers: Range<u32>| {
        let mut cache = part.new_cache_of(layers.clone());
        part.carry_hidden_through(layers, &earlier, &mut cache)?;
        Ok::<_, JobError>(cache)
    };
    let mut of_few = Timed::new(few.clone(), filled(few.clone())?);
    let mut of_all = Timed::new(all.clone(), filled(all.clone())?);
    let mut heads = Vec::new();
    for pass in 0..WARM_PASSES + PASSES {
        of_few.pass(part, &one)?;
        of_all.pass(part, &one)?;
        if has_head {
            pause();
            let began = clock::now();
            part.next_token(&one)?;
            heads.push(clock::now().saturating_sub(began));
        }
        if pass + 1 == WARM_PASSES {
            of_few.times.clear();
            of_all.times.clear();
            heads.clear();
        }
    }
    let layers = |range: &Range<u32>| u64::from(range.end.saturating_sub(range.start));
    let (few_layers, all_layers) = (layers(&few), layers(&all));
    let (few_ns, all_ns) = (median(&mut of_few.times), median(&mut of_all.times));
    let layer_ns = if all_layers > few_layers {
        all_ns.saturating_sub(few_ns) / (all_layers - few_layers)
    } else {
        all_ns / all_layers.max(1)
    };
    Ok(NodeCosts {
        layer_ns,
        fixed_ns: all_ns.saturating_sub(layer_ns * all_layers),
        head_ns: has_head.then(|| median(&mut heads)),
        passes: PASSES,
    })
}

/// Passes through some layers.
struct Timed {
    layers: Range<u32>,
    cache: KeyValueCache,
    times: Vec<u64>,
}

impl Timed {
    const fn new(layers: Range<u32>, cache: KeyValueCache) -> Timed {
        Timed {
            layers,
            cache,
            times: Vec::new(),
        }
    }

    fn pass(&mut self, part: &Part, one: &Hidden) -> Result<(), JobError> {
        let position = self.cache.positions();
        pause();
        let began = clock::now();
        part.carry_hidden_through(self.layers.clone(), one, &mut self.cache)?;
        self.times.push(clock::now().saturating_sub(began));
        self.cache.truncate(position);
        Ok(())
    }
}

fn pause() {
    clock::sleep_until(clock::now().saturating_add(PAUSE_NS));
}

/// Time without work in front of half a part of a layer: about as long as the other half's part takes to come.
const HALF_PAUSE_NS: u64 = 1_500_000;

/// Measures halves of layers at a position, one part after the other with a pause in front of each, as a node
/// computes them that waits for the other half in between.
pub(super) fn measure_halves(part: &Part, position: u32) -> Result<HalfCosts, JobError> {
    let failed = |why: String| JobError::Spec { why };
    let count = usize::try_from(position.max(1)).unwrap_or(usize::MAX);
    let mut request = part.half_request(Coding::F32)?;
    let mut step = part.begin_halves(&mut request, &vec![0; count])?;
    while let Step::Part(_, own) = step {
        step = part.add_half(&mut request, &own).map_err(failed)?;
    }
    let filled = request.positions();
    let [mut attention, mut feed_forward] = [Vec::new(), Vec::new()];
    for pass in 0..WARM_PASSES + PASSES {
        request.truncate(filled);
        request.take_busy_ns();
        let mut step = part.begin_halves(&mut request, &[0])?;
        while let Step::Part(sum, own) = step {
            let of_part = match sum.is_multiple_of(SUMS_OF_LAYER) {
                true => &mut attention,
                false => &mut feed_forward,
            };
            let busy_ns = request.take_busy_ns();
            if pass >= WARM_PASSES {
                of_part.push(busy_ns);
            }
            clock::sleep_until(clock::now().saturating_add(HALF_PAUSE_NS));
            step = part.add_half(&mut request, &own).map_err(failed)?;
        }
    }
    Ok(HalfCosts {
        attention_ns: median(&mut attention),
        feed_forward_ns: median(&mut feed_forward),
        passes: PASSES,
    })
}

/// The middle of some times; 0 of none.
pub(super) fn median(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}
