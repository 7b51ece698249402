//! What is run, and how it is judged.

use super::Need::{Default as Usually, Optional, Required};
use super::{DAY, Field, Kind, SECOND, field, time};

pub(super) const REQUESTS: &[Field] = &[
    field(
        "arrivals",
        Kind::PerSecond,
        Required,
        "Mean rate of a Poisson process.",
    ),
    field(
        "prompt_tokens",
        Kind::Integer {
            least: 1,
            most: 1 << 20,
        },
        Required,
        "Prompt length of every request, in tokens.",
    ),
    field(
        "output_tokens",
        Kind::Integer {
            least: 1,
            most: 1 << 20,
        },
        Required,
        "Tokens that every request generates; generation never stops earlier.",
    ),
    field(
        "arrive_for",
        time(1, DAY),
        Required,
        "How long requests keep arriving in a phase.",
    ),
    field(
        "deadline",
        time(1_000_000, DAY),
        Required,
        "A request that has not ended so long after its scheduled time counts as failed.",
    ),
];

pub(super) const PHASE: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "placement",
        Kind::Choice(&["device", "edge", "split"]),
        Required,
        "Where the layers of the model run.",
    ),
    field(
        "layers_on_device",
        Kind::Integer {
            least: 0,
            most: 1 << 20,
        },
        Optional,
        "With placement `split`: how many decoder layers run on the device, the rest on the edge.",
    ),
    field(
        "device",
        Kind::Name,
        Optional,
        "The node that sends the requests: the link's first end.",
    ),
    field(
        "edge",
        Kind::Name,
        Optional,
        "The node that plays the edge: the link's second end.",
    ),
    field(
        "link",
        Kind::Identifier,
        Optional,
        "The link between them, if there is more than one.",
    ),
    field(
        "family",
        Kind::Choice(&["ipv4", "ipv6"]),
        Usually("ipv4"),
        "The address family of the job's connection.",
    ),
    field(
        "transport",
        Kind::Choice(&["tcp", "quic"]),
        Usually("tcp"),
        "How frames cross the link: over the kernel's TCP without delay, or over QUIC, encrypted and with \
         keys of the run.",
    ),
    field(
        "duration",
        time(1_000_000, DAY),
        Required,
        "Length of the phase; requests still under way then are unfinished.",
    ),
];

pub(super) const COMMAND: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field("node", Kind::Name, Required, "The node it runs on."),
    field(
        "argv",
        Kind::List {
            of: &Kind::Text { longest: 4096 },
            least: 1,
        },
        Required,
        "Program and arguments; no shell sees them.",
    ),
    field(
        "environment",
        Kind::Variables,
        Optional,
        "Variables that it gets besides PATH and LANG, as a table of names and texts.",
    ),
    field(
        "directory",
        Kind::Text { longest: 4096 },
        Optional,
        "The directory it is started in, an absolute path; the root unless given.",
    ),
    field(
        "ready",
        Kind::Table(READY),
        Optional,
        "When it counts as ready. Jobs and phases wait for that; without it, it is started just before \
         its phase begins, and nobody waits.",
    ),
    field(
        "lives",
        Kind::Boolean,
        Usually("false"),
        "Whether it must go on until the phase is over: that it ends earlier fails the run.",
    ),
];

const READY: &[Field] = &[
    field(
        "tcp",
        Kind::Integer {
            least: 1,
            most: 65_535,
        },
        Optional,
        "It takes connections at this port of its node.",
    ),
    field(
        "http",
        Kind::Text { longest: 1024 },
        Optional,
        "It answers a GET of this port and path, such as `8000/health`.",
    ),
    field(
        "status",
        Kind::Integer {
            least: 100,
            most: 599,
        },
        Optional,
        "With `http`: the status of that answer; 200 unless given.",
    ),
    field(
        "line",
        Kind::Text { longest: 1024 },
        Optional,
        "It has written a line that contains this text.",
    ),
    field(
        "within",
        time(1_000_000, 3600 * SECOND),
        Usually("60 s"),
        "How long that may take.",
    ),
];

