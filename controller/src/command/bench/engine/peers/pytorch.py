"""PyTorch, by Hugging Face transformers, as a peer of `hexloop bench engine`.

Reads one line of JSON (the bench's specification), writes one line of JSON for each event.
"""
import json, sys, time
import torch, transformers
from transformers import DynamicCache

spec = json.loads(sys.stdin.readline())
torch.set_num_threads(spec["threads"])
torch.set_grad_enabled(False)


def tell(event):
    print(json.dumps(event), flush=True)


began = time.monotonic_ns()
model = transformers.AutoModelForCausalLM.from_pretrained(spec["model_directory"], dtype=torch.float32)
weights = {parameter.data_ptr(): parameter.nbytes for parameter in model.parameters()}
build = torch.backends.cpu.get_cpu_capability()
tell({"ready": {"load_ns": time.monotonic_ns() - began, "weight_bytes": sum(weights.values()),
                "engine_path": f"PyTorch {torch.__version__} (transformers {transformers.__version__}) {build}"}})
vocabulary = model.config.vocab_size
prompt = torch.tensor([[(3 + index) % vocabulary for index in range(spec["prompt_tokens"])]])


def read_prompt(cache=None):
    answer = model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return answer.past_key_values, answer.logits[:, -1].argmax(-1, keepdim=True)


def window(phase, tokens_per_pass, do):
    do()
    start, passes = time.monotonic_ns(), 0
    while time.monotonic_ns() - start < spec["window_ns"]:
        do()
        passes += 1
    tell({"window": {"phase": phase, "batch": 1, "start_ns": start, "end_ns": time.monotonic_ns(),
                     "passes": passes, "tokens": passes * tokens_per_pass, "cache_bytes": 0}})


window("prefill", spec["prompt_tokens"], read_prompt)
cache, first = read_prompt(DynamicCache(config=model.config))
token = first


def make_token():
    global token
    if cache.get_seq_length() >= spec["prompt_tokens"] + spec["output_tokens"]:
        cache.crop(-spec["output_tokens"])
        token = first
    answer = model(token, past_key_values=cache, use_cache=True)
    token = answer.logits[:, -1].argmax(-1, keepdim=True)


window("decode", 1, make_token)
