pub struct Step {
    low: u64,
    high: u64,
}

trait Make {
    fn make() -> Self;
    fn width(&self) -> u64;
}
impl Make for Step {
    fn make() -> Step {
        Step { low: 1, high: 6 }
    }
    fn width(&self) -> u64 {
        self.high.wrapping_sub(self.low)
    }
}

fn run<T: Make>(n: u64) -> u64 {
    let before = [n; 4];
    let made = T::make();
    let after = [n; 4];
    if before != [n; 4] || after != [n; 4] {
        return 999;
    }
    made.width()
}

pub struct State {
    jobs: Vec<fn(u64) -> u64>,
}

impl State {
    pub fn new() -> State {
        State { jobs: vec![run::<Step>] }
    }

    pub fn line(&mut self, count: u64) -> String {
        let widths: Vec<u64> = self.jobs.iter().map(|job| job(count)).collect();
        if widths != [5] {
            return format!("CORRUPT {widths:?}");
        }
        format!("v=1 {widths:?}")
    }
}
