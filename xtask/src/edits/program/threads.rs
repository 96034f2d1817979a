//! A worker thread that is asked over a channel, a thread-local of each thread, and state that both threads hold.

use std::cell::Cell;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::canary::Canary;

const FACTOR: u64 = 3;

thread_local! {
    pub static LOCAL: Cell<u64> = const { Cell::new(5) };
}

/// Lives in the state.
struct Request {
    request_number: u64,
    request_text: String,
    request_canary: Canary,
}

/// Lives in the state.
struct Shared {
    seen_texts: Mutex<Vec<String>>,
    shared_canary: Canary,
}

/// Lives in the state.
struct Threads {
    requests: Option<Sender<Request>>,
    answers: Receiver<String>,
    worker: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    waiting_count: usize,
}

pub fn part() -> Box<dyn crate::Part> {
    let (requests, inbox) = mpsc::channel();
    let (outbox, answers) = mpsc::channel();
    let shared = Arc::new(Shared { seen_texts: Mutex::new(Vec::new()), shared_canary: Canary::new(77) });
    let theirs = Arc::clone(&shared);
    let worker = Some(thread::spawn(move || serve(&inbox, &outbox, &theirs)));
    Box::new(Threads { requests: Some(requests), answers, worker, shared, waiting_count: 0 })
}

/// The worker's loop: it stays in here.
fn serve(inbox: &Receiver<Request>, outbox: &Sender<String>, shared: &Shared) {
    while let Ok(request) = inbox.recv() {
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle(&request, shared)));
        if outbox.send(answer.unwrap_or_else(|_| "worker panic".to_owned())).is_err() {
            return;
        }
    }
}

fn handle(request: &Request, shared: &Shared) -> String {
    let count = LOCAL.with(|count| {
        count.set(count.get() + request.request_number % 4 + 1);
        count.get()
    });
    let mut seen = shared.seen_texts.lock().unwrap_or_else(PoisonError::into_inner);
    seen.push(request.request_text.to_uppercase());
    if seen.len() > 6 {
        seen.drain(..2);
    }
    let intact = request.request_canary.intact("a request").is_ok();
    format!("{} {} {count} {}", request.request_number * FACTOR, seen.join("/"), if intact { "ok" } else { "broken" })
}

impl crate::Part for Threads {
    fn input(&mut self, number: u64, text: &str) -> String {
        let local = LOCAL.with(|count| {
            count.set(count.get().wrapping_add(number % 3));
            count.get()
        });
        let request_text = text.chars().filter(char::is_ascii_alphanumeric).collect();
        let request = Request { request_number: number, request_text, request_canary: Canary::new(number) };
        if let Some(requests) = &self.requests {
            self.waiting_count += usize::from(requests.send(request).is_ok());
        }
        let mut answers = Vec::new();
        while self.waiting_count > wanted(number) {
            self.waiting_count -= 1;
            answers.push(self.answers.recv().unwrap_or_else(|_| "no worker".to_owned()));
        }
        format!("main {local} worker {}", answers.join(" and "))
    }

    fn check(&self) -> Result<(), String> {
        self.shared.shared_canary.intact("the shared state")
    }
}

/// Requests that may stay unanswered for now.
fn wanted(number: u64) -> usize {
    if number % 3 == 0 { 2 } else { 0 }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
