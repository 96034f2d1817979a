//! Every reader of foreign words on damaged ones: what an agent says, what a client asks and a session answers, what cargo
//! and rustc report. No panic, no hang, no memory out of proportion, and what is understood was said.
//!
//! Words come through the sockets that relive uses, from a peer that then leaves, falls silent or never stops.
//! `RELIVE_FUZZ_ITERATIONS` and `RELIVE_FUZZ_SECONDS` are as in `hostile.rs`.

mod common;

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::time::{Duration, Instant};

use common::drive::{self, survives};
use common::mutate::Seed;
use common::peer::{End, Folder, Peer};
use relive::Error;
use relive::compile::cargo_messages::Message;
use relive::compile::dep_info;
use relive::compile::diagnostics::{self, Diagnostics};
use relive::control::{self, Answer, Asked, Generation, Request, Server, Status, Turned};
use relive::tell::Reason;
use relive_process::agent::AgentLink;
use relive_process::socket;
use relive_wire::LiveAddr;
use relive_wire::agent::{self as wire, HEAD_LEN, HELLO_LEN, Head, Hello, Reply, TEXT_MAX, Threads, VERSION};
use serde_json::Value;

/// Longest that a peer may need to say what it has been given.
const PATIENCE: Duration = Duration::from_secs(20);
/// No time at all: whoever waits at most so long has looked once.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The sockets' names in their folders.
const AGENT: &str = "agent.sock";
const CONTROL: &str = "control.sock";

/// The process that agents speak of.
const PID: u32 = 4711;
/// What an able agent answers to `open` and `resolve`.
const VALUES: [u64; 2] = [0x5555_4000_0000, 0x7fff_f7a1_2340];
/// An answer to what was never asked: a record in which everything but its number is right.
const STALE: &[u8] = b"RLR1\x01\0\0\0\xaa\xaa\xaa\xaa\0\0\0\0\0\0\0\0\0\0\0\0";
/// How much memory a conversation with an agent may cost.
const CONVERSATION: u64 = 100 << 10;

fn record(kind: Reply, seq: u32, value: u64, text: &[u8]) -> Vec<u8> {
    let head = Head { kind: kind as u32, seq, len: text.len() as u32, value };
    [&head.encode(), text].concat()
}

/// What agents say, from the greeting to the answer to the third request.
fn agents() -> Vec<Seed> {
    let hello = Hello {
        version: VERSION,
        pid: PID,
        tid: PID + 1,
        exe_start: LiveAddr(0x5555_5555_4000),
        control: LiveAddr(0x5555_4fff_f000),
        threads: Threads { offset: -0x4000, own: LiveAddr(0x7f10), template: LiveAddr(0x7f20), ..Threads::default() },
    };
    let (done, failed) = (Reply::Done, Reply::Failed);
    let able = [record(done, 1, VALUES[0], b""), record(done, 2, VALUES[1], b""), record(done, 3, 0, b"")].concat();
    let unable = [
        record(failed, 1, 0, b"/nowhere: cannot \xff\xfe open"),
        record(failed, 2, 0, b""),
        record(failed, 3, 0, &[b'x'; TEXT_MAX]),
    ];
    let late = [record(failed, 0, 0, b"too late"), STALE.to_vec(), able.clone()];
    let said = |name: &str, words: Vec<u8>| Seed::records(name, [hello.encode().to_vec(), words].concat());
    vec![said("able", able), said("unable", unable.concat()), said("late", late.concat())]
}

#[test]
fn records_are_decoded() {
    survives("record", agents(), 60_000, |bytes| {
        for part in bytes.windows(HELLO_LEN).step_by(4) {
            let hello = Hello::decode(part.try_into().unwrap());
            assert!(hello.is_none_or(|hello| hello.encode() == part));
        }
        for part in bytes.windows(HEAD_LEN).step_by(4) {
            let head = Head::decode(part.try_into().unwrap());
            assert!(head.is_none_or(|head| head.encode() == part));
        }
    });
}

/// An agent that says what it is given, and what relive makes of it.
struct Agent {
    folder: Folder,
    peer: Peer,
}

impl Agent {
    fn new(name: &str) -> Agent {
        let folder = Folder::new(name);
        let peer = Peer::listen(&folder.path, AGENT, false);
        Agent { folder, peer }
    }