pub(super) const CALIBRATION: &[Field] = &[
    field(
        "flow",
        time(3 * SECOND, 3600 * SECOND),
        Usually("3 s"),
        "Length of the saturating flow in each direction.",
    ),
    field(
        "packet",
        Kind::Size {
            least: 64,
            most: 8_952,
        },
        Usually("1200 B"),
        "Payload of its packets.",
    ),
    field(
        "probe_gap",
        time(1_000_000, SECOND),
        Usually("5 ms"),
        "Gap between the probes that measure delay in the other direction.",
    ),
    field(
        "window",
        time(1_000_000, SECOND),
        Usually("50 ms"),
        "Windows in which asked and delivered are compared, here and during the run.",
    ),
];

pub(super) const VERDICT: &[Field] = &[
    field(
        "rate_error",
        Kind::Share { zero: true },
        Usually("1 %"),
        "Largest |delivered / trace - 1|.",
    ),
    field(
        "delay_error",
        time(0, SECOND),
        Usually("500 us"),
        "Largest 99th percentile of the one-way delay error: this or `delay_error_share` of the \
         delay asked for, whichever is larger.",
    ),
    field(
        "delay_error_share",
        Kind::Share { zero: true },
        Usually("5 %"),
        "See `delay_error`.",
    ),
    field(
        "shaper_lateness",
        time(0, SECOND),
        Usually("1 ms"),
        "Largest 99th percentile of the shaper's lateness.",
    ),
    field(
        "send_lateness",
        Kind::Share { zero: true },
        Usually("1 %"),
        "Largest 99th percentile of the load generator's lateness, as a share of the deadline.",
    ),
    field(
        "backlogged_windows",
        Kind::Integer {
            least: 0,
            most: 1_000_000,
        },
        Usually("50"),
        "Fewest windows in which the queue was never empty.",
    ),
    field(
        "relay_cpu",
        Kind::Share { zero: true },
        Usually("5 %"),
        "Largest share of any job's CPU set that the relay's threads took.",
    ),
    field(
        "interrupt_cpu",
        Kind::Share { zero: true },
        Usually("10 %"),
        "Largest share of any job's CPU set that interrupts took.",
    ),
    field(
        "steal",
        Kind::Share { zero: true },
        Optional,
        "Largest share of the nodes' CPUs that the host had taken in the noise check; without it a \
         warning.",
    ),
    field(
        "timer_lateness",
        time(0, SECOND),
        Optional,
        "Largest 99th percentile of timers' lateness in the noise check; without it a warning.",
    ),
];

pub(super) const FAULTS: &[Field] = &[
    field(
        "stop_relay",
        time(0, 60 * SECOND),
        Usually("0 ms"),
        "Stops the relay for so long in the middle of each calibration flow.",
    ),
    field(
        "scale_rate",
        Kind::Share { zero: false },
        Optional,
        "Plays every rate at this share of what the trace asks.",
    ),
    field(
        "add_delay",
        time(0, 60 * SECOND),
        Usually("0 ms"),
        "Adds to every delay that is played.",
    ),
    field(
        "delay_sends",
        time(0, 60 * SECOND),
        Usually("0 ms"),
        "Delays every send of the load generator.",
    ),
    field(
        "burn_relay_cpu",
        Kind::Boolean,
        Usually("false"),
        "Burns CPU on the CPUs of the first node, counted as the relay's.",
    ),
];

