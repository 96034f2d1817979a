//! The agent's thread: accepts one connection at a time and answers its requests, for ever.
//!
//! Requests go into fixed buffers; what is not understood ends the connection, never the program. The only request with
//! an effect is `Open`, and its effect is `dlopen`'s; `Resolve` looks a name up. Where nothing reaches the process from
//! outside (AArch64, under an emulator), the agent also maps and writes memory when it is asked.

use std::ffi::CStr;
use std::sync::OnceLock;

use relive_wire::LiveAddr;
use relive_wire::agent::{HEAD_LEN, Head, Hello, PATH_MAX, Reply, Request, TEXT_MAX, VERSION};

use crate::sys::{self, Accepted, Listener, Socket};
use crate::threads;

/// First page of the executable and the control block, for [`Hello`].
static PLACES: OnceLock<(LiveAddr, LiveAddr)> = OnceLock::new();

/// Starts the thread on the inherited descriptor `fd`, which the program itself no longer has afterwards.
pub(crate) fn run(fd: i32, exe_start: LiveAddr, control: LiveAddr) {
    if PLACES.set((exe_start, control)).is_ok() {
        sys::start_thread(fd, serve_all);
    }
}

fn serve_all(listener: &Listener) {
    let (exe_start, control) = PLACES.get().copied().unwrap_or_default();
    let threads = threads::describe();
    loop {
        match listener.accept() {
            Accepted::Peer(socket) => {
                let hello = Hello { version: VERSION, pid: sys::pid(), tid: sys::tid(), exe_start, control, threads };
                if socket.send(&hello.encode()) {
                    serve(&socket);
                }
            }
            Accepted::Nobody => {}
            Accepted::Never => return,
        }
    }
}

/// Answers requests until the peer leaves or sends what is none.
fn serve(socket: &Socket) {
    let mut bytes = [0; HEAD_LEN];
    while socket.receive(&mut bytes) {
        let Some(head) = Head::decode(&bytes) else { return };
        let answered = match head.kind {
            kind if kind == Request::Open as u32 => {
                with_text(socket, head, |path| sys::open_object(path, |result| reply(socket, head, result)))
            }
            kind if kind == Request::Resolve as u32 => {
                with_text(socket, head, |name| sys::look_up(name, |result| reply(socket, head, result)))
            }
            kind if kind == Request::Ping as u32 => head.len == 0 && reply(socket, head, Ok(0)),
            #[cfg(target_arch = "aarch64")]
            kind if kind == Request::Reserve as u32 => {
                with_bytes(socket, head, |bytes| reply(socket, head, reserve(LiveAddr(head.value), bytes)))
            }
            #[cfg(target_arch = "aarch64")]
            kind if kind == Request::Store as u32 => {
                with_bytes(socket, head, |bytes| reply(socket, head, store(LiveAddr(head.value), bytes)))
            }
            _ => false,
        };
        if !answered {
            return;
        }
    }
}

/// Reads what follows `head` and has `then` answer; false if the connection is of no more use.
#[cfg(target_arch = "aarch64")]
fn with_bytes(socket: &Socket, head: Head, then: impl FnOnce(&[u8]) -> bool) -> bool {
    let mut bytes = [0; PATH_MAX];
    let Some(place) = bytes.get_mut(..head.len as usize) else { return false };
    socket.receive(place) && then(place)
}

#[cfg(target_arch = "aarch64")]
fn reserve(at: LiveAddr, len: &[u8]) -> Result<u64, &'static [u8]> {
    let len = len.try_into().map(u64::from_le_bytes).map_err(|_| &b"the length is no number"[..])?;
    sys::map_zeroed_at(at, len).map(|_| at.0).ok_or(b"something is there")
}

#[cfg(target_arch = "aarch64")]
fn store(at: LiveAddr, bytes: &[u8]) -> Result<u64, &'static [u8]> {
    let (protection, bytes) = bytes.split_first().ok_or(&b"there is nothing to write"[..])?;
    let done = sys::store::store(at, bytes, libc::c_int::from(*protection));
    done.then_some(0).ok_or(b"the memory is not mapped or cannot be protected so")
}

/// Reads the text that follows `head` and has `then` answer; false if the connection is of no more use.
fn with_text(socket: &Socket, head: Head, then: impl FnOnce(&CStr) -> bool) -> bool {
    // One byte more than the longest text: it stays zero and ends the text.
    let mut text = [0; PATH_MAX + 1];
    let len = head.len as usize;
    let Some(place) = text.get_mut(..len).filter(|_| len <= PATH_MAX) else { return false };
    if !socket.receive(place) {
        return false;
    }
    match CStr::from_bytes_until_nul(&text) {
        Ok(text) if text.count_bytes() == len && len > 0 => then(text),
        Ok(_) | Err(_) => reply(socket, head, Err(b"the text is empty or contains a zero byte")),
    }
}

fn reply(socket: &Socket, request: Head, result: Result<u64, &[u8]>) -> bool {
    let (kind, value, text) = match result {
        Ok(value) => (Reply::Done, value, &[][..]),
        Err(text) => (Reply::Failed, 0, &text[..text.len().min(TEXT_MAX)]),
    };
    let head = Head { kind: kind as u32, seq: request.seq, len: text.len() as u32, value };
    socket.send(&head.encode()) && socket.send(text)
}
