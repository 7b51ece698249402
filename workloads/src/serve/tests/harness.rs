//! Runs jobs in threads, and makes a small model for them.

use std::io::{BufRead, BufReader, Lines, PipeReader, PipeWriter, Write, pipe};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use crate::clock;
use crate::coding::kv::KvShape;
use crate::device::ComputeSettings;
use crate::engine::adapters::{Half, config_text, tensor_name};
use crate::engine::text::{self, TextTokenizer};
use crate::engine::train::adapters::adapter_directory;
use crate::engine::train::vision;
use crate::engine::vision::{config_text as vision_config_text, shapes};
use crate::engine::{self, Model};
use crate::job::{JobCommand, JobEvent, JobRole, JobSpec, JobTotals, Placement, RequestRecord};
use crate::model_config::ModelConfig;
use crate::recipe::{
    ADAPTER_CONFIG_FILE, ADAPTER_TEXT_FILE, ADAPTER_WEIGHTS_FILE, EXITS_FILE, Recipe,
    VISION_DIRECTORY,
};
use crate::request::ScheduledRequest;
use crate::serve::connection::{Access, Listener, Terms, fingerprint};
use crate::serve::signal::Socket;
use crate::serve::{JobError, run_job, run_study};
use crate::study::{Grid, StudyFinding, StudyJobSpec, StudyRole, StudySpec};
use crate::transport::Transport;

pub(super) const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

/// Whatever crosses a link is to do the same over each.
pub(super) const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Quic { mtu_bytes: 1500 }];

/// What both ends of a connection of this run know.
pub(super) fn access(transport: Transport) -> Access {
    Access::of(SECRET, transport).unwrap()
}

/// A listener of this run on the loopback, and what ends it.
pub(super) fn listen(transport: Transport) -> (Listener, Socket) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    Listener::bind(address, &access(transport)).unwrap()
}

/// A model in the shape of the recipe `micro` with random weights, in a temporary directory.
pub(in crate::serve) struct SmallModel {
    directory: TempDir,
    whole: Model,
    tokenizer: TextTokenizer,
}

impl SmallModel {
    pub(super) fn new() -> SmallModel {
        SmallModel::of_seed(5)
    }

    /// Another with the same tokenizer.
    pub(super) fn of_seed(seed: u64) -> SmallModel {
        let recipe = Recipe::by_name("micro").unwrap();
        SmallModel::of_shape(&recipe.config, seed)
    }

    /// One of another shape.
    pub(in crate::serve) fn of_shape(config: &ModelConfig, seed: u64) -> SmallModel {
        SmallModel::of_weights(config, (seed, SPREAD))
    }

    /// One whose matrices are zero, so that it scores all tokens alike.
    pub(super) fn without_preference() -> SmallModel {
        let recipe = Recipe::by_name("micro").unwrap();
        SmallModel::of_weights(&recipe.config, (5, 0.0))
    }

    fn of_weights(config: &ModelConfig, drawn: (u64, f32)) -> SmallModel {
        let directory = tempfile::tempdir().unwrap();
        write_random_model(directory.path(), config, drawn);
        let whole = Model::load_whole(directory.path()).unwrap();
        let tokenizer = TextTokenizer::load(directory.path()).unwrap();
        SmallModel {
            directory,
            whole,
            tokenizer,
        }
    }

    /// The same with exits, which are as random.
    pub(super) fn with_exits() -> SmallModel {
        let model = SmallModel::new();
        let config = model.whole.config();
        let shapes = (1..config.layers).flat_map(|layer| engine::exit::exit_shapes(config, layer));
        let file = model.directory.path().join(EXITS_FILE);
        write_random_tensors(shapes, 7, &file);
        model
    }

    /// The same with adapters of that rank for some tasks, which are as random, and a text of each.
    pub(super) fn with_adapters(tasks: &[&str], rank: u32) -> SmallModel {
        let model = SmallModel::new();
        let config = model.whole.config();
        let maps = [("q_proj", config.heads), ("v_proj", config.kv_heads)];
        for (seed, task) in (20..).zip(tasks) {
            let place = adapter_directory(model.directory.path(), task);
            std::fs::create_dir_all(&place).unwrap();
            let shapes = (0..config.layers).flat_map(|layer| {
                maps.into_iter().flat_map(move |(map, heads)| {
                    let outputs = heads * config.head_width;
                    [
                        (
                            tensor_name(layer, map, Half::Down),
                            vec![rank, config.width],
                        ),
                        (tensor_name(layer, map, Half::Up), vec![outputs, rank]),
                    ]
                })
            });
            write_random_tensors(shapes, seed, &place.join(ADAPTER_WEIGHTS_FILE));
            std::fs::write(place.join(ADAPTER_CONFIG_FILE), config_text(rank, 60.0)).unwrap();
            let text = format!("{task} and the quick brown fox, and the lazy dog. ").repeat(3);
            std::fs::write(place.join(ADAPTER_TEXT_FILE), [text.trim(); 4].join("\n")).unwrap();
        }
        model
    }

