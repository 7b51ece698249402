//! Studies as planned, and what can be claimed of them.

use hexloop_workloads::study::{StudySpec, Technique};
use hexloop_workloads::transport::Transport;
use serde::{Deserialize, Serialize};

use super::BesidePlan;

/// A technique over a grid of settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudyPlan {
    /// Its name.
    pub name: String,
    /// The nodes, from the driver on.
    pub path: Vec<String>,
    /// The links between them, and the addresses that their further ends listen at.
    pub hops: Vec<BesidePlan>,
    /// How frames cross them.
    #[serde(default, skip_serializing_if = "Transport::is_default")]
    pub transport: Transport,
    /// What is done.
    pub study: StudySpec,
    /// How long it may take.
    pub duration_ns: u64,
}

/// What can be claimed of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyClaim {
    /// Every prompt has the same tokens with every arm at every setting.
    ArmsAgree,
    /// Each trial put on each link what the formula says, byte for byte.
    ArmBytesFollowFormula,
    /// All cuts that leave layers on both nodes put the same bytes on the link.
    CutMovesNoBytes,
    /// The time of a token is linear in the cut, with the slope of the costs.
    TokenTimeLinearInCut,
    /// The best cut flips at the critical rate.
    BestCutFlips,
    /// Without a critical rate, all layers on the first node are best.
    NeverSplits,
    /// With one request under way, the time of a token is the sum of what nodes and links take.
    LatencyIsSum,
    /// With several, tokens come as fast as the slowest node or link lets them.
    ThroughputIsSlowest,
    /// Of several divisions, the one whose slowest node is the fastest brings the most.
    BestDivisionAsPredicted,
    /// Less is coded, less time: what coding takes off the prompt's bytes it takes off its time.
    CodingsSaveLinkTime,
    /// Drafts bring as many tokens as their acceptance on other prompts predicts.
    RoundsFollowAcceptance,
    /// The best length of drafts does not shrink as the round trip grows.
    BestDraftGrowsWithRoundTrip,
    /// At a low rate distributions cost most of the token rate, and ids do not.
    DistributionsCollapse,
    /// The surer the device must be, the more its answers are the whole model's.
    QualityRisesWithThreshold,
    /// What an exit is sure of is what the whole model says.
    SureExitsAgree,
    /// The slower the link, the more layers belong on the device.
    BestCutSlides,
    /// The device answers in an outage, and the remote placement stalls.
    DeviceAnswersInOutage,
    /// The bytes up are those of one escalated request, as often as one was.
    UplinkFollowsEscalation,
    /// The time of the first token is the round trip, the bytes at the rate, and what both nodes compute.
    FirstTokenIsSum,
    /// What is the fastest way for a context changes with the rate as costs and sizes say.
    RegimesAsPredicted,
    /// An adaptive arm is hardly slower than the best fixed one.
    AdaptiveNearBest,
    /// The same request by request while the links follow their traces.
    AdaptiveNearBestOnTraces,
    /// The fewer bits keys and values have, the more is lost, and never much.
    LossGrowsAsBitsFall,
    /// Keys and values of chunks that were kept are not computed again, and that saves their time.
    ReuseSavesPrefill,
    /// An index that looks at few vectors finds most of what an exact search finds.
    RecallIsHigh,
    /// Above what can be served, the joint policy serves no fewer in time than first come, first served.
    JointServesMore,
    /// Who is admitted by a policy that refuses is less often late.
    AdmittedAreInTime,
    /// CPU time of a token falls with the batch.
    BatchSavesCpu,
    /// Energy of a token falls with the batch.
    BatchSavesEnergy,
    /// Counters of energy and integrals of power of the same device agree.
    CounterIsIntegratedPower,
    /// Above payload over latency a row of the KPI tables is in time, and below it late.
    KpisHoldByRate,
    /// What the link's trace carries in time is in time, and what it does not is late.
    KpisHoldByTrace,
    /// An answer of the first node takes as long whatever its links are.
    DeviceFlatInLink,
    /// On a further node the first token comes later by the round trip that is added, on equally fast nodes.
    RoundTripIsAdded,
    /// Tokens stream: the time between them does not depend on the round trip.
    TokenTimeFlatInRoundTrip,
    /// With weights in fewer bits the edge answers no less often in time.
    FewerBitsHitNoLess,
    /// With weights in fewer bits the edge answers more often in time at deadlines that tell both apart.
    FewerBitsHitMore,
    /// The policy answers in time as often as the best fixed placement.
    PolicyHitsAsBest,
    /// The first token comes from the second node as early as from the first at the rate that costs say.
    OffloadFlips,
    /// A U puts twice the states of a two-way split on the link.
    UShapeDoublesStates,
    /// Two halves make the tokens of the whole model, but where two are as good as each other.
    HalvesAgree,
    /// Each sum makes a token longer by half of a round trip.
    HalvesPayRoundTrips,
    /// A token of two halves takes what both compute and exchange.
    HalvesTakeSum,
    /// Halves of layers fall behind one node alone before a two-way split does.
    TensorParallelFallsFirst,
    /// The slower the link, the more of a convolutional network belongs on the device.
    CnnCutSlides,
    /// The deeper the cut, the fewer tokens of the prompt are near their states.
    LeakFallsWithDepth,
    /// An adapter is so many parameters on the link, a full model all of them, and nothing else but headers.
    AdapterBytesAreDelta,
    /// A prompt has the same answer beside other adapters, alone and with merged weights.
    AdaptersAnswerAlike,
    /// Each task's own adapter makes its text less surprising than any other and than none.
    AdaptersMatter,
    /// A task can be served after its bytes at the rate, the round trip and loading.
    ColdStartIsSum,
    /// Different adapters side by side serve no fewer in time than one at a time.
    TogetherServesAsMany,
    /// Merging m patches into one visual token leaves an m-th of their bytes on the link.
    MergingDividesUplink,
    /// Visual tokens are there before the image below the rate that costs and sizes say, and after it above.
    TokensWinBelowRate,
    /// Answers name what the image shows more often than not.
    AnswersNameTheImage,
    /// Fewer visual tokens name hardly less of the image.
    MergingKeepsAnswers,
}

