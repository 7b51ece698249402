//! Trains a built-in model once and keeps it: whole or not at all, also when several want it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use hexloop_agent::guardian::Guardian;
use hexloop_agent::undo::Undo;
use hexloop_workloads::engine::train::exits::{CheckpointExits, ExitReport};
use hexloop_workloads::engine::train::{TrainingProgress, adapters, exits, train, vision};
use hexloop_workloads::engine::{EngineError, recipe_cache};
use hexloop_workloads::recipe::Recipe;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::oneshot;

use super::interrupt::Interrupt;
use super::training_energy::{TrainingMeter, keep};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::tell::tell;

/// Where a trained model is to be.
#[derive(Debug, Clone)]
pub(crate) struct TrainingPlace {
    /// Its directory.
    pub(crate) directory: PathBuf,
}

/// A runtime for one thing at a time on this thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_fail(ExitCode::Failed, || {
            "cannot start the asynchronous runtime".to_owned()
        })
}

/// [`ensure`] outside of a run, with a guardian of its own.
pub(crate) fn ensure_alone(
    recipe: &Recipe,
    place: &TrainingPlace,
    state: &Path,
    quiet: bool,
) -> Result<PathBuf, Failure> {
    if recipe_cache::is_complete(&place.directory) {
        return Ok(place.directory.clone());
    }
    let guardian = Guardian::start(state, "model").or_fail(ExitCode::Preflight, || {
        "cannot guard the training".to_owned()
    })?;
    let runtime = runtime()?;
    let trained = runtime.block_on(async {
        let mut interrupt =
            Interrupt::catch().or_fail(ExitCode::Failed, || "cannot catch signals".to_owned())?;
        ensure(recipe, place, &guardian, quiet, &mut interrupt).await
    });
    let finished = guardian.finish();
    let directory = trained?;
    finished.or_fail(ExitCode::Dirty, || {
        "cannot clean up after the training".to_owned()
    })?;
    Ok(directory)
}

/// The directory of a recipe's model, trained now if it is not there.
pub(crate) async fn ensure(
    recipe: &Recipe,
    place: &TrainingPlace,
    guardian: &Guardian,
    quiet: bool,
    interrupt: &mut Interrupt,
) -> Result<PathBuf, Failure> {
    let directory = std::path::absolute(&place.directory).or_fail(ExitCode::Usage, || {
        format!("{} is no path", place.directory.display())
    })?;
    if recipe_cache::is_complete(&directory) {
        return Ok(directory);
    }
    let temporary = temporary_beside(&directory);
    let doing = || {
        format!(
            "cannot make a directory for the model beside {}",
            directory.display()
        )
    };
    let parent = directory.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .create(parent)
        .or_fail(ExitCode::Preflight, doing)
        .map_err(|failure| failure.remedy("make it writable, or set HEXLOOP_CACHE_DIRECTORY"))?;
    let note = guardian
        .record(Undo::RemoveDirectory {
            path: temporary.clone(),
        })
        .or_fail(ExitCode::Preflight, doing)?;
    DirBuilder::new()
        .create(&temporary)
        .or_fail(ExitCode::Preflight, doing)?;
    let outcome = train_in_thread(recipe, &temporary, quiet, interrupt).await;
    let installed = outcome.and_then(|()| {
        recipe_cache::install(&temporary, &directory).or_fail(ExitCode::Failed, || {
            "cannot keep the trained model".to_owned()
        })
    });
    if installed.is_err() && fs::remove_dir_all(&temporary).is_err() {
        // The guardian takes it away when this process ends.
        return installed.map(|()| directory);
    }
    guardian.done(note).or_fail(ExitCode::Failed, doing)?;
    installed.map(|()| directory)
}

fn temporary_beside(directory: &Path) -> PathBuf {
    let name = directory
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = format!(
        ".{}.{}.partial",
        name.unwrap_or_default(),
        std::process::id()
    );
    directory.with_file_name(name)
}

/// Trains the early exits of a recipe's trained model, if its directory does not hold those of its weights, whose
/// hash is given.
pub(crate) async fn ensure_exits(
    recipe: &Recipe,
    (directory, weights_sha256): (&Path, &str),
    quiet: bool,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    if exits::is_current(recipe, directory, weights_sha256) {
        return Ok(());
    }
    let (recipe, directory) = (recipe.clone(), directory.to_owned());
    let mut bar = TrainingBar::new(&exits::recipe_of(&recipe), quiet);
    in_thread(interrupt, move || {
        let outcome = exits::train_exits(&recipe, &directory, &mut |progress| bar.show(&progress));
        bar.end();
        outcome.map(drop)
    })
    .await
}

