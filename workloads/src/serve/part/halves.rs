//! Requests that pass through half of every layer here and through the other half elsewhere.

use super::Part;
use crate::clock;
use crate::coding::Coding;
use crate::engine::{EngineError, Half, HalfPass, Hidden, KeyValueCache, StateCoder};
use crate::serve::error::JobError;
use crate::study::tensor_parallel::SUMS_OF_LAYER;

/// A request of which one half is here.
pub(in crate::serve) struct HalfRequest {
    half: Half,
    coding: Coding,
    cache: KeyValueCache,
    /// Of each sum, how its part that is made here and the other's are coded.
    coders: Vec<[StateCoder; 2]>,
    /// The tokens that are passing, and the part that this half has made last, as the other half reads it.
    passing: Option<(HalfPass, Hidden)>,
    /// How long it was computed here, the slowdown included.
    busy_ns: u64,
}

/// What a step leads to.
pub(in crate::serve) enum Step {
    /// A part of the sum of that number, coded: it is to be exchanged for the other half's.
    Part(u32, Vec<u8>),
    /// The states behind the last layer.
    Through(Hidden),
}

impl HalfRequest {
    /// Positions that have passed.
    pub(in crate::serve) const fn positions(&self) -> u32 {
        self.cache.positions()
    }

    /// How the parts of its sums cross the link.
    pub(in crate::serve) const fn coding(&self) -> Coding {
        self.coding
    }

    /// Which of the sums is awaited, and of how many tokens; `None` where none is.
    pub(in crate::serve) fn awaits(&self) -> Option<(u32, u32)> {
        let (pass, _) = self.passing.as_ref()?;
        Some((pass.sums(), pass.tokens()))
    }

    /// How long it was computed here since this was last asked.
    pub(in crate::serve) const fn take_busy_ns(&mut self) -> u64 {
        let busy_ns = self.busy_ns;
        self.busy_ns = 0;
        busy_ns
    }

    /// Forgets the positions from `position` on.
    pub(in crate::serve) fn truncate(&mut self, position: u32) {
        self.cache.truncate(position);
    }
}

impl Part {
    /// A request that nothing has passed of.
    pub(in crate::serve) fn half_request(&self, coding: Coding) -> Result<HalfRequest, JobError> {
        let half = self.model.half().map_err(self.failed())?;
        let coders = (0..SUMS_OF_LAYER * self.all_layers())
            .map(|_| Ok([self.state_coder(coding)?, self.state_coder(coding)?]));
        Ok(HalfRequest {
            half,
            coding,
            cache: self.new_cache(),
            coders: coders.collect::<Result<_, JobError>>()?,
            passing: None,
            busy_ns: 0,
        })
    }

    /// Lets tokens begin to pass: the first part of a sum.
    pub(in crate::serve) fn begin_halves(
        &self,
        request: &mut HalfRequest,
        tokens: &[u32],
    ) -> Result<Step, JobError> {
        let began = clock::now();
        let step = self.pace.run(|| {
            let states = self.model.embed(tokens)?;
            let pass = self.model.begin_half(&states, &request.cache)?;
            self.step(request, pass)
        });
        request.busy_ns += clock::now().saturating_sub(began);
        step.map_err(self.failed())
    }

    /// Adds the other half's part of the sum that is awaited, as it came over the link, and goes on; what is
    /// wrong with it in words.
    pub(in crate::serve) fn add_half(
        &self,
        request: &mut HalfRequest,
        theirs: &[u8],
    ) -> Result<Step, String> {
        let Some((mut pass, own)) = request.passing.take() else {
            return Err("no part of a sum is awaited".to_owned());
        };
        let began = clock::now();
        let step = self.pace.run(|| {
            let place = usize::try_from(pass.sums()).unwrap_or(usize::MAX);
            let missing = EngineError::MissingPart { piece: "sum" };
            let [_, coder] = request.coders.get_mut(place).ok_or(missing)?;
            let theirs = coder.decode(theirs)?;
            let both = match request.half {
                Half::First => [&own, &theirs],
                Half::Second => [&theirs, &own],
            };
            self.model.half_add(&mut pass, both, &mut request.cache)?;
            self.step(request, pass)
        });
        request.busy_ns += clock::now().saturating_sub(began);
        step.map_err(|error: EngineError| error.to_string())
    }

    fn step(&self, request: &mut HalfRequest, pass: HalfPass) -> Result<Step, EngineError> {
        let part = self.model.half_partial(&pass, &mut request.cache)?;
        self.compute.wait()?;
        let Some(part) = part else {
            return Ok(Step::Through(pass.states()));
        };
        let sum = pass.sums();
        let place = usize::try_from(sum).unwrap_or(usize::MAX);
        let missing = EngineError::MissingPart { piece: "sum" };
        let [coder, _] = request.coders.get_mut(place).ok_or(missing)?;
        // What a coding loses is lost in both nodes, or they would go on from different states.
        let mut other_end = coder.clone();
        let coded = coder.encode(&part)?.into_vec();
        let part = match request.coding.is_exact() {
            true => part,
            false => other_end.decode(&coded)?,
        };
        request.passing = Some((pass, part));
        Ok(Step::Part(sum, coded))
    }

    /// Carries states through the half layers as if the other half were as this one.
    pub(super) fn pass_alone(
        &self,
        states: &Hidden,
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, EngineError> {
        let mut pass = self.model.begin_half(states, cache)?;
        while let Some(part) = self.model.half_partial(&pass, cache)? {
            self.model.half_add(&mut pass, [&part, &part], cache)?;
        }
        Ok(pass.states())
    }

    /// The token that follows, and whether another is as good within what sums of halves may be off.
    pub(in crate::serve) fn next_token_or_tie(
        &self,
        states: &Hidden,
    ) -> Result<(u32, bool), JobError> {
        let next = || self.model.next_token_or_tie(states);
        self.pace.run(next).map_err(self.failed())
    }
}
