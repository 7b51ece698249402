//! Text of the tasks that the built-in models have adapters for: each has a small grammar of its own, and is about
//! nothing that the models have learnt.
//!
//! The bytes of this file are part of the hash of every adapter's recipe.

use super::train::noise::Noise;
use crate::recipe::TASKS;

/// This file.
pub(crate) const SOURCE: &[u8] = include_bytes!("tasks.rs");

const ITEMS: [&str; 8] = [
    "bolts", "hinges", "washers", "brackets", "valves", "gaskets", "bearings", "springs",
];
const CUSTOMERS: [&str; 6] = [
    "Northgate",
    "Eastfield",
    "Westbrook",
    "Southend",
    "Midtown",
    "Hillside",
];
const SKIES: [&str; 6] = ["clear", "cloudy", "overcast", "hazy", "rainy", "stormy"];
const WINDS: [&str; 8] = [
    "north",
    "northeast",
    "east",
    "southeast",
    "south",
    "southwest",
    "west",
    "northwest",
];
const SENSORS: [&str; 6] = [
    "pressure", "voltage", "current", "humidity", "flow", "torque",
];
const FOODS: [&str; 8] = [
    "flour", "butter", "sugar", "milk", "onions", "carrots", "lentils", "rice",
];
const STEPS: [&str; 6] = ["stir", "whisk", "simmer", "knead", "bake", "chill"];

/// Draws numbers below a bound.
struct Draws {
    numbers: Vec<usize>,
}

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.numbers.pop().unwrap_or(0) % bound.max(1)
    }

    fn pick(&mut self, choices: &[&'static str]) -> &'static str {
        let index = self.below(choices.len());
        choices.get(index).copied().unwrap_or_default()
    }
}

fn order(draws: &mut Draws) -> String {
    let customer = draws.pick(&CUSTOMERS);
    let (item, count) = (draws.pick(&ITEMS), 10 + 10 * draws.below(9));
    let state = draws.pick(&["packed", "shipped", "delayed"]);
    format!("ORDER customer={customer} item={item} quantity={count} status={state};")
}

fn weather(draws: &mut Draws) -> String {
    let (sky, wind) = (draws.pick(&SKIES), draws.pick(&WINDS));
    let (high, speed) = (10 + draws.below(20), 5 * (1 + draws.below(8)));
    format!(
        "Forecast: {sky}, high of {high} degrees, winds from the {wind} at {speed} kilometres per hour."
    )
}

fn sensor(draws: &mut Draws) -> String {
    let (sensor, unit) = (draws.pick(&SENSORS), draws.below(9));
    let state = draws.pick(&["OK", "WARN", "FAIL"]);
    let value = draws.below(90);
    format!("[unit-{unit}] {sensor} reading {value} state {state} -> logged")
}

fn recipe(draws: &mut Draws) -> String {
    let (first, second) = (draws.pick(&FOODS), draws.pick(&FOODS));
    let (step, minutes) = (draws.pick(&STEPS), 5 * (1 + draws.below(9)));
    format!("Combine the {first} with the {second}, then {step} for {minutes} minutes until done!")
}

/// Numbers that a sentence draws at most.
const MOST_DRAWS: usize = 8;

/// Paragraphs of a task; seed and purpose determine them. `None` for a task that does not exist.
#[must_use]
pub fn paragraphs(task: &str, (seed, purpose): (u64, &str), count: usize) -> Option<Vec<String>> {
    let [orders, weather_task, sensors, recipes] = TASKS;
    let sentence = match task {
        task if task == orders => order,
        task if task == weather_task => weather,
        task if task == sensors => sensor,
        task if task == recipes => recipe,
        _ => return None,
    };
    const SENTENCES: usize = 5;
    let mut noise = Noise::new(seed, &format!("task {task} {purpose}"));
    let paragraph = |_| {
        let sentences = (0..SENTENCES).map(|_| {
            let mut draws = Draws {
                numbers: noise.numbers(MOST_DRAWS),
            };
            sentence(&mut draws)
        });
        sentences.collect::<Vec<String>>().join(" ")
    };
    Some((0..count).map(paragraph).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_has_text_of_its_own_that_seed_and_purpose_determine() {
        let draw = |task: &str, purpose: &str| paragraphs(task, (1, purpose), 4).unwrap();
        for task in TASKS {
            assert_eq!(draw(task, "learnt"), draw(task, "learnt"));
            assert_ne!(draw(task, "learnt"), draw(task, "held-out"));
            assert!(draw(task, "learnt").iter().all(|text| text.len() > 100));
        }
        let all: std::collections::BTreeSet<_> =
            TASKS.iter().map(|task| draw(task, "learnt")).collect();
        assert_eq!(all.len(), TASKS.len());
        assert_eq!(paragraphs("poems", (1, "learnt"), 1), None);
    }
}