    /// What relive understands of `bytes`: why there is no connection, or the answers to its four requests.
    fn answers(&self, bytes: &[u8], end: End, patience: Duration) -> Vec<Result<u64, relive_process::Error>> {
        let began = Instant::now();
        let mut answers = Vec::new();
        let conversation = || allocation_counter::measure(|| answers = converse(&self.folder.path, patience));
        let (memory, heard) = self.peer.meets(bytes, end, conversation);
        assert!(began.elapsed() < 2 * PATIENCE, "it takes too long");
        assert!(memory.bytes_max < CONVERSATION, "it takes too much memory");
        assert!(requests().starts_with(&heard), "relive says {heard:x?}");
        let said = match end {
            End::Repeats(words) => [bytes, &words.repeat(3)].concat(),
            End::Leaves | End::Waits => bytes.to_vec(),
        };
        for (answer, seq) in answers.iter().zip(1..) {
            match answer {
                Ok(value) => assert!(was_said(&said, seq, *value), "nobody answers that to request {seq}"),
                Err(why) => assert!(why.to_string().len() < 4 * TEXT_MAX, "{why}"),
            }
        }
        answers
    }
}

const PATH: &str = "/nowhere/00000.so";
const NAME: &str = "pthread_create";

fn converse(dir: &Path, patience: Duration) -> Vec<Result<u64, relive_process::Error>> {
    let alive = || true;
    let mut link = match AgentLink::connect(dir, PID, patience, &alive) {
        Ok(link) => link,
        Err(why) => return vec![Err(why)],
    };
    assert_eq!((link.hello().version, link.hello().pid), (VERSION, PID));
    vec![
        link.open(Path::new(PATH), patience, &alive).map(|addr| addr.0),
        link.resolve(NAME, patience, &alive).map(|addr| addr.0),
        link.ping(patience, &alive).map(|()| 0),
        // No agent here answers this one.
        link.ping(AT_ONCE, &alive).map(|()| 0),
    ]
}

/// What relive says in a conversation.
fn requests() -> Vec<u8> {
    let (open, resolve, ping) = (wire::Request::Open, wire::Request::Resolve, wire::Request::Ping);
    let request = |kind: wire::Request, seq, text: &str| {
        let head = Head { kind: kind as u32, seq, len: text.len() as u32, value: 0 };
        [&head.encode(), text.as_bytes()].concat()
    };
    [request(open, 1, PATH), request(resolve, 2, NAME), request(ping, 3, ""), request(ping, 4, "")].concat()
}

/// Whether `value` is in `bytes` as the answer to request `seq`; to a ping any value is.
fn was_said(bytes: &[u8], seq: u32, value: u64) -> bool {
    bytes
        .windows(HEAD_LEN)
        .filter_map(|part| Head::decode(part.try_into().unwrap()))
        .any(|head| (head.kind, head.seq) == (Reply::Done as u32, seq) && (head.value == value || seq > 2))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn agents_are_understood_however_they_end() {
    let agent = Agent::new("hostile-agent-unharmed");
    drive::run("agent-unharmed", move |watch| {
        for seed in agents() {
            for end in [End::Leaves, End::Waits, End::Repeats(STALE)] {
                watch.try_one(&format!("{}, {end:?}", seed.name), &seed.bytes, &|bytes| {
                    let answers = agent.answers(bytes, end, PATIENCE);
                    let said: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().copied()).collect();
                    let able = |value| (seed.name != "unable").then_some(value);
                    assert_eq!(said, [able(VALUES[0]), able(VALUES[1]), able(0), None], "{answers:?}");
                    let Some(Err(last)) = answers.last() else { panic!("{answers:?}") };
                    assert!(matches!(end, End::Leaves) || matches!(last, relive_process::Error::Busy(_)), "{last}");
                });
            }
        }
    });
}

#[test]
fn what_agents_say_is_read() {
    let agent = Agent::new("hostile-agent");
    survives("agent", agents(), 6_000, move |bytes| {
        // Who waits looks once, and that takes some time.
        let (end, patience) = match hash(bytes) % 128 {
            0 => (End::Waits, AT_ONCE),
            1 => (End::Repeats(STALE), AT_ONCE),
            _ => (End::Leaves, PATIENCE),
        };
        agent.answers(bytes, end, patience);
    });
}