/// Trains the vision encoder of a recipe's trained model, if its directory does not hold it.
pub(crate) async fn ensure_vision(
    recipe: &Recipe,
    directory: &Path,
    quiet: bool,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    if vision::is_current(recipe, directory) {
        return Ok(());
    }
    let (recipe, directory) = (recipe.clone(), directory.to_owned());
    let mut bar = TrainingBar::new(&vision::recipe_of(&recipe), quiet);
    in_thread(interrupt, move || {
        let outcome =
            vision::train_vision(&recipe, &directory, &mut |progress| bar.show(&progress));
        bar.end();
        outcome.map(drop)
    })
    .await
}

/// Trains the adapters for some tasks of a recipe's trained model that its directory does not hold.
pub(crate) async fn ensure_adapters(
    recipe: &Recipe,
    (directory, tasks): (&Path, &BTreeSet<String>),
    quiet: bool,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    for task in tasks {
        if adapters::is_current(recipe, directory, task) {
            continue;
        }
        let (recipe, directory, task) = (recipe.clone(), directory.to_owned(), task.clone());
        let mut bar = TrainingBar::new(&adapters::recipe_of(&recipe, &task), quiet);
        in_thread(interrupt, move || {
            let place = (directory.as_path(), task.as_str());
            let outcome =
                adapters::train_adapter(&recipe, place, &mut |progress| bar.show(&progress));
            bar.end();
            outcome.map(drop)
        })
        .await?;
    }
    Ok(())
}

/// Trains the early exits of a user's checkpoint.
pub(crate) fn train_exits_alone(
    wanted: CheckpointExits,
    quiet: bool,
) -> Result<ExitReport, Failure> {
    let mut bar = TrainingBar::new(wanted.recipe(), quiet);
    runtime()?.block_on(async {
        let mut interrupt =
            Interrupt::catch().or_fail(ExitCode::Failed, || "cannot catch signals".to_owned())?;
        in_thread(&mut interrupt, move || {
            let outcome = wanted.train(&mut |progress| bar.show(&progress));
            bar.end();
            outcome
        })
        .await
    })
}

async fn train_in_thread(
    recipe: &Recipe,
    temporary: &Path,
    quiet: bool,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    let (recipe, temporary) = (recipe.clone(), temporary.to_owned());
    let mut bar = TrainingBar::new(&recipe, quiet);
    in_thread(interrupt, move || {
        let mut meter = TrainingMeter::begin();
        let outcome = train(&recipe, &temporary, &mut |progress| {
            meter.step(&progress);
            bar.show(&progress);
        });
        bar.end();
        let energy = meter.finish();
        if outcome.is_ok() && !quiet {
            // `hexloop model info` and the reports of runs tell the rest.
            energy.lines().iter().take(1).for_each(|line| tell(&line));
        }
        // The model is whole without it: a full disk shows where its own files are written.
        let _ = keep(&energy, &temporary);
        outcome.map(drop)
    })
    .await
}

/// Trains in a thread of its own, which is left behind when a signal ends this process.
async fn in_thread<T: Send + 'static>(
    interrupt: &mut Interrupt,
    training: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, Failure> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("hx-training".to_owned())
        .spawn(move || {
            // A receiver that is gone has been interrupted.
            let _ = done.send(training());
        })
        .or_fail(ExitCode::Failed, || {
            "cannot start a thread for training".to_owned()
        })?;
    tokio::select! {
        outcome = result => trained(outcome),
        why = interrupt.wait() => {
            Err(Failure::message(ExitCode::Interrupted, format!("training was stopped: {why}")))
        }
    }
}

fn trained<T>(
    outcome: Result<Result<T, EngineError>, oneshot::error::RecvError>,
) -> Result<T, Failure> {
    let doing = || "cannot train the model".to_owned();
    match outcome {
        Ok(outcome) => outcome.or_fail(ExitCode::Failed, doing),
        Err(error) => Err(error).or_fail(ExitCode::Failed, doing),
    }
}

/// How far the training is: a bar on a terminal, else a line for each tenth.
struct TrainingBar {
    bar: ProgressBar,
    lines: bool,
    name: String,
    tenth: u32,
}

impl TrainingBar {
    fn new(recipe: &Recipe, quiet: bool) -> TrainingBar {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let target = if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(u64::from(recipe.steps)), target);
        let template = "training {prefix} (once) [{bar:32}] {percent:>3} %  {msg}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(recipe.name.clone());
        let lines = !terminal && !quiet;
        if lines {
            tell(&format_args!("training the model {} once", recipe.name));
        }
        TrainingBar {
            bar,
            lines,
            name: recipe.name.clone(),
            tenth: 0,
        }
    }

    fn show(&mut self, progress: &TrainingProgress) {
        self.bar.set_position(u64::from(progress.step));
        self.bar.set_message(format!("loss {:.3}", progress.loss));
        let tenth = progress.step * 10 / progress.steps.max(1);
        if self.lines && tenth > self.tenth {
            self.tenth = tenth;
            tell(&format_args!(
                "training {}: {} %, loss {:.3}",
                self.name,
                tenth * 10,
                progress.loss
            ));
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