    /// The same with a vision encoder, which is as random.
    pub(super) fn with_eyes() -> SmallModel {
        SmallModel::with_eyes_of_seed(11)
    }

    /// The same language model with another encoder.
    pub(super) fn with_eyes_of_seed(seed: u64) -> SmallModel {
        let model = SmallModel::new();
        let place = model.directory.path().join(VISION_DIRECTORY);
        std::fs::create_dir_all(&place).unwrap();
        let config = vision::config();
        let shapes = shapes(&config, model.whole.config().width);
        write_random_tensors(shapes, seed, &place.join("model.safetensors"));
        std::fs::write(place.join("config.json"), vision_config_text(&config)).unwrap();
        model
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What the whole model says after a prompt and a part of its answer.
    pub(super) fn next_after(&self, request: &ScheduledRequest, answered: &[u32]) -> u32 {
        let (seed, length) = (request.prompt_seed, request.prompt_tokens);
        let mut text = text::prompt(&self.tokenizer, seed, length).unwrap();
        text.extend(answered);
        let states = self.whole.embed(&text).unwrap();
        let states = self.whole.forward(&states, 0, &mut self.whole.new_cache());
        self.whole.next_token(&states.unwrap()).unwrap()
    }

    pub(super) fn layers(&self) -> u32 {
        self.whole.config().layers
    }

    /// What is said of it in a handshake by who needs or holds the layers from `first` on.
    pub(super) fn terms(&self, first: u32) -> Terms {
        Terms {
            model: fingerprint(self.directory.path()).unwrap(),
            layers: first..self.layers(),
            second: None,
        }
    }

    pub(super) fn kv_shape(&self) -> KvShape {
        self.whole.kv_shape()
    }

    pub(super) fn vocabulary(&self) -> u32 {
        self.whole.config().vocabulary
    }

    pub(super) fn width(&self) -> u64 {
        u64::from(self.whole.config().width)
    }

    /// What the whole model answers, computed without any job.
    pub(super) fn greedy(&self, request: &ScheduledRequest) -> Vec<u32> {
        let input = self.prompt(request.prompt_seed, request.prompt_tokens);
        self.greedy_behind(input, request.output_tokens)
    }

    pub(super) fn prompt(&self, seed: u64, length: u32) -> Vec<u32> {
        text::prompt(&self.tokenizer, seed, length).unwrap()
    }

    /// What it answers to a prompt.
    pub(super) fn greedy_behind(&self, mut input: Vec<u32>, output: u32) -> Vec<u32> {
        let mut cache = self.whole.new_cache();
        let mut tokens = Vec::new();
        for _ in 0..output {
            let states = self.whole.embed(&input).unwrap();
            let position = cache.positions();
            let states = self.whole.forward(&states, position, &mut cache).unwrap();
            let token = self.whole.next_token(&states).unwrap();
            tokens.push(token);
            input = vec![token];
        }
        tokens
    }
}

/// How far weights lie apart at most.
const SPREAD: f32 = 0.4;

fn write_random_model(directory: &Path, config: &ModelConfig, drawn: (u64, f32)) {
    std::fs::write(
        directory.join("config.json"),
        config.to_hugging_face_json().unwrap(),
    )
    .unwrap();
    let paragraphs = ["The quick brown fox jumps over the lazy dog. ".repeat(20)];
    let tokenizer = TextTokenizer::train(&paragraphs, config.vocabulary).unwrap();
    tokenizer.save(directory).unwrap();
    let file = directory.join("model.safetensors");
    write_tensors(engine::all_shapes(config), drawn, &file);
}

fn write_random_tensors(
    shapes: impl IntoIterator<Item = (String, Vec<u32>)>,
    seed: u64,
    file: &Path,
) {
    write_tensors(shapes, (seed, SPREAD), file);
}

fn write_tensors(
    shapes: impl IntoIterator<Item = (String, Vec<u32>)>,
    (seed, spread): (u64, f32),
    file: &Path,
) {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let shape: Vec<usize> = shape.iter().map(|n| usize::try_from(*n).unwrap()).collect();
            let count: usize = shape.iter().product();
            // Norms near 1, everything else uniform and small: activations stay in range.
            let middle = if shape.len() == 1 { 1.0 } else { 0.0 };
            let value = |random: &mut ChaCha12Rng| {
                let unit = f32::from(u16::try_from(random.next_u32() >> 16).unwrap()) / 65_536.0;
                (middle + (unit - 0.5) * spread).to_le_bytes()
            };
            let bytes = (0..count).flat_map(|_| value(&mut random)).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, file).unwrap();
}

