//! Control of a process on macOS, against the stand-in of its kernel.

use super::kernel::{KernReturn, Kernel, ShareMode, VmProt};
use super::stand_in::{BASE, CODE, Fault, StandIn};
use super::{Control, Process};
use crate::control::warning;
use crate::{Addresses, Error, LaunchSpec, LiveAddr};

const READ: VmProt = VmProt::READ;
const DATA: VmProt = VmProt::READ.with(VmProt::WRITE);
/// Both page sizes: of arm64 and of x86-64.
const PAGE_SIZES: [u64; 2] = [0x4000, 0x1000];

/// A program as `dyld` leaves it: code and constants from a file, constants that may be written again, data, and a page
/// that is closed.
fn program(page_size: u64) -> (StandIn, u32) {
    let kernel = StandIn::new(page_size);
    let pid = kernel.process();
    kernel.map_file(pid, BASE, 0, (CODE, CODE), false);
    kernel.map_file(pid, BASE + page_size, 1, (READ, READ), false);
    kernel.map_zeros(pid, BASE + 2 * page_size, (READ, DATA));
    kernel.map_zeros(pid, BASE + 3 * page_size, (DATA, DATA));
    kernel.map_zeros(pid, BASE + 4 * page_size, (VmProt::NONE, DATA));
    (kernel, pid)
}

/// Attaches, writes over all five kinds of pages and lets go.
fn write_over_all(kernel: &StandIn, pid: u32) -> Result<Vec<u8>, Error> {
    let page_size = kernel.page_size();
    let bytes: Vec<u8> = (0..page_size * 4).map(|at| u8::try_from(at % 7 + 1).expect("small")).collect();
    let process = Process::attach(kernel, pid)?;
    process.write(LiveAddr(BASE + page_size / 2), &bytes)?;
    Ok(bytes)
}

/// What must be so whatever happened to process `pid`.
fn assert_nothing_is_left(kernel: &StandIn, pid: u32, before: &[(u64, VmProt)], what: &str) {
    assert_eq!(kernel.protections(pid), before, "{what}: {:#?}", kernel.world().log);
    assert_eq!(kernel.references(), 0, "{what}: {:#?}", kernel.world().log);
    assert!(kernel.runs(pid), "{what}: {:#?}", kernel.world().log);
    assert!(kernel.world().broken.is_empty(), "{what}: {:?}", kernel.world().broken);
}

#[test]
fn a_write_over_pages_of_all_kinds_changes_the_bytes_and_nothing_else() {
    for page_size in PAGE_SIZES {
        let (kernel, pid) = program(page_size);
        let (before, file) = (kernel.protections(pid), kernel.world().file.clone());
        let bytes = write_over_all(&kernel, pid).expect("all of it is the program's own");
        assert_eq!(kernel.bytes(pid, BASE + page_size / 2, bytes.len()), bytes);
        assert_eq!(kernel.bytes(pid, BASE, 16), file[..16]);
        assert_eq!(kernel.world().file, file, "the executable on disk is as it was");
        assert_nothing_is_left(&kernel, pid, &before, "after a write");
    }
}

#[test]
fn copies_are_asked_for_where_the_maximum_forbids_writing_and_code_is_flushed_before_it_can_run() {
    let page_size = 0x4000;
    let (kernel, pid) = program(page_size);
    write_over_all(&kernel, pid).expect("all of it is the program's own");
    let calls: Vec<String> = kernel.world().log.clone();
    let protects: Vec<&str> = calls.iter().filter_map(|call| call.strip_prefix("protect ")).collect();
    let expected = [
        "0x100000000 0x4000 rw- copy",
        "0x100004000 0x4000 rw- copy",
        "0x100008000 0x4000 rw-",
        "0x100010000 0x4000 rw-",
        "0x100010000 0x4000 ---",
        "0x100008000 0x4000 r--",
        "0x100004000 0x4000 r--",
        "0x100000000 0x4000 r-x",
    ];
    assert_eq!(protects, expected);
    let place =
        |call: &str| calls.iter().position(|made| made == call).unwrap_or_else(|| panic!("no {call}: {calls:#?}"));
    let order =
        ["suspend", "write 0x100002000", "flush 0x100000000 0x4000", "protect 0x100000000 0x4000 r-x", "resume"];
    assert!(order.map(place).is_sorted(), "{calls:#?}");
    assert_eq!(calls.iter().filter(|call| call.starts_with("flush")).count(), 1, "data is not flushed");
}

