//! Chat templates: what a model that was tuned on conversations expects around what a user says.
//!
//! They are Jinja, as Hugging Face's transformers renders them (`apply_chat_template` with
//! `add_generation_prompt`): blocks' own line ends are dropped, strings have Python's methods, and a
//! template may refuse with `raise_exception`. The date is not given to them, so that a prompt is the
//! same tomorrow: templates fall back to one of their own.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, context};
use serde::Deserialize;
use serde_json::json;

use super::error::EngineError;
use super::input::read_text_if_there;

/// Name of the template in a model's directory, where it is a file of its own.
pub(crate) const TEMPLATE_FILE: &str = "chat_template.jinja";
/// Name of the file that holds what tokenizer.json does not, the template among it.
pub(crate) const SETTINGS_FILE: &str = "tokenizer_config.json";

/// Stands for what the user says while the template is rendered.
const USERS_WORDS: &str = "hexloop puts the prompt here";
/// Steps after which a template is given up.
const MOST_STEPS: u64 = 1_000_000;
/// More than any published file of either name has.
const MOST_BYTES: u64 = 64 << 20;

/// The text around what a user says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Around {
    pub(super) before: String,
    pub(super) after: String,
    /// The tokens that begin or end a text and are in it.
    pub(super) tokens: Vec<String>,
}

/// The parts of tokenizer_config.json that a template needs.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Described { content: String },
}

impl Token {
    fn text(self) -> String {
        match self {
            Token::Text(text) | Token::Described { content: text } => text,
        }
    }
}

impl Templates {
    /// Of several, the one that is meant where nothing is said (transformers' name for it).
    fn usual(self) -> Option<String> {
        match self {
            Templates::One(template) => Some(template),
            Templates::Named(all) => {
                let mut usual = all.into_iter().filter(|one| one.name == "default");
                usual.next().map(|one| one.template)
            }
        }
    }
}

/// A template and the tokens that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) text: String,
    /// What a text begins with, and what ends one; empty where the model has no such token.
    pub(super) begin: String,
    pub(super) end: String,
}

impl Template {
    /// The one in a model's directory, and the file that holds it; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn find(directory: &Path) -> Result<Option<(PathBuf, Template)>, EngineError> {
        let path = directory.join(SETTINGS_FILE);
        let settings = match read_text_if_there(&path, MOST_BYTES)? {
            None => Settings::default(),
            Some(text) => serde_json::from_str(&text).map_err(|error| EngineError::Unsuitable {
                path: path.clone(),
                reason: format!("it is no tokenizer's settings: {error}"),
            })?,
        };
        let own = directory.join(TEMPLATE_FILE);
        let (path, text) = match read_text_if_there(&own, MOST_BYTES)? {
            Some(template) => (own, template),
            None => match settings.chat_template.and_then(Templates::usual) {
                Some(template) => (path, template),
                None => return Ok(None),
            },
        };
        let token = |token: Option<Token>| token.map(Token::text).unwrap_or_default();
        let (begin, end) = (token(settings.bos_token), token(settings.eos_token));
        Ok(Some((path, Template { text, begin, end })))
    }

    /// Writes it into a model's directory.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub(super) fn save(&self, directory: &Path) -> Result<(), EngineError> {
        let path = directory.join(SETTINGS_FILE);
        let settings = json!({
            "chat_template": self.text, "bos_token": self.begin, "eos_token": self.end,
        });
        std::fs::write(&path, settings.to_string())
            .map_err(|source| EngineError::Write { path, source })
    }
}

/// What stands around a user's words where a model's directory has a template; `None` if it has none.
///
/// # Errors
/// A file that cannot be read, and a template that refuses a single message, is no Jinja, or does not
/// repeat what the user says.
pub(super) fn read(directory: &Path) -> Result<Option<Around>, EngineError> {
    let Some((path, template)) = Template::find(directory)? else {
        return Ok(None);
    };
    around(&template)
        .map(Some)
        .map_err(|reason| EngineError::Unsuitable {
            path,
            reason: format!("its chat template cannot be used: {reason}"),
        })
}

