//! The node that has the documents.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::index::VectorIndex;
use crate::clock;
use crate::engine::prefixes::PrefixStore;
use crate::serve::connection::{Frame, PayloadCounter, token_bytes};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::serve::study::answering::{Answers, answer, ids};
use crate::serve::study::books::WayBack;
use crate::serve::study::door::{self, Refusal};
use crate::serve::study::kv::{PASSES, timed};
use crate::serve::study::models;
use crate::study::retrieval::{ASK_WORDS, Library, RetrievalCosts};
use crate::study::{StudyJobSpec, StudySpec};
use crate::wire::FrameKind;

/// Chunks that may be held.
const MOST_DOCUMENTS: usize = 1 << 16;

/// Serves until the driver goes.
pub(in crate::serve::study) fn serve(
    spec: &StudyJobSpec,
    study: &StudySpec,
    listen: SocketAddr,
    (counter, signals): (&Arc<PayloadCounter>, &Sender<Signal>),
) -> Result<(), JobError> {
    let part = models::large(spec)?;
    let library = study.library().ok_or_else(|| JobError::Spec {
        why: "nothing is to be retrieved".to_owned(),
    })?;
    let held = part.terms(part.layers())?;
    let loaded = (part.weight_bytes(), part.engine_path());
    let Some(front) = door::open(spec, listen, (loaded, held), (counter, signals))? else {
        return Ok(());
    };
    let served = answer(front, |way_back| Stage {
        part,
        library,
        way_back,
        chunks: Vec::new(),
        vectors: Vec::new(),
        index: None,
        store: PrefixStore::new(library.store_bytes),
        open: BTreeSet::new(),
    });
    counter.closed();
    served
}