/// An address of this machine where nobody listens.
pub(super) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Requests due at these offsets from T0.
pub(super) fn requests(
    due_ns: &[u64],
    prompt_tokens: u32,
    output_tokens: u32,
) -> Vec<ScheduledRequest> {
    (0..)
        .zip(due_ns)
        .map(|(id, due_ns)| ScheduledRequest {
            id,
            due_ns: *due_ns,
            prompt_seed: 100 + u64::from(id),
            prompt_tokens,
            output_tokens,
        })
        .collect()
}

pub(super) fn device_role(edge: Option<SocketAddr>, requests: &[ScheduledRequest]) -> JobRole {
    let requests = requests.to_vec();
    JobRole::Device {
        edge,
        requests,
        deadline_ns: 1_000_000_000,
        send_delay_ns: 0,
    }
}

pub(super) fn spec(model: &SmallModel, placement: Placement, role: JobRole) -> JobSpec {
    // One engine serves all tests of this process: the first to come settles its threads.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    JobSpec {
        name: "test".to_owned(),
        placement,
        role,
        model_directory: model.directory.path().to_owned(),
        threads: u32::try_from(threads).unwrap(),
        compute: ComputeSettings::default(),
        slowdown: None,
        transport: Transport::Tcp,
        secret: SECRET.to_owned(),
    }
}

pub(super) fn study_spec(model: &SmallModel, role: StudyRole) -> StudyJobSpec {
    let JobSpec {
        name,
        model_directory,
        threads,
        secret,
        ..
    } = spec(model, Placement::Device, device_role(None, &[]));
    StudyJobSpec {
        name,
        role,
        model_directory,
        draft_directory: None,
        threads,
        compute: ComputeSettings::default(),
        slowdown: None,
        transport: Transport::Tcp,
        secret,
    }
}

/// The same with a second model.
pub(in crate::serve) fn study_spec_of_two(
    model: &SmallModel,
    draft: &SmallModel,
    role: StudyRole,
) -> StudyJobSpec {
    StudyJobSpec {
        draft_directory: Some(draft.directory.path().to_owned()),
        ..study_spec(model, role)
    }
}

