//! Small programs for the tests: compiled with `cc`, started, and watched through a file that both sides map or read.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use relive_process::memory::Memory;

/// Longest that anything observable may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own for the test `name`.
pub(crate) fn directory(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("the target directory is writable");
    dir
}

/// Compiles `tests/live/programs/NAME.c`.
pub(crate) fn compile(name: &str, dir: &Path, flags: &[&str]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/programs").join(name).with_extension("c");
    let output = dir.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-g", "-Wall", "-Wno-return-type", "-pthread", "-fPIC"])
        .args(flags)
        .arg("-o")
        .arg(&output)
        .arg(&source);
    match cc.status() {
        Ok(status) => assert!(status.success(), "{cc:?} failed"),
        Err(why) => panic!("this test needs a C compiler as `cc`: {why}"),
    }
    output
}

/// A running program and the words it publishes in a file.
pub(crate) struct Program {
    pub(crate) child: Child,
    board: PathBuf,
}

impl Program {
    /// Starts `NAME.c` in `mode`; it writes its words into the file named by its first argument.
    pub(crate) fn start(name: &str, mode: &str) -> Program {
        let dir = directory(&format!("{name}-{mode}"));
        let program = compile(name, &dir, &[]);
        let board = dir.join("board");
        std::fs::write(&board, [0; 4096]).expect("the directory is ours");
        let child = Command::new(program).arg(&board).arg(mode).spawn().expect("the program was just built");
        let program = Program { child, board };
        program.wait_until("it is ready", |program| program.word(0) == 1);
        program
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::open(self.pid()).expect("the program runs and is ours")
    }

    /// The file with its words.
    pub(crate) fn board(&self) -> &Path {
        &self.board
    }

    /// Word `index` of what the program publishes.
    pub(crate) fn word(&self, index: usize) -> u64 {
        let bytes = std::fs::read(&self.board).expect("the directory is ours");
        let at = index * 8;
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
    }

    /// Tells the program something.
    pub(crate) fn set_word(&self, index: u64, value: u64) {
        let board = std::fs::File::options().write(true).open(&self.board).expect("the directory is ours");
        board.write_all_at(&value.to_le_bytes(), index * 8).expect("the directory is ours");
    }

    pub(crate) fn words(&self, range: std::ops::Range<usize>) -> Vec<u64> {
        range.map(|index| self.word(index)).collect()
    }

    /// Waits until `what` is so.
    pub(crate) fn wait_until(&self, what: &str, so: impl Fn(&Program) -> bool) {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < PATIENCE, "process {} and not {what}", self.pid());
            std::thread::yield_now();
        }
    }

    /// The state letter of the main thread.
    pub(crate) fn state(&self) -> char {
        state(&format!("/proc/{}/stat", self.pid()))
    }

    /// The state letters of all threads.
    pub(crate) fn threads(&self) -> Vec<char> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        tasks.map(|task| state(&format!("{}/stat", task.path().display()))).collect()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(kill.is_ok_and(|status| status.success()), "kill -s {name} works");
    }

    /// The exit code, after the program has ended by itself.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().expect("it is our child").code()
    }
}

fn state(stat: &str) -> char {
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