#[test]
fn whatever_call_fails_once_the_protections_come_back_and_no_port_is_left() {
    let codes = [
        KernReturn::RESOURCE_SHORTAGE,
        KernReturn::PROTECTION_FAILURE,
        KernReturn::ABORTED,
        KernReturn::INVALID_ARGUMENT,
    ];
    for code in codes {
        let mut failures = 0;
        for number in 1.. {
            let (kernel, pid) = program(0x1000);
            let before = kernel.protections(pid);
            kernel.change().fault = Fault::Once(number, code);
            let outcome = write_over_all(&kernel, pid);
            assert_nothing_is_left(&kernel, pid, &before, &format!("call {number} gave {code}"));
            failures += u32::from(outcome.is_err());
            if number > kernel.world().log.len() {
                outcome.expect("no call failed");
                break;
            }
        }
        // The port, the suspension, six looks at regions, four unlockings, the write, the flush.
        assert!(failures >= 12, "{failures}");
    }
}

#[test]
fn a_task_that_dies_at_any_call_is_gone_and_no_port_is_left() {
    let codes =
        [KernReturn::SEND_INVALID_DEST, KernReturn::INVALID_TASK, KernReturn::TERMINATED, KernReturn::INVALID_ARGUMENT];
    for code in codes {
        let mut gone = 0;
        for number in 1.. {
            let (kernel, pid) = program(0x1000);
            kernel.change().fault = Fault::Death(number, code);
            let outcome = write_over_all(&kernel, pid);
            assert_eq!(kernel.references(), 0, "dead at call {number}: {:#?}", kernel.world().log);
            match outcome {
                Err(Error::Gone(text)) => {
                    assert!(text.contains(&format!("process {pid}")), "{text}");
                    gone += 1;
                }
                // It died when all was done: only the port was still to be given back.
                Ok(_) if number >= kernel.world().log.len() => {}
                other => panic!("dead at call {number}: {other:?} {:#?}", kernel.world().log),
            }
            if number > kernel.world().log.len() {
                break;
            }
        }
        assert!(gone >= 18, "{gone}");
    }
}

#[test]
fn a_protection_that_does_not_come_back_is_told_with_its_place() {
    let (kernel, pid) = program(0x1000);
    kernel.change().fault = Fault::Relocking(1, KernReturn::PROTECTION_FAILURE);
    let Err(Error::Fatal(text)) = write_over_all(&kernel, pid) else { panic!("it must be told") };
    let expected = "cannot give the pages 0x100004000-0x100005000 their protection --- back of process 100: \
                    KERN_PROTECTION_FAILURE (0x2)";
    assert_eq!(text, expected);
    let kept = kernel.protections(pid);
    assert!(kept.iter().all(|(_, protection)| *protection == DATA), "all four were tried: {kept:?}");
    assert!(kernel.runs(pid) && kernel.references() == 0);
}

#[test]
fn memory_that_is_shared_is_refused_by_name_and_not_touched() {
    let page_size = 0x4000;
    let shared = [
        None,
        Some(ShareMode::PRIVATE),
        Some(ShareMode::TRUE_SHARED),
        Some(ShareMode::LARGE_PAGE),
        Some(ShareMode(99)),
    ];
    for share in shared {
        for protection in [DATA, READ] {
            let (kernel, pid) = program(page_size);
            kernel.map_file(pid, BASE + 5 * page_size, 2, (protection, DATA), true);
            if let Some(share) = share {
                kernel.set_share(pid, BASE + 5 * page_size, share);
            }
            let (before, file) = (kernel.protections(pid), kernel.world().file.clone());
            let process = Process::attach(&kernel, pid).expect("it may be reached");
            // Begins in a page of its own: nothing of it is written either.
            let outcome = process.write(LiveAddr(BASE + 5 * page_size - 1), b"ab");
            let Err(Error::Denied(text)) = outcome else { panic!("{outcome:?}") };
            assert!(text.contains("0x100014000-0x100018000") && text.contains("is shared"), "{text}");
            assert_eq!(kernel.bytes(pid, BASE + 5 * page_size - 1, 1), [0]);
            assert_eq!(kernel.world().file, file);
            assert!(!kernel.world().log.iter().any(|call| call.starts_with("protect") || call.starts_with("write")));
            drop(process);
            assert_nothing_is_left(&kernel, pid, &before, "refused");
        }
    }
}

