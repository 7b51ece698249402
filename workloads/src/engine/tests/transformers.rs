//! Hugging Face transformers as an independent implementation: of every model of the family, of the vision
//! encoder, and of chat templates.

use std::process::Command;

use serde_json::{Value, json};

use super::encoder::write_encoder;
use super::family::{family, random_model, scores, tokens};
use crate::engine::chat;
use crate::engine::vision::{VisionConfig, VisionEncoder};
use crate::engine::{Hidden, Model};
use crate::recipe::VISION_DIRECTORY;

/// What a script prints, of what it is told; `None`, which is said, where no Python is named.
fn answer(script: &str, told: &Value) -> Option<Value> {
    let Some(python) = std::env::var_os("HEXLOOP_TRANSFORMERS_PYTHON") else {
        println!("SKIPPED(transformers) HEXLOOP_TRANSFORMERS_PYTHON names no Python with it");
        return None;
    };
    let output = Command::new(&python)
        .args(["-c", script, &told.to_string()])
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}: {said}");
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Asserts that rows of numbers are alike, within a share of the largest.
fn assert_alike(name: &str, ours: &[Vec<f32>], theirs: &Value, version: &Value) {
    let theirs = theirs.as_array().expect("rows");
    assert_eq!(theirs.len(), ours.len());
    let largest = ours.iter().flatten().fold(0.0_f32, |a, b| a.max(b.abs()));
    let mut furthest = 0.0_f64;
    for (ours, theirs) in ours.iter().zip(theirs) {
        let theirs = theirs.as_array().expect("numbers");
        assert_eq!(theirs.len(), ours.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            let apart = f64::from(*ours) - theirs.as_f64().expect("a number");
            furthest = furthest.max(apart.abs());
        }
    }
    let furthest = furthest / f64::from(largest);
    println!("{name}: {furthest:.2e} of the largest apart, transformers {version}");
    assert!(furthest < 2e-5, "{name}: {furthest}");
}

/// Loads a model in f32 and prints its scores of every token of the vocabulary after every token.
const SCORES: &str = r#"
import json, sys, torch, transformers
told = json.loads(sys.argv[1])
torch.set_num_threads(1)
model = transformers.AutoModelForCausalLM.from_pretrained(
    told["directory"], dtype=torch.float32, attn_implementation="eager")
with torch.no_grad():
    scores = model(torch.tensor([told["tokens"]])).logits[0]
print(json.dumps({"class": type(model).__name__, "version": transformers.__version__,
                  "scores": scores.tolist()}))
"#;

#[test]
#[ignore = "wants a Python with transformers and torch, named in HEXLOOP_TRANSFORMERS_PYTHON"]
fn transformers_scores_every_token_as_the_engine_does() {
    for (name, config) in family() {
        let directory = random_model(&config);
        let told = json!({ "directory": directory.path(), "tokens": tokens() });
        let Some(answer) = answer(SCORES, &told) else {
            return;
        };
        assert_eq!(answer["class"], config.architecture.class(), "{name}");
        let ours = scores(directory.path(), &tokens());
        assert_alike(name, &ours, &answer["scores"], &answer["version"]);
    }
}

/// Encodes an image as bytes of rows, columns and channels, and merges squares of patches in front of the
/// projector, which is LLaVA's.
const SIGHT: &str = r#"
import json, sys, torch, transformers, safetensors.torch
import torch.nn.functional as F
told = json.loads(sys.argv[1])
torch.set_num_threads(1)
encoder = transformers.SiglipVisionModel.from_pretrained(
    told["directory"], dtype=torch.float32, attn_implementation="eager", vision_use_head=False)
weights = safetensors.torch.load_file(told["directory"] + "/model.safetensors")
projector = lambda name: (weights[f"multi_modal_projector.{name}.weight"],
                          weights[f"multi_modal_projector.{name}.bias"])
side = encoder.config.image_size
pixels = torch.tensor(told["image"], dtype=torch.float32).reshape(side, side, 3).permute(2, 0, 1)
answers = []
with torch.no_grad():
    states = encoder((pixels / 255 - 0.5).unsqueeze(0) / 0.5).last_hidden_state
    patches = side // encoder.config.patch_size
    grid = states.reshape(patches, patches, -1).permute(2, 0, 1)
    for square in told["squares"]:
        merged = F.avg_pool2d(grid, square).flatten(1).T
        answers.append(F.linear(F.gelu(F.linear(merged, *projector("linear_1"))), *projector("linear_2")).tolist())
print(json.dumps({"version": transformers.__version__, "visual_tokens": answers}))
"#;

fn rows(hidden: &Hidden, width: u32) -> Vec<Vec<f32>> {
    let width = usize::try_from(width).expect("small");
    let values = hidden.values().expect("numbers");
    values.chunks(width).map(<[f32]>::to_vec).collect()
}

