//! The agent inside a real program on damaged requests: it answers what it understands, leaves who says anything else, and
//! is there for the next. The program notices nothing.
//!
//! The harness is relive's (`crates/relive/tests/common`): `RELIVE_FUZZ_ITERATIONS` sets how many inputs are tried,
//! `RELIVE_FUZZ_SECONDS` how long it goes on with others. No path that is asked for exists, however it is damaged.

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../../relive/tests/common/drive.rs"]
mod drive;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "live/guest.rs"]
mod guest;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../../relive/tests/common/mutate.rs"]
mod mutate;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "live/support.rs"]
mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use drive::survives;
use guest::Guest;
use mutate::Seed;
use relive_process::Error;
use relive_process::agent::AgentLink;
use relive_process::socket;
use relive_wire::agent::{HEAD_LEN, HELLO_LEN, Head, Hello, PATH_MAX, Reply, Request, TEXT_MAX};
use support::PATIENCE;

/// How much memory the program may have more at the end, in KiB: what the loader and the C library keep, and no more.
const GROWN: u64 = 2048;

fn record(kind: Request, seq: u32, text: &[u8]) -> Vec<u8> {
    let head = Head { kind: kind as u32, seq, len: text.len() as u32, value: 0 };
    [&head.encode(), text].concat()
}

/// What could be asked in one connection.
fn requests() -> Vec<Seed> {
    let (open, resolve, ping) = (Request::Open, Request::Resolve, Request::Ping);
    let long = [b"/nowhere/".as_slice(), &[b'x'; PATH_MAX - 9]].concat();
    let longer = [&long[..], b"x"].concat();
    let good = [record(ping, 1, b""), record(open, 2, b"/nowhere/00001.so"), record(resolve, 3, b"pthread_cond_wait")];
    let odd = [
        record(resolve, u32::MAX, b"no_such_function"),
        record(open, 0, b""),
        record(resolve, 0, b""),
        record(open, 7, b"/nowhere/\0/00001.so"),
        record(open, 7, b"/nowhere/\xff\xfe%s%n.so"),
        record(ping, 7, b""),
    ];
    let seed = |name, records: &[Vec<u8>]| Seed::records(name, records.concat());
    vec![
        seed("good", &good),
        seed("odd", &odd),
        seed("long", &[record(open, 1, &long), record(ping, 2, b"")]),
        seed("too long", &[record(ping, 1, b""), record(open, 2, &longer), record(ping, 3, b"")]),
        seed(
            "what only other agents do",
            &[record(ping, 1, b""), record(Request::Store, 2, &[7; 9]), record(ping, 3, b"")],
        ),
        seed("memory", &[record(Request::Reserve, 1, &[0, 0, 1, 0, 0, 0, 0, 0])]),
        seed("a ping with a text", &[record(ping, 1, b"x"), record(ping, 2, b"")]),
    ]
}

/// The number and the kind of each request in `bytes` that is to be answered.
fn understood(mut bytes: &[u8]) -> Vec<(u32, Request)> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_LEN>() {
        let Some(head) = Head::decode(head) else { break };
        let kind = [Request::Open, Request::Ping, Request::Resolve].into_iter().find(|kind| *kind as u32 == head.kind);
        let longest = if kind == Some(Request::Ping) { 0 } else { PATH_MAX };
        let (Some(kind), len) = (kind, head.len as usize) else { break };
        let Some(rest) = rest.get(len..).filter(|_| len <= longest) else { break };
        all.push((head.seq, kind));
        bytes = rest;
    }
    all
}

/// Each answer in `bytes`: its number and what it is.
fn answers(mut bytes: &[u8]) -> Vec<(u32, Option<u64>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>().expect("a whole answer");
        let head = Head::decode(head).expect("an answer");
        let (len, done) = (head.len as usize, head.kind == Reply::Done as u32);
        assert!(
            done && len == 0 || head.kind == Reply::Failed as u32 && len <= TEXT_MAX && head.value == 0,
            "{head:?}"
        );
        all.push((head.seq, done.then_some(head.value)));
        bytes = rest.get(len..).expect("a whole text");
    }
    all
}

/// Connects to the agent and says `bytes`.
fn say(dir: &Path, pid: u32, bytes: &[u8]) -> UnixStream {
    let mut stream = socket::connect(dir, "agent.sock").expect("the agent listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut hello = [0; HELLO_LEN];
    stream.read_exact(&mut hello).expect("the agent greets");
    assert_eq!(Hello::decode(&hello).map(|hello| hello.pid), Some(pid));
    // The agent may have had enough at any point.
    let _ = stream.write_all(bytes);
    stream
}

fn try_requests(dir: &Path, pid: u32, bytes: &[u8]) {
    // One that leaves without hearing an answer.
    drop(say(dir, pid, bytes));
    let mut stream = say(dir, pid, bytes);
    stream.shutdown(Shutdown::Write).expect("a socket");
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        // There was more to read when the agent had enough.
        Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => {}
        end => assert!(end.is_ok(), "{end:?}"),
    }
    let (asked, answered) = (understood(bytes), answers(&heard));
    assert_eq!(
        asked.iter().map(|asked| asked.0).collect::<Vec<_>>(),
        answered.iter().map(|it| it.0).collect::<Vec<_>>()
    );
    for ((_, kind), (_, value)) in asked.iter().zip(&answered) {
        match kind {
            Request::Ping => assert_eq!(*value, Some(0)),
            Request::Open => assert_eq!(*value, None, "no such file exists"),
            Request::Resolve => assert_ne!(*value, Some(0)),
            Request::Reserve | Request::Store => panic!("only agents for AArch64 do that"),
        }
    }
    let mut link = AgentLink::connect(dir, pid, PATIENCE, &|| true).expect("the agent accepts");
    link.ping(PATIENCE, &|| true).expect("the agent answers");
}

/// The program's memory in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn requests_are_read_inside_the_program() {
    let guest = Guest::start(None);
    let (dir, pid) = (guest.images(), guest.child.pid());
    let before = memory(pid);
    survives("inbox", requests(), 4_000, move |bytes| try_requests(&dir, pid, bytes));
    let grown = memory(pid).saturating_sub(before);
    assert!(grown < GROWN, "the program has {grown} KiB more");
    let alive = || guest.child.is_alive();
    let mut link = guest.connect();
    link.ping(PATIENCE, &alive).expect("the agent answers");
    let opened = link.open(Path::new("/nowhere/00001.so"), PATIENCE, &alive);
    assert!(matches!(&opened, Err(Error::Fatal(why)) if why.contains("/nowhere/00001.so: cannot open")), "{opened:?}");
    link.resolve("pthread_cond_wait", PATIENCE, &alive).expect("the program has it");
    assert_eq!(guest.end(), 7);
}