#[test]
fn what_is_not_mapped_is_an_error_that_names_the_place() {
    let (kernel, pid) = program(0x1000);
    let before = kernel.protections(pid);
    let process = Process::attach(&kernel, pid).expect("it may be reached");
    let at = |addr, len| match process.write(LiveAddr(addr), &vec![1; len]) {
        Err(Error::Fatal(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(at(BASE + 0x4fff, 2).ends_with("0x100005000 is not mapped"));
    assert!(at(BASE - 1, 2).ends_with("0xffffffff is not mapped"));
    assert!(at(u64::MAX, 2).ends_with("0xffffffffffffffff is not mapped"));
    assert!(matches!(process.read(LiveAddr(BASE + 0x4fff), &mut [0; 2]), Err(Error::Fatal(_))));
    assert_eq!(process.write(LiveAddr(1), b""), Ok(()));
    drop(process);
    assert_nothing_is_left(&kernel, pid, &before, "nothing was written");
}

#[test]
fn regions_are_listed_and_what_may_be_read_is_read() {
    let (kernel, pid) = program(0x1000);
    let process = Process::attach(&kernel, pid).expect("it may be reached");
    let regions = process.regions().expect("it lives");
    let listed: Vec<String> =
        regions.iter().map(|region| format!("{} {} {}", region.start, region.protection, region.name)).collect();
    let expected = [
        "0x100000000 r-xp SM_COW",
        "0x100001000 r--p SM_COW",
        "0x100002000 r--p SM_PRIVATE",
        "0x100003000 rw-p SM_PRIVATE",
        "0x100004000 ---p SM_PRIVATE",
    ];
    assert_eq!(listed, expected);
    let mut bytes = [0; 4];
    process.read(LiveAddr(BASE + 0xffe), &mut bytes).expect("it is mapped");
    assert_eq!(bytes, kernel.world().file[0xffe..0x1002]);
    assert!(matches!(process.read(LiveAddr(BASE + 0x4000), &mut bytes), Err(Error::Denied(_))));
}

#[test]
fn a_stop_is_counted_and_ends_with_its_guard() {
    let (kernel, pid) = program(0x1000);
    let process = Process::attach(&kernel, pid).expect("it may be reached");
    let stopped = process.stop().expect("it lives");
    process.write(LiveAddr(BASE), b"new").expect("a stopped process is written to");
    assert!(!kernel.runs(pid), "the write must not let it go");
    Process::resume(stopped).expect("it lives");
    assert!(kernel.runs(pid));
    drop(process.stop().expect("it lives"));
    assert!(kernel.runs(pid) && process.is_alive());
    kernel.kill(pid);
    assert!(!process.is_alive() && matches!(process.stop(), Err(Error::Gone(_))));
}

fn spec(addresses: Addresses) -> LaunchSpec {
    LaunchSpec { program: "program".into(), addresses, ..LaunchSpec::default() }
}

#[test]
fn a_program_is_held_at_fixed_addresses_until_it_is_let_go() {
    let kernel = StandIn::new(0x4000);
    let base = |addresses| {
        let spawned = Process::spawn(&kernel, &spec(addresses)).expect("it starts");
        let (process, held) = spawned.reach.expect("it may be reached");
        assert!(!kernel.runs(spawned.pid));
        let base = process.regions().expect("it lives")[0].start.0;
        process.write(LiveAddr(base), b"new").expect("before its first instruction");
        Process::start(held).expect("it lives");
        assert!(kernel.runs(spawned.pid));
        base
    };
    assert_eq!([Addresses::Fixed; 2].map(base), [BASE; 2]);
    let random = [Addresses::Random; 2].map(base);
    assert_ne!(random[0], random[1]);
    assert_eq!(kernel.world().log.iter().filter(|call| *call == "spawn 0x180").count(), 2);
    let dropped = Process::spawn(&kernel, &spec(Addresses::Fixed)).expect("it starts");
    drop(dropped.reach);
    assert!(kernel.runs(dropped.pid) && kernel.references() == 0);
}

#[test]
fn a_program_that_cannot_be_reached_runs_and_the_warning_names_it_and_what_to_do() {
    let kernel = StandIn::new(0x4000);
    kernel.change().is_entitled = false;
    let spawned = Process::spawn(&kernel, &spec(Addresses::Fixed)).expect("it starts all the same");
    let Err(why @ Error::Denied(_)) = &spawned.reach else { panic!("{:?}", spawned.reach) };
    let text = warning(spawned.pid, why);
    for part in [
        &format!("process {}", spawned.pid)[..],
        "KERN_FAILURE (0x5)",
        "com.apple.security.cs.debugger",
        "get-task-allow",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(kernel.runs(spawned.pid), "it was let go");
    let ended = Process::attach(&kernel, 4711).expect_err("there is none");
    assert_eq!(ended, Error::Gone("cannot attach to process 4711: it has ended".to_owned()));
}

#[test]
fn whatever_call_fails_a_started_program_runs() {
    for number in 1.. {
        let kernel = StandIn::new(0x4000);
        kernel.change().fault = Fault::Once(number, KernReturn::RESOURCE_SHORTAGE);
        let spawned = Process::spawn(&kernel, &spec(Addresses::Fixed));
        let calls = kernel.world().log.len();
        if let Ok(spawned) = spawned {
            drop(spawned.reach);
            assert!(kernel.runs(spawned.pid), "call {number}: {:#?}", kernel.world().log);
        }
        assert_eq!(kernel.references(), 0, "call {number}");
        if number > calls + 2 {
            break;
        }
    }
}
