//! The techniques that studies try, as an experiment names them, and the arms that they stand for.

mod arms;

use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::adapters::{AdapterServing, Serving};
use hexloop_workloads::study::cnn::{self, Convolutional};
use hexloop_workloads::study::kv::{Delivery, QUESTION_TOKENS, Source};
use hexloop_workloads::study::multimodal::Encoder;
use hexloop_workloads::study::own::{Rule, Threshold};
use hexloop_workloads::study::placement::{Placement, PlacementPolicy, Weights};
use hexloop_workloads::study::retrieval::{Library, Retrieval};
use hexloop_workloads::study::shared::policy::Policy;
use hexloop_workloads::study::speculative::{Crossing, DraftLength, Drawing, Speculation};
use hexloop_workloads::study::tensor_parallel::TensorParallel;
use hexloop_workloads::study::{self, Arm};

use self::arms::{deliveries, exits, leaks, looks, u_shapes};
use super::Study;

/// A technique with the parameters that are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Technique {
    /// The layers are divided over the nodes of the path.
    Split {
        /// How the layers are divided.
        cuts: Vec<Cut>,
        /// How many requests are under way at a time.
        in_flight: Vec<u32>,
        /// How hidden states cross the links.
        codings: Vec<Coding>,
    },
    /// The second model drafts on the first node, the first verifies on the last.
    Speculative(Speculations),
    /// The first node has the first layers and an exit after them.
    EarlyExit {
        /// After which layers.
        cuts: Vec<Cut>,
        /// How sure is sure enough.
        thresholds: Vec<Threshold>,
    },
    /// The second model answers on the first node, and the first model on the last what that is not sure
    /// of.
    Cascade {
        /// What makes an answer sure.
        rules: Vec<Rule>,
        /// How sure is sure enough.
        thresholds: Vec<Threshold>,
    },
    /// The second node has the contexts of requests, and the first goes on from there.
    KeyValues {
        /// How contexts come.
        deliveries: Vec<Delivery>,
        /// Where the second node has their keys and values from.
        sources: Vec<Source>,
    },
    /// The second node has documents, and answers queries with what it finds in them.
    Retrieval {
        /// What it has.
        library: Library,
        /// Chunks in front of each query.
        chunks: u32,
        /// Of how many centres the vectors are looked at; `None` for all.
        probes: Vec<Option<u32>>,
        /// Whether keys and values of prefixes are kept.
        keeps: Vec<bool>,
    },
    /// Several users share the whole model on the second node.
    Shared {
        /// Who is served next, and who is refused.
        policies: Vec<Policy>,
        /// The most sequences of a pass.
        batches: Vec<u32>,
    },
    /// Rows of the KPI tables are sent.
    Kpi,
    /// The first node has the first layers and the last ones.
    UShaped {
        /// After which layers it stops, and the second hands back.
        cuts: Vec<Cut>,
    },
    /// Each of two nodes has half of every layer.
    TensorParallel {
        /// The two-way splits that are tried beside it.
        cuts: Vec<Cut>,
        /// How the parts of sums cross the link.
        codings: Vec<Coding>,
    },
    /// The second node guesses tokens from the states that cross the link.
    Leaking {
        /// After which layers.
        cuts: Vec<Cut>,
        /// How the states cross the link.
        codings: Vec<Coding>,
    },
    /// A convolutional network, divided over two nodes.
    Convolutional {
        /// Thousand million products that each of them does in a second.
        gigaproducts: [u32; 2],
    },
    /// The first node has images, the second the language model.
    Multimodal {
        /// Where images are encoded.
        encoders: Vec<Encoder>,
        /// How many neighbouring patches become one visual token.
        merges: Vec<u32>,
        /// How visual tokens cross the link.
        codings: Vec<Coding>,
    },
    /// The second node has a backbone, and the first what each task adds to it.
    Adapters {
        /// What a batch may hold.
        servings: Vec<Serving>,
        /// The most sequences of a pass.
        batches: Vec<u32>,
    },
    /// The whole model is on every node, and one of them answers.
    Placement {
        /// How each of them keeps the matrices.
        weights: Vec<Weights>,
        /// How long a whole answer may take.
        levels_ns: Vec<u64>,
    },
}

