pub fn rate(count: u64) -> u64 {
    count / 100 + base()
}

fn base() -> u64 {
    3
}
