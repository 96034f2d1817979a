//! The agent in a real program: it answers, and the program notices nothing of it.

use std::path::Path;
use std::process::Command;

use crate::guest::{Guest, agent_library, fifo};
use crate::support::PATIENCE;
use relive_process::agent::{AgentLink, AgentListener};
use relive_process::launch::spawn;
use relive_process::maps::MemoryMap;
use relive_process::memory::Memory;
use relive_process::stop::{StopOptions, stop};
use relive_process::{Error, LaunchSpec};
use relive_wire::NearLayout;
use relive_wire::near::{ARENA_COUNT, CONTROL_TABLE_WORD, GRANULE_SIZE, GRANULES, IMAGE_BIAS};
use relive_wire::reserve::{RESERVE_ALIGN, RESERVE_SIZE, reserve_template};

#[test]
fn the_agent_says_where_it_is_and_maps_the_control_block() {
    let guest = Guest::start(None);
    let link = guest.connect();
    let (hello, pid) = (*link.hello(), guest.child.pid());
    let map = MemoryMap::read(pid).expect("the program runs");
    let exe = std::fs::canonicalize(guest.dir.join("guest")).expect("the program is there");
    let first = map.entries().iter().find(|entry| entry.path == exe).expect("the executable is mapped");
    let layout = NearLayout::below(first.start).expect("there is room");
    assert_eq!((hello.pid, hello.exe_start, hello.control), (pid, first.start, layout.control));
    assert_ne!(hello.tid, pid);
    let name = std::fs::read_to_string(format!("/proc/{pid}/task/{}/comm", hello.tid)).expect("the thread runs");
    assert_eq!(name, "relive-agent\n");
    let memory = Memory::open(pid).expect("the program is ours");
    let word = layout.control.plus(CONTROL_TABLE_WORD);
    assert_eq!(memory.read_u64(word).expect("the block is mapped"), layout.table(0).0);
    let granules: Vec<String> = (0..ARENA_COUNT * GRANULES)
        .map(|k| format!("granule {k:05}.so bias {IMAGE_BIAS:#x} at {:#x} size {GRANULE_SIZE:#x}", layout.granule(k).0))
        .collect();
    assert_eq!(guest.lines("granule "), granules);
    assert_eq!(guest.end(), 7);
}

#[test]
fn the_program_and_its_children_see_nothing() {
    let guest = Guest::start(None);
    assert_eq!(guest.lines("main "), [""; 0]);
    assert_eq!(guest.lines("fork "), [""; 0]);
    assert_eq!(guest.lines("child "), [""; 0]);
    // Every object repeats the real ones' counters; a callback that stops is heard.
    let [counts, stopped] = ["objects ", "stopped "].map(|start| guest.lines(start).concat());
    let objects: u64 = counts.split(' ').nth(1).and_then(|count| count.parse().ok()).expect("it counts");
    assert_eq!(counts, format!("objects {objects} sized {objects}"));
    assert_eq!(stopped, format!("stopped with 77 after {}", objects - ARENA_COUNT * GRANULES + 1));
    assert_eq!(guest.end(), 7);
}

#[test]
fn the_users_own_preload_is_kept() {
    let dir = crate::support::directory("user-preload");
    let users = crate::support::compile("object", &dir, &["-shared"]);
    let guest = Guest::start(Some(&users));
    let map = MemoryMap::read(guest.child.pid()).expect("the program runs");
    assert!(map.entries().iter().any(|entry| entry.path.ends_with("object")));
    assert_eq!(guest.lines("main "), [format!("main env LD_PRELOAD={}", users.display())]);
    assert_eq!(guest.lines("child "), [format!("child env LD_PRELOAD={}", users.display())]);
    assert_eq!(guest.end(), 7);
}

#[test]
fn objects_are_opened_one_connection_after_the_other() {
    let guest = Guest::start(None);
    let alive = || guest.child.is_alive();
    let objects = [1, 2].map(|_| crate::support::compile("object", &crate::support::directory("object"), &["-shared"]));
    for object in &objects {
        let mut link = guest.connect();
        link.ping(PATIENCE, &alive).expect("the agent answers");
        match link.open(Path::new("/nowhere/0000.so"), PATIENCE, &alive) {
            Err(Error::Fatal(text)) => assert!(text.contains("/nowhere/0000.so: cannot open"), "{text}"),
            other => panic!("{other:?}"),
        }
        let bias = link.open(object, PATIENCE, &alive).expect("the object is fine");
        let map = MemoryMap::read(guest.child.pid()).expect("the program runs");
        let object = std::fs::canonicalize(object).expect("the object is there");
        let first = map.entries().iter().find(|entry| entry.path == object).expect("the object is mapped");
        assert_eq!(first.start, bias);
    }
    assert_eq!(guest.end(), 7);
}

