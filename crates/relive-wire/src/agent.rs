//! The agent protocol: fixed-size little records over a stream socket, one reply per request.
//!
//! relive binds and listens on a socket before it starts the program and lets the program inherit the listening
//! descriptor; the agent accepts on it, one connection at a time, sends [`Hello`], then answers requests in order. It
//! never speaks first otherwise. All integers are little-endian.

use crate::{LiveAddr, NearLayout};

/// Raised whenever a record or the near layout changes.
pub const VERSION: u32 = 3;
/// First word of every record.
pub const MAGIC: u32 = 0x3152_4C52; // "RLR1"
/// Environment key: decimal number of the inherited listening descriptor.
pub const ENV_FD: &str = "RELIVE_AGENT_FD";
/// Environment key: the directory that images' files are in. Granule `k`'s file is `DIR/KKKKK.so`, `k` in five decimal
/// digits; none of them is opened by the agent.
pub const ENV_DIR: &str = "RELIVE_AGENT_DIR";
/// Environment key: the user's own value of `LD_PRELOAD`, put back before `main`; absent if it was not set.
pub const ENV_PRELOAD: &str = "RELIVE_USER_LD_PRELOAD";
/// Longest path or name in a request, in bytes.
pub const PATH_MAX: usize = 4096;
/// Longest message in a reply, in bytes.
pub const TEXT_MAX: usize = 512;

/// Sent by the agent right after it accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The agent's [`VERSION`].
    pub version: u32,
    /// The process.
    pub pid: u32,
    /// The agent's own thread, which never runs the program's code.
    pub tid: u32,
    /// First page of the executable.
    pub exe_start: LiveAddr,
    /// The control block, mapped and zeroed; 0 if there was no room.
    pub control: LiveAddr,
    /// The reserve in every thread ([`crate::reserve`]); all 0 if the agent could not find it.
    pub threads: Threads,
}

/// Where threads keep the reserve, and where they are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Threads {
    /// The reserve's distance from the thread pointer, the same in all threads.
    pub offset: i64,
    /// The reserve of the agent's own thread.
    pub own: LiveAddr,
    /// What the reserve of a new thread is a copy of.
    pub template: LiveAddr,
    /// `pthread_create`, in which that copy is made: its first byte.
    pub maker: LiveAddr,
    /// Its size in bytes.
    pub maker_size: u64,
}

/// What relive asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// `dlopen` the file at the path that follows, with `RTLD_NOW | RTLD_LOCAL`.
    Open = 1,
    /// Answer with nothing; shows that the agent lives.
    Ping = 2,
    /// Look up the name that follows as the loader does for the program: the first object that has it, in its default version.
    Resolve = 3,
    /// Map zeroed memory at exactly `value`; its length in bytes follows as 8 bytes. Only where nothing reaches the process
    /// from outside: agents for AArch64.
    Reserve = 4,
    /// Write to `value`: a protection (`PROT_*`) that the pages have afterwards follows as one byte, then the bytes. Aligned
    /// words of 4 bytes are written at once. Code can run while it is written. Where `Reserve` is.
    Store = 5,
}

/// What the agent answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reply {
    /// Done. For `Open`, `value` is the load bias (`l_addr`) of the object, for `Resolve` an address.
    Done = 1,
    /// Refused or failed; a text follows.
    Failed = 2,
}

/// Length of an encoded [`Hello`].
pub const HELLO_LEN: usize = 72;
/// Length of the head of a request or a reply; a path or text of `len` bytes follows.
pub const HEAD_LEN: usize = 24;

/// Head of a request (`kind` = [`Request`]) or a reply (`kind` = [`Reply`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// [`Request`] or [`Reply`] as a number.
    pub kind: u32,
    /// Number of the request, repeated in its reply.
    pub seq: u32,
    /// Bytes that follow.
    pub len: u32,
    /// Argument or result.
    pub value: u64,
}

impl Hello {
    /// The memory below the executable, if the agent has its control block where both sides expect it.
    #[must_use]
    pub fn near(&self) -> Option<NearLayout> {
        NearLayout::below(self.exe_start).filter(|near| near.control == self.control)
    }

    /// The record as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let mut out = [0; HELLO_LEN];
        put(&mut out, 0, &MAGIC.to_le_bytes());
        put(&mut out, 4, &self.version.to_le_bytes());
        put(&mut out, 8, &self.pid.to_le_bytes());
        put(&mut out, 12, &self.tid.to_le_bytes());
        put(&mut out, 16, &self.exe_start.0.to_le_bytes());
        put(&mut out, 24, &self.control.0.to_le_bytes());
        put(&mut out, 32, &self.threads.offset.to_le_bytes());
        put(&mut out, 40, &self.threads.own.0.to_le_bytes());
        put(&mut out, 48, &self.threads.template.0.to_le_bytes());
        put(&mut out, 56, &self.threads.maker.0.to_le_bytes());
        put(&mut out, 64, &self.threads.maker_size.to_le_bytes());
        out
    }

    /// The record in `bytes`; `None` if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8; HELLO_LEN]) -> Option<Hello> {
        (u32_at(bytes, 0) == MAGIC).then(|| Hello {
            version: u32_at(bytes, 4),
            pid: u32_at(bytes, 8),
            tid: u32_at(bytes, 12),
            exe_start: LiveAddr(u64_at(bytes, 16)),
            control: LiveAddr(u64_at(bytes, 24)),
            threads: Threads {
                offset: u64_at(bytes, 32) as i64,
                own: LiveAddr(u64_at(bytes, 40)),
                template: LiveAddr(u64_at(bytes, 48)),
                maker: LiveAddr(u64_at(bytes, 56)),
                maker_size: u64_at(bytes, 64),
            },
        })
    }
}

impl Head {
    /// The record as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        put(&mut out, 0, &MAGIC.to_le_bytes());
        put(&mut out, 4, &self.kind.to_le_bytes());
        put(&mut out, 8, &self.seq.to_le_bytes());
        put(&mut out, 12, &self.len.to_le_bytes());
        put(&mut out, 16, &self.value.to_le_bytes());
        out
    }

    /// The record in `bytes`; `None` if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8; HEAD_LEN]) -> Option<Head> {
        (u32_at(bytes, 0) == MAGIC).then(|| Head {
            kind: u32_at(bytes, 4),
            seq: u32_at(bytes, 8),
            len: u32_at(bytes, 12),
            value: u64_at(bytes, 16),
        })
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