/// Renders a template for one message of a user; in words what is wrong with it.
fn around(template: &Template) -> Result<Around, String> {
    let Template { text, begin, end } = template;
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(|error| error.to_string())?);
    environment.set_fuel(Some(MOST_STEPS));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", refuse);
    let told = |error: minijinja::Error| {
        let place = error.line().map(|line| format!("line {line}: "));
        format!("{}{error}", place.unwrap_or_default())
    };
    environment.add_template("chat", text).map_err(told)?;
    let template = environment.get_template("chat").map_err(told)?;
    let rendered = template.render(context! {
        messages => [context! { role => "user", content => USERS_WORDS }],
        add_generation_prompt => true,
        bos_token => begin,
        eos_token => end,
    });
    let rendered = rendered.map_err(told)?;
    let mut parts = rendered.split(USERS_WORDS);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) => {
            let is_there = |token: &&String| !token.is_empty() && rendered.contains(token.as_str());
            Ok(Around {
                before: before.to_owned(),
                after: after.to_owned(),
                tokens: [begin, end].into_iter().filter(is_there).cloned().collect(),
            })
        }
        _ => Err(format!(
            "it repeats what the user says {} times, and not once",
            rendered.matches(USERS_WORDS).count()
        )),
    }
}

fn refuse(reason: String) -> Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "{{ bos_token }}{% for message in messages %}\n    \
        {%- if message['role'] == 'user' %}\n        {{- '<|user|>' + message['content'].strip() + '<|stop|>' }}\n    \
        {%- endif %}\n{% endfor %}\n{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

    fn directory(files: &[(&str, String)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    fn expected() -> Around {
        Around {
            before: "<s><|user|>".to_owned(),
            after: "<|stop|><|assistant|>".to_owned(),
            tokens: vec!["<s>".to_owned()],
        }
    }

    #[test]
    fn a_template_is_found_wherever_checkpoints_keep_it() {
        let plain = serde_json::json!({ "bos_token": "<s>", "chat_template": SMALL });
        let named = serde_json::json!({
            "bos_token": { "content": "<s>", "special": true },
            "chat_template": [
                { "name": "tool_use", "template": "{{ raise_exception('tools') }}" },
                { "name": "default", "template": SMALL },
            ],
        });
        for settings in [plain, named] {
            let held = directory(&[(SETTINGS_FILE, settings.to_string())]);
            assert_eq!(read(held.path()).unwrap(), Some(expected()));
        }
        let own = directory(&[
            (
                SETTINGS_FILE,
                r#"{ "bos_token": "<s>", "chat_template": "old" }"#.to_owned(),
            ),
            (TEMPLATE_FILE, SMALL.to_owned()),
        ]);
        assert_eq!(read(own.path()).unwrap(), Some(expected()));
        let none = directory(&[(SETTINGS_FILE, "{}".to_owned())]);
        assert_eq!(read(none.path()).unwrap(), None);
        assert_eq!(read(directory(&[]).path()).unwrap(), None);
    }

    #[test]
    fn templates_that_cannot_be_used_are_refused_with_the_file_and_the_reason() {
        let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}";
        for (template, reason) in [
            ("{{ raise_exception('only tools') }}", "only tools"),
            ("{% for message in messages %}", "line 1"),
            ("fixed", "0 times"),
            (
                "{{ messages[0].content }}{{ messages[0].content }}",
                "2 times",
            ),
            (endless, "fuel"),
        ] {
            let held = directory(&[(TEMPLATE_FILE, template.to_owned())]);
            let error = read(held.path()).unwrap_err().to_string();
            assert!(
                error.contains(TEMPLATE_FILE) && error.contains(reason),
                "{error}"
            );
        }
        let held = directory(&[(SETTINGS_FILE, "[".to_owned())]);
        let error = read(held.path()).unwrap_err().to_string();
        assert!(error.contains(SETTINGS_FILE), "{error}");
    }
}
