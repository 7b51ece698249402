//! Keys and values that one node has and another one needs (techniques 14 and 15 of the surveys): an edge
//! node holds the context of a request, and what its layers made of it; the device that goes on from
//! there takes the tokens and computes them again, or takes the keys and values, coded or as they are. What
//! crosses the link, how long it takes, and which is the fastest at which rate.

use serde::{Deserialize, Serialize};

use super::split::wire_bytes_of_frame;
use super::{HopBytes, RowRecord};
use crate::coding::kv::{KvCoding, KvShape};
use crate::wire::HEADER_BYTES;

/// The last tokens of a prompt are the device's own question; those before them are the context, which
/// the edge has.
pub const QUESTION_TOKENS: u32 = 8;

/// Tokens behind a prompt that no trial asks, by which it is judged what codings lose; fewer where the model
/// has no more positions.
pub const TEXT_TOKENS: u32 = 32;

/// Body of the frame that asks for a context: its number, how it is to come, and from where.
pub const FETCH_BYTES: u64 = 3 * 4;

/// Quarters of the measured rate that an adaptive delivery takes for as likely as each other while it is under way: a
/// quarter of it, the same, four times as much.
const LIKELY_QUARTERS: [u64; 3] = [1, 4, 16];

/// How a context comes to the node that goes on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// As tokens, of which the device computes the keys and values itself.
    Recompute,
    /// As keys and values.
    Ship(KvCoding),
    /// As whichever of the others of its study should be over first where the link's present rate may change
    /// meanwhile: see [`DeliveryCosts::safest`].
    Adaptive,
}

/// Where the edge has keys and values from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// It has kept them.
    #[default]
    Stored,
    /// It computes them when it is asked: prefill and decoding are on two nodes.
    Prefilled,
}

/// How a trial's context came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRecord {
    /// How; of an adaptive arm what it chose.
    pub delivery: Delivery,
    /// The rate of the link, as the device measured it before it asked; `None` where it chose nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_bps: Option<u64>,
    /// When the keys and values of the whole context were in the device's cache, as an offset from T0.
    pub context_ns: u64,
}

/// What it costs to get a context and to go on from there, medians of several passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCosts {
    /// To compute the context's keys and values on the device.
    pub recompute_ns: u64,
    /// The same on the edge.
    pub prefill_ns: u64,
    /// From the whole context to the first token, on the device.
    pub answer_ns: u64,
    /// What codings cost.
    pub codings: Vec<CodingCosts>,
    /// Passes that each median is over.
    pub passes: u32,
}

/// What a coding of keys and values costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodingCosts {
    /// The coding.
    pub coding: KvCoding,
    /// To cut out and code the context's, on the edge.
    pub encode_ns: u64,
    /// To decode them and put them into a cache, on the device.
    pub decode_ns: u64,
}

/// What a coding of a context's keys and values does to how the text goes on, on one prompt that no trial
/// asks. Nothing here is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossRecord {
    /// The coding.
    pub coding: KvCoding,
    /// Which of those prompts.
    pub prompt: u32,
    /// Tokens of the text behind the question.
    pub tokens: u32,
    /// The sum of their negative log-likelihoods, in nano-nats: the perplexity is the exponential of
    /// the mean.
    pub surprise_nano: u64,
    /// The sum over them of the Kullback-Leibler divergence from the distribution with raw keys and values,
    /// in nano-nats.
    pub divergence_nano: u64,
    /// Of how many the most probable token is the same.
    pub same_choice: u32,
    /// The largest difference of a score from that with raw ones, in millionths.
    pub largest_delta_micro: u64,
}

/// What is shipped: the shape of the keys and values, and of how many tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Of the whole model.
    pub shape: KvShape,
    /// Tokens.
    pub tokens: u32,
}

/// Where and when a context is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// What is shipped.
    pub context: Context,
    /// Where the edge has it from.
    pub source: Source,
    /// The round trip of an empty frame.
    pub echo_ns: u64,
}

impl Delivery {
    /// All of them.
    pub const ALL: [Delivery; 6] = [
        Delivery::Recompute,
        Delivery::Ship(KvCoding::F32),
        Delivery::Ship(KvCoding::F16),
        Delivery::Ship(KvCoding::Int8),
        Delivery::Ship(KvCoding::Int4),
        Delivery::Adaptive,
    ];