#[test]
#[ignore = "wants a Python with transformers and torch, named in HEXLOOP_TRANSFORMERS_PYTHON"]
fn transformers_sees_an_image_as_the_vision_encoder_does() {
    let config = VisionConfig {
        image_size: 32,
        patch_size: 4,
        hidden_size: 48,
        intermediate_size: 80,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        layer_norm_eps: 1e-6,
    };
    let (_, text) = family().remove(0);
    let directory = random_model(&text);
    write_encoder(directory.path(), &config, text.width);
    let place = directory.path().join(VISION_DIRECTORY);
    let image: Vec<u8> = (0..config.image_bytes())
        .map(|at| u8::try_from(at * at * 37 % 251).expect("a byte"))
        .collect();
    let squares = [1_u32, 2, 4];
    let told = json!({ "directory": place, "image": image, "squares": squares });
    let Some(answer) = answer(SIGHT, &told) else {
        return;
    };
    let model = Model::load_whole(directory.path()).expect("loads");
    let encoder = VisionEncoder::load(directory.path(), &model).expect("loads");
    for (square, theirs) in squares.iter().zip(0..) {
        let ours = encoder.encode(&image, square * square).expect("encodes");
        assert_alike(
            &format!("squares of {square}"),
            &rows(&ours, text.width),
            &answer["visual_tokens"][theirs],
            &answer["version"],
        );
    }
}

/// Renders templates for one message of a user.
const CHATS: &str = r#"
import json, sys, transformers
from transformers.utils.chat_template_utils import render_jinja_template
told = json.loads(sys.argv[1])
said = [{"role": "user", "content": told["words"]}]
print(json.dumps({"version": transformers.__version__, "rendered": [
    render_jinja_template([said], chat_template=template, add_generation_prompt=True,
                          bos_token="<s>", eos_token="</s>")[0][0]
    for template in told["templates"]]}))
"#;

/// What published templates are made of: loops with their first and last turn told apart, name spaces, methods
/// and slices of strings, tests for what is not given, macros, and line ends that blocks take away or leave.
const TEMPLATES: [&str; 5] = [
    "{% for message in messages %}\n{% if loop.first and message.role != 'system' %}\n<|system|>\nBe brief.</s>\n\
     {% endif %}\n<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n{% endfor %}\n\
     {% if add_generation_prompt %}\n<|assistant|>\n{% endif %}",
    "{{- bos_token }}\n{%- set ns = namespace(turns=0) %}\n{%- if tools is defined and tools is not none %}\
     {{- tools | tojson }}{%- endif %}\n{%- for message in messages %}\n    {%- set ns.turns = ns.turns + 1 %}\n    \
     {{- '<|start|>' + message['role'] + '<|stop|>\\n\\n' + message['content'] | trim + '<|turn ' ~ ns.turns ~ '|>' }}\n\
     {%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start|>assistant<|stop|>\\n\\n' }}\n{%- endif %}",
    "{%- if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}\
     {% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
     {{ raise_exception('roles must take turns') }}{% endif %}\
     {{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}{% endfor %}",
    "{%- macro turn(role, words) -%}\n<{{ role }}>{{ words }}</{{ role }}>\n{%- endmacro -%}\n\
     {%- for message in messages if message.content is string %}\n{{ turn(message.role, message.content) }}\n\
     {%- if not loop.last %}, {% endif %}\n{% endfor %}\n{{ turn('assistant', '')[:-12] }}",
    "   {# what is said #}\n{% for message in messages[::-1] %}\n{{ message.role.split('e')[0].rstrip('s\\n') }}: \
     {{ message.content }}\n  \
     {% if message.role.startswith('us') and 'er' in message.role %}yes{% else %}no{% endif %}\n\n\
     {% endfor %}{{ ['a', 'b'] | join(', ') | upper }}{{ messages | length }}\n",
];

#[test]
#[ignore = "wants a Python with transformers and torch, named in HEXLOOP_TRANSFORMERS_PYTHON"]
fn transformers_renders_chat_templates_as_they_are_put_around_prompts() {
    let words = "Name a planet that is not Earth.";
    let told = json!({ "words": words, "templates": TEMPLATES });
    let Some(answer) = answer(CHATS, &told) else {
        return;
    };
    println!("transformers {}", answer["version"]);
    let settings = json!({ "bos_token": "<s>", "eos_token": "</s>" }).to_string();
    for (template, theirs) in TEMPLATES.iter().zip(0..) {
        let directory = tempfile::tempdir().expect("made");
        let write = |name, text: &str| std::fs::write(directory.path().join(name), text);
        write(chat::SETTINGS_FILE, &settings).expect("written");
        write(chat::TEMPLATE_FILE, template).expect("written");
        let around = chat::read(directory.path()).unwrap_or_else(|why| panic!("{template}: {why}"));
        let around = around.expect("has a template");
        let ours = format!("{}{words}{}", around.before, around.after);
        assert_eq!(ours, answer["rendered"][theirs], "{template}");
    }
}