/// The reasons of all failures among some events.
pub(super) fn event_reasons(events: &[JobEvent]) -> Vec<String> {
    let reason = |event: &JobEvent| match event {
        JobEvent::Failed { reason } => Some(reason.clone()),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}

/// A job in a thread of its own, behind pipes like a process.
pub(super) struct Job {
    commands: PipeWriter,
    events: Lines<BufReader<PipeReader>>,
    thread: JoinHandle<Result<(), JobError>>,
}

impl Job {
    pub(super) fn start(spec: &JobSpec) -> Job {
        Job::start_with(&(serde_json::to_string(spec).unwrap() + "\n"))
    }

    /// Starts a job with that text on its standard input.
    pub(super) fn start_with(text: &str) -> Job {
        Job::start_as(run_job, text)
    }

    /// Starts a process of a study.
    pub(super) fn start_study(spec: &StudyJobSpec) -> Job {
        let text = serde_json::to_string(spec).unwrap() + "\n";
        Job::start_as(run_study, &text)
    }

    fn start_as(
        run: impl FnOnce(BufReader<PipeReader>, PipeWriter) -> Result<(), JobError> + Send + 'static,
        text: &str,
    ) -> Job {
        let (input, mut commands) = pipe().unwrap();
        let (events, output) = pipe().unwrap();
        let thread = std::thread::spawn(move || run(BufReader::new(input), output));
        commands.write_all(text.as_bytes()).unwrap();
        Job {
            commands,
            events: BufReader::new(events).lines(),
            thread,
        }
    }

    pub(super) fn write(&mut self, text: &str) {
        self.commands.write_all(text.as_bytes()).unwrap();
    }

    fn command(&mut self, command: JobCommand) {
        self.write(&(serde_json::to_string(&command).unwrap() + "\n"));
    }

    fn next(&mut self) -> JobEvent {
        serde_json::from_str(&self.events.next().unwrap().unwrap()).unwrap()
    }

    pub(super) fn wait_until_ready(&mut self) {
        let event = self.next();
        assert!(matches!(event, JobEvent::Ready { .. }), "{event:?}");
    }

    /// T0 is now.
    pub(super) fn begin(&mut self) {
        self.command(JobCommand::Start {
            t0_monotonic_ns: clock::now(),
        });
    }

    /// What a study finds until it is idle; its links are set whenever it asks for that.
    pub(super) fn findings_until_idle(&mut self) -> Vec<StudyFinding> {
        let mut findings = Vec::new();
        loop {
            match self.next() {
                JobEvent::Study(finding) => findings.push(finding),
                JobEvent::SetLinks { .. } => self.command(JobCommand::LinksSet),
                JobEvent::PlayTraces => self.command(JobCommand::TracesPlay {
                    from_monotonic_ns: clock::now(),
                }),
                JobEvent::Idle => return findings,
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn next_request(&mut self) -> RequestRecord {
        match self.next() {
            JobEvent::Request(record) => record,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn records_until_idle(&mut self) -> Vec<RequestRecord> {
        let mut records = Vec::new();
        loop {
            match self.next() {
                JobEvent::Request(record) => records.push(record),
                JobEvent::Idle => return records,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Stops the job; returns the requests it had open and its totals.
    pub(super) fn stop(mut self) -> (Vec<RequestRecord>, JobTotals) {
        self.command(JobCommand::Stop);
        let mut records = Vec::new();
        let totals = loop {
            match self.next() {
                JobEvent::Request(record) => records.push(record),
                JobEvent::Done(totals) => break totals,
                other => panic!("{other:?}"),
            }
        };
        assert!(self.events.next().is_none());
        self.thread.join().unwrap().unwrap();
        (records, totals)
    }

    /// Waits for the job to end by itself.
    pub(super) fn end(self) -> (Vec<JobEvent>, Result<(), JobError>) {
        let parse = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
        let events = self.events.map(parse).collect();
        let result = self.thread.join().unwrap();
        drop(self.commands);
        (events, result)
    }

    /// Closes the job's standard input and waits for its end.
    pub(super) fn close_input(self) -> (Vec<JobEvent>, Result<(), JobError>) {
        let Job {
            commands,
            events,
            thread,
        } = self;
        drop(commands);
        let parse = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
        (events.map(parse).collect(), thread.join().unwrap())
    }
}

/// A study without an arm, at one setting that no link plays.
pub(in crate::serve) fn bare_study() -> StudySpec {
    StudySpec {
        arms: Vec::new(),
        prompts: 1,
        prompt_tokens: 1,
        output_tokens: 1,
        held_out_prompts: 0,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
            around_percent: Vec::new(),
        },
        outage: None,
        traced: None,
        adapters: None,
        kpi: None,
        shared: None,
        patience_ns: 0,
        timeout_ns: 60_000_000_000,
    }
}

/// What a study finds that a driver and one stage play, with prompts from these seeds.
pub(super) fn played_by_two(
    model: &SmallModel,
    study: StudySpec,
    prompt_seeds: Vec<u64>,
) -> Vec<StudyFinding> {
    played_over(Transport::Tcp, model, study, prompt_seeds)
}

/// The same over a transport.
pub(super) fn played_over(
    transport: Transport,
    model: &SmallModel,
    study: StudySpec,
    prompt_seeds: Vec<u64>,
) -> Vec<StudyFinding> {
    let spec = |role| StudyJobSpec {
        transport,
        ..study_spec(model, role)
    };
    let address = free_address();
    let role = StudyRole::Stage {
        place: 1,
        study: study.clone(),
        listen: address,
        next: None,
    };
    let mut stage = Job::start_study(&spec(role));
    stage.wait_until_ready();
    stage.begin();
    let role = StudyRole::Driver {
        study,
        prompt_seeds,
        next: Some(address),
    };
    let mut driver = Job::start_study(&spec(role));
    driver.wait_until_ready();
    driver.begin();
    let findings = driver.findings_until_idle();
    driver.stop();
    stage.stop();
    findings
}