    /// Its name in experiment files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Delivery::Recompute => "recompute",
            Delivery::Ship(coding) => coding.name(),
            Delivery::Adaptive => "adaptive",
        }
    }

    /// The delivery of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Delivery> {
        Delivery::ALL
            .into_iter()
            .find(|delivery| delivery.name() == name)
    }

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        let place = (0..)
            .zip(Delivery::ALL)
            .find(|(_, delivery)| *delivery == self);
        place.map_or(0, |(number, _)| number)
    }

    /// The delivery with that number on the wire: one that the edge can carry out.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Delivery> {
        let index = usize::try_from(number).ok()?;
        let delivery = Delivery::ALL.get(index).copied();
        delivery.filter(|delivery| *delivery != Delivery::Adaptive)
    }

    /// Whether what follows is what would have followed without a link, bit for bit.
    #[must_use]
    pub fn is_exact(self) -> bool {
        matches!(self, Delivery::Recompute | Delivery::Ship(KvCoding::F32))
    }
}

impl Source {
    /// Its name in experiment files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Source::Stored => "stored",
            Source::Prefilled => "prefilled",
        }
    }

    /// The source of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Source> {
        [Source::Stored, Source::Prefilled]
            .into_iter()
            .find(|source| source.name() == name)
    }
}

/// What a delivery puts on the link: a question for it and a closing frame up; down the tokens, 4 bytes
/// each, or a frame for each layer, of keys and values of `2 H h b` bytes for each token and their scales.
#[must_use]
pub fn hop_bytes(delivery: Delivery, context: Context) -> HopBytes {
    let up = 2 * HEADER_BYTES + FETCH_BYTES;
    let (frames_down, bytes) = match delivery {
        Delivery::Ship(coding) => (
            u64::from(context.shape.layers),
            coding.bytes(context.shape, context.tokens),
        ),
        Delivery::Recompute | Delivery::Adaptive => (1, 4 * u64::from(context.tokens)),
    };
    HopBytes {
        up,
        down: frames_down * HEADER_BYTES + bytes,
        frames_up: 2,
        frames_down,
    }
}

/// What a delivery puts on the wire towards the device, headers of packets included.
#[must_use]
pub fn wire_bytes(delivery: Delivery, context: Context) -> u64 {
    let down = hop_bytes(delivery, context).down;
    // Its frames follow each other without a pause and share packets.
    wire_bytes_of_frame(down.saturating_sub(HEADER_BYTES))
}

impl DeliveryCosts {
    /// From asking to the first token.
    #[must_use]
    pub fn first_token_ns(
        &self,
        delivery: Delivery,
        circumstances: &Circumstances,
        rate_bps: u64,
    ) -> Option<u64> {
        let context = self.expected_ns(delivery, circumstances, rate_bps)?;
        Some(context.saturating_add(self.answer_ns))
    }

    fn of(&self, coding: KvCoding) -> Option<&CodingCosts> {
        self.codings.iter().find(|costs| costs.coding == coding)
    }

    /// What a delivery costs besides its bytes, from asking until the context is there; `None` if a coding was not
    /// measured, or it is none by itself.
    #[must_use]
    pub fn fixed_ns(&self, delivery: Delivery, circumstances: &Circumstances) -> Option<u64> {
        let own = match delivery {
            Delivery::Recompute => self.recompute_ns,
            Delivery::Ship(coding) => {
                let costs = self.of(coding)?;
                let made = match circumstances.source {
                    Source::Stored => 0,
                    Source::Prefilled => self.prefill_ns,
                };
                made + costs.encode_ns + costs.decode_ns
            }
            Delivery::Adaptive => return None,
        };
        Some(circumstances.echo_ns + own)
    }

    /// From asking until the context is there at a rate: the round trip, the bytes at the rate, and what both
    /// nodes compute, one after the other. From there on all deliveries are alike.
    #[must_use]
    pub fn expected_ns(
        &self,
        delivery: Delivery,
        circumstances: &Circumstances,
        rate_bps: u64,
    ) -> Option<u64> {
        let fixed = self.fixed_ns(delivery, circumstances)?;
        let bits = u128::from(wire_bytes(delivery, circumstances.context)) * 8;
        let link = bits * 1_000_000_000 / u128::from(rate_bps.max(1));
        Some(fixed.saturating_add(u64::try_from(link).unwrap_or(u64::MAX)))
    }

    /// The one of some deliveries that should be the fastest at a rate.
    #[must_use]
    pub fn fastest(
        &self,
        offered: &[Delivery],
        circumstances: &Circumstances,
        rate_bps: u64,
    ) -> Option<Delivery> {
        let timed = offered.iter().filter_map(|delivery| {
            let time = self.expected_ns(*delivery, circumstances, rate_bps)?;
            Some((time, *delivery))
        });
        timed.min().map(|(_, delivery)| delivery)
    }

