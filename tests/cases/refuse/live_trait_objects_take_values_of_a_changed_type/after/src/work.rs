pub struct Dose {
    unit: u64,
    amount: u64,
}

trait Taker {
    fn take(&self, dose: &Dose) -> u64;
}

struct Doubler;

impl Taker for Doubler {
    fn take(&self, dose: &Dose) -> u64 {
        dose.amount * 2
    }
}

pub struct State {
    takers: Vec<Box<dyn Taker>>,
}

impl State {
    pub fn new() -> State {
        State { takers: vec![Box::new(Doubler)] }
    }

    pub fn line(&mut self, count: u64) -> String {
        let dose = Dose { unit: 1, amount: count };
        if self.takers.iter().any(|taker| taker.take(&dose) != count * 2) {
            return "CORRUPT".to_owned();
        }
        "v=2".to_owned()
    }
}
