//! How far a switch is, told by relive's system calls alone.

use nix::libc;

/// A part of the switch, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The arena's file is made.
    Arena,
    /// The agent opens it, and looks names up.
    Open,
    /// The image is brought into the file and into memory.
    Load,
    /// The memory map and the unwind tables are read.
    Survey,
    /// The program is being stopped, and its stacks are copied. Again after it was let go because a thread was in the way.
    Stop,
    /// The tables are written.
    Tables,
    /// The entries are redirected.
    Entries,
    /// The word that switches is compared, written, compared.
    Flip,
    /// The program is let go.
    Resume,
    /// What runs is written down.
    Adopt,
    /// The event is written.
    Event,
    /// A copy of the executable is made and put in its place.
    Executable,
}

/// What a system call does, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A file is opened for writing.
    Create(String),
    /// A file is opened for reading.
    Open(String),
    /// Bytes go to a file, these first.
    Write(Vec<u8>),
    /// So many bytes go to the program's memory.
    Poke(u64),
    /// Two files are exchanged.
    Exchange,
    /// A request to the agent.
    Send,
    /// A thread is started.
    Clone,
    /// A thread of the program is let go.
    Detach,
    /// This thread ends.
    ExitThread,
    /// Anything else.
    Other,
}

/// A first-time redirection is this long; words of the tables and the one that switches have 8 bytes.
const JUMP_LEN: u64 = 5;

impl Phase {
    /// The phase that `call` belongs to, made in the phase `before`; `None` before the switch.
    pub(crate) fn next(before: Option<Phase>, call: &Call) -> Option<Phase> {
        let Some(phase) = before else {
            return matches!(call, Call::Create(path) if is_arena(path)).then_some(Phase::Arena);
        };
        Some(match call {
            // It is made beside what the session does.
            _ if phase == Phase::Executable => phase,
            Call::Create(path) if is_executable(path) => Phase::Executable,
            Call::Send if phase == Phase::Arena => Phase::Open,
            Call::Poke(_) if phase == Phase::Open => Phase::Load,
            Call::Open(path) if path.ends_with("/maps") && phase < Phase::Stop => Phase::Survey,
            Call::Clone if phase < Phase::Flip => Phase::Stop,
            Call::Poke(JUMP_LEN) if phase >= Phase::Stop => Phase::Entries,
            Call::Poke(_) if phase == Phase::Entries => Phase::Flip,
            Call::Poke(_) if phase == Phase::Stop => Phase::Tables,
            Call::Detach if phase == Phase::Flip => Phase::Resume,
            Call::Open(path) if path.ends_with("/comm") && phase == Phase::Resume => Phase::Adopt,
            Call::ExitThread if phase == Phase::Resume => Phase::Adopt,
            Call::Write(bytes) if bytes.starts_with(b"{\"event\":\"patch\"") => Phase::Event,
            Call::Create(_) | Call::Open(_) | Call::Write(_) | Call::Poke(_) | Call::Send => phase,
            Call::Exchange | Call::Clone | Call::Detach | Call::ExitThread | Call::Other => phase,
        })
    }
}

/// `arena-NN.so`, the file of an arena.
fn is_arena(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("arena-") && name.ends_with(".so")
}

/// What becomes the executable: the running one's new name, until they are exchanged.
fn is_executable(path: &str) -> bool {
    path.contains("/started/")
}

/// The call that a thread with these registers is about to make. `text` reads relive's memory.
pub(crate) fn call(registers: &libc::user_regs_struct, text: impl Fn(u64) -> Vec<u8>) -> Call {
    let number = registers.orig_rax.cast_signed();
    let path = |addr| {
        let bytes = text(addr);
        String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    };
    match number {
        libc::SYS_openat if registers.rdx & libc::O_ACCMODE as u64 != 0 => Call::Create(path(registers.rsi)),
        libc::SYS_openat => Call::Open(path(registers.rsi)),
        libc::SYS_write => Call::Write(text(registers.rsi)),
        libc::SYS_pwrite64 => Call::Poke(registers.rdx),
        libc::SYS_renameat2 => Call::Exchange,
        libc::SYS_sendto => Call::Send,
        libc::SYS_clone | libc::SYS_clone3 => Call::Clone,
        libc::SYS_ptrace if registers.rdi == u64::from(libc::PTRACE_DETACH) => Call::Detach,
        libc::SYS_exit => Call::ExitThread,
        _ => Call::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_with_one_retry_goes_through_the_phases() {
        let open = |path: &str| Call::Open(path.to_owned());
        let patch = Call::Write(b"{\"event\":\"patch\",\"id\":1".to_vec());
        let calls = [
            (Call::Create("x/rustc.rmeta".to_owned()), None),
            (Call::Create("x/session/arena-29.so".to_owned()), Some(Phase::Arena)),
            (Call::Poke(4096), Some(Phase::Arena)),
            (Call::Send, Some(Phase::Open)),
            (Call::Send, Some(Phase::Open)),
            (Call::Poke(5), Some(Phase::Load)),
            (open("/proc/7/maps"), Some(Phase::Survey)),
            (Call::Clone, Some(Phase::Stop)),
            (Call::Detach, Some(Phase::Stop)),
            (Call::ExitThread, Some(Phase::Stop)),
            (Call::Clone, Some(Phase::Stop)),
            (Call::Poke(8), Some(Phase::Tables)),
            (Call::Poke(5), Some(Phase::Entries)),
            (Call::Other, Some(Phase::Entries)),
            (Call::Poke(8), Some(Phase::Flip)),
            (Call::Detach, Some(Phase::Resume)),
            (Call::ExitThread, Some(Phase::Adopt)),
            (patch.clone(), Some(Phase::Event)),
            (Call::Create("x/started/program".to_owned()), Some(Phase::Executable)),
            (patch, Some(Phase::Executable)),
            (Call::Poke(5), Some(Phase::Executable)),
            (Call::Exchange, Some(Phase::Executable)),
        ];
        let mut phase = None;
        for (call, expected) in calls {
            phase = Phase::next(phase, &call);
            assert_eq!(phase, expected, "after {call:?}");
        }
    }
}
