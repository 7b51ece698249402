//! The arms that what is written of a technique stands for.

use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::Arm;
use hexloop_workloads::study::kv::{Delivery, Source};
use hexloop_workloads::study::leak::Leaking;
use hexloop_workloads::study::multimodal::{Encoder, Look};
use hexloop_workloads::study::own::Threshold;
use hexloop_workloads::study::u_shape::UShape;

use super::Cut;

/// Every delivery from every source; as tokens a context comes from one source alone, as it makes no
/// difference.
pub(super) fn deliveries(deliveries: &[Delivery], sources: &[Source]) -> Vec<Arm> {
    let first = sources.first().copied();
    let of_source = |source: &Source| {
        let source = *source;
        let tried =
            move |delivery: &&Delivery| **delivery != Delivery::Recompute || Some(source) == first;
        let arm = move |delivery: &Delivery| Arm::KeyValues {
            delivery: *delivery,
            source,
        };
        deliveries.iter().filter(tried).map(arm)
    };
    sources.iter().flat_map(of_source).collect()
}

/// Every threshold after every cut, and the remote placement after the first, with which all are compared.
/// With all layers on the first node there is nothing to decide.
pub(super) fn exits(
    cuts: &[Cut],
    thresholds: &[Threshold],
    layers: u32,
) -> Result<Vec<Arm>, (String, String)> {
    let mut after = Vec::new();
    for cut in cuts {
        match cut {
            Cut::Every => after.extend(1..=layers),
            Cut::After(ends) if ends.len() == 1 => after.extend(ends),
            Cut::Even | Cut::After(_) => {
                let message = "an exit is after one layer".to_owned();
                return Err((message, "write `every` or numbers such as `2`".to_owned()));
            }
        }
    }
    after.sort_unstable();
    after.dedup();
    if let Some(cut) = after.iter().find(|cut| !(1..=layers).contains(*cut)) {
        let message = format!("the model has {layers} layers: none of them is number {cut}");
        let help = format!("give numbers from 1 to {layers}");
        return Err((message, help));
    }
    let first = after.first().copied();
    let of_cut = |cut: u32| {
        let arm = move |threshold: &Threshold| Arm::EarlyExit {
            cut,
            threshold: *threshold,
        };
        let tried = move |threshold: &&Threshold| {
            **threshold != Threshold::REMOTE || (Some(cut) == first && cut < layers)
        };
        thresholds.iter().filter(tried).map(arm)
    };
    Ok(after.into_iter().flat_map(of_cut).collect())
}

/// States after each layer in each coding; by default after every layer but the last.
pub(super) fn leaks(
    cuts: &[Cut],
    codings: &[Coding],
    layers: u32,
) -> Result<Vec<Arm>, (String, String)> {
    let mut after = Vec::new();
    for cut in cuts {
        match cut {
            Cut::Every => after.extend(1..layers),
            Cut::After(ends) if ends.len() == 1 => after.extend(ends),
            Cut::Even | Cut::After(_) => after.push(0),
        }
    }
    if let Some(cut) = after.iter().find(|cut| !(1..=layers).contains(*cut)) {
        let message = match cut {
            0 => "states cross the link after one layer".to_owned(),
            cut => format!("the model has {layers} layers: none of them is number {cut}"),
        };
        let help = format!("write `every` or numbers from 1 to {layers}");
        return Err((message, help));
    }
    let arms = codings.iter().flat_map(|coding| {
        after.iter().map(|layer| {
            Arm::Leaking(Leaking {
                layer: *layer,
                coding: *coding,
            })
        })
    });
    Ok(arms.collect())
}

/// The image with each merge, and the visual tokens of each merge in each coding.
pub(super) fn looks(encoders: &[Encoder], merges: &[u32], codings: &[Coding]) -> Vec<Arm> {
    let of = |encoder, merge: u32, coding| {
        Arm::Look(Look {
            encoder,
            merge,
            coding,
        })
    };
    let is_tried = |encoder| encoders.contains(&encoder);
    let merges = || merges.iter().copied();
    let images = merges().map(|merge| of(Encoder::Edge, merge, Coding::F32));
    let tokens = merges().flat_map(|merge| {
        let codings = codings.iter();
        codings.map(move |coding| of(Encoder::Device, merge, *coding))
    });
    let images = images.filter(|_| is_tried(Encoder::Edge));
    let tokens = tokens.filter(|_| is_tried(Encoder::Device));
    images.chain(tokens).collect()
}

/// Every U, and after each of its first layers a two-way split, with which it is compared.
pub(super) fn u_shapes(cuts: &[Cut], layers: u32) -> Result<Vec<Arm>, (String, String)> {
    let mut arms = Vec::new();
    for cut in cuts {
        let (first, last) = match cut {
            Cut::Every => (1, layers.saturating_sub(1)),
            Cut::After(ends) => match ends.as_slice() {
                [first, last] => (*first, *last),
                _ => (0, 0),
            },
            Cut::Even => (0, 0),
        };
        let shape = UShape { first, last };
        if !shape.fits(layers) {
            let message = format!("a model of {layers} layers is not divided in three so");
            let most = layers.saturating_sub(1);
            let help = format!(
                "give two rising numbers from 1 to {most} such as `1/{most}`: after which layers the first node \
                 stops and the second hands back"
            );
            return Err((message, help));
        }
        let two_way = Arm::Split {
            ends: vec![first, layers],
            in_flight: 1,
            coding: Coding::F32,
        };
        for arm in [two_way, Arm::UShaped(shape)] {
            if !arms.contains(&arm) {
                arms.push(arm);
            }
        }
    }
    Ok(arms)
}
