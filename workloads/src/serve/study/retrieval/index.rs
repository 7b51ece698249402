//! An index of vectors: an inverted file (IVF-Flat, as in Jégou et al., IEEE TPAMI 33(1), 2011, without
//! their codes). Vectors are gathered around centres by spherical k-means; a search looks at those of the
//! nearest centres alone, or at all of them, which is exact.
//!
//! Nearness is the cosine between vectors whose common part, the mean of all that are held, was taken off:
//! pooled states of one model are all alike but for what is left then.

/// Rounds of k-means; centres have hardly moved for long by then.
const ROUNDS: usize = 12;

/// Some vectors, to be searched.
#[derive(Debug)]
pub(super) struct VectorIndex {
    mean: Vec<f32>,
    /// In the order in which they were given, of length 1.
    vectors: Vec<Vec<f32>>,
    centres: Vec<Vec<f32>>,
    /// Of each centre, the vectors that are nearest to it.
    lists: Vec<Vec<usize>>,
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// The same direction with length 1; nothing stays nothing.
fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = libm::sqrtf(dot(&vector, &vector));
    if length > 0.0 {
        for value in &mut vector {
            *value /= length;
        }
    }
    vector
}

fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += value;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "few vectors")]
    let count = vectors.len().max(1) as f32;
    sum.into_iter().map(|sum| sum / count).collect()
}

/// Places of the nearest of some vectors, the nearest first; of equals the first.
fn nearest<'a>(
    query: &[f32],
    vectors: impl Iterator<Item = (usize, &'a Vec<f32>)>,
    count: usize,
) -> Vec<usize> {
    let mut scored: Vec<(f32, usize)> = vectors
        .map(|(place, vector)| (dot(query, vector), place))
        .collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    scored.truncate(count);
    scored.into_iter().map(|(_, place)| place).collect()
}

impl VectorIndex {
    /// Gathers vectors around so many centres, at most as many as there are vectors.
    pub(super) fn build(vectors: Vec<Vec<f32>>, centres: usize) -> VectorIndex {
        let mean = mean(&vectors);
        let mut index = VectorIndex {
            vectors: Vec::new(),
            centres: Vec::new(),
            lists: Vec::new(),
            mean,
        };
        index.vectors = vectors
            .into_iter()
            .map(|vector| index.direction(vector))
            .collect();
        index.centres = index.first_centres(centres.min(index.vectors.len()));
        for _ in 0..ROUNDS {
            index.gather();
            let moved = index.lists.iter().zip(&index.centres).map(|(list, old)| {
                let own: Vec<Vec<f32>> = list
                    .iter()
                    .filter_map(|place| index.vectors.get(*place).cloned())
                    .collect();
                match own.is_empty() {
                    true => old.clone(),
                    false => unit(self::mean(&own)),
                }
            });
            index.centres = moved.collect();
        }
        index.gather();
        index
    }

    /// What is left of a vector without the common part, with length 1.
    fn direction(&self, mut vector: Vec<f32>) -> Vec<f32> {
        for (value, mean) in vector.iter_mut().zip(&self.mean) {
            *value -= mean;
        }
        unit(vector)
    }

    /// Each the farthest from those before it, which needs no draw.
    fn first_centres(&self, count: usize) -> Vec<Vec<f32>> {
        let mut centres: Vec<Vec<f32>> = self.vectors.iter().take(count.min(1)).cloned().collect();
        while centres.len() < count {
            let nearness = |vector: &Vec<f32>| {
                let to_each = centres.iter().map(|centre| dot(vector, centre));
                to_each.fold(f32::NEG_INFINITY, f32::max)
            };
            let farthest = self
                .vectors
                .iter()
                .min_by(|one, other| nearness(one).total_cmp(&nearness(other)));
            let Some(farthest) = farthest.cloned() else {
                break;
            };
            centres.push(farthest);
        }
        centres
    }

    fn gather(&mut self) {
        self.lists = vec![Vec::new(); self.centres.len()];
        for (place, vector) in self.vectors.iter().enumerate() {
            let centre = nearest(vector, self.centres.iter().enumerate(), 1);
            let list = centre
                .first()
                .and_then(|centre| self.lists.get_mut(*centre));
            if let Some(list) = list {
                list.push(place);
            }
        }
    }

    /// Places of the `count` vectors nearest to a query among those of the `probes` nearest centres; `None`
    /// for all, which is exact.
    pub(super) fn search(
        &self,
        query: Vec<f32>,
        count: usize,
        probes: Option<usize>,
    ) -> Vec<usize> {
        let query = self.direction(query);
        let Some(probes) = probes else {
            return nearest(&query, self.vectors.iter().enumerate(), count);
        };
        let centres = nearest(&query, self.centres.iter().enumerate(), probes);
        let among = centres
            .into_iter()
            .filter_map(|centre| self.lists.get(centre))
            .flatten()
            .filter_map(|place| Some((*place, self.vectors.get(*place)?)));
        nearest(&query, among, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors around twelve directions, with a large part that all have.
    fn vectors() -> Vec<Vec<f32>> {
        let value = |vector: usize, channel: usize| {
            let noise = u16::try_from((vector * 7919 + channel * 104_729) % 1000).unwrap();
            let own = if vector % 12 == channel { 3.0 } else { 0.0 };
            40.0 + own + f32::from(noise) / 1000.0
        };
        (0..144)
            .map(|vector| (0..12).map(|channel| value(vector, channel)).collect())
            .collect()
    }

    #[test]
    fn an_exact_search_finds_the_nearest_and_all_probes_find_the_same() {
        let index = VectorIndex::build(vectors(), 12);
        for query in [0, 17, 100] {
            let vector = vectors()[query].clone();
            let exact = index.search(vector.clone(), 5, None);
            assert_eq!(exact[0], query);
            assert!(
                exact.iter().all(|found| found % 12 == query % 12),
                "{exact:?}"
            );
            assert_eq!(index.search(vector, 5, Some(12)), exact);
        }
    }

    #[test]
    fn one_probe_looks_at_few_and_finds_what_is_gathered_there() {
        let index = VectorIndex::build(vectors(), 12);
        let largest = index.lists.iter().map(Vec::len).max().unwrap();
        assert!(largest < 40, "{largest}");
        assert_eq!(index.lists.iter().map(Vec::len).sum::<usize>(), 144);
        let vector = vectors()[30].clone();
        let found = index.search(vector, 5, Some(1));
        assert_eq!(found[0], 30);
    }

    #[test]
    fn none_and_equal_vectors_are_searched_without_harm() {
        let none = VectorIndex::build(Vec::new(), 4);
        assert!(none.search(vec![1.0], 3, Some(1)).is_empty());
        let same = VectorIndex::build(vec![vec![1.0, 2.0]; 5], 3);
        assert_eq!(same.search(vec![1.0, 2.0], 2, None), [0, 1]);
        assert_eq!(same.vectors.len(), 5);
    }
}
