//! A pair of words that only go together: whoever reads one of them at a wrong place notices. This file is not edited.

#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    seed: u64,
    mark: u64,
}

const KEY: u64 = 0x5bd1_e995_9d1b_54a5;

impl Canary {
    pub fn new(seed: u64) -> Canary {
        Canary { seed, mark: seed.rotate_left(17) ^ KEY }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn intact(&self, whose: &str) -> Result<(), String> {
        if self.mark == self.seed.rotate_left(17) ^ KEY {
            Ok(())
        } else {
            Err(format!("the canary of {whose} is {:x} {:x}", self.seed, self.mark))
        }
    }
}
