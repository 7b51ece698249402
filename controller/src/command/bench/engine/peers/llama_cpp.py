"""llama.cpp, by the Python package xllamacpp, as a peer of `hexloop bench engine`.

Reads one line of JSON (the bench's specification), writes one line of JSON for each event. Times of reading
and of making tokens are the server's own, without HTTP: the second includes its greedy choice of the token.
"""
import glob, json, os, sys, time, urllib.request
import xllamacpp

spec = json.loads(sys.stdin.readline())
file = glob.glob(os.path.join(spec["model_directory"], "*.gguf"))[0]


def tell(event):
    print(json.dumps(event), flush=True)


began = time.monotonic_ns()
parameters = xllamacpp.CommonParams()
parameters.model.path = file
parameters.n_ctx = spec["prompt_tokens"] + spec["output_tokens"] + 8
parameters.n_batch = parameters.n_ubatch = max(spec["prompt_tokens"], 32)
parameters.n_parallel = 1
parameters.cpuparams.n_threads = spec["threads"]
parameters.cpuparams_batch.n_threads = spec["threads"]
server = xllamacpp.Server(parameters)
build = xllamacpp.get_system_info().strip(" |")
tell({"ready": {"load_ns": time.monotonic_ns() - began, "weight_bytes": os.path.getsize(file),
                "engine_path": f"llama.cpp (xllamacpp {xllamacpp.__version__}) {build}"}})
prompt = [3 + index % 200 for index in range(spec["prompt_tokens"])]
question = json.dumps({"prompt": prompt, "n_predict": spec["output_tokens"], "cache_prompt": False,
                       "ignore_eos": True, "temperature": 0, "samplers": ["top_k"], "top_k": 1})


def ask():
    request = urllib.request.Request(server.listening_address + "/completion", question.encode(),
                                     {"Content-Type": "application/json"})
    return json.loads(urllib.request.urlopen(request, timeout=600).read())["timings"]


ask()
# The first token comes with the prompt: those made after it are timed as decoding.
phases = {"prefill": ["prompt_n", "prompt_ms", 0, 0.0, 0], "decode": ["predicted_n", "predicted_ms", 0, 0.0, 0]}
start = time.monotonic_ns()
while min(milliseconds for _, _, _, milliseconds, _ in phases.values()) * 1e6 < spec["window_ns"]:
    timings = ask()
    for phase in phases.values():
        phase[2] += timings[phase[0]]
        phase[3] += timings[phase[1]]
        phase[4] += 1
for name, (_, _, tokens, milliseconds, passes) in phases.items():
    tell({"window": {"phase": name, "batch": 1, "start_ns": start, "end_ns": start + int(milliseconds * 1e6),
                     "passes": passes, "tokens": tokens, "cache_bytes": 0}})
os._exit(0)
