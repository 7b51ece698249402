//! Which parts of which models the processes of a study hold.

use std::path::Path;

use crate::engine::Parts;
use crate::serve::error::JobError;
use crate::serve::part::{Part, Source};
use crate::study::{StudyJobSpec, StudySpec};

fn source<'a>(spec: &StudyJobSpec, directory: &'a Path) -> Source<'a> {
    Source {
        directory,
        threads: spec.threads,
        compute: spec.compute,
        slowdown: spec.slowdown,
    }
}

/// The layers that a node of the path needs for the arms of a study.
pub(super) fn layers_at(
    spec: &StudyJobSpec,
    study: &StudySpec,
    place: u32,
) -> Result<Part, JobError> {
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    Part::open(source(spec, &spec.model_directory), |layers| {
        study.check(layers)?;
        let (range, head) = study.layers_of(place, layers);
        // A stage that has the whole model begins with the prompt's tokens, as the driver does.
        let embedding = place == 0 || range == (0..layers);
        Ok((range, Parts { embedding, head }))
    })
}

/// All of the large model.
pub(super) fn large(spec: &StudyJobSpec) -> Result<Part, JobError> {
    whole(spec, &spec.model_directory)
}

/// Nothing of the large model but what tells it from others.
pub(super) fn large_by_name(spec: &StudyJobSpec) -> Result<Part, JobError> {
    let nothing = Parts {
        embedding: false,
        head: false,
    };
    Part::open(source(spec, &spec.model_directory), |_| Ok((0..0, nothing)))
}

/// All of the small model.
pub(super) fn small(spec: &StudyJobSpec) -> Result<Part, JobError> {
    let directory = spec.draft_directory.as_deref();
    let directory = directory.ok_or_else(|| JobError::Spec {
        why: "a small model is to answer or to draft, and no second model is given".to_owned(),
    })?;
    whole(spec, directory)
}

fn whole(spec: &StudyJobSpec, directory: &Path) -> Result<Part, JobError> {
    let parts = Parts {
        embedding: true,
        head: true,
    };
    Part::open(source(spec, directory), |layers| Ok((0..layers, parts)))
}