/// What clients ask.
fn clients() -> Vec<Seed> {
    let asked = [
        ("undo", "{\"command\":\"undo\",\"steps\":3}\n"),
        ("redo", "{\"command\": \"redo\", \"steps\": 4294967295}\n"),
        ("status", "{\"command\":\"status\"}\n"),
    ];
    asked.into_iter().map(|(name, text)| Seed::text(name, text)).collect()
}

/// A session that answers with what it was asked.
fn session(folder: &Folder) -> Server {
    let turned = |asked, taken| Answer::Turned(Turned { asked, taken, ..Turned::default() });
    let take = move |asked: Asked| match asked.request {
        Request::Undo { steps } => asked.answer(turned(steps, 1)),
        Request::Redo { steps } => asked.answer(turned(steps, 2)),
        Request::Status => asked.answer(Answer::Status(Status::default())),
    };
    Server::start(&folder.session(), take).unwrap()
}

/// What the session answers to `bytes`, if the client falls silent then or only waits.
fn answer(folder: &Folder, bytes: &[u8], silent: bool) -> Answer {
    let mut stream = socket::connect(&folder.session(), CONTROL).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The session may have read enough at any point.
    let _ = stream.write_all(bytes);
    if silent {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}"))
}

/// The command and the number of steps that a request has for another reader of JSON.
fn meant(bytes: &[u8]) -> Option<(String, u64)> {
    let line = bytes.get(..REQUEST_MAX).unwrap_or(bytes).split_inclusive(|byte| *byte == b'\n').next()?;
    let value: Value = serde_json::from_slice(line).ok()?;
    Some((value.get("command")?.as_str()?.to_owned(), value.get("steps").and_then(Value::as_u64).unwrap_or(0)))
}

/// The longest request that is read to its end.
const REQUEST_MAX: usize = 4096;

#[test]
fn what_clients_ask_is_read() {
    let folder = Folder::new("hostile-clients");
    let server = session(&folder);
    for seed in clients() {
        assert!(!matches!(answer(&folder, &seed.bytes, false), Answer::Impossible { .. }), "{}", seed.name);
    }
    let endless = answer(&folder, &[b' '; 10 * REQUEST_MAX], false);
    assert!(matches!(&endless, Answer::Impossible { why } if why.contains("not understood")), "{endless:?}");
    survives("client", clients(), 6_000, move |bytes| {
        let _running = &server;
        if hash(bytes).is_multiple_of(32) {
            // Leaves before it hears the answer.
            let _ = socket::connect(&folder.session(), CONTROL).unwrap().write_all(bytes);
        }
        let ends = bytes.contains(&b'\n') || bytes.len() >= REQUEST_MAX;
        let understood = match answer(&folder, bytes, !ends) {
            Answer::Turned(turned) if turned.taken == 1 => ("undo".to_owned(), u64::from(turned.asked)),
            Answer::Turned(turned) => ("redo".to_owned(), u64::from(turned.asked)),
            Answer::Status(_) => ("status".to_owned(), 0),
            Answer::Impossible { why } => {
                assert!(why.len() < 4 * REQUEST_MAX, "{why}");
                return assert!(why.contains("not understood") || why.contains("UTF-8"), "{why}");
            }
        };
        let meant = meant(bytes).unwrap();
        assert_eq!(understood.0, meant.0);
        assert!(understood.0 == "status" || understood.1 == meant.1, "{understood:?} is not {meant:?}");
    });
}

#[test]
fn a_client_that_dawdles_is_told_so() {
    let folder = Folder::new("hostile-dawdler");
    let _server = session(&folder);
    let mut stream = socket::connect(&folder.session(), CONTROL).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (began, mut told) = (Instant::now(), Vec::new());
    // It never stops for long, and never comes to an end.
    while told.is_empty() {
        assert!(began.elapsed() < PATIENCE, "the session waits for ever");
        stream.write_all(b" ").unwrap();
        match stream.read_to_end(&mut told) {
            Err(why) if why.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => assert!(!told.is_empty(), "it was not told"),
        }
    }
    let answer: Answer = serde_json::from_slice(&told).unwrap();
    assert!(matches!(&answer, Answer::Impossible { why } if why.contains("did not come")), "{answer:?}");
}

