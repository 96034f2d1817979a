//! Futures that earlier inputs parked and later inputs poll: a small executor, and channels without threads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{self, Future};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::canary::Canary;

const MOST_TASKS: usize = 8;
const ROUNDS: u64 = 4;

/// Lives in the state.
#[derive(Default)]
struct Mailbox {
    letters: RefCell<VecDeque<u64>>,
    done_texts: RefCell<Vec<String>>,
    ticks_seen: Cell<u64>,
}

/// Lives in the state.
struct Tasks {
    mailbox: Rc<Mailbox>,
    parked: VecDeque<Pin<Box<dyn Future<Output = u64>>>>,
    finished_sum: u64,
}

/// A future that is ready the second time it is asked.
struct Yield {
    asked_before: bool,
}

pub fn part() -> Box<dyn crate::Part> {
    Box::new(Tasks { mailbox: Rc::default(), parked: VecDeque::new(), finished_sum: 0 })
}

impl crate::Part for Tasks {
    fn input(&mut self, number: u64, text: &str) -> String {
        match number % 4 {
            0 => self.park(number, text),
            1 => {
                self.mailbox.letters.borrow_mut().push_back(number % 1000);
                self.turn()
            }
            _ => self.turn(),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.parked.len() > MOST_TASKS + 1 { Err(format!("{} tasks", self.parked.len())) } else { Ok(()) }
    }
}

impl Tasks {
    fn park(&mut self, number: u64, text: &str) -> String {
        let mailbox = Rc::clone(&self.mailbox);
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let task: Pin<Box<dyn Future<Output = u64>>> = match number % 3 {
            0 => Box::pin(count(number % 50, mailbox)),
            1 => Box::pin(collect(words, mailbox)),
            _ => Box::pin(async move {
                let before = mailbox.ticks_seen.get();
                let letter = receive(&mailbox).await;
                let canary = Canary::new(letter);
                pause().await;
                let sum = nested(letter, 3).await + canary.seed() % 5;
                sum + mailbox.ticks_seen.get() - before
            }),
        };
        self.parked.push_back(task);
        if self.parked.len() > MOST_TASKS {
            self.parked.pop_front();
        }
        format!("{} parked", self.parked.len())
    }

    /// Polls every task once.
    fn turn(&mut self) -> String {
        self.mailbox.ticks_seen.set(self.mailbox.ticks_seen.get() + 1);
        let mut context = Context::from_waker(Waker::noop());
        let mut finished = Vec::new();
        for mut task in std::mem::take(&mut self.parked) {
            match task.as_mut().poll(&mut context) {
                Poll::Ready(value) => finished.push(value),
                Poll::Pending => self.parked.push_back(task),
            }
        }
        self.finished_sum += finished.iter().sum::<u64>();
        let texts: Vec<String> = self.mailbox.done_texts.borrow_mut().drain(..).collect();
        format!("finished {finished:?} sum {} left {} texts {texts:?}", self.finished_sum, self.parked.len())
    }
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.asked_before {
            return Poll::Ready(());
        }
        self.asked_before = true;
        Poll::Pending
    }
}

async fn pause() {
    Yield { asked_before: false }.await;
}

async fn count(from: u64, mailbox: Rc<Mailbox>) -> u64 {
    let mut sum = from;
    let name = format!("count {from}");
    for round in 0..ROUNDS {
        pause().await;
        sum += round * mailbox.ticks_seen.get() % 10;
    }
    mailbox.done_texts.borrow_mut().push(format!("{name} gave {sum}"));
    sum
}

async fn collect(words: Vec<String>, mailbox: Rc<Mailbox>) -> u64 {
    let mut lengths = Vec::new();
    for word in &words {
        let letter = receive(&mailbox).await;
        lengths.push(word.len() as u64 * letter);
    }
    let weigh = |length: &u64| length % 97 + 1;
    let total: u64 = lengths.iter().map(weigh).sum();
    mailbox.done_texts.borrow_mut().push(words.join("_"));
    total
}

/// The next letter, or a small number when none came for a while.
async fn receive(mailbox: &Mailbox) -> u64 {
    let mut patience = 3_u64;
    future::poll_fn(move |_| {
        if let Some(letter) = mailbox.letters.borrow_mut().pop_front() {
            return Poll::Ready(letter);
        }
        patience -= 1;
        if patience == 0 { Poll::Ready(7) } else { Poll::Pending }
    })
    .await
}

fn nested(value: u64, depth: u64) -> Pin<Box<dyn Future<Output = u64>>> {
    Box::pin(async move {
        if depth == 0 {
            return value % 1000;
        }
        pause().await;
        let below = nested(value * 2 + depth, depth - 1).await;
        below + depth
    })
}