pub(super) const EXPECTATION: &[Field] = &[
    field("name", Kind::Name, Required, "Its name in the report."),
    field(
        "claim",
        Kind::Choice(&[
            "same-tokens",
            "payload-formula",
            "stalls-in-outage",
            "goes-on-in-outage",
            "all-completed",
            "rate-follows-trace",
            "round-trip-follows-trace",
            "shares-follow-cell",
            "constant-rates-pass",
            "idle-power-stable",
            "arms-agree",
            "arm-bytes-follow-formula",
            "cut-moves-no-bytes",
            "token-time-linear-in-cut",
            "best-cut-flips",
            "never-splits",
            "latency-is-sum",
            "throughput-is-slowest",
            "best-division-as-predicted",
            "codings-save-link-time",
            "rounds-follow-acceptance",
            "best-draft-grows-with-round-trip",
            "distributions-collapse",
            "quality-rises-with-threshold",
            "sure-exits-agree",
            "best-cut-slides",
            "device-answers-in-outage",
            "uplink-follows-escalation",
            "first-token-is-sum",
            "regimes-as-predicted",
            "adaptive-near-best",
            "adaptive-near-best-on-traces",
            "loss-grows-as-bits-fall",
            "reuse-saves-prefill",
            "recall-is-high",
            "joint-serves-more",
            "admitted-are-in-time",
            "batch-saves-cpu",
            "batch-saves-energy",
            "counter-is-integrated-power",
            "kpis-hold-by-rate",
            "kpis-hold-by-trace",
            "device-flat-in-link",
            "round-trip-is-added",
            "token-time-flat-in-round-trip",
            "fewer-bits-hit-no-less",
            "fewer-bits-hit-more",
            "policy-hits-as-best",
            "offload-flips",
            "u-shape-doubles-states",
            "halves-agree",
            "halves-pay-round-trips",
            "halves-take-sum",
            "tensor-parallel-falls-first",
            "cnn-cut-slides",
            "leak-falls-with-depth",
            "adapter-bytes-are-delta",
            "adapters-answer-alike",
            "adapters-matter",
            "cold-start-is-sum",
            "together-serves-as-many",
            "merging-divides-uplink",
            "tokens-win-below-rate",
            "answers-name-the-image",
            "merging-keeps-answers",
        ]),
        Required,
        "What is claimed. same-tokens: every request that completed in all `phases` has the same \
         tokens in each, for placement and transport change none; where their nodes compute on different devices, \
         another token may come where it is about as good. Of one `phase`: payload-formula: payload on the link equals the formula of \
         the placement, byte for byte; stalls-in-outage: no token arrived during an outage, though \
         requests were under way; goes-on-in-outage: tokens went on arriving; all-completed: every \
         request completed. Of one traffic `phase`: rate-follows-trace: what arrived is within 5 % \
         of the trace's mean, correlates with it by more than 0.95, and follows every step within a \
         window; round-trip-follows-trace: the median round trip is within 0.5 ms or 5 % of the \
         trace's; shares-follow-cell: what every filled link of a cell got, while all of them had \
         something waiting, is within 5 % of what the cell's policy gives it; constant-rates-pass: of every rate that the trace \
         keeps for ten windows or more, and that was filled, what arrived is within 5 %. Of no phase: idle-power-stable: in \
         the idle span before the first phase the standard deviation of the machine's power over half seconds is at most 5 % \
         of its mean. Of one study, named as \
         `phase`: arms-agree: every prompt gets the same tokens with every greedy arm at every setting, for where layers run, what \
         drafts and keeps prefixes, and how exact states cross links change none; where several users share an edge it is \
         those that it gets alone, whatever batch it is in, and there, and where the nodes of the path compute on \
         different devices, another token may come where it is about as good: where the two largest scores are nearer than \
         4e-5 of 1 plus the largest, at most one place in 10000; \
         arm-bytes-follow-formula: each trial puts on each link what the formula says, byte for byte; \
         cut-moves-no-bytes: all cuts that leave layers on both nodes put the same bytes on the link; \
         token-time-linear-in-cut: the time of a token rises by the difference of a layer's costs for \
         each layer on the first node; best-cut-flips: in a round trip with three rates or more on \
         either side of the critical rate, the best cut flips within 15 % of it from all layers on the \
         first node to as few as there are; never-splits: in a round trip without a critical rate, all \
         layers on the first node are best at every rate; latency-is-sum: with one request under way it \
         takes, within 15 %, what nodes computed and links carried for it one after the other; \
         throughput-is-slowest: several requests take together as long as the slowest node or link is \
         busy with them, and at most 35 % longer, in which the path fills and empties; \
         best-division-as-predicted: of the divisions with several requests under way \
         the one whose slowest node or link is the fastest brings the most tokens; \
         codings-save-link-time: of a prompt whose states are coded in three ways or more, the first token \
         comes earlier by the time, within 15 %, that the bytes which are saved take on the link; \
         rounds-follow-acceptance: a draft of g tokens brings, within 10 %, (1 - a^(g+1)) / (1 - a) tokens, \
         where a is how likely drafts are accepted on prompts that no trial asks; \
         best-draft-grows-with-round-trip: the length of drafts that brings the most tokens per second \
         does not shrink from a round trip to a longer one; distributions-collapse: at the lowest rate at \
         most 0.4 of the token rate at the highest is left where whole distributions cross, and at least \
         0.6 where ids do; \
         quality-rises-with-threshold: of arms that differ in their threshold no higher one agrees less with \
         the whole model, token by token after the same text, beyond both intervals of 95 %; \
         sure-exits-agree: of the tokens that an exit gives a probability of 0.9 or more at least 0.9 are the \
         whole model's, by the lower end of the interval; best-cut-slides: with one threshold after several \
         layers, the best cut never moves towards the edge from the fastest rate to the slowest, and has moved at \
         the end (at how many rates it is in between is told); device-answers-in-outage: in the outage of the study the device \
         has its whole answer and the remote placement no token; uplink-follows-escalation: of a cascade the \
         bytes up are those of one escalated request times how many were; of kv, first-token-is-sum: over all \
         arms and settings the first token takes, within 15 %, the round trip, the bytes at the rate and what \
         both nodes compute; regimes-as-predicted: at every rate the way that costs and sizes name has the \
         context there within 15 % of the time of the best, and each of computing it again, coded and exact keys and values is \
         the best at some rate; adaptive-near-best: an adaptive arm takes on average over the settings at most \
         10 % longer than the best fixed arm of each; adaptive-near-best-on-traces: of kv, speculative and placement with `trace_requests`, an \
         adaptive arm takes over the same requests on the same traces at most 10 % longer than the fixed arm that is the \
         fastest there, contexts until the first token and drafts until the last, and a policy is there in time no less often \
         than the fixed placement that is most often, but for 10 requests in a hundred; loss-grows-as-bits-fall: no coding of fewer bits diverges \
         less from exact keys and values, which do not at all, and none raises the perplexity of the text that \
         really follows by more than 5 %; of retrieval, reuse-saves-prefill: with kept prefixes what is reused \
         and what is computed make up every sequence, something is reused, and computing the rest takes, within \
         15 %, what so many positions take; recall-is-high: an index that looks at few vectors finds at least \
         80 % of the chunks of an exact search, by the lower end of the interval, and that finds all; of shared, joint-serves-more: above 100 % of what can be served the \
         joint policy serves, of the same requests, no fewer in time than fcfs, by the interval of 95 % over \
         blocks of neighbours; admitted-are-in-time: there, who is not refused is less often late than under \
         fcfs, likewise; batch-saves-cpu, batch-saves-energy: a token of the largest batch costs less CPU time, \
         or energy, than alone; counter-is-integrated-power: every counter of energy and the integral of power of \
         the same device are within 5 %; kpis-hold-by-rate: of each row at least 80 % of the transmissions are in \
         time above payload over latency, and at most 20 % below it; kpis-hold-by-trace: with `trace_requests`, of the \
         transmissions of each row that the link's trace carries within the latency with 25 % to spare, from when each began, \
         at least 80 % are in time, and of those that it is 10 % short of at least 80 % are late; of placements: device-flat-in-link: \
         answers of the first node take as long, within 15 %, at the longest round trip as at the shortest and at \
         the highest rate as at the lowest; round-trip-is-added: the first token from the last node comes later \
         than from the one before, computing apart, by what an empty frame takes longer, within 10 %; \
         token-time-flat-in-round-trip: the time between tokens from the last node is, within 15 %, the same at \
         the longest round trip as at the shortest; fewer-bits-hit-no-less: on the second node weights in fewer \
         bits are in time at each service level no less often than the widest, but for 10 requests in a hundred; \
         fewer-bits-hit-more: there they are in time by more than 10 requests in a hundred more often, at the deadline of \
         each setting in the middle between what costs say of both, where these are 20 % apart; \
         policy-hits-as-best: at each service level its policy is in time no less often than the fixed placement \
         that is most often, but for as many; offload-flips: over two nodes, in a round trip with three rates or \
         more on either side of it, the first token comes from the second node as early as from the first within \
         15 % of the rate that costs and round trip say; u-shape-doubles-states: each U puts exactly twice the bytes \
         of states on the link that the two-way split after the same layer does for the same prompt; halves-agree: with layers halved over two \
         nodes every token is the whole model's up to the first where two scores are closer than sums in another order \
         may be off, and such places are counted; halves-pay-round-trips: the time of such a token rises, within 15 %, by \
         half of what an empty frame's round trip does for each of the two sums of every layer; halves-take-sum: it \
         is, within 15 %, what both nodes were measured to compute, at the same time, and half a round trip and the \
         bytes at the rate for each sum; tensor-parallel-falls-first: at every rate the round trip from which halves \
         are slower than the first node alone is shorter, beyond the interval of 95 %, than the one from which the best \
         two-way split is; cnn-cut-slides: at every rate the cut that costs and activations name is as good as \
         the best, within 3 %, and from the fastest rate to the slowest it never moves towards the edge, has moved at the \
         end and is in between on the way; leak-falls-with-depth: of no deeper layer's states more tokens of the prompt \
         are read, by whichever of nearest embedding and learnt map reads more, beyond both intervals of 95 %, and of \
         the deepest fewer than of the first; of \
         adapters, adapter-bytes-are-delta: every delivery of an adapter is r L (2 d + H h + H_kv h) parameters and of a \
         full model all of its own, byte for byte, and beyond them nothing but headers; adapters-answer-alike: every \
         wave gives each prompt the tokens that its adapter gives it alone, and those are the merged weights', but where \
         the two largest scores are nearer than 1e-4 of the largest, at most one place in 10000; adapters-matter: \
         each task's text is less surprising with its own adapter than with none and than with each other one, by \
         intervals of 95 % over paragraphs; cold-start-is-sum: a task can be served, within 15 %, after its bytes at \
         the rate, the round trip and loading; together-serves-as-many: of the same requests, sequences of different \
         adapters side by side serve no fewer in time than one adapter at a time, by the interval of 95 % over \
         waves; of multimodal, first-token-is-sum as of kv; merging-divides-uplink: of each coding, m times the \
         bytes of visual tokens that m patches are merged into are the bytes of all of them, byte for byte; \
         tokens-win-below-rate: of the first arm that sends the image and the first that sends fewer bytes of \
         visual tokens, at no rate is the one slower, by more than 3 % and the interval of 95 % over images, that \
         should be faster on that side of the rate that costs and sizes say, and on either side the right one is \
         surely faster at one rate; answers-name-the-image: with exact visual tokens of the least merge, wherever \
         they are made, more than half of what is asked is named, by the interval of 95 %; merging-keeps-answers: \
         of the same images no larger merge names less than the least by more than a tenth of what is asked, by \
         the interval of 95 % over images.",
    ),
    field(
        "phase",
        Kind::Identifier,
        Optional,
        "The phase that the claim is about.",
    ),
    field(
        "phases",
        Kind::List {
            of: &Kind::Identifier,
            least: 2,
        },
        Optional,
        "With claim `same-tokens`: the phases that are compared.",
    ),
];
