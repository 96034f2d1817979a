mod office;
mod pace;
mod shop;

fn main() {
    let held: fn() -> u64 = shop::number;
    let mut count = 0;
    while pace::tick() {
        count += 1;
        line(count, held());
    }
}

fn line(count: u64, held: u64) {
    println!("count={count} held={held} by={}", office::name());
}