#[test]
fn names_are_looked_up_as_the_program_would() {
    let guest = Guest::start(None);
    let alive = || guest.child.is_alive();
    let mut link = guest.connect();
    let map = MemoryMap::read(guest.child.pid()).expect("the program runs");
    let mut found_in = |name: &str| {
        let addr = link.resolve(name, PATIENCE, &alive).expect("the program has it");
        let entry = map.entries().iter().find(|entry| entry.start <= addr && addr < entry.end).expect("it is mapped");
        entry.path.file_name().expect("a file").to_string_lossy().into_owned()
    };
    assert_eq!(found_in("pthread_cond_wait"), "libc.so.6");
    // The agent has one of its own, and comes before libc.
    assert!(found_in("dl_iterate_phdr").contains("agent"));
    match link.resolve("no_such_function", PATIENCE, &alive) {
        Err(Error::Fatal(text)) => assert!(text.contains("no_such_function"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(link.resolve("", PATIENCE, &alive).is_err());
    assert_eq!(guest.end(), 7);
}

#[test]
fn a_child_is_not_made_while_an_object_is_opened() {
    use std::io::Write;
    let guest = Guest::start(None);
    let object = crate::support::compile("object", &crate::support::directory("slow-object"), &["-shared", "-DSLOW"]);
    let mut wait = std::fs::File::options().write(true).open(guest.dir.join("wait")).expect("the program waits there");
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| guest.connect().open(&object, PATIENCE, &|| guest.child.is_alive()));
        let start = std::time::Instant::now();
        let opened = |map: MemoryMap| map.entries().iter().any(|entry| entry.path.ends_with("object"));
        while !opened(MemoryMap::read(guest.child.pid()).expect("the program runs")) {
            assert!(start.elapsed() < PATIENCE, "the agent opens nothing");
        }
        wait.write_all(b"....").expect("the program reads");
        opening.join().expect("no panic").expect("the object is fine");
    });
    drop(wait);
    assert_eq!(guest.child.wait().expect("it is our child"), 7, "a child was made in the middle of it");
}

#[test]
fn the_agents_thread_stops_and_goes_on_with_the_others() {
    let guest = Guest::start(None);
    let mut link = guest.connect();
    let memory = Memory::open(guest.child.pid()).expect("the program is ours");
    for _ in 0..50 {
        let stopped = stop(&memory, &StopOptions::default()).expect("the program is ours");
        assert!(stopped.threads().iter().any(|thread| thread.tid == link.hello().tid));
        stopped.resume().expect("all threads were as the kernel promises");
        link.ping(PATIENCE, &|| true).expect("the agent answers");
    }
    assert_eq!(guest.end(), 7);
}

#[test]
fn every_thread_has_the_reserve_and_its_template_is_known() {
    let guest = Guest::start(None);
    let link = guest.connect();
    let threads = link.hello().threads;
    let memory = Memory::open(guest.child.pid()).expect("the program is ours");
    let reserve = |at| memory.read_vec(at, RESERVE_SIZE).expect("it is mapped");
    assert!(reserve(threads.template) == reserve_template() && reserve(threads.own) == reserve_template());
    let stopped = stop(&memory, &StopOptions::default()).expect("the program is ours");
    assert_eq!(stopped.threads().len(), 2);
    for thread in stopped.threads() {
        let own = thread.regs.fs_base.plus(threads.offset as u64);
        assert_eq!(own.0 % RESERVE_ALIGN, 0);
        assert_eq!(own == threads.own, thread.tid == link.hello().tid);
        assert!(reserve(own) == reserve_template(), "thread {}", thread.tid);
    }
    // The place in which threads are made is code of libc, and what is changed in the template stays changed.
    let map = MemoryMap::read(guest.child.pid()).expect("the program runs");
    let maker = map.find(threads.maker).expect("it is mapped");
    let library = maker.path.to_string_lossy();
    assert!(maker.protection.execute && (library.contains("/libc") || library.contains("/libpthread")), "{maker:?}");
    assert!(threads.maker.plus(threads.maker_size) <= maker.end && threads.maker_size > 64);
    let last = threads.template.plus(RESERVE_SIZE as u64 - 1);
    memory.write(last, &[7]).expect("a private page");
    assert_eq!(memory.read_vec(last, 1).expect("it is mapped"), [7]);
    stopped.resume().expect("all threads were as the kernel promises");
    assert_eq!(guest.end(), 7);
}

#[test]
fn an_ended_program_is_gone_at_once() {
    let guest = Guest::start(None);
    let mut link = guest.connect();
    guest.child.signal(15).expect("it runs");
    assert_eq!(guest.child.wait().expect("it is our child"), 128 + 15);
    assert!(!guest.child.is_alive());
    let nobody = || guest.child.is_alive();
    assert!(matches!(link.ping(PATIENCE, &nobody), Err(Error::Gone(_))));
    let again = AgentLink::connect(&guest.images(), guest.child.pid(), PATIENCE, &nobody);
    assert!(matches!(again, Err(Error::Gone(_))));
    assert!(matches!(Memory::open(guest.child.pid()), Err(Error::Gone(_))));
}

#[test]
fn a_directory_open_to_others_is_refused() {
    let dir = crate::support::directory("open-to-others");
    assert!(matches!(AgentListener::listen(&dir), Err(Error::Denied(_))));
}

#[test]
fn without_an_agent_the_program_is_just_started() {
    let dir = crate::support::directory("plain");
    let [report, wait] = ["report", "wait"].map(|name| fifo(&dir.join(name)));
    let program = crate::support::compile("guest", &dir, &[]);
    let args = vec!["report".into(), report.clone().into(), wait.into()];
    let child = spawn(&LaunchSpec { program, args, ..LaunchSpec::default() }, None).expect("it starts");
    let text = std::fs::read_to_string(&report).expect("the program writes it");
    assert!(!text.contains("granule ") && !text.contains("env "), "{text}");
    assert_eq!(child.try_wait().expect("it is our child"), None);
    drop(std::fs::File::options().write(true).open(dir.join("wait")).expect("the program waits there"));
    assert_eq!(child.wait().expect("it is our child"), 7);
    assert_eq!(child.wait().expect("it is our child"), 7);
}

#[test]
fn the_agent_exports_one_name() {
    let bytes = Command::new("nm").args(["-D", "--defined-only"]).arg(agent_library()).output();
    let text = String::from_utf8(bytes.expect("nm works").stdout).expect("names are text");
    let names: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names, ["dl_iterate_phdr"]);
}