impl StudyClaim {
    /// All of them.
    pub const ALL: [StudyClaim; 55] = [
        StudyClaim::ArmsAgree,
        StudyClaim::ArmBytesFollowFormula,
        StudyClaim::CutMovesNoBytes,
        StudyClaim::TokenTimeLinearInCut,
        StudyClaim::BestCutFlips,
        StudyClaim::NeverSplits,
        StudyClaim::LatencyIsSum,
        StudyClaim::ThroughputIsSlowest,
        StudyClaim::BestDivisionAsPredicted,
        StudyClaim::CodingsSaveLinkTime,
        StudyClaim::RoundsFollowAcceptance,
        StudyClaim::BestDraftGrowsWithRoundTrip,
        StudyClaim::DistributionsCollapse,
        StudyClaim::QualityRisesWithThreshold,
        StudyClaim::SureExitsAgree,
        StudyClaim::BestCutSlides,
        StudyClaim::DeviceAnswersInOutage,
        StudyClaim::UplinkFollowsEscalation,
        StudyClaim::FirstTokenIsSum,
        StudyClaim::RegimesAsPredicted,
        StudyClaim::AdaptiveNearBest,
        StudyClaim::AdaptiveNearBestOnTraces,
        StudyClaim::LossGrowsAsBitsFall,
        StudyClaim::ReuseSavesPrefill,
        StudyClaim::RecallIsHigh,
        StudyClaim::JointServesMore,
        StudyClaim::AdmittedAreInTime,
        StudyClaim::BatchSavesCpu,
        StudyClaim::BatchSavesEnergy,
        StudyClaim::CounterIsIntegratedPower,
        StudyClaim::KpisHoldByRate,
        StudyClaim::KpisHoldByTrace,
        StudyClaim::DeviceFlatInLink,
        StudyClaim::RoundTripIsAdded,
        StudyClaim::TokenTimeFlatInRoundTrip,
        StudyClaim::FewerBitsHitNoLess,
        StudyClaim::FewerBitsHitMore,
        StudyClaim::PolicyHitsAsBest,
        StudyClaim::OffloadFlips,
        StudyClaim::UShapeDoublesStates,
        StudyClaim::HalvesAgree,
        StudyClaim::HalvesPayRoundTrips,
        StudyClaim::HalvesTakeSum,
        StudyClaim::TensorParallelFallsFirst,
        StudyClaim::CnnCutSlides,
        StudyClaim::LeakFallsWithDepth,
        StudyClaim::AdapterBytesAreDelta,
        StudyClaim::AdaptersAnswerAlike,
        StudyClaim::AdaptersMatter,
        StudyClaim::ColdStartIsSum,
        StudyClaim::TogetherServesAsMany,
        StudyClaim::MergingDividesUplink,
        StudyClaim::TokensWinBelowRate,
        StudyClaim::AnswersNameTheImage,
        StudyClaim::MergingKeepsAnswers,
    ];

