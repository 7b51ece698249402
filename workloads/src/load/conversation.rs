//! What is asked, turn by turn: bodies of requests, each with everything said before.

mod image;

use rand_chacha::ChaCha12Rng;
use serde_json::{Map, Value, json};

use super::draw::of_conversation;
use super::spec::{Api, LoadSpec, Mix};
use super::words;

/// A conversation under way; most have one turn.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) number: u32,
    pub(super) turn: u32,
    turns: u32,
    random: ChaCha12Rng,
    messages: Vec<Value>,
}

/// A request as it will be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) body: Vec<u8>,
    /// Words that the user's side of this turn added.
    pub(super) words: u32,
}

impl Conversation {
    pub(super) fn begin(load: &LoadSpec, seed: u64, number: u32) -> Conversation {
        let mut random = of_conversation(seed, number);
        let turns = match &load.mix {
            Mix::Chat { turns, .. } | Mix::Agent { turns, .. } => turns.draw(&mut random, number),
            Mix::Plain | Mix::Image { .. } | Mix::Retrieval { .. } | Mix::Recorded { .. } => 1,
        };
        Conversation {
            number,
            turn: 0,
            turns,
            random,
            messages: Vec::new(),
        }
    }

    /// The request of the present turn.
    pub(super) fn ask(&mut self, load: &LoadSpec) -> Question {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(load.model));
        let tokens = load.output_tokens.draw(&mut self.random, self.number);
        body.insert("max_tokens".to_owned(), json!(tokens));
        body.insert("stream".to_owned(), json!(true));
        body.insert(
            "stream_options".to_owned(),
            json!({ "include_usage": true }),
        );
        let words = self.content(load, &mut body);
        // That it is an object was looked at when the experiment was read.
        if let Ok(Value::Object(further)) = serde_json::from_str(&load.body) {
            body.extend(further);
        }
        let body = Value::Object(body).to_string().into_bytes();
        Question { body, words }
    }

    /// Adds what this turn says; gives the words that it added.
    fn content(&mut self, load: &LoadSpec, body: &mut Map<String, Value>) -> u32 {
        let own = load.prompt_words.draw(&mut self.random, self.number);
        let (content, words) = match &load.mix {
            Mix::Recorded { bodies } => {
                let place = usize::try_from(self.number).unwrap_or(0) % bodies.len().max(1);
                let logged = bodies.get(place).map(String::as_str).unwrap_or_default();
                // So was every body of the log.
                if let Ok(Value::Object(members)) = serde_json::from_str(logged) {
                    let words = members.values().map(words_of).sum();
                    body.extend(members);
                    return words;
                }
                return 0;
            }
            Mix::Agent {
                tools,
                result_words,
                ..
            } => {
                body.insert("tools".to_owned(), declared(*tools));
                if self.turn > 0 {
                    let words = result_words.draw(&mut self.random, self.turn);
                    let text = words::text(&mut self.random, words);
                    let answered = json!({
                        "role": "tool", "tool_call_id": call_name(self.turn), "content": text,
                    });
                    self.messages.push(answered);
                    body.insert("messages".to_owned(), json!(self.messages));
                    return words;
                }
                (json!(words::text(&mut self.random, own)), own)
            }
            Mix::Image { bytes } => {
                let url = image::data_url(&mut self.random, *bytes);
                let text = words::text(&mut self.random, own);
                let parts = json!([
                    { "type": "text", "text": text },
                    { "type": "image_url", "image_url": { "url": url } },
                ]);
                (parts, own)
            }
            Mix::Retrieval {
                documents,
                document_words,
            } => {
                let (mut text, mut all) = (String::new(), own);
                for number in 1..=*documents {
                    let words = document_words.draw(&mut self.random, number);
                    let document = words::text(&mut self.random, words);
                    text.extend(["Document ", &number.to_string(), ":\n", &document, "\n\n"]);
                    all = all.saturating_add(words);
                }
                text += "Question: ";
                text += &words::text(&mut self.random, own);
                (json!(text), all)
            }
            Mix::Plain | Mix::Chat { .. } => (json!(words::text(&mut self.random, own)), own),
        };
        match load.api {
            Api::Completions => {
                body.insert("prompt".to_owned(), content);
            }
            Api::Chat => {
                self.messages
                    .push(json!({ "role": "user", "content": content }));
                body.insert("messages".to_owned(), json!(self.messages));
            }
        }
        words
    }

    /// Takes in the answer to the present turn. How long it is until the next one; `None` if that was
    /// the last.
    pub(super) fn answered(&mut self, load: &LoadSpec, text: &str) -> Option<u64> {
        self.turn += 1;
        let (said, pause_ns) = match &load.mix {
            Mix::Chat { pause_ns, .. } => {
                (json!({ "role": "assistant", "content": text }), *pause_ns)
            }
            Mix::Agent {
                tools, pause_ns, ..
            } => {
                let tool = self.turn % (*tools).max(1);
                let arguments = json!({ "query": text }).to_string();
                let call = json!({
                    "id": call_name(self.turn), "type": "function",
                    "function": { "name": tool_name(tool), "arguments": arguments },
                });
                let said = json!({ "role": "assistant", "content": text, "tool_calls": [call] });
                (said, *pause_ns)
            }
            Mix::Plain | Mix::Image { .. } | Mix::Retrieval { .. } | Mix::Recorded { .. } => {
                return None;
            }
        };
        if self.turn >= self.turns {
            return None;
        }
        self.messages.push(said);
        Some(pause_ns)
    }
}

