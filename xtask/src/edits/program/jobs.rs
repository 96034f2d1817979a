//! Closures, function pointers and trait objects that were stored by earlier inputs and are called by later ones.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::canary::Canary;

pub static RUNS: AtomicU64 = AtomicU64::new(50);

const MOST_JOBS: usize = 9;
const WEIGHTS: [u64; 5] = [1, 4, 9, 16, 25];

type Step = Box<dyn FnMut(u64) -> u64>;
type Once = Box<dyn FnOnce(&str) -> String>;

/// Objects of it are kept.
trait Shape: Debug {
    fn area(&self) -> u64;
    fn outline(&self) -> u64;
    fn scale(&mut self, by: u64);
    fn title(&self) -> String {
        format!("shape of {} with {}", self.area(), self.outline())
    }
}

/// No object of it is ever made.
trait Sizes {
    fn smallest(&self) -> u64;
    fn largest(&self) -> u64;
    fn spread(&self) -> u64 {
        self.largest().saturating_sub(self.smallest())
    }
}

/// Lives in the state.
#[derive(Debug)]
struct Square {
    side_length: u64,
    square_canary: Canary,
}

/// Lives in the state.
#[derive(Debug)]
struct Panel {
    panel_width: u64,
    panel_height: u64,
    panel_name: String,
}

/// Lives in the state.
struct Jobs {
    steps: VecDeque<(Canary, Step)>,
    onces: VecDeque<Once>,
    shapes: Vec<Box<dyn Shape>>,
    pointers: Vec<fn(u64, u64) -> u64>,
    total_sum: u64,
}

pub fn part() -> Box<dyn crate::Part> {
    let pointers: Vec<fn(u64, u64) -> u64> = vec![mix, blend, u64::wrapping_add];
    Box::new(Jobs { steps: VecDeque::new(), onces: VecDeque::new(), shapes: Vec::new(), pointers, total_sum: 0 })
}

impl crate::Part for Jobs {
    fn input(&mut self, number: u64, text: &str) -> String {
        RUNS.fetch_add(1, Relaxed);
        match number % 7 {
            0 => self.keep_step(number),
            1 => self.keep_once(number, text),
            2 => self.run_once(text),
            3 => self.keep_shape(number, text),
            4 => self.shapes_grow(number),
            _ => self.run_steps(number),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.steps.iter().try_for_each(|(canary, _)| canary.intact("a step"))?;
        let names = self.shapes.iter().map(|shape| format!("{shape:?}"));
        names.filter(|name| name.len() < 5).try_for_each(|name| Err(format!("a shape is {name:?}")))
    }
}

impl Jobs {
    fn keep_step(&mut self, number: u64) -> String {
        let (base, mut calls) = (number % 100, 0_u64);
        let weight = WEIGHTS[(number % 5) as usize];
        let step: Step = match number % 3 {
            0 => Box::new(move |x| x.wrapping_mul(3) + base),
            1 => Box::new(move |x| {
                calls += 1;
                (x ^ base) + calls * weight
            }),
            _ => Box::new(move |x| {
                let parts: Vec<u64> = (0..4).map(|nth| (x >> nth) & base).collect();
                parts.iter().fold(weight, |sum, part| sum + part)
            }),
        };
        self.steps.push_back((Canary::new(number), step));
        if self.steps.len() > MOST_JOBS {
            self.steps.pop_front();
        }
        format!("{} steps", self.steps.len())
    }

    fn run_steps(&mut self, number: u64) -> String {
        let mut value = number % 1000;
        for (canary, step) in &mut self.steps {
            value = step(value) % 100_000 + canary.seed() % 3;
        }
        for (at, pointer) in self.pointers.iter().enumerate() {
            value = pointer(value, at as u64 + 1);
        }
        self.total_sum = self.total_sum.wrapping_add(value);
        format!("steps give {value}, sum {}", self.total_sum)
    }

    fn keep_once(&mut self, number: u64, text: &str) -> String {
        let owned: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let once: Once = if number % 2 == 0 {
            Box::new(move |now| format!("{} then {now}", owned.join("+")))
        } else {
            Box::new(move |now| {
                let longest = owned.iter().max_by_key(|word| word.len()).cloned().unwrap_or_default();
                format!("{longest}/{}/{number}", now.len())
            })
        };
        self.onces.push_back(once);
        format!("{} onces", self.onces.len())
    }

    fn run_once(&mut self, text: &str) -> String {
        match self.onces.pop_front() {
            Some(once) => once(text),
            None => "no once".to_owned(),
        }
    }

    fn keep_shape(&mut self, number: u64, text: &str) -> String {
        let shape: Box<dyn Shape> = if number % 2 == 0 {
            Box::new(Square { side_length: number % 50 + 1, square_canary: Canary::new(number) })
        } else {
            let panel_name = text.chars().take(8).collect();
            Box::new(Panel { panel_width: number % 40 + 1, panel_height: number % 9 + 2, panel_name })
        };
        let title = shape.title();
        self.shapes.push(shape);
        if self.shapes.len() > MOST_JOBS {
            self.shapes.remove(0);
        }
        title
    }

    fn shapes_grow(&mut self, number: u64) -> String {
        self.shapes.iter_mut().for_each(|shape| shape.scale(number % 3 + 1));
        let areas: Vec<u64> = self.shapes.iter().map(|shape| shape.area()).collect();
        let titles: Vec<String> = self.shapes.iter().map(|shape| shape.title()).collect();
        format!("areas {areas:?} spread {} titles {}", areas.spread(), titles.join(", "))
    }
}

impl Shape for Square {
    fn area(&self) -> u64 {
        self.side_length.wrapping_mul(self.side_length)
    }

    fn outline(&self) -> u64 {
        4 * self.side_length + self.square_canary.seed() % 2
    }

    fn scale(&mut self, by: u64) {
        self.side_length = self.side_length * by % 1000;
    }
}

impl Shape for Panel {
    fn area(&self) -> u64 {
        self.panel_width * self.panel_height
    }

    fn outline(&self) -> u64 {
        2 * (self.panel_width + self.panel_height)
    }

    fn scale(&mut self, by: u64) {
        self.panel_width = self.panel_width * by % 500;
    }

    fn title(&self) -> String {
        format!("panel {} of {}", self.panel_name, self.panel_width)
    }
}

impl Sizes for Vec<u64> {
    fn smallest(&self) -> u64 {
        self.iter().copied().min().unwrap_or(0)
    }

    fn largest(&self) -> u64 {
        self.iter().copied().max().unwrap_or(0)
    }
}

fn mix(left: u64, right: u64) -> u64 {
    (left ^ (right << 3)) % 10_007
}

fn blend(left: u64, right: u64) -> u64 {
    if left > right { left - right } else { right - left + 1 }
}
