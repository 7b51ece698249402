//! `hexloop run`: the whole way from an experiment file to a report.

mod finish;
pub(super) mod preflight;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hexloop_agent::engine_cuda;
use hexloop_agent::guardian::Guardian;
use hexloop_agent::undo::Undo;
use hexloop_proto::service::{CaptureRequest, TraceFile};
use hexloop_topologies::plan::{ModelSource, Plan};
use hexloop_topologies::{Planned, ResolvedTrace, TraceContent};
use hexloop_tui::{PhaseOutline, RunOutline};
use hexloop_workloads::clock;
use hexloop_workloads::device::ComputeDevice;
use hexloop_workloads::engine::text::{self, TextTokenizer};
use hexloop_workloads::engine::train::exits::{self, ExitAgreement};
use hexloop_workloads::engine::{self, recipe_cache};
use hexloop_workloads::recipe::Recipe;
use hexloop_workloads::study::Technique;

use super::experiment::{self, Prepared};
use super::{Voice, undo};
use crate::cli::RunArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::launch::interrupt::Interrupt;
use crate::launch::metering;
use crate::launch::training::{self, TrainingPlace};
use crate::launch::training_energy;
use crate::launch::{AgentPlace, AgentProcess, Played, RunMonitor, SessionInput, play};
use crate::paths::Paths;
use crate::record::end_to_end::EndToEnd;
use crate::record::environment::{ModelOrigin, RunIdentity};
use crate::record::{Environment, RunDirectory, long_trace_path, run_name, trace_path};
use crate::tell::tell;

pub(super) fn run(arguments: &RunArguments, voice: Voice) -> Outcome {
    metering::check(&arguments.metering)?;
    let paths = Paths::of_this_user()?;
    undo::clean_up_before(&paths.state)?;
    let file = &arguments.experiment;
    let prepared = experiment::prepare(&file.experiment, &file.changes.overrides())?;
    let planned = experiment::plan_here(&prepared.resolved)?;
    for note in &planned.notes {
        tell(&format_args!("note: {note}"));
    }
    preflight::congestion_controls(&planned.plan)?;
    preflight::privilege()?;
    let output = preflight::results_directory(&arguments.output)?;
    let guardian = Guardian::start(&paths.state, "controller")
        .or_fail(ExitCode::Preflight, || "cannot guard this run".to_owned())?;
    let run = Run {
        arguments,
        voice,
        paths: &paths,
        prepared: &prepared,
        planned: &planned,
    };
    let outcome = training::runtime()?.block_on(run.carry_out(&guardian, &output));
    let finished = guardian.finish().or_fail(ExitCode::Dirty, || {
        "cannot clean up after the run".to_owned()
    });
    match (outcome, finished) {
        (outcome, Ok(())) => outcome,
        (Ok(_), Err(dirty)) => Err(dirty),
        (Err(failure), Err(dirty)) => {
            tell(&failure);
            Err(dirty)
        }
    }
}

struct Run<'a> {
    arguments: &'a RunArguments,
    voice: Voice,
    paths: &'a Paths,
    prepared: &'a Prepared,
    planned: &'a Planned,
}

