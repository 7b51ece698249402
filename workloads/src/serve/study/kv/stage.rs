//! The node that holds contexts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::{PROBE, StageCosts, timed};
use crate::clock;
use crate::coding::kv::KvCoding;
use crate::engine::KeyValueCache;
use crate::engine::prefixes::PrefixStore;
use crate::serve::connection::{Frame, PayloadCounter, token_bytes};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::serve::study::answering::{Answers, answer, ids};
use crate::serve::study::books::WayBack;
use crate::serve::study::door::{self, Refusal};
use crate::serve::study::models;
use crate::study::StudyJobSpec;
use crate::study::kv::{Delivery, FETCH_BYTES};
use crate::wire::FrameKind;

/// Contexts that may be held.
const MOST_CONTEXTS: usize = 1 << 16;

/// Memory that their keys and values may take.
const MOST_STORED_BYTES: u64 = 4 << 30;

/// Serves until the driver goes.
pub(in crate::serve::study) fn serve(
    spec: &StudyJobSpec,
    listen: SocketAddr,
    counter: &Arc<PayloadCounter>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    let part = models::large(spec)?;
    let held = part.terms(part.layers())?;
    let loaded = (part.weight_bytes(), part.engine_path());
    let Some(front) = door::open(spec, listen, (loaded, held), (counter, signals))? else {
        return Ok(());
    };
    let served = answer(front, |way_back| Stage {
        part,
        way_back,
        contexts: BTreeMap::new(),
        store: PrefixStore::new(MOST_STORED_BYTES),
        open: BTreeSet::new(),
    });
    counter.closed();
    served
}

struct Stage {
    part: Part,
    way_back: WayBack,
    contexts: BTreeMap<u32, Vec<u32>>,
    store: PrefixStore,
    open: BTreeSet<u32>,
}

impl Answers for Stage {
    fn accepts(&self, kind: FrameKind) -> Option<u64> {
        match kind {
            FrameKind::Deposit => Some(4 * u64::from(self.part.max_positions())),
            FrameKind::Fetch => Some(FETCH_BYTES),
            FrameKind::Echo | FrameKind::Measure | FrameKind::Probe | FrameKind::End => Some(0),
            _ => None,
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let opens = frame.header.kind == FrameKind::Fetch;
        self.way_back.received(id, frame.body.len(), opens);
        match frame.header.kind {
            FrameKind::Deposit => self.deposit(frame),
            FrameKind::Fetch => self.fetch(frame),
            FrameKind::Measure => self.measure(frame),
            FrameKind::Probe => {
                let kind = (FrameKind::Probe, id);
                self.way_back.send(kind, 0, &[])?;
                Ok(self.way_back.send(kind, 1, &PROBE)?)
            }
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
    /// Computes what the layers make of a context.
    fn prefill(&self, tokens: &[u32]) -> Result<KeyValueCache, JobError> {
        let mut cache = self.part.new_cache();
        self.part.carry_tokens(tokens, &mut cache)?;
        Ok(cache)
    }

    /// A context that will be asked for.
    fn deposit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let tokens = ids(frame)?;
        let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        self.part.check_length(count, 1).map_err(wrong)?;
        self.part.check_tokens(&tokens).map_err(wrong)?;
        if self.contexts.len() >= MOST_CONTEXTS {
            return Err(wrong("too many contexts are held".to_owned()));
        }
        let cache = self.prefill(&tokens)?;
        let kept = self.store.keep(&tokens, &cache);
        let kept = kept.map_err(|error| wrong(error.to_string()))?;
        if !kept || self.store.counts().evicted > 0 {
            return Err(wrong(format!(
                "keys and values of all contexts are more than the {MOST_STORED_BYTES} bytes that are \
                 kept: try fewer prompts, or shorter ones"
            )));
        }
        self.contexts.insert(frame.header.request, tokens);
        Ok(())
    }

    fn fetch(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let words = ids(frame)?;
        let [context, delivery, source] = words[..] else {
            return Err(wrong("it names no context, delivery and source".to_owned()));
        };
        let delivery = Delivery::from_number(delivery)
            .ok_or_else(|| wrong(format!("delivery {delivery} is not known here")))?;
        let tokens = self.contexts.get(&context);
        let tokens = tokens.ok_or_else(|| wrong(format!("context {context} is not held here")))?;
        if !self.open.insert(id) {
            return Err(wrong("it is open already".to_owned()));
        }
        let coding = match delivery {
            Delivery::Ship(coding) => coding,
            Delivery::Recompute | Delivery::Adaptive => {
                let body = token_bytes(tokens);
                return Ok(self.way_back.send((FrameKind::Context, id), 0, &body)?);
            }
        };
        let tokens = tokens.clone();
        let began = clock::now();
        let layers = match source {
            0 => self.export_stored(&tokens, coding)?,
            _ => {
                let cache = self.prefill(&tokens)?;
                self.part.export(&cache, cache.positions(), coding)?
            }
        };
        self.way_back
            .computed(id, clock::now().saturating_sub(began));
        for (layer, body) in (0..).zip(&layers) {
            self.way_back
                .send((FrameKind::KeyValues, id), layer, body)?;
        }
        Ok(())
    }

    /// Nothing is evicted, so that whatever was deposited is there.
    fn export_stored(
        &mut self,
        tokens: &[u32],
        coding: KvCoding,
    ) -> Result<Vec<Vec<u8>>, JobError> {
        match self.store.get(tokens) {
            Some(cache) => self.part.export(cache, cache.positions(), coding),
            None => Err(JobError::Spec {
                why: "a context that was deposited is not in the store".to_owned(),
            }),
        }
    }

    /// Measures what a context costs here.
    fn measure(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let tokens = self.contexts.get(&frame.header.request).cloned();
        let tokens = tokens.ok_or_else(|| frame.content_error("no such context is held"))?;
        let prefill_ns = timed(|| self.prefill(&tokens).map(drop))?;
        let mut encode_ns = Vec::new();
        for coding in KvCoding::ALL {
            let time = timed(|| self.export_stored(&tokens, coding).map(drop))?;
            encode_ns.push((coding, time));
        }
        let costs = StageCosts {
            prefill_ns,
            encode_ns,
        };
        let body = serde_json::to_vec(&costs).map_err(JobError::ParseSpec)?;
        Ok(self.way_back.send((FrameKind::Costs, 0), 0, &body)?)
    }
}
