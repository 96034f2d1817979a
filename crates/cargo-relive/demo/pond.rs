//! The state of the pond, and how it is shown.

struct Fish {
    size: u32,
}

pub struct Pond {
    ticks: u32,
    fish: Vec<Fish>,
    /// Made once, when the pond is.
    fee: Box<dyn Fn(u32) -> u32>,
}

impl Pond {
    pub fn new() -> Pond {
        let entrance = 3;
        Pond {
            ticks: 0,
            fish: (1..4).map(|size| Fish { size }).collect(),
            fee: Box::new(move |visitors| visitors * entrance),
        }
    }

    pub fn tick(&mut self) {
        self.ticks += 1;
    }

    pub fn describe(&self) -> String {
        let fish = self.fish.iter().map(|fish| fish.size).sum::<u32>();
        format!("tick {:3} | {} | fee for two: {} | fish: {fish}", self.ticks, weather(), (self.fee)(2))
    }
}

fn weather() -> &'static str {
    "calm"
}