impl Run<'_> {
    async fn carry_out(&self, guardian: &Guardian, output: &Path) -> Outcome {
        let mut interrupt =
            Interrupt::catch().or_fail(ExitCode::Failed, || "cannot catch signals".to_owned())?;
        self.check_gpus()?;
        let mut models = Vec::new();
        let plan = &self.planned.plan;
        for model in [&plan.model, &plan.draft_model] {
            models.push(match model {
                Some(model) => Some(self.model(&model.source, guardian, &mut interrupt).await?),
                None => None,
            });
        }
        let (draft, mut model) = (models.pop().flatten(), models.pop().flatten());
        if let Some((directory, origin)) = &mut model {
            let source = plan.model.as_ref().map(|model| &model.source);
            let trained = (directory.as_path(), origin.weights_sha256.as_str());
            origin.exits = self.exits(source, trained, &mut interrupt).await?;
            self.adapters(source, directory, &mut interrupt).await?;
            self.vision(source, directory, &mut interrupt).await?;
        }
        if let (Some((target, _)), Some((draft, _))) = (&model, &draft) {
            text::check_shared(target, draft)
                .or_fail(ExitCode::InvalidInput, || {
                    "the second model does not fit the first".to_owned()
                })
                .map_err(|failure| failure.remedy("take two models of one family"))?;
        }
        let (model_directory, model) = model.unzip();
        let (draft_model_directory, draft_model) = draft.unzip();

        let started_ns = clock::wall_clock_ns();
        let name = run_name(&plan.experiment, started_ns, plan.seed);
        let mut directory = RunDirectory::choose(output, &name);
        let kept = Undo::RenameDirectory {
            from: directory.path(),
            to: directory.interrupted_path(),
        };
        let doing = || format!("cannot make a run directory in {}", output.display());
        let note = guardian.record(kept).or_fail(ExitCode::Preflight, doing)?;
        directory.create().or_fail(ExitCode::Preflight, doing)?;
        let identity = RunIdentity {
            run: directory.name().to_owned(),
            started_wall_clock_ns: started_ns,
            command: self.command_line(),
            seed: plan.seed,
        };
        let mut environment = Environment::look(identity, model);
        environment.draft_model = draft_model;
        environment.end_to_end = EndToEnd::kept(&self.paths.state, &environment.machine);
        let plan_json = self
            .write_input(&directory, &environment)
            .or_fail(ExitCode::Failed, || {
                "cannot record what is about to be run".to_owned()
            })?;

        let played = self
            .play(
                guardian,
                &mut directory,
                plan_json,
                [model_directory, draft_model_directory],
                &mut interrupt,
            )
            .await;
        let code = finish::finish(
            finish::Ending {
                directory,
                state: &self.paths.state,
                strict: self.arguments.strict,
                voice: self.voice,
            },
            played,
        )?;
        guardian.done(note).or_fail(ExitCode::Failed, || {
            "cannot note that the run is kept".to_owned()
        })?;
        Ok(code)
    }

    /// Finds out before a model is trained whether it could be computed with. The agent tries each
    /// node's own GPU.
    fn check_gpus(&self) -> Result<(), Failure> {
        let mut nodes = self.planned.plan.nodes.iter();
        let Some(node) = nodes.find(|node| node.compute.device != ComputeDevice::Cpu) else {
            return Ok(());
        };
        let probed = engine_cuda::find().and_then(|program| engine_cuda::probe(&program, None));
        probed
            .or_fail(ExitCode::Preflight, || {
                let node = &node.name;
                format!("node {node}: its `device` is a GPU, and none can be computed on")
            })
            .map(|_probed| ())
    }

    async fn play(
        &self,
        guardian: &Guardian,
        directory: &mut RunDirectory,
        plan_json: Vec<u8>,
        [model_directory, draft_model_directory]: [Option<PathBuf>; 2],
        interrupt: &mut Interrupt,
    ) -> Result<Played, Failure> {
        let place = AgentPlace {
            runtime: absolute(&self.paths.runtime)?,
            state: absolute(&self.paths.state)?,
            log: directory.path().join("logs/agent.log"),
            metering: self.arguments.metering.clone(),
        };
        let mut agent = AgentProcess::start(&place, guardian)?;
        if !self.voice.quiet {
            let socket = agent.socket().display().to_string();
            let socket = quoted(&socket);
            tell(&format_args!(
                "links can be changed with: hexloop agent control --socket {socket} ACTION LINK"
            ));
        }
        let input = SessionInput {
            plan_json,
            traces: self.trace_files(directory)?,
            model_directory,
            draft_model_directory,
            capture: self.capture(directory)?,
        };
        let mut monitor = RunMonitor::new(outline(&self.planned.plan), self.voice.quiet);
        let played = play(&mut agent, input, directory, &mut monitor, interrupt).await;
        monitor.end();
        agent.end().await;
        played
    }

    /// Where the agent puts captures, if it is to make any.
    fn capture(&self, directory: &RunDirectory) -> Result<Option<CaptureRequest>, Failure> {
        if !self.arguments.pcap {
            return Ok(None);
        }
        let doing = || "cannot make a place for captures".to_owned();
        let captures = directory.make_captures().or_fail(ExitCode::Failed, doing)?;
        Ok(Some(CaptureRequest {
            directory: absolute(&captures)?.display().to_string(),
            // The rest of the record comes first.
            keep_free_bytes: preflight::NEEDED_BYTES,
        }))
    }

    /// What the agent gets of every trace: the text, or where the run directory has the file.
    fn trace_files(&self, directory: &RunDirectory) -> Result<Vec<TraceFile>, Failure> {
        let file = |(name, trace): (&String, &ResolvedTrace)| {
            let (text, path) = match &trace.content {
                TraceContent::Text(text) => (text.clone(), String::new()),
                TraceContent::File(_) => {
                    let path = directory.path().join(long_trace_path(name));
                    (String::new(), absolute(&path)?.display().to_string())
                }
            };
            let name = name.clone();
            Ok(TraceFile { name, text, path })
        };
        self.prepared.resolved.traces.iter().map(file).collect()
    }

    /// A model's directory, trained now if it is not there, and what the record says of it.
    async fn model(
        &self,
        source: &ModelSource,
        guardian: &Guardian,
        interrupt: &mut Interrupt,
    ) -> Result<(PathBuf, ModelOrigin), Failure> {
        let (directory, origin) = match source {
            ModelSource::Recipe(name) => {
                let recipe = Recipe::by_name(name).ok_or_else(|| {
                    let message = format!("there is no built-in model {name:?}");
                    Failure::message(ExitCode::InvalidInput, message)
                })?;
                self.paths.models()?;
                let cache = self.paths.cache.clone().unwrap_or_default();
                let directory = recipe_cache::model_directory(&cache, &recipe);
                let place = TrainingPlace { directory };
                let directory =
                    training::ensure(&recipe, &place, guardian, self.voice.quiet, interrupt)
                        .await?;
                let hash = recipe.sha256_hex();
                (
                    directory,
                    format!("trained on this machine by recipe {name} ({hash})"),
                )
            }
            ModelSource::Directory(path) => {
                let directory = absolute(path)?;
                let kind = match engine::is_random(&directory) {
                    true => "random weights in the shape of",
                    false => "checkpoint",
                };
                let origin = format!("{kind} {}", directory.display());
                (directory, origin)
            }
        };
        let doing = || format!("the model in {} cannot be used", directory.display());
        let config = engine::verify(&directory).or_fail(ExitCode::InvalidInput, doing)?;
        let weights_sha256 =
            engine::weights_sha256(&directory).or_fail(ExitCode::InvalidInput, doing)?;
        let model = ModelOrigin {
            origin,
            weights_sha256,
            layers: config.layers,
            width: config.width,
            parameters: config.parameters(),
            engine: engine::path(),
            chat_template_tokens: self.template_tokens(&directory)?,
            training: training_energy::kept(&directory),
            exits: Vec::new(),
        };
        Ok((directory, model))
    }

    /// How many tokens of every prompt are the chat template's, which the shortest prompt must have room for.
    fn template_tokens(&self, directory: &Path) -> Result<Option<u32>, Failure> {
        let doing = || format!("the model in {} cannot be asked", directory.display());
        let tokenizer = TextTokenizer::load(directory).or_fail(ExitCode::InvalidInput, doing)?;
        let plan = &self.planned.plan;
        let phases = plan.phases.iter().map(|phase| phase.requests.prompt_tokens);
        let studies = plan.studies.iter().map(|study| study.study.prompt_tokens);
        if let Some(shortest) = phases.chain(studies).filter(|tokens| *tokens > 0).min() {
            text::prompt(&tokenizer, 0, shortest).or_fail(ExitCode::InvalidInput, doing)?;
        }
        Ok(tokenizer.template_tokens())
    }

    /// How the early exits of the model, whose weights have that hash, agree with it, trained now if a study needs
    /// them and they are not there. Of a checkpoint whoever made its exits knows that; those that were trained for
    /// other weights are refused.
    async fn exits(
        &self,
        source: Option<&ModelSource>,
        (directory, weights_sha256): (&Path, &str),
        interrupt: &mut Interrupt,
    ) -> Result<Vec<ExitAgreement>, Failure> {
        let mut studies = self.planned.plan.studies.iter();
        if !studies.any(|study| study.study.technique() == Technique::EarlyExit) {
            return Ok(Vec::new());
        }
        if let Some(ModelSource::Recipe(name)) = source
            && let Some(recipe) = Recipe::by_name(name)
        {
            let trained = (directory, weights_sha256);
            training::ensure_exits(&recipe, trained, self.voice.quiet, interrupt).await?;
        }
        let report = exits::read_report(directory).or_fail(ExitCode::InvalidInput, || {
            format!(
                "cannot tell how the early exits in {} were trained",
                directory.display()
            )
        })?;
        let Some(report) = report else {
            return Ok(Vec::new());
        };
        report
            .check_weights(directory, weights_sha256)
            .or_fail(ExitCode::InvalidInput, || {
                "the early exits are another model's".to_owned()
            })?;
        Ok(report.exits)
    }

    /// Trains the adapters that studies need and that are not there. A checkpoint's are its user's.
    async fn adapters(
        &self,
        source: Option<&ModelSource>,
        directory: &Path,
        interrupt: &mut Interrupt,
    ) -> Result<(), Failure> {
        let studies = self.planned.plan.studies.iter();
        let specs = studies.filter_map(|study| study.study.adapters.as_ref());
        let tasks: BTreeSet<String> = specs.flat_map(|spec| spec.tasks.clone()).collect();
        match source {
            Some(ModelSource::Recipe(name)) if !tasks.is_empty() => {
                let Some(recipe) = Recipe::by_name(name) else {
                    return Ok(());
                };
                let quiet = self.voice.quiet;
                training::ensure_adapters(&recipe, (directory, &tasks), quiet, interrupt).await
            }
            _ => Ok(()),
        }
    }

    /// Trains the vision encoder of the model, if a study needs it and it is not there. A checkpoint's is its user's.
    async fn vision(
        &self,
        source: Option<&ModelSource>,
        directory: &Path,
        interrupt: &mut Interrupt,
    ) -> Result<(), Failure> {
        let mut studies = self.planned.plan.studies.iter();
        let is_needed = studies.any(|study| study.study.technique() == Technique::Multimodal);
        if is_needed
            && let Some(ModelSource::Recipe(name)) = source
            && let Some(recipe) = Recipe::by_name(name)
        {
            training::ensure_vision(&recipe, directory, self.voice.quiet, interrupt).await?;
        }
        Ok(())
    }

    /// Writes everything that is known beforehand. Returns the plan's JSON for the agent.
    fn write_input(
        &self,
        directory: &RunDirectory,
        environment: &Environment,
    ) -> Result<Vec<u8>, anyhow::Error> {
        directory.write("experiment.toml", self.prepared.text.as_bytes())?;
        directory.write("plan.json", &pretty(&self.planned.plan)?)?;
        directory.write("environment.json", &pretty(environment)?)?;
        for (name, trace) in &self.prepared.resolved.traces {
            match &trace.content {
                TraceContent::Text(text) => {
                    directory.write(&trace_path(name), text.as_bytes())?;
                }
                TraceContent::File(source) => directory.copy(&long_trace_path(name), source)?,
            }
        }
        Ok(serde_json::to_vec(&self.planned.plan)?)
    }

    /// The command that makes this run again.
    fn command_line(&self) -> String {
        let file = &self.arguments.experiment;
        let mut words = vec![
            "hexloop".to_owned(),
            "run".to_owned(),
            quoted(&file.experiment.display().to_string()),
        ];
        if let Some(preset) = &file.changes.preset {
            words.extend(["--preset".to_owned(), quoted(preset)]);
        }
        words.extend(["--seed".to_owned(), self.planned.plan.seed.to_string()]);
        for (key, value) in &file.changes.set {
            words.extend(["--set".to_owned(), quoted(&format!("{key}={value}"))]);
        }
        if self.arguments.pcap {
            words.push("--pcap".to_owned());
        }
        words.join(" ")
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn pretty(document: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).or_fail(ExitCode::Usage, || format!("{} is no path", path.display()))
}

