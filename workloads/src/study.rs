//! Studies: one technique of inference over a grid of settings of its links and of its own
//! parameters, one trial after another. What a plan says of them, and what they record.
//!
//! A study's first node drives it: it sends the requests, sets the links through the agent, and
//! keeps the records. Every further node of its path serves its part of the model.

pub mod adapters;
pub mod cnn;
pub mod kpi;
pub mod kv;
pub mod leak;
pub mod multimodal;
pub mod own;
pub mod placement;
pub mod retrieval;
pub mod shared;
pub mod speculative;
pub mod split;
pub mod tensor_parallel;
pub mod traced;
pub mod u_shape;

mod arm;
mod held;
mod job;

use serde::{Deserialize, Serialize};

use self::adapters::{AdapterFinding, AdapterServing, AdaptersSpec};
use self::cnn::Convolutional;
pub use self::job::{StudyJobSpec, StudyRole};
use self::kpi::KpiSpec;
use self::kv::{Delivery, DeliveryCosts, LossRecord, Source, TransferRecord};
use self::leak::{LeakRecord, Leaking};
use self::multimodal::{Look, LookRecord, LooksRecord};
use self::own::{Decision, OutageRecord, OutageSpec, Rule, Threshold};
use self::placement::{PlaceCosts, Placed, Placement, PlacementPolicy, WayRecord};
use self::retrieval::{Library, Retrieval, RetrievalCosts, RetrievalRecord};
use self::shared::policy::Policy;
use self::shared::{SharedCosts, SharedRound, SharedSpec};
use self::speculative::{AcceptanceRecord, Drawing, RoundRecord, Speculation};
use self::tensor_parallel::{HalfCosts, HalvesRecord, TensorParallel};
use self::traced::{TracedSpec, TracedTrial};
use self::u_shape::UShape;
use crate::coding::Coding;

/// What a study does; the same for everybody who plays it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudySpec {
    /// The technique, with its parameters, each of which is an arm of the study.
    pub arms: Vec<Arm>,
    /// Different prompts; every arm answers all of them at every setting.
    pub prompts: u32,
    /// Length of each prompt in tokens.
    pub prompt_tokens: u32,
    /// Tokens that each trial generates.
    pub output_tokens: u32,
    /// Prompts that no trial asks, on which a technique learns what to expect of its models.
    #[serde(default)]
    pub held_out_prompts: u32,
    /// The settings of the links.
    pub grid: Grid,
    /// An outage that is played after them, where the technique goes on in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<OutageSpec>,
    /// What is asked of each arm while the links follow their traces, after the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traced: Option<TracedSpec>,
    /// What several users do, where the technique has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedSpec>,
    /// Which tasks have adapters, where the technique has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<AdaptersSpec>,
    /// Which rows of the KPI tables are sent, where the technique sends any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kpi: Option<KpiSpec>,
    /// How long a device that has an answer of its own waits for a better one.
    #[serde(default)]
    pub patience_ns: u64,
    /// How long the other side may be silent before the study fails.
    pub timeout_ns: u64,
}