    /// The one of some deliveries whose first token takes the least, in proportion (the geometric mean), over what the
    /// rate, as it was just measured, may become meanwhile. Where few bytes are hardly slower than many, they are the better
    /// bet: a channel that is blocked makes the many wait, and one that stays gains little by them.
    #[must_use]
    pub fn safest(
        &self,
        offered: &[Delivery],
        circumstances: &Circumstances,
        measured_bps: u64,
    ) -> Option<Delivery> {
        let timed = offered.iter().filter_map(|delivery| {
            let times = LIKELY_QUARTERS.map(|quarters| {
                let rate_bps = measured_bps.saturating_mul(quarters) / 4;
                self.first_token_ns(*delivery, circumstances, rate_bps)
            });
            let mut product = 1_u128;
            for time in times {
                product = product.saturating_mul(u128::from(time?));
            }
            Some((product, *delivery))
        });
        timed.min().map(|(_, delivery)| delivery)
    }

    /// The rate at which two deliveries take as long: below it the first, with fewer bytes, is faster.
    /// `None` if it is faster, or slower, at every rate.
    #[must_use]
    pub fn crossing_bps(
        &self,
        few: Delivery,
        many: Delivery,
        circumstances: &Circumstances,
    ) -> Option<u64> {
        let bytes = |delivery| wire_bytes(delivery, circumstances.context);
        let more = bytes(many)
            .checked_sub(bytes(few))
            .filter(|more| *more > 0)?;
        let fixed = |delivery| self.fixed_ns(delivery, circumstances);
        let saved = fixed(few)?.checked_sub(fixed(many)?).filter(|ns| *ns > 0)?;
        u64::try_from(u128::from(more) * 8 * 1_000_000_000 / u128::from(saved)).ok()
    }

    /// The rates between the three regimes: below the first the device computes the context again, above
    /// the last keys and values are shipped as they are, in between they are coded. `None` where costs leave
    /// no room for one of them.
    #[must_use]
    pub fn regimes_bps(
        &self,
        offered: &[Delivery],
        circumstances: &Circumstances,
    ) -> Option<[u64; 2]> {
        let raw = Delivery::Ship(KvCoding::F32);
        let is_coded = |delivery: &&Delivery| matches!(delivery, Delivery::Ship(coding) if *coding != KvCoding::F32);
        let coded = || offered.iter().filter(is_coded).copied();
        let shipping = coded()
            .filter_map(|coded| self.crossing_bps(Delivery::Recompute, coded, circumstances));
        // Raw ones win where they beat all codings; a coding that never loses leaves them nothing.
        let raw_wins = coded()
            .map(|coded| self.crossing_bps(coded, raw, circumstances))
            .collect::<Option<Vec<u64>>>()?;
        let both = [shipping.min()?, raw_wins.into_iter().max()?];
        (both[0] < both[1]).then_some(both)
    }
}

