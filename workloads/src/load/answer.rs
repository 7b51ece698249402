//! What the events of an answer say: the chunks of a streamed completion, by OpenAI's interface as
//! vLLM, SGLang and llama.cpp's server speak it.

use serde::Deserialize;
use serde_json::Value;

use super::record::Ending;

/// The data of the event that ends a stream.
const DONE: &str = "[DONE]";

/// The most bytes of a server's own words that are kept.
const MESSAGE_BYTES: usize = 300;

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    /// What a model thinks before it answers, as vLLM names it.
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u32>,
    #[serde(default)]
    completion_tokens: Option<u32>,
}

/// An answer under way.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) pieces: u32,
    pub(super) prompt_tokens: Option<u32>,
    pub(super) output_tokens: Option<u32>,
    /// It said why it ends.
    finished: bool,
    /// It said that it is over.
    pub(super) done: bool,
}

impl Answer {
    /// Takes in the data of an event. Whether it carried text, or a part of a call.
    pub(super) fn take(&mut self, data: &str) -> Result<bool, Ending> {
        if data.trim() == DONE {
            self.done = true;
            return Ok(false);
        }
        // A list would be taken for the members in their order.
        if !data.trim_start().starts_with('{') {
            let reason = "it is no JSON object".to_owned();
            return Err(Ending::MalformedEvent { reason });
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| Ending::MalformedEvent {
            reason: shortened(&error.to_string()),
        })?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            let told = error.get("message").and_then(Value::as_str);
            let message = told.map_or_else(|| shortened(&error.to_string()), shortened);
            return Err(Ending::ServerError { message });
        }
        if let Some(usage) = chunk.usage {
            self.prompt_tokens = usage.prompt_tokens.or(self.prompt_tokens);
            self.output_tokens = usage.completion_tokens.or(self.output_tokens);
        }
        let mut carried = false;
        for choice in chunk.choices {
            self.finished |= choice.finish_reason.is_some();
            let delta = choice.delta.as_ref();
            let calls = delta.and_then(|delta| delta.tool_calls.as_ref());
            carried |= calls.is_some_and(|calls| !calls.is_empty());
            let parts = [
                choice.text.as_deref(),
                delta.and_then(|delta| delta.reasoning_content.as_deref()),
                delta.and_then(|delta| delta.content.as_deref()),
            ];
            for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
                self.text.push_str(part);
                carried = true;
            }
        }
        self.pieces += u32::from(carried);
        Ok(carried)
    }

    /// How an answer that ends here has ended.
    pub(super) const fn ending(&self) -> Ending {
        if self.done || self.finished {
            Ending::Completed
        } else {
            Ending::ClosedMidStream
        }
    }
}

/// The beginning of what a server said, on one line.
pub(super) fn shortened(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text[..end].chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(events: &[&str]) -> (Answer, Vec<bool>) {
        let mut answer = Answer::default();
        let carried = events.iter().map(|event| answer.take(event).unwrap());
        let carried = carried.collect();
        (answer, carried)
    }

    #[test]
    fn completions_and_chats_give_their_text_and_the_servers_count() {
        let (answer, carried) = after(&[
            r#"{"choices":[{"text":"Hello","index":0,"finish_reason":null}]}"#,
            r#"{"choices":[{"text":" you","finish_reason":"length"}],"usage":null}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
            "[DONE]",
        ]);
        assert_eq!(carried, [true, true, false, false]);
        assert_eq!((answer.text.as_str(), answer.pieces), ("Hello you", 2));
        assert_eq!(
            (answer.prompt_tokens, answer.output_tokens),
            (Some(7), Some(3))
        );
        assert!(answer.done);
        let (answer, carried) = after(&[
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"Hi"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        ]);
        assert_eq!(carried, [false, true, true, false]);
        assert_eq!(
            (answer.ending(), answer.text.as_str()),
            (Ending::Completed, "Hi")
        );
    }

    #[test]
    fn a_stream_that_never_said_that_it_ends_was_closed() {
        let (answer, _) = after(&[r#"{"choices":[{"text":"a"}]}"#]);
        assert_eq!(answer.ending(), Ending::ClosedMidStream);
    }

    #[test]
    fn errors_and_nonsense_are_told_apart() {
        let error = Answer::default().take(r#"{"error":{"message":"no room","code":500}}"#);
        let message = "no room".to_owned();
        assert_eq!(error, Err(Ending::ServerError { message }));
        for nonsense in ["", "{", "[]", r#"{"choices":5}"#, "null"] {
            let taken = Answer::default().take(nonsense);
            assert!(
                matches!(taken, Err(Ending::MalformedEvent { .. })),
                "{nonsense}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_an_event_says_it_is_taken_or_refused(data in ".{0,80}") {
            let mut answer = Answer::default();
            let taken = answer.take(&data);
            prop_assert_eq!(answer.pieces == 1, matches!(taken, Ok(true)));
            prop_assert!(shortened(&data).len() <= data.len());
        }
    }
}