/// Words of all texts in a value.
fn words_of(value: &Value) -> u32 {
    match value {
        Value::String(text) => u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX),
        Value::Array(values) => values.iter().map(words_of).fold(0, u32::saturating_add),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| *name == "content" || *name == "text")
            .map(|(_, value)| words_of(value))
            .fold(0, u32::saturating_add),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn call_name(turn: u32) -> String {
    format!("call_{turn}")
}

fn tool_name(number: u32) -> String {
    format!("tool_{number}")
}

/// Tools that take a text, as OpenAI's interface declares functions.
fn declared(tools: u32) -> Value {
    let tool = |number: u32| {
        json!({
            "type": "function",
            "function": {
                "name": tool_name(number),
                "description": format!("Looks a text up in source {number}."),
                "parameters": {
                    "type": "object",
                    "properties": { "query": { "type": "string", "description": "What to look for." } },
                    "required": ["query"],
                },
            },
        })
    };
    (0..tools).map(tool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::spec::{Arrivals, Length};
    use crate::load::tests::plain;

    fn of(mix: Mix, api: Api) -> LoadSpec {
        let mut load = plain(Arrivals::SingleStream, 1);
        (load.mix, load.api) = (mix, api);
        load
    }

    fn asked(conversation: &mut Conversation, load: &LoadSpec) -> Value {
        serde_json::from_slice(&conversation.ask(load).body).unwrap()
    }

    #[test]
    fn a_completion_asks_for_so_many_words_and_tokens_the_same_for_a_seed() {
        let mut load = of(Mix::Plain, Api::Completions);
        load.body = r#"{"temperature":0,"max_tokens":3}"#.to_owned();
        let question = |seed| asked(&mut Conversation::begin(&load, seed, 0), &load);
        let body = question(1);
        assert_eq!(body["prompt"].as_str().unwrap().split(' ').count(), 16);
        assert_eq!(
            (&body["stream"], &body["max_tokens"]),
            (&json!(true), &json!(3))
        );
        assert_eq!(
            (question(1), &body["temperature"]),
            (body.clone(), &json!(0))
        );
        assert_ne!(question(2), body);
    }

    #[test]
    fn a_chat_carries_everything_that_was_said() {
        let turns = Length::Fixed { count: 3 };
        let load = of(Mix::Chat { turns, pause_ns: 5 }, Api::Chat);
        let mut chat = Conversation::begin(&load, 1, 0);
        assert_eq!(
            asked(&mut chat, &load)["messages"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(chat.answered(&load, "first"), Some(5));
        let second = asked(&mut chat, &load);
        let roles: Vec<&str> = second["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["role"].as_str().unwrap())
            .collect();
        assert_eq!(roles, ["user", "assistant", "user"]);
        assert_eq!(second["messages"][1]["content"], "first");
        assert_eq!(chat.answered(&load, "second"), Some(5));
        assert_eq!(
            asked(&mut chat, &load)["messages"]
                .as_array()
                .unwrap()
                .len(),
            5
        );
        assert_eq!(chat.answered(&load, "third"), None);
    }

    #[test]
    fn an_agent_sends_results_of_the_calls_that_it_made() {
        let (turns, result_words) = (Length::Fixed { count: 2 }, Length::Fixed { count: 40 });
        let mix = Mix::Agent {
            turns,
            tools: 3,
            result_words,
            pause_ns: 0,
        };
        let load = of(mix, Api::Chat);
        let mut agent = Conversation::begin(&load, 1, 0);
        assert_eq!(
            asked(&mut agent, &load)["tools"].as_array().unwrap().len(),
            3
        );
        assert_eq!(agent.answered(&load, "look"), Some(0));
        let question = agent.ask(&load);
        assert_eq!(question.words, 40);
        let body: Value = serde_json::from_slice(&question.body).unwrap();
        let [_, call, result] = body["messages"].as_array().unwrap().as_slice() else {
            panic!("{body}");
        };
        assert_eq!(call["tool_calls"][0]["id"], result["tool_call_id"]);
        assert_eq!(agent.answered(&load, "done"), None);
    }

    #[test]
    fn documents_stand_before_the_question_and_logs_are_sent_as_they_were() {
        let document_words = Length::Fixed { count: 10 };
        let load = of(
            Mix::Retrieval {
                documents: 2,
                document_words,
            },
            Api::Completions,
        );
        let question = Conversation::begin(&load, 1, 0).ask(&load);
        assert_eq!(question.words, 36);
        let bodies = vec![r#"{"prompt":"just this","max_tokens":9}"#.to_owned()];
        let load = of(Mix::Recorded { bodies }, Api::Completions);
        let mut logged = Conversation::begin(&load, 1, 5);
        let body = asked(&mut logged, &load);
        assert_eq!(
            (&body["prompt"], &body["max_tokens"]),
            (&json!("just this"), &json!(9))
        );
    }
}
