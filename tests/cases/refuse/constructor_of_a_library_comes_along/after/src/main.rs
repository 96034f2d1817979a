mod pace;

fn main() {
    let mut count = 0;
    while pace::tick() {
        count += 1;
        tell(count);
    }
}

fn tell(count: u64) {
    println!("count={count} {}", one::late::text());
}
