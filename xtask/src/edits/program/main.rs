//! Answers each line of its stdin with one line, a function of the lines before it and of the code.
//!
//! `PART NUMBER TEXT` is an input of one part. `check` looks for what should be impossible, and says CORRUPT where it is.
//! `renew` makes all parts anew out of their last inputs; `dump` gives the state as one line, and `load` takes it.
//! `place` tells where the last panic was. It ends when its stdin is closed. This file is not edited.

mod canary;
mod jobs;
mod plain;
mod published;
mod ring;
mod scratch;
mod shop;
mod tasks;
mod threads;
mod words;

use std::io::{self, BufRead, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A piece of the program with a state of its own.
pub trait Part {
    fn input(&mut self, number: u64, text: &str) -> String;
    /// What should be impossible and is so.
    fn check(&self) -> Result<(), String>;
}

/// A part that can be made anew: its last inputs, and what they made of it.
struct Worn {
    name: &'static str,
    make: fn() -> Box<dyn Part>,
    part: Box<dyn Part>,
    inputs: Vec<String>,
}

struct State {
    shop: shop::Shop,
    parts: Vec<Worn>,
}

/// Inputs after which a part begins anew.
const MOST_INPUTS: usize = 48;

/// Names of the parts that use published crates.
const PUBLISHED: [&str; 5] = ["versions", "slab", "texts", "times", "wrapped"];

static PLACE: Mutex<String> = Mutex::new(String::new());

fn main() {
    panic::set_hook(Box::new(|info| {
        if thread::current().name() != Some("main") {
            return;
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }));
    thread::spawn(hum);
    let mut state = State::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let answer = answer(&mut state, &line);
        let mut out = io::stdout().lock();
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Edited code that runs all the time beside the answers, and changes no state.
fn hum() {
    for number in 0_u64.. {
        let _ = panic::catch_unwind(|| scratch::evaluate(&format!("{} * (2 + {number}) - 1", number % 7)));
        thread::sleep(Duration::from_millis(2));
    }
}

fn answer(state: &mut State, line: &str) -> String {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "check" => state.check(),
        "renew" => {
            state.parts.iter_mut().for_each(Worn::renew);
            "renewed".to_owned()
        }
        "dump" => state.dump(),
        "load" => state.load(rest),
        "place" => PLACE.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        name => state.input(name, rest),
    }
}

impl State {
    fn new() -> State {
        let makers: [(&'static str, fn() -> Box<dyn Part>); 6] = [
            ("jobs", jobs::part),
            ("tasks", tasks::part),
            ("ring", ring::part),
            ("scratch", scratch::part),
            ("threads", threads::part),
            ("words", words::part),
        ];
        let published = PUBLISHED.into_iter().zip(published::PARTS);
        let parts = makers.into_iter().chain(published);
        let parts = parts.map(|(name, make)| Worn { name, make, part: make(), inputs: Vec::new() });
        State { shop: shop::Shop::default(), parts: parts.collect() }
    }

    fn input(&mut self, name: &str, rest: &str) -> String {
        if name == "shop" {
            return guarded(&mut self.shop, rest);
        }
        let Some(worn) = self.parts.iter_mut().find(|worn| worn.name == name) else {
            return format!("no part {name:?}");
        };
        if worn.inputs.len() >= MOST_INPUTS {
            worn.inputs.clear();
            worn.renew();
        }
        worn.inputs.push(rest.to_owned());
        guarded(&mut *worn.part, rest)
    }

    fn check(&self) -> String {
        let parts = self.parts.iter().map(|worn| (worn.name, &*worn.part));
        let all = parts.chain([("shop", &self.shop as &dyn Part)]);
        let bad = all.filter_map(|(name, part)| part.check().err().map(|why| format!("{name}: {why}")));
        let bad: Vec<String> = bad.collect();
        if bad.is_empty() { "ok".to_owned() } else { format!("CORRUPT {}", bad.join("; ")) }
    }

    fn dump(&self) -> String {
        let parts = self.parts.iter().map(|worn| worn.inputs.join(";"));
        let mut fields: Vec<String> = parts.collect();
        fields.push(plain::dump_shop(&self.shop));
        fields.push(plain::dump_statics());
        fields.join("|")
    }

    fn load(&mut self, text: &str) -> String {
        let fields: Vec<&str> = text.split('|').collect();
        for (worn, inputs) in self.parts.iter_mut().zip(&fields) {
            worn.inputs = inputs.split(';').filter(|line| !line.is_empty()).map(str::to_owned).collect();
            worn.renew();
        }
        let [.., shop, statics] = fields.as_slice() else { return "not understood".to_owned() };
        self.shop = plain::load_shop(shop);
        plain::load_statics(statics);
        "loaded".to_owned()
    }
}

impl Worn {
    fn renew(&mut self) {
        let make = self.make;
        self.part = make();
        for line in &self.inputs {
            let _ = guarded(&mut *self.part, line);
        }
    }
}

/// Answers, whatever the code does.
fn guarded(part: &mut dyn Part, line: &str) -> String {
    let (number, text) = line.split_once(' ').unwrap_or((line, ""));
    let number = number.parse().unwrap_or(0);
    let answer = panic::catch_unwind(AssertUnwindSafe(|| part.input(number, text)));
    let answer = answer.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("panic: {}", text.unwrap_or_default())
    });
    answer.replace('\n', "\\n")
}
