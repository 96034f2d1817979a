//! Requests without end from four connections, and what came back: each answer is the old page or the new one.
//!
//! Two connections stay open, two are made anew for each request. An answer is bad when it is not whole, late, neither
//! page, or the old page where the new one has to be: on a connection that saw the new one, or once the edit was answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::http::{Connection, LATE};

const CONNECTIONS: usize = 4;
/// Answers that each connection has to see before and after an edit.
const ENOUGH: u64 = 10;
/// Longest wait for those.
const SOON: Duration = Duration::from_secs(20);
/// Pause between two requests of a connection: rustc has to get somewhere too.
const PAUSE: Duration = Duration::from_millis(10);

/// The connections; they end when it is dropped.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of the requests of one edit.
#[derive(Clone, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) old: u64,
    pub(crate) new: u64,
    pub(crate) bad: u64,
    pub(crate) slowest: Duration,
    /// How much longer than asked for a connection slept, at most: what the machine kept this process waiting.
    pub(crate) overslept: Duration,
    /// What was wrong first.
    pub(crate) first_bad: Option<String>,
}

impl Counts {
    /// Counts what came of another edit as well.
    pub(crate) fn add(&mut self, other: Counts) {
        (self.old, self.new, self.bad) = (self.old + other.old, self.new + other.new, self.bad + other.bad);
        (self.slowest, self.overslept) = (self.slowest.max(other.slowest), self.overslept.max(other.overslept));
        self.first_bad = self.first_bad.take().or(other.first_bad);
    }
}

struct Shared {
    port: u16,
    stop: AtomicBool,
    state: Mutex<State>,
}

struct State {
    pages: Arc<Pages>,
    counts: Counts,
    /// Answers of each connection to requests that were begun since `pages` was set.
    since: [u64; CONNECTIONS],
}

/// Which answers are right now.
struct Pages {
    old: Vec<u8>,
    new: Vec<u8>,
    /// The edit was answered: a request that begins now gets the new page.
    switched: bool,
}

/// Which page an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Old,
    New,
}

impl Traffic {
    /// Begins asking; `page` is the only right answer until `expect`.
    pub(crate) fn start(port: u16, page: &[u8]) -> Traffic {
        let pages = Pages { old: page.to_owned(), new: page.to_owned(), switched: false };
        let state = State { pages: Arc::new(pages), counts: Counts::default(), since: [0; CONNECTIONS] };
        let shared = Arc::new(Shared { port, stop: AtomicBool::new(false), state: Mutex::new(state) });
        let threads = (0..CONNECTIONS).map(|nth| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.ask_on(nth))
        });
        Traffic { threads: threads.collect(), shared }
    }

    /// Counts anew; from now on the answers are the pages before or after an edit.
    pub(crate) fn expect(&self, old: &[u8], new: &[u8]) -> Result<(), String> {
        let mut state = self.shared.state();
        state.counts = Counts::default();
        state.set(Pages { old: old.to_owned(), new: new.to_owned(), switched: false });
        drop(state);
        self.wait()
    }

    /// The edit was answered: requests that begin now get the new page. Gives what was counted since `expect`.
    pub(crate) fn switched(&self) -> Result<Counts, String> {
        let mut state = self.shared.state();
        let pages = Pages { old: state.pages.old.clone(), new: state.pages.new.clone(), switched: true };
        state.set(pages);
        drop(state);
        self.wait()?;
        Ok(self.shared.state().counts.clone())
    }

    /// Waits until each connection had some answers.
    fn wait(&self) -> Result<(), String> {
        let until = Instant::now() + SOON;
        while self.shared.state().since.iter().any(|answers| *answers < ENOUGH) {
            if Instant::now() > until {
                return Err(format!("the connections starve: {:?}", self.shared.state().counts));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // it only counts
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_on(&self, nth: usize) {
        let mut kept = None;
        let (mut pages, mut saw_new) = (Arc::clone(&self.state().pages), false);
        while !self.stop.load(Ordering::Relaxed) {
            let now = Arc::clone(&self.state().pages);
            if !Arc::ptr_eq(&pages, &now) {
                saw_new = now.switched;
                pages = now;
            }
            let start = Instant::now();
            let answer = if nth.is_multiple_of(2) { ask_kept(&mut kept, self.port) } else { ask_anew(self.port) };
            let took = start.elapsed();
            let page = answer.and_then(|body| pages.which(&body, took, saw_new));
            saw_new |= page == Ok(Page::New);
            self.state().count(nth, &pages, page, took);
            let nap = Instant::now();
            thread::sleep(PAUSE);
            let overslept = nap.elapsed().saturating_sub(PAUSE);
            let counts = &mut self.state().counts;
            counts.overslept = counts.overslept.max(overslept);
        }
    }
}

impl Pages {
    /// Which page `body` is, if it is a right answer. Where both are equal it is the new one once it has to be.
    fn which(&self, body: &[u8], took: Duration, only_new: bool) -> Result<Page, String> {
        if took > LATE {
            return Err(format!("an answer after {} ms", took.as_millis()));
        }
        match (body == self.old, body == self.new) {
            (_, true) if only_new => Ok(Page::New),
            (true, _) if only_new => Err("the old page after the new one".to_owned()),
            (true, _) => Ok(Page::Old),
            (_, true) => Ok(Page::New),
            (false, false) => Err(format!("neither page:\n{}", String::from_utf8_lossy(body))),
        }
    }
}

impl State {
    fn set(&mut self, pages: Pages) {
        self.pages = Arc::new(pages);
        self.since = [0; CONNECTIONS];
    }

    fn count(&mut self, nth: usize, pages: &Arc<Pages>, page: Result<Page, String>, took: Duration) {
        let counts = &mut self.counts;
        match page {
            Ok(Page::Old) => counts.old += 1,
            Ok(Page::New) => counts.new += 1,
            Err(why) => {
                counts.bad += 1;
                counts.first_bad.get_or_insert(why);
            }
        }
        counts.slowest = counts.slowest.max(took);
        if let Some(answers) = self.since.get_mut(nth).filter(|_| Arc::ptr_eq(&self.pages, pages)) {
            *answers += 1;
        }
    }
}

fn ask_kept(kept: &mut Option<Connection>, port: u16) -> Result<Vec<u8>, String> {
    let mut connection = kept.take().map_or_else(|| Connection::open(port), Ok)?;
    let body = connection.get()?;
    *kept = Some(connection); // one that failed is not used again
    Ok(body)
}

fn ask_anew(port: u16) -> Result<Vec<u8>, String> {
    Connection::open(port)?.get_last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_old_or_new_and_never_back() {
        let pages = |old: &str, new: &str| Pages { old: old.into(), new: new.into(), switched: false };
        let which = |body: &str, only_new| pages("a", "b").which(body.as_bytes(), Duration::ZERO, only_new);
        assert_eq!(which("a", false), Ok(Page::Old));
        assert_eq!(which("b", false), Ok(Page::New));
        assert_eq!(which("b", true), Ok(Page::New));
        assert!(which("a", true).is_err());
        assert!(which("ab", false).is_err());
        assert_eq!(pages("a", "a").which(b"a", Duration::ZERO, true), Ok(Page::New));
        assert!(pages("a", "b").which(b"a", LATE * 2, false).is_err());
    }
}
