struct Coin(u32);

pub struct Bag {
    coins: Vec<Coin>,
}

impl Bag {
    pub fn new() -> Bag {
        Bag { coins: (1..4).map(Coin).collect() }
    }

    pub fn sum(&self) -> u32 {
        self.coins.iter().map(|coin| coin.0).sum()
    }
}