/// One choice of the technique's parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The layers are divided over the nodes of the path.
    Split {
        /// After which layer each node ends, in the order of the path; the last is all layers.
        /// Where a node before the last one has them all, nothing crosses the links.
        ends: Vec<u32>,
        /// Requests that are under way at a time.
        in_flight: u32,
        /// How hidden states cross the links.
        #[serde(default)]
        coding: Coding,
    },
    /// The whole model is on the last node of two: the prompt crosses the link once, and tokens come
    /// back as they are made. What techniques of two models are compared with.
    Remote {
        /// How tokens are chosen.
        drawing: Drawing,
    },
    /// The second, smaller model on the first node of two drafts, the model on the last verifies.
    Speculative(Speculation),
    /// The first node of two has the first layers and an exit after them; the second finishes what the
    /// exit is not sure of.
    EarlyExit {
        /// Layers on the first node; with all of them nothing is left to the second.
        cut: u32,
        /// How sure is sure enough.
        threshold: Threshold,
    },
    /// The second, smaller model on the first node of two answers; the model on the last answers again
    /// what that is not sure of.
    Cascade {
        /// What makes an answer sure.
        rule: Rule,
        /// How sure is sure enough.
        threshold: Threshold,
    },
    /// The second node of two has the context of a request, and the first goes on from there.
    KeyValues {
        /// How the context comes.
        delivery: Delivery,
        /// Where the second node has its keys and values from.
        source: Source,
    },
    /// The second node of two has documents, an index and the model, and answers the first one's queries.
    Retrieval(Retrieval),
    /// Several users, each on a link of its own, share the whole model on the last of two nodes.
    Shared {
        /// Who is served next, and who is refused.
        policy: Policy,
        /// The most sequences that one pass carries.
        batch: u32,
    },
    /// A row of the KPI tables at a rate.
    Kpi {
        /// Its place in [`kpi::ROWS`].
        row: u32,
        /// The rate in percent of payload over latency.
        percent: u32,
    },
    /// The same row at whatever rate the link has on its trace: it is sent there alone, and at no setting.
    KpiOnTrace {
        /// Its place in [`kpi::ROWS`].
        row: u32,
    },
    /// The first node of two has the first layers and the last ones, the second those between.
    UShaped(UShape),
    /// Each of two nodes has half of every layer.
    TensorParallel(TensorParallel),
    /// A convolutional network instead of the language model, divided over two nodes.
    Convolutional(Convolutional),
    /// The states of a prompt cross the link of two nodes, and the second guesses its tokens.
    Leaking(Leaking),
    /// The second node of two has a backbone, and the first what each task adds to it.
    Adapters(AdapterServing),
    /// The first node of two has an image, the second the language model.
    Look(Look),
    /// One node of the path has the whole model and answers.
    Placed(Placement),
    /// The node and the weights that a request is answered with are chosen by how long that should take.
    Policy(PlacementPolicy),
}

/// A family of arms that one pair of processes serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technique {
    /// [`Arm::Split`].
    Split,
    /// [`Arm::Speculative`], and [`Arm::Remote`] beside it.
    Speculative,
    /// [`Arm::EarlyExit`].
    EarlyExit,
    /// [`Arm::Cascade`].
    Cascade,
    /// [`Arm::KeyValues`].
    KeyValues,
    /// [`Arm::Retrieval`].
    Retrieval,
    /// [`Arm::Shared`].
    Shared,
    /// [`Arm::Kpi`] and [`Arm::KpiOnTrace`].
    Kpi,
    /// [`Arm::UShaped`], and [`Arm::Split`] beside it.
    UShaped,
    /// [`Arm::TensorParallel`], and [`Arm::Split`] and [`Arm::Placed`] beside it.
    TensorParallel,
    /// [`Arm::Convolutional`].
    Convolutional,
    /// [`Arm::Leaking`].
    Leaking,
    /// [`Arm::Adapters`].
    Adapters,
    /// [`Arm::Look`].
    Multimodal,
    /// [`Arm::Placed`], and [`Arm::Policy`] beside it.
    Placement,
}

/// The settings that every arm is tried at: each round trip with each of its rates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Round trips of each link, half of it each way.
    pub round_trips_ns: Vec<u64>,
    /// Rates of each link, the same in both directions; for round trips without a critical rate
    /// where `around_percent` is given.
    pub rates_bps: Vec<u64>,
    /// Rates in percent of the critical rate, which follows from the costs that the study measures
    /// first; empty where the rates are given.
    pub around_percent: Vec<u32>,
}