fn outline(plan: &Plan) -> RunOutline {
    let traffic = plan.traffic.iter().map(|phase| PhaseOutline {
        name: phase.name.clone(),
        length_ns: phase.duration_ns,
        offered: None,
    });
    let phases = plan.phases.iter().map(|phase| PhaseOutline {
        name: phase.name.clone(),
        length_ns: phase.duration_ns,
        offered: Some(crate::format::length(&hexloop_agent::play::requests_of(
            plan, phase,
        ))),
    });
    let studies = plan.studies.iter().map(|study| PhaseOutline {
        name: study.name.clone(),
        length_ns: study.duration_ns,
        offered: None,
    });
    let loads = plan.loads.iter().map(|load| PhaseOutline {
        name: load.name.clone(),
        length_ns: load.duration_ns,
        offered: load
            .schedule(plan.seed)
            .map(|schedule| crate::format::length(&schedule)),
    });
    RunOutline {
        phases: traffic.chain(phases).chain(studies).chain(loads).collect(),
        links_of_cells: plan
            .cells
            .iter()
            .flat_map(|cell| cell.users.iter().map(|user| user.link.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_command_line_can_be_given_to_a_shell_again() {
        assert_eq!(
            quoted("topologies/quickstart.toml"),
            "topologies/quickstart.toml"
        );
        assert_eq!(
            quoted("nodes.device.cpu_quota=25 %"),
            "'nodes.device.cpu_quota=25 %'"
        );
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }
}