impl Technique {
    /// Which it is, without its parameters.
    pub(crate) const fn kind(&self) -> study::Technique {
        match self {
            Technique::Split { .. } => study::Technique::Split,
            Technique::Speculative(_) => study::Technique::Speculative,
            Technique::EarlyExit { .. } => study::Technique::EarlyExit,
            Technique::Cascade { .. } => study::Technique::Cascade,
            Technique::KeyValues { .. } => study::Technique::KeyValues,
            Technique::Retrieval { .. } => study::Technique::Retrieval,
            Technique::Shared { .. } => study::Technique::Shared,
            Technique::Kpi => study::Technique::Kpi,
            Technique::Placement { .. } => study::Technique::Placement,
            Technique::Adapters { .. } => study::Technique::Adapters,
            Technique::Multimodal { .. } => study::Technique::Multimodal,
            Technique::UShaped { .. } => study::Technique::UShaped,
            Technique::TensorParallel { .. } => study::Technique::TensorParallel,
            Technique::Leaking { .. } => study::Technique::Leaking,
            Technique::Convolutional { .. } => study::Technique::Convolutional,
        }
    }
}

/// How the layers of a model are divided over a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Every cut of a path of two nodes, and all layers on the first.
    Every,
    /// As evenly as may be; the first nodes get one more.
    Even,
    /// After these layers, one for each node but the last.
    After(Vec<u32>),
}

/// What speculative decoding is tried with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speculations {
    /// How many tokens are drafted at a time.
    pub lengths: Vec<DraftLength>,
    /// What crosses the link.
    pub crossings: Vec<Crossing>,
    /// How tokens are chosen.
    pub drawings: Vec<Drawing>,
}

impl Speculations {
    /// The baseline and every combination, but that nothing besides ids crosses for greedy drafts.
    fn arms(&self) -> Vec<Arm> {
        let mut arms = Vec::new();
        for drawing in &self.drawings {
            let drawing = *drawing;
            arms.push(Arm::Remote { drawing });
            let crossings = self
                .crossings
                .iter()
                .filter(|crossing| drawing == Drawing::Sampled || **crossing == Crossing::Ids);
            for crossing in crossings {
                let arm = |length: &DraftLength| {
                    Arm::Speculative(Speculation {
                        drawing,
                        crossing: *crossing,
                        length: *length,
                    })
                };
                arms.extend(self.lengths.iter().map(arm));
            }
        }
        arms
    }
}

impl Study {
    /// Tokens in front of an answer: the prompt, and what a technique puts in front of it.
    pub(crate) const fn sequence_tokens(&self) -> u32 {
        match &self.technique {
            Technique::Retrieval {
                library, chunks, ..
            } => chunks
                .saturating_mul(library.chunk_tokens)
                .saturating_add(self.prompt_tokens),
            _ => self.prompt_tokens,
        }
    }

