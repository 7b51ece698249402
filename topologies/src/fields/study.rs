//! Studies: one technique over a grid of settings.

use super::Need::{Default as Usually, Optional, Required};
use super::{DAY, Field, Kind, SECOND, field, time};

pub(super) const STUDY: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "technique",
        Kind::Choice(&[
            "split",
            "speculative",
            "early-exit",
            "cascade",
            "kv",
            "retrieval",
            "shared",
            "kpi",
            "placement",
            "u-shaped",
            "tensor-parallel",
            "cnn",
            "leak",
            "adapters",
            "multimodal",
        ]),
        Required,
        "What is studied. split: the layers of the model are divided over the nodes of the path, and \
         hidden states cross its links. speculative: the second model drafts tokens on the first of two \
         nodes, the first model verifies each draft on the last in one pass; the baseline, tokens that \
         stream from the last node alone, is always tried beside it. early-exit: the first of two nodes \
         has the first layers of the model and an exit after them, and keeps the tokens that the exit is sure \
         of; for the others it sends the states of its last layer, and the second node finishes. cascade: \
         the second model answers on the first of two nodes; the first model on the second answers again, \
         from the prompt, where that was not sure. kv: the second of two nodes has the context of each request \
         (all of the prompt but its last 8 tokens) and what its layers made of it; the first takes the \
         tokens and computes that again, or takes the keys and values over the link, and goes on from there. \
         retrieval: the second of two nodes has documents in chunks, an index of their pooled states, and the \
         model; each prompt is a part of a chunk that the first one asks about, and the chunks that are nearest to \
         it are put in front of it. \
         shared: several users, each on a link of its own, share the \
         model on one edge, which batches their requests; links follow their traces, so that they can share a \
         cell. kpi: payloads of the rows of 3GPP TS 22.261 clause 7.10 cross a link at rates above and below \
         payload over latency, and on its trace; no model computes. \
         placement: the whole model is on every node of the path, and \
         a request is answered on one of them: on each in turn, and where a policy puts it. u-shaped: the first of \
         two nodes has the first layers and the last ones with the head, the second those between, so that no \
         token leaves the first; a two-way split after the same layer is always tried beside it. tensor-parallel: each \
         of two nodes has half of the attention heads and of the inner width of every layer, and both exchange what they \
         add to the states twice in each layer; two-way splits after the `cuts` and either node alone are always tried \
         beside it. cnn: the control for \
         splits, a convolutional network in the shape of VGG-16 instead of the model, whose layers are waited for at \
         a stated speed and whose activations cross the link; prompts are images, and lengths mean nothing. leak: the \
         states of each prompt cross the link of two nodes after each of the `cuts`, in each of the `codings`, and the \
         second node, which knows the model, guesses the prompt's tokens from them. adapters: the second of two nodes has \
         a backbone that tasks share, the first what each of them adds: a low-rank adapter. What the second lacks \
         crosses the link, as an adapter or merged into a full model, and then requests of all tasks come in \
         waves. multimodal: the first of two nodes has images, the second the language model, which is asked about \
         each of them; either the image crosses the link and the second encodes it, or the first encodes it and \
         visual tokens cross. Prompts are images, a question about each of which has a set length.",
    ),
    field(
        "path",
        Kind::List {
            of: &Kind::Name,
            least: 1,
        },
        Optional,
        "The nodes, from the one that sends the requests to the one that answers; a link joins each to \
         the next and goes `up` that way. The ends of the only link unless given.",
    ),
    field(
        "cuts",
        Kind::List {
            of: &Kind::Text { longest: 256 },
            least: 1,
        },
        Optional,
        "How the layers are divided, each way an arm of the study: `every` (all cuts of a path of two \
         nodes, and all layers on the first), `even`, or after which layer each node but the last \
         ends: `2`, `2/4`. Where a node ends after the last layer, nothing is left for those behind. \
         `every` unless given. u-shaped: after which layers the first node stops and the second hands back, such \
         as `1/5`; one layer on either end of the first node unless given. tensor-parallel: the two-way splits that are tried \
         beside it.",
    ),
    field(
        "in_flight",
        Kind::List {
            of: &Kind::Integer { least: 1, most: 64 },
            least: 1,
        },
        Optional,
        "Requests that are under way at a time, each number an arm of the study; 1 unless given.",
    ),
    field(
        "codings",
        Kind::List {
            of: &Kind::Choice(&["f32", "f16", "int8", "int4", "top-k"]),
            least: 1,
        },
        Optional,
        "split: how hidden states cross the links, each an arm of the study: `f32` (as they are), `f16`, \
         `int8` (a scale for each channel from the prompt, and one for each token), `int4` (a scale for \
         each 32 channels), `top-k` (the largest eighth of the channels, in half precision). `f32` unless \
         given. tensor-parallel: likewise of the parts of sums that both nodes exchange. multimodal: likewise of visual \
         tokens, where the first node makes them.",
    ),
    field(
        "drafts",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "speculative: how many tokens are drafted at a time, each an arm of the study: numbers from 1 to \
         16, and `adaptive` (4 at first; two more after a draft of which all were accepted, one less \
         after any other; from 1 to 8). 1 to 8 unless given.",
    ),
    field(
        "crossing",
        Kind::List {
            of: &Kind::Text { longest: 32 },
            least: 1,
        },
        Optional,
        "speculative: what crosses the link for each drafted token, each an arm: `ids` (where tokens are \
         drawn, the verifier computes the draft's distribution itself), and of sampled drafts \
         `distributions-f16`, `distributions-f32` (the probabilities of the whole vocabulary) and \
         `top-8` or another number (the most probable tokens alone, from which the draft is then drawn). \
         `ids` unless given.",
    ),
    field(
        "drawing",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "speculative: how tokens are chosen, each an arm: `greedy`, or `sampled` at temperature 1. \
         `greedy` unless given.",
    ),
    field(
        "held_out_prompts",
        Kind::Integer {
            least: 1,
            most: 10_000,
        },
        Usually("8"),
        "speculative, kv: prompts that no trial asks, on which it is measured how likely drafts are \
         accepted, or what codings of keys and values lose. adapters: paragraphs of each task's text that are \
         scored with each adapter.",
    ),
    field(
        "deliveries",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "kv: how contexts come to the first node, each an arm: `recompute` (as tokens), as keys and values in \
         `f32` (as they are), `f16`, `int8` or `int4` (integers with scales: of keys for each channel over 32 \
         positions, of values for each position over 32 channels), and `adaptive` (whichever of the others \
         should be over first by what they cost on both nodes, their sizes, and the link's rate, which the first node \
         measures before each request and which may become a quarter or four times that). All of them unless given.",
    ),
    field(
        "sources",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "kv: where the second node has keys and values from, each with every delivery: `stored` (it keeps \
         them), or `prefilled` (it computes them when it is asked). `stored` unless given.",
    ),
    field(
        "thresholds",
        Kind::List {
            of: &Kind::Text { longest: 32 },
            least: 1,
        },
        Optional,
        "early-exit, cascade: the least confidence with which the device keeps its token or answer, each an \
         arm: shares such as `90 %`, or `device` for one that keeps everything. The confidence of a token is \
         its probability. The remote placement, which keeps nothing, is always tried beside them. `device`, \
         30, 50, 70 and 90 % unless given.",
    ),
    field(
        "rules",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "cascade: what the confidence of an answer is, each an arm: the `mean` of its tokens', or that of \
         the `least` certain one. `mean` unless given.",
    ),
    field(
        "weights",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "placement: how each node keeps the matrices, each an arm of the study: `full` (as the model has them), or \
         in blocks of fewer bits as `hexloop model quantize` makes them, made while the model is loaded; on nodes whose \
         `precision` is not f32, numbers of it that are rounded as the blocks are. `full` unless given.",
    ),
    field(
        "levels",
        Kind::List {
            of: &Kind::Text { longest: 32 },
            least: 1,
        },
        Optional,
        "placement: service levels, how long a whole answer may take. For each of them there is a policy among \
         the arms: of the nodes and weights that should be over in time, with a tenth to spare, by what was \
         measured before, it takes the widest weights, and of those the fastest. Without them there is no \
         policy.",
    ),
    field(
        "gigaproducts",
        Kind::List {
            of: &Kind::Integer {
                least: 1,
                most: 1_000_000,
            },
            least: 2,
        },
        Optional,
        "cnn: thousand million products (multiply and add) that the first and the second node do in a second. 25 \
         and 250 unless given.",
    ),
    field(
        "encoders",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "multimodal: where images are encoded: on the `edge`, so that the image crosses the link, or on the `device`, \
         so that its visual tokens do. Both unless given.",
    ),
    field(
        "merges",
        Kind::List {
            of: &Kind::Integer { least: 1, most: 16 },
            least: 1,
        },
        Optional,
        "multimodal: how many neighbouring patches become one visual token, each an arm with every encoder and coding: \
         1, 4 and 16. All three unless given.",
    ),
    field(
        "patience",
        time(SECOND / 1000, 3600 * SECOND),
        Usually("2 s"),
        "early-exit, cascade: how long a device with a token or an answer of its own waits for the edge's. \
         After that it keeps its own, and does not ask again in this answer.",
    ),
    field(
        "outage",
        time(SECOND / 10, 3600 * SECOND),
        Optional,
        "early-exit, cascade: after all settings each arm of the first cut or rule answers one prompt \
         while nothing crosses the links for so long.",
    ),
    field(
        "trace_requests",
        Kind::Integer {
            least: 1,
            most: 100_000,
        },
        Optional,
        "split, speculative, early-exit, cascade, kv, kpi, placement, multimodal: after all settings the links follow their \
         traces, which begin anew for each arm, and so many requests are asked of it, the prompts in turn: every arm \
         meets the same channel at the same requests. None unless given.",
    ),
    field(
        "trace_every",
        time(SECOND / 1000, 3600 * SECOND),
        Usually("500 ms"),
        "With `trace_requests`: how often one is due. It is asked once the one before it has its answer; what it \
         waited counts.",
    ),
    field(
        "trace_repetitions",
        Kind::Integer {
            least: 1,
            most: 1000,
        },
        Usually("1"),
        "With `trace_requests`: rounds of each arm.",
    ),
    field(
        "links",
        Kind::List {
            of: &Kind::Identifier,
            least: 1,
        },
        Optional,
        "shared: the users' links, each of which goes up from the users' node to the edge; all links unless \
         given.",
    ),
    field(
        "users",
        Kind::List {
            of: &Kind::Integer { least: 1, most: 64 },
            least: 1,
        },
        Optional,
        "shared: numbers of users, each of which is tried: those of the first so many links. As many as there \
         are links unless given.",
    ),
    field(
        "policies",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "shared: who is served next and who is refused, each an arm: `fcfs` (first come, first served; nobody is \
         refused), `deadline` (what has come is computed by its deadline, and refused once it cannot keep it), \
         `joint` (users ask before they upload; knowing each one's rate and what is left to upload and to \
         compute, the edge has one upload follow the other, and refuses whom serving would make others late). \
         All three unless given.",
    ),
    field(
        "batches",
        Kind::List {
            of: &Kind::Integer { least: 1, most: 64 },
            least: 1,
        },
        Optional,
        "shared, adapters: the most sequences of a pass, each an arm with every policy or serving; 8 unless given. \
         Of shared, what is offered is in percent of what the largest can serve.",
    ),
    field(
        "offered_percent",
        Kind::List {
            of: &Kind::Integer {
                least: 1,
                most: 1000,
            },
            least: 1,
        },
        Optional,
        "shared: requests of all users together, in percent of what links and edge are first measured to \
         serve; 50, 100 and 150 unless given.",
    ),
    field(
        "repetitions",
        Kind::Integer {
            least: 1,
            most: 1000,
        },
        Usually("2"),
        "shared, adapters: how often each offered rate is played, with other arrivals, or each wave, with other \
         requests; every arm has the same.",
    ),
    field(
        "arrive_for",
        time(SECOND / 10, 3600 * SECOND),
        Usually("2 s"),
        "shared: for how long requests arrive in each round.",
    ),
    field(
        "deadline",
        time(SECOND / 1000, 3600 * SECOND),
        Usually("500 ms"),
        "shared, adapters: how long after it was due the last token of a request must be there.",
    ),
    field(
        "adapters",
        Kind::List {
            of: &Kind::Identifier,
            least: 2,
        },
        Optional,
        "adapters: the tasks, each with an adapter of that name. Of a built-in model `orders`, `weather`, `sensors` and \
         `recipes`, which are trained when they are needed; the first three unless given. Of a checkpoint the names of \
         directories in its directory `adapters`, as PEFT writes them (LoRA of q_proj and v_proj), each perhaps with a \
         `held-out.txt` of its task's text, a paragraph in each line.",
    ),
    field(
        "servings",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "adapters: what a batch may hold, each an arm: `together` (sequences of different adapters), `switched` (of \
         one adapter at a time) and `merged` (the same with each task's own full model). All three unless given.",
    ),
    field(
        "wave",
        Kind::Integer {
            least: 1,
            most: 1024,
        },
        Usually("12"),
        "adapters: requests that come at a time, as many of each task as may be.",
    ),
    field(
        "upload",
        Kind::Size {
            least: 0,
            most: 16 << 20,
        },
        Usually("20 kB"),
        "shared: what each request uploads besides its prompt, as images and documents are.",
    ),
    field(
        "tables",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "kpi: the tables whose rows are sent, such as `7.10.1-1`; all of them unless given.",
    ),
    field(
        "percents",
        Kind::List {
            of: &Kind::Integer {
                least: 1,
                most: 1000,
            },
            least: 0,
        },
        Optional,
        "kpi: rates of the link in percent of a row's payload over its latency; 125 and 90 unless given. With none, rows \
         are sent on the trace alone, and `trace_requests` are needed.",
    ),
    field(
        "scale",
        Kind::Integer {
            least: 1,
            most: 1_000_000,
        },
        Usually("1"),
        "kpi: what payloads and rates are divided by, so that latencies stay; the report says it.",
    ),
    field(
        "most_rate",
        Kind::Rate,
        Usually("100 Mbit/s"),
        "kpi: rows that need a higher rate than this are named as not tried.",
    ),
    field(
        "documents",
        Kind::Integer {
            least: 1,
            most: 65_536,
        },
        Usually("64"),
        "retrieval: chunks of documents that the second node has. The first are asked about more than the \
         last.",
    ),
    field(
        "chunk_tokens",
        Kind::Integer {
            least: 1,
            most: 1 << 16,
        },
        Usually("32"),
        "retrieval: length of each chunk, in tokens; prompts are no longer.",
    ),
    field(
        "chunks",
        Kind::Integer { least: 1, most: 64 },
        Usually("3"),
        "retrieval: chunks that are put in front of each prompt, in the order of their numbers.",
    ),
    field(
        "centres",
        Kind::Integer {
            least: 1,
            most: 4096,
        },
        Usually("8"),
        "retrieval: centres that the index, an inverted file, gathers vectors around.",
    ),
    field(
        "searches",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "retrieval: how the index is searched, each an arm: `exact` (all vectors), or those of so many of the \
         nearest centres, such as `2`. `exact` and `2` unless given.",
    ),
    field(
        "prefixes",
        Kind::List {
            of: &Kind::Text { longest: 16 },
            least: 1,
        },
        Optional,
        "retrieval: what is done about keys and values of chunks, each with every search: all are `computed` for \
         each prompt, or those of whatever a prompt begins with are `kept` and used again. Both unless given.",
    ),
    field(
        "store",
        Kind::Size {
            least: 1,
            most: 1 << 40,
        },
        Usually("64 MB"),
        "retrieval: memory for the keys and values that are kept; the ones used least recently make room.",
    ),
    field(
        "prompts",
        Kind::Integer {
            least: 1,
            most: 10_000,
        },
        Usually("2"),
        "Different prompts; cnn, multimodal: images. Every arm answers each of them at every setting.",
    ),
    field(
        "prompt_tokens",
        Kind::Integer {
            least: 1,
            most: 1 << 20,
        },
        Optional,
        "Length of each prompt, in tokens.",
    ),
    field(
        "output_tokens",
        Kind::Integer {
            least: 1,
            most: 1 << 20,
        },
        Optional,
        "Tokens that are generated for each; generation never stops earlier.",
    ),
    field(
        "round_trips",
        Kind::List {
            of: &time(0, 60 * SECOND),
            least: 1,
        },
        Optional,
        "Round trips of the links of the path, half of each way, instead of their traces' delays. placement: of \
         the last link alone; the others' are those of their traces.",
    ),
    field(
        "rates",
        Kind::List {
            of: &Kind::Rate,
            least: 1,
        },
        Optional,
        "Rates of the links, the same in both directions, instead of their traces': each with every \
         round trip. With `around_percent` only for round trips without a critical rate. placement: of the first \
         link alone.",
    ),
    field(
        "around_percent",
        Kind::List {
            of: &Kind::Integer {
                least: 1,
                most: 100_000,
            },
            least: 1,
        },
        Optional,
        "Rates in percent of the critical rate, at which the best cut flips: computed for each round \
         trip from what layers cost on both nodes, which is measured first. kv: of both critical rates, \
         below which recomputing is the fastest and above which exact keys and values are. placement over two nodes: the rate at \
         which the first token comes from the second node as early as from the first. multimodal: the rate at which the \
         first of the arms that send the image has its first token as early as the first that sends fewer bytes of \
         visual tokens.",
    ),
    field(
        "transport",
        Kind::Choice(&["tcp", "quic"]),
        Usually("tcp"),
        "How frames cross the links: over the kernel's TCP without delay, or over QUIC, encrypted and with \
         keys of the run.",
    ),
    field(
        "timeout",
        time(SECOND, 3600 * SECOND),
        Usually("30 s"),
        "How long the other side may be silent: shorter outages of a link are survived.",
    ),
    field(
        "limit",
        time(SECOND, DAY),
        Required,
        "A study that is not over by then is cut short, and the run is INVALID.",
    ),
];