/// The costs that several measurements amount to.
#[must_use]
pub fn median_costs(measured: &[&DeliveryCosts]) -> Option<DeliveryCosts> {
    let middle = |of: &dyn Fn(&DeliveryCosts) -> Option<u64>| {
        let mut values: Vec<u64> = measured.iter().filter_map(|costs| of(costs)).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    let codings = measured.first()?.codings.iter().map(|known| {
        let coding = known.coding;
        Some(CodingCosts {
            coding,
            encode_ns: middle(&|costs| Some(costs.of(coding)?.encode_ns))?,
            decode_ns: middle(&|costs| Some(costs.of(coding)?.decode_ns))?,
        })
    });
    Some(DeliveryCosts {
        recompute_ns: middle(&|costs| Some(costs.recompute_ns))?,
        prefill_ns: middle(&|costs| Some(costs.prefill_ns))?,
        answer_ns: middle(&|costs| Some(costs.answer_ns))?,
        codings: codings.collect::<Option<_>>()?,
        passes: measured.iter().map(|costs| costs.passes).sum(),
    })
}

/// The rates of a row around those between the regimes, in percent of each, rising.
#[must_use]
pub fn rates_around(row: RowRecord, regimes: Option<[u64; 2]>, percents: &[u32]) -> RowRecord {
    let Some(regimes) = regimes.filter(|_| !percents.is_empty()) else {
        return row;
    };
    let of = |critical: u64| {
        percents.iter().map(move |percent| {
            let rate = u128::from(critical) * u128::from(*percent) / 100;
            u64::try_from(rate).unwrap_or(u64::MAX).max(1)
        })
    };
    let mut rates_bps: Vec<u64> = regimes.into_iter().flat_map(of).collect();
    rates_bps.sort_unstable();
    rates_bps.dedup();
    RowRecord { rates_bps, ..row }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    const AT: Circumstances = Circumstances {
        context: Context {
            shape: KvShape {
                layers: 6,
                kv_heads: 4,
                head_width: 32,
            },
            tokens: 64,
        },
        source: Source::Stored,
        echo_ns: 2 * MS,
    };

    fn costs() -> DeliveryCosts {
        let of = |coding, times| CodingCosts {
            coding,
            encode_ns: times * MS / 4,
            decode_ns: times * MS,
        };
        DeliveryCosts {
            recompute_ns: 400 * MS,
            prefill_ns: 20 * MS,
            answer_ns: 60 * MS,
            codings: vec![
                of(KvCoding::F32, 4),
                of(KvCoding::Int8, 20),
                of(KvCoding::Int4, 24),
            ],
            passes: 5,
        }
    }

    #[test]
    fn each_regime_begins_where_two_deliveries_take_as_long() {
        let offered = [
            Delivery::Recompute,
            Delivery::Ship(KvCoding::F32),
            Delivery::Ship(KvCoding::Int8),
            Delivery::Ship(KvCoding::Int4),
        ];
        let costs = costs();
        let [shipping, raw] = costs.regimes_bps(&offered, &AT).unwrap();
        let fastest = |rate| costs.fastest(&offered, &AT, rate).unwrap();
        assert_eq!(fastest(shipping * 9 / 10), Delivery::Recompute);
        assert_eq!(fastest(shipping * 11 / 10), Delivery::Ship(KvCoding::Int4));
        assert_ne!(fastest(raw * 9 / 10), Delivery::Ship(KvCoding::F32));
        assert_eq!(fastest(raw * 11 / 10), Delivery::Ship(KvCoding::F32));
        // Whoever is not sure that the rate stays ships fewer bytes for longer.
        let safest = |rate| costs.safest(&offered, &AT, rate).unwrap();
        assert_ne!(safest(raw * 11 / 10), Delivery::Ship(KvCoding::F32));
        assert_eq!(safest(raw * 4), Delivery::Ship(KvCoding::F32));
        assert_eq!(safest(shipping * 9 / 10), Delivery::Recompute);
        assert_eq!(safest(shipping * 2), Delivery::Ship(KvCoding::Int4));
        // An edge that has to compute them first pays later.
        let prefilled = Circumstances {
            source: Source::Prefilled,
            ..AT
        };
        let [later, _] = costs.regimes_bps(&offered, &prefilled).unwrap();
        assert!(later > shipping);
        // Where coding costs nothing, raw keys and values never win.
        let free = DeliveryCosts {
            codings: [KvCoding::F32, KvCoding::Int4]
                .map(|coding| CodingCosts {
                    coding,
                    encode_ns: 0,
                    decode_ns: 0,
                })
                .to_vec(),
            ..costs
        };
        assert_eq!(free.regimes_bps(&offered, &AT), None);
        let at_once = free.expected_ns(Delivery::Recompute, &AT, 1_000_000_000_000);
        assert!(at_once.is_some_and(|time| time.abs_diff(402 * MS) < 100));
    }

    #[test]
    fn bytes_are_a_frame_for_each_layer_and_every_number_once() {
        let raw = hop_bytes(Delivery::Ship(KvCoding::F32), AT.context);
        assert_eq!((raw.up, raw.frames_up, raw.frames_down), (44, 2, 6));
        assert_eq!(raw.down, 6 * 16 + 64 * 2 * 6 * 4 * 32 * 4);
        let tokens = hop_bytes(Delivery::Recompute, AT.context);
        assert_eq!((tokens.down, tokens.frames_down), (16 + 4 * 64, 1));
    }

    #[test]
    fn names_and_numbers_lead_back_and_nobody_asks_an_edge_to_adapt() {
        for delivery in Delivery::ALL {
            assert_eq!(Delivery::by_name(delivery.name()), Some(delivery));
            let known = Delivery::from_number(delivery.number());
            let carried_out = delivery != Delivery::Adaptive;
            assert_eq!(known, carried_out.then_some(delivery));
        }
        assert_eq!(Delivery::from_number(6), None);
        assert_eq!(Source::by_name("prefilled"), Some(Source::Prefilled));
    }

    #[test]
    fn rates_lie_around_both_critical_ones() {
        let row = RowRecord {
            round_trip_ns: 1,
            echo_ns: 1,
            echoes: 1,
            critical_rate_bps: None,
            rates_bps: vec![7],
        };
        let around = rates_around(row.clone(), Some([100, 1000]), &[50, 200]);
        assert_eq!(around.rates_bps, [50, 200, 500, 2000]);
        assert_eq!(rates_around(row, None, &[50]).rates_bps, [7]);
    }
}