/// What a study has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyFinding {
    /// What computing costs on each node of the path, measured before the first trial and again at
    /// every setting.
    Costs(Vec<NodeCosts>),
    /// A round trip whose trials begin.
    Row(RowRecord),
    /// A trial.
    Trial(TrialRecord),
    /// A request while the links follow their traces.
    Traced(Box<TracedTrial>),
    /// How likely drafts are accepted on one prompt.
    Acceptance(AcceptanceRecord),
    /// What getting a context costs, measured before the trials of each round trip and again at every
    /// further setting.
    Delivery(DeliveryCosts),
    /// What a coding of keys and values loses on one prompt.
    Loss(LossRecord),
    /// What computing a prompt costs a node that retrieves, measured at every setting.
    Retrieval(RetrievalCosts),
    /// What uploads and batches cost, where several users share an edge.
    Shared(SharedCosts),
    /// What became of the requests of several users with one arm.
    Round(SharedRound),
    /// What an answer costs each node with each of its weights.
    Places(Vec<PlaceCosts>),
    /// What was guessed of a prompt.
    Leak(LeakRecord),
    /// What happened to the tasks of a shared backbone.
    Adapters(AdapterFinding),
    /// What an empty frame takes to each node and back.
    Ways(WayRecord),
    /// What half of a layer costs on each of two nodes.
    Halves(Vec<HalfCosts>),
    /// What looking at an image costs, and what follows the bytes of it.
    Looks(LooksRecord),
    /// What was seen in an image.
    Look(LookRecord),
}

/// What a token costs on a node while answers are generated, medians of several passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCosts {
    /// One layer: what each more of them adds.
    pub layer_ns: u64,
    /// What a pass costs besides its layers.
    pub fixed_ns: u64,
    /// The head; `None` on a node that holds none.
    pub head_ns: Option<u64>,
    /// Passes that each median is over.
    pub passes: u32,
}

/// A round trip of the grid, and the rates that were chosen for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRecord {
    /// The round trip that was asked for of each link.
    pub round_trip_ns: u64,
    /// The median round trip of an empty frame over the whole path and back, at a high rate.
    pub echo_ns: u64,
    /// Echoes that it is the median of.
    pub echoes: u32,
    /// The rate at which placing as few layers as allowed on the first node costs as much as all,
    /// from the first costs; `None` if the former wins at no rate, or nothing is split. What is
    /// judged takes all costs.
    pub critical_rate_bps: Option<u64>,
    /// The rates of the trials.
    pub rates_bps: Vec<u64>,
}

/// One request of a study, at one setting. Times are offsets from T0 in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// Its number within the study.
    pub number: u32,
    /// Requests that were under way together share one.
    pub group: u32,
    /// The arm.
    pub arm: Arm,
    /// The round trip that was asked for of each link.
    pub round_trip_ns: u64,
    /// The rate of each link.
    pub rate_bps: u64,
    /// Which of the prompts.
    pub prompt: u32,
    /// When it was sent.
    pub started_ns: u64,
    /// When each token was there.
    pub token_ns: Vec<u64>,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Places in the answer, counted from 0, of tokens that the first node chose on a CPU and beside which another was
    /// about as good: another device may say that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ties: Vec<u32>,
    /// What each link of the path carried, in its order, as the node behind it counted.
    pub hops: Vec<HopBytes>,
    /// How long each node of the path computed, its slowdown included.
    pub busy_ns: Vec<u64>,
    /// Drafts, where the technique makes any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<RoundRecord>,
    /// How each token came to be, where the device decides that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// The outage that it was played in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<Box<OutageRecord>>,
    /// How its context came, where another node had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferRecord>,
    /// What was retrieved for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<Box<RetrievalRecord>>,
    /// Where it was answered, where the whole model is on several nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
    /// What became of it where two nodes share every layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halves: Option<Box<HalvesRecord>>,
}

impl TrialRecord {
    /// Takes down that another token than the one that comes next was about as good.
    pub(crate) fn tie_comes(&mut self) {
        let place = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        self.ties.push(place);
    }

    /// Times between tokens, in order.
    pub fn gaps_ns(&self) -> impl Iterator<Item = u64> {
        let pairs = self.token_ns.windows(2);
        pairs.filter_map(|pair| Some(pair.get(1)?.saturating_sub(*pair.first()?)))
    }
}

