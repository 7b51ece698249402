//! Which parts of which models the processes of a study hold.

use std::path::Path;

use crate::engine::{Half, Parts};
use crate::serve::error::JobError;
use crate::serve::part::{Part, Source};
use crate::study::placement::{Weights, weights_at};
use crate::study::{Arm, StudyJobSpec, StudySpec, Technique};

fn source<'a>(spec: &StudyJobSpec, directory: &'a Path) -> Source<'a> {
    Source {
        directory,
        threads: spec.threads,
        compute: spec.compute,
        slowdown: spec.slowdown,
        weights: Weights::Full,
        half: None,
    }
}

const NOTHING: Parts = Parts {
    embedding: false,
    head: false,
};
const EVERYTHING: Parts = Parts {
    embedding: true,
    head: true,
};

/// The layers that a node of the path needs for the arms of a study.
pub(super) fn layers_at(
    spec: &StudyJobSpec,
    study: &StudySpec,
    place: u32,
) -> Result<Part, JobError> {
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    Part::open(source(spec, &spec.model_directory), |layers| {
        study.check(layers)?;
        if matches!(
            study.technique(),
            Technique::Placement | Technique::Convolutional
        ) {
            // What answers is in `Variants`, or is no language model.
            return Ok((0..0, NOTHING));
        }
        let (range, head) = study.layers_of(place, layers);
        // A stage that has the whole model begins with the prompt's tokens, as the driver does.
        let embedding = place == 0 || range == (0..layers);
        Ok((range, Parts { embedding, head }))
    })
}

/// Of U-shaped splits, the layers that the device has behind the edge's, with the head.
pub(super) fn tail(spec: &StudyJobSpec, study: &StudySpec) -> Result<Part, JobError> {
    let lasts = study.arms.iter().filter_map(|arm| match arm {
        Arm::UShaped(shape) => Some(shape.last),
        _ => None,
    });
    let first = lasts.min();
    let parts = Parts {
        embedding: false,
        head: true,
    };
    Part::open(source(spec, &spec.model_directory), |layers| {
        Ok((first.unwrap_or(layers)..layers, parts))
    })
}

/// Half of every layer; the first node's has the head.
pub(super) fn half(spec: &StudyJobSpec, place: u32) -> Result<Part, JobError> {
    let is_first = place == 0;
    let half = match is_first {
        true => Half::First,
        false => Half::Second,
    };
    let parts = Parts {
        embedding: true,
        head: is_first,
    };
    let source = Source {
        half: Some(half),
        ..source(spec, &spec.model_directory)
    };
    Part::open(source, |layers| Ok((0..layers, parts)))
}

/// All of the large model.
pub(super) fn large(spec: &StudyJobSpec) -> Result<Part, JobError> {
    whole(spec, &spec.model_directory)
}

/// Nothing of the large model but what tells it from others.
pub(super) fn large_by_name(spec: &StudyJobSpec) -> Result<Part, JobError> {
    Part::open(source(spec, &spec.model_directory), |_| Ok((0..0, NOTHING)))
}

/// All of the small model.
pub(super) fn small(spec: &StudyJobSpec) -> Result<Part, JobError> {
    let directory = spec.draft_directory.as_deref();
    let directory = directory.ok_or_else(|| JobError::Spec {
        why: "a small model is to answer or to draft, and no second model is given".to_owned(),
    })?;
    whole(spec, directory)
}

/// All of a model that has come over a link.
pub(super) fn received(spec: &StudyJobSpec, directory: &Path) -> Result<Part, JobError> {
    whole(spec, directory)
}

fn whole(spec: &StudyJobSpec, directory: &Path) -> Result<Part, JobError> {
    Part::open(source(spec, directory), |layers| {
        Ok((0..layers, EVERYTHING))
    })
}

/// The whole model in each of the weights that a node answers with.
pub(super) struct Variants(Vec<(Weights, Part)>);

impl Variants {
    /// Loads them; none where nothing is placed.
    pub(super) fn open(
        spec: &StudyJobSpec,
        study: &StudySpec,
        place: u32,
    ) -> Result<Variants, JobError> {
        let mut variants = Vec::new();
        if study.technique() != Technique::Placement {
            return Ok(Variants(variants));
        }
        for weights in weights_at(&study.arms, place) {
            let source = Source {
                weights,
                ..source(spec, &spec.model_directory)
            };
            let part = Part::open(source, |layers| Ok((0..layers, EVERYTHING)))?;
            variants.push((weights, part));
        }
        Ok(Variants(variants))
    }

    /// The model in those weights.
    pub(super) fn of(&self, weights: Weights) -> Option<&Part> {
        let mut all = self.0.iter();
        all.find(|(held, _)| *held == weights).map(|(_, part)| part)
    }

    /// What computes, `own` being what the process says without them, and how their blocks are kept where that is
    /// not as blocks.
    pub(super) fn engine_path(&self, own: String) -> String {
        let kept = self.0.iter().filter_map(|(_, part)| part.kept());
        kept.fold(own, |path, kept| format!("{path}, {kept}"))
    }

    /// Memory that they occupy.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.0.iter().map(|(_, part)| part.weight_bytes()).sum()
    }
}
