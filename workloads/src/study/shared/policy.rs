//! Who is served next, and who is refused: pure functions of what the edge knows.

use serde::{Deserialize, Serialize};

/// What the edge decides, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nobody is refused: links carry uploads as their cell shares them out, and what has come is computed in
    /// the order in which it came.
    Fcfs,
    /// The same uploads; what has come is computed by its deadline, and refused once it cannot keep it.
    Deadline,
    /// Users ask first. The edge knows each one's rate and what is left to upload and to compute: it has one
    /// upload at a time sent, by deadline, and refuses whom serving would make too many others late.
    Joint,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 3] = [Policy::Fcfs, Policy::Deadline, Policy::Joint];

    /// Its name in experiments and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Fcfs => "fcfs",
            Policy::Deadline => "deadline",
            Policy::Joint => "joint",
        }
    }

    /// Whether users ask before they upload.
    #[must_use]
    pub const fn asks(self) -> bool {
        matches!(self, Policy::Joint)
    }
}

/// A request that has not begun to be computed. Moments are on one clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub key: u64,
    /// By when its last token must leave the edge.
    pub deadline_ns: u64,
    /// How long its upload takes alone.
    pub upload_ns: u64,
    /// From when on nothing of it is left to upload: `None` before it may be sent, a guess while it is.
    pub uploaded_ns: Option<u64>,
}

/// The places of the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// When each becomes free, by what is known now.
    pub free_ns: Vec<u64>,
    /// How long a request takes one of them.
    pub place_ns: u64,
}

/// When each of some requests would be over, in the order given: uploads one after another, and then the place
/// that becomes free first.
#[must_use]
pub fn ends_ns(now_ns: u64, order: &[Waiting], places: &Places) -> Vec<u64> {
    let under_way = order.iter().filter_map(|it| it.uploaded_ns).max();
    let mut link_ns = under_way.unwrap_or(0).max(now_ns);
    let mut free_ns = places.free_ns.clone();
    let mut ends = Vec::new();
    for waiting in order {
        let there_ns = waiting.uploaded_ns.unwrap_or_else(|| {
            link_ns += waiting.upload_ns;
            link_ns
        });
        let first = free_ns.iter_mut().min();
        let end = match first {
            Some(free) => {
                *free = there_ns.max(*free).max(now_ns) + places.place_ns;
                *free
            }
            None => u64::MAX,
        };
        ends.push(end);
    }
    ends
}

/// Whom to refuse, so that of those who wait as many as may be keep their deadlines: by deadline, and where one
/// would be late, whoever of those up to it takes the longest to upload goes. For one machine and requests
/// that are all there this is the best that can be done (Moore 1968); uploads and places follow each other here.
#[must_use]
pub fn refused(now_ns: u64, waiting: &[Waiting], places: &Places) -> Vec<u64> {
    let mut kept = waiting.to_vec();
    kept.sort_by_key(|it| (it.deadline_ns, it.key));
    let mut refused = Vec::new();
    // Whoever comes behind the first late one changes nothing for those up to it.
    while let Some(late) = late_at(now_ns, &kept, places) {
        // What is uploaded already would only be thrown away: it goes last.
        let cost = |it: &Waiting| match it.uploaded_ns {
            Some(_) => 0,
            None => it.upload_ns.saturating_add(1),
        };
        let worst = (0..=late).max_by_key(|index| (kept.get(*index).map_or(0, cost), *index));
        refused.push(kept.remove(worst.unwrap_or(late)).key);
    }
    refused
}

/// The first that would be late.
fn late_at(now_ns: u64, kept: &[Waiting], places: &Places) -> Option<usize> {
    let ends = ends_ns(now_ns, kept, places);
    let mut pairs = ends.iter().zip(kept);
    pairs.position(|(end, waiting)| *end > waiting.deadline_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(key: u64, deadline_ns: u64, upload_ns: u64) -> Waiting {
        Waiting {
            key,
            deadline_ns,
            upload_ns,
            uploaded_ns: None,
        }
    }

    fn places(count: usize) -> Places {
        Places {
            free_ns: vec![0; count],
            place_ns: 10,
        }
    }

    #[test]
    fn uploads_follow_each_other_and_places_are_taken_as_they_become_free() {
        let order = [waiting(1, 100, 5), waiting(2, 100, 5), waiting(3, 100, 1)];
        assert_eq!(ends_ns(0, &order, &places(1)), [15, 25, 35]);
        assert_eq!(ends_ns(0, &order, &places(2)), [15, 20, 25]);
        let there = Waiting {
            uploaded_ns: Some(0),
            ..waiting(4, 100, 5)
        };
        assert_eq!(ends_ns(20, &[there, order[0]], &places(1)), [30, 40]);
    }

    #[test]
    fn nobody_is_refused_who_can_be_served_in_time() {
        let all = [waiting(1, 15, 5), waiting(2, 25, 5), waiting(3, 35, 5)];
        assert!(refused(0, &all, &places(1)).is_empty());
    }

    #[test]
    fn the_longest_upload_goes_where_all_cannot_be_in_time() {
        // With it three would be late, without it none.
        let all = [
            waiting(1, 60, 40),
            waiting(2, 61, 5),
            waiting(3, 62, 5),
            waiting(4, 63, 5),
        ];
        assert_eq!(refused(0, &all, &places(2)), [1]);
        // Who cannot be in time alone goes whatever else waits.
        assert_eq!(refused(0, &[waiting(7, 9, 1)], &places(4)), [7]);
    }

    #[test]
    fn those_that_are_kept_are_all_in_time() {
        let mut state = 1_u64;
        let mut draw = |most: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % most
        };
        for _ in 0..200 {
            let all: Vec<Waiting> = (0..12)
                .map(|key| waiting(key, 10 + draw(100), draw(30)))
                .collect();
            let gone = refused(0, &all, &places(2));
            let mut kept: Vec<Waiting> = all
                .into_iter()
                .filter(|it| !gone.contains(&it.key))
                .collect();
            kept.sort_by_key(|it| (it.deadline_ns, it.key));
            let ends = ends_ns(0, &kept, &places(2));
            assert!(
                ends.iter()
                    .zip(&kept)
                    .all(|(end, it)| *end <= it.deadline_ns)
            );
        }
    }
}