    /// Its arms with a model of so many layers.
    ///
    /// # Errors
    /// The key to blame, what is wrong with it, and how to mend it.
    pub(crate) fn arms(&self, layers: u32) -> Result<Vec<Arm>, (&'static str, (String, String))> {
        match &self.technique {
            Technique::Split {
                cuts,
                in_flight,
                codings,
            } => self
                .splits(cuts, (in_flight, codings), layers)
                .map_err(|problem| ("cuts", problem)),
            Technique::Speculative(speculations) if self.path.len() == 2 => Ok(speculations.arms()),
            Technique::Speculative(_) => {
                let message = "drafting and verifying take two nodes".to_owned();
                let help = "name the node that drafts and the node that verifies".to_owned();
                Err(("path", (message, help)))
            }
            Technique::EarlyExit { .. } | Technique::Cascade { .. } if self.path.len() != 2 => {
                let message = "a device and an edge to ask are two nodes".to_owned();
                let help =
                    "name the node that answers what it is sure of and the node that it asks";
                Err(("path", (message, help.to_owned())))
            }
            Technique::KeyValues { .. } | Technique::Retrieval { .. } if self.path.len() != 2 => {
                let message = "to have something and to ask for it take two nodes".to_owned();
                let help = "name the node that asks and the node that has it";
                Err(("path", (message, help.to_owned())))
            }
            Technique::KeyValues { .. } if self.prompt_tokens <= QUESTION_TOKENS => {
                let message = format!(
                    "a prompt of {} tokens leaves no context: its last {QUESTION_TOKENS} are the question",
                    self.prompt_tokens
                );
                let help = format!("give more than {QUESTION_TOKENS}");
                Err(("prompt_tokens", (message, help)))
            }
            Technique::Retrieval { library, .. } if self.prompt_tokens > library.chunk_tokens => {
                let message = format!(
                    "a query of {} tokens is no part of a chunk of {}",
                    self.prompt_tokens, library.chunk_tokens
                );
                let help = "make queries shorter, or chunks longer".to_owned();
                Err(("prompt_tokens", (message, help)))
            }
            Technique::Retrieval {
                library,
                chunks,
                probes,
                keeps,
            } => {
                let (library, chunks) = (*library, *chunks);
                let of_search = |probes: &Option<u32>| {
                    let probes = *probes;
                    let arm = move |keeps: &bool| {
                        Arm::Retrieval(Retrieval {
                            library,
                            chunks,
                            probes,
                            keeps: *keeps,
                        })
                    };
                    keeps.iter().map(arm)
                };
                Ok(probes.iter().flat_map(of_search).collect())
            }
            Technique::KeyValues {
                deliveries: ways,
                sources,
            } => Ok(deliveries(ways, sources)),
            Technique::Kpi => self.transmissions().map_err(|problem| ("tables", problem)),
            Technique::Shared { policies, batches } => Ok(policies
                .iter()
                .flat_map(|policy| {
                    let policy = *policy;
                    batches.iter().map(move |batch| Arm::Shared {
                        policy,
                        batch: *batch,
                    })
                })
                .collect()),
            Technique::EarlyExit { cuts, thresholds } => {
                exits(cuts, thresholds, layers).map_err(|problem| ("cuts", problem))
            }
            Technique::Cascade { rules, thresholds } => {
                let of_rule = |rule: &Rule| {
                    let rule = *rule;
                    let arm = move |threshold: &Threshold| Arm::Cascade {
                        rule,
                        threshold: *threshold,
                    };
                    thresholds.iter().map(arm)
                };
                Ok(rules.iter().flat_map(of_rule).collect())
            }
            Technique::Placement { .. } if self.path.len() < 2 => {
                let message = "there is nowhere else to answer on a path of one node".to_owned();
                let help = "name the node that asks, and the nodes behind it".to_owned();
                Err(("path", (message, help)))
            }
            Technique::Leaking { .. } if self.path.len() != 2 => {
                let message = "what leaks crosses one link".to_owned();
                let help = "name the node with the prompts and the node that guesses".to_owned();
                Err(("path", (message, help)))
            }
            Technique::Leaking { cuts, codings } => {
                leaks(cuts, codings, layers).map_err(|problem| ("cuts", problem))
            }
            Technique::Adapters { .. } if self.path.len() != 2 => {
                let message = "a backbone and what tasks add to it are on two nodes".to_owned();
                let help = "name the node that has the adapters and the node that has the backbone";
                Err(("path", (message, help.to_owned())))
            }
            Technique::Adapters { servings, batches } => Ok(servings
                .iter()
                .flat_map(|serving| {
                    let serving = *serving;
                    batches.iter().map(move |batch| {
                        Arm::Adapters(AdapterServing {
                            serving,
                            batch: *batch,
                        })
                    })
                })
                .collect()),
            Technique::Multimodal { .. } if self.path.len() != 2 => {
                let message = "images and the model that is asked about them are on two nodes";
                let help = "name the node that has the images and the node that has the model";
                Err(("path", (message.to_owned(), help.to_owned())))
            }
            Technique::Multimodal {
                encoders,
                merges,
                codings,
            } => Ok(looks(encoders, merges, codings)),
            Technique::Convolutional { .. } if self.path.len() != 2 => {
                let message = "a network in two parts has two nodes".to_owned();
                let help = "name the node with the images and the node behind it".to_owned();
                Err(("path", (message, help)))
            }
            Technique::Convolutional {
                gigaproducts: [near, far],
            } => {
                let network = |cut| {
                    Arm::Convolutional(Convolutional {
                        cut,
                        near_per_us: u64::from(*near) * 1000,
                        far_per_us: u64::from(*far) * 1000,
                    })
                };
                Ok((1..=cnn::block_count()).map(network).collect())
            }
            Technique::UShaped { .. } if self.path.len() != 2 => {
                let message = "a U has two nodes".to_owned();
                let help =
                    "name the node with both ends of the model and the one between".to_owned();
                Err(("path", (message, help)))
            }
            Technique::UShaped { cuts } => {
                u_shapes(cuts, layers).map_err(|problem| ("cuts", problem))
            }
            Technique::TensorParallel { .. } if self.path.len() != 2 => {
                let message = "the halves of a layer are on two nodes".to_owned();
                let help = "name the node with the prompts and the node that shares its layers";
                Err(("path", (message, help.to_owned())))
            }
            Technique::TensorParallel { cuts, codings } => self
                .halves(cuts, codings, layers)
                .map_err(|problem| ("cuts", problem)),
            Technique::Placement { weights, levels_ns } => Ok(self.placements(weights, levels_ns)),
        }
    }