struct Stage {
    part: Part,
    library: Library,
    way_back: WayBack,
    chunks: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
    index: Option<VectorIndex>,
    store: PrefixStore,
    open: BTreeSet<u32>,
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn word(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Answers for Stage {
    fn accepts(&self, kind: FrameKind) -> Option<u64> {
        let text_bytes = 4 * u64::from(self.part.max_positions());
        match kind {
            FrameKind::Deposit => Some(text_bytes),
            FrameKind::Retrieve => Some(4 * ASK_WORDS + text_bytes),
            FrameKind::Echo | FrameKind::Measure | FrameKind::Index | FrameKind::End => Some(0),
            _ => None,
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let opens = frame.header.kind == FrameKind::Retrieve;
        self.way_back.received(id, frame.body.len(), opens);
        match frame.header.kind {
            FrameKind::Deposit => self.deposit(frame),
            FrameKind::Index => {
                let centres = size(self.library.centres);
                self.index = Some(VectorIndex::build(self.vectors.clone(), centres));
                Ok(self.way_back.send((FrameKind::Index, id), 0, &[])?)
            }
            FrameKind::Retrieve => self.retrieve(frame),
            FrameKind::Measure => self.measure(frame),
            FrameKind::End => {
                if !self.open.remove(&id) {
                    return Err(frame.content_error("no such request is open").into());
                }
                Ok(self.way_back.close(id, &[])?)
            }
            // Nothing else than an echo is let in.
            _ => Ok(self.way_back.send((FrameKind::Echo, id), 0, &[])?),
        }
    }
}

impl Stage {
    /// A chunk of a document, the next by number.
    fn deposit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let tokens = ids(frame)?;
        self.part
            .check_length(word(tokens.len()), 1)
            .map_err(wrong)?;
        self.part.check_tokens(&tokens).map_err(wrong)?;
        if self.chunks.len() >= MOST_DOCUMENTS || word(self.chunks.len()) != frame.header.request {
            return Err(wrong(
                "it is not the next chunk, or there are too many".to_owned(),
            ));
        }
        self.vectors.push(self.part.pooled_at_once(&tokens)?);
        self.chunks.push(tokens);
        Ok(())
    }

    fn retrieve(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let wrong = |why: &str| Refusal::Front(frame.content_error(why));
        let words = ids(frame)?;
        let [chunks, probes, keeps, output, query @ ..] = words.as_slice() else {
            return Err(wrong("it says not how to retrieve"));
        };
        let of_query = |why: String| Refusal::Front(frame.content_error(why));
        self.part.check_tokens(query).map_err(of_query)?;
        self.part
            .check_length(word(query.len()), *output)
            .map_err(of_query)?;
        let Some(index) = &self.index else {
            return Err(wrong("there is no index yet"));
        };
        if !self.open.insert(id) {
            return Err(wrong("it is open already"));
        }
        let began = clock::now();
        let vector = self.part.pooled(query)?;
        let probes = (*probes > 0).then_some(size(*probes));
        let found = index.search(vector.clone(), size(*chunks), probes);
        let mut ordered = found.clone();
        ordered.sort_unstable();
        let texts = ordered.iter().filter_map(|chunk| self.chunks.get(*chunk));
        let context: Vec<u32> = texts.flatten().copied().collect();
        let all: Vec<u32> = context.iter().chain(query).copied().collect();
        self.part
            .check_length(word(all.len()), *output)
            .map_err(of_query)?;
        let failed = |error: crate::engine::EngineError| of_query(error.to_string());
        let kept = match keeps {
            0 => None,
            // The last token is computed again: its state says what comes next.
            _ => self
                .store
                .reuse(&all, word(all.len()).saturating_sub(1))
                .map_err(failed)?,
        };
        let mut cache = kept.unwrap_or_else(|| self.part.new_cache());
        let reused = cache.positions();
        let before = clock::now();
        let rest = all.get(size(reused)..).unwrap_or_default();
        let mut states = self.part.carry_tokens(rest, &mut cache)?;
        let prefill_ns = clock::now().saturating_sub(before);
        for place in 0..*output {
            let token = self.part.next_token(&states)?;
            let body = token_bytes(&[token]);
            self.way_back.send((FrameKind::Token, id), place, &body)?;
            if place + 1 < *output {
                states = self.part.carry_tokens(&[token], &mut cache)?;
            }
        }
        self.way_back
            .computed(id, clock::now().saturating_sub(began));
        if *keeps != 0 && !context.is_empty() {
            self.store.keep(&context, &cache).map_err(failed)?;
        }
        let exact = index.search(vector, size(*chunks), None);
        let [low, high] = [prefill_ns & 0xffff_ffff, prefill_ns >> 32]
            .map(|half| u32::try_from(half).unwrap_or(u32::MAX));
        let head = [reused, word(rest.len()), low, high, word(found.len())];
        let names = found.iter().chain(&exact).map(|chunk| word(*chunk));
        let body: Vec<u32> = head.into_iter().chain(names).collect();
        Ok(self
            .way_back
            .send((FrameKind::Retrieved, id), 0, &token_bytes(&body))?)
    }

    /// Measures what computing a prompt costs here, through two lengths. The header's position is the
    /// longer one; the shorter one is a third of it.
    fn measure(&self, frame: &Frame) -> Result<(), Refusal> {
        let longer = frame.header.position;
        let shorter = longer / 3;
        let text: Vec<u32> = self.chunks.iter().flatten().copied().collect();
        let (Some(long), Some(short), Some(index), true) = (
            text.get(..size(longer)),
            text.get(..size(shorter)),
            &self.index,
            shorter > 0,
        ) else {
            return Err(frame
                .content_error("so long a text is not held, or there is no index yet")
                .into());
        };
        let pass = |tokens: &[u32]| {
            timed(|| {
                let mut cache = self.part.new_cache();
                self.part.carry_tokens(tokens, &mut cache).map(drop)
            })
        };
        let (of_long, of_short) = (pass(long)?, pass(short)?);
        let token_ns = of_long.saturating_sub(of_short) / u64::from(longer - shorter);
        let query = self.chunks.first().map_or(&[][..], Vec::as_slice);
        let search_ns = timed(|| {
            let vector = self.part.pooled(query)?;
            index.search(vector, 1, None);
            Ok::<_, JobError>(())
        })?;
        let costs = RetrievalCosts {
            pass_ns: of_short.saturating_sub(token_ns * u64::from(shorter)),
            token_ns,
            search_ns,
            passes: PASSES,
        };
        let body = serde_json::to_vec(&costs).map_err(JobError::ParseSpec)?;
        Ok(self.way_back.send((FrameKind::Costs, 0), 0, &body)?)
    }
}