/// What one request put on one link, handshake and closing account apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopBytes {
    /// Bytes away from the driver, headers included.
    pub up: u64,
    /// Bytes towards it, headers included.
    pub down: u64,
    /// Frames away from the driver.
    pub frames_up: u64,
    /// Frames towards it.
    pub frames_down: u64,
}

impl StudySpec {
    /// Nodes of its path.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.arms.first().map_or(0, Arm::nodes)
    }

    /// How the first of its arms codes hidden states: what its laws are about where several are tried.
    #[must_use]
    pub fn coding(&self) -> Coding {
        self.arms.first().map_or(Coding::F32, Arm::coding)
    }

    /// Which technique is studied.
    #[must_use]
    pub fn technique(&self) -> Technique {
        let mut others = self
            .arms
            .iter()
            .filter(|arm| !matches!(arm, Arm::Split { .. }));
        match others.next() {
            None => Technique::Split,
            Some(Arm::EarlyExit { .. }) => Technique::EarlyExit,
            Some(Arm::Cascade { .. }) => Technique::Cascade,
            Some(Arm::KeyValues { .. }) => Technique::KeyValues,
            Some(Arm::Retrieval(_)) => Technique::Retrieval,
            Some(Arm::Shared { .. }) => Technique::Shared,
            Some(Arm::Kpi { .. } | Arm::KpiOnTrace { .. }) => Technique::Kpi,
            Some(Arm::Placed(_) | Arm::Policy(_)) => Technique::Placement,
            Some(Arm::UShaped(_)) => Technique::UShaped,
            Some(Arm::TensorParallel(_)) => Technique::TensorParallel,
            Some(Arm::Leaking(_)) => Technique::Leaking,
            Some(Arm::Adapters(_)) => Technique::Adapters,
            Some(Arm::Look(_)) => Technique::Multimodal,
            Some(Arm::Convolutional(_)) => Technique::Convolutional,
            Some(_) => Technique::Speculative,
        }
    }

    /// How images are looked at, in the order of the arms.
    #[must_use]
    pub fn looks(&self) -> Vec<Look> {
        let of_arm = |arm: &Arm| match arm {
            Arm::Look(look) => Some(*look),
            _ => None,
        };
        self.arms.iter().filter_map(of_arm).collect()
    }

    /// How contexts come, but for adaptive arms, which choose among these.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        let of_arm = |arm: &Arm| match arm {
            Arm::KeyValues { delivery, .. } => Some(*delivery),
            _ => None,
        };
        let mut all: Vec<Delivery> = self.arms.iter().filter_map(of_arm).collect();
        all.retain(|delivery| *delivery != Delivery::Adaptive);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What is retrieved from; `None` where nothing is.
    #[must_use]
    pub fn library(&self) -> Option<Library> {
        self.arms.iter().find_map(|arm| match arm {
            Arm::Retrieval(retrieval) => Some(retrieval.library),
            _ => None,
        })
    }

    /// Whether its arms fit a model with so many layers; in words if not.
    ///
    /// # Errors
    /// No arm, arms of different paths, or ends that do not rise to the last layer.
    pub fn check(&self, layers: u32) -> Result<(), String> {
        if self.nodes() == 0 {
            return Err("the study has no arm".to_owned());
        }
        let technique = self.technique();
        for arm in &self.arms {
            let fits = match arm {
                Arm::Split { .. } => matches!(
                    technique,
                    Technique::Split | Technique::UShaped | Technique::TensorParallel
                ),
                Arm::UShaped(_) => technique == Technique::UShaped,
                Arm::TensorParallel(_) => technique == Technique::TensorParallel,
                Arm::Leaking(_) => technique == Technique::Leaking,
                Arm::Adapters(_) => technique == Technique::Adapters,
                Arm::Look(_) => technique == Technique::Multimodal,
                Arm::Convolutional(_) => technique == Technique::Convolutional,
                Arm::Remote { .. } | Arm::Speculative(_) => technique == Technique::Speculative,
                Arm::Cascade { .. } => technique == Technique::Cascade,
                Arm::EarlyExit { .. } => technique == Technique::EarlyExit,
                Arm::KeyValues { .. } => technique == Technique::KeyValues,
                Arm::Retrieval(_) => technique == Technique::Retrieval,
                Arm::Shared { .. } => technique == Technique::Shared,
                Arm::Kpi { .. } | Arm::KpiOnTrace { .. } => technique == Technique::Kpi,
                Arm::Placed(_) => {
                    matches!(technique, Technique::Placement | Technique::TensorParallel)
                }
                Arm::Policy(_) => technique == Technique::Placement,
            };
            if !fits {
                return Err("its arms are not of one technique".to_owned());
            }
            if let Arm::EarlyExit { cut, .. } = arm
                && !(1..=layers).contains(cut)
            {
                return Err(format!(
                    "a model of {layers} layers has no exit after layer {cut}"
                ));
            }
            if let Arm::Leaking(leaking) = arm
                && !(1..=layers).contains(&leaking.layer)
            {
                let layer = leaking.layer;
                return Err(format!(
                    "a model of {layers} layers has no states after layer {layer}"
                ));
            }
            if let Arm::UShaped(shape) = arm
                && !shape.fits(layers)
            {
                let name = shape.name();
                return Err(format!("a model of {layers} layers has no {name}"));
            }
            if technique != Technique::Split {
                continue;
            }
            let ends = arm.ends();
            let rises = ends.is_sorted() && ends.first().is_some_and(|first| *first > 0);
            let strict = ends.windows(2).all(|pair| pair.first() != pair.last());
            let fits = ends.last() == Some(&layers) && ends.len() == self.nodes();
            if !(rises && fits && (strict || arm.is_whole()) && arm.in_flight() > 0) {
                return Err(format!(
                    "a model of {layers} layers cannot be divided as {}",
                    arm.name()
                ));
            }
        }
        Ok(())
    }

    /// The layers that the node at a place of the path needs for any of the arms, and whether it
    /// needs the head, of a model with so many layers.
    #[must_use]
    pub fn layers_of(&self, place: usize, layers: u32) -> (std::ops::Range<u32>, bool) {
        match self.technique() {
            Technique::Split => {}
            Technique::KeyValues => return (0..layers, true),
            Technique::Speculative
            | Technique::Cascade
            | Technique::Retrieval
            | Technique::Adapters
            | Technique::Multimodal
            | Technique::Shared => {
                return match place {
                    1 => (0..layers, true),
                    _ => (0..0, false),
                };
            }
            Technique::EarlyExit => return self.layers_of_exits(place, layers),
            Technique::Kpi => return (0..0, false),
            // Beside halves, whoever has the whole model answers alone too.
            Technique::Placement | Technique::TensorParallel => return (0..layers, true),
            // Who guesses knows the whole model.
            Technique::Leaking if place > 0 => return (0..layers, true),
            Technique::Leaking => return (0..self.deepest_leak(), false),
            // None of the language model's.
            Technique::Convolutional => return (0..0, false),
            Technique::UShaped => return self.layers_of_u_shapes(place, layers),
        }
        let mut range = None::<std::ops::Range<u32>>;
        let mut head = false;
        for ends in self.arms.iter().map(Arm::ends) {
            let start = place.checked_sub(1).and_then(|before| ends.get(before));
            let start = start.copied().unwrap_or(0);
            let end = ends.get(place).copied().unwrap_or(start);
            if start >= end {
                continue;
            }
            head |= end == layers;
            let wider = range.map_or(start..end, |range| {
                range.start.min(start)..range.end.max(end)
            });
            range = Some(wider);
        }
        (range.unwrap_or(0..0), head)
    }
}