    /// Its name in experiment files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StudyClaim::ArmsAgree => "arms-agree",
            StudyClaim::ArmBytesFollowFormula => "arm-bytes-follow-formula",
            StudyClaim::CutMovesNoBytes => "cut-moves-no-bytes",
            StudyClaim::TokenTimeLinearInCut => "token-time-linear-in-cut",
            StudyClaim::BestCutFlips => "best-cut-flips",
            StudyClaim::NeverSplits => "never-splits",
            StudyClaim::LatencyIsSum => "latency-is-sum",
            StudyClaim::ThroughputIsSlowest => "throughput-is-slowest",
            StudyClaim::BestDivisionAsPredicted => "best-division-as-predicted",
            StudyClaim::CodingsSaveLinkTime => "codings-save-link-time",
            StudyClaim::RoundsFollowAcceptance => "rounds-follow-acceptance",
            StudyClaim::BestDraftGrowsWithRoundTrip => "best-draft-grows-with-round-trip",
            StudyClaim::DistributionsCollapse => "distributions-collapse",
            StudyClaim::QualityRisesWithThreshold => "quality-rises-with-threshold",
            StudyClaim::SureExitsAgree => "sure-exits-agree",
            StudyClaim::BestCutSlides => "best-cut-slides",
            StudyClaim::DeviceAnswersInOutage => "device-answers-in-outage",
            StudyClaim::UplinkFollowsEscalation => "uplink-follows-escalation",
            StudyClaim::FirstTokenIsSum => "first-token-is-sum",
            StudyClaim::RegimesAsPredicted => "regimes-as-predicted",
            StudyClaim::AdaptiveNearBest => "adaptive-near-best",
            StudyClaim::AdaptiveNearBestOnTraces => "adaptive-near-best-on-traces",
            StudyClaim::LossGrowsAsBitsFall => "loss-grows-as-bits-fall",
            StudyClaim::ReuseSavesPrefill => "reuse-saves-prefill",
            StudyClaim::RecallIsHigh => "recall-is-high",
            StudyClaim::JointServesMore => "joint-serves-more",
            StudyClaim::AdmittedAreInTime => "admitted-are-in-time",
            StudyClaim::BatchSavesCpu => "batch-saves-cpu",
            StudyClaim::BatchSavesEnergy => "batch-saves-energy",
            StudyClaim::CounterIsIntegratedPower => "counter-is-integrated-power",
            StudyClaim::KpisHoldByRate => "kpis-hold-by-rate",
            StudyClaim::KpisHoldByTrace => "kpis-hold-by-trace",
            StudyClaim::DeviceFlatInLink => "device-flat-in-link",
            StudyClaim::RoundTripIsAdded => "round-trip-is-added",
            StudyClaim::TokenTimeFlatInRoundTrip => "token-time-flat-in-round-trip",
            StudyClaim::FewerBitsHitNoLess => "fewer-bits-hit-no-less",
            StudyClaim::FewerBitsHitMore => "fewer-bits-hit-more",
            StudyClaim::PolicyHitsAsBest => "policy-hits-as-best",
            StudyClaim::OffloadFlips => "offload-flips",
            StudyClaim::UShapeDoublesStates => "u-shape-doubles-states",
            StudyClaim::HalvesAgree => "halves-agree",
            StudyClaim::HalvesPayRoundTrips => "halves-pay-round-trips",
            StudyClaim::HalvesTakeSum => "halves-take-sum",
            StudyClaim::TensorParallelFallsFirst => "tensor-parallel-falls-first",
            StudyClaim::CnnCutSlides => "cnn-cut-slides",
            StudyClaim::LeakFallsWithDepth => "leak-falls-with-depth",
            StudyClaim::AdapterBytesAreDelta => "adapter-bytes-are-delta",
            StudyClaim::AdaptersAnswerAlike => "adapters-answer-alike",
            StudyClaim::AdaptersMatter => "adapters-matter",
            StudyClaim::ColdStartIsSum => "cold-start-is-sum",
            StudyClaim::TogetherServesAsMany => "together-serves-as-many",
            StudyClaim::MergingDividesUplink => "merging-divides-uplink",
            StudyClaim::TokensWinBelowRate => "tokens-win-below-rate",
            StudyClaim::AnswersNameTheImage => "answers-name-the-image",
            StudyClaim::MergingKeepsAnswers => "merging-keeps-answers",
        }
    }

    /// The technique that it is about; `None` if about several.
    #[must_use]
    pub const fn technique(self) -> Option<Technique> {
        match self {
            // The third and fourth are about both techniques in which a device keeps what it is sure of, the fifth about
            // contexts and images, the last about contexts, drafts and placements.
            StudyClaim::ArmsAgree
            | StudyClaim::ArmBytesFollowFormula
            | StudyClaim::QualityRisesWithThreshold
            | StudyClaim::DeviceAnswersInOutage
            | StudyClaim::FirstTokenIsSum
            | StudyClaim::AdaptiveNearBestOnTraces => None,
            StudyClaim::CutMovesNoBytes
            | StudyClaim::TokenTimeLinearInCut
            | StudyClaim::BestCutFlips
            | StudyClaim::NeverSplits
            | StudyClaim::LatencyIsSum
            | StudyClaim::ThroughputIsSlowest
            | StudyClaim::BestDivisionAsPredicted
            | StudyClaim::CodingsSaveLinkTime => Some(Technique::Split),
            StudyClaim::RoundsFollowAcceptance
            | StudyClaim::BestDraftGrowsWithRoundTrip
            | StudyClaim::DistributionsCollapse => Some(Technique::Speculative),
            StudyClaim::SureExitsAgree | StudyClaim::BestCutSlides => Some(Technique::EarlyExit),
            StudyClaim::UplinkFollowsEscalation => Some(Technique::Cascade),
            StudyClaim::RegimesAsPredicted
            | StudyClaim::AdaptiveNearBest
            | StudyClaim::LossGrowsAsBitsFall => Some(Technique::KeyValues),
            StudyClaim::ReuseSavesPrefill | StudyClaim::RecallIsHigh => Some(Technique::Retrieval),
            StudyClaim::JointServesMore
            | StudyClaim::AdmittedAreInTime
            | StudyClaim::BatchSavesCpu
            | StudyClaim::BatchSavesEnergy => Some(Technique::Shared),
            StudyClaim::CounterIsIntegratedPower => None,
            StudyClaim::KpisHoldByRate | StudyClaim::KpisHoldByTrace => Some(Technique::Kpi),
            StudyClaim::DeviceFlatInLink
            | StudyClaim::RoundTripIsAdded
            | StudyClaim::TokenTimeFlatInRoundTrip
            | StudyClaim::FewerBitsHitNoLess
            | StudyClaim::FewerBitsHitMore
            | StudyClaim::PolicyHitsAsBest
            | StudyClaim::OffloadFlips => Some(Technique::Placement),
            StudyClaim::UShapeDoublesStates => Some(Technique::UShaped),
            StudyClaim::HalvesAgree
            | StudyClaim::HalvesPayRoundTrips
            | StudyClaim::HalvesTakeSum
            | StudyClaim::TensorParallelFallsFirst => Some(Technique::TensorParallel),
            StudyClaim::CnnCutSlides => Some(Technique::Convolutional),
            StudyClaim::LeakFallsWithDepth => Some(Technique::Leaking),
            StudyClaim::AdapterBytesAreDelta
            | StudyClaim::AdaptersAnswerAlike
            | StudyClaim::AdaptersMatter
            | StudyClaim::ColdStartIsSum
            | StudyClaim::TogetherServesAsMany => Some(Technique::Adapters),
            StudyClaim::MergingDividesUplink
            | StudyClaim::TokensWinBelowRate
            | StudyClaim::AnswersNameTheImage
            | StudyClaim::MergingKeepsAnswers => Some(Technique::Multimodal),
        }
    }

    /// Whether it says something of a technique.
    #[must_use]
    pub fn is_about(self, technique: Technique) -> bool {
        match self {
            StudyClaim::FirstTokenIsSum => {
                matches!(technique, Technique::KeyValues | Technique::Multimodal)
            }
            StudyClaim::AdaptiveNearBestOnTraces => {
                matches!(
                    technique,
                    Technique::KeyValues | Technique::Speculative | Technique::Placement
                )
            }
            claim => claim.technique().is_none_or(|of| of == technique),
        }
    }

    /// What it says of a study.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            StudyClaim::ArmsAgree => "every prompt gets the same tokens with every greedy arm",
            StudyClaim::ArmBytesFollowFormula => {
                "each trial puts on each link what the formula says, byte for byte"
            }
            StudyClaim::CutMovesNoBytes => "the cut does not change the bytes on the link",
            StudyClaim::TokenTimeLinearInCut => {
                "the time of a token is linear in the cut, with the slope of the layers' costs"
            }
            StudyClaim::BestCutFlips => "the best cut flips at the critical rate",
            StudyClaim::NeverSplits => {
                "where the round trip takes longer than splitting saves, no rate makes it pay"
            }
            StudyClaim::LatencyIsSum => {
                "with one request under way, a token takes the sum of what nodes and links take"
            }
            StudyClaim::ThroughputIsSlowest => {
                "with several requests under way, tokens come as fast as the slowest node or link lets them"
            }
            StudyClaim::BestDivisionAsPredicted => {
                "of several divisions of the layers, the one whose slowest node is the fastest brings the \
                 most"
            }
            StudyClaim::CodingsSaveLinkTime => {
                "what a coding takes off the bytes of a prompt it takes off the time of its first token"
            }
            StudyClaim::RoundsFollowAcceptance => {
                "drafts of g tokens bring (1 - a^(g+1)) / (1 - a) tokens, a their acceptance on other prompts"
            }
            StudyClaim::BestDraftGrowsWithRoundTrip => {
                "the best length of drafts does not shrink as the round trip grows"
            }
            StudyClaim::DistributionsCollapse => {
                "at a low rate distributions cost most of the token rate, and ids do not"
            }
            StudyClaim::QualityRisesWithThreshold => {
                "the surer the device must be, the more often its tokens are the whole model's"
            }
            StudyClaim::SureExitsAgree => {
                "of the tokens that an exit is sure of, as many as it says are the whole model's"
            }
            StudyClaim::BestCutSlides => {
                "the slower the link, the more layers belong on the device"
            }
            StudyClaim::DeviceAnswersInOutage => {
                "the device answers in an outage of the link, and the remote placement stalls"
            }
            StudyClaim::FirstTokenIsSum => {
                "the first token takes the round trip, the bytes at the rate, and what both nodes compute"
            }
            StudyClaim::RegimesAsPredicted => {
                "a context is computed again at low rates, coded in between and sent as it is at high ones, \
                 where costs and sizes say"
            }
            StudyClaim::AdaptiveNearBest => {
                "choosing for each request takes at most 10 % longer than the best fixed way at each rate"
            }
            StudyClaim::AdaptiveNearBestOnTraces => {
                "on the traces adapting takes at most 10 % longer than the best arm that does not"
            }
            StudyClaim::LossGrowsAsBitsFall => {
                "the fewer bits keys and values have, the more the text is surprising, within a bound"
            }
            StudyClaim::ReuseSavesPrefill => {
                "keys and values of chunks that were kept are not computed again, and that saves their time"
            }
            StudyClaim::RecallIsHigh => {
                "an index that looks at few vectors finds at least 80 % of what an exact search finds"
            }
            StudyClaim::UplinkFollowsEscalation => {
                "what crosses the uplink is in proportion to the escalated requests"
            }
            StudyClaim::JointServesMore => {
                "above what can be served, ordering uploads and computing together serves no fewer in time than \
                 first come, first served"
            }
            StudyClaim::AdmittedAreInTime => {
                "who is admitted by a policy that refuses is less often late than first come, first served"
            }
            StudyClaim::BatchSavesCpu => "CPU time of a token falls with the batch",
            StudyClaim::BatchSavesEnergy => "energy of a token falls with the batch",
            StudyClaim::CounterIsIntegratedPower => {
                "counters of energy and integrals of power of the same device agree within 5 %"
            }
            StudyClaim::KpisHoldByRate => {
                "each row is in time above payload over latency, and late below it"
            }
            StudyClaim::KpisHoldByTrace => {
                "each row is in time where the link's trace carries it within the latency, and late where it does not"
            }
            StudyClaim::DeviceFlatInLink => {
                "an answer of the first node takes as long whatever the links are"
            }
            StudyClaim::RoundTripIsAdded => {
                "the first token from a further node comes later by the round trip that is added, and by nothing else"
            }
            StudyClaim::TokenTimeFlatInRoundTrip => {
                "tokens stream: the time between them does not depend on the round trip"
            }
            StudyClaim::FewerBitsHitNoLess => {
                "with weights in fewer bits the edge answers no less often in time"
            }
            StudyClaim::FewerBitsHitMore => {
                "with weights in fewer bits the edge is in time more often, at deadlines between what costs say of both"
            }
            StudyClaim::PolicyHitsAsBest => {
                "the policy answers in time as often as the best fixed placement"
            }
            StudyClaim::OffloadFlips => {
                "answering on the second node brings the first token as early as on the first at the rate that \
                 costs say"
            }
            StudyClaim::UShapeDoublesStates => {
                "with both ends of the model on the device, twice the states of a two-way split cross the link"
            }
            StudyClaim::HalvesAgree => {
                "two halves of every layer make the whole model's tokens, but where two are as good as each other"
            }
            StudyClaim::HalvesPayRoundTrips => {
                "each of the two sums of a layer makes a token of two halves longer by half of a round trip"
            }
            StudyClaim::HalvesTakeSum => {
                "a token of two halves takes what both compute at the same time and exchange for each sum"
            }
            StudyClaim::TensorParallelFallsFirst => {
                "as the round trip rises, halves of layers fall behind one node alone before a two-way split does"
            }
            StudyClaim::CnnCutSlides => {
                "the slower the link, the more of a convolutional network belongs on the device, step by step and as \
                 its costs say"
            }
            StudyClaim::AdapterBytesAreDelta => {
                "what crosses the link for a task is its adapter's parameters, or all parameters of a full model, and headers"
            }
            StudyClaim::AdaptersAnswerAlike => {
                "a prompt is answered alike beside other adapters, alone, and by merged weights"
            }
            StudyClaim::AdaptersMatter => {
                "each task's own adapter makes its text less surprising than none, and than any other"
            }
            StudyClaim::ColdStartIsSum => {
                "a task can be served after its bytes at the rate, the round trip and loading"
            }
            StudyClaim::TogetherServesAsMany => {
                "sequences of different adapters side by side serve no fewer in time than one adapter at a time"
            }
            StudyClaim::MergingDividesUplink => {
                "where m neighbours are merged into one visual token, an m-th of the bytes of all visual tokens crosses the link"
            }
            StudyClaim::TokensWinBelowRate => {
                "visual tokens bring the first token earlier than the image below the rate that costs and sizes say, and later above it"
            }
            StudyClaim::AnswersNameTheImage => {
                "answers name more than half of what is asked about the images"
            }
            StudyClaim::MergingKeepsAnswers => {
                "with fewer visual tokens answers name hardly less of the images"
            }
            StudyClaim::LeakFallsWithDepth => {
                "the deeper the states come from, the fewer tokens of the prompt the better of two readers finds in them"
            }
        }
    }
}
