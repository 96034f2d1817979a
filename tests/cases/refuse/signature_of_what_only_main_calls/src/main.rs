mod pace;

fn line(count: u64) {
    println!("count={count} text=plain");
}

fn main() {
    let mut count: u64 = 0;
    while pace::tick() {
        count += 1;
        line(count);
    }
}