    /// Every row that can be tried, at every rate; and on the trace, where one is played.
    fn transmissions(&self) -> Result<Vec<Arm>, (String, String)> {
        let Some(kpi) = &self.kpi else {
            return Ok(Vec::new());
        };
        let tried = kpi.rows().filter(|(_, row)| kpi.flow(row).is_ok());
        let rows: Vec<u32> = tried.map(|(row, _)| row).collect();
        let at_rates = |row: &u32| {
            let row = *row;
            let percents = kpi.percents.iter();
            percents.map(move |percent| Arm::Kpi {
                row,
                percent: *percent,
            })
        };
        let mut arms: Vec<Arm> = rows.iter().flat_map(at_rates).collect();
        if self.traced.is_some() {
            arms.extend(rows.iter().map(|row| Arm::KpiOnTrace { row: *row }));
        }
        if rows.is_empty() {
            let message = "no row of these tables can be tried".to_owned();
            let help = "raise `scale` or `most_rate`, or name other tables".to_owned();
            return Err((message, help));
        }
        Ok(arms)
    }

    /// Halves of every layer in each coding, and beside them two-way splits and either node alone.
    fn halves(
        &self,
        cuts: &[Cut],
        codings: &[Coding],
        layers: u32,
    ) -> Result<Vec<Arm>, (String, String)> {
        let halves = |coding: &Coding| Arm::TensorParallel(TensorParallel { coding: *coding });
        let splits = self.splits(cuts, (&[1], &[Coding::F32]), layers)?;
        // With all layers on the first node, that answers alone.
        let splits = splits.into_iter().filter(|arm| !arm.is_whole());
        let arms = codings.iter().map(halves).chain(splits);
        Ok(arms.chain(self.placements(&[Weights::Full], &[])).collect())
    }

    /// Every node with each of the weights, and a policy for each service level.
    fn placements(&self, weights: &[Weights], levels_ns: &[u64]) -> Vec<Arm> {
        let nodes = u32::try_from(self.path.len()).unwrap_or(u32::MAX);
        let places = (0..nodes).zip(&self.path);
        let fixed = places.flat_map(|(place, node)| {
            weights.iter().map(move |weights| {
                Arm::Placed(Placement {
                    place,
                    node: node.clone(),
                    weights: *weights,
                    nodes,
                })
            })
        });
        let policy = |deadline_ns: &u64| {
            Arm::Policy(PlacementPolicy {
                deadline_ns: *deadline_ns,
                nodes,
            })
        };
        fixed.chain(levels_ns.iter().map(policy)).collect()
    }

    fn splits(
        &self,
        cuts: &[Cut],
        (in_flight, codings): (&[u32], &[Coding]),
        layers: u32,
    ) -> Result<Vec<Arm>, (String, String)> {
        let mut arms = Vec::new();
        for cut in cuts {
            for ends in self.divided(cut, layers)? {
                let whole = ends.first() == ends.last();
                // Where nothing crosses the links there is nothing to be coded.
                let codings = if whole {
                    codings.get(..1)
                } else {
                    Some(codings)
                };
                for coding in codings.unwrap_or_default() {
                    let arm = |in_flight: &u32| Arm::Split {
                        ends: ends.clone(),
                        in_flight: *in_flight,
                        coding: *coding,
                    };
                    arms.extend(in_flight.iter().map(arm));
                }
            }
        }
        Ok(arms)
    }

    /// Where each node of the path ends, for each way that a cut stands for.
    fn divided(&self, cut: &Cut, layers: u32) -> Result<Vec<Vec<u32>>, (String, String)> {
        let nodes = self.path.len();
        let ends = match cut {
            Cut::Every if nodes == 2 => {
                return Ok((1..=layers).map(|cut| vec![cut, layers]).collect());
            }
            Cut::Every => {
                let message = format!("`every` cut of a path of {nodes} nodes is not one number");
                let help = "write `even`, or after which layers the nodes end, such as `2/4`";
                return Err((message, help.to_owned()));
            }
            Cut::Even => {
                let count = u32::try_from(nodes).unwrap_or(u32::MAX).max(1);
                (1..count)
                    .map(|node| (node * layers).div_ceil(count))
                    .collect()
            }
            Cut::After(ends) => ends.clone(),
        };
        let told: Vec<String> = ends.iter().map(u32::to_string).collect();
        let ends: Vec<u32> = ends.into_iter().chain([layers]).collect();
        let whole = ends.first() == ends.last();
        let rises = ends.first().is_some_and(|first| *first > 0)
            && ends.windows(2).all(|pair| match pair {
                [one, next] => one < next || (whole && one == next),
                _ => true,
            });
        if ends.len() == nodes && rises {
            return Ok(vec![ends]);
        }
        let message = format!(
            "{} layers cannot be divided over {nodes} nodes after `{}`",
            layers,
            told.join("/")
        );
        let count = match nodes {
            2 => "one number".to_owned(),
            nodes => format!("{} rising numbers", nodes.saturating_sub(1)),
        };
        let help = format!(
            "give {count} from 1 to {}, or {layers} for all of them on the first node",
            layers.saturating_sub(1)
        );
        Err((message, help))
    }
}
