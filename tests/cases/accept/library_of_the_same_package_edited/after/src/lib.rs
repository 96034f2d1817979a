pub fn rate(count: u64) -> u64 {
    let steps = [10, 20, 20];
    count / 100 + steps.iter().sum::<u64>() + base() - 3
}

fn base() -> u64 {
    3
}
