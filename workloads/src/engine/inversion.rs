//! Reading tokens from hidden states: the embedding that is nearest to a state, and the nearest to what a linear map
//! makes of it that was learnt from other texts.

use super::error::EngineError;
use super::hidden::Hidden;
use super::model::{Model, size};

/// Share of the mean square of a feature that is added to each, so that the map exists for any texts.
const RIDGE: f64 = 1e-3;

/// The embeddings of all tokens, each of length 1.
#[derive(Debug)]
pub struct Embeddings {
    rows: Vec<f64>,
    width: usize,
}

/// A state, or an embedding, of length 1.
fn unit(values: &[f32]) -> Vec<f64> {
    let squares: f64 = values
        .iter()
        .map(|value| f64::from(*value) * f64::from(*value))
        .sum();
    let length = libm::sqrt(squares).max(f64::MIN_POSITIVE);
    values
        .iter()
        .map(|value| f64::from(*value) / length)
        .collect()
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

impl Embeddings {
    /// Those of a model.
    ///
    /// # Errors
    /// A part without the embedding.
    pub fn of(model: &Model) -> Result<Embeddings, EngineError> {
        let tokens: Vec<u32> = (0..model.config().vocabulary).collect();
        let width = size(model.config().width);
        let values = model.embed(&tokens)?.values()?;
        Ok(Embeddings {
            rows: values.chunks(width.max(1)).flat_map(unit).collect(),
            width,
        })
    }

    fn row(&self, token: u32) -> &[f64] {
        let start = size(token).saturating_mul(self.width);
        let end = start.saturating_add(self.width);
        self.rows.get(start..end).unwrap_or_default()
    }

    /// The token whose embedding has the smallest angle with something; of equals, the lowest.
    fn nearest_to(&self, vector: &[f64]) -> u32 {
        let mut best = (0, f64::NEG_INFINITY);
        for (token, row) in (0..).zip(self.rows.chunks(self.width.max(1))) {
            let likeness = dot(row, vector);
            if likeness > best.1 {
                best = (token, likeness);
            }
        }
        best.0
    }

    /// The tokens whose embeddings are nearest to some states.
    ///
    /// # Errors
    /// States that cannot be read.
    pub fn nearest(&self, states: &Hidden) -> Result<Vec<u32>, EngineError> {
        let values = states.values()?;
        let states = values.chunks(self.width.max(1));
        Ok(states.map(|state| self.nearest_to(&unit(state))).collect())
    }
}

/// Sums over states and the embeddings of their tokens, from which the map follows.
#[derive(Debug)]
pub struct Lessons {
    /// Features: the channels of a state of length 1, and a constant.
    features: usize,
    width: usize,
    /// Features times features.
    squares: Vec<f64>,
    /// Features times channels of an embedding.
    products: Vec<f64>,
}

/// A linear map from states to embeddings, by least squares with a ridge.
#[derive(Debug)]
pub struct Probe {
    width: usize,
    /// Features times channels.
    map: Vec<f64>,
}

fn features_of(state: &[f32]) -> Vec<f64> {
    unit(state).into_iter().chain([1.0]).collect()
}

impl Lessons {
    /// None yet.
    #[must_use]
    pub fn new(embeddings: &Embeddings) -> Lessons {
        let width = embeddings.width;
        let features = width + 1;
        Lessons {
            features,
            width,
            squares: vec![0.0; features * features],
            products: vec![0.0; features * width],
        }
    }

    /// Learns from the states of a text.
    ///
    /// # Errors
    /// States that cannot be read.
    pub fn add(
        &mut self,
        embeddings: &Embeddings,
        (tokens, states): (&[u32], &Hidden),
    ) -> Result<(), EngineError> {
        let values = states.values()?;
        for (token, state) in tokens.iter().zip(values.chunks(self.width.max(1))) {
            let features = features_of(state);
            let target = embeddings.row(*token);
            let squares = self.squares.chunks_mut(self.features);
            let products = self.products.chunks_mut(self.width.max(1));
            for ((own, squares), products) in features.iter().zip(squares).zip(products) {
                for (sum, other) in squares.iter_mut().zip(&features) {
                    *sum += own * other;
                }
                for (sum, channel) in products.iter_mut().zip(target) {
                    *sum += own * channel;
                }
            }
        }
        Ok(())
    }

    /// The map that follows: `(X'X + r I) M = X'E`, solved by Cholesky's decomposition.
    #[must_use]
    pub fn learnt(mut self) -> Probe {
        let n = self.features;
        let trace: f64 = self.squares.iter().step_by(n + 1).sum();
        let ridge =
            RIDGE * trace / f64::from(u32::try_from(n).unwrap_or(u32::MAX)) + f64::MIN_POSITIVE;
        for own in self.squares.iter_mut().step_by(n + 1) {
            *own += ridge;
        }
        let lower = cholesky(self.squares, n);
        let map = solved(&lower, self.products, (n, self.width));
        Probe {
            width: self.width,
            map,
        }
    }
}

/// The lower triangle L with L L' = a symmetric, positive matrix of n rows.
fn cholesky(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    for row in 0..n {
        let (done, rest) = matrix.split_at_mut(row * n);
        let Some(own) = rest.get_mut(..n) else { break };
        for column in 0..=row {
            let (before, from) = own.split_at_mut(column);
            let Some(value) = from.first_mut() else { break };
            if column == row {
                let left = *value - dot(before, before);
                *value = libm::sqrt(left.max(f64::MIN_POSITIVE));
            } else if let Some(other) = done.get(column * n..=column * n + column) {
                let (others, diagonal) = other.split_at(column);
                let diagonal = diagonal.first().copied().unwrap_or(1.0);
                *value = (*value - dot(before, others)) / diagonal;
            }
        }
    }
    matrix
}

/// What a matrix must be multiplied by to give the right-hand sides, given its lower triangle.
fn solved(lower: &[f64], mut sides: Vec<f64>, (n, width): (usize, usize)) -> Vec<f64> {
    let at = |row: usize, column: usize| lower.get(row * n + column).copied().unwrap_or(0.0);
    let mut eliminate = |row: usize, others: &mut dyn Iterator<Item = (usize, f64)>| {
        let mut own: Vec<f64> = sides
            .iter()
            .skip(row * width)
            .take(width)
            .copied()
            .collect();
        for (other, factor) in others {
            let known = sides.iter().skip(other * width);
            for (value, known) in own.iter_mut().zip(known) {
                *value -= factor * known;
            }
        }
        let diagonal = at(row, row);
        let place = sides.iter_mut().skip(row * width);
        for (place, value) in place.zip(own) {
            *place = value / diagonal;
        }
    };
    for row in 0..n {
        eliminate(row, &mut (0..row).map(|other| (other, at(row, other))));
    }
    for row in (0..n).rev() {
        eliminate(row, &mut (row + 1..n).map(|other| (other, at(other, row))));
    }
    sides
}

impl Probe {
    /// The tokens that it finds in some states.
    ///
    /// # Errors
    /// States that cannot be read.
    pub fn tokens(
        &self,
        embeddings: &Embeddings,
        states: &Hidden,
    ) -> Result<Vec<u32>, EngineError> {
        let values = states.values()?;
        let guess = |state: &[f32]| {
            let mut vector = vec![0.0; self.width];
            let rows = self.map.chunks(self.width.max(1));
            for (feature, row) in features_of(state).iter().zip(rows) {
                for (sum, weight) in vector.iter_mut().zip(row) {
                    *sum += feature * weight;
                }
            }
            embeddings.nearest_to(&vector)
        };
        Ok(values.chunks(self.width.max(1)).map(guess).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight tokens in five channels, in no particular directions.
    fn rows() -> Vec<f32> {
        let value = |n: u16| f32::from(n * 79 % 101) / 50.0 - 1.0;
        (0..40).map(value).collect()
    }

    /// The same, each channel moved to the next place and stretched.
    fn turned(rows: &[f32]) -> Hidden {
        let values = rows.chunks(5).flat_map(|row| {
            let moved = (0..5).map(|channel| row[(channel + 4) % 5] * 3.0);
            moved.collect::<Vec<f32>>()
        });
        Hidden::from_values(values.collect(), 5).expect("whole")
    }

    #[test]
    fn a_map_is_learnt_that_finds_what_the_nearest_embedding_misses() {
        let embeddings = Embeddings {
            rows: rows().chunks(5).flat_map(unit).collect(),
            width: 5,
        };
        let all: Vec<u32> = (0..8).collect();
        let states = turned(&rows());
        let mut lessons = Lessons::new(&embeddings);
        for _ in 0..4 {
            let lesson = (all.as_slice(), &states);
            lessons.add(&embeddings, lesson).expect("read");
        }
        let probe = lessons.learnt();
        assert_eq!(probe.tokens(&embeddings, &states).expect("read"), all);
        assert_ne!(embeddings.nearest(&states).expect("read"), all);
        let plain = Hidden::from_values(rows(), 5).expect("whole");
        assert_eq!(embeddings.nearest(&plain).expect("read"), all);
    }

    #[test]
    fn the_triangle_solves_a_system() {
        let matrix = vec![4.0, 2.0, 0.0, 2.0, 5.0, 3.0, 0.0, 3.0, 6.0];
        // Times (1, 2, 3) it is (8, 21, 24).
        let found = solved(&cholesky(matrix, 3), vec![8.0, 21.0, 24.0], (3, 1));
        for (found, expected) in found.iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
    }
}