/// What sessions answer.
fn answers() -> Vec<Seed> {
    let reason = Reason {
        rule: "type-layout".into(),
        item: "a::B".into(),
        message: "`B` was 8 bytes and is 16".into(),
        help: "restart".into(),
        file: Some("src/a.rs".into()),
        line: Some(7),
    };
    let generation = Generation { number: 12, undo: 3, redo: 1 };
    let turned = Turned { asked: 3, taken: 2, generation, why: Some("refused".into()), reasons: vec![reason] };
    let mut status = Status { version: "0.1.0".into(), pid: 4711, generation, ..Status::default() };
    status.functions.push(control::LiveCode { name: "a::b".into(), generation: 2, address: 1 << 46, size: 80 });
    status.altered.push("the entry of `a::b`".into());
    let answers = [
        ("turned", Answer::Turned(turned)),
        ("status", Answer::Status(status)),
        ("impossible", Answer::Impossible { why: "nothing was taken back".into() }),
    ];
    let text = |answer: &Answer| serde_json::to_string(answer).unwrap() + "\n";
    answers.iter().map(|(name, answer)| Seed::text(*name, text(answer))).collect()
}

/// Whether everything in `part` was said in `whole`.
fn within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(key, value)| within(value, whole.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| within(part, whole))
        }
        (part, whole) => part == whole,
    }
}

#[test]
fn what_sessions_answer_is_read() {
    let folder = Folder::new("hostile-session");
    let peer = Peer::listen(&folder.session(), CONTROL, true);
    let request = Request::Undo { steps: 3 };
    let asked = serde_json::to_string(&request).unwrap() + "\n";
    let ask = move |bytes: &[u8]| {
        let (answer, heard) = peer.meets(bytes, End::Leaves, || control::ask(&folder.path, request));
        assert_eq!(String::from_utf8(heard).unwrap(), asked);
        answer
    };
    for seed in answers() {
        let answer = ask(&seed.bytes).unwrap();
        assert_eq!(serde_json::to_string(&answer).unwrap() + "\n", String::from_utf8(seed.bytes).unwrap());
    }
    survives("answer", answers(), 10_000, move |bytes| match ask(bytes) {
        Ok(answer) => {
            let line = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap();
            let said: Value = serde_json::from_slice(line).unwrap();
            assert!(within(&serde_json::to_value(&answer).unwrap(), &said), "{answer:?} is not {said}");
        }
        Err(Error::Gone(why)) => assert!(why.len() < 2 * bytes.len() + 1000, "{why}"),
        Err(why) => panic!("{why}"),
    });
}

#[test]
fn an_answer_without_end_is_given_up() {
    let folder = Folder::new("hostile-endless");
    let peer = Peer::listen(&folder.session(), CONTROL, true);
    let mut answer = None;
    let ask = || answer = Some(control::ask(&folder.path, Request::Status));
    let (memory, _) = peer.meets(b"{\"answer\":\"", End::Repeats(&[b'x'; 4096]), || allocation_counter::measure(ask));
    assert!(matches!(answer, Some(Err(Error::Gone(_)))), "{answer:?}");
    assert!(memory.bytes_max < 64 << 20, "it took {} bytes", memory.bytes_max);
}

/// What rustc says, a message a line.
const RUSTC: [(&str, &str); 3] = [
    (
        "error",
        concat!(
            r#"{"$message_type":"diagnostic","message":"mismatched types","code":{"code":"E0308","explanation":null},"#,
            r#""level":"error","spans":[{"file_name":"src/a.rs","byte_start":40,"byte_end":44,"line_start":3,"line_end":3,"#,
            r#""column_start":5,"column_end":9,"is_primary":true,"text":[],"label":"expected `u32`, found `&str`","#,
            r#""suggested_replacement":null,"suggestion_applicability":null,"expansion":null}],"children":[{"message":"#,
            r#""to create it, create file \"src/work.rs\" or \"src/work/mod.rs\"","code":null,"level":"help","spans":[],"#,
            r#""children":[],"rendered":null}],"rendered":"\u001b[1merror\u001b[0m: mismatched types\n --> src/a.rs:3:5\n"}"#,
            "\n"
        ),
    ),
    (
        "artifact",
        concat!(
            r#"{"$message_type":"artifact","artifact":"/t/debug/deps/libx-00.rmeta","emit":"metadata"}"#,
            "\n",
            r#"{"$message_type":"diagnostic","message":"unused","level":"warning","spans":[],"rendered":"warning: unused\n"}"#,
            "\n"
        ),
    ),
    (
        "crash",
        "thread 'rustc' panicked at src/x.rs:1:2:\nno entry\nerror: couldn't read `src/../a.txt`: No such file\n",
    ),
];

