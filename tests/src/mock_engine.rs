//! A server that answers as an OpenAI-compatible engine does, at a stated pace, and that misbehaves as
//! the name of the model asks: a test says what is to go wrong by the model that it asks for.
//!
//! | model | what it does |
//! |---|---|
//! | `plain` | streams as many tokens as `max_tokens` says, then `[DONE]` |
//! | `shredded` | the same, every byte in a chunk of its own |
//! | `close` | closes the connection after two tokens |
//! | `stall` | says nothing more after two tokens, until the other side closes |
//! | `latin` | sends an event that is not UTF-8 |
//! | `malformed` | sends an event that is no JSON |
//! | `error` | sends an event that tells of an error |
//! | `status` | answers with status 500 |
//! | `json` | answers with a JSON document |
//! | `huge` | sends an event that never ends |
//! | `forgetful` | answers one request per connection, and closes it |

use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use hexloop_workloads::clock;
use serde_json::{Value, json};

/// A server that runs until its process ends.
#[derive(Debug, Clone, Copy)]
pub struct MockEngine {
    /// Where it listens.
    pub address: SocketAddr,
}

impl MockEngine {
    /// Listens, and answers every connection on a thread of its own, a token every `gap_ns`.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub fn start(listen: SocketAddr, gap_ns: u64) -> io::Result<MockEngine> {
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let serve = move || {
                    // Who asked may go at any time.
                    drop(converse(&stream, gap_ns));
                };
                if std::thread::Builder::new().spawn(serve).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn(accept)?;
        Ok(MockEngine { address })
    }
}

struct Asked {
    path: String,
    body: Vec<u8>,
}

fn converse(stream: &TcpStream, gap_ns: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(asked) = request(&mut reader)? {
        if !asked.path.ends_with("/completions") {
            let found = asked.path == "/health";
            let status = if found { "200 OK" } else { "404 Not Found" };
            whole(stream, status, "text/plain", "well\n")?;
            continue;
        }
        let body: Value = serde_json::from_slice(&asked.body).map_err(io::Error::other)?;
        let goes_on = answer(
            stream,
            &body,
            asked.path.ends_with("/chat/completions"),
            gap_ns,
        )?;
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
}

/// The next request, or none at the end of the stream.
fn request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let field = line.to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Asked { path, body }))
}

fn whole(mut stream: &TcpStream, status: &str, kind: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn chunk(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    stream.write_all(&framed)
}

fn piece(text: &str, chat: bool, reason: Option<&str>) -> String {
    let choice = if chat {
        json!({ "index": 0, "delta": { "content": text }, "finish_reason": reason })
    } else {
        json!({ "index": 0, "text": text, "finish_reason": reason })
    };
    format!(
        "data: {}\n\n",
        json!({ "object": "chunk", "choices": [choice] })
    )
}

/// Answers; whether the connection goes on.
fn answer(stream: &TcpStream, body: &Value, chat: bool, gap_ns: u64) -> io::Result<bool> {
    let model = body["model"].as_str().unwrap_or_default();
    let tokens = body["max_tokens"].as_u64().unwrap_or(1);
    match model {
        "status" => {
            let told = json!({ "error": { "message": "out of memory" } }).to_string();
            whole(
                stream,
                "500 Internal Server Error",
                "application/json",
                &told,
            )?;
            return Ok(true);
        }
        "json" => {
            whole(stream, "200 OK", "application/json", "{}")?;
            return Ok(true);
        }
        _ => {}
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let mut writer = stream;
    writer.write_all(head.as_bytes())?;
    let begun = clock::now();
    for number in 0..tokens {
        clock::sleep_until(begun + (number + 1) * gap_ns);
        if number == 2 {
            match model {
                "close" => return Ok(false),
                "stall" => {
                    // Until the other side closes.
                    drop(writer.read(&mut [0]));
                    return Ok(false);
                }
                "latin" => chunk(stream, b"data: {\"choices\":[{\"text\":\"\xe9\"}]}\n\n")?,
                "malformed" => chunk(stream, b"data: {\"choices\":\n\n")?,
                "error" => chunk(
                    stream,
                    b"data: {\"error\":{\"message\":\"out of blocks\"}}\n\n",
                )?,
                "huge" => {
                    chunk(stream, b"data: ")?;
                    while chunk(stream, &[b'x'; 4096]).is_ok() {}
                    return Ok(false);
                }
                _ => {}
            }
        }
        let reason = (number + 1 == tokens).then_some("length");
        let text = piece(&format!(" w{number}"), chat, reason);
        if model == "shredded" {
            text.as_bytes()
                .chunks(1)
                .try_for_each(|byte| chunk(stream, byte))?;
        } else {
            chunk(stream, text.as_bytes())?;
        }
    }
    let prompt = words(&body["prompt"]) + words(&body["messages"]);
    let usage = json!({
        "choices": [],
        "usage": { "prompt_tokens": prompt, "completion_tokens": tokens },
    });
    chunk(
        stream,
        format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes(),
    )?;
    writer.write_all(b"0\r\n\r\n")?;
    Ok(model != "forgetful")
}

/// Words of all texts in a value, the names of members aside.
fn words(value: &Value) -> usize {
    match value {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(values) => values.iter().map(words).sum(),
        Value::Object(members) => members.get("content").map_or(0, words),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