#[test]
fn what_rustc_says_is_read() {
    let seeds = RUSTC.into_iter().map(|(name, text)| Seed::text(name, text)).collect();
    survives("rustc", seeds, 20_000, |bytes| {
        let mut said = Diagnostics::default();
        let mut all = String::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            said.line(&text, Path::new("/w"));
            let _ = writeln!(all, "{text}");
            // Another reader of JSON may mind what is wrong in other fields.
            if let (Some(file), Ok(value)) = (diagnostics::announced(line), serde_json::from_str::<Value>(&text)) {
                assert_eq!(value["artifact"], *file.to_str().unwrap());
            }
        }
        assert!(said.raw == all.as_bytes(), "{} bytes are kept of {}", said.raw.len(), all.len());
        assert!(said.files.iter().all(|file| file.is_absolute()), "{:?}", said.files);
        let first = said.first("exit status: 1");
        assert!(first.file.is_none_or(|file| said.files.contains(&file)));
        assert!(said.rendered.is_empty() || all.contains(&first.message) || all.contains('\\'), "{}", first.message);
        let _ = diagnostics::files_in_text(&said.rendered);
    });
}

/// What cargo says, a message a line.
const CARGO: [(&str, &str); 3] = [
    (
        "artifact",
        concat!(
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w#x@0.1.0","manifest_path":"/w/Cargo.toml","target":"#,
            r#"{"kind":["bin"],"crate_types":["bin"],"name":"x","src_path":"/w/src/main.rs","edition":"2024"},"profile":{},"#,
            r#""features":[],"filenames":["/w/target/debug/x"],"executable":"/w/target/debug/x","fresh":false}"#
        ),
    ),
    (
        "script",
        r#"{"reason":"build-script-executed","package_id":"x","linked_libs":[],"env":[["A","b"]],"out_dir":"/w/out"}"#,
    ),
    ("finished", r#"{"reason":"build-finished","success":true}"#),
];

#[test]
fn what_cargo_says_is_read() {
    let seeds = CARGO.into_iter().map(|(name, text)| Seed::text(name, text)).collect();
    survives("cargo", seeds, 30_000, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let reason = || serde_json::from_str::<Value>(&text).unwrap()["reason"].as_str().unwrap().to_owned();
        match Message::read(&text) {
            Some(Message::CompilerArtifact(_)) => assert_eq!(reason(), "compiler-artifact"),
            Some(Message::BuildScriptExecuted(_)) => assert_eq!(reason(), "build-script-executed"),
            Some(Message::Other) => assert!(!["compiler-artifact", "build-script-executed"].contains(&&*reason())),
            None => {}
        }
        let _ = diagnostics::files_in_text(&text.lines().map(str::to_owned).collect::<Vec<_>>());
    });
}

/// rustc's list of sources; these are there.
const DEP_INFO: &str = "/t/x.d: src/lib.rs src/a\\ b.rs src/../Cargo.toml\n\n/t/x: src/lib.rs Cargo.toml\n\nsrc/lib.rs:\n\
    src/a\\ b.rs:\n\n# env-dep:CARGO_PKG_NAME=x: y\n# env-dep:OUT_DIR\n";

fn read_dep_info(text: &str) -> usize {
    let files = dep_info::existing(text, Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(files.iter().all(|file| file.is_file()), "{files:?}");
    assert!(dep_info::variables(text).iter().all(|name| !name.contains(['=', '\n'])));
    files.len()
}

#[test]
fn lists_of_sources_are_read() {
    assert_eq!(read_dep_info(DEP_INFO), 3);
    survives("dep-info", vec![Seed::text("dep-info", DEP_INFO)], 10_000, |bytes| {
        read_dep_info(&String::from_utf8_lossy(bytes));
    });
    drive::run("long dep-info", |watch| {
        let names: String = (0..20_000).fold(String::new(), |names, at| format!("{names} src/{at}.rs"));
        let text = format!("/t/x.d:{names}\n\n/t/x:{names}\n");
        watch.try_one("twenty thousand files", text.as_bytes(), &|_| {
            read_dep_info(&text);
        });
    });
}
